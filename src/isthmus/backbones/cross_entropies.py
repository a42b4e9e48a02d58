"""The cross-entropy of a backbone's logits, by torch or by a kernel of Liger-Kernel (arXiv 2410.10989).

The kernel reads each row of logits twice, and the second time overwrites it with the gradient. Torch keeps the
log-probabilities instead, and allocates the gradient in the backward pass.
"""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from isthmus.losses import CrossEntropy, torch_cross_entropy

Library = Literal["torch", "liger"]


def chosen_cross_entropy(library: Library) -> CrossEntropy:
    """The cross-entropy of a library's name.

    Raises:
        ValueError: the name is unknown, or Liger-Kernel can't be imported.
    """
    match library:
        case "torch":
            return torch_cross_entropy
        case "liger":
            _liger()
            return liger_cross_entropy
        case _:
            raise ValueError(f"backbone cross_entropy: found '{library}'; expected 'torch' or 'liger'")


def liger_cross_entropy(logits: Tensor, labels: Tensor, reduction: str) -> Tensor:
    """As :func:`isthmus.losses.torch_cross_entropy`, but the forward pass computes the gradient too.

    Its gradient can be computed only once, and can't be differentiated again.

    Raises:
        ValueError: the logits aren't on a GPU, and Triton doesn't interpret its kernels (``TRITON_INTERPRET=1``).
    """
    if not logits.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"backbone cross_entropy: found 'liger' and logits on {logits.device}; its kernel expects a GPU. "
            "Fix: leave cross_entropy at torch on this machine."
        )
    if len(labels) == 0:  # a kernel can't be launched over no rows
        return torch_cross_entropy(logits, labels, reduction)
    losses: Tensor = _LigerCrossEntropy.apply(logits, labels)  # type: ignore[no-untyped-call]
    return losses.sum() if reduction == "sum" else losses


def _liger() -> Any:
    try:
        from liger_kernel.ops import cross_entropy
    except ImportError as error:
        raise ValueError(
            f"backbone cross_entropy: found 'liger', but Liger-Kernel can't be imported ({error}); expected the "
            "optional requirement. Fix: pip install 'isthmus[liger]', beside a torch built for GPUs."
        ) from error
    return cross_entropy


class _LigerCrossEntropy(torch.autograd.Function):
    """(p, V) logits and (p,) labels -> (p,) losses in float32.

    Liger's own functions around the kernel copy the number of targets, their range and the incoming gradient from the
    GPU, and synchronise for each. None is needed here: labels were checked with the batch, and none is ignored.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        liger = _liger()
        learns = ctx.needs_input_grad[0]
        # A copy if the gradient will overwrite it: autograd may have saved the logits.
        scores = logits.detach().to(torch.float32, copy=learns).contiguous()
        labels = labels.contiguous()
        losses = torch.empty(len(scores), dtype=torch.float32, device=scores.device)
        rows, columns = scores.shape
        with torch.cuda.device_of(scores):
            liger.liger_cross_entropy_kernel[(rows,)](
                X_ptr=scores,
                X_stride=scores.stride(0),
                Y_ptr=labels,
                Y_stride=1,
                weight_ptr=None,
                loss_ptr=losses,
                z_loss_ptr=None,
                loss_stride=1,
                token_accuracy_ptr=None,
                token_accuracy_stride=0,
                predicted_tokens_ptr=None,
                predicted_tokens_stride=0,
                n_cols=columns,
                n_non_ignore=1,  # only means divide by these two; constants avoid recompiling
                sum_non_ignore_weight=1,
                weight_sum=0.0,
                ignore_index=-100,
                lse_square_scale=0.0,
                label_smoothing=0.0,
                reduction="none",
                softcap=None,
                RETURN_Z_LOSS=False,
                RETURN_TOKEN_ACCURACY=False,
                RETURN_PREDICTED_TOKENS=False,
                BLOCK_SIZE=min(liger.MAX_FUSED_SIZE, 1 << (columns - 1).bit_length()),
                HAS_WEIGHT=False,
                HAS_SOFTCAPPING=False,
                HAS_GRADIENTS=learns,
                num_warps=16 if torch.version.hip else 32,  # as Liger launches it for float32
            )
        if learns:
            ctx.save_for_backward(scores)
        ctx.dtype = logits.dtype
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        (gradient,) = ctx.saved_tensors
        # In place, so that no second (p, V) is allocated. Autograd refuses a second pass, which would read wrong
        # values.
        return gradient.mul_(outer[:, None]).to(ctx.dtype), None
