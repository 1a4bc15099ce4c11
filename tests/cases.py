"""Cases of the suite: seeded problems with readable ids, and the golden vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastnce
from fastnce import reference
from tolerances import Results, assert_accurate

Array: TypeAlias = NDArray[np.floating[Any]]

VECTOR_LANES = (4, 8, 16, 32)
TILES = (64, 128, 256)

LENGTHS = sorted(
    {0, 1}
    | {n + off for n in VECTOR_LANES for off in (-1, 0, 1)}
    | {4 * n + 3 for n in VECTOR_LANES}
    | {n + off for n in TILES for off in (-1, 0, 1)}
)
"""Around every vector width and tile size that a kernel may have, and a few vectors plus a tail."""


@dataclass(frozen=True)
class Problem:
    """Everything that one loss call takes."""

    weights: Any
    biases: Any
    labels: NDArray[np.integer[Any]]
    inputs: Any
    sampled_values: tuple[ArrayLike, ArrayLike, ArrayLike]
    num_classes: int
    options: dict[str, Any] = field(default_factory=dict)
    """remove_accidental_hits, partition_strategy; for the gradients also grad_loss."""

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of ``fastnce.nce_loss_and_grad``."""
        return {
            "weights": self.weights,
            "biases": self.biases,
            "labels": self.labels,
            "inputs": self.inputs,
            "num_sampled": len(np.asarray(self.sampled_values[0])),
            "num_classes": self.num_classes,
            "num_true": self.labels.shape[1],
            "sampled_values": self.sampled_values,
            **self.options,
        }

    def solve(self, **changes: Any) -> tuple[NDArray[np.int64], Results]:
        """Row ids and results of the library, with some arguments given differently."""
        loss, grads = fastnce.nce_loss_and_grad(**{**self.arguments(), **changes})
        return grads.rows.ids, Results.of(loss, grads)

    def truth(self) -> tuple[NDArray[np.int64], Results]:
        """Row ids and results of the float64 twin."""
        loss, grads = reference.nce_loss_and_grad(
            self.weights, self.biases, self.labels, self.inputs, self.sampled_values, **self.options
        )
        return grads.rows.ids, Results.of(loss, grads)


@dataclass(frozen=True)
class Case:
    """Sizes and options of a random problem; ``str()`` is its id."""

    batch: int = 5
    dim: int = 8
    sampled: int = 7
    num_true: int = 1
    dtype: str = "float32"
    remove_hits: bool = False
    distinct: bool = False
    """Whether no class is sampled twice. Either way some samples are true classes."""
    seed: int = 0

    def __str__(self) -> str:
        flags = [name for name in ("remove_hits", "distinct") if getattr(self, name)]
        sizes = [f"B{self.batch}", f"D{self.dim}", f"S{self.sampled}", f"T{self.num_true}"]
        return "-".join([*sizes, self.dtype, *flags])

    @property
    def num_classes(self) -> int:
        """Few enough that labels and samples collide, in rows and in columns."""
        return self.sampled + 3

    def problem(self) -> Problem:
        rng = np.random.default_rng(self.seed)
        classes = self.num_classes
        scale = max(self.dim, 1) ** -0.5  # logits of a few units, whatever the width
        return Problem(
            weights=(2.0 * scale * rng.standard_normal((classes, self.dim))).astype(self.dtype),
            biases=rng.standard_normal(classes).astype(self.dtype),
            labels=rng.integers(classes, size=(self.batch, self.num_true)),
            inputs=rng.standard_normal((self.batch, self.dim)).astype(self.dtype),
            sampled_values=(
                rng.choice(classes, self.sampled, replace=not self.distinct),
                rng.uniform(0.05, 2.0, (self.batch, self.num_true)).astype(np.float32),
                rng.uniform(0.05, 2.0, self.sampled).astype(np.float32),
            ),
            num_classes=classes,
            options={"remove_accidental_hits": self.remove_hits},
        )


EMPTY: list[dict[str, int]] = [
    dict(batch=0),
    dict(dim=0),
    dict(sampled=0),
    dict(num_true=0),
    dict(num_true=0, sampled=0),
    dict(batch=0, dim=0, sampled=0, num_true=0),
    dict(batch=0, sampled=0),
]
"""Problems without examples, columns, samples or true classes."""


def sizes_id(sizes: dict[str, int]) -> str:
    return "-".join(f"{axis}{n}" for axis, n in sizes.items())


def shape_sweep(dtype: str, rotations: int) -> list[Case]:
    """Every length once per rotation as B, as D and as S, each time beside other lengths.

    The strides are coprime to the number of lengths, so that within a rotation no length of an axis repeats,
    and between rotations no pair of lengths does: most of what a full product would find, for a hundredth of
    its cases.
    """
    n = len(LENGTHS)
    return [
        Case(
            batch=LENGTHS[i],
            dim=LENGTHS[(5 * i + 3 * turn + 1) % n],
            sampled=LENGTHS[(7 * i + 11 * turn + 2) % n],
            num_true=1 + (i + turn) % 4,
            dtype=dtype,
            remove_hits=bool((i + turn) % 2),
            distinct=bool((i // 2 + turn) % 2),
            seed=turn * n + i,
        )
        for turn in range(rotations)
        for i in range(n)
    ]


class _Terms(NamedTuple):
    """A problem's operands in one dtype, dense; pairs are (of the true classes, of the sampled classes)."""

    x: Array
    w: tuple[Array, Array]
    c: tuple[Array, Array]
    log_q: tuple[Array, Array]
    kept: Array
    """0 where a sampled class is skipped as an accidental hit, else 1."""
    upstream: Array

    @classmethod
    def of(cls, problem: Problem, dtype: type[np.floating[Any]]) -> _Terms:
        y, (z, *counts) = problem.labels, problem.sampled_values
        w, c = np.asarray(problem.weights, dtype), np.asarray(problem.biases, dtype)
        hits = (y[:, :, np.newaxis] == z).any(axis=1) & problem.options.get("remove_accidental_hits", False)
        true_log, sampled_log = (np.log(np.asarray(count, dtype)) for count in counts)
        upstream = np.asarray(problem.options.get("grad_loss", np.ones(len(y))), dtype)
        x = np.asarray(problem.inputs, dtype)
        return cls(x, (w[y], w[z]), (c[y], c[z]), (true_log, sampled_log), (~hits).astype(dtype), upstream)

    def affine(self) -> tuple[Array, Array]:
        """``x.w + c`` of the true and of the sampled classes."""
        return np.vecdot(self.x[:, np.newaxis], self.w[0]) + self.c[0], self.x @ self.w[1].T + self.c[1]

    def absolute(self) -> _Terms:
        pairs = ((np.abs(a), np.abs(b)) for a, b in (self.w, self.c, self.log_q))
        return _Terms(np.abs(self.x), *pairs, self.kept, np.abs(self.upstream))

    def backward(self, problem: Problem, du: Array, dv: Array) -> tuple[Array, Array, Array]:
        """The sums over examples and classes behind dx, dw and dc."""
        du, dv = du * self.upstream[:, np.newaxis], dv * self.kept * self.upstream[:, np.newaxis]
        classes = np.concatenate([problem.labels.ravel(), problem.sampled_values[0]])
        ids, row = np.unique(classes, return_inverse=True)
        dw, dc = np.zeros((len(ids), self.x.shape[1]), du.dtype), np.zeros(len(ids), du.dtype)
        dw_true = (du[:, :, np.newaxis] * self.x[:, np.newaxis]).reshape(du.size, self.x.shape[1])
        np.add.at(dw, row, np.concatenate([dw_true, dv.T @ self.x]))
        np.add.at(dc, row, np.concatenate([du.ravel(), dv.sum(axis=0)]))
        return np.einsum("bt,btd->bd", du, self.w[0]) + dv @ self.w[1], dw, dc


def naive_float32(problem: Problem) -> Results:
    """The formulas of the twin as a careful NumPy user would type them, every operation in float32."""
    terms = _Terms.of(problem, np.float32)
    u, v = (logit - log_q for logit, log_q in zip(terms.affine(), terms.log_q, strict=True))
    target = np.float32(1 / max(problem.labels.shape[1], 1))
    softplus_u, softplus_v = np.logaddexp(np.float32(0), u), np.logaddexp(np.float32(0), v)
    loss = (softplus_u - u * target).sum(axis=1) + (softplus_v * terms.kept).sum(axis=1)
    return Results(loss, *terms.backward(problem, np.exp(u - softplus_u) - target, np.exp(v - softplus_v)))


def magnitude(problem: Problem) -> Results:
    """How large the terms are that make up each element: its rounding errors are a few epsilon times this.

    A logit l = x.w + c - log Q is uncertain by epsilon times L, the sum of its terms' magnitudes. That moves
    softplus(l) by sigmoid(l) L, and sigmoid(l) by sigmoid(l) (1 - sigmoid(l)) L; the sums carry it on.
    """
    terms = _Terms.of(problem, np.float64)
    absolute = terms.absolute()
    u, v = (logit - log_q for logit, log_q in zip(terms.affine(), terms.log_q, strict=True))
    size_u, size_v = (a + log_q for a, log_q in zip(absolute.affine(), absolute.log_q, strict=True))
    p_u, p_v = reference.sigmoid(u), reference.sigmoid(v)
    target = 1 / max(problem.labels.shape[1], 1)
    loss_u = reference.softplus(u) + np.abs(u) * target + size_u * (p_u + target)
    loss_v = (reference.softplus(v) + size_v * p_v) * terms.kept
    du, dv = p_u + target + size_u * p_u * (1 - p_u), p_v + size_v * p_v * (1 - p_v)
    return Results(loss_u.sum(axis=1) + loss_v.sum(axis=1), *absolute.backward(problem, du, dv))


def assert_matches_twin(
    solution: tuple[ArrayLike, Results],
    problem: Problem,
    precision: str = "highest",
    logits_precision: str | None = None,
) -> None:
    """Row ids equal the twin's, and every element is as accurate as :func:`tolerances.assert_accurate` asks.

    The results may come from another layout of the same tables: ``problem`` holds them dense.
    """
    ids, actual = solution
    true_ids, truth = problem.truth()
    np.testing.assert_array_equal(ids, true_ids)
    naive = naive_float32(problem) if actual.loss.dtype == np.float32 else None
    assert_accurate(actual, truth, magnitude(problem), naive, precision, logits_precision)


GOLDEN = json.loads((Path(__file__).parent / "data" / "tf_golden.json").read_text())


@dataclass(frozen=True)
class GoldenCall:
    """One call of one of TensorFlow's sampler kernels."""

    arguments: dict[str, Any]
    """num_true, num_sampled, unique, range_max, seed (a pair)."""
    call: int
    true_classes: list[list[int]]
    expected: reference.SampledValues


def golden_sampler_calls() -> Iterator[GoldenCall]:
    for kernel in GOLDEN["sampler"]:
        arguments = {k: v for k, v in kernel["args"].items() if k != "seed2"}
        arguments["seed"] = (kernel["args"]["seed"], kernel["args"]["seed2"])
        for number, call in enumerate(kernel["calls"]):
            true_count, sampled_count = (
                np.array(call[name], np.uint32).view(np.float32) for name in ("true_ec_u32", "sampled_ec_u32")
            )
            expected = reference.SampledValues(
                np.array(call["ids"], np.int64), true_count.reshape(-1, arguments["num_true"]), sampled_count
            )
            yield GoldenCall(arguments, number, call["true"], expected)


def golden_loss_problem(case: dict[str, Any], dtype: str) -> Problem:
    """The arrays that TensorFlow was given; see data/README.md."""
    batch, dim, classes = case["B"], case["D"], case["V"]
    weights, biases, inputs = (
        np.sin(step * np.arange(1, size + 1)).astype(dtype)
        for step, size in ((0.7, classes * dim), (0.3, classes), (1.1, batch * dim))
    )
    return Problem(
        weights.reshape(classes, dim),
        biases,
        np.array(case["labels"]),
        inputs.reshape(batch, dim),
        (np.array(case["ids"]), case["true_ec"], case["sampled_ec"]),
        classes,
        {"remove_accidental_hits": case["remove_accidental_hits"]},
    )
