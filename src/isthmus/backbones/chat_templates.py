"""Chat templates by name, for checkpoints that bring none or whose own one can't be trained on.

Each writes the turns the way that its family was trained, ends every answer with the tokenizer's end token
(NExT-GPT's first release with a text), and only grows: what stands there already isn't written anew when a turn
follows, so that what is trained is what is decoded.
A tokenizer without a begin token (Qwen's) writes none: ``bos_token`` is then nothing.
"""

from __future__ import annotations

from isthmus.paths import user_path

_ANY = "{% for message in messages %}"
_EACH = _ANY + "{% if message['role'] == 'tool' %}{{ raise_exception('it knows no turns of tools') }}{% endif %}"
_END = "{% endfor %}"

TEMPLATES: dict[str, str] = {
    # Vicuna 1.1 and later: the role words are plain text, one space between turns. A later system turn stands where it
    # is, written as the first one is.
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
    # LLaMA-2 chat: a begin token before every exchange, a system turn's words inside the user's turn that follows;
    # where none does, in an exchange without a user's words.
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
    # ChatML: Qwen2, and Qwen3 without its thoughts, which its own template takes out of earlier turns.
    "chatml": (
        _ANY
        + "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
        + "{{ (eos_token if message['role'] == 'assistant' else '<|im_end|>') + '\\n' }}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    # GLM-4. Its own template leaves an answer open: the next role word ends it, and the last answer has none.
    "glm-4": (
        "[gMASK]<sop>"
        + _ANY
        + "{{ '<|' + {'tool': 'observation'}.get(message['role'], message['role']) + '|>\\n' + message['content'] }}"
        + "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
    ),
    # Cohere's Command R: every turn stands between a begin and an end token, and the end token ends an answer.
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
    # token, so the backbone's `stops` name "\n###". It knows no system turn; one is written as it is.
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
    # LLMs that never saw a chat: OPT, LLaMA.
    "plain": (
        "{{ bos_token }}" + _EACH + "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\\n' }}"
        "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}"
        "{% else %}{{ message['content'] + '\\n' }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
    ),
    # Flan-T5, UL2: an input ends with the end token and so does an answer; no role words.
    "t5": _EACH + "{{ message['content'] + eos_token }}" + _END,
}
"""Name -> template."""


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
