"""NExT-GPT v1's training step, written anew from a description of it: the baseline of :mod:`benchmarks.stages`.

It runs its frozen encoder in every step, computes logits over the whole vocabulary at every padded position and their
argmax with a device sync, keeps the hidden states of every layer, and trains the whole embedding and head. Its batches
hold one modality each. Experts and bridges are the very classes that our step is measured with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.encoders.base import Encoder
from isthmus.losses import alignment_loss
from isthmus.published import read_published
from isthmus.types import IGNORED, Batch, Modality
from isthmus.vocabulary import MEDIA_POSITION, Vocabulary


class NextGPTStep(nn.Module):
    """One stage of NExT-GPT v1.

    Args:
        stage: 1, 2 or 3.
        checkpoint: the LLM's folder; the LLM is this step's own copy.
        vocabulary: ids of the new tokens, after which embedding and head are resized.
        encoder: the frozen encoder, loaded.
        bridges: output projectors by modality; unused in stage 1.
        conditions: caption -> (C, K), which v1 too computes beforehand.
        lora_rank: of q, k, v and o in stage 3.
    """

    def __init__(
        self,
        stage: int,
        checkpoint: Path,
        vocabulary: Vocabulary,
        encoder: Encoder,
        bridges: Mapping[Modality, nn.Module],
        conditions: Mapping[Modality, Mapping[str, Tensor]],
        lora_rank: int = 1,
    ) -> None:
        super().__init__()
        from transformers import AutoModelForCausalLM

        llm = read_published(AutoModelForCausalLM, checkpoint)
        llm.resize_token_embeddings(vocabulary.size, mean_resizing=False)
        llm.requires_grad_(False)
        if stage == 3:
            from peft import LoraConfig, get_peft_model

            targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
            llm = get_peft_model(llm, LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=targets))
        # Resizing turned their gradients on again: by accident, v1 trains the whole vocabulary in every stage.
        llm.get_input_embeddings().weight.requires_grad_(True)
        llm.get_output_embeddings().weight.requires_grad_(True)
        self.stage = stage
        self.llm = llm
        self.vocabulary = vocabulary
        self.encoder = encoder
        self.conditions = conditions
        width = llm.config.hidden_size
        self.project_in = nn.Linear(encoder.width(encoder.modalities[0]), width).requires_grad_(stage != 2)
        named = {str(modality): own for modality, own in bridges.items()}
        self.bridges = nn.ModuleDict(named).requires_grad_(stage != 1)

    def forward(self, batch: Batch) -> tuple[Tensor, float]:
        """A batch of media as preprocessed -> its loss () and the share of targets that were the likeliest token."""
        embeddings = self.llm.get_input_embeddings()(batch.ids.clamp(min=0))
        for modality, media in batch.media.items():
            with torch.no_grad():
                features = self.encoder(modality, media.inputs)
            embeddings = embeddings.index_put((media.rows, media.starts), self.project_in(features.tokens[:, 0]))
        labels = self._labels(batch)
        output: Any = self.llm(
            inputs_embeds=embeddings, attention_mask=batch.mask, labels=labels, output_hidden_states=True
        )
        loss = output.loss
        chosen = output.logits.argmax(-1)[:, :-1]
        targets = labels[:, 1:] != IGNORED
        accuracy = ((chosen == labels[:, 1:]) & targets).sum().item() / targets.sum().item()
        if self.stage > 1:
            for modality, runs in batch.signals.items():
                assert batch.layout is not None, "collators lay batches out"
                places = batch.layout.runs[modality].positions
                states, written = (own.flatten(0, 1)[places] for own in (output.hidden_states[-1], embeddings))
                projected = self.bridges[modality](states + written)
                known = self.conditions[modality]
                target = torch.stack([known[caption] for caption in runs.captions])
                loss = loss + alignment_loss(projected, target, form="norm").mean()
        return loss, accuracy

    def _labels(self, batch: Batch) -> Tensor:
        """Our labels, and every signal token of a run, which v1 learns to write one by one."""
        labels = batch.labels.clone()
        assert batch.layout is not None, "collators lay batches out"
        for runs in batch.layout.runs.values():
            labels.view(-1)[runs.positions] = batch.ids.view(-1)[runs.positions]
        assert not (labels == MEDIA_POSITION).any(), "media are no targets"
        return labels
