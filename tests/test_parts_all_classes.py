"""Losses over all classes, and ranks of labels, whose classes are spread over several calls."""

from __future__ import annotations

import numpy as np
import pytest

import parts_all_classes
from fastnce import _core
from parts import OTHERS_OF_ANY_SIZE, UNEVEN, B, modulo, request_of
from parts_all_classes import LOSSES, assert_parts_add_up, full_request, on_host


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_loss_over_all_classes_add_up_to_it(loss, dtype, weighted, parts):
    assert_parts_add_up(full_request(dtype, loss, weighted=weighted), modulo(parts), on_host)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_any_size_add_up(loss, padded):
    assert_parts_add_up(full_request("float32", loss, weighted=True, padded=padded), UNEVEN, on_host)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_sum_exp_is_that_of_all_classes_that_are_not_excluded(dtype):
    parts_all_classes.assert_log_sum_exp_is_that_of_all_classes_that_are_not_excluded(dtype, on_host)


@pytest.mark.parametrize("others", OTHERS_OF_ANY_SIZE)
def test_others_of_any_size_do_not_overflow(others):
    parts_all_classes.assert_finite_beside(others, on_host)


def test_a_label_of_nearly_all_probability_keeps_its_digits_in_parts():
    parts_all_classes.assert_a_certain_label_keeps_its_digits("float64", 50, (0, 1e-12), 1e-9, on_host)


@pytest.mark.parametrize("parts", [1, 2, 3, 7])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ranks_of_scores_add_up_to_ranks_of_labels(dtype, parts):
    parts_all_classes.assert_ranks_of_scores_add_up_to_ranks_of_labels(dtype, modulo(parts), on_host)


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
