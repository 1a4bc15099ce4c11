"""One request per call of a loss: its fields by name, and the way through the core and back."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from fastnce import _core
from fastnce._arrays import like
from fastnce._devices import cuda_device_of
from fastnce._seed import Seed, seed_words
from fastnce._types import Grads, Ragged, RowGrads
from fastnce.optim._base import require_optimizer

Kind: TypeAlias = Literal[
    "array", "factor", "samples", "integer", "number", "flag", "choice", "stream", "sharding", "part", "call"
]
"""What a field holds. ``factor``: a number or an array ``[B]``. ``samples``: sampled classes and the expected counts of
true and of sampled classes. ``stream``: which samples are drawn where none are given. ``sharding``: of tables in
shards, which only the NumPy functions take. ``part``: of a loss whose classes are spread over several calls, each of
which computes a part of it (``OtherParts`` in csrc/include/fastnce/loss.h). ``call``: how the call runs; each front end
fills these in its own way."""

REQUIRED: Any = object()


class Field(NamedTuple):
    """A field of a request. ``None`` as its default: it may be left out."""

    name: str
    kind: Kind
    default: Any = None


FIELDS = (
    Field("weights", "array", REQUIRED),
    Field("biases", "array"),
    Field("labels", "array", REQUIRED),
    Field("label_offsets", "array"),
    Field("label_weights", "array"),
    Field("inputs", "array", REQUIRED),
    Field("sampled_values", "samples"),
    Field("exclude", "array"),
    Field("exclude_offsets", "array"),
    Field("class_keys", "array"),
    Field("positive_weight", "factor"),
    Field("negative_weight", "factor"),
    Field("grad_loss", "call"),
    Field("seed", "stream"),
    Field("call", "stream"),
    Field("num_sampled", "integer"),
    Field("num_classes", "integer"),
    Field("num_true", "integer", 1),
    Field("padding", "integer"),
    Field("family", "choice", "logistic"),
    Field("true_target", "choice", "mean"),
    Field("remove_accidental_hits", "flag", False),
    Field("log_q", "flag", False),
    Field("temperature", "number", 1.0),
    Field("precision", "choice"),
    Field("partition_strategy", "sharding", "div"),
    Field("label_counts", "part"),
    Field("label_weight_sums", "part"),
    Field("other_log_sum_exp", "part"),
    Field("log_sum_exp", "part", False),
    Field("weights_name", "call", "weights"),
    Field("calls", "call"),
    Field("gradients", "call"),
    Field("grad_dtype", "call"),
    Field("pad_rows", "call", False),
    Field("optimizer", "call"),
    Field("device", "call"),
)
"""All that one call of a loss takes, by the names of csrc/bindings/ops/loss_arguments.h. PyTorch's operators and the
attributes of JAX's handler are made from this table, so that a new option is a row here and a member there."""

ARRAYS = (*(field.name for field in FIELDS if field.kind in ("array", "samples", "factor")), "grad_loss")
"""The fields that hold arrays; the others are sizes and options."""

ARRAYS_OF_PARTS = tuple(field.name for field in FIELDS if field.kind == "part" and field.default is None)
"""Those of a loss in parts."""

OPTIONS = tuple(field for field in FIELDS if field.kind in ("integer", "number", "flag", "choice"))
"""The fields that are fixed when a front end compiles a call."""


def split_lists(fields: dict[str, Any]) -> None:
    """Puts the values and the offsets of each :class:`Ragged` in its place."""
    if isinstance(fields.get("labels"), Ragged):
        fields["labels"], fields["label_offsets"] = fields["labels"]
    exclude = fields.get("exclude")
    if exclude is None or fields.get("exclude_offsets") is not None:
        return
    if not isinstance(exclude, Ragged):
        raise TypeError(
            f"exclude is a {type(exclude).__name__}: expected a fastnce.Ragged, a list of classes for each example"
        )
    fields["exclude"], fields["exclude_offsets"] = exclude


def compute(fields: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any]:
    """``(loss, dinputs, row ids, dweights, dbiases)`` where ``inputs`` is, ``None`` for gradients not asked for.

    ``fields`` are those of the core, ``csrc/bindings/ops/loss_arguments.h``; what is not given has its default there.
    Rows are cut to those used.
    """
    return compute_part(fields)[:5]


def compute_part(fields: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any, Any]:
    """What :func:`compute` returns, and ``log_sum_exp``, float64 ``[B]``, or ``None`` if it was not asked for."""
    split_lists(fields)
    inputs = fields["inputs"]
    device = cuda_device_of(inputs, "inputs", fields.get("num_classes") or 0)
    if device is None:
        convert = like(inputs)
        *arrays, used = _core.compute_loss(fields)
    else:
        convert = device.hand_over
        with device.call(*(fields.get(name) for name in (*ARRAYS, *ARRAYS_OF_PARTS) if name != "inputs")):
            *arrays, used = _core.compute_loss(fields | {"device": device})
        if used is not None:
            arrays[2:5] = [None if array is None else array[:used] for array in arrays[2:5]]
    loss, grad_inputs, ids, grad_weights, grad_biases, log_sum_exp = arrays
    return (
        convert(loss),
        None if grad_inputs is None else convert(grad_inputs, inputs),
        None if ids is None else convert(ids),
        None if grad_weights is None else convert(grad_weights, fields["weights"]),
        None if grad_biases is None else convert(grad_biases, fields["biases"]),
        None if log_sum_exp is None else convert(log_sum_exp),
    )


def with_gradients(fields: dict[str, Any], optimizer: Any = None) -> tuple[Any, Grads]:
    """The loss and all gradients; an optimizer takes those of rows, so that none are returned. Adds to ``fields``."""
    fields["gradients"] = (True, True, True)
    if optimizer is None:
        loss, grad_inputs, ids, grad_weights, grad_biases = compute(fields)
        return loss, Grads(grad_inputs, RowGrads(ids, grad_weights, grad_biases))
    if fields.get("pad_rows"):
        raise ValueError("pad_rows = True: expected False with an optimizer, which takes the rows")
    require_optimizer(optimizer)
    fields["optimizer"] = optimizer.next_step(fields)
    loss, grad_inputs, ids, _, _ = compute(fields)
    return loss, Grads(grad_inputs, RowGrads(ids, None, None))


def candidates(sampled_values: Any, seed: Seed) -> dict[str, Any]:
    """The fields of candidates that are given, or drawn by a seed."""
    if sampled_values is None:
        return {"seed": seed_words(seed)}
    if seed is not None:
        seed_words(seed)  # refuses what is no seed
    return {"sampled_values": sampled_values}
