"""LPIPS: the distance of pictures as people see it, by the features of a network for ImageNet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from isthmus.cache.fingerprint import fingerprint
from isthmus.encoders.checkpoint import read_weights
from isthmus.evaluation.metrics.base import Figure, Metric, Processes
from isthmus.evaluation.metrics.distances.media import Pair, pairs_of
from isthmus.evaluation.metrics.extractors.base import measuring_device
from isthmus.evaluation.metrics.paired.pictures import CHUNK, RESIZED, both, picture_kind
from isthmus.evaluation.metrics.scores import owners_figure
from isthmus.evaluation.predictions.answered import Answered
from isthmus.paths import user_path

FILES = {
    "alex": "alexnet-owt-7be5be79.pth",
    "vgg": "vgg16-397923af.pth",
    "squeeze": "squeezenet1_1-b8a52dc0.pth",
}
"""torchvision's weights of each network, at https://download.pytorch.org/models/."""
_SLICE = re.compile(r"^slice(?:\d+|s\.\d+)\.")
"""What torchmetrics puts before a layer's name in torchvision."""


class Lpips(Metric):
    """``image/lpips``, or of films the mean over frames, of media that have a reference; 0 is equal.

    The network is torchvision's, which the extras' environment has (docs/metrics.md); the weights of its layers' parts
    in the distance come with torchmetrics. Source: R. Zhang et al., CVPR 2018.

    Args:
        weights: of the network, torchvision's file as :data:`FILES` names it. Nothing is fetched.
        network: alex, vgg or squeeze. Papers mostly give alex.
        modality: image or video.

    Raises:
        ValueError: torchvision isn't installed, or there is no such file or network.
    """

    def __init__(
        self, weights: Path, network: Literal["alex", "vgg", "squeeze"] = "alex", modality: str = "image"
    ) -> None:
        self.modality = picture_kind(modality)
        if network not in FILES:
            raise ValueError(f"network: found {network!r}; expected {', '.join(FILES)}. Fix: name one of them.")
        if find_spec("torchvision") is None:
            raise ValueError(
                "torchvision: found no such package; expected it, since LPIPS's networks are its. Fix: measure in the "
                "environment of the extra `timm` (make test-timm makes it)."
            )
        self.weights = user_path(weights)
        if not self.weights.is_file():
            raise ValueError(
                f"{self.weights}: found no such file; expected torchvision's weights of {network}. Fix: fetch "
                f"https://download.pytorch.org/models/{FILES[network]} and give its path."
            )
        self.network = network
        self._loaded: Any = None

    def measure(self, answers: Sequence[Answered], processes: Processes) -> Mapping[str, Figure]:
        """The figure, with each answer's scores; none where no answer has both a medium and a reference.

        Raises:
            DataError: a file is absent or damaged.
            ValueError: the weights can't be read, or are another network's.
        """
        pairs = pairs_of(answers, self.modality)
        if not pairs:
            return {}
        scores = processes.map(self._distances, pairs, CHUNK, f"{self.modality}: LPIPS")
        protocol = {
            **RESIZED,
            "network": self.network,
            "extractor": fingerprint(self.weights),
            "library": f"torchmetrics {version('torchmetrics')}",
        }
        owners = [pair.owner for pair in pairs]
        return {f"{self.modality}/lpips": owners_figure(owners, scores, protocol, better="lower")}

    @torch.no_grad()
    def _distances(self, pairs: Sequence[Pair]) -> list[float]:
        model = self._loaded = self._loaded or self._read()
        found = []
        for pair in pairs:
            made, expected = (side.to(measuring_device()) for side in both(pair))
            found.append(float(model(made, expected, normalize=True).mean()))
        return found

    def _read(self) -> Any:
        """The network with its weights: torchmetrics' own way in fetches them from a server."""
        from torchmetrics.functional.image.lpips import _NoTrainLpips

        with torch.random.fork_rng(devices=[]):
            model = _NoTrainLpips(net=self.network, pnet_rand=True)
        held = {name.removeprefix("features."): value for name, value in read_weights(self.weights).items()}
        own = dict(model.net.named_parameters())
        layers = {_SLICE.sub("", name): name for name in own}
        wrong = [name for name, long in layers.items() if name not in held or held[name].shape != own[long].shape]
        if wrong:
            raise ValueError(
                f"{self.weights}: found no features.{wrong[0]} of shape {tuple(own[layers[wrong[0]]].shape)}; expected "
                f"torchvision's weights of {self.network}. Fix: fetch {FILES[self.network]}."
            )
        with torch.no_grad():
            for name, long in layers.items():
                own[long].copy_(held[name])
        return model.to(measuring_device())
