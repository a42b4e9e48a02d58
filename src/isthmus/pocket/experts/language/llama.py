"""The embedded LLM: a small Llama that speaks the pocket world's language, trained from scratch on its text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.data.sampling.seeds import derive_seed
from isthmus.pocket.experts.command import run
from isthmus.pocket.experts.fitting import fit, parameter_count
from isthmus.pocket.language import (
    REQUESTS,
    SKILLS,
    draw_corpus,
    draw_dialogue,
    messages,
    said,
    skill_prompts,
    text_skill,
)

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

Chat = list[dict[str, str]]
"""Turns for a chat template: ``role`` and ``content``."""

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "USER:", "ASSISTANT:")
"""Roles are special tokens, so that a user's text can't imitate a turn."""
PAD, END, ANSWER = (SPECIAL.index(token) for token in ("<pad>", "</s>", "ASSISTANT:"))
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] + ' ' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'ASSISTANT: ' + message['content'] + eos_token }}"
    "{% else %}{{ message['content'] + ' ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
CONTEXT = 256
STEPS = 2400
BATCH = 64
GROUP = 4
"""Number of batches that are drawn together and sorted by length, to reduce padding."""
PROMPT_WEIGHT = 0.1
"""The loss weight of the user's words: most are random, but they train the language's syntax."""
NOISE = 0.4
"""The most noise on the user's embeddings, relative to their RMS, since projected media don't equal word embeddings."""


def lexicon() -> list[str]:
    """Every word of the corpus: each becomes one token.

    The order is that of the first corpus, most frequent first. It is kept, since ids of trained models follow it.
    """
    return """
    a it moving of the tone is solid what two one four six five three eight zero seven blue green cyan nine magenta
    red yellow left up down which right drawn filmed draw played film play and carved this carve describe colour
    please its successor sum digit make count from in to minus comes say unsaid does move way before plus their
    without smaller or came just you an image larger now name motion video hello number predecessor next after me
    going where are digits sound can add show model small who do i thank welcome hear let hi
    """.split()


def build_tokenizer(words: Sequence[str] | None = None) -> PreTrainedTokenizerFast:
    """A tokenizer of whole words, ASCII characters and bytes, which ignores case.

    ``words``: in lower case, each becomes one token; the world's if None.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    characters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    pieces = [*((token, 0.0) for token in SPECIAL), *((f"<0x{byte:02X}>", -30.0) for byte in range(256))]
    pieces += [("▁", -10.0), *((character, -10.0) for character in characters)]
    pieces += [("▁" + word, -5.0) for word in (lexicon() if words is None else words)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=SPECIAL.index("<unk>"), byte_fallback=True))
    # Spaces before a special token are removed; otherwise they would be tokens before every medium.
    tokenizer.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r" +$"), ""), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=SPECIAL[0],
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        unk_token=SPECIAL[3],
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def build_llm(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A Llama of about a million parameters, untrained."""
    from transformers import LlamaConfig, LlamaForCausalLM

    ids = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        **ids,
    )
    llm = LlamaForCausalLM(config)
    llm.generation_config.update(max_new_tokens=32, do_sample=False, **ids)
    return llm


def encode(tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat]) -> list[list[int]]:
    """Chats -> ids, by the chat template."""
    texts: Any = tokenizer.apply_chat_template(list(chats), tokenize=False)
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return encoded


class ChatLoss:
    """The loss of a step, a pure function of its number: cross-entropy of answers and, with low weight, of prompts.

    Args:
        llm: the trained LLM.
        tokenizer: of the LLM.
        seed: of the chats.
        draw: gives a chat, from a generator.
    """

    def __init__(
        self,
        llm: LlamaForCausalLM,
        tokenizer: PreTrainedTokenizerFast,
        seed: int,
        draw: Callable[[np.random.Generator], Chat] = draw_corpus,
    ) -> None:
        self.llm = llm
        self.tokenizer = tokenizer
        self.seed = seed
        self.draw = draw
        self.group = -1
        self.rows: list[list[int]] = []
        self.order: list[int] = []

    def batch(self, step: int) -> list[list[int]]:
        """The ids of a step's chats, of similar lengths."""
        group, place = divmod(step, GROUP)
        if group != self.group:
            random = np.random.default_rng(derive_seed("llama", self.seed, group))
            self.rows = sorted(encode(self.tokenizer, [self.draw(random) for _ in range(GROUP * BATCH)]), key=len)
            self.order = [int(number) for number in random.permutation(GROUP)]
            self.group = group
        first = self.order[place] * BATCH
        return self.rows[first : first + BATCH]

    def __call__(self, step: int) -> Tensor:
        rows = self.batch(step)
        ids = torch.full((len(rows), max(map(len, rows))), PAD)
        for row, own in zip(ids, rows, strict=True):
            row[: len(own)] = torch.tensor(own)
        is_answer = answer_positions(ids)
        # Right-padded and causal: padding can't reach a valid position, so no mask is needed.
        hidden = self.llm.model(inputs_embeds=self._noisy(ids, is_answer)).last_hidden_state
        targets = ids[:, 1:]
        losses = functional.cross_entropy(self.llm.lm_head(hidden[:, :-1]).transpose(1, 2), targets, reduction="none")
        weights = torch.where(is_answer[:, 1:], 1.0, PROMPT_WEIGHT) * (targets != PAD)
        return (losses * weights).sum() / weights.sum()

    def _noisy(self, ids: Tensor, is_answer: Tensor) -> Tensor:
        """(B, T, E) embeddings, with noise on the user's words, whose level differs from chat to chat."""
        table: Tensor = self.llm.model.embed_tokens.weight
        embeddings: Tensor = functional.embedding(ids, table)
        scale = NOISE * torch.rand(len(ids), 1, 1) * table.detach().square().mean().sqrt()
        spoken = ~is_answer & (ids >= len(SPECIAL))
        return embeddings + scale * torch.randn_like(embeddings) * spoken[..., None]


def answer_positions(ids: Tensor) -> Tensor:
    """(B, T) bool: the positions after each role word of the assistant, the end token included."""
    begins, ends = (ids == ANSWER).long(), (ids == END).long()
    # A position's own token doesn't count: the role token belongs to the prompt, the end token to the answer.
    return (begins.cumsum(1) - begins > ends.cumsum(1) - ends) & (ids != PAD)


@torch.no_grad()
def reply(llm: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, chats: Sequence[Chat]) -> list[str]:
    """Greedy answers to chats that end with the user's turn."""
    model: Any = llm  # the type hints of generate() fit no model
    answers: list[str] = []
    for first in range(0, len(chats), 100):
        texts: Any = tokenizer.apply_chat_template(
            list(chats[first : first + 100]), tokenize=False, add_generation_prompt=True
        )
        encoded = tokenizer(texts, add_special_tokens=False, padding=True, padding_side="left", return_tensors="pt")
        written = model.generate(input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"])
        answers += tokenizer.batch_decode(written[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def measure(answer: Callable[[Sequence[Chat]], list[str]]) -> dict[str, float]:
    """Exact match on held-out prompts: ``text_skill``, each of its kinds, and each kind of request.

    ``answer``: chats that end with the user's turn -> the answers of the LLM that is measured.
    """
    kinds = [name for name, _ in skill_prompts()]
    dialogues = [dialogue for _, dialogue in skill_prompts()]
    random = np.random.default_rng(derive_seed("requests"))
    for name, kind in REQUESTS.items():
        kinds += [name] * 50
        dialogues += [draw_dialogue(kind, "test", random) for _ in range(50)]
    answers = answer([messages(dialogue)[:-1] for dialogue in dialogues])
    figures = {"text_skill": text_skill(answers[: len(skill_prompts())])}
    right = [own == said(dialogue[-1].assistant) for own, dialogue in zip(answers, dialogues, strict=True)]
    for name in (*SKILLS, *REQUESTS):
        own = [is_right for is_right, kind in zip(right, kinds, strict=True) if kind == name]
        figures[name] = sum(own) / len(own)
    return figures


def train(out: Path, effort: float = 1.0, seed: int = 0, scratch: Path | None = None) -> dict[str, float]:
    """Trains the LLM from scratch, saves it with its tokenizer, and measures it on held-out prompts.

    Args:
        out: the folder to write.
        effort: factor of the number of steps.
        seed: of weights and text.
        scratch: folder for snapshots, from which an interrupted run resumes.

    Returns:
        The result of :func:`measure`, and the number of ``parameters``.
    """
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    llm = build_llm(tokenizer)
    fit_and_save("llama", llm, tokenizer, ChatLoss(llm, tokenizer, seed), out, STEPS * effort, seed, scratch)
    return measure(lambda chats: reply(llm, tokenizer, chats)) | {"parameters": float(parameter_count([llm]))}


def fit_and_save(
    name: str,
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    loss: Callable[[int], Tensor],
    out: Path,
    steps: float,
    seed: int,
    scratch: Path | None,
) -> None:
    """Fits an LLM in place and writes it with its tokenizer; ``name`` is that of the progress bar and the snapshot."""
    snapshot = scratch / f"{name}.pt" if scratch else None
    fitted = fit(name, llm, loss, max(2, round(steps)), 2e-3, average=0.995, snapshot=snapshot, seed=seed)
    llm.load_state_dict(fitted.state_dict())
    llm.eval().save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    run(train, out="checkpoints/pocket/llama", scratch=None)
