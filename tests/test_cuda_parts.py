"""A loss whose classes are spread over several calls, on a CUDA device: the parts add up to the whole, as on a CPU."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
import parts
from halves import HALVES, half_cases
from parts import LOSSES, B, assert_parts_add_up, in_parts, label_counts, modulo, on_device, request_of
from tolerances import PARTS_RELATIVE

pytestmark = pytest.mark.cuda

SOFTMAX = LOSSES["sampled softmax"]


@pytest.mark.parametrize(
    ("weighted", "hits", "count"), [(False, False, 1), (False, True, 3), (True, False, 3), (True, True, 3)]
)
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_loss_add_up_to_it(loss, weighted, hits, count, cuda_array):
    whole = request_of("float32", weighted=weighted, hits=hits) | LOSSES[loss]
    assert_parts_add_up(whole, modulo(count), on_device(cuda_array))
    fastnce.cuda.check()


@pytest.mark.parametrize("options", parts.OPTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_any_form_add_up(loss, weighted, options, cuda_array):
    whole = request_of("float32", weighted=weighted, hits=True, **parts.OPTIONS[options]) | LOSSES[loss]
    assert_parts_add_up(whole, modulo(2), on_device(cuda_array))
    fastnce.cuda.check()


@pytest.mark.parametrize("dtype", half_cases(HALVES))
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_tables_of_halves_add_up(loss, dtype, cuda_array):
    whole = request_of(dtype, weighted=True, hits=True) | LOSSES[loss]
    assert_parts_add_up(whole, modulo(2), on_device(cuda_array))


@pytest.mark.parametrize("loss", LOSSES)
def test_parts_may_be_of_any_size(loss, cuda_array):
    whole = request_of("float32", weighted=True, hits=True) | LOSSES[loss]
    assert_parts_add_up(whole, parts.UNEVEN, on_device(cuda_array))


@pytest.mark.parametrize("loss", ["nce", "sampled softmax"])
def test_samples_and_labels_may_be_two_parts(loss, cuda_array):
    whole = request_of("float32", weighted=False, hits=True) | LOSSES[loss]
    compute = on_device(cuda_array)
    expected, got = compute(whole), parts.samples_and_labels_apart(whole, compute)
    got["grad_weights"] = got["grad_weights"][expected["rows"]]
    for name in got:
        tolerance = PARTS_RELATIVE["float32"] * np.abs(expected[name]).max()
        np.testing.assert_allclose(got[name], expected[name], rtol=0, atol=tolerance, err_msg=name)


def test_log_sum_exp_is_that_of_all_logits(cuda_array):
    whole = request_of("float32", weighted=False, hits=False) | SOFTMAX | {"exclude": None}
    got = on_device(cuda_array)(whole | {"log_sum_exp": True})["log_sum_exp"]
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, parts.log_sum_exp(whole), rtol=PARTS_RELATIVE["float32"], atol=0)


@pytest.mark.parametrize("others", parts.OTHERS_OF_ANY_SIZE)
def test_others_of_any_size_do_not_overflow(others, cuda_array):
    parts.assert_finite_beside(others, on_device(cuda_array))


def test_an_example_of_masked_classes_alone_stays_finite_in_parts(cuda_array):
    results = in_parts(parts.masked(), modulo(2), on_device(cuda_array))
    assert all(np.isfinite(values).all() for values in results.values())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_part_without_labels_may_have_no_column_of_them(loss, cuda_array):
    """T = 0, as a list of length 0 for each example."""
    whole = request_of("float32", weighted=False, hits=True) | LOSSES[loss]
    sampled, true_count, sampled_count = whole["sampled_values"]
    part = whole | {"label_counts": label_counts(whole), "sampled_values": (sampled, true_count[:0], sampled_count)}
    compute = on_device(cuda_array)
    listed = compute(part | {"labels": fastnce.Ragged(whole["labels"].values[:0], np.zeros(B + 1, int))})
    dense = part | {"labels": np.zeros((B, 0), int), "num_true": 0}
    dense["sampled_values"] = (sampled, np.zeros((B, 0)), sampled_count)
    for name, values in compute(dense).items():
        np.testing.assert_array_equal(values, listed[name], err_msg=name)
    assert (listed["grad_inputs"][label_counts(whole) == 0] == 0).all()


def test_examples_may_have_several_axes_and_counts_any_integers(cuda_array):
    whole = request_of("float32", weighted=False, hits=True, padded=True) | SOFTMAX
    part = whole | {"label_counts": label_counts(whole), "other_log_sum_exp": np.linspace(-3, 3, B)}
    names = ("inputs", "labels", "grad_loss", "label_counts", "other_log_sum_exp")
    split = part | {name: part[name].reshape(3, 7, *part[name].shape[1:]) for name in names}
    split["label_counts"] = split["label_counts"].astype(np.uint8)
    sampled, true_count, sampled_count = part["sampled_values"]
    split["sampled_values"] = (sampled, true_count.reshape(3, 7, -1), sampled_count)
    compute = on_device(cuda_array)
    expected, got = compute(part | {"log_sum_exp": True}), compute(split | {"log_sum_exp": True})
    assert got["log_sum_exp"].shape == got["loss"].shape == (3, 7)
    for name, values in got.items():
        np.testing.assert_array_equal(values.ravel(), expected[name].ravel(), err_msg=name)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_count_of_0_keeps_an_example_out_whatever_labels_it_has_here(loss, cuda_array):
    """The CPU refuses such counts; a device cannot look at them before the call."""
    whole = request_of("float32", weighted=False, hits=True) | LOSSES[loss]
    counts = label_counts(whole)
    left_out = np.flatnonzero(counts)[:3]
    part = whole | {"label_counts": np.where(np.isin(np.arange(B), left_out), 0, counts)}
    more = {"log_sum_exp": True} if whole["family"] == "softmax" else {}
    compute = on_device(cuda_array)
    result, complete = compute(part | more), compute(whole | more)
    others = np.setdiff1d(np.arange(B), left_out)
    for name in ("loss", "grad_inputs", *more):
        assert (result[name][left_out] == 0).all(), name
        np.testing.assert_array_equal(result[name][others], complete[name][others], err_msg=name)


@pytest.mark.parametrize("name", ["labels", "exclude"])
def test_an_example_whose_lists_are_wrong_has_no_log_sum_exp(name, cuda_array):
    whole = request_of("float32", weighted=False, hits=True) | SOFTMAX
    offsets = np.array(whole[name].offsets)
    offsets[3] = 1000
    part = whole | {"label_counts": label_counts(whole), "log_sum_exp": True}
    result = on_device(cuda_array)(part | {name: whole[name]._replace(offsets=offsets)})
    for output in ("loss", "log_sum_exp"):
        np.testing.assert_array_equal(np.isnan(result[output]), np.arange(B) >= 2, err_msg=output)
    assert np.isfinite(result["grad_inputs"]).all()
    with pytest.raises(ValueError, match=rf"{name}.offsets"):
        fastnce.cuda.check()


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"label_counts": np.full(B - 1, 9)}, ValueError, r"label_counts has shape \[20\]: expected one number for"),
        ({"label_counts": np.full(B, 9.0)}, TypeError, "label_counts has dtype float64: expected integers"),
        (
            {"label_counts": np.full(B, 9), "other_log_sum_exp": np.zeros(B, np.float32)},
            TypeError,
            "other_log_sum_exp has dtype float32: expected float64 on a CUDA device",
        ),
        ({"other_log_sum_exp": np.zeros(B)}, ValueError, "label_counts: expected an array, not null, beside"),
        ({"family": "logistic", "log_sum_exp": True}, ValueError, "log_sum_exp: expected the family softmax"),
    ],
)
def test_what_makes_no_part_is_refused(fields, kind, message, cuda_array):
    whole = request_of("float32", weighted=False, hits=False) | SOFTMAX
    with pytest.raises(kind, match=message):
        on_device(cuda_array)(whole | fields)
