"""A loss whose classes are spread over several calls: the parts add up to the whole (loss.h, ``OtherParts``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnce
from fastnce import _core
from fastnce._request import split_lists
from tolerances import PARTS_RELATIVE

V, D, B, S = 50, 7, 21, 33
LOSSES = {
    "nce": {"family": "logistic", "true_target": "mean"},
    "sampled softmax": {"family": "softmax", "true_target": "mean"},
    "every label a target of 1": {"family": "softmax", "true_target": "one"},
    "weights": {"family": "logistic", "true_target": "one", "positive_weight": 0.7, "negative_weight": 1.3},
}
NAMES = ("loss", "grad_inputs", "rows", "grad_weights", "grad_biases", "log_sum_exp")


def compute(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields = {**fields, **more}
    split_lists(fields)
    *results, _ = _core.compute_loss(fields)
    return dict(zip(NAMES, results, strict=True))


def request_of(dtype: str, *, weighted: bool, hits: bool, seed: int = 3) -> dict[str, Any]:
    """Labels in lists, of which some are empty; more samples than lanes, some of them twice."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, B)
    labels = rng.integers(0, V, counts.sum())
    sampled = rng.integers(0, V, S)
    exclude_counts = rng.integers(0, 4, B)
    fields = {
        "weights": rng.normal(size=(V, D)).astype(dtype),
        "biases": rng.normal(size=V).astype(dtype),
        "inputs": rng.normal(size=(B, D)).astype(dtype),
        "labels": fastnce.Ragged(labels, np.concatenate([[0], counts.cumsum()])),
        "exclude": fastnce.Ragged(rng.integers(0, V, exclude_counts.sum()), np.append(0, exclude_counts.cumsum())),
        "sampled_values": (sampled, rng.uniform(0.1, 2, len(labels)), rng.uniform(0.1, 2, S)),
        "grad_loss": rng.normal(size=B).astype(dtype),
        "remove_accidental_hits": hits,
        "gradients": (True, True, True),
    }
    return fields | ({"label_weights": rng.uniform(0.5, 2, len(labels))} if weighted else {})


def selected(lists: fastnce.Ragged, mask: NDArray[np.bool]) -> fastnce.Ragged:
    """The lists without what the mask leaves out."""
    return fastnce.Ragged(lists.values[mask], np.append(0, mask.cumsum())[lists.offsets])


def part_of(whole: dict[str, Any], part: int, parts: int) -> dict[str, Any]:
    """The request for classes part, part + parts, part + 2 parts, ..., as a table of their own."""
    labels, exclude, (sampled, true_count, sampled_count) = (
        whole[name] for name in ("labels", "exclude", "sampled_values")
    )
    own, own_sampled = labels.values % parts == part, sampled % parts == part
    local = selected(labels, own)
    excluded = selected(exclude, exclude.values % parts == part)
    fields = whole | {
        "weights": whole["weights"][part::parts],
        "biases": whole["biases"][part::parts],
        "labels": fastnce.Ragged(local.values // parts, local.offsets),
        "exclude": fastnce.Ragged(excluded.values // parts, excluded.offsets),
        "sampled_values": (sampled[own_sampled] // parts, true_count[own], sampled_count[own_sampled]),
        "label_counts": np.diff(labels.offsets),
    }
    if "label_weights" not in whole:
        return fields
    examples = np.repeat(np.arange(B), np.diff(labels.offsets))
    sums = np.bincount(examples, whole["label_weights"], minlength=B)
    sums = {"label_weight_sums": sums} if whole["family"] == "softmax" else {}
    return fields | {"label_weights": whole["label_weights"][own], **sums}


def in_parts(whole: dict[str, Any], parts: int) -> dict[str, Any]:
    """The loss of all parts: shares added up, rows put together."""
    requests = [part_of(whole, part, parts) for part in range(parts)]
    if whole["family"] == "softmax":
        sums = np.stack([compute(request, log_sum_exp=True)["log_sum_exp"] for request in requests])
        for part, request in enumerate(requests):
            request["other_log_sum_exp"] = np.logaddexp.reduce(np.delete(sums, part, 0), axis=0, initial=-np.inf)
    results = [compute(request) for request in requests]
    total = {name: sum(result[name] for result in results) for name in ("loss", "grad_inputs")}
    ids = np.concatenate([result["rows"] * parts + part for part, result in enumerate(results)])
    order = np.argsort(ids)
    rows = {name: np.concatenate([result[name] for result in results])[order] for name in NAMES[3:5]}
    return total | {"rows": ids[order]} | rows


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("hits", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_loss_add_up_to_it(loss, dtype, weighted, hits, parts):
    whole = request_of(dtype, weighted=weighted, hits=hits) | LOSSES[loss]
    expected, got = compute(whole), in_parts(whole, parts)
    np.testing.assert_array_equal(got["rows"], expected["rows"])
    for name in ("loss", "grad_inputs", "grad_weights", "grad_biases"):
        tolerance = PARTS_RELATIVE[dtype] * np.abs(expected[name]).max()
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("loss", ["nce", "sampled softmax"])
def test_samples_and_labels_may_be_two_parts(loss):
    """Of the same classes: the samples as a table with keys, where classes that are labels are excluded."""
    whole = request_of("float64", weighted=False, hits=True) | LOSSES[loss]
    labels, exclude, (sampled, true_count, sampled_count) = (
        whole[name] for name in ("labels", "exclude", "sampled_values")
    )
    removed = [
        np.concatenate([labels.values[labels.offsets[b] : labels.offsets[b + 1]], own])
        for b, own in enumerate(np.split(exclude.values, exclude.offsets[1:-1]))
    ]
    counts = {"label_counts": np.diff(labels.offsets)}
    of_samples = (
        whole
        | counts
        | {
            "weights": whole["weights"][sampled],
            "biases": whole["biases"][sampled],
            "labels": fastnce.Ragged(labels.values[:0], np.zeros(B + 1, int)),
            "exclude": fastnce.Ragged(np.concatenate(removed), np.append(0, np.cumsum([len(own) for own in removed]))),
            "class_keys": sampled,
            "sampled_values": (np.arange(S), true_count[:0], sampled_count),
        }
    )
    of_labels = whole | counts | {"sampled_values": (sampled[:0], true_count, sampled_count[:0])}
    if loss == "sampled softmax":
        sums = [compute(request, log_sum_exp=True)["log_sum_exp"] for request in (of_samples, of_labels)]
        of_labels["other_log_sum_exp"], of_samples["other_log_sum_exp"] = sums
    expected, first, second = compute(whole), compute(of_samples), compute(of_labels)
    grad_weights = np.zeros((V, D))
    np.add.at(grad_weights, sampled, first["grad_weights"])
    np.add.at(grad_weights, second["rows"], second["grad_weights"])
    for name in ("loss", "grad_inputs"):
        np.testing.assert_allclose(first[name] + second[name], expected[name], rtol=0, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(grad_weights[expected["rows"]], expected["grad_weights"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_sum_exp_is_that_of_all_logits(dtype):
    whole = request_of(dtype, weighted=False, hits=False) | LOSSES["sampled softmax"]
    labels, (sampled, true_count, sampled_count) = whole["labels"], whole["sampled_values"]
    whole["exclude"] = None
    logits = whole["inputs"].astype(float) @ whole["weights"].T.astype(float) + whole["biases"]
    got = compute(whole, log_sum_exp=True)["log_sum_exp"]
    assert got.dtype == np.float64
    for b in range(B):
        own = slice(labels.offsets[b], labels.offsets[b + 1])
        u = logits[b, labels.values[own]] - np.log(true_count[own])
        v = logits[b, sampled] - np.log(sampled_count)
        expected = np.logaddexp.reduce(np.concatenate([u, v])) if len(u) else 0.0
        assert got[b] == pytest.approx(expected, rel=PARTS_RELATIVE[dtype])


def test_others_of_any_size_do_not_overflow():
    whole = request_of("float32", weighted=False, hits=False) | LOSSES["sampled softmax"]
    counts = np.diff(whole["labels"].offsets)
    for others in (-np.inf, -1e30, -1e4, 1e4, 1e30, 3e38):
        result = compute(whole, label_counts=counts, other_log_sum_exp=np.full(B, others), log_sum_exp=True)
        assert all(np.isfinite(result[name]).all() for name in ("loss", "grad_inputs", "grad_weights", "log_sum_exp"))


def test_an_example_of_masked_classes_alone_stays_finite_in_parts():
    """At -1e30, as tables mask classes. How many they are is lost: beside 1e30 float64 does not hold its logarithm."""
    whole = request_of("float32", weighted=False, hits=False) | LOSSES["sampled softmax"]
    whole |= {"weights": np.zeros((V, D), "float32"), "biases": np.full(V, -1e30, "float32")}
    assert all(np.isfinite(values).all() for values in in_parts(whole, 2).values())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label_counts": np.zeros(B, int)}, r"label_counts\[\d+\] = 0: expected at least \d+"),
        ({"label_counts": np.full(B - 1, 9)}, r"label_counts has shape \[20\]: expected one number for each example"),
        ({"other_log_sum_exp": np.zeros(B)}, "label_counts: expected an array, not null, beside"),
        ({"label_counts": np.full(B, 9), "family": "logistic", "other_log_sum_exp": np.zeros(B)}, "other_log_sum_exp"),
        ({"label_counts": np.full(B, 9), "family": "logistic", "label_weight_sums": np.zeros(B)}, "label_weight_sums"),
        ({"family": "logistic", "log_sum_exp": True}, "log_sum_exp: expected the family softmax"),
    ],
)
def test_what_makes_no_part_is_refused(fields, message):
    whole = request_of("float32", weighted=False, hits=False) | LOSSES["sampled softmax"]
    with pytest.raises(ValueError, match=message):
        compute(whole | fields)
