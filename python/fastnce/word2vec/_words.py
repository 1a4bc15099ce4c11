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
    text = "".join(f"{_line(str(word))}\n" for word in words)
    try:
        return np.frombuffer(text.encode(), np.uint8)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"a word has {text[error.start]!r}, which is no character: expected words of Unicode"
        ) from None


def decoded(array: Any) -> Keys:
    """The reverse."""
    if array.ndim != 1 or array.dtype not in (np.int64, np.uint8):
        raise ValueError(f"words are {array.dtype}, {list(array.shape)}: expected a vector of uint8 or int64")
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
