"""A request as PyTorch's operators take it: their parameters, made from the one table of fields."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fastnce._request import FIELDS, REQUIRED, Field

Fields: TypeAlias = dict[str, Any]
"""The values of all of ``ARGUMENTS``, by name. In eager mode ``calls`` and factors may be plain numbers."""

_TYPES = {"integer": "int", "number": "float", "flag": "bool", "choice": "str"}


def _parameters(field: Field) -> Iterator[tuple[str, str]]:
    """The type and the name of what an operator takes for a field.

    Samples are given, or drawn: those of call number ``calls`` (a scalar where the labels are) of the stream of
    ``seed`` (two words, always on the CPU: a tensor, so that modules of different seeds share a compiled graph). A
    factor that is a number is a scalar on the CPU.
    """
    optional = "" if field.default is REQUIRED else "?"
    match field.kind:
        case "array":
            yield f"Tensor{optional}", field.name
        case "factor":
            yield "Tensor?", field.name
        case "samples":
            yield from (
                ("Tensor?", name) for name in ("sampled_candidates", "true_expected_count", "sampled_expected_count")
            )
        case "stream":
            yield "Tensor?", {"call": "calls"}.get(field.name, field.name)
        case "integer" | "number" | "flag" | "choice":
            yield _TYPES[field.kind] + ("?" if field.default is None else ""), field.name


_PARAMETERS = [
    *(parameter for field in FIELDS for parameter in _parameters(field)),
    ("bool", "pad_rows"),
    ("bool", "sparse"),
    ("bool", "all_classes"),  # in place of sampled ones: gradients of tables are dense
]
ARGUMENTS = tuple(name for _, name in _PARAMETERS)
"""What both operators take, in order."""

SCHEMA = ", ".join(f"{kind} {name}" for kind, name in _PARAMETERS)

TENSORS = tuple(name for kind, name in _PARAMETERS if kind.startswith("Tensor"))
"""Those that may be tensors."""

ARRAYS = tuple(field.name for field in FIELDS if field.kind == "array")
FACTORS = tuple(field.name for field in FIELDS if field.kind == "factor")

_DEFAULTS: Fields = {name: None for name in ARGUMENTS} | {
    field.name: field.default for field in FIELDS if field.name in ARGUMENTS and field.default is not REQUIRED
}
_DEFAULTS["all_classes"] = False


def fields_of(**given: Any) -> Fields:
    """A request of what is given, in the order of ``ARGUMENTS``; what is not has its default."""
    return {**_DEFAULTS, **given}


def fields_from(arguments: Sequence[Any]) -> Fields:
    """The request of an operator's arguments."""
    return dict(zip(ARGUMENTS, arguments, strict=True))


def arguments_of(fields: Fields) -> tuple[Any, ...]:
    """The arguments of an operator for a request: numbers where it takes tensors become scalars on the CPU."""
    calls = fields["calls"]
    if calls is not None and not isinstance(calls, Tensor):
        fields = {**fields, "calls": torch.tensor(calls, dtype=torch.int64, device="cpu")}
    for name in FACTORS:
        if isinstance(fields[name], float):
            fields = {**fields, name: torch.tensor(fields[name], dtype=torch.float64, device="cpu")}
    return tuple(fields.values())
