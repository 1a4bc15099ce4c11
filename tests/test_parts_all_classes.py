"""Losses over all classes, and ranks of labels, whose classes are spread over several calls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnce
from fastnce import _core
from fastnce._request import split_lists
from parts import B, S, V, modulo, part_of, request_of
from tolerances import PARTS_RELATIVE

LOSSES = {
    "softmax": {"family": "softmax", "true_target": "mean"},
    "softmax of targets of 1": {"family": "softmax", "true_target": "one"},
    "sigmoid": {"family": "logistic", "true_target": "one"},
    "sigmoid of a mean": {"family": "logistic", "true_target": "mean"},
}
NAMES = ("loss", "grad_inputs", "grad_weights", "grad_biases", "log_sum_exp")


def over_all_classes(fields: dict[str, Any]) -> dict[str, Any]:
    """The request without what samples have; `part_of` wants some, which are not passed on."""
    samples = (np.zeros(S, int), np.ones(len(fields["labels"].values)), np.ones(S))
    return {name: field for name, field in fields.items() if name != "remove_accidental_hits"} | {
        "sampled_values": samples
    }


def compute(fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    fields = {name: field for name, field in (fields | more).items() if name != "sampled_values"}
    split_lists(fields)
    return dict(zip(NAMES, _core.full_loss(fields, None, None), strict=True))


def in_parts(whole: dict[str, Any], parts: int) -> dict[str, Any]:
    """The loss of all parts: shares added up, gradients of rows where these belong."""
    requests = [part_of(whole, modulo(parts), part) for part in range(parts)]
    if whole["family"] == "softmax":
        sums = np.stack([compute(request, log_sum_exp=True)["log_sum_exp"] for request in requests])
        for part, request in enumerate(requests):
            request["other_log_sum_exp"] = np.logaddexp.reduce(np.delete(sums, part, 0), axis=0, initial=-np.inf)
    results = [compute(request) for request in requests]
    total = {name: sum(result[name] for result in results) for name in ("loss", "grad_inputs")}
    for name, table in (("grad_weights", "weights"), ("grad_biases", "biases")):
        total[name] = np.empty_like(whole[table])
        for part, result in enumerate(results):
            total[name][part::parts] = result[name]
    return total


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_loss_over_all_classes_add_up_to_it(loss, dtype, weighted, parts):
    whole = over_all_classes(request_of(dtype, weighted=weighted, hits=False) | LOSSES[loss])
    expected, got = compute(whole), in_parts(whole, parts)
    for name in ("loss", "grad_inputs", "grad_weights", "grad_biases"):
        tolerance = PARTS_RELATIVE[dtype] * np.abs(expected[name]).max()
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_sum_exp_is_that_of_all_classes_that_are_not_excluded(dtype):
    whole = over_all_classes(request_of(dtype, weighted=False, hits=False) | LOSSES["softmax"])
    got = compute(whole, log_sum_exp=True)["log_sum_exp"]
    assert got.dtype == np.float64
    scores = whole["inputs"].astype(float) @ whole["weights"].T.astype(float) + whole["biases"]
    labels, exclude = whole["labels"], whole["exclude"]
    for b in range(B):
        own, excluded = (lists.values[slice(*lists.offsets[b : b + 2])] for lists in (labels, exclude))
        left = np.setdiff1d(np.arange(V), np.setdiff1d(excluded, own))
        expected = np.logaddexp.reduce(scores[b, left]) if len(own) else 0.0
        assert got[b] == pytest.approx(expected, rel=PARTS_RELATIVE[dtype])


def test_others_of_any_size_do_not_overflow():
    whole = over_all_classes(request_of("float32", weighted=False, hits=False) | LOSSES["softmax"])
    counts = np.diff(whole["labels"].offsets)
    for others in (-np.inf, -1e30, -1e4, 1e4, 1e30, 3e38):
        result = compute(whole, label_counts=counts, other_log_sum_exp=np.full(B, others), log_sum_exp=True)
        assert all(np.isfinite(values).all() for values in result.values())


def test_a_label_of_nearly_all_probability_keeps_its_digits_in_parts():
    """Its loss, 1e-12 and less, is the share of the other classes, of which most are in other parts."""
    labels = np.arange(B)
    whole = request_of("float64", weighted=False, hits=False) | LOSSES["softmax"]
    whole |= {"labels": fastnce.Ragged(labels, np.arange(B + 1))}
    whole["exclude"] = fastnce.Ragged(labels[:0], np.zeros(B + 1, int))
    whole["weights"][:B] = 50 * whole["inputs"]
    whole = over_all_classes(whole)
    expected, got = compute(whole)["loss"], in_parts(whole, 3)["loss"]
    assert ((expected > 0) & (expected < 1e-12)).sum() > 5
    np.testing.assert_allclose(got, expected, rtol=1e-9)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_of_scores_add_up_to_ranks_of_labels(dtype, parts):
    """1 + the competitors in all parts; a label that competes itself ties with itself. With equal rows, and padding."""
    fields = request_of(dtype, weighted=False, hits=False)
    fields = {name: fields[name] for name in ("weights", "biases", "inputs", "labels", "exclude")}
    for name in ("weights", "biases"):
        fields[name][V // 2 :] = fields[name][: V - V // 2]
    labels, exclude = fields["labels"], fields["exclude"]
    labels.values[:3] = -7
    whole = dict(fields, padding=-7)
    split_lists(whole)
    expected = _core.rank_of_labels(whole, None)
    scores = _core.score_labels({name: field for name, field in whole.items() if name != "exclude"})
    assert scores.dtype == dtype
    ranks = np.ones(len(labels.values))
    for part in range(parts):
        own = exclude.values % parts == part
        excluded = fastnce.Ragged(exclude.values[own], np.append(0, own.cumsum())[exclude.offsets])
        of_part = {"weights": fields["weights"][part::parts], "biases": fields["biases"][part::parts]}
        of_part |= {
            "inputs": fields["inputs"],
            "exclude": excluded.values // parts,
            "exclude_offsets": excluded.offsets,
        }
        ranks += _core.rank_of_scores(of_part, scores, labels.offsets) - 1
    examples = np.repeat(np.arange(B), np.diff(labels.offsets))
    pairs = {*zip(np.repeat(np.arange(B), np.diff(exclude.offsets)), exclude.values, strict=True)}
    competes = [pair not in pairs for pair in zip(examples, labels.values, strict=True)]
    np.testing.assert_array_equal(ranks - 0.5 * np.array(competes), expected)
    assert np.isnan(expected[:3]).all() and len(set(ranks[3:])) > 3


@pytest.mark.parametrize(
    ("scores", "offsets", "message"),
    [
        (np.zeros(3), np.arange(B + 1), rf"offsets\[{B}\] = {B}: expected the number of scores, 3"),
        (np.zeros((3, 1)), np.arange(B + 1), r"scores has shape \[3, 1\]"),
        (np.zeros(B), np.arange(B), r"offsets has shape"),
        (np.zeros(B), np.append(np.full(B, 3), B), r"scores.offsets\[0\] = 3: expected 0"),
    ],
)
def test_scores_that_are_no_lists_are_refused(scores, offsets, message):
    fields = {name: request_of("float32", weighted=False, hits=False)[name] for name in ("weights", "biases", "inputs")}
    with pytest.raises(ValueError, match=message):
        _core.rank_of_scores(fields, scores, offsets)
