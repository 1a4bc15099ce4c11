"""A loss whose classes are spread over several calls (csrc/include/fastnce/loss.h, ``OtherParts``): requests, their
parts, and what the parts give together, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastnce
from cuda_arrays import CudaArrays
from fastnce._request import compute_part
from halves import HALVES
from tolerances import PARTS_RELATIVE

V, D, B, S = 50, 7, 21, 33
PADDING = -1
LOSSES = {
    "nce": {"family": "logistic", "true_target": "mean"},
    "sampled softmax": {"family": "softmax", "true_target": "mean"},
    "every label a target of 1": {"family": "softmax", "true_target": "one"},
    "weights": {"family": "logistic", "true_target": "one", "positive_weight": 0.7, "negative_weight": 1.3},
}
NAMES = ("loss", "grad_inputs", "rows", "grad_weights", "grad_biases", "log_sum_exp")

Fields: TypeAlias = dict[str, Any]
Compute: TypeAlias = Callable[[Fields], dict[str, Any]]
"""Results of a request, by ``NAMES``."""


def on_host(fields: Fields) -> dict[str, Any]:
    return dict(zip(NAMES, compute_part(dict(fields)), strict=True))


def on_device(arrays: CudaArrays) -> Compute:
    """What puts the arrays of a request on a CUDA device and brings the results back."""

    def compute(fields: Fields) -> dict[str, Any]:
        results = compute_part(arrays.put_all(fields))
        return {
            name: None if result is None else arrays.get(result) for name, result in zip(NAMES, results, strict=True)
        }

    return compute


def modulo(parts: int) -> NDArray[np.int64]:
    """Which part each class belongs to: class k to part k mod ``parts``."""
    return np.arange(V) % parts


UNEVEN = np.repeat([0, 1, 2], [1, V - 10, 9])
"""Likewise. Few examples have a label in the smallest part, which has next to no samples."""

OPTIONS = {
    "padding": dict(padded=True),
    "a set of samples for 3 examples": dict(groups=7),
    "a set for each": dict(groups=B),
    "a set for each, padding": dict(groups=B, padded=True),
}
"""Of `request_of`. With these the classes may be split by `modulo` 2, 7 and 14, where all sets have as many samples of
a part."""


def request_of(
    dtype: str, *, weighted: bool, hits: bool, groups: int | None = None, padded: bool = False, seed: int = 3
) -> Fields:
    """Labels in lists, of which some are empty, or padded; more samples than lanes, some of them twice."""
    rng = np.random.default_rng(seed)
    if padded:
        labels = np.where(rng.random((B, 4)) < 0.5, rng.integers(0, V, (B, 4)), PADDING)
        labels[5] = PADDING
    else:
        counts = rng.integers(0, 5, B)
        labels = rng.integers(0, V, counts.sum())
    sampled = rng.integers(0, 14, S) + 14 * rng.integers(0, 3, S if groups is None else (groups, S))
    exclude_counts = rng.integers(0, 4, B)
    kind = HALVES.get(dtype, dtype)
    fields = {
        "weights": rng.normal(size=(V, D)).astype(kind),
        "biases": rng.normal(size=V).astype(kind),
        "inputs": rng.normal(size=(B, D)).astype(kind),
        "labels": labels if padded else fastnce.Ragged(labels, np.append(0, counts.cumsum())),
        "exclude": fastnce.Ragged(rng.integers(0, V, exclude_counts.sum()), np.append(0, exclude_counts.cumsum())),
        "sampled_values": (sampled, rng.uniform(0.1, 2, labels.shape), rng.uniform(0.1, 2, sampled.shape)),
        "grad_loss": rng.normal(size=B).astype("float64" if dtype == "float64" else "float32"),
        "remove_accidental_hits": hits,
        "gradients": (True, True, True),
    }
    if padded:
        fields |= {"padding": PADDING, "num_true": labels.shape[1]}
    if dtype in HALVES:
        fields["grad_dtype"] = "float32"
    return fields | ({"label_weights": rng.uniform(0.5, 2, labels.shape)} if weighted else {})


def label_counts(whole: Fields) -> NDArray[np.int64]:
    labels = whole["labels"]
    return np.diff(labels.offsets) if isinstance(labels, fastnce.Ragged) else (labels != PADDING).sum(1)


def _weight_sums(whole: Fields) -> NDArray[np.float64]:
    labels, weights = whole["labels"], whole["label_weights"]
    if isinstance(labels, fastnce.Ragged):
        return np.bincount(np.repeat(np.arange(B), np.diff(labels.offsets)), weights, minlength=B)
    return np.where(labels == PADDING, 0.0, weights).sum(1)


def part_of(whole: Fields, owners: NDArray[np.int64], part: int) -> Fields:
    """The request for the classes of a part, as a table of their own."""
    is_own = owners == part
    place = is_own.cumsum() - 1  # in the table of the part

    def own_lists(lists: fastnce.Ragged) -> fastnce.Ragged:
        mask = is_own[lists.values]
        return fastnce.Ragged(place[lists.values[mask]], np.append(0, mask.cumsum())[lists.offsets])

    def per_label(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return values[is_own[labels.values]] if isinstance(labels, fastnce.Ragged) else values

    labels, (sampled, true_count, sampled_count) = whole["labels"], whole["sampled_values"]
    own_samples = is_own[sampled.reshape(-1, S)[0]]
    if sampled.ndim == 2:  # [G, S] stays one array
        assert (is_own[sampled] == own_samples).all()
    fields = whole | {
        "weights": whole["weights"][is_own],
        "biases": whole["biases"][is_own],
        "labels": own_lists(labels)
        if isinstance(labels, fastnce.Ragged)
        else np.where((labels != PADDING) & is_own[labels], place[labels], PADDING),
        "exclude": own_lists(whole["exclude"]),
        "sampled_values": (
            place[sampled.compress(own_samples, axis=-1)],
            per_label(true_count),
            sampled_count.compress(own_samples, axis=-1),
        ),
        "label_counts": label_counts(whole),
    }
    if "label_weights" not in whole:
        return fields
    sums = {"label_weight_sums": _weight_sums(whole)} if whole["family"] == "softmax" else {}
    return fields | {"label_weights": per_label(whole["label_weights"]), **sums}


def in_parts(whole: Fields, owners: NDArray[np.int64], compute: Compute) -> dict[str, Any]:
    """The loss of all parts: shares added up, rows put together."""
    requests = [part_of(whole, owners, part) for part in range(owners.max() + 1)]
    if whole["family"] == "softmax":
        sums = np.stack([compute(request | {"log_sum_exp": True})["log_sum_exp"] for request in requests])
        for part, request in enumerate(requests):
            request["other_log_sum_exp"] = np.logaddexp.reduce(np.delete(sums, part, 0), axis=0, initial=-np.inf)
    results = [compute(request) for request in requests]
    total = {name: sum(result[name] for result in results) for name in ("loss", "grad_inputs")}
    ids = np.concatenate([np.flatnonzero(owners == part)[result["rows"]] for part, result in enumerate(results)])
    order = np.argsort(ids)
    rows = {name: np.concatenate([result[name] for result in results])[order] for name in NAMES[3:5]}
    return total | {"rows": ids[order]} | rows


def assert_parts_add_up(whole: Fields, owners: NDArray[np.int64], compute: Compute) -> None:
    expected, got = compute(whole), in_parts(whole, owners, compute)
    np.testing.assert_array_equal(got["rows"], expected["rows"])
    for name in ("loss", "grad_inputs", "grad_weights", "grad_biases"):
        tolerance = PARTS_RELATIVE[expected[name].dtype.name] * np.abs(expected[name]).max()
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


def samples_and_labels_apart(whole: Fields, compute: Compute) -> dict[str, Any]:
    """Two parts of the same classes: the samples as a table with keys, where classes that are labels are excluded."""
    labels, exclude, (sampled, true_count, sampled_count) = (
        whole[name] for name in ("labels", "exclude", "sampled_values")
    )
    removed = [
        np.concatenate([labels.values[labels.offsets[b] : labels.offsets[b + 1]], own])
        for b, own in enumerate(np.split(exclude.values, exclude.offsets[1:-1]))
    ]
    of_samples = whole | {
        "weights": whole["weights"][sampled],
        "biases": whole["biases"][sampled],
        "labels": fastnce.Ragged(labels.values[:0], np.zeros(B + 1, int)),
        "exclude": fastnce.Ragged(np.concatenate(removed), np.append(0, np.cumsum([len(own) for own in removed]))),
        "class_keys": sampled,
        "sampled_values": (np.arange(S), true_count[:0], sampled_count),
        "label_counts": label_counts(whole),
    }
    of_labels = whole | {
        "sampled_values": (sampled[:0], true_count, sampled_count[:0]),
        "label_counts": label_counts(whole),
    }
    if whole["family"] == "softmax":
        sums = [compute(request | {"log_sum_exp": True})["log_sum_exp"] for request in (of_samples, of_labels)]
        of_labels["other_log_sum_exp"], of_samples["other_log_sum_exp"] = sums
    first, second = compute(of_samples), compute(of_labels)
    grad_weights = np.zeros((V, D), whole["weights"].dtype)
    np.add.at(grad_weights, sampled, first["grad_weights"])
    np.add.at(grad_weights, second["rows"], second["grad_weights"])
    return {name: first[name] + second[name] for name in ("loss", "grad_inputs")} | {"grad_weights": grad_weights}


def log_sum_exp(whole: Fields) -> NDArray[np.float64]:
    """Of all logits of each example, in float64; 0 where it has no labels. No samples are removed."""
    labels, (sampled, true_count, sampled_count) = whole["labels"], whole["sampled_values"]
    logits = whole["inputs"].astype(float) @ whole["weights"].T.astype(float) + whole["biases"]
    expected = np.zeros(B)
    for b in np.flatnonzero(np.diff(labels.offsets)):
        own = slice(labels.offsets[b], labels.offsets[b + 1])
        u = logits[b, labels.values[own]] - np.log(true_count[own])
        v = logits[b, sampled] - np.log(sampled_count)
        expected[b] = np.logaddexp.reduce(np.concatenate([u, v]))
    return expected


OTHERS_OF_ANY_SIZE = (-np.inf, -1e30, -1e4, 1e4, 1e30, 3e38)


def assert_finite_beside(others: float, compute: Compute) -> None:
    whole = request_of("float32", weighted=False, hits=False) | LOSSES["sampled softmax"]
    part = {"label_counts": label_counts(whole), "other_log_sum_exp": np.full(B, others), "log_sum_exp": True}
    result = compute(whole | part)
    for name in ("loss", "grad_inputs", "grad_weights", "log_sum_exp"):
        assert np.isfinite(result[name]).all(), name


def masked() -> Fields:
    """All classes at -1e30, as tables mask classes."""
    whole = request_of("float32", weighted=False, hits=False) | LOSSES["sampled softmax"]
    return whole | {"weights": np.zeros((V, D), "float32"), "biases": np.full(V, -1e30, "float32")}
