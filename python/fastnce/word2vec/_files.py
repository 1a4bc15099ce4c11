"""Output files: a file is written beside the old one, and replaces it when all of it is on the disk."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A file to write to. At the end of the block it is renamed to ``path``, once all of it is on the disk.

    Whatever happens meanwhile, an error or a crash, ``path`` holds the old contents or the new ones, whole. After an
    error nothing is left; a process that is killed leaves ``path.partial``, which the next one overwrites.
    """
    target = Path(os.path.realpath(path))  # a link stays one
    if target.exists() and not target.is_file():  # a pipe or a device has no old contents
        with target.open("wb") as file:
            yield file
        return
    partial = _partial(target)
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # write() does not say where
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_folder(target.parent)


def require_distinct(written: Iterable[str | os.PathLike[str]], read: Iterable[str | os.PathLike[str]]) -> None:
    """Raise ``ValueError`` where a file to write is one that is read, or another one to write."""
    taken = {os.path.realpath(path) for path in read}
    for path in written:
        if os.path.realpath(path) in taken:
            raise ValueError(f"{os.fspath(path)} would replace another file of this run: expected a name of its own")
        taken.add(os.path.realpath(path))


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ".partial")


def _sync_folder(folder: Path) -> None:
    """Put the new name on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise ``OSError`` where :func:`replacing` could not write: to be told before hours of work, not after."""
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "is a folder: expected a file", str(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder", str(target.parent))
    if not os.access(target.parent, os.W_OK):
        raise PermissionError(errno.EACCES, "no permission to write to this folder", str(target.parent))
    if target.is_file() or not target.exists():
        partial = _partial(target)
        there = partial.exists()
        with partial.open("ab"):  # a name that is too long is known only now
            pass
        if not there:
            partial.unlink()
