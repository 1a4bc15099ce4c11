"""Checkpoints: a file from which a run goes on, an .npz of NumPy whose checksums show whether it is whole."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import time
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnce.word2vec import _words
from fastnce.word2vec._files import replacing
from fastnce.word2vec._options import Options

if TYPE_CHECKING:
    from fastnce.word2vec._training import Training

_VERSION = 1


class Schedule:
    """Where checkpoints are written, and when."""

    def __init__(self, path: str | os.PathLike[str], seconds: float) -> None:
        self.path = os.fspath(path)
        self._seconds = seconds
        self._written = time.monotonic()

    def due(self) -> bool:
        """Whether the last one is old enough."""
        return time.monotonic() - self._written >= self._seconds

    def write(self, training: Training) -> None:
        """Replace the last checkpoint by this state, which must be finite."""
        training.require_finite()
        state = {
            "version": _VERSION,
            "options": dataclasses.asdict(training.options),
            "text": training.corpus.digest,
            "position": training.position,
            "loss": training.loss,
            "pairs": training.pairs,
            "losses": training.losses,
            "untrained": training.untrained,
        }
        arrays = {
            "state": np.frombuffer(json.dumps(state).encode(), np.uint8),
            "words": _words.encoded(training.corpus.words),
            "counts": training.corpus.counts,
            "vectors": training.vectors,
            "outputs": training.outputs,
        }
        with replacing(self.path) as file:
            np.savez(file, **arrays)
        self._written = time.monotonic()


def require(path: str | os.PathLike[str], options: Options) -> None:
    """Raise unless there is a checkpoint of a run with these options: to be told before the text is read."""
    name = os.fspath(path)
    if not os.path.exists(name):
        raise FileNotFoundError(errno.ENOENT, "no such checkpoint: expected one to resume from", name)
    state = _state(name)
    if state["version"] != _VERSION:
        raise ValueError(f"{name} is of version {state['version']}: expected {_VERSION}, that of this fastnce")
    differences = options.differences(Options(**state["options"]))
    if differences:
        raise ValueError(f"{name} is of a run with other options: expected the same; here {', '.join(differences)}")


def require_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise where a checkpoint would replace a file that is none: to be told before the text is read."""
    name = os.fspath(path)
    if not os.path.isfile(name):  # nothing, or a device
        return
    try:
        _state(name)
    except ValueError as error:
        raise ValueError(
            f"{name} exists and is no checkpoint of fastnce, or is damaged: expected a new file; choose another name"
        ) from error


def resume(path: str | os.PathLike[str], training: Training) -> None:
    """Bring a new run to the state of a checkpoint, which must be of the same text and options."""
    require(path, training.options)
    name = os.fspath(path)
    state = _state(name)
    with _members(name) as arrays:
        words = _words.decoded(arrays["words"])
    if state["text"] != training.corpus.digest or words != training.corpus.words:
        raise ValueError(f"{name} is of a run with another text: expected the same files in the same order")
    with _members(name) as arrays:
        training.vectors[:] = arrays["vectors"]
        training.outputs[:] = arrays["outputs"]
    training.position = state["position"]
    training.loss, training.pairs, training.losses = state["loss"], state["pairs"], state["losses"]
    training.untrained = state["untrained"]


def _state(name: str) -> dict[str, Any]:
    """All of a checkpoint but its arrays."""
    with _members(name) as arrays:
        state: dict[str, Any] = json.loads(arrays["state"].tobytes())
        state["version"]  # raises where another program has written the file
    return state


@contextlib.contextmanager
def _members(name: str) -> Iterator[Any]:
    """The arrays of a checkpoint. Raises ``ValueError`` where it is damaged."""
    try:
        with open(name, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            yield arrays
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, TypeError) as error:  # TypeError: an .npy file
        raise ValueError(f"{name} is damaged, or no checkpoint: {error}") from error
