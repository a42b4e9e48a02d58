"""Decoding by a causal LLM: whole batches, and answers that join and leave between tokens."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isthmus.backbones.adapters.gated_fusion import FusedMedia, GatedFusion
from isthmus.backbones.adapters.lora import set_lora_dropout
from isthmus.backbones.attention.packing import Packer, transform
from isthmus.backbones.attention.slot_pass import GRID, Block, BlockPass, SlotPass, TokenPass
from isthmus.backbones.base import Answer, Sampling
from isthmus.backbones.decoding.batched import decode_answers
from isthmus.backbones.decoding.continuous import ContinuousDecoder, OpenAnswer
from isthmus.backbones.decoding.kept_prefix import KeptPrefix
from isthmus.backbones.decoding.limits import check_requests
from isthmus.backbones.decoding.sampling import Sampler
from isthmus.backbones.decoding.slots import WIDE, Slots
from isthmus.backbones.layer_checkpoints import checkpointing
from isthmus.backbones.splicing import check_projected, splice_media
from isthmus.precision import in_own_precision
from isthmus.types import Batch, Modality


class CausalDecoder(ContinuousDecoder):
    """The decoding half of :class:`~isthmus.backbones.causal.CausalBackbone`.

    Attributes:
        packer: runs packed rows; None if the LLM can't.
        fusion: layers that attend to media which take no positions, if configured.
        compiled: whether layers are compiled, except in decoding.
    """

    packer: Packer | None
    fusion: GatedFusion | None
    compiled: bool
    _checkpointed: Sequence[nn.Module]

    @torch.no_grad()
    @in_own_precision
    def generate(
        self,
        batch: Batch,
        media: Mapping[Modality, tuple[Tensor, Tensor]],
        sampling: Sampling,
        required: Sequence[Sequence[Modality]] | None = None,
        allowed: Sequence[Modality] | None = None,
        kept: KeptPrefix | None = None,
    ) -> list[Answer]:
        """Decodes an answer to each right-padded prompt.

        Row i draws from its own generator, seeded with ``sampling.seed + i``.

        Args:
            batch: prompts; labels are not read.
            media: as in :meth:`forward`.
            sampling: how tokens are sampled. ``max_new_tokens`` counts text and signal tokens; the last run is
                completed beyond it.
            required: media that each prompt's answer must hold; those missing at its end are appended as forced runs.
            allowed: media that may be emitted; all if None.
            kept: keys and values of earlier turns, for a batch of one prompt. The matching prefix isn't recomputed, and
                new keys and values are added. Answers are the same up to rounding.

        Raises:
            ValueError: a request can't be met (a required medium isn't allowed), or a prompt leaves no room for an
                answer.
        """
        from transformers import DynamicCache

        assert self.is_loaded, "materialize() comes first"
        owed, permitted = check_requests(len(batch), required, allowed, self.vocabulary)
        batch, media, fused_media = self._separated(batch, media)
        layout = batch.layout
        assert layout is not None
        writers = self._writers(layout.lengths, sampling, owed, permitted)
        self._prepare_adapters(trains=False)
        prompts = splice_media(self.embed(batch.ids, layout), layout, media)
        kept = kept if self._can_resume else None
        fresh = partial(DynamicCache, config=self.config)
        cache = fresh() if kept is None else kept.take(prompts, fresh)
        reused = 0 if kept is None else kept.reused
        ran = [prompts[:, :reused]]

        def run(embeddings: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
            if kept is not None:
                ran.append(embeddings)
            return self._transform(embeddings, mask, positions, cache)

        with self._fusing(fused_media):
            scores, sampler = self._scores(permitted), Sampler(sampling, len(batch))
            answers = decode_answers(prompts, batch.mask, run, self.embed, scores, sampler, writers, reused)
        if kept is not None:
            kept.keep(cache, torch.cat(ran, 1))
        return answers

    def _opened(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Callable[[Tensor, int], Tensor] | None]:
        from transformers import DynamicCache

        batch, media, fused_media = self._separated(batch, media)
        layout = batch.layout
        assert layout is not None
        (prompt,) = splice_media(self.embed(batch.ids, layout), layout, media)
        if self._can_pack() and self._can_resume:
            return prompt, None
        cache = DynamicCache(config=self.config)

        def run(embeddings: Tensor, start: int) -> Tensor:
            positions = torch.arange(start, start + embeddings.shape[1], device=embeddings.device)[None]
            mask = torch.ones(1, start + embeddings.shape[1], dtype=torch.bool, device=embeddings.device)
            with self._fusing(fused_media):
                return self._transform(embeddings, mask, positions, cache)

        return prompt, run

    def _run_prompts(self, answers: Sequence[OpenAnswer], slots: Slots) -> None:
        if answers[0].run is not None:
            super()._run_prompts(answers, slots)
            return
        for answer in answers:
            if not answer.length:
                answer.length = answer.reused = slots.open(answer, answer.prompt)
                answer.prompt = answer.prompt[answer.reused :]
                answer.turn = answer.turn or slots.turn()
        pieces: list[tuple[OpenAnswer, Block]] = []
        free = WIDE
        waiting = deque((answer, 0) for answer in sorted(answers, key=lambda answer: answer.turn))
        while waiting:  # one block of each in turn, so that a long prompt doesn't keep short ones
            answer, done = waiting.popleft()
            left = len(answer.prompt) - done
            if (count := min(GRID, left)) <= free:
                lane = slots.lane(answer, answer.length + len(answer.prompt))
                pieces.append((answer, Block(lane, answer.length + done, count)))
                free, answer.turn = free - count, slots.turn()
                if left > count:
                    waiting.append((answer, done + count))
        embeddings = torch.cat(
            [answer.prompt[block.start - answer.length :][: block.count] for answer, block in pieces]
        )
        states = self._run_blocks([block for _, block in pieces], embeddings)
        for (answer, block), own in zip(pieces, states.split([block.count for _, block in pieces]), strict=True):
            answer.prompt, answer.length = answer.prompt[block.count :], answer.length + block.count
            if not len(answer.prompt):
                answer.last = own[-1]
                slots.keep(answer)

    def _run_tokens(self, answers: Sequence[OpenAnswer], embeddings: Tensor, slots: Slots) -> Tensor:
        if answers[0].run is not None:
            return super()._run_tokens(answers, embeddings, slots)
        lanes = [slots.lane(answer, answer.length + 1) for answer in answers]
        tokens = TokenPass(lanes, [answer.length for answer in answers], slots.rows, embeddings.device)
        return self._run_pass(embeddings, tokens, slots.rows)

    def _run_runs(self, answers: Sequence[OpenAnswer], blocks: Sequence[Tensor], slots: Slots) -> list[Tensor]:
        if answers[0].run is not None:
            return super()._run_runs(answers, blocks, slots)
        pieces = []
        for answer, run in zip(answers, blocks, strict=True):
            lane = slots.lane(answer, answer.length + len(run))
            starts = range(0, len(run), GRID)
            pieces += [Block(lane, answer.length + at, min(GRID, len(run) - at)) for at in starts]
        return list(self._run_blocks(pieces, torch.cat(list(blocks))).split([len(run) for run in blocks]))

    def _run_blocks(self, blocks: Sequence[Block], embeddings: Tensor) -> Tensor:
        """Consecutive blocks (N, E) -> their final states (N, E), in as many wide passes as they fill."""
        states, first = [], 0
        while blocks:
            fits = [i for i, end in enumerate(accumulate(block.count for block in blocks), 1) if end <= WIDE][-1]
            own, blocks = blocks[:fits], blocks[fits:]
            last = first + sum(block.count for block in own)
            states.append(self._run_pass(embeddings[first:last], BlockPass(own, WIDE, embeddings.device), WIDE))
            first = last
        return torch.cat(states)

    def _run_pass(self, embeddings: Tensor, positions: SlotPass, rows: int) -> Tensor:
        """(n, E) -> final states (n, E), in a pass of so many rows."""
        with torch.compiler.set_stance("force_eager"):  # layers may be compiled, for training
            padded = F.pad(embeddings, (0, 0, 0, rows - len(embeddings)))
            return transform(self.llm, padded, positions)[: len(embeddings)]

    def _can_pack(self) -> bool:
        """Whether this LLM can run packed rows; if it can't, :attr:`packer` is None from now on."""
        if self.packer is not None:
            if self.lora and not self.packer.is_tested:
                set_lora_dropout(self.llm, False)
            self.packer = self.packer if self.packer.fits(self.llm) else None
        return self.packer is not None

    def _separated(
        self, batch: Batch, media: Mapping[Modality, tuple[Tensor, Tensor]]
    ) -> tuple[Batch, Mapping[Modality, tuple[Tensor, Tensor]], FusedMedia | None]:
        """The batch with its layout, the media to splice into the text, and those to fuse."""
        batch, fused_media = self.laid_out(batch), None
        assert batch.layout is not None
        if self.fusion is not None:
            media, fused_media = self.fusion.separate(batch.layout, media)
        check_projected(batch.layout, batch, media)
        return batch, media, fused_media

    @contextmanager
    def _fusing(self, fused_media: FusedMedia | None) -> Iterator[None]:
        """Within the block, the LLM's fusion layers attend to these media."""
        if self.fusion is None:
            yield
            return
        self.fusion.fused_media = fused_media
        try:
            yield
        finally:
            self.fusion.fused_media = self.fusion.positions = None

    @property
    def _can_resume(self) -> bool:
        """Whether the keys and values of a prompt hold in a longer one, and depend on its embeddings alone.

        Fused media aren't part of the embeddings.
        """
        return self.fusion is None and self._positions_hold()

    def _positions_hold(self) -> bool:
        """Whether a prefix may run apart: some rotary positions are rescaled as the sequence grows."""
        rope = getattr(self.config, "rope_parameters", None) or {}
        # Some LLMs have settings for each type of layer.
        each = [rope, *(own for own in rope.values() if isinstance(own, Mapping))]
        return not any(own.get("rope_type") in ("dynamic", "longrope") for own in each)

    def _transform(self, embeddings: Tensor, mask: Tensor, positions: Tensor, cache: Any) -> Tensor:
        """The LLM without its head: (B, L, E) -> final, normalised states (B, L, E)."""
        if self.fusion is not None:
            self.fusion.positions = positions
        with ExitStack() as stack:
            if cache is None:
                stack.enter_context(checkpointing(self._checkpointed))
            elif self.compiled:  # a cache's length changes at every token, which would recompile
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            hidden: Tensor = self.llm.base_model(
                inputs_embeds=embeddings,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
            ).last_hidden_state
        return hidden
