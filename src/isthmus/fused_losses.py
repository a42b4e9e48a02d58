"""Liger-Kernel's cross-entropy: one kernel for loss, gradient and likeliest token, the gradient in place of the logits.

Torch's own keeps the logits' log-softmax and makes a gradient of the same size beside them, and the likeliest token
takes one more pass. Hsu et al., Liger Kernel, arXiv 2410.10989.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from isthmus.losses import Reduction, cross_entropy


def check_liger() -> None:
    """Asks for what :func:`liger_cross_entropy` needs.

    Raises:
        ValueError: Liger-Kernel, or the Triton that it is written in, isn't installed.
    """
    missing = [name for name in ("liger_kernel", "triton") if find_spec(name) is None]
    if missing:
        raise ValueError(
            f"backbone cross_entropy: found 'liger', but no {' and no '.join(missing)}; expected Liger-Kernel and the "
            "Triton that torch's GPU builds bring. Mend: pip install 'isthmus[liger]' beside such a torch, or take "
            "'torch'."
        )


def liger_cross_entropy(logits: Tensor, labels: Tensor, reduction: Reduction) -> tuple[Tensor, Tensor]:
    """As :func:`isthmus.losses.cross_entropy`, to rounding. The logits are overwritten: nobody else may need them.

    Raises:
        ValueError: they are on a CPU, and Triton isn't interpreted (``TRITON_INTERPRET=1``, for tests: very slow).
    """
    if logits.device.type == "cpu" and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            "backbone cross_entropy: found 'liger' on a CPU; expected a GPU, which its kernels are written for. "
            "Mend: take 'torch' here."
        )
    if not len(labels):
        return cross_entropy(logits, labels, reduction)
    losses, likeliest = _FusedCrossEntropy.apply(logits.float(), labels)  # type: ignore[no-untyped-call]
    return losses if reduction == "none" else losses.sum(), likeliest == labels


class _FusedCrossEntropy(torch.autograd.Function):
    """The library's kernel by itself: around it the library asks the device for counts, which would hold up each step.

    Logits (p, vocabulary) float32 and labels (p,) -> losses (p,) and likeliest tokens (p,).
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        from liger_kernel.ops.cross_entropy import MAX_FUSED_SIZE, liger_cross_entropy_kernel

        learns = ctx.needs_input_grad[0]
        rows, columns = logits.shape
        values, labels = logits.detach().contiguous(), labels.contiguous()
        losses = values.new_zeros(rows)
        likeliest = torch.full_like(labels, -1)
        liger_cross_entropy_kernel[(rows,)](
            X_ptr=values,
            X_stride=values.stride(0),
            Y_ptr=labels,
            Y_stride=labels.stride(0),
            weight_ptr=None,
            loss_ptr=losses,
            z_loss_ptr=None,
            loss_stride=losses.stride(0),
            token_accuracy_ptr=None,
            token_accuracy_stride=0,
            predicted_tokens_ptr=likeliest,
            predicted_tokens_stride=likeliest.stride(0),
            n_cols=columns,
            n_non_ignore=rows,  # this and the sums are for means, which aren't taken here
            sum_non_ignore_weight=rows,
            weight_sum=0.0,
            ignore_index=-100,
            lse_square_scale=0.0,
            label_smoothing=0.0,
            reduction="none",
            softcap=None,
            RETURN_Z_LOSS=False,
            RETURN_TOKEN_ACCURACY=False,
            RETURN_PREDICTED_TOKENS=True,
            BLOCK_SIZE=min(MAX_FUSED_SIZE, 1 << (columns - 1).bit_length()),
            HAS_WEIGHT=False,
            HAS_SOFTCAPPING=False,
            HAS_GRADIENTS=learns,
            num_warps=16 if torch.version.hip else 32,  # as the library launches it for float32
        )
        if learns:
            ctx.save_for_backward(values)  # by now their gradient
        ctx.mark_non_differentiable(likeliest)
        return losses, likeliest

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, None]:
        (gradient,) = ctx.saved_tensors
        assert upstream[0] is not None
        # In place: autograd refuses a second pass through it.
        return gradient.mul_(upstream[0][:, None]), None
