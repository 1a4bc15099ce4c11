"""Calls of the core that go over all classes: exact losses, and evaluation."""

from __future__ import annotations

from typing import Any, SupportsIndex

from fastnce import _core
from fastnce._arrays import like
from fastnce._request import split_lists
from fastnce._types import DenseGrads, GradTables, Progress


def full_loss(fields: dict[str, Any], progress: Progress | None) -> Any:
    """Losses ``[B]``, where ``inputs`` is. ``fields`` are those of ``_request.compute``."""
    _prepare(fields)
    loss, *_ = _core.full_loss(fields, None, progress)
    return like(fields["inputs"])(loss)


def full_loss_and_grad(
    fields: dict[str, Any], out: GradTables | None, progress: Progress | None
) -> tuple[Any, DenseGrads]:
    """The same and all gradients. Adds to ``fields``."""
    _prepare(fields)
    fields["gradients"] = (True, True, True)
    loss, grad_inputs, grad_weights, grad_biases = _core.full_loss(fields, out, progress)
    convert = like(fields["inputs"])
    return convert(loss), DenseGrads(
        convert(grad_inputs, fields["inputs"]),
        convert(grad_weights, fields["weights"]),
        None if grad_biases is None else convert(grad_biases, fields["biases"]),
    )


def top_k(fields: dict[str, Any], k: SupportsIndex, progress: Progress | None) -> tuple[Any, Any]:
    """Scores and ids ``[B, k]``."""
    _prepare(fields)
    scores, ids = _core.top_k(fields, k, progress)
    convert = like(fields["inputs"])
    return convert(scores), convert(ids)


def rank_of_labels(fields: dict[str, Any], progress: Progress | None) -> Any:
    """Ranks in the shape of the labels."""
    _prepare(fields)
    return like(fields["inputs"])(_core.rank_of_labels(fields, progress))


def _prepare(fields: dict[str, Any]) -> None:
    device = _core.cuda_device_of(fields["inputs"], "inputs")
    if device is not None:
        raise ValueError(f"inputs is on device cuda:{device}: expected cpu, where all classes are gone through")
    split_lists(fields)
