"""Losses over all classes, and ranks of scores, whose classes are spread over several calls: requests, their parts, and
what the parts give together, on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import fastnce
from cuda_arrays import CudaArrays
from fastnce import _core
from fastnce._all_classes import run
from parts import PADDING, B, Fields, S, V, part_of, request_of
from tolerances import PARTS_RELATIVE

LOSSES = {
    "softmax": {"family": "softmax", "true_target": "mean"},
    "softmax of targets of 1": {"family": "softmax", "true_target": "one"},
    "sigmoid": {"family": "logistic", "true_target": "one"},
    "sigmoid of a mean": {"family": "logistic", "true_target": "mean"},
}
NAMES = ("loss", "grad_inputs", "grad_weights", "grad_biases", "log_sum_exp")

Call: TypeAlias = Callable[..., Any]
"""Calls a function of the core with a request and more arguments, arrays or not; NumPy arrays."""


def on_host(function: Callable[..., Any], fields: Fields, *more: Any) -> Any:
    return run(function, dict(fields), *more)[0]


def on_device(arrays: CudaArrays) -> Call:
    """Puts all arrays on a CUDA device and brings the results back."""

    def call(function: Callable[..., Any], fields: Fields, *more: Any) -> Any:
        results, _ = run(function, arrays.put_all(fields), *(None if of is None else arrays.put(of) for of in more))
        if not isinstance(results, tuple):
            return arrays.get(results)
        return tuple(None if result is None else arrays.get(result) for result in results)

    return call


def full_request(dtype: str, loss: str, **options: Any) -> Fields:
    """A request over all classes. `part_of` needs samples, which `compute` drops."""
    fields = request_of(dtype, hits=False, **options) | LOSSES[loss]
    labels = fields["labels"]
    of_labels = labels.values if isinstance(labels, fastnce.Ragged) else labels
    del fields["remove_accidental_hits"]
    return fields | {"sampled_values": (np.zeros(S, int), np.ones(of_labels.shape), np.ones(S))}


def compute(call: Call, fields: Fields, **more: Any) -> dict[str, Any]:
    fields = {name: field for name, field in (fields | more).items() if name != "sampled_values"}
    return dict(zip(NAMES, call(_core.full_loss, fields, None, None), strict=True))


def in_parts(whole: Fields, owners: NDArray[np.int64], call: Call) -> dict[str, Any]:
    """The loss of all parts: shares added up, gradients of rows where these belong."""
    requests = [part_of(whole, owners, part) for part in range(owners.max() + 1)]
    if whole["family"] == "softmax":
        sums = np.stack([compute(call, request, log_sum_exp=True)["log_sum_exp"] for request in requests])
        for part, request in enumerate(requests):
            request["other_log_sum_exp"] = np.logaddexp.reduce(np.delete(sums, part, 0), axis=0, initial=-np.inf)
    results = [compute(call, request) for request in requests]
    total = {name: sum(result[name] for result in results) for name in ("loss", "grad_inputs")}
    for name in ("grad_weights", "grad_biases"):
        total[name] = np.empty((V, *results[0][name].shape[1:]), results[0][name].dtype)
        for part, result in enumerate(results):
            total[name][owners == part] = result[name]
    return total


def assert_parts_add_up(whole: Fields, owners: NDArray[np.int64], call: Call) -> None:
    expected, got = compute(call, whole), in_parts(whole, owners, call)
    for name in ("loss", "grad_inputs", "grad_weights", "grad_biases"):
        tolerance = PARTS_RELATIVE[expected[name].dtype.name] * np.abs(expected[name]).max()
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


def assert_log_sum_exp_is_that_of_all_classes_that_are_not_excluded(dtype: str, call: Call) -> None:
    whole = full_request(dtype, "softmax", weighted=False)
    got = compute(call, whole, log_sum_exp=True)["log_sum_exp"]
    assert got.dtype == np.float64
    scores = whole["inputs"].astype(float) @ whole["weights"].T.astype(float) + whole["biases"]
    labels, exclude = whole["labels"], whole["exclude"]
    for b in range(B):
        own, excluded = (lists.values[slice(*lists.offsets[b : b + 2])] for lists in (labels, exclude))
        left = np.setdiff1d(np.arange(V), np.setdiff1d(excluded, own))
        expected = np.logaddexp.reduce(scores[b, left]) if len(own) else 0.0
        np.testing.assert_allclose(got[b], expected, rtol=PARTS_RELATIVE[dtype], atol=0)


def assert_finite_beside(others: float, call: Call) -> None:
    whole = full_request("float32", "softmax", weighted=False)
    counts = np.diff(whole["labels"].offsets)
    result = compute(call, whole, label_counts=counts, other_log_sum_exp=np.full(B, others), log_sum_exp=True)
    assert all(np.isfinite(values).all() for values in result.values())


def assert_a_certain_label_keeps_its_digits(
    dtype: str, scale: float, losses: tuple[float, float], relative: float, call: Call
) -> None:
    """Its loss, some between `losses`, is the share of the other classes, of which most are in other parts. A label's
    row is `scale` times the example's inputs."""
    labels = np.arange(B)
    whole = full_request(dtype, "softmax", weighted=False)
    none = fastnce.Ragged(labels[:0], np.zeros(B + 1, int))
    whole |= {"labels": fastnce.Ragged(labels, np.arange(B + 1)), "exclude": none}
    whole["sampled_values"] = (np.zeros(S, int), np.ones(B), np.ones(S))
    whole["weights"][:B] = scale * whole["inputs"]
    expected, got = compute(call, whole)["loss"], in_parts(whole, np.arange(V) % 3, call)["loss"]
    assert ((expected > losses[0]) & (expected < losses[1])).sum() > 2
    np.testing.assert_allclose(got, expected, rtol=relative, atol=relative * losses[0])


def assert_ranks_of_scores_add_up_to_ranks_of_labels(
    dtype: str, owners: NDArray[np.int64], call: Call, **options: Any
) -> None:
    """1 + the competitors in all parts; a label that competes itself ties with itself. With equal rows, and padding."""
    names = ("weights", "biases", "inputs", "labels", "exclude")
    fields = {name: request_of(dtype, weighted=False, hits=False)[name] for name in names} | options
    for name in ("weights", "biases"):
        fields[name][V // 2 :] = fields[name][: V - V // 2]
    labels, exclude = fields["labels"], fields["exclude"]
    labels.values[:3] = PADDING
    whole = fields | {"padding": PADDING}
    expected = call(_core.rank_of_labels, whole, None)
    scores = call(_core.score_labels, {name: field for name, field in whole.items() if name != "exclude"})
    assert scores.dtype == (dtype if dtype == "float64" else "float32")
    ranks = np.ones(len(labels.values))
    for part in range(owners.max() + 1):
        is_own = owners == part
        place = is_own.cumsum() - 1
        own = is_own[exclude.values]
        of_part = fields | {
            "weights": fields["weights"][is_own],
            "biases": fields["biases"][is_own],
            "exclude": fastnce.Ragged(place[exclude.values[own]], np.append(0, own.cumsum())[exclude.offsets]),
        }
        del of_part["labels"]
        ranks += call(_core.rank_of_scores, of_part, scores, labels.offsets) - 1
    examples = np.repeat(np.arange(B), np.diff(labels.offsets))
    pairs = {*zip(np.repeat(np.arange(B), np.diff(exclude.offsets)), exclude.values, strict=True)}
    competes = [pair not in pairs for pair in zip(examples, labels.values, strict=True)]
    np.testing.assert_array_equal(ranks - 0.5 * np.array(competes), expected)
    assert np.isnan(expected[:3]).all() and len(set(ranks[3:])) > 3
