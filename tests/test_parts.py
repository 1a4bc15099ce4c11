"""A loss whose classes are spread over several calls: the parts add up to the whole (loss.h, ``OtherParts``)."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
import parts
from halves import HALVES, half_cases
from parts import LOSSES, B, assert_parts_add_up, in_parts, modulo, on_host, request_of
from tolerances import PARTS_RELATIVE


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("hits", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_loss_add_up_to_it(loss, dtype, weighted, hits, count):
    whole = request_of(dtype, weighted=weighted, hits=hits) | LOSSES[loss]
    assert_parts_add_up(whole, modulo(count), on_host)


@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize("options", parts.OPTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_any_form_add_up(loss, weighted, options, count):
    whole = request_of("float64", weighted=weighted, hits=True, **parts.OPTIONS[options]) | LOSSES[loss]
    assert_parts_add_up(whole, modulo(count), on_host)


@pytest.mark.parametrize("dtype", half_cases(HALVES))
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_tables_of_halves_add_up(loss, dtype):
    whole = request_of(dtype, weighted=True, hits=True) | LOSSES[loss]
    assert_parts_add_up(whole, modulo(2), on_host)


@pytest.mark.parametrize("loss", LOSSES)
def test_parts_may_be_of_any_size(loss):
    whole = request_of("float64", weighted=True, hits=True) | LOSSES[loss]
    assert_parts_add_up(whole, parts.UNEVEN, on_host)


@pytest.mark.parametrize("loss", ["nce", "sampled softmax"])
def test_samples_and_labels_may_be_two_parts(loss):
    whole = request_of("float64", weighted=False, hits=True) | LOSSES[loss]
    expected, got = on_host(whole), parts.samples_and_labels_apart(whole, on_host)
    for name in ("loss", "grad_inputs"):
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=1e-12, err_msg=name)
    grad_weights = got["grad_weights"][expected["rows"]]
    np.testing.assert_allclose(grad_weights, expected["grad_weights"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_sum_exp_is_that_of_all_logits(dtype):
    whole = request_of(dtype, weighted=False, hits=False) | LOSSES["sampled softmax"] | {"exclude": None}
    got = on_host(whole | {"log_sum_exp": True})["log_sum_exp"]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, parts.log_sum_exp(whole), rtol=PARTS_RELATIVE[dtype], atol=0)


@pytest.mark.parametrize("others", parts.OTHERS_OF_ANY_SIZE)
def test_others_of_any_size_do_not_overflow(others):
    parts.assert_finite_beside(others, on_host)


def test_an_example_of_masked_classes_alone_stays_finite_in_parts():
    """How many they are is lost: beside 1e30 float64 does not hold its logarithm."""
    assert all(np.isfinite(values).all() for values in in_parts(parts.masked(), modulo(2), on_host).values())


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
        on_host(whole | fields)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_no_examples_may_be_a_part(loss):
    whole = request_of("float32", weighted=False, hits=False) | LOSSES[loss]
    sampled, _, sampled_count = whole["sampled_values"]
    none, lists = np.zeros(0), fastnce.Ragged(np.zeros(0, int), np.zeros(1, int))
    empty = {"inputs": whole["inputs"][:0], "labels": lists, "exclude": lists, "grad_loss": 1.0}
    part = {"label_counts": none.astype(int), "sampled_values": (sampled, none, sampled_count)}
    softmax = whole["family"] == "softmax"
    others = {"other_log_sum_exp": none, "label_weight_sums": none, "log_sum_exp": True} if softmax else {}
    result = on_host(whole | empty | part | others)
    assert result["loss"].shape == (0,) and not result["grad_weights"].any()
