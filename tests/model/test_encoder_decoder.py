"""The whole model on an encoder-decoder LLM: nothing but the backbone's class differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import supervised
import torch
from model.talks import mixed, talk
from tiny_bert import write_bert
from tiny_world import SIGNALS, tiny_model, write_t5

from isthmus.backbones import EncoderDecoderBackbone, LoraSettings
from isthmus.backbones.base import Sampling
from isthmus.input_projectors import PFormer
from isthmus.model import AnyToAny, Backbone
from isthmus.training import LossWeights
from isthmus.training.objectives.teaching import lesson_of, teach
from isthmus.types import Modality

EVERYTHING = LossWeights(text=0.5, alignment=2.0, denoising=0.25)


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("t5")
    write_t5(folder)
    return folder


def compose(experts: dict[str, Path], folder: Path, **options: Any) -> AnyToAny:
    plain = tiny_model(experts, **options)
    language_model = EncoderDecoderBackbone(folder, SIGNALS, LoraSettings(r=2, lora_alpha=4, lora_dropout=0.0))
    model = AnyToAny(Backbone(language_model, 512), plain.input_side, plain.output_side, 0)
    model.configure_model()
    return model


def test_it_trains_on_every_medium(experts: dict[str, Path], t5_folder: Path) -> None:
    model = compose(experts, t5_folder)
    batch = model.collator(contents=True)(mixed())
    optimizer = torch.optim.Adam([parameter for _, parameter in model.named_owned()], lr=0.01)
    losses = []
    for step in range(12):
        optimizer.zero_grad()
        loss = supervised.loss(model, EVERYTHING, batch)
        loss.backward()
        if step == 0:
            moved = {
                part.split(".")[0]
                for part, own in model.parts().items()
                if any(p.grad is not None and p.grad.abs().sum() > 0 for p in own.values())
            }
            assert moved == {"input_projectors", "output_projectors", "media_tags", "signal_rows", "lora"}
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]


def test_a_conversations_loss_does_not_depend_on_the_others(experts: dict[str, Path], t5_folder: Path) -> None:
    model = compose(experts, t5_folder)
    together = supervised.terms(model, LossWeights(), mixed())
    alone = [supervised.terms(model, LossWeights(), [conversation]) for conversation in mixed()]
    torch.testing.assert_close(together.text, torch.stack([terms.text for terms in alone]).sum(), rtol=1e-4, atol=1e-3)
    assert int(together.correct) == sum(int(terms.correct) for terms in alone)


def test_it_answers_with_the_media_that_are_asked_for(experts: dict[str, Path], t5_folder: Path) -> None:
    model = compose(experts, t5_folder)
    asked = [talk([("image", 3), "draw"], ["."]), talk(["hi"], ["hi"])]
    required = [[Modality.AUDIO, Modality.IMAGE], []]
    replies = model.answer(model.prompts(asked), Sampling(max_new_tokens=3), required)
    assert [piece.modality for piece in replies[0].media()] == [Modality.AUDIO, Modality.IMAGE]


def test_a_teacher_learns_by_what_it_writes(experts: dict[str, Path], t5_folder: Path, tmp_path: Path) -> None:
    language_model = compose(experts, t5_folder, inputs=(), outputs=()).backbone.language_model
    write_bert(tmp_path)
    teacher = PFormer(language_model.width, checkpoint=tmp_path, positions=3, feature_width=5).eval()  # hides nothing
    texts = ["a red seven", "two"]
    found = teach(teacher, language_model, lesson_of(teacher, language_model, texts))
    prompts, _ = teacher(*teacher.tokenize(texts))
    expected, count = torch.zeros(()), 0
    words = language_model.llm.get_input_embeddings().weight
    loud = prompts * words.square().mean().sqrt() / prompts.square().mean(-1, keepdim=True).sqrt()
    for text, prompt in zip(texts, loud, strict=True):
        ids = [*language_model.tokenizer(text, add_special_tokens=False)["input_ids"], 2]
        theirs = language_model.llm(inputs_embeds=prompt[None], labels=torch.tensor([ids]))
        wide = language_model.logits(theirs_states(language_model, prompt, ids))
        torch.testing.assert_close(wide[:, : language_model.vocabulary.base_size], theirs.logits[0])
        expected = expected + torch.nn.functional.cross_entropy(wide, torch.tensor(ids), reduction="sum")
        count += len(ids)
    assert int(found.tokens) == count
    torch.testing.assert_close(found.text, expected, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(found.text, [next(p for p in teacher.parameters() if p.ndim == 2)])
    assert gradient.abs().sum() > 0


def theirs_states(language_model: Any, prompt: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """(L, E) the decoder's final states, in one pass of the library's whole model."""
    output = language_model.llm(
        inputs_embeds=prompt[None], labels=torch.tensor([ids]), output_hidden_states=True, return_dict=True
    )
    states: torch.Tensor = output.decoder_hidden_states[-1][0]
    return states
