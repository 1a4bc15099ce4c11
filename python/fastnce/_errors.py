"""Words that error messages share, and the commonest checks."""

from __future__ import annotations

from typing import Any


def is_a(value: object) -> str:
    """What a value is, for messages such as "seed is an int": "is None", "is an int", "is a list"."""
    if value is None:
        return "is None"
    kind = type(value).__name__
    # "ndarray" is spoken "en-dee-array".
    return f"is {'an' if kind[0] in 'aeioAEIO' or kind.startswith('nd') else 'a'} {kind}"


def number(value: Any, name: str) -> float:
    """`value` as a ``float``, if it is a number of any kind."""
    if not isinstance(value, str | bytes | bytearray):  # which float() would read
        try:
            return float(value)
        except OverflowError:
            raise ValueError(f"{name} is too large for float64: expected a finite number") from None
        except (TypeError, ValueError):
            pass
    raise TypeError(f"{name} {is_a(value)}: expected a number")


def not_negative(value: Any, name: str) -> float:
    """The same, if it is finite and at least 0."""
    checked = number(value, name)
    if not 0.0 <= checked < float("inf"):
        raise ValueError(f"{name} = {checked:g}: expected a finite number, at least 0")
    return checked
