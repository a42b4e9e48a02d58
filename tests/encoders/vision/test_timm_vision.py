"""timm's models: the original outputs, the published layouts, timm's own preprocessing, and the refusals.

Marked `timm`: skipped where that extra isn't installed (`make test-timm` installs it beside, in .venv-timm).
"""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from tiny_vision import picture, stacked
from torch import Tensor

from isthmus.encoders.vision.timm_vision import TimmVision
from isthmus.frozen import shapes_only
from isthmus.types import Media, Modality

HAS_TIMM = importlib.util.find_spec("timm") is not None
needs_timm = [
    pytest.mark.timm,
    pytest.mark.skipif(not HAS_TIMM, reason="timm isn't installed here: `make test-timm` runs this in .venv-timm"),
]
GOLDEN = {
    "eva_clip_g": "eva_giant_patch14_clip_224",
    "eva02_clip_l": "eva02_large_patch14_clip_224",
    "nfnet_dm": "dm_nfnet_f6",
}
SMALL: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 4, "num_classes": 5, "img_size": 56}
Close = Callable[[Tensor, Tensor, str], None]


def timm_test(function: Any) -> Any:
    for mark in needs_timm:
        function = mark(function)
    return function


def saved(folder: Path, prefix: str = "", **options: Any) -> tuple[Path, Any]:
    """A small EVA-CLIP and its file."""
    import timm

    torch.manual_seed(3)
    model = timm.create_model("eva_giant_patch14_clip_224", **{**SMALL, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    file = folder / "eva.safetensors"
    save_file({prefix + key: value.contiguous() for key, value in model.state_dict().items()}, file)
    return file, model


def small(file: Path, **choices: Any) -> TimmVision:
    return TimmVision("eva_giant_patch14_clip_224", file, options=SMALL, **choices)


@timm_test
@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_equals_the_original(golden_file: Callable[[str], Any], assert_close: Close, tmp_path: Path, name: str) -> None:
    golden = golden_file(name)
    save_file(golden.state, tmp_path / "weights.safetensors")
    options = {"num_classes": golden.about.get("num_classes", 0), **golden.about["config"]}
    side = golden.inputs["x"].shape[-1]

    def encoder(**choices: Any) -> TimmVision:
        return TimmVision(GOLDEN[name], tmp_path / "weights.safetensors", image_size=side, options=options, **choices)

    patches = encoder(class_token=True)
    tokens = patches(Modality.IMAGE, {"pixels": golden.inputs["x"]}).tokens
    assert tokens.shape[1:] == patches.shape
    expected = golden.outputs["forward_features"]
    assert_close(tokens, expected.flatten(2).mT if expected.ndim == 4 else expected, "forward_features")
    pooled = encoder(tokens="pooled")(Modality.IMAGE, {"pixels": golden.inputs["x"]}).tokens[:, 0]
    if name == "nfnet_dm":
        assert_close(patches.model.stem(golden.inputs["x"]), golden.outputs["stem"], "stem")
        assert_close(pooled, golden.outputs["pooled"], "pooled")
        head = F.linear(pooled, golden.state["head.fc.weight"], golden.state["head.fc.bias"])
        assert_close(head, golden.outputs["logits"], "logits")
    else:
        head = F.linear(pooled, golden.state["head.weight"], golden.state["head.bias"])
        assert_close(head, golden.outputs["head"], "head")


@timm_test
@pytest.mark.parametrize(
    ("name", "size", "shape"),
    [
        ("dm_nfnet_f6", None, (196, 3072)),
        ("dm_nfnet_f6", 576, (324, 3072)),
        ("eva_giant_patch14_clip_224", None, (256, 1408)),
        ("eva_giant_patch14_clip_224", 448, (1024, 1408)),
        ("eva02_large_patch14_clip_224", None, (256, 1024)),
        ("eva02_large_patch14_clip_224", 448, (1024, 1024)),
    ],
)
def test_published_layout(
    layout: Callable[[str], dict[str, tuple[int, ...]]], name: str, size: int | None, shape: tuple[int, int]
) -> None:
    """Full size on the meta device; the classifier isn't read."""
    encoder = TimmVision(name, "nowhere.safetensors", image_size=size)
    assert encoder.shape == shape
    published = {key: at for key, at in layout(f"timm_{name}").items() if not key.startswith("head.")}
    assert {key: tuple(tensor.shape) for key, tensor in encoder.expected().items()} == published
    with shapes_only():
        encoder.load()
    assert all(parameter.is_meta for parameter in encoder.parameters())


@timm_test
@pytest.mark.parametrize("name", ["eva_giant_patch14_clip_224", "eva02_large_patch14_clip_224"])
def test_epsilon_of_every_norm_of_eva(name: str) -> None:
    with shapes_only():
        encoder = TimmVision(name, "nowhere.safetensors")
        encoder.load()
    norms = [part for part in encoder.model.modules() if isinstance(part, torch.nn.LayerNorm)]
    inner = 2 if name.startswith("eva02") else 0  # within attention and feed-forward
    assert len(norms) == (2 + inner) * len(encoder.model.blocks) + 1
    assert {norm.eps for norm in norms} == {1e-6}


@timm_test
def test_constants_of_nfnet_f6() -> None:
    """Brock et al., arXiv 2102.06171: alpha 0.2, GELU scaled to keep the variance, gates doubled, a gain a block."""
    from timm.layers import ScaledStdConv2dSame
    from timm.models.nfnet import GammaAct

    with shapes_only():
        encoder = TimmVision("dm_nfnet_f6", "nowhere.safetensors")
        encoder.load()
    model = encoder.model
    convolutions = [part for part in model.modules() if isinstance(part, ScaledStdConv2dSame)]
    assert {conv.eps for conv in convolutions} == {1e-5} and {conv.gain.ndim for conv in convolutions} == {4}
    acts = [part for part in model.modules() if isinstance(part, GammaAct)]
    places = torch.linspace(-8, 8, 16001, dtype=torch.float64)
    density, activated = torch.distributions.Normal(0.0, 1.0).log_prob(places).exp(), F.gelu(places)
    mean, square = (float(torch.trapezoid(density * value, places)) for value in (activated, activated.square()))
    gamma = (square - mean**2) ** -0.5
    assert {round(act.gamma, 6) for act in acts} == {1.701504}  # theirs was estimated from samples
    assert acts[0].gamma == pytest.approx(gamma, rel=1e-3)
    blocks = [block for stage in model.stages for block in stage]
    assert [len(stage) for stage in model.stages] == [7, 14, 42, 21]
    assert {(block.alpha, block.attn_gain) for block in blocks} == {(0.2, 2.0)}
    variance = 1.0
    for stage in model.stages:
        for place, block in enumerate(stage):
            assert block.beta == pytest.approx(variance**-0.5)
            variance = (1.0 if place == 0 else variance) + block.alpha**2


@timm_test
@torch.no_grad()
def test_another_resolution(tmp_path: Path) -> None:
    """As timm itself loads the file into a larger model: position embeddings resampled."""
    import timm

    file, model = saved(tmp_path)
    encoder = small(file, image_size=112)
    inputs = stacked(encoder, [picture(60, 90), picture(120, 110, seed=1)])
    assert inputs["pixels"].shape == (2, 3, 112, 112)
    larger = timm.create_model("eva_giant_patch14_clip_224", **{**SMALL, "img_size": 112}).eval()
    timm.models.load_checkpoint(larger, str(file), filter_fn=timm.models.eva.checkpoint_filter_fn)
    tokens = encoder(Modality.IMAGE, inputs).tokens
    assert tokens.shape == (2, 64, 32) == (2, *encoder.shape)
    torch.testing.assert_close(tokens, larger.forward_features(inputs["pixels"])[:, 1:], atol=1e-5, rtol=1e-5)
    same = small(file)
    pixels = stacked(same, [picture(60, 90)])["pixels"]
    torch.testing.assert_close(
        same(Modality.IMAGE, {"pixels": pixels}).tokens, model.forward_features(pixels)[:, 1:], atol=1e-6, rtol=1e-6
    )


@timm_test
def test_pictures_are_timms_own(tmp_path: Path) -> None:
    from timm.data import create_transform

    encoder = pickle.loads(pickle.dumps(TimmVision("dm_nfnet_f6", tmp_path / "f6.safetensors")))
    medium = picture(300, 500)
    transform = create_transform(
        (3, 448, 448), interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
        crop_pct=0.956, crop_mode="squash",
    )  # fmt: skip
    assert torch.equal(encoder.preprocess(medium)["pixels"], transform(Image.fromarray(medium.array)))
    file, _ = saved(tmp_path)
    rim = np.zeros((56, 56, 3), np.uint8)
    rim[0] = 255
    seen = [bool((small(file, crop=crop).picture(rim)[:, 0] > 0).any()) for crop in (None, 1.0)]
    assert seen == [False, True]


@timm_test
@torch.no_grad()
def test_files_of_open_clip(tmp_path: Path) -> None:
    file, model = saved(tmp_path, prefix="visual.trunk.")
    pixels = torch.randn(1, 3, 56, 56)
    tokens = small(file, class_token=True)(Modality.IMAGE, {"pixels": pixels}).tokens
    torch.testing.assert_close(tokens, model.forward_features(pixels), atol=1e-6, rtol=1e-6)


@timm_test
def test_feature_maps_with_channels_last() -> None:
    """Swin gives (B, rows, columns, D)."""
    encoder = TimmVision("swin_tiny_patch4_window7_224", "nowhere.safetensors")
    assert encoder.shape == (49, 768)


@timm_test
def test_what_cannot_be_built(tmp_path: Path) -> None:
    file, _ = saved(tmp_path)
    with pytest.raises(ValueError, match=r"model_name: found 'eva_gigantic'; expected a name that timm 1\.\S+ knows: "):
        TimmVision("eva_gigantic", file)
    with pytest.raises(ValueError, match=r"options: dm_nfnet_f6 can't be built with \{'patches': 3\}"):
        TimmVision("dm_nfnet_f6", file, options={"patches": 3})
    with pytest.raises(ValueError, match="image_size: found 0"):
        small(file, image_size=0)
    with pytest.raises(ValueError, match=r"crop: found 1\.5"):
        small(file, crop=1.5)
    with pytest.raises(ValueError, match=r"eva\.safetensors: .* missing: blocks\.2"):
        TimmVision("eva_giant_patch14_clip_224", file, options={**SMALL, "depth": 3}).load()
    with pytest.raises(ValueError, match="weights files found: none"):
        small(tmp_path / "nowhere").load()
    with pytest.raises(ValueError, match="points: this encoder serves images"):
        small(file).preprocess(Media(Modality.POINTS, np.zeros((4, 3), np.float32)))


@pytest.mark.skipif(HAS_TIMM, reason="timm is installed here")
def test_without_timm_the_error_says_what_to_install() -> None:
    with pytest.raises(ValueError, match=r"timm can't be imported .* pip install 'isthmus\[timm\]'"):
        TimmVision("dm_nfnet_f6", "f6.safetensors")


def test_the_module_loads_without_timm() -> None:
    program = (
        "import isthmus.encoders.vision.timm_vision, sys; print('timm' in sys.modules, 'torchvision' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "False"]
