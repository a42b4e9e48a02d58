"""Chat templates by name, for checkpoints that have none or whose own can't be trained on.

Each formats turns as in its family's training, and ends every answer with the tokenizer's end token (NExT-GPT's first
release: with a text). A further turn only appends text and doesn't change what precedes it, so that training and
decoding use the same text. For a tokenizer without a begin token (Qwen's), ``bos_token`` is empty.
"""

from __future__ import annotations

from isthmus.paths import user_path

_ANY = "{% for message in messages %}"
_EACH = _ANY + "{% if message['role'] == 'tool' %}{{ raise_exception('it knows no turns of tools') }}{% endif %}"
_END = "{% endfor %}"

TEMPLATES: dict[str, str] = {
    # Vicuna 1.1 and later: roles are plain words, with one space between turns. A later system turn stays in its place
    # and is formatted like the first.
    "vicuna": (
        "{{ bos_token }}{% if not messages or messages[0]['role'] != 'system' %}"
        "{{ 'A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user\\'s questions. ' }}{% endif %}"
        + _EACH
        + "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
        "{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}"
        "{% else %}{{ message['content'] + ' ' }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
    ),
    # LLaMA-2 chat: a begin token before every exchange; a system turn is written into the next user turn or, if there
    # is none, into an exchange without user text.
    "llama-2": (
        "{% set system = namespace(words='') %}{% set wrapped = '<<SYS>>\\n%s\\n<</SYS>>\\n\\n' %}"
        + _EACH
        + "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' }}"
        "{{ wrapped % system.words if system.words else '' }}{{ message['content'] + ' [/INST]' }}"
        "{% set system.words = '' %}"
        "{% elif message['role'] == 'assistant' %}"
        "{{ bos_token + '[INST] ' + wrapped % system.words + '[/INST]' if system.words else '' }}"
        "{{ ' ' + message['content'] + ' ' + eos_token }}{% set system.words = '' %}"
        "{% else %}{% set system.words = system.words + ('\\n' if system.words else '') + message['content'] %}"
        "{% endif %}"
        + _END
        + "{{ bos_token + '[INST] ' + wrapped % system.words + '[/INST]' if system.words else '' }}"
    ),
    # ChatML: Qwen2, and Qwen3 without its thoughts, which its own template removes from earlier turns.
    "chatml": (
        _ANY
        + "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
        + "{{ (eos_token if message['role'] == 'assistant' else '<|im_end|>') + '\\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    # GLM-4. In its own template an answer is ended only by the next role, so that the last answer has no end.
    "glm-4": (
        "[gMASK]<sop>"
        + _ANY
        + "{{ '<|' + {'tool': 'observation'}.get(message['role'], message['role']) + '|>\\n' + message['content'] }}"
        + "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    # Cohere's Command R: every turn has a begin and an end token; eos_token ends an answer.
    "command-r": (
        "{{ bos_token }}"
        + _EACH
        + "{{ '<|START_OF_TURN_TOKEN|>' + {'user': '<|USER_TOKEN|>', 'assistant': '<|CHATBOT_TOKEN|>', "
        "'system': '<|SYSTEM_TOKEN|>'}[message['role']] + message['content'] }}"
        "{{ eos_token if message['role'] == 'assistant' else '<|END_OF_TURN_TOKEN|>' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
    ),
    # NExT-GPT's first release, after Vicuna 1.0: three hash signs end a turn and begin the next one. There is no end
    # token, so the backbone's `stop_strings` must have "\n###". It has no system turns; they are written unchanged.
    "nextgpt-v1": (
        "{{ bos_token }}"
        + _EACH
        + "{% set follows = not loop.first and loop.previtem['role'] == 'assistant' %}"
        + "{% if message['role'] == 'system' %}{{ (' ' if follows else '') + message['content'] + '\\n' }}"
        "{% else %}{{ ' ' if follows else '### ' }}"
        "{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] + '\\n' }}"
        "{% else %}{{ 'Assistant: ' + message['content'] + '\\n###' }}{% endif %}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ ' ' if messages and messages[-1]['role'] == 'assistant' else '### ' }}"
        "{{ 'Assistant:' }}{% endif %}"
    ),
    # LLMs that weren't trained on chats: OPT, LLaMA.
    "plain": (
        "{{ bos_token }}" + _EACH + "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
        "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
        "{% else %}{{ message['content'] + '\\n' }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    # Flan-T5, UL2: inputs and answers end with the end token; no roles.
    "t5": _EACH + "{{ message['content'] + eos_token }}" + _END,
}
"""Templates by name."""


def read_template(choice: str) -> str:
    """The template of this name, or of this ``.jinja`` file.

    Raises:
        ValueError: neither a name nor a file.
    """
    if choice in TEMPLATES:
        return TEMPLATES[choice]
    path = user_path(choice)
    if path.suffix != ".jinja" or not path.is_file():
        raise ValueError(
            f"chat_template: found '{choice}'; expected the path of a .jinja file that exists, or one of "
            f"{', '.join(TEMPLATES)}"
        )
    return path.read_text(encoding="utf-8")
