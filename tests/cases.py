"""Cases of the suite: seeded problems with readable ids, and the golden vectors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

import fastnce
from fastnce import reference
from fastnce._request import with_gradients
from losses import LOSSES, NCE, Loss
from rounding import magnitude, naive_float32
from tolerances import Results, assert_accurate

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
    """``None``: no biases."""
    labels: Any
    """``[B, T]``, or Ragged."""
    inputs: Any
    sampled_values: tuple[ArrayLike, ArrayLike | None, ArrayLike | None]
    num_classes: int
    options: dict[str, Any] = field(default_factory=dict)
    """remove_accidental_hits, padding, partition_strategy, exclude, weights of labels, weights of examples; for the
    gradients also grad_loss."""
    loss: Loss = NCE

    @property
    def batch(self) -> int:
        return len(self.inputs)

    @property
    def num_sampled(self) -> int:
        return np.shape(self.sampled_values[0])[-1]

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the loss's function ``..._and_grad``."""
        ids = self.sampled_values[0]
        sampling = (
            {
                "num_sampled": self.num_sampled,
                "num_classes": self.num_classes,
                "sampled_values": self.sampled_values,
            }
            if self.loss.takes_counts
            else {"sampled_candidates": ids}
        )
        return {
            "weights": self.weights,
            "biases": self.biases,
            "labels": self.labels,
            "inputs": self.inputs,
            **({} if isinstance(self.labels, fastnce.Ragged) else {"num_true": self.labels.shape[1]}),
            **sampling,
            **self.options,
        }

    def solve(self, **changes: Any) -> tuple[NDArray[np.int64], Results]:
        """Row ids and results of the library, with some arguments given differently."""
        loss, grads = self.loss.library()(**{**self.arguments(), **changes})
        return grads.rows.ids, Results.of(loss, grads)

    def truth(self) -> tuple[NDArray[np.int64], Results]:
        """Row ids and results of the float64 twin."""
        samples = self.sampled_values if self.loss.takes_counts else self.sampled_values[0]
        loss, grads = self.loss.twin(self.weights, self.biases, self.labels, self.inputs, samples, **self.options)
        return grads.rows.ids, Results.of(loss, grads)

    def twin_options(self) -> dict[str, Any]:
        """What makes the generic twin, ``reference.sampled_loss_and_grad``, this problem's loss."""
        return {
            "family": self.loss.family,
            "true_target": self.loss.true_target,
            "remove_accidental_hits": self.loss.removes_hits,
            **self.loss.sets(self.batch, self.num_sampled, self.num_classes),
            **self.options,
        }


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
    loss: str = "nce"
    """A name in the table of losses."""
    no_biases: bool = False
    no_counts: bool = False
    """Whether there is no log Q."""
    padded: bool = False
    """Whether some labels, among them all of the first example's, are padding: the id of a class that is sampled, too.
    Their expected counts and their weights are NaN."""
    ragged: bool = False
    """Whether labels are lists of up to ``num_true``, the first of them empty."""
    label_weights: bool = False
    groups: int = 0
    """How many sets of candidates the batch has; 0: one, given as ``[S]``."""
    excluded: bool = False
    """Whether some classes, candidates and labels among them, are excluded for each example."""

    def __str__(self) -> str:
        options = ("remove_hits", "distinct", "no_biases", "no_counts", "padded", "ragged", "label_weights", "excluded")
        flags = [name for name in options if getattr(self, name)]
        sizes = [f"B{self.batch}", f"D{self.dim}", f"S{self.sampled}", f"T{self.num_true}"]
        member = [] if self.loss == "nce" else [self.loss]
        sizes += [f"G{self.groups}"] if self.groups else []
        return "-".join([*member, *sizes, self.dtype, *flags])

    @property
    def num_classes(self) -> int:
        """Few enough that labels and samples collide, in rows and in columns."""
        return self.sampled + 3

    def problem(self) -> Problem:
        rng = np.random.default_rng(self.seed)
        classes = self.num_classes
        loss = LOSSES[self.loss]
        scale = max(self.dim, 1) ** -0.5  # logits of a few units, whatever the width
        weights = (2.0 * scale * rng.standard_normal((classes, self.dim))).astype(self.dtype)
        biases = rng.standard_normal(classes).astype(self.dtype)
        labels = rng.integers(classes, size=(self.batch, self.num_true))
        inputs = rng.standard_normal((self.batch, self.dim)).astype(self.dtype)
        sets = [rng.choice(classes, self.sampled, replace=not self.distinct) for _ in range(max(self.groups, 1))]
        ids = np.stack(sets) if self.groups else sets[0]
        true_count = rng.uniform(0.05, 2.0, (self.batch, self.num_true)).astype(np.float32)
        sampled_count = rng.uniform(0.05, 2.0, ids.shape).astype(np.float32)
        options = {
            "remove_accidental_hits": self.remove_hits,
            **loss.options(self.batch, self.sampled, classes),
        }
        if self.padded:
            options["padding"] = padding = int(ids.flat[0]) if self.sampled else 0
            is_padding = rng.random(labels.shape) < 0.3
            is_padding[:1] = True
            labels[is_padding], true_count[is_padding | (labels == padding)] = padding, np.nan
        label_weights = rng.uniform(0.2, 2.0, labels.shape).astype(np.float32)
        label_weights[np.isnan(true_count)] = np.nan
        if self.excluded:
            options["exclude"] = self._excluded(rng, labels, ids)
        if self.ragged:
            lengths = rng.integers(self.num_true + 1, size=self.batch)
            lengths[:1] = 0
            entries = np.arange(self.num_true) < lengths[:, np.newaxis]
            labels, true_count, label_weights = labels[entries], true_count[entries], label_weights[entries]
            labels = fastnce.Ragged(labels, np.append(0, np.cumsum(lengths)))
        if self.label_weights:
            options["label_weights"] = label_weights
        counted = loss.takes_counts and not self.no_counts
        return Problem(
            weights,
            None if self.no_biases else biases,
            labels,
            inputs,
            (ids, true_count, sampled_count) if counted else (ids, None, None),
            classes,
            options,
            loss,
        )

    def _excluded(
        self, rng: np.random.Generator, labels: NDArray[np.int64], ids: NDArray[np.int64]
    ) -> fastnce.Ragged[NDArray[np.int64]]:
        """For example b, (b + 1) mod 3 of its labels, of its candidates, and of all classes; some stand there twice."""
        sets = np.atleast_2d(ids)
        lists = []
        for b, own in enumerate(labels):
            candidates = sets[b * len(sets) // self.batch]
            drawn = [
                rng.choice(some, (b + 1) % 3) for some in (own, candidates, np.arange(self.num_classes)) if len(some)
            ]
            lists.append(np.concatenate(drawn))
        offsets = np.cumsum([0, *map(len, lists)])
        return fastnce.Ragged(np.concatenate([np.empty(0, np.int64), *lists]), offsets)


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


EVERYTHING: dict[str, Any] = dict(padded=True, ragged=True, label_weights=True, excluded=True, num_true=3)
"""All options of labels and of candidates together."""
_TARGETS_AND_NEGATIVES: list[dict[str, Any]] = [
    dict(ragged=True, num_true=3),
    dict(label_weights=True, num_true=2),
    dict(excluded=True, num_true=2),
    *(dict(groups=groups) for groups in (1, 2, 4)),
    *(dict(groups=groups, **EVERYTHING) for groups in (0, 1, 2, 4)),
    dict(groups=2, remove_hits=True, **EVERYTHING),
    dict(groups=4, remove_hits=True, no_counts=True, no_biases=True, **EVERYTHING),
]


def targets_and_negatives(batch: int, **sizes: Any) -> list[Case]:
    """Every loss with each option of labels and of candidates, and with all of them; ``batch`` is a multiple of 4.

    Among the groups of candidates are one for each example and, of a multiple of 8, one for each 8.
    """
    more = [dict(groups=groups, **EVERYTHING) for groups in sorted({batch, batch // 8} - {0, 1, 2, 4})]
    return [
        Case(batch=batch, loss=loss, **sizes, **options) for loss in LOSSES for options in _TARGETS_AND_NEGATIVES + more
    ]


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


def assert_temperature_divides_products(
    problem: Problem, put_all: Callable[[dict[str, Any]], dict[str, Any]] = dict, get: Callable[[Any], Any] = np.asarray
) -> None:
    """Of a request, as no function with candidates ``[G, S]`` takes it. The twin's inputs are divided, exactly, by a
    power of 2."""
    temperature = 0.25
    fields = problem.arguments() | problem.twin_options() | {"sampled_values": problem.sampled_values}
    fields.pop("sampled_candidates", None)
    fields |= {"num_sampled": problem.num_sampled, "num_classes": problem.num_classes, "temperature": temperature}
    loss, grads = with_gradients(put_all(fields))
    ids, *results = map(get, (grads.rows.ids, loss, grads.inputs, grads.rows.weights, grads.rows.biases))
    actual = Results(*results)
    cooled = replace(problem, inputs=problem.inputs / np.asarray(temperature, problem.inputs.dtype))
    assert_matches_twin((ids, actual._replace(inputs=actual.inputs * temperature)), cooled)


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


def golden_sampler_calls(kind: str = "log_uniform") -> Iterator[GoldenCall]:
    for kernel in (kernel for kernel in GOLDEN["sampler"] if kernel["kind"] == kind):
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


def golden_losses(*kinds: str) -> list[dict[str, Any]]:
    """TensorFlow's losses: "nce", "ssm" (its sampled softmax)."""
    return [case for case in GOLDEN["loss"] if case["kind"] in kinds]


def golden_id(case: dict[str, Any]) -> str:
    flags = [name for name in ("remove_accidental_hits", "unique") if case[name]]
    return "-".join([case["kind"], f"T{case['num_true']}", *flags])


def golden_loss_problem(case: dict[str, Any], dtype: str) -> Problem:
    """The loss and the arrays that TensorFlow was given; see data/README.md."""
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
        LOSSES[{"nce": "nce", "ssm": "softmax"}[case["kind"]]],
    )
