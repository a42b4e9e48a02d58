"""Decoding: Hugging Face's greedy decoding on text, atomic runs, required and forbidden media, seeds, limits."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from isthmus.backbones import CausalBackbone
from isthmus.backbones.base import Answer, Sampling, SignalRun
from isthmus.backbones.decoding.answer_writer import AnswerWriter
from isthmus.backbones.decoding.sampling import Sampler
from isthmus.types import Batch, Modality

Build = Callable[..., CausalBackbone]
FAMILIES = ["llama", "qwen2", "qwen3", "opt", "opt-350m", "glm", "cohere", "gemma2"]
IMAGE, VIDEO, AUDIO, POINTS = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.POINTS


def flat(answer: Answer) -> list[str | Modality]:
    return [piece if isinstance(piece, str) else piece.modality for piece in answer.pieces]


def assert_same(one: Answer, other: Answer) -> None:
    assert (flat(one), one.ended, one.tokens) == (flat(other), other.ended, other.tokens)
    for piece, its in zip(one.pieces, other.pieces, strict=True):
        if isinstance(piece, SignalRun):
            assert isinstance(its, SignalRun) and piece.forced == its.forced
            torch.testing.assert_close(piece.states, its.states, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_equals_hugging_faces_generate(family: str, build: Build, kit: Any, llm_folder: Any) -> None:
    backbone, reference = build(family), AutoModelForCausalLM.from_pretrained(llm_folder(family))
    batch = kit["text_batch"]([3, 9, 6, 5])
    answers = backbone.generate(batch, {}, Sampling(max_new_tokens=12), allowed=[])
    for row, answer in enumerate(answers):
        prompt = batch.ids[row : row + 1, : int(batch.mask[row].sum())]
        theirs = reference.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)
        new = theirs[0, prompt.shape[1] :].tolist()
        ended = new[-1] == backbone.tokenizer.eos_token_id
        assert "".join(flat(answer)) == backbone.tokenizer.decode(new, skip_special_tokens=True)
        assert (answer.ended, answer.tokens) == ("end" if ended else "length", len(new) - ended)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize("family", ["llama", "opt"])
def test_ragged_prompts_together_equal_each_alone(family: str, temperature: float, build: Build, kit: Any) -> None:
    backbone = build(family)
    batch, media = kit["conversation_batch"](backbone)
    owed = [[VIDEO], [POINTS, IMAGE]]
    together = backbone.generate(batch, media, Sampling(10, temperature, seed=5), owed)
    for row in range(2):
        length = int(batch.mask[row].sum())
        kept = {m: p for m, p in batch.media.items() if (p.rows == row).any()}
        projected = {m: tuple(tensor[batch.media[m].rows == row] for tensor in media[m]) for m in kept}
        places = {
            m: replace(
                p, rows=p.rows[p.rows == row] * 0, starts=p.starts[p.rows == row], lengths=p.lengths[p.rows == row]
            )
            for m, p in kept.items()
        }
        crop = (slice(row, row + 1), slice(0, length))
        alone = Batch(batch.ids[crop], batch.mask[crop], batch.labels[crop], places)
        (answer,) = backbone.generate(alone, projected, Sampling(10, temperature, seed=5 + row), owed[row : row + 1])
        assert_same(together[row], answer)


@pytest.mark.parametrize("family", FAMILIES)
def test_states_equal_a_forward_over_the_finished_answer(
    family: str, build: Build, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = build(family)
    # Text would lose special tokens, which this needs: its pieces are the ids themselves.
    monkeypatch.setattr(backbone, "_decode_text", lambda ids: " ".join(map(str, ids)))
    batch = kit["text_batch"]([4, 7])
    answers = backbone.generate(batch, {}, Sampling(8, 2.0, seed=3), [[VIDEO, IMAGE], [AUDIO]])
    assert any(len(answer.pieces) > 2 for answer in answers)
    for row, answer in enumerate(answers):
        ids = batch.ids[row][batch.mask[row]].tolist()
        spans = []
        for piece in answer.pieces:
            if isinstance(piece, str):
                ids += [int(token) for token in piece.split()]
            else:
                run = backbone.vocabulary.signal_ids(piece.modality)
                spans.append((piece, len(ids)))
                ids += run
        embeddings = backbone.embed(torch.tensor([ids]))
        hidden = backbone.llm(inputs_embeds=embeddings, output_hidden_states=True).hidden_states[-1]
        for piece, start in spans:
            wanted = (hidden + embeddings)[0, start : start + len(piece.states)]
            torch.testing.assert_close(piece.states, wanted.detach(), rtol=1e-3, atol=1e-4)


def test_runs_are_atomic_and_any_number_may_come(build: Build, kit: Any) -> None:
    backbone = build()
    batch = kit["text_batch"]([4, 7, 5, 6, 3, 8])
    several = 0
    for seed in range(6):
        for answer in backbone.generate(batch, {}, Sampling(12, 2.5, seed=seed)):
            runs = [piece for piece in answer.pieces if isinstance(piece, SignalRun)]
            several += len(runs) > 1
            assert all(len(run.states) == backbone.vocabulary.signal_counts[run.modality] for run in runs)
            assert not any(run.forced for run in runs)
            assert answer.tokens < 12 + max(backbone.vocabulary.signal_counts.values())
    assert several


def test_a_required_medium_is_never_missing(build: Build, kit: Any) -> None:
    backbone = build()
    batch = kit["text_batch"]([4, 7, 5])
    owed = [[IMAGE], [AUDIO, IMAGE, AUDIO], []]
    for temperature, seed in ((0.0, 0), (2.0, 1), (2.0, 2)):
        for length in (1, 6, 20):
            answers = backbone.generate(batch, {}, Sampling(length, temperature, seed=seed), owed)
            for answer, wanted in zip(answers, owed, strict=True):
                for modality in set(wanted):
                    assert flat(answer).count(modality) >= wanted.count(modality)
                forced = [isinstance(piece, SignalRun) and piece.forced for piece in answer.pieces]
                assert forced == sorted(forced)  # forced runs stand at the end


def test_a_run_that_comes_by_itself_is_not_forced_again(build: Build, kit: Any) -> None:
    backbone = build()
    batch = kit["text_batch"]([5])
    prompt = backbone.embed(batch.ids)
    state = backbone.llm.base_model(inputs_embeds=prompt).last_hidden_state[0, -1]
    with torch.no_grad():
        backbone.rows.run_starts[0] = state * 100  # the image run is now the greedy choice
    (answer,) = backbone.generate(batch, {}, Sampling(2), [[IMAGE]])
    assert flat(answer) == [IMAGE] and answer.ended == "length" and answer.tokens == 2
    assert isinstance(answer.pieces[0], SignalRun) and not answer.pieces[0].forced
    (answer,) = backbone.generate(batch, {}, Sampling(2), [[VIDEO]], allowed=[VIDEO])
    assert IMAGE not in flat(answer) and flat(answer)[-1] == VIDEO
    assert isinstance(answer.pieces[-1], SignalRun) and answer.pieces[-1].forced


def test_disallowed_media_never_come(build: Build, kit: Any) -> None:
    backbone = build()
    batch = kit["text_batch"]([4, 7, 5, 6])
    seen = set()
    for seed in range(4):
        for answer in backbone.generate(batch, {}, Sampling(10, 3.0, seed=seed), allowed=[AUDIO]):
            seen |= {piece.modality for piece in answer.pieces if isinstance(piece, SignalRun)}
    assert seen == {AUDIO}


def test_a_seed_fixes_the_answer_and_modes_are_restored(build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build(lora=kit["lora"](dropout=0.5))).train()
    batch = kit["text_batch"]([4, 7])
    first, again, other = (backbone.generate(batch, {}, Sampling(10, 2.0, seed=seed)) for seed in (1, 1, 2))
    for one, two in zip(first, again, strict=True):
        assert_same(one, two)
    assert [flat(answer) for answer in first] != [flat(answer) for answer in other]
    assert backbone.training
    state = torch.random.get_rng_state()
    backbone.generate(batch, {}, Sampling(5, 2.0))
    assert torch.equal(state, torch.random.get_rng_state())


def test_top_p_draws_by_probability_within_the_nucleus() -> None:
    probabilities = torch.tensor([0.1, 0.5, 0.0, 0.15, 0.25])
    logits = probabilities.log()[None]
    counts = torch.zeros(5)
    sampler = Sampler(Sampling(temperature=1.0, top_p=0.7), 1)
    for _ in range(4000):
        counts[sampler.choose(logits)[0]] += 1
    torch.testing.assert_close(counts / 4000, torch.tensor([0, 2 / 3, 0, 0, 1 / 3]), rtol=0, atol=0.03)
    counts.zero_()
    sampler = Sampler(Sampling(temperature=1.0), 1)
    for _ in range(4000):
        counts[sampler.choose(logits)[0]] += 1
    torch.testing.assert_close(counts / 4000, probabilities, rtol=0, atol=0.03)
    assert counts[2] == 0
    tiny = Sampler(Sampling(temperature=1.0, top_p=0.01), 1)
    assert {tiny.choose(logits)[0] for _ in range(50)} == {1}


def test_answers_stay_within_the_llms_positions(build: Build, kit: Any) -> None:
    backbone = build()
    batch = kit["text_batch"]([80, 20])
    answers = backbone.generate(batch, {}, Sampling(500, 0.0), [[VIDEO], []])
    assert answers[0].tokens + 80 <= 96 and flat(answers[0])[-1] == VIDEO
    with pytest.raises(ValueError, match=r"prompt 1: found 95 positions, of which the LLM has 96; expected room"):
        backbone.generate(kit["text_batch"]([80, 95]), {}, Sampling(5))


def test_impossible_requests_are_refused(build: Build, kit: Any) -> None:
    backbone = build()
    batch = kit["text_batch"]([4, 7])
    with pytest.raises(ValueError, match="required: found image, which may not be emitted; expected any of audio"):
        backbone.generate(batch, {}, Sampling(5), [[IMAGE], []], allowed=[AUDIO])
    with pytest.raises(ValueError, match="required: found 1 lists of media for 2 prompts"):
        backbone.generate(batch, {}, Sampling(5), [[IMAGE]])
    with pytest.raises(ValueError, match="allowed: found text; expected any of image, video, audio, points"):
        backbone.generate(batch, {}, Sampling(5), allowed=[Modality.TEXT])


def test_a_stop_text_ends_an_answer_and_is_no_part_of_its_words(build: Build, kit: Any) -> None:
    batch = kit["text_batch"]([3, 9, 6, 5])
    free = build().generate(batch, {}, Sampling(12), allowed=[])
    words = "".join(flat(free[0])).split()
    stop = " ".join(words[3:5])  # of two tokens, the first of which doesn't end it
    answers = build(stop_strings=["nothing", stop]).generate(batch, {}, Sampling(12), [[], [IMAGE], [], []])
    for answer, before in zip(answers, free, strict=True):
        text, wanted = flat(answer), "".join(flat(before))
        if stop in wanted:
            assert answer.ended == "end" and text[0] == wanted.partition(stop)[0]
            assert build().tokenizer.decode(answer.ids).endswith(stop), "what was sampled is learnt from"
    assert flat(answers[0])[0].split() == words[:3] and len(answers[0].ids) == 5 and flat(answers[1])[-1] == IMAGE


@pytest.mark.parametrize(
    ("pieces", "expected"), [(["Hi ", "####"], "Hi "), (["a END b"], "a "), (["one ", "two\n\n\n"], "one two")]
)
def test_an_answer_ends_where_its_earliest_stop_begins(pieces: list[str], expected: str, build: Build) -> None:
    """A token may hold a stop twice, overlapping, or several stops."""
    written = AnswerWriter(
        build().vocabulary, (), 9, (), lambda ids: "".join(pieces[at] for at in ids), ("b", "END", "###", "\n\n")
    )
    for column in range(len(pieces)):
        written.take(column)
    assert written.is_finished and flat(written.answer) == [expected]


def test_the_first_releases_tokens_are_all_predicted_and_runs_alone_are_chosen(build: Build, kit: Any) -> None:
    backbone = build(nextgpt_v1_tokens=True)
    vocabulary, batch = backbone.vocabulary, kit["text_batch"]([4, 7, 5, 6])
    with torch.no_grad():
        backbone.rows.run_starts[vocabulary.signal_ids(IMAGE)[1] - vocabulary.base_size] = 1e4
    assert backbone.logits(torch.zeros(1, backbone.width)).shape[1] == vocabulary.size
    seen = {
        piece.modality
        for seed in range(4)
        for answer in backbone.generate(batch, {}, Sampling(10, 3.0, seed=seed), allowed=[AUDIO, VIDEO])
        for piece in answer.pieces
        if isinstance(piece, SignalRun) and len(piece.states) == vocabulary.signal_counts[piece.modality]
    }
    assert seen == {AUDIO, VIDEO}
