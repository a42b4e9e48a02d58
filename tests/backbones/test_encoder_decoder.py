"""An encoder-decoder backbone against the library's own loss, states and greedy decoding; pairs, gradients, faults."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForSeq2SeqLM

from isthmus.backbones import CausalBackbone, EncoderDecoderBackbone
from isthmus.backbones.attention.answer_spans import AnswerSpans
from isthmus.backbones.attention.length_groups import LAUNCH
from isthmus.backbones.base import Answer, Sampling, SignalRun
from isthmus.types import IGNORED, Batch, Modality, SignalBatch

Build = Callable[..., EncoderDecoderBackbone]
FAMILIES = ["t5", "flan-t5", "mt5"]
IMAGE, VIDEO, AUDIO, POINTS = Modality.IMAGE, Modality.VIDEO, Modality.AUDIO, Modality.POINTS


def wide(logits: torch.Tensor) -> torch.Tensor:
    """Our head has a column more for each modality's first signal token; zero rows give them a logit of zero."""
    return torch.cat([logits, logits.new_zeros(*logits.shape[:-1], 4)], -1)


def answers_of(batch: Batch) -> list[tuple[int, int, int]]:
    """Row, start and end of the one answer of each row: from its first label to the row's end."""
    return [
        (row, int((batch.labels[row] != IGNORED).nonzero()[0]), int(batch.mask[row].sum())) for row in range(len(batch))
    ]


@pytest.mark.parametrize("family", FAMILIES)
def test_text_loss_equals_the_librarys_own(family: str, build: Build, kit: Any, llm_folder: Any) -> None:
    backbone, reference = build(family), AutoModelForSeq2SeqLM.from_pretrained(llm_folder(family)).eval()
    assert (reference.lm_head.weight is reference.shared.weight) == (family != "flan-t5")
    with torch.no_grad():
        backbone.rows.run_starts.zero_()
    batch = kit["text_batch"]([9, 5, 7])
    expected, hits = torch.zeros(()), []
    for row, start, end in answers_of(batch):
        labels = batch.ids[row : row + 1, start:end]
        theirs = reference(input_ids=batch.ids[row : row + 1, :start], labels=labels)
        torch.testing.assert_close(theirs.loss, F.cross_entropy(theirs.logits[0], labels[0]))
        expected = expected + F.cross_entropy(wide(theirs.logits[0]), labels[0], reduction="sum")
        hits += (wide(theirs.logits[0]).argmax(-1) == labels[0]).tolist()
    output = backbone(batch, {})
    torch.testing.assert_close(output.text_loss, expected, rtol=1e-5, atol=1e-5)
    assert output.correct is not None and output.correct.tolist() == hits


def recompute(
    backbone: EncoderDecoderBackbone, batch: Batch, media: Any
) -> tuple[torch.Tensor, dict[int, tuple[int, torch.Tensor, torch.Tensor]]]:
    """Row -> start, decoder states and embeddings of its answer, by hand, one row at a time through the whole model."""
    base = backbone.llm.get_input_embeddings()(torch.arange(backbone.vocabulary.base_size))
    table = torch.cat([base, backbone.rows.media_tags, backbone.rows.signal_rows])
    loss, found = torch.zeros(()), {}
    starts = list(backbone.vocabulary.starts())
    for row, start, end in answers_of(batch):
        pieces = list(table[batch.ids[row, :end].clamp(min=0)])
        for modality, places in batch.media.items():
            for index, (own, first) in enumerate(zip(places.rows.tolist(), places.starts.tolist(), strict=True)):
                valid = media[modality][0][index][media[modality][1][index]]
                valid = valid * base.square().mean().sqrt() / valid.square().mean(-1, keepdim=True).sqrt()
                if own == row:
                    pieces[first : first + len(valid)] = list(valid)
        embeddings = torch.stack(pieces)
        theirs = backbone.llm(
            inputs_embeds=embeddings[None, :start],
            decoder_inputs_embeds=torch.cat([table[:1], embeddings[start:]])[None],
            output_hidden_states=True,
        )
        hidden = theirs.decoder_hidden_states[-1][0]
        found[row] = (start, hidden, embeddings)
        for place in (batch.labels[row] != IGNORED).nonzero()[:, 0].tolist():
            label = int(batch.labels[row, place])
            column = backbone.vocabulary.base_size + starts.index(label) if label in starts else label
            logits = backbone.logits(hidden[place - start][None])[0]
            torch.testing.assert_close(logits[:-4], theirs.logits[0, place - start], rtol=1e-4, atol=1e-5)
            loss = loss + F.cross_entropy(logits, torch.tensor(column))
    return loss, found


@pytest.mark.parametrize("family", FAMILIES)
def test_states_and_loss_equal_a_plain_recomputation(family: str, build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build(family, lora=kit["lora"]())).double()
    batch, media = kit["conversation_batch"](backbone)
    media = {modality: (projected.double(), mask) for modality, (projected, mask) in media.items()}
    output = backbone(batch, media)
    loss, found = recompute(backbone, batch, media)
    torch.testing.assert_close(output.text_loss.double(), loss.double(), rtol=1e-5, atol=1e-5)
    compared = 0
    for modality, runs in batch.signals.items():
        count = backbone.vocabulary.signal_counts[modality]
        for index, (row, first) in enumerate(zip(runs.rows.tolist(), runs.starts.tolist(), strict=True)):
            start, hidden, embeddings = found[row]
            own = hidden[first - start + 1 :][:count] + embeddings[first : first + count]
            # T5 takes its norms and its attention's softmax in float32, whatever its type.
            torch.testing.assert_close(output.signals[modality][index], own, rtol=1e-3, atol=2e-5)
            compared += 1
    assert compared == 3


@pytest.mark.parametrize("trains", ["projector", "media_tags", "signal_rows", "lora"])
def test_gradients_equal_a_plain_recomputation(
    trains: str, build: Build, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = kit["awaken"](build("t5", lora=kit["lora"]())).double()
    batch, media = kit["conversation_batch"](backbone)
    for part, parameters in backbone.parts().items():
        for parameter in parameters:
            parameter.requires_grad_(part == trains)
    leaves = [projected.double().requires_grad_(trains == "projector") for projected, _ in media.values()]
    media = {modality: (leaf, media[modality][1]) for modality, leaf in zip(media, leaves, strict=True)}
    wanted = leaves if trains == "projector" else backbone.parts()[trains]
    encoded: list[bool] = []
    plain = backbone._encode

    def spy(*given: torch.Tensor) -> torch.Tensor:
        states = plain(*given)
        encoded.append(states.requires_grad)
        return states

    monkeypatch.setattr(backbone, "_encode", spy)
    ours = torch.autograd.grad(backbone(batch, media).text_loss, wanted)
    theirs = torch.autograd.grad(recompute(backbone, batch, media)[0].double(), wanted)
    # T5's norms are float32 whatever its type; adapters' gradients, which run through all of them, differ most.
    bound = 2e-5 if trains == "lora" else 1e-5
    for mine, own in zip(ours, theirs, strict=True):
        assert (mine - own).norm() <= bound * own.norm()
    assert encoded == [trains != "signal_rows"]  # nothing before the answers learns: no graph is kept of it


def dialogue(backbone: EncoderDecoderBackbone) -> Batch:
    """One row: two trained answers, with an untrained one between them that holds a run."""
    run = list(backbone.vocabulary.signal_ids(IMAGE))
    turns = [
        ([6, 7, 8], False),
        ([9, *run, 10, 2], True),
        ([11, 12], False),
        ([13, *run, 2], False),
        ([14], False),
        ([*run, *run, 15, 2], True),
    ]
    ids, labels, starts = [], [], []
    for tokens, is_target in turns:
        for token in tokens:
            if is_target and token == run[0]:
                starts.append(len(ids))
            labels.append(token if is_target and (token < run[0] or token == run[0]) else IGNORED)
            ids.append(token)
    runs = SignalBatch(
        torch.zeros(3, dtype=torch.int64), torch.tensor(starts), ["a"] * 3, {}, torch.tensor([]), torch.arange(3)
    )
    mask = torch.ones(1, len(ids), dtype=torch.bool)
    return Batch(torch.tensor([ids]), mask, torch.tensor([labels]), {}, {IMAGE: runs})


def test_each_trained_answer_is_written_after_all_that_precedes_it(build: Build) -> None:
    backbone = build("t5")
    batch = dialogue(backbone)
    together = backbone(batch, {})
    first = int((batch.ids[0] == 11).nonzero()[0])
    cut = Batch(batch.ids[:, :first], batch.mask[:, :first], batch.labels[:, :first])
    cut.signals = {IMAGE: replace(batch.signals[IMAGE], rows=torch.tensor([0]), starts=torch.tensor([4]))}
    last = replace(batch, labels=batch.labels.clone())
    last.labels[:, :first] = IGNORED
    second = batch.signals[IMAGE].starts[1:]
    last.signals = {IMAGE: replace(batch.signals[IMAGE], rows=torch.zeros_like(second), starts=second)}
    one, two = backbone(cut, {}), backbone(last, {})
    torch.testing.assert_close(together.text_loss, one.text_loss + two.text_loss)
    torch.testing.assert_close(together.signals[IMAGE], torch.cat([one.signals[IMAGE], two.signals[IMAGE]]))
    assert together.correct is not None and len(together.correct) == int((batch.labels != IGNORED).sum())
    # What an answer says can't reach its own input, only that of later ones.
    changed = replace(batch, ids=batch.ids.where(batch.ids != 15, 16), labels=batch.labels.where(batch.ids != 15, 16))
    torch.testing.assert_close(backbone(changed, {}).signals[IMAGE], together.signals[IMAGE])


def test_padding_changes_nothing_and_rows_without_an_answer_add_nothing(build: Build, kit: Any) -> None:
    backbone = build("flan-t5")
    batch = kit["text_batch"]([12, 5, 8])
    alone = [
        backbone(Batch(batch.ids[[row], :end], batch.mask[[row], :end], batch.labels[[row], :end]), {}).text_loss
        for row, _, end in answers_of(batch)
    ]
    torch.testing.assert_close(backbone(batch, {}).text_loss, torch.stack(alone).sum(), rtol=1e-5, atol=1e-5)
    batch.labels[1] = IGNORED
    torch.testing.assert_close(backbone(batch, {}).text_loss, alone[0] + alone[2], rtol=1e-5, atol=1e-5)
    batch.labels[:] = IGNORED
    output = backbone(batch, {})
    assert output.text_loss == 0 and output.correct is not None and len(output.correct) == 0


def test_answers_of_like_length_run_together_and_that_changes_nothing(
    build: Build, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = kit["awaken"](build("flan-t5", lora=kit["lora"]())).double()
    batch, media = kit["conversation_batch"](backbone)
    media = {modality: (projected.double(), mask) for modality, (projected, mask) in media.items()}
    words = kit["text_batch"]([17, 4, 9, 4, 12])
    owned = [parameter for parameters in backbone.parts().values() for parameter in parameters]
    computed: list[int] = []
    plain = backbone._encode
    monkeypatch.setattr(backbone, "_encode", lambda *given: computed.append(given[0][..., 0].numel()) or plain(*given))
    found: list[list[torch.Tensor]] = []
    for launch in (10**6, 0):
        monkeypatch.setitem(LAUNCH, "cpu", launch)
        outputs = [backbone(batch, media), backbone(words, {})]
        signals = [states for modality in batch.signals for states in outputs[0].signals[modality]]
        total = outputs[0].text_loss + outputs[1].text_loss + torch.stack([states.sum() for states in signals]).sum()
        gradients = torch.autograd.grad(total, owned)
        found.append([*(output.text_loss for output in outputs), *signals, *gradients])
        assert all(output.correct is not None for output in outputs)
        found[-1] += [output.correct for output in outputs if output.correct is not None]
    for together, parted in zip(*found, strict=True):
        torch.testing.assert_close(parted, together, rtol=1e-6, atol=1e-9)
    assert len(computed) > 4 and sum(computed[2:]) < sum(computed[:2])


def test_every_answer_is_in_one_group_and_little_is_padding() -> None:
    spans = AnswerSpans(np.arange(60), *np.random.default_rng(0).integers(1, 90, (2, 60)))
    for launch in (0, 64, 10**6):
        groups = spans.groups(launch)
        assert sorted(np.concatenate([group.rows for group in groups])) == list(range(60))
        for group in groups:
            assert np.array_equal(group.starts, spans.starts[group.rows])
            assert np.array_equal(group.lengths, spans.lengths[group.rows])
    whole, parted = (
        sum(len(group.rows) * int(group.starts.max() + group.lengths.max()) for group in spans.groups(launch))
        for launch in (10**6, 64)
    )
    assert len(spans.groups(10**6)) == 1
    assert int((spans.starts + spans.lengths).sum()) < parted < 0.8 * whole


@pytest.mark.parametrize("family", FAMILIES)
def test_media_are_as_loud_as_words_whatever_the_projector_gives(family: str, build: Build, kit: Any) -> None:
    backbone = build(family).double()
    batch, media = kit["conversation_batch"](backbone)
    media = {modality: (projected.double(), mask) for modality, (projected, mask) in media.items()}
    seen: list[torch.Tensor] = []
    backbone.llm.get_encoder().register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["inputs_embeds"]), with_kwargs=True
    )
    expected = backbone(batch, media)
    faint = backbone(batch, {modality: (1e-3 * projected, mask) for modality, (projected, mask) in media.items()})
    torch.testing.assert_close(faint.text_loss, expected.text_loss)
    words = backbone.llm.get_input_embeddings().weight.square().mean().sqrt()
    first = int(batch.media[IMAGE].starts[0])
    places = slice(first, first + 3)
    assert len(seen) == 2  # both rows run together, in one order or the other
    loudness = seen[0][:, places].square().mean(-1).sqrt()
    assert any(torch.allclose(row, words.expand(3), rtol=1e-5, atol=0) for row in loudness)
    nothing = {modality: (0 * projected, mask) for modality, (projected, mask) in media.items()}
    assert backbone(batch, nothing).text_loss.isfinite()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_first_signal_token_starts_at_the_mean_logit_and_learns_as_fast_as_with_other_llms(
    family: str, build: Build
) -> None:
    backbone = build(family)
    states = torch.randn(3, backbone.width)
    logits = backbone.logits(states).detach()
    torch.testing.assert_close(logits[:, -4:], logits[:, :-4].mean(-1, keepdim=True).expand(3, 4))
    with torch.no_grad():
        backbone.rows.run_starts.add_(0.5)  # one optimizer step, so to speak
    torch.testing.assert_close(
        backbone.logits(states)[:, -4:] - logits[:, -4:], 0.5 * states.sum(-1, keepdim=True).expand(3, 4)
    )


def test_nothing_but_owned_parts_has_gradients(build: Build, kit: Any) -> None:
    backbone = kit["awaken"](build("t5", lora=kit["lora"]()))
    batch, media = kit["conversation_batch"](backbone)
    output = backbone(batch, media)
    (output.text_loss + sum(states.sum() for states in output.signals.values())).backward()
    owned = [parameter for parameters in backbone.parts().values() for parameter in parameters]
    assert {id(parameter) for parameter in owned} == {id(p) for p in backbone.parameters() if p.requires_grad}
    assert all(parameter.grad is not None for parameter in owned)
    assert any(name.startswith("encoder") for name in backbone.owned_state()["lora"])
    assert any("EncDecAttention" in name for name in backbone.owned_state()["lora"])


def test_training_lowers_the_loss_and_the_llm_stays_as_it_was(build: Build, kit: Any) -> None:
    backbone = build("flan-t5", lora=kit["lora"]()).train()
    assert not any(module.training for module in backbone.llm.get_encoder().block[0].layer)
    batch, media = kit["conversation_batch"](backbone)
    frozen = {name: p.clone() for name, p in backbone.named_parameters() if not p.requires_grad}
    optimizer = torch.optim.Adam([p for p in backbone.parameters() if p.requires_grad], lr=0.03)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = backbone(batch, media).text_loss
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]
    assert all(torch.equal(p, frozen[name]) for name, p in backbone.named_parameters() if name in frozen)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("family", ["t5", "flan-t5"])
def test_half_precision_keeps_what_learns_in_float32(family: str, dtype: str, build: Build, kit: Any) -> None:
    whole, half = (kit["awaken"](build(family, lora=kit["lora"](), **kind)) for kind in ({}, {"dtype": dtype}))
    half.load_owned_state(whole.owned_state())
    batch, media = kit["conversation_batch"](whole)
    output, expected = half(batch, media), whole(batch, media)
    torch.testing.assert_close(output.text_loss, expected.text_loss, rtol=0.03, atol=0)
    assert output.text_loss.dtype == torch.float32 and not torch.equal(output.text_loss, expected.text_loss)
    (output.text_loss + sum(states.float().sum() for states in output.signals.values())).backward()
    owned = [parameter for parameters in half.parts().values() for parameter in parameters]
    assert all(p.dtype == torch.float32 and p.grad is not None and p.grad.isfinite().all() for p in owned)
    answers = half.generate(batch, media, Sampling(6), [[AUDIO], []])
    assert AUDIO in flat(answers[0])


# Decoding


def flat(answer: Answer) -> list[str | Modality]:
    return [piece if isinstance(piece, str) else piece.modality for piece in answer.pieces]


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_text_equals_the_librarys_generate(family: str, build: Build, kit: Any, llm_folder: Any) -> None:
    backbone, reference = build(family), AutoModelForSeq2SeqLM.from_pretrained(llm_folder(family))
    batch = kit["text_batch"]([3, 9, 6, 5])
    answers = backbone.generate(batch, {}, Sampling(max_new_tokens=12), allowed=[])
    lengths = set()
    for row, answer in enumerate(answers):
        prompt = batch.ids[row : row + 1, : int(batch.mask[row].sum())]
        theirs = reference.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)
        new = theirs[0, 1:].tolist()  # without the start token
        ended = new[-1] == backbone.tokenizer.eos_token_id
        assert "".join(flat(answer)) == backbone.tokenizer.decode(new, skip_special_tokens=True)
        assert (answer.ended, answer.tokens) == ("end" if ended else "length", len(new) - ended)
        lengths.add(answer.tokens)
    assert lengths


@pytest.mark.parametrize("temperature", [0.0, 1.5, 2.5])
def test_ragged_prompts_together_equal_each_alone(temperature: float, build: Build, kit: Any) -> None:
    backbone = build("t5")
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
        assert (flat(answer), answer.ended, answer.tokens) == (
            flat(together[row]),
            together[row].ended,
            together[row].tokens,
        )
        for one, other in zip(answer.pieces, together[row].pieces, strict=True):
            if isinstance(one, SignalRun):
                assert isinstance(other, SignalRun) and one.forced == other.forced
                torch.testing.assert_close(one.states, other.states, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_cached_states_equal_a_training_forward_over_the_finished_answer(
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
        prompt, labels, expected = len(ids), [IGNORED] * len(ids), []
        signals: dict[Modality, list[int]] = {}
        for piece in answer.pieces:
            if isinstance(piece, str):
                ids += [int(token) for token in piece.split()]
                labels += ids[len(labels) :]
            else:
                run = list(backbone.vocabulary.signal_ids(piece.modality))
                signals.setdefault(piece.modality, []).append(len(ids))
                expected.append((piece.modality, len(signals[piece.modality]) - 1, piece.states))
                ids += run
                labels += [run[0], *[IGNORED] * (len(run) - 1)]
        assert len(ids) - prompt == answer.tokens
        runs = {
            modality: SignalBatch(
                torch.zeros(len(starts), dtype=torch.int64),
                torch.tensor(starts),
                ["a"] * len(starts),
                {},
                torch.tensor([]),
                torch.zeros(len(starts)),
            )
            for modality, starts in signals.items()
        }
        whole = Batch(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool), torch.tensor([labels]), {}, runs)
        states = backbone(whole, {}).signals
        for modality, index, own in expected:
            torch.testing.assert_close(own, states[modality][index].detach(), rtol=1e-3, atol=1e-4)


def test_runs_are_atomic_required_ones_come_and_forbidden_ones_do_not(build: Build, kit: Any) -> None:
    backbone = build("t5")
    batch = kit["text_batch"]([4, 7, 5, 6])
    seen, several = set(), 0
    for seed in range(6):
        owed = [[AUDIO], [], [AUDIO, AUDIO], [VIDEO]]
        answers = backbone.generate(batch, {}, Sampling(40, 50.0, seed=seed), owed, allowed=[AUDIO, VIDEO])
        for answer, wanted in zip(answers, owed, strict=True):
            runs = [piece for piece in answer.pieces if isinstance(piece, SignalRun)]
            several += sum(not run.forced for run in runs) > 1
            seen |= {run.modality for run in runs}
            assert all(len(run.states) == backbone.vocabulary.signal_counts[run.modality] for run in runs)
            assert all(flat(answer).count(modality) >= wanted.count(modality) for modality in wanted)
    assert seen == {AUDIO, VIDEO} and several


def test_runs_of_all_rows_take_one_pass(build: Build, kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = build("t5")
    lengths: list[int] = []
    plain = backbone._decode

    def spy(embeddings: torch.Tensor, *others: Any) -> torch.Tensor:
        lengths.append(embeddings.shape[1])
        return plain(embeddings, *others)

    monkeypatch.setattr(backbone, "_decode", spy)
    with torch.no_grad():
        batch = kit["text_batch"]([2])
        memory = backbone._encode(backbone.embed(batch.ids), batch.mask)
        first = plain(backbone._begin(1), memory, batch.mask, None)[0, 0]
        backbone.rows.run_starts[1] = first * 1e4  # a video run is now the greedy choice
    (answer,) = backbone.generate(batch, {}, Sampling(3))
    assert flat(answer) == [VIDEO] and lengths == [1, 3]


# What it owns, and what it refuses


def test_owned_state_goes_to_another_and_adapters_can_be_switched_off(build: Build, kit: Any) -> None:
    source = kit["awaken"](build("t5", seed=1, lora=kit["lora"]()))
    batch, media = kit["conversation_batch"](source)
    target = build("t5", seed=2, lora=kit["lora"]())
    untuned = target(batch, media).text_loss
    target.load_owned_state(source.owned_state())
    assert torch.equal(target(batch, media).text_loss, source(batch, media).text_loss)
    with target.adapters_disabled():
        off = target(batch, media).text_loss
    source.lora = None
    assert not torch.equal(off, source(batch, media).text_loss) and not torch.equal(off, untuned)


def test_meta_build_has_the_same_parameters_without_weights(build: Build, kit: Any, llm_folder: Any) -> None:
    real = build("t5", lora=kit["lora"]())
    meta = EncoderDecoderBackbone(llm_folder("t5"), kit["signals"], lora=kit["lora"]())
    meta.materialize(meta=True)
    shapes = {name: tuple(parameter.shape) for name, parameter in real.named_parameters()}
    assert {name: tuple(parameter.shape) for name, parameter in meta.named_parameters()} == shapes
    assert all(parameter.is_meta for parameter in meta.parameters())


def test_llms_of_another_kind_are_refused(llm_folder: Any) -> None:
    with pytest.raises(ValueError, match=r"model_type 'llama', a decoder-only LLM; expected one of t5, mt5"):
        EncoderDecoderBackbone(llm_folder("llama"))
    with pytest.raises(ValueError, match=r"encoder-decoder LLM.*Use isthmus.backbones.EncoderDecoderBackbone"):
        CausalBackbone(llm_folder("t5"))


def test_a_trained_run_outside_every_answer_is_refused(build: Build, kit: Any) -> None:
    backbone = build("t5")
    batch, media = kit["conversation_batch"](backbone)
    batch.labels[batch.labels >= backbone.vocabulary.base_size] = IGNORED
    with pytest.raises(ValueError, match=r"batch.signals.image: found runs whose first token carries no label"):
        backbone(batch, media)
