"""Losses over all classes and ranks whose classes are spread over several calls, on a CUDA device."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
import parts_all_classes
from fastnce import _core
from halves import HALVES, half_cases
from parts import OTHERS_OF_ANY_SIZE, PADDING, UNEVEN, B, V, label_counts, modulo, part_of, request_of
from parts_all_classes import LOSSES, assert_parts_add_up, compute, full_request, on_device, on_host
from tolerances import PARTS_RELATIVE

pytestmark = pytest.mark.cuda


@pytest.mark.parametrize(
    ("weighted", "padded", "owners"),
    [(False, False, modulo(1)), (False, True, UNEVEN), (True, False, modulo(3)), (True, True, modulo(3))],
    ids=["one", "padded, uneven", "weighted, three", "weighted, padded, three"],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_a_loss_over_all_classes_add_up_to_it(loss, weighted, padded, owners, cuda_array):
    whole = full_request("float32", loss, weighted=weighted, padded=padded)
    assert_parts_add_up(whole, owners, on_device(cuda_array))
    fastnce.cuda.check()


def assert_is_the_cpus(part, cuda_array):
    expected, got = compute(on_host, part), compute(on_device(cuda_array), part)
    for name, values in expected.items():
        if values is not None:
            tolerance = PARTS_RELATIVE["float32"] * np.abs(values).max()
            np.testing.assert_allclose(got[name], values, rtol=0, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_a_part_is_the_cpus(loss, weighted, cuda_array):
    """With labels that an example has twice."""
    whole = full_request("float32", loss, weighted=weighted, padded=True)
    whole["labels"][:, 3] = whole["labels"][:, 2]
    part = part_of(whole, modulo(2), 1)
    if whole["family"] == "softmax":
        part |= {"other_log_sum_exp": np.linspace(-3, 3, B), "log_sum_exp": True}
    assert_is_the_cpus(part, cuda_array)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_part_of_several_tiles_is_the_cpus(loss, cuda_array):
    """Two chunks of examples on the emulated device, the second of two examples, and tiles of classes."""
    batch, classes, dim, num_true = 130, 257, 5, 2
    rng = np.random.default_rng(7)
    shapes = {"weights": (classes, dim), "biases": (classes,), "inputs": (batch, dim)}
    part = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()} | LOSSES[loss]
    labels = np.where(rng.random((batch, num_true)) < 0.5, PADDING, rng.integers(0, classes, (batch, num_true)))
    part |= {"labels": labels, "num_true": num_true, "padding": PADDING, "gradients": (True, True, True)}
    part["label_counts"] = (labels != PADDING).sum(1) + rng.integers(0, 2, batch)
    if part["family"] == "softmax":
        part |= {"other_log_sum_exp": rng.normal(6, 1, batch), "log_sum_exp": True}
    assert_is_the_cpus(part, cuda_array)


@pytest.mark.parametrize("dtype", half_cases(HALVES))
@pytest.mark.parametrize("loss", LOSSES)
def test_parts_of_tables_of_halves_add_up(loss, dtype, cuda_array):
    assert_parts_add_up(full_request(dtype, loss, weighted=True), modulo(2), on_device(cuda_array))


def test_log_sum_exp_is_that_of_all_classes_that_are_not_excluded(cuda_array):
    check = parts_all_classes.assert_log_sum_exp_is_that_of_all_classes_that_are_not_excluded
    check("float32", on_device(cuda_array))


@pytest.mark.parametrize("others", OTHERS_OF_ANY_SIZE)
def test_others_of_any_size_do_not_overflow(others, cuda_array):
    parts_all_classes.assert_finite_beside(others, on_device(cuda_array))


def test_a_label_of_nearly_all_probability_keeps_its_digits_in_parts(cuda_array):
    """As far as float64 holds 1 + loss."""
    check = parts_all_classes.assert_a_certain_label_keeps_its_digits
    check("float32", 6, (1e-11, 6e-8), 1e-4, on_device(cuda_array))


@pytest.mark.parametrize("loss", LOSSES)
def test_a_part_without_labels_may_have_no_column_of_them(loss, cuda_array):
    """T = 0, as a list of length 0 for each example."""
    whole = full_request("float32", loss, weighted=False)
    none = whole["labels"].values[:0]
    part = whole | {"label_counts": label_counts(whole), "labels": fastnce.Ragged(none, np.zeros(B + 1, int))}
    call = on_device(cuda_array)
    listed = compute(call, part)
    for name, values in compute(call, part, labels=np.zeros((B, 0), int), num_true=0).items():
        np.testing.assert_array_equal(values, listed[name], err_msg=name)
    is_left_out = label_counts(whole) == 0
    assert (listed["grad_inputs"][is_left_out] == 0).all() and (listed["grad_inputs"][~is_left_out] != 0).any(1).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_part_may_have_no_examples(loss, cuda_array):
    whole = full_request("float32", loss, weighted=False, padded=True)
    names = ("inputs", "labels", "grad_loss")
    part = whole | {name: whole[name][:0] for name in names} | {"exclude": None, "label_counts": np.zeros(0, int)}
    if part["family"] == "softmax":
        part |= {"other_log_sum_exp": np.zeros(0), "label_weight_sums": np.zeros(0), "log_sum_exp": True}
    result = compute(on_device(cuda_array), part)
    assert result["loss"].shape == (0,) and result["grad_inputs"].shape == (0, part["inputs"].shape[1])
    for name, table in (("grad_weights", "weights"), ("grad_biases", "biases")):
        np.testing.assert_array_equal(result[name], np.zeros_like(part[table]), err_msg=name)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_count_of_0_keeps_an_example_out_whatever_labels_it_has_here(loss, cuda_array):
    """The CPU refuses such counts; a device cannot look at them before the call."""
    whole = full_request("float32", loss, weighted=False)
    counts = label_counts(whole)
    left_out = np.flatnonzero(counts)[:3]
    part = whole | {"label_counts": np.where(np.isin(np.arange(B), left_out), 0, counts)}
    call = on_device(cuda_array)
    result, complete = compute(call, part), compute(call, whole | {"label_counts": counts})
    others = np.setdiff1d(np.arange(B), left_out)
    for name in ("loss", "grad_inputs"):
        assert (result[name][left_out] == 0).all(), name
        np.testing.assert_array_equal(result[name][others], complete[name][others], err_msg=name)
    assert np.isfinite(result["grad_weights"]).all()


# ---- scores of labels, and ranks of scores -------------------------------------------------------------------


@pytest.mark.parametrize("owners", [modulo(1), modulo(3), UNEVEN], ids=["one", "three", "uneven"])
@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("dtype", half_cases(["float32", *HALVES]))
def test_ranks_of_scores_add_up_to_ranks_of_labels(dtype, precision, owners, cuda_array):
    check = parts_all_classes.assert_ranks_of_scores_add_up_to_ranks_of_labels
    check(dtype, owners, on_device(cuda_array), precision=precision)
    fastnce.cuda.check()


def tables():
    fields = request_of("float32", weighted=False, hits=False)
    return {name: fields[name] for name in ("weights", "biases", "inputs")}


@pytest.mark.parametrize("shape", [(B,), (B, 40), (3, 7, 2), None], ids=str)
def test_scores_of_labels_are_the_cpus_and_nan_where_a_label_is_none(shape, cuda_array):
    """More labels than a tile has rows, too."""
    rng = np.random.default_rng(5)
    labels = request_of("float32", weighted=False, hits=False)["labels"] if shape is None else None
    fields = tables()
    if shape is not None:
        labels = np.where(rng.random(shape) < 0.2, PADDING, rng.integers(0, V, shape))
        fields["inputs"] = fields["inputs"].reshape(*(shape if len(shape) == 1 else shape[:-1]), -1)
        fields["num_true"] = 1 if len(shape) == 1 else shape[-1]
    fields |= {"labels": labels, "padding": PADDING}
    expected, got = (call(_core.score_labels, fields) for call in (on_host, on_device(cuda_array)))
    assert got.dtype == np.float32 and got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
    fastnce.cuda.check()


def test_an_infinite_score_is_a_label_s_score_but_has_no_rank(cuda_array):
    fields = tables()
    fields["biases"][:3] = np.inf, -np.inf, np.nan
    call = on_device(cuda_array)
    scores = call(_core.score_labels, fields | {"labels": np.arange(B)})
    np.testing.assert_array_equal(scores[:3], [np.inf, -np.inf, np.nan])
    expected = call(_core.rank_of_labels, fields | {"labels": np.arange(B)}, None)
    ranks = call(_core.rank_of_scores, fields, scores, np.arange(B + 1))
    np.testing.assert_array_equal(ranks - 0.5, expected)
    np.testing.assert_array_equal(np.isnan(ranks), np.arange(B) < 3)


def test_scores_of_one_example_may_be_more_than_a_block_has_threads(cuda_array):
    scores = np.random.default_rng(1).normal(size=300).astype(np.float32)
    offsets = np.append(np.zeros(B // 2 + 1, int), np.full(B - B // 2, 300))
    expected, got = (call(_core.rank_of_scores, tables(), scores, offsets) for call in (on_host, on_device(cuda_array)))
    np.testing.assert_array_equal(got, expected)


def test_there_may_be_no_scores(cuda_array):
    call = on_device(cuda_array)
    assert call(_core.rank_of_scores, tables(), np.zeros(0, np.float32), np.zeros(B + 1, int)).shape == (0,)
    assert call(_core.score_labels, tables() | {"labels": np.zeros((B, 0), int), "num_true": 0}).shape == (B, 0)


def test_a_label_out_of_range_has_no_score_and_is_reported_once(cuda_array):
    labels = np.arange(B)
    labels[4] = V
    scores = on_device(cuda_array)(_core.score_labels, tables() | {"labels": labels})
    np.testing.assert_array_equal(np.isnan(scores), np.arange(B) == 4)
    with pytest.raises(ValueError, match=rf"labels\[4, 0\] = {V} is outside") as raised:
        fastnce.cuda.check()
    assert "such faults" not in str(raised.value)


def test_scores_in_no_list_have_no_ranks_and_wrong_offsets_are_reported(cuda_array):
    call, scores = on_device(cuda_array), np.zeros(B + 2, np.float32)
    ranks = call(_core.rank_of_scores, tables(), scores, np.arange(B + 1))
    np.testing.assert_array_equal(np.isnan(ranks), np.arange(B + 2) >= B)
    fastnce.cuda.check()
    offsets = np.arange(B + 1)
    offsets[5] = 1000
    ranks = call(_core.rank_of_scores, tables(), scores, offsets)
    np.testing.assert_array_equal(np.isnan(ranks), np.arange(B + 2) >= 4)
    with pytest.raises(ValueError, match=r"scores.offsets\[[56]\] = "):
        fastnce.cuda.check()


def test_an_example_whose_excluded_classes_are_not_known_has_no_ranks(cuda_array):
    offsets = np.arange(B + 1)
    offsets[5] = 1000
    fields = tables() | {"exclude": fastnce.Ragged(np.zeros(B, int), offsets)}
    ranks = on_device(cuda_array)(_core.rank_of_scores, fields, np.zeros(B, np.float32), np.arange(B + 1))
    np.testing.assert_array_equal(np.isnan(ranks), np.arange(B) >= 4)
    with pytest.raises(ValueError, match=r"exclude.offsets\[[56]\] = "):
        fastnce.cuda.check()


@pytest.mark.parametrize(
    ("scores", "offsets", "kind", "message"),
    [
        (np.zeros(B), np.arange(B + 1), TypeError, "scores has dtype float64: expected float32 on a CUDA device"),
        (np.zeros((3, 1), np.float32), np.arange(B + 1), ValueError, r"scores has shape \[3, 1\]"),
        (np.zeros(B, np.float32), np.arange(B), ValueError, "offsets has shape"),
        (np.zeros(B, np.float32), np.zeros(B + 1), TypeError, "offsets has dtype float64: expected integers"),
    ],
)
def test_scores_that_are_no_lists_are_refused(scores, offsets, kind, message, cuda_array):
    with pytest.raises(kind, match=message):
        on_device(cuda_array)(_core.rank_of_scores, tables(), scores, offsets)
