"""In-batch softmax on a CUDA device against its float64 twin."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
from fastnce import Ragged
from test_in_batch import OPTIONS, assert_equal_but_for_rounding, problem, truth_of

pytestmark = pytest.mark.cuda


def on_device(cuda_array, arguments):
    put = lambda value: value if value is None or np.isscalar(value) else cuda_array.put(value)  # noqa: E731
    return {
        name: Ragged(*map(put, value)) if isinstance(value, Ragged) else put(value) for name, value in arguments.items()
    }


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("sizes", [(1, 1, 0), (65, 33, 0)], ids=str)
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


@pytest.mark.parametrize("batch", [0, 3])
def test_what_is_for_the_cpu_alone_is_refused(batch, cuda_array):
    rows = cuda_array.put(np.ones((batch, 2), np.float32))
    extra = None if batch == 0 else (rows, None, None)
    with pytest.raises(ValueError, match="on a CUDA device: expected arrays on the CPU"):
        fastnce.in_batch_softmax_loss(rows, rows, extra=extra)
