"""One request per call of a loss: its fields by name, and the way through the core and back."""

from __future__ import annotations

from typing import Any

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import cuda_device_of
from fastnce._seed import Seed, seed_words
from fastnce._types import Grads, RowGrads

ARRAYS = ("weights", "biases", "labels", "inputs", "sampled_values", "positive_weight", "negative_weight", "grad_loss")
"""The fields that hold arrays, in order; the core knows the others, which are sizes and options."""


def compute(**fields: Any) -> tuple[Any, Any, Any, Any, Any]:
    """``(loss, dinputs, row ids, dweights, dbiases)`` where ``inputs`` is, ``None`` for gradients not asked for.

    ``fields`` are those of the core, ``csrc/bindings/loss_arguments.h``; what is not given has its default there. Rows
    are cut to those used.
    """
    inputs = fields["inputs"]
    device = cuda_device_of(inputs, "inputs", fields.get("num_classes") or 0)
    if device is None:
        convert = like(inputs)
        *arrays, used = _core.compute_loss(**fields)
    else:
        convert = device.hand_over
        with device.call(*(fields.get(name) for name in ARRAYS if name != "inputs")):
            *arrays, used = _core.compute_loss(**fields, device=device)
        if used is not None:
            arrays[2:] = [None if array is None else device.head(array, used) for array in arrays[2:]]
    loss, grad_inputs, ids, grad_weights, grad_biases = (
        None if array is None else convert(array, argument)
        for array, argument in zip(arrays, (None, inputs, None, fields["weights"], fields.get("biases")), strict=True)
    )
    return loss, grad_inputs, ids, grad_weights, grad_biases


def with_gradients(**fields: Any) -> tuple[Any, Grads]:
    """The loss and all gradients."""
    loss, grad_inputs, ids, grad_weights, grad_biases = compute(**fields, gradients=(True, True, True))
    return loss, Grads(grad_inputs, RowGrads(ids, grad_weights, grad_biases))


def candidates(sampled_values: Any, seed: Seed) -> dict[str, Any]:
    """The fields of candidates that are given, or drawn by a seed."""
    if sampled_values is None:
        return {"seed": seed_words(seed)}
    if seed is not None:
        seed_words(seed)  # refuses what is no seed
    return {"sampled_values": sampled_values}
