"""Files of word vectors: word2vec's text and binary formats, NumPy's, safetensors."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from fastnce.word2vec import _text, _words
from fastnce.word2vec._files import replacing
from fastnce.word2vec._words import Keys

Floats = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64] | None
Name = str | os.PathLike[str]
Loaded = tuple[Keys, Floats, Counts]

FORMATS = {
    ".txt": "text",
    ".vec": "text",
    ".bin": "binary",
    ".npz": "npz",
    ".npy": "npy",
    ".safetensors": "safetensors",
}
_ROWS = 1 << 12
"""Rows at a time."""


def format_of(path: Name) -> str:
    """The format that a file's name says."""
    name = Path(path)
    suffixes = name.suffixes[-2:]
    compressed = suffixes[-1:] in ([".gz"], [".xz"])
    found = FORMATS.get((suffixes[0] if len(suffixes) == 2 else "") if compressed else name.suffix)
    if found is None or (compressed and found not in ("text", "binary")):
        raise ValueError(
            f"{name}: the name says no format: expected one that ends in {', '.join(FORMATS)}; .txt.gz and .bin.gz are "
            "compressed"
        )
    return found


def require_format(path: Name) -> None:
    """Raise where :func:`save` could not write this format."""
    _require_no_xz(path)
    if format_of(path) == "safetensors":
        _safetensors()


def written(path: Name) -> list[Name]:
    """The files that :func:`save` writes."""
    return [path, _words_of_npy(path)] if format_of(path) == "npy" else [path]


def save(path: Name, keys: Keys, vectors: Floats, counts: Counts, format: str | None = None) -> None:
    """Write a file of this format, or of that which the name says."""
    if format is None:
        require_format(path)
        format = format_of(path)
    _require_no_xz(path)
    if format in ("text", "binary"):
        _save_word2vec(path, keys, vectors, format == "binary")
    elif format == "npy":
        words = "".join(f"{word}\n" for word in keys) if keys and isinstance(keys[0], int) else None
        with replacing(_words_of_npy(path)) as file:
            file.write(words.encode() if words is not None else _words.encoded(keys).tobytes())
        with replacing(path) as file:
            np.save(file, vectors)
    else:
        arrays = {"words": _words.encoded(keys), "vectors": np.ascontiguousarray(vectors)}
        if counts is not None:
            arrays["counts"] = counts
        with replacing(path) as file:
            if format == "npz":
                np.savez(file, **arrays)
            else:
                file.write(_safetensors().save(arrays))


def load(path: Name, format: str | None = None) -> Loaded:
    """Read a file of this format, or of that which the name says: keys, vectors, counts."""
    format = format or format_of(path)
    if format in ("text", "binary"):
        with _text.opened(path) as file:
            return _load_word2vec(os.fspath(path), file, format == "binary")
    try:
        if format == "npy":
            arrays = {"words": np.fromfile(_words_of_npy(path), np.uint8), "vectors": np.load(path, allow_pickle=False)}
        elif format == "npz":
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as members:
                arrays = dict(members)
        else:
            arrays = _safetensors().load_file(path)
        vectors = arrays["vectors"]
        if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or vectors.dtype.kind != "f":
            raise ValueError("vectors are no matrix of floating-point numbers")
        counts = arrays.get("counts")
        if counts is not None and counts.shape != vectors.shape[:1]:
            raise ValueError(f"counts are {list(counts.shape)}: expected one for each of {len(vectors)} vectors")
        return _words.decoded(arrays["words"]), vectors, counts
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:  # each library has its own
        raise ValueError(f"{path} is damaged, or no file of word vectors: {error}") from error


def _require_no_xz(path: Name) -> None:
    if Path(path).suffix == ".xz":
        raise ValueError(f"{path}: vectors are not written as .xz: expected .gz, which gensim reads, too")


def _words_of_npy(path: Name) -> Path:
    return Path(path).with_suffix(".words.txt")


def _safetensors() -> Any:
    try:
        from safetensors import numpy as safetensors
    except ImportError:
        raise ImportError(".safetensors files need the package safetensors: pip install safetensors") from None
    return safetensors


def _save_word2vec(path: Name, keys: Keys, vectors: Floats, binary: bool) -> None:
    """word2vec's formats: a line "V D"; then on each line a word and its numbers, as text or as float32."""
    for key in keys:
        if isinstance(key, str) and (not key or any(space in key for space in " \n")):
            raise ValueError(
                f"{path}: the word {key!r} is empty, or has a space or a line feed, which end words in word2vec's "
                "formats: expected others; .npz and .safetensors take spaces"
            )
    with replacing(path) as raw:
        if Path(path).suffix == ".gz":
            with gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1, mtime=0) as packed:
                _write_rows(packed.write, keys, vectors, binary)
        else:
            _write_rows(raw.write, keys, vectors, binary)


def _write_rows(write: Callable[[bytes], Any], keys: Keys, vectors: Floats, binary: bool) -> None:
    dim = vectors.shape[1]
    write(f"{len(keys)} {dim}\n".encode())
    line = "%s" + " %.9g" * dim + "\n"  # nine digits tell all float32 numbers apart
    for start in range(0, len(keys), _ROWS):
        words, rows = keys[start : start + _ROWS], np.asarray(vectors[start : start + _ROWS], np.float32)
        if binary:
            write(b"".join(f"{w} ".encode() + row.tobytes() + b"\n" for w, row in zip(words, rows, strict=True)))
        else:
            write("".join(line % (w, *row) for w, row in zip(words, rows.tolist(), strict=True)).encode())


class _Header(NamedTuple):
    words: int
    dim: int


def _header(name: str, line: bytes) -> _Header:
    try:
        words, dim = map(int, line.split())
        if words < 0 or dim < 1:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"{name} begins with {line[:40]!r}: expected a line with two numbers, words and width; is it in word2vec's "
            "format?"
        ) from None
    return _Header(words, dim)


def _load_word2vec(name: str, file: BinaryIO, binary: bool) -> Loaded:
    header = _header(name, file.readline(1000))
    keys: list[str] = []
    parts: list[Floats] = []
    seen: set[str] = set()
    read = _binary_rows if binary else _text_rows
    while len(keys) < header.words:
        words, rows = read(name, file, header, len(keys))
        try:
            decoded = [word.decode() for word in words]
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}, words {len(keys) + 1} on: {error}: expected words in UTF-8") from None
        for word in decoded:
            if word in seen:
                raise ValueError(f"{name} has the word {word!r} twice: expected different words")
            seen.add(word)
        keys += decoded
        parts.append(rows)
    if file.read(100).strip():  # reads the checksum of a compressed file, too
        raise ValueError(f"{name} goes on after {header.words} words: expected as many as its first line says")
    return keys, np.concatenate(parts) if parts else np.zeros((0, header.dim), np.float32), None


def _text_rows(name: str, file: BinaryIO, header: _Header, done: int) -> tuple[list[bytes], Floats]:
    lines = [file.readline() for _ in range(min(_ROWS, header.words - done))]
    split = [line.rstrip().split(b" ") for line in lines]
    for i, fields in enumerate(split):
        if len(fields) != header.dim + 1:
            got = "the file ends" if not lines[i] else f"{len(fields) - 1} numbers"
            raise ValueError(f"{name}, line {done + i + 2}: {got}: expected a word and {header.dim} numbers")
    try:
        rows = np.array([fields[1:] for fields in split], np.float32)
    except ValueError as error:
        raise ValueError(f"{name}, lines {done + 2} to {done + 1 + len(lines)}: {error}: expected numbers") from None
    return [fields[0] for fields in split], rows


def _binary_rows(name: str, file: BinaryIO, header: _Header, done: int) -> tuple[list[bytes], Floats]:
    """Words end at a space; a line feed may stand before them, as word2vec.c writes it, or not, as gensim."""
    count = min(_ROWS, header.words - done)
    words: list[bytes] = []
    rows = np.empty((count, header.dim), np.float32)
    for row in rows:
        word = bytearray()
        while (byte := file.read(1)) not in (b" ", b""):
            word += byte
        got = file.read(row.nbytes)
        if len(got) != row.nbytes:
            raise ValueError(
                f"{name} ends in word {done + len(words) + 1}: expected {header.words} words; is it whole?"
            )
        words.append(bytes(word.lstrip(b"\n")))
        row[:] = np.frombuffer(got, np.float32)
    return words, rows
