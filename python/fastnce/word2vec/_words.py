"""A vocabulary as an array, for files of arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

Keys = list[str] | list[int]


def encoded(words: Keys) -> Any:
    """Integers as int64, words as the bytes of a UTF-8 text that has a word on each line.

    NumPy's strings would take the memory of the longest word for each of them.
    """
    if words and isinstance(words[0], int):
        return np.array(words, np.int64)
    return np.frombuffer("".join(f"{_line(str(word))}\n" for word in words).encode(), np.uint8)


def decoded(array: Any) -> Keys:
    """The reverse."""
    if array.dtype == np.int64:
        ids: list[int] = array.tolist()
        return ids
    text: str = array.tobytes().decode()
    return text.split("\n")[:-1]


def _line(word: str) -> str:
    if "\n" in word:
        raise ValueError(
            f"the word {word!r} has a line feed: expected words without, because files have one on each line"
        )
    return word
