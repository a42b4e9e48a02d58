"""A trained model's folder, as a run would leave it, and a pipeline on it."""

from __future__ import annotations

from copy import copy, deepcopy
from pathlib import Path

import numpy as np
import pytest
import yaml
from jsonargparse import ArgumentParser
from tiny_world import tiny_clone

from isthmus.backbones.base import Sampling
from isthmus.data.media.files import save_media
from isthmus.inference.pipeline import Pipeline
from isthmus.model import AnyToAny
from isthmus.pocket.world import Concept, draw
from isthmus.types import MEDIA

ENDINGS = {"image": "png", "video": "mp4", "audio": "wav", "points": "npy"}


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The model of ``configs/experts/pocket.yaml`` beside tiny experts, untrained, in ``clone/runs/tiny/stage``.

    It makes no points: something must be there that it can be asked for in vain.
    """
    clone = tiny_clone(tmp_path_factory.mktemp("clone"))
    configuration = yaml.safe_load((repository / "configs" / "experts" / "pocket.yaml").read_text())["model"]
    configuration["backbone"]["init_args"]["max_length"] = 600
    output_side = configuration["output_side"]["init_args"]
    output_side["generators"] = [g for g in output_side["generators"] if not g["class_path"].endswith("ShapE")]
    del output_side["projectors"]["points"]
    for generator in output_side["generators"]:
        generator["init_args"]["num_inference_steps"] = 2
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(AnyToAny, "model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        model: AnyToAny = parser.instantiate_classes(parser.parse_object({"model": deepcopy(configuration)})).model
        model.configuration = configuration
        model.configure_model()
        return model.save(clone / "runs" / "tiny" / "stage", "stage")


@pytest.fixture(scope="session")
def opened(bundle: Path) -> Pipeline:
    """The pipeline, opened from a folder that isn't the one it was trained in."""
    return Pipeline.open(bundle, "cpu", Sampling(max_new_tokens=6))


@pytest.fixture(scope="session")
def worded(opened: Pipeline) -> Pipeline:
    """A second model over the same experts, which takes what the first does, and makes words alone."""
    model = copy(opened.model)
    model._modules = {**opened.model._modules, "output_side": None}
    return Pipeline(model, opened.sampling)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A file of each modality."""
    random = np.random.default_rng(0)
    concept = Concept(7, "red", "left")
    return {
        str(modality): save_media(draw(modality, concept, "test", random), tmp_path / f"seven.{ENDINGS[modality]}")
        for modality in MEDIA
    }
