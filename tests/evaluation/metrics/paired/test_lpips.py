"""LPIPS by torchmetrics' own network, with a file of weights in torchvision's form."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from stored_answers import answer, clip, picture

from isthmus.evaluation.metrics.base import Processes
from isthmus.evaluation.metrics.paired import Lpips

ONE = Processes()


@pytest.mark.timm
@pytest.mark.parametrize("network", ["alex", "squeeze"])
def test_equals_torchmetrics_with_the_same_weights(network: str, tmp_path: Path) -> None:
    vision = pytest.importorskip("torchvision")
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    torch.manual_seed(0)
    names = {"alex": "alexnet", "squeeze": "squeezenet1_1"}
    theirs = getattr(vision.models, names[network])(weights=None)
    file = tmp_path / "weights.pth"
    torch.save(theirs.state_dict(), file)
    model = _NoTrainLpips(net=network, pnet_rand=True)  # type: ignore[arg-type]
    for name, parameter in model.net.named_parameters():
        parameter.data.copy_(theirs.features.state_dict()[re.sub(r"slices?\d*\.(\d+\.(?=\d))?", "", name, count=1)])
    answers = [answer(tmp_path, number, [picture(number, 64)], [picture(number + 9, 64)]) for number in range(2)]
    answers.append(answer(tmp_path, 2, [picture(2, 64)], [picture(2, 64)]))
    figure = Lpips(file, network).measure(answers, ONE)["image/lpips"]  # type: ignore[arg-type]
    assert figure.scores is not None and figure.better == "lower" and figure.scores["set/2"] == 0
    for number in range(2):
        sides = [
            torch.from_numpy(picture(seed, 64).array).permute(2, 0, 1)[None] / 255 for seed in (number, number + 9)
        ]
        with torch.no_grad():
            assert figure.scores[f"set/{number}"] == pytest.approx(float(model(*sides, normalize=True)), rel=1e-4)
    film = [answer(tmp_path, 3, [clip(0, 2, 64)], [clip(1, 2, 64)])]
    assert Lpips(file, network, "video").measure(film, ONE)["video/lpips"].value > 0  # type: ignore[arg-type]


@pytest.mark.timm
def test_faults_are_named(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match=r"expected torchvision's weights of alex\. Fix: fetch https"):
        Lpips(tmp_path / "absent.pth")
    file = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(3)}, file)
    with pytest.raises(ValueError, match=r"found no features\.0\.weight of shape \(64, 3, 11, 11\)"):
        Lpips(file).measure([answer(tmp_path, 0, [picture(0, 64)], [picture(1, 64)])], ONE)


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is here")
def test_without_torchvision_the_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="torchvision: found no such package"):
        Lpips(tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="network: found 'resnet'"):
        Lpips(tmp_path / "weights.pth", "resnet")  # type: ignore[arg-type]
