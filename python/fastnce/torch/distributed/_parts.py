"""A part of a loss, for some of its classes: one call of the core (csrc/include/fastnce/loss.h, ``OtherParts``)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from fastnce import _core
from fastnce._request import compute_part
from fastnce.torch._kernels import Gradients, as_array, factors_of_losses, over_all_classes


class Part(NamedTuple):
    """What a call computed. Shares of loss and gradients of inputs add up over the parts; rows are of this part."""

    loss: Tensor
    """``[B]``."""
    grad_inputs: Tensor | None
    """``[B, D]``."""
    row_ids: Tensor | None
    """int64 ``[rows]``, ascending; ``None`` of a loss over all classes, which has gradients of all rows."""
    grad_weights: Tensor | None
    """``[rows, D]``."""
    grad_biases: Tensor | None
    """``[rows]``."""
    log_sum_exp: Tensor | None
    """float64 ``[B]``, of a softmax: of the logits of this part and of ``other_log_sum_exp``."""


def softmax_losses(part: Part, other_log_sum_exp: Tensor, targets: Tensor) -> Tensor:
    """The part's share of the losses, once it is known what the others have; it was computed as if they had nothing.

    ``targets``: float64 ``[B]``, the sum of the targets of the part's labels. Each lacks the logarithm of how much the
    sum of exponentials grows, log(1 + exp(others - own)): terms of one sign, so that no digits are lost.
    """
    assert part.log_sum_exp is not None
    grown = torch.nn.functional.softplus(other_log_sum_exp - part.log_sum_exp, threshold=40.0)
    losses = part.loss + torch.where(targets == 0, 0.0, targets * grown).to(part.loss.dtype)
    impossible = (part.log_sum_exp == -torch.inf) & (targets > 0)  # labels, with all of the part: not -inf + inf
    return losses.masked_fill(impossible, torch.inf)


def part_of_loss(
    gradients: Gradients = (False, False, False),
    sampled: tuple[Tensor, Tensor | None, Tensor | None] | None = None,
    **fields: Any,
) -> Part:
    """Computes a part. ``sampled`` are sampled classes and expected counts, ``None`` for a loss over all classes; other
    fields have the names of a request.

    Gradients are float32, of float64 tables float64.
    """
    arrays = {name: as_array(field) if isinstance(field, Tensor) else field for name, field in fields.items()}
    if sampled is not None:
        arrays["sampled_values"] = tuple(None if values is None else as_array(values) for values in sampled)
    arrays["gradients"] = gradients
    arrays["grad_loss"] = factors_of_losses(fields.get("grad_loss"), fields["inputs"])
    if fields["inputs"].dtype != torch.float64:
        arrays["grad_dtype"] = "float32"
    if sampled is None:
        loss, grad_inputs, *others = over_all_classes(_core.full_loss, arrays, None, None)
        return Part(loss, grad_inputs, None, *others)
    if fields["inputs"].is_cpu:
        *results, _ = _core.compute_loss(arrays)
        return Part(*(None if result is None else torch.from_numpy(result) for result in results))
    return Part(*compute_part(arrays))
