"""Answers as files, and as each logger can show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from isthmus.data.media.files import save_media
from isthmus.modalities import CLIP, CLOUD, RASTER, SIGNAL
from isthmus.model import Reply
from isthmus.types import Media
from isthmus.writing import write_file

ENDINGS = {RASTER: ".png", CLIP: ".gif", SIGNAL: ".wav", CLOUD: ".npy"}
"""Of files that a page shows; what is none of these kinds is shown by a view of it."""


@dataclass
class Sample:
    """A prompt and its answer.

    Attributes:
        prompt: its words.
        media: its files by modality.
        reply: the answer.
    """

    prompt: str
    media: Mapping[str, Path]
    reply: Reply

    @property
    def text(self) -> str:
        """The prompt and the words of its answer, as Markdown."""
        files = "".join(f"[{name} {path.name}] " for name, path in self.media.items())
        return f"**{files}{self.prompt}**\n\n{self.reply.text or '(no words)'}"

    def views(self) -> list[Media]:
        """The answer's media, each as an image, film, sound or cloud."""
        return [medium.modality.spec.function("view")(medium) for medium in self.reply.media()]


def show(loggers: Sequence[Logger], samples: Sequence[Sample], folder: Path, step: int) -> None:
    """Writes answers into a folder, and gives them to every logger.

    Args:
        loggers: the run's.
        samples: in the prompts' order.
        folder: for the files of this step.
        step: the run's.
    """
    files = [write(sample, folder, f"{number}") for number, sample in enumerate(samples)]
    write_file(folder / "answers.md", "\n\n".join(sample.text for sample in samples).encode())
    for logger in loggers:
        match logger:
            case TensorBoardLogger():
                for number, sample in enumerate(samples):
                    _on_board(logger.experiment, sample, f"samples/{number}", step)
            case WandbLogger():
                _on_wandb(logger, samples, files)
            case MLFlowLogger():
                logger.experiment.log_artifacts(logger.run_id, str(folder), f"samples/{folder.name}")


def write(sample: Sample, folder: Path, name: str) -> list[Path]:
    """Writes an answer's media, and returns their paths."""
    paths = []
    for place, view in enumerate(sample.views()):
        path = folder / f"{name}_{place}_{view.modality}{ENDINGS[view.modality.kind]}"
        paths.append(save_media(view, path))
    return paths


def _on_board(writer: Any, sample: Sample, tag: str, step: int) -> None:
    """To TensorBoard, by its own plugins."""
    writer.add_text(tag, sample.text, step)
    for place, view in enumerate(sample.views()):
        own, array = f"{tag}/{place}_{view.modality}", view.array
        if view.modality.kind is RASTER:
            writer.add_image(own, array, step, dataformats="HWC")
        elif view.modality.kind is CLIP:
            _film(writer, own, view, step)
        elif view.modality.kind is SIGNAL:
            writer.add_audio(own, np.clip(array, -1, 1)[None], step, sample_rate=round(view.rate or 1))
        elif view.modality.kind is CLOUD:
            import torch

            places = torch.from_numpy(array[None, :, :3])
            colours = torch.from_numpy((np.clip(array[None, :, 3:], 0, 1) * 255).astype(np.uint8))
            writer.add_mesh(own, places, colors=colours if array.shape[1] > 3 else None, global_step=step)


def _film(writer: Any, tag: str, view: Media, step: int) -> None:
    """An animated GIF among the images; ``add_video`` makes the same of it, with moviepy, which nothing else needs."""
    import io

    from PIL import Image
    from tensorboard.compat.proto.summary_pb2 import Summary

    frames, file = [Image.fromarray(frame) for frame in view.array], io.BytesIO()
    rate = view.rate or 1.0
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / rate), loop=0)
    height, width = view.array.shape[1:3]
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=file.getvalue())
    writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)


def _on_wandb(logger: WandbLogger, samples: Sequence[Sample], files: Sequence[Sequence[Path]]) -> None:
    """To Weights & Biases, by Lightning's own logger where that has a way."""
    import wandb

    logger.log_text("samples/text", ["number", "prompt and answer"], [[str(n), s.text] for n, s in enumerate(samples)])
    for number, (sample, paths) in enumerate(zip(samples, files, strict=True)):
        for place, (view, path) in enumerate(zip(sample.views(), paths, strict=True)):
            key, caption = f"samples/{number}/{place}_{view.modality}", [sample.prompt]
            if view.modality.kind is RASTER:
                logger.log_image(key, [str(path)], caption=caption)
            elif view.modality.kind is CLIP:
                logger.log_video(key, [str(path)], caption=caption, format=["gif"])
            elif view.modality.kind is SIGNAL:
                logger.log_audio(key, [str(path)], caption=caption)
            elif view.modality.kind is CLOUD:
                colours = np.clip(view.array[:, 3:], 0, 1) * 255
                cloud = np.concatenate([view.array[:, :3], colours], axis=1)
                logger.experiment.log({key: wandb.Object3D(cloud)})
