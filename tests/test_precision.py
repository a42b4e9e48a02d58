"""The one rule of number types."""

from __future__ import annotations

import pytest
import torch

from isthmus.precision import HALF, in_own_precision, lifted, mixed_on, own_precision, torch_dtype


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_half_values_are_lifted_and_others_stay(given: torch.dtype, expected: torch.dtype) -> None:
    values = torch.tensor([0.5, -3.0], dtype=given)
    assert lifted(values).dtype is expected
    assert torch.equal(lifted(values).double(), values.double())


@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
@pytest.mark.parametrize("holds_float32", [False, True])
@pytest.mark.parametrize("mixed", HALF)
def test_autocast_stays_out_of_half_experts(dtype: torch.dtype, holds_float32: bool, mixed: torch.dtype) -> None:
    with torch.autocast("cpu", mixed):
        with own_precision(dtype, holds_float32):
            stays = dtype is torch.float32 or (holds_float32 and dtype is mixed)
            assert torch.is_autocast_enabled("cpu") is stays
        assert torch.is_autocast_enabled("cpu")
    with own_precision(dtype, holds_float32):
        assert not torch.is_autocast_enabled("cpu")


def test_a_method_runs_in_its_objects_precision() -> None:
    class Expert:
        dtype = torch.bfloat16
        holds_float32 = False

        @in_own_precision
        def product(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
            """Of two matrices."""
            return left @ right

    one = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert (one @ one).dtype is torch.bfloat16
        assert Expert().product(one, right=one).dtype is torch.float32
    assert Expert.product.__doc__ == "Of two matrices."


def test_a_type_is_one_of_three() -> None:
    assert torch_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ValueError, match="dtype: found 'int8'; expected one of float32, bfloat16, float16"):
        torch_dtype("int8")


def test_mixed_precision_is_for_gpus() -> None:
    with mixed_on(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
    found = mixed_on(torch.device("cuda"))
    assert isinstance(found, torch.autocast) and found.device == "cuda" and found.fast_dtype in HALF


def test_emulated_bfloat16_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    def emulated(including_emulation: bool = True) -> bool:
        return including_emulation

    monkeypatch.setattr("torch.cuda.is_bf16_supported", emulated)
    found = mixed_on(torch.device("cuda"))
    assert isinstance(found, torch.autocast) and found.fast_dtype is torch.float16
