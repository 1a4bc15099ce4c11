"""Text files, plain or compressed, as pieces of bytes."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import os
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

PIECE = 1 << 20
"""Bytes at a time."""

_DECOMPRESS: dict[str, Callable[[str], Any]] = {".gz": gzip.open, ".xz": lzma.open}


def suffix(path: str | os.PathLike[str]) -> str:
    """The end of a file's name that says how it is compressed: ``".gz"``, ``".xz"`` or ``""``."""
    end = os.path.splitext(os.fspath(path))[1]
    return end if end in _DECOMPRESS else ""


@contextlib.contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to read, decompressed; ``"-"`` is the standard input. Raises ``ValueError`` where it is damaged."""
    name = os.fspath(path)
    try:
        if name == "-":
            if sys.stdin is None:
                raise ValueError("the standard input is closed: expected a text there, or the name of a file")
            yield sys.stdin.buffer
        elif suffix(name):
            with _DECOMPRESS[suffix(name)](name) as file:
                yield file
        else:
            with open(name, "rb") as file:
                yield file
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{name} is damaged, or no {suffix(name)} file: {error}") from error


def pieces(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The bytes of a file. A compressed one is decompressed in another thread, ahead of the caller."""
    with opened(path) as file:
        if not suffix(path):
            while piece := file.read(PIECE):
                yield piece
            return
        with ThreadPoolExecutor(1) as reader:
            following = reader.submit(file.read, PIECE)
            while piece := following.result():
                following = reader.submit(file.read, PIECE)
                yield piece


def readable_name(path: str | os.PathLike[str]) -> str:
    """For messages: a name may have bytes that are not UTF-8."""
    return "standard input" if os.fspath(path) == "-" else os.fsencode(path).decode(errors="replace")
