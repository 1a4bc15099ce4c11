"""Calls of the core that go over all classes: exact losses, and evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, SupportsIndex

from fastnce import _core
from fastnce._arrays import Convert, like
from fastnce._devices import cuda_device_of
from fastnce._request import ARRAYS, ARRAYS_OF_PARTS, split_lists
from fastnce._types import DenseGrads, GradTables, Progress


def full_loss(fields: dict[str, Any], progress: Progress | None) -> Any:
    """Losses ``[B]``, where ``inputs`` is. ``fields`` are those of ``_request.compute``."""
    (loss, *_), convert = run(_core.full_loss, fields, None, progress)
    return convert(loss)


def full_loss_and_grad(
    fields: dict[str, Any], out: GradTables | None, progress: Progress | None
) -> tuple[Any, DenseGrads]:
    """The same and all gradients. Adds to ``fields``."""
    fields["gradients"] = (True, True, True)
    (loss, grad_inputs, grad_weights, grad_biases, _), convert = run(_core.full_loss, fields, out, progress)
    return convert(loss), DenseGrads(
        convert(grad_inputs, fields["inputs"]),
        convert(grad_weights, fields["weights"]),
        None if grad_biases is None else convert(grad_biases, fields["biases"]),
    )


def top_k(fields: dict[str, Any], k: SupportsIndex, progress: Progress | None) -> tuple[Any, Any]:
    """Scores and ids ``[B, k]``."""
    (scores, ids), convert = run(_core.top_k, fields, k, progress)
    return convert(scores), convert(ids)


def rank_of_labels(fields: dict[str, Any], progress: Progress | None) -> Any:
    """Ranks in the shape of the labels."""
    ranks, convert = run(_core.rank_of_labels, fields, progress)
    return convert(ranks)


def run(compute: Callable[..., Any], fields: dict[str, Any], *options: Any) -> tuple[Any, Convert]:
    """What the core computes where ``inputs`` is, and what makes its arrays those of the library of ``inputs``."""
    split_lists(fields)
    inputs, weights = fields["inputs"], fields["weights"]
    device = cuda_device_of(inputs, "inputs", 0)
    if device is None:
        return compute(fields, *options), like(inputs)
    lent = [fields.get(name) for name in (*ARRAYS, *ARRAYS_OF_PARTS) if name != "inputs"]
    with device.call(*lent, *(option for option in options if hasattr(option, "__dlpack__"))):
        results = compute(fields | {"device": device}, *options)
    shards = weights if isinstance(weights, list | tuple) else (weights,)
    device.num_classes = sum(getattr(shard, "shape", (0,))[0] for shard in shards)  # whose ids results hold
    return results, device.hand_over
