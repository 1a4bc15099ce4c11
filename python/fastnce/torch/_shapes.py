"""The shapes of the operators' results, for ``torch.compile``, fake tensors and the device "meta".

There the library's own checks do not run, or only once the compiled graph does.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def num_true_of(classes: Tensor) -> int:
    return classes.shape[1] if classes.dim() == 2 else 1


def loss_dtype(inputs: Tensor) -> torch.dtype:
    return torch.float64 if inputs.dtype == torch.float64 else torch.float32


def equal_share(inputs: Tensor) -> float:
    """The factor of each loss in their mean."""
    return 1 / max(num_examples(inputs.shape), 1)


def num_examples(inputs: Any) -> Any:
    """B, of the shape of inputs ``[B, D]``, or with more axes of examples."""
    examples = inputs[0]
    for extent in inputs[1:-1]:
        examples = examples * extent
    return examples


def candidates(
    true_classes: Tensor,
    calls: Tensor,
    seed: Tensor,
    distribution: str,
    weights: Tensor | None,
    num_sampled: int,
    unique: bool,
    range_max: int,
) -> tuple[Tensor, ...]:
    if true_classes.dim() not in (1, 2):
        raise ValueError(f"true_classes has shape {list(true_classes.shape)}: expected [B] or [B, num_true]")
    return (
        true_classes.new_empty((num_sampled,), dtype=torch.int64),
        true_classes.new_empty((true_classes.shape[0], num_true_of(true_classes)), dtype=torch.float32),
        true_classes.new_empty((num_sampled,), dtype=torch.float32),
    )


def called(classes: Tensor, sampler: Tensor, number: Tensor, num_sampled: int, ignore_index: Any) -> tuple[Tensor, ...]:
    return (
        classes.new_empty((num_sampled,), dtype=torch.int64),
        classes.new_empty(classes.shape, dtype=torch.float32),
        classes.new_empty((num_sampled,), dtype=torch.float32),
    )


def loss(fields: dict[str, Any]) -> Tensor:
    _require_shapes(fields)
    inputs: Tensor = fields["inputs"]
    return inputs.new_empty(inputs.shape[:-1], dtype=loss_dtype(inputs))


def loss_and_grad(fields: dict[str, Any], grad_loss: Any, mean: bool, gradients: Any) -> tuple[Tensor | None, ...]:
    _require_shapes(fields)
    inputs: Tensor = fields["inputs"]
    dtype = loss_dtype(inputs)
    rows: Any = 0
    if fields["all_classes"]:
        rows = fields["weights"].shape[0]
    elif gradients[1] or gradients[2]:
        sampled = fields["sampled_candidates"]
        num_sampled = fields["num_sampled"] if sampled is None else sampled.numel()
        entries = fields["labels"].numel() + num_sampled
        rows = entries if fields["pad_rows"] else torch.library.get_ctx().new_dynamic_size()
    width = fields["weights"].shape[1]
    has_ids = (gradients[1] or gradients[2]) and not fields["all_classes"]
    return (
        inputs.new_empty((), dtype=dtype),
        inputs.new_empty(inputs.shape, dtype=dtype) if gradients[0] else None,
        inputs.new_empty((rows,), dtype=torch.int64) if has_ids else None,
        inputs.new_empty((rows, width), dtype=dtype) if gradients[1] else None,
        inputs.new_empty((rows,), dtype=dtype) if gradients[2] else None,
    )


def top_k(input: Tensor, weight: Tensor, bias: Tensor | None, k: int, *_: Any) -> tuple[Tensor, Tensor]:
    shape = (*input.shape[:-1], k)
    return input.new_empty(shape, dtype=loss_dtype(input)), input.new_empty(shape, dtype=torch.int64)


def rank_of_labels(input: Tensor, target: Tensor, *_: Any) -> Tensor:
    return input.new_empty(target.shape, dtype=torch.float64)


def _require_shapes(fields: dict[str, Any]) -> None:
    inputs, weights, biases, labels = (fields[name] for name in ("inputs", "weights", "biases", "labels"))

    def refuse(name: str, tensor: Tensor, expected: str) -> None:
        raise ValueError(f"{name} has shape {list(tensor.shape)}: expected {expected}")

    if inputs.dim() < 2:
        refuse("inputs", inputs, "[B, D]")
    if weights.dim() != 2 or certainly(weights.shape[1] != inputs.shape[-1]):
        refuse("weights", weights, f"[V, D] with D = {inputs.shape[-1]}, the width of inputs")
    if biases is not None and biases.dim() != 1:
        refuse("biases", biases, "[V]")
    num_true, offsets = fields["num_true"], fields["label_offsets"]
    batch = inputs.shape[:-1]
    if offsets is not None:
        if labels.dim() != 1:
            refuse("labels.values", labels, "[n]")
        if not fits_lists(labels.shape, offsets.shape, inputs.shape):
            refuse("labels.offsets", offsets, f"[B + 1] for the B = {num_examples(inputs.shape)} rows of inputs")
        return
    if not fits(labels.shape, inputs.shape) or certainly(
        (labels.shape[-1] if labels.dim() == inputs.dim() else 1) != num_true
    ):
        refuse("labels", labels, f"[B, num_true] = {[*batch, num_true]}")


def fits(labels: Any, inputs: Any) -> bool:
    """Whether shapes of labels are ``[..., T]`` or ``[...]`` for inputs ``[..., D]``, as far as is known."""
    if len(inputs) < 2 or len(labels) not in (len(inputs) - 1, len(inputs)):
        return False
    return not any(certainly(one != other) for one, other in zip(labels, inputs[:-1], strict=False))


def fits_lists(values: Any, offsets: Any, inputs: Any) -> bool:
    """Whether shapes of values and offsets are those of a list for each example, as far as is known."""
    if len(inputs) < 2 or len(values) != 1 or len(offsets) != 1:
        return False
    return not certainly(offsets[0] != num_examples(inputs) + 1)


def certainly(condition: Any) -> bool:
    """Whether a comparison of sizes holds as far as is known: sizes that depend on data have no value in a graph."""
    if isinstance(condition, bool):
        return condition
    from torch.fx.experimental.symbolic_shapes import statically_known_true  # loads SymPy, as symbolic sizes have done

    return bool(statically_known_true(condition))
