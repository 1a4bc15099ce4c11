"""Words that error messages share."""

from __future__ import annotations


def is_a(value: object) -> str:
    """What a value is, for messages such as "seed is an int": "is None", "is an int", "is a list"."""
    if value is None:
        return "is None"
    kind = type(value).__name__
    # "ndarray" is spoken "en-dee-array".
    return f"is {'an' if kind[0] in 'aeioAEIO' or kind.startswith('nd') else 'a'} {kind}"
