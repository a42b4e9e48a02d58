"""The published protocol by torch-fidelity: its network through our extractor, and its figures on our features."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stored_answers import picture

from isthmus.evaluation.metrics.distances import Frechet, InceptionScore, PolynomialKernel, PrecisionRecall
from isthmus.evaluation.metrics.distances.base import Features
from isthmus.evaluation.metrics.extractors import InceptionFeatures

PICTURES = [picture(number, 20) for number in range(4)]


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.evaluation.metrics.extractors.inception.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"Fix: pip install 'isthmus\[fidelity\]'"):
        InceptionFeatures(tmp_path / "weights.pth")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the published file's form."""
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Drawn(FeatureExtractorInceptionV3):  # type: ignore[misc]  # untyped
        def load_state_dict(self, *given: Any) -> None:
            """Keeps what was drawn."""

    folder = tmp_path_factory.mktemp("inception")
    torch.manual_seed(0)
    torch.save({}, folder / "empty.pth")
    torch.save(Drawn("inception-v3-compat", ["2048"], folder / "empty.pth").state_dict(), folder / "drawn.pth")
    return folder / "drawn.pth"


@pytest.mark.timm
def test_features_and_logits_are_the_library_s(weights: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    extractor = InceptionFeatures(weights)
    features, logits = extractor.extract(PICTURES)
    theirs = FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(weights))
    stacked = torch.from_numpy(np.stack([one.array for one in PICTURES])).permute(0, 3, 1, 2)
    expected = theirs(stacked)
    torch.testing.assert_close(torch.from_numpy(features), expected[0])
    assert logits is not None
    torch.testing.assert_close(torch.from_numpy(logits), expected[1])
    mixed, _ = extractor.extract([picture(0, 20), picture(1, 30)])
    torch.testing.assert_close(torch.from_numpy(mixed[:1]), expected[0][:1], rtol=1e-4, atol=1e-5)
    clean = InceptionFeatures(weights, resize="clean")
    assert clean.extract(PICTURES)[0].shape == (4, 2048)
    assert extractor.identity()["antialias"] is False and clean.identity()["antialias"] is True
    assert clean.identity()["resize"] == "stretch to 299, bicubic"


@pytest.mark.timm
def test_a_file_that_runs_code_is_not_run(weights: Path, tmp_path: Path) -> None:
    class Thief:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "stolen",)

    torch.save({"weight": Thief()}, tmp_path / "crafted.pth", pickle_module=pickle)
    with pytest.raises(ValueError, match="crafted"):
        InceptionFeatures(tmp_path / "crafted.pth").extract(PICTURES)
    assert not (tmp_path / "stolen").exists()
    with pytest.raises(ValueError, match=r"absent\.pth: found no such file"):
        InceptionFeatures(tmp_path / "absent.pth")


@pytest.mark.timm
def test_figures_are_the_library_s_on_the_same_features() -> None:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    random = np.random.default_rng(0)
    ours, theirs, logits = random.normal(0.2, 1.2, (150, 8)), random.normal(size=(130, 8)), random.normal(size=(150, 5))
    made, real = (
        Features(one, logits, ["own"] * len(one), ["own"] * len(one), range(len(one)), [str(row) for row in one])
        for one in (ours, theirs)
    )
    statistics = [fid_features_to_statistics(torch.from_numpy(one)) for one in (ours, theirs)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert Frechet("fid").measure(made, real)["fid"].value == pytest.approx(fid, rel=1e-6)
    tensors = torch.from_numpy(ours), torch.from_numpy(theirs)
    kid = kid_features_to_metric(*tensors, kid_subsets=200, kid_subset_size=65, verbose=False)
    figure = PolynomialKernel(subsets=200).measure(made, real)["kid"]
    spread = kid["kernel_inception_distance_std"]
    assert figure.value == pytest.approx(kid["kernel_inception_distance_mean"], abs=4 * spread / 200**0.5)
    score = isc_features_to_metric(torch.from_numpy(logits), splits=1)["inception_score_mean"]
    assert InceptionScore(splits=1).measure(made, real)["is"].value == pytest.approx(score, rel=1e-9)
    precision = prc_features_to_metric(*tensors, prc_neighborhood=3, verbose=False)
    found = PrecisionRecall(3).measure(made, real)
    assert found["precision"].value == pytest.approx(precision["precision"])
    assert found["recall"].value == pytest.approx(precision["recall"])
