"""The controls by which an answer is determined, and the request's fields that they give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from isthmus.inference.pipeline import Pipeline
from isthmus.model import AnyToAny
from isthmus.serving.limits import ServingLimits

OWN = "0: each one's own."


def requirable(model: AnyToAny) -> list[tuple[str, str]]:
    """What an answer of a model can be required to hold: in words, and as requests name it."""
    return [("text alone", "text"), *((each.spec.word, str(each)) for each in model.outputs)]


class Settings:
    """The controls, drawn where it is made.

    Args:
        pipeline: its own settings stand where nothing is changed.
        limits: the most that can be asked for.
        models: names of those to choose from. A choice of one isn't shown.
    """

    def __init__(self, pipeline: Pipeline, limits: ServingLimits, models: Sequence[str]) -> None:
        sampling = pipeline.sampling
        self.model = gr.Dropdown(
            list(models), value=models[0], label="Model", visible=len(models) > 1, elem_id="isthmus-model"
        )
        self.required = gr.CheckboxGroup(
            requirable(pipeline.model), label="The answer must hold", info="With none chosen the model decides."
        )
        with gr.Row():
            self.seed = gr.Number(sampling.seed, label="Seed", precision=0, minimum=0, maximum=2**31 - 1, min_width=240)
            self.temperature = gr.Slider(
                0,
                2,
                sampling.temperature,
                step=0.05,
                label="Temperature",
                info="0 takes the likeliest word.",
                min_width=240,
            )
            self.tokens = gr.Slider(
                1,
                limits.tokens,
                min(sampling.max_new_tokens, limits.tokens),
                step=1,
                label="Longest answer, tokens",
                min_width=240,
            )
        with gr.Row():
            self.steps = gr.Number(
                pipeline.num_inference_steps or 0,
                label="Steps of generators",
                info=OWN,
                precision=0,
                minimum=0,
                maximum=limits.inference_steps,
            )
            self.guidance = gr.Number(
                pipeline.guidance_scale or 0,
                label="Guidance of generators",
                info=OWN,
                minimum=0,
                maximum=100,
            )

    @property
    def controls(self) -> list[Any]:
        """In the order of :meth:`options`."""
        return [self.model, self.required, self.seed, self.temperature, self.tokens, self.steps, self.guidance]

    @staticmethod
    def options(
        model: str,
        required: Sequence[str] | None,
        seed: float | None,
        temperature: float | None,
        tokens: float | None,
        steps: float | None,
        guidance: float | None,
    ) -> dict[str, Any]:
        """The fields of a request; those that aren't set aren't in it."""
        chosen = [each for each in required or [] if each != "text" or len(required or []) == 1]
        given = {
            "model": model,
            "modalities": chosen or None,
            "seed": int(seed or 0),
            "temperature": temperature,
            "max_tokens": None if tokens is None else int(tokens),
            "num_inference_steps": int(steps) if steps else None,
            "guidance_scale": guidance or None,
        }
        return {name: value for name, value in given.items() if value is not None}
