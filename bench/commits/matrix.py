"""Calls whose results two commits must agree on to the bit, each under a readable name."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import fastnce

Arrays = dict[str, NDArray[Any]]

DTYPES: dict[str, Any] = {
    "float32": np.float32,
    "float64": np.float64,
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
}
LEVELS = ("highest", "high", "medium")
TRUE_CLASSES = (1, 5)
# (B, D, S): one element, then around vectors of 4 to 32 lanes and tiles of 64, 128 and 256.
SHAPES = ((1, 1, 1), (5, 8, 7), (33, 64, 65), (64, 128, 256), (65, 127, 257), (3, 513, 31), (130, 100, 300))
# What else a call may ask for, on one shape.
OPTIONS_SHAPE = (70, 65, 130)
OPTIONS = ("grad_loss", "pad_rows", "grad_dtype", "div shards", "mod shards")
# (V, S, unique, T): few classes, all of them, many, beyond 32 bits.
SAMPLERS = ((50, 8, True, 2), (50, 50, True, 1), (50_000, 64, False, 1), (10**6, 8192, True, 5), (2**40, 1000, True, 1))
CALLS = 3


def cases() -> Iterator[tuple[str, Callable[[], Arrays]]]:
    """Names, and functions that compute; random numbers depend on the name alone."""
    axes = (DTYPES, LEVELS, (False, True), TRUE_CLASSES, (False, True))
    for shape in SHAPES:
        for dtype, level, remove_hits, num_true, drawn in itertools.product(*axes):
            flags = ["hits removed"] * remove_hits + ["drawn" if drawn else "given"]
            name = ", ".join(["B{} D{} S{}".format(*shape), f"T{num_true}", dtype, level, *flags])
            yield name, _loss(name, shape, dtype, level, remove_hits, num_true, drawn, None)
    for dtype, option in itertools.product(DTYPES, OPTIONS):
        name = f"{dtype}, {option}"
        yield name, _loss(name, OPTIONS_SHAPE, dtype, "highest", True, 2, False, option)
    for V, S, unique, T in SAMPLERS:
        name = f"log-uniform sampler, V{V} S{S} T{T}" + ", unique" * unique
        yield name, _sampler(name, V, S, unique, T)
    yield "accidental hits", _hits


def _random(name: str) -> np.random.Generator:
    return np.random.default_rng(list(name.encode()))


def _loss(
    name: str,
    shape: tuple[int, int, int],
    dtype: str,
    level: str,
    remove_hits: bool,
    num_true: int,
    drawn: bool,
    option: str | None,
) -> Callable[[], Arrays]:
    def compute() -> Arrays:
        rng = _random(name)
        B, D, S = shape
        V = 2 * S + 3  # few enough for hits
        weights = (rng.standard_normal((V, D)) * 2 / D**0.5).astype(DTYPES[dtype])
        biases = rng.standard_normal(V).astype(DTYPES[dtype])
        inputs = rng.standard_normal((B, D)).astype(DTYPES[dtype])
        labels = rng.integers(V, size=(B, num_true))
        counts = (rng.uniform(0.05, 2.0, size).astype(np.float32) for size in ((B, num_true), S))
        values = (rng.integers(V, size=S), *counts)
        extra: dict[str, Any] = {}
        tables: tuple[Any, Any] = (weights, biases)
        match option:
            case "grad_loss":
                extra = {"grad_loss": rng.standard_normal(B).astype(np.float64 if dtype == "float64" else np.float32)}
            case "pad_rows":
                extra = {"pad_rows": True}
            case "grad_dtype" if dtype != "float64":
                extra = {"grad_dtype": "float32"}
            case "div shards":
                tables = tuple(np.array_split(table, 5) for table in tables)
            case "mod shards":
                extra = {"partition_strategy": "mod"}
                tables = tuple([np.ascontiguousarray(table[i::5]) for i in range(5)] for table in tables)
        arguments = (*tables, labels, inputs, S, V, num_true, None if drawn else values, remove_hits)
        keywords = {"precision": level, "seed": (7, 8) if drawn else None, **extra}
        loss, grads = fastnce.nce_loss_and_grad(*arguments, **keywords)
        for name_of_gradients in ("grad_loss", "pad_rows", "grad_dtype"):
            keywords.pop(name_of_gradients, None)
        alone = fastnce.nce_loss(*arguments, **keywords)
        rows = {f"rows.{field}": value for field, value in grads.rows._asdict().items()}
        return {"argument weights": weights, "loss alone": alone, "loss": loss, "inputs": grads.inputs, **rows}

    return compute


def _sampler(name: str, V: int, S: int, unique: bool, T: int) -> Callable[[], Arrays]:
    def compute() -> Arrays:
        labels = _random(name).integers(V, size=(4, T))
        sampler = fastnce.LogUniformSampler(V, S, num_true=T, unique=unique, seed=(3, 4))
        results: Arrays = {}
        for call in range(CALLS):
            results |= {f"{field} {call}": value for field, value in sampler(labels)._asdict().items()}
        once = fastnce.log_uniform_candidate_sampler(labels, T, S, unique, V, seed=5)
        return results | {f"{field} of the function": value for field, value in once._asdict().items()}

    return compute


def _hits() -> Arrays:
    rng = _random("hits")
    rows = fastnce.compute_accidental_hits(rng.integers(20, size=(9, 3)), rng.integers(20, size=30), 3)
    return dict(zip(("rows", "positions", "weights"), rows, strict=True))


def digest(array: NDArray[Any]) -> str:
    """Of dtype, shape and every bit."""
    data = np.ascontiguousarray(array)
    return hashlib.sha256(f"{data.dtype} {data.shape} ".encode() + data.tobytes()).hexdigest()[:16]
