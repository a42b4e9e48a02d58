"""The convolutional network that reads digits in normalised ink, for the judges of images and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from isthmus.pocket.judges.ink import SIDE, normalised

CLASSES = 11
"""Ten digits, and ink that isn't a digit."""
ILLEGIBLE = 10
FILE = "digits.safetensors"


class DigitReader(nn.Module):
    """Normalised ink (B, 1, SIDE, SIDE) -> logits (B, CLASSES)."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()

        def block(before: int, after: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(before, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.Conv2d(after, after, 3, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
                nn.MaxPool2d(2),
            )

        self.layers = nn.Sequential(
            block(1, width),
            block(width, 2 * width),
            block(2 * width, 4 * width),
            nn.Flatten(),
            nn.Dropout(0.4),
            nn.Linear(4 * width * (SIDE // 8) ** 2, CLASSES),
        )

    def forward(self, ink: Tensor) -> Tensor:
        logits: Tensor = self.layers(ink)
        return logits

    @torch.no_grad()
    def probabilities(self, ink: Tensor) -> Tensor:
        """Ink of images (B, H, W), not normalised -> (B, CLASSES), averaged over slightly rotated and scaled views."""
        views = [self(normalised(ink, _view(turn, scale).expand(len(ink), 2, 3))) for turn, scale in _VIEWS]
        return torch.stack(views).mean(0).softmax(-1)


_VIEWS = ((0.0, 1.0), (-0.1, 1.0), (0.1, 1.0), (0.0, 0.93), (0.0, 1.07))
"""(turn in radians, scale)"""


def _view(turn: float, scale: float) -> Tensor:
    angle = torch.tensor(turn)
    return scale * torch.stack(
        [
            torch.stack([angle.cos(), -angle.sin(), torch.tensor(0.0)]),
            torch.stack([angle.sin(), angle.cos(), torch.tensor(0.0)]),
        ]
    )


def save_reader(reader: DigitReader, folder: Path) -> None:
    """Writes the weights, float32, to ``folder``."""
    save_weights(reader, folder / FILE)


def save_weights(reader: nn.Module, file: Path) -> None:
    """Writes a judge's weights, float32."""
    from safetensors.torch import save_file

    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in reader.state_dict().items()}, file)


def load_reader(folder: Path) -> DigitReader:
    """The reader with the weights in ``folder``.

    Raises:
        ValueError: they are missing, or those of another network.
    """
    return load_weights(DigitReader(), folder / FILE)


Reader = TypeVar("Reader", bound=nn.Module)


def load_weights(reader: Reader, file: Path) -> Reader:
    """A judge's network with its weights, ready to read.

    Raises:
        ValueError: they are missing, or those of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    what = "the digit reader's weights" if isinstance(reader, DigitReader) else f"{type(reader).__name__}'s weights"
    fix = "Fix: pip install isthmus-pocket, or train it: python -m isthmus.pocket.judges.training"
    if not file.is_file():
        raise ValueError(f"judges {file.parent}: {file.name} is missing; expected {what} there. {fix}")
    try:
        reader.load_state_dict(load_file(file))
    except (RuntimeError, SafetensorError) as error:
        raise ValueError(f"judges {file.parent}: {file.name} doesn't hold {what} ({error}). {fix}") from error
    return reader.eval().requires_grad_(False)
