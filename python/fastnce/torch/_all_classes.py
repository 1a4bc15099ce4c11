"""What goes over all classes: exact losses as functions, the best classes, ranks of labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fastnce._seed import int64
from fastnce._types import Precision
from fastnce.torch._arguments import (
    PRECISIONS,
    Reduction,
    TrueTarget,
    require_loss_arguments,
    require_option,
    require_tensors,
)
from fastnce.torch._functional import loss_of_labels
from fastnce.torch._lists import Classes, exclude_of, split_lists


def softmax_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    true_target: TrueTarget = "mean",
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    precision: Precision | None = None,
) -> Tensor:
    """Cross entropy of ``input @ weight.T + bias`` over all V classes, :func:`fastnce.softmax_loss`: that of
    ``torch.nn.functional.cross_entropy``, without the ``[B, V]`` logits in memory. On a CUDA device V is at most 2^22.

    Args:
        input: ``[B, D]``, or with more axes of examples.
        target: ``[B]`` or ``[B, T]`` true classes, or lists of them, as :func:`nce_loss` takes them.
        weight: ``[V, D]`` class embeddings.
        bias: ``[V]``, or ``None``.
        example_weight: ``[B]`` factors of the examples' losses.
        label_weights: Factors of the targets, in the shape of ``target``; constants.
        exclude: Lists of classes that each example leaves out of its softmax, unless they are its labels.
        true_target: ``"mean"``: each true class has target 1 / T. ``"one"``: 1.
        reduction: ``"mean"`` over the examples that have a true class, ``"sum"``, or ``"none"``.
        ignore_index: As in :func:`nce_loss`.
        precision: As in :func:`nce_loss`.

    Returns:
        A scalar, or ``[B]`` for ``"none"``; float64 for float64 inputs, else float32. Gradients of weight and bias are
        dense.

    Raises:
        ValueError: Shapes that do not match, tensors on different devices, classes out of range (on the CPU).
        TypeError: Unsupported or mixed dtypes.
    """
    return loss_of_labels(
        *(input, target, weight, bias, None, example_weight, label_weights, exclude, reduction, ignore_index),
        {"all_classes": True, "family": "softmax", "true_target": true_target, "precision": precision},
    )


def sigmoid_loss(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    example_weight: Tensor | None = None,
    *,
    label_weights: Tensor | None = None,
    exclude: Classes | None = None,
    true_target: TrueTarget = "one",
    reduction: Reduction = "mean",
    ignore_index: int | None = -100,
    precision: Precision | None = None,
) -> Tensor:
    """Binary cross entropy of ``input @ weight.T + bias``, summed over all V classes, :func:`fastnce.sigmoid_loss`: the
    true classes of an example have target 1, all others 0. ``[B, V]`` is never in memory.

    ``exclude`` leaves classes out of the sum. The other arguments, results and errors are those of
    :func:`softmax_loss`.
    """
    return loss_of_labels(
        *(input, target, weight, bias, None, example_weight, label_weights, exclude, reduction, ignore_index),
        {"all_classes": True, "family": "logistic", "true_target": true_target, "precision": precision},
    )


def top_k(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    k: int,
    exclude: Classes | None = None,
    *,
    precision: Precision | None = "highest",
) -> tuple[Tensor, Tensor]:
    """The k classes that score highest, :func:`fastnce.top_k`: ``(scores [B, k], ids int64 [B, k])``, without a
    ``[B, V]`` matrix. Scores are ``input @ weight.T + bias``; they have no gradient.

    Args:
        input: ``[B, D]``, or with more axes of examples.
        weight: ``[V, D]``.
        bias: ``[V]``, or ``None``.
        k: How many. Beyond the classes that are left: scores of ``-inf``, ids of -1.
        exclude: Lists of classes that each example leaves out, as :func:`nce_loss` takes them.
        precision: As in :func:`nce_loss`.
    """
    require_tensors(input=input)
    require_loss_arguments(input, _no_target(input), weight, bias, "none", None)
    _require_precision(precision)
    excluded, offsets = exclude_of(exclude, input.device)
    constants = (input.detach(), weight.detach(), None if bias is None else bias.detach())
    scores, ids = torch.ops.fastnce.top_k(*constants, int64(k, "k"), excluded, offsets, precision)
    return scores, ids


def rank_of_labels(
    input: Tensor,
    target: Classes,
    weight: Tensor,
    bias: Tensor | None,
    exclude: Classes | None = None,
    *,
    ignore_index: int | None = -100,
    precision: Precision | None = "highest",
) -> Tensor:
    """The rank of each label among all classes, :func:`fastnce.rank_of_labels`: float64 in the shape of ``target``
    (``[n]`` of lists), 1 for the best; ties count half. NaN where the target is ``ignore_index``. ``fastnce.metrics``
    makes recall, NDCG and MRR of ranks.

    ``exclude`` holds classes that do not compete: all that a user knows, for instance. A label is ranked even if it is
    among them. The other arguments are those of :func:`top_k`.
    """
    target, target_offsets = split_lists("target", target)
    require_loss_arguments(input, target, weight, bias, "none", ignore_index)
    _require_precision(precision)
    excluded, offsets = exclude_of(exclude, input.device)
    tables = (weight.detach(), None if bias is None else bias.detach())
    ranks: Tensor = torch.ops.fastnce.rank_of_labels(
        input.detach(), target, target_offsets, *tables, excluded, offsets, ignore_index, precision
    )
    return ranks


def _require_precision(precision: Any) -> None:
    if precision is not None:
        require_option("precision", precision, PRECISIONS)


def _no_target(input: Tensor) -> Tensor:
    return input.new_empty((0,), dtype=torch.int64)


class Evaluated:
    """Evaluation of a module that owns a table of classes."""

    weight: Tensor
    bias: Tensor
    num_embeddings: int
    precision: Precision | None

    def top_k(self, input: Tensor, k: int, exclude: Classes | None = None) -> tuple[Tensor, Tensor]:
        """The classes that score highest for ``input [B, D]``: :func:`fastnce.torch.top_k`."""
        return top_k(input, *self._tables(), k, exclude)

    def rank(self, input: Tensor, target: Classes, exclude: Classes | None = None) -> Tensor:
        """The ranks of the true classes of ``input [B, D]``: :func:`fastnce.torch.rank_of_labels`."""
        ignored: int | None = getattr(self, "ignore_index", None)
        return rank_of_labels(input, target, *self._tables(), exclude, ignore_index=ignored)

    def _tables(self) -> tuple[Tensor, Tensor | None]:
        bias: Tensor | None = self.bias
        return self.weight[: self.num_embeddings], None if bias is None else bias[: self.num_embeddings]
