"""In-batch softmax on a CUDA device against its float64 twin."""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastnce
from fastnce import Ragged
from halves import HALVES
from test_in_batch import OPTIONS, assert_equal_but_for_rounding, problem, truth_of

pytestmark = pytest.mark.cuda


def on_device(cuda_array, arguments):
    def put(value):
        if value is None or np.isscalar(value):
            return value
        if isinstance(value, Ragged):
            return Ragged(*map(put, value))
        return tuple(map(put, value)) if isinstance(value, tuple) else cuda_array.put(value)

    return {name: put(value) for name, value in arguments.items()}


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("sizes", [(1, 1, 0), (65, 33, 0), (1, 3, 4), (65, 33, 70)], ids=str)
def test_loss_and_gradients_of_both_towers_are_accurate(sizes, options, cuda_array):
    arguments = problem(*sizes, **options)
    results = fastnce.in_batch_softmax_loss_and_grad(**on_device(cuda_array, arguments))
    assert all(cuda_array.is_own(array) for array in results)
    got = [cuda_array.get(array) for array in results]
    assert_equal_but_for_rounding(got, truth_of(arguments))
    without = {name: value for name, value in arguments.items() if name != "grad_loss"}
    loss = fastnce.in_batch_softmax_loss(**on_device(cuda_array, without))
    np.testing.assert_array_equal(cuda_array.get(loss), got[0])


def test_a_log_q_that_is_not_finite_gives_nan(cuda_array):
    arguments = problem(6, 4, 0, log_q=True)
    arguments["log_q"][2] = np.inf
    losses = fastnce.in_batch_softmax_loss_and_grad(**on_device(cuda_array, arguments))[0]
    assert np.isnan(cuda_array.get(losses)).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_extra_items_of_every_element_type(dtype, cuda_array):
    wide = problem(9, 5, 4, ids=True, log_q=True)
    half = {name: wide[name].astype(HALVES[dtype]) for name in ("inputs", "items")}
    items, ids, log_q = wide["extra"]
    arguments = wide | half | {"extra": (items.astype(HALVES[dtype]), ids.astype(np.int16), log_q)}
    results = fastnce.in_batch_softmax_loss_and_grad(**on_device(cuda_array, arguments), grad_dtype="float32")
    assert_equal_but_for_rounding(list(map(cuda_array.get, results)), truth_of(arguments))


def test_rows_of_items_may_lie_apart_beside_extra_items(cuda_array):
    arguments = problem(9, 5, 4, ids=True)
    items, ids, log_q = arguments["extra"]
    apart = lambda rows: np.repeat(rows, 2, axis=0)[::2]  # noqa: E731
    strided = arguments | {"items": apart(arguments["items"]), "extra": (apart(items), apart(ids), log_q)}
    results = fastnce.in_batch_softmax_loss_and_grad(**on_device(cuda_array, strided))
    assert_equal_but_for_rounding(list(map(cuda_array.get, results)), truth_of(arguments))


def test_no_extra_items_have_a_gradient(cuda_array):
    arguments = problem(6, 4, 0)
    arguments["extra"] = (np.zeros((0, 4), np.float32), None, None)
    results = fastnce.in_batch_softmax_loss_and_grad(**on_device(cuda_array, arguments))
    assert_equal_but_for_rounding(list(map(cuda_array.get, results)), truth_of(arguments))
    assert results[3].shape[0] == 0


ROWS, IDS, LOGS = np.zeros((2, 4), np.float32), np.arange(2), np.zeros(2, np.float32)


@pytest.mark.parametrize(
    ("extra", "error", "words"),
    [
        ((np.zeros((2, 3), np.float32), IDS, LOGS), ValueError, "extra: items have shape [2, 3]"),
        ((np.zeros((2, 4), np.float16), IDS, LOGS), TypeError, "items of extra has dtype float16: expected float32"),
        ((np.zeros((2, 4)), IDS, LOGS), TypeError, "items of extra has dtype float64: expected float32, float16 or"),
        ((ROWS, None, LOGS), ValueError, "item_ids is given but ids of extra is None"),
        ((ROWS, np.arange(3), LOGS), ValueError, "ids of extra has shape [3]: expected one for each item, [2]"),
        ((ROWS, LOGS, LOGS), TypeError, "ids of extra has dtype float32: expected integers"),
        ((ROWS, IDS, np.zeros((2, 1), np.float32)), ValueError, "log_q of extra has shape [2, 1]: expected one for"),
        ((ROWS, IDS, np.zeros(2)), TypeError, "log_q of extra has dtype float64: expected float32 on a CUDA device"),
    ],
)
def test_extra_items_that_do_not_fit_are_refused(extra, error, words, cuda_array):
    arguments = problem(6, 4, 2, ids=True, log_q=True) | {"extra": extra}
    with pytest.raises(error, match=re.escape(words)):
        fastnce.in_batch_softmax_loss_and_grad(**on_device(cuda_array, arguments))


def test_an_empty_batch_is_refused(cuda_array):
    rows = cuda_array.put(np.ones((0, 2), np.float32))
    with pytest.raises(ValueError, match="inputs has no rows on a CUDA device: expected arrays on the CPU"):
        fastnce.in_batch_softmax_loss(rows, rows)
