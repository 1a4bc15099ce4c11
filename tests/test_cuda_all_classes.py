"""What goes over all classes, on a CUDA device: against the float64 twins, as on the CPU."""

from __future__ import annotations

import numpy as np
import pytest

import cuda_arrays
import fastnce
from fastnce import Ragged
from halves import HALVES, half_cases
from rounding import magnitude, naive_float32
from test_all_classes import LOSS, OPTIONS, TWIN, VALUE, as_sampled, operands, random_lists, results, sharded
from tolerances import assert_accurate

pytestmark = pytest.mark.cuda

both_losses = pytest.mark.parametrize("family", LOSS)
one_framework = pytest.mark.parametrize("cuda_array", cuda_arrays.installed()[:1] or ["none"], indirect=True)
"""For what an array's framework has no part in."""

SHAPES = [
    (1, 1, 1, 1, "highest"),
    (2, 3, 2, 1, "medium"),
    (127, 129, 33, 2, "high"),
    (128, 128, 64, 1, "highest"),
    (129, 127, 65, 9, "medium"),
    (3, 257, 130, 1, "highest"),
]
"""B, V, D, T around tiles of 64 and 128, each with a precision."""

ROLES = ("weights", "biases", "inputs")


def named(weights, biases, labels, inputs, **options):
    return dict(weights=weights, biases=biases, labels=labels, inputs=inputs, **options)


def solve(cuda_array, family, arguments):
    """On the device, from the host and back."""
    loss, grads = LOSS[family](**cuda_array.put_all(arguments))
    arrays = (loss, *grads)
    assert all(array is None or cuda_array.is_own(array) for array in arrays)
    loss, *of_grads = (None if array is None else cuda_array.get(array) for array in arrays)
    return results(loss, fastnce.DenseGrads(*of_grads))


def assert_is_twins(cuda_array, family, arguments, precision="highest"):
    ours = solve(cuda_array, family, {**arguments, "precision": precision, "grad_dtype": "float32"})
    wide = dict(arguments)
    wide |= {name: arguments[name].astype(np.float32) for name in ROLES if arguments[name] is not None}
    truth = results(*TWIN[family](**wide))
    problem = as_sampled(family, **wide)
    assert_accurate(ours, truth, magnitude(problem), naive_float32(problem), precision)


@one_framework
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@both_losses
def test_every_element_is_accurate_at_every_shape(family, shape, cuda_array):
    *sizes, precision = shape
    assert_is_twins(cuda_array, family, named(*operands(*sizes)), precision)


OPTIONS_HERE = {name: option for name, option in OPTIONS.items() if name != "exclude"} | {
    "exclude": lambda rng, y: {"exclude": random_lists(rng, len(y), 150, 40)},
    "all": lambda rng, y: {
        "labels": Ragged(np.where(rng.random(3 * len(y)) < 0.2, -1, y[:, [0, 0, 1]].ravel()), one_without(len(y))),
        "label_weights": rng.uniform(0, 2, 3 * len(y)),
        "exclude": random_lists(rng, len(y), 150, 40),
        "padding": -1,
        "grad_loss": rng.standard_normal(len(y)),
    },
}


def one_without(batch):
    """Offsets of 3 labels each, but for the first example, which has none, and the last."""
    return np.r_[0, np.arange(batch - 1) * 3, 3 * batch]


@one_framework
@pytest.mark.parametrize("option", OPTIONS_HERE)
@both_losses
def test_options_mean_what_they_mean_to_the_twin(family, option, cuda_array):
    arguments = named(*operands(37, 150, 9, 3))
    arguments |= OPTIONS_HERE[option](np.random.default_rng(1), arguments["labels"])
    assert_is_twins(cuda_array, family, arguments)
    fastnce.cuda.check()  # padding is no fault, nor is a label given twice


@one_framework
@pytest.mark.parametrize("half", half_cases(HALVES))
@both_losses
def test_gradients_of_16_bit_arrays_are_rounded_once(family, half, cuda_array):
    dtype = HALVES[half]
    arguments = named(*(a if a.dtype == int else a.astype(dtype) for a in operands(33, 70, 20, 2)))
    assert_is_twins(cuda_array, family, arguments)
    exact = solve(cuda_array, family, {**arguments, "grad_dtype": "float32"})
    rounded = solve(cuda_array, family, arguments)
    np.testing.assert_array_equal(rounded.loss, exact.loss)
    for ours, whole in zip(rounded[1:], exact[1:], strict=True):
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, whole.astype(dtype))


@both_losses
def test_the_loss_alone_is_the_loss_beside_gradients(family, cuda_array):
    arguments = named(*operands(24, 50, 6, 2))
    value = VALUE[family](**cuda_array.put_all(arguments))
    assert cuda_array.is_own(value)
    np.testing.assert_array_equal(cuda_array.get(value), solve(cuda_array, family, arguments).loss)


@both_losses
def test_several_axes_of_examples_and_shards(family, cuda_array):
    weights, biases, labels, inputs = operands(24, 50, 6, 2)
    whole = solve(cuda_array, family, named(weights, biases, labels, inputs))
    shards = [sharded(table, "mod") for table in (weights, biases)]
    nested = named(*shards, labels.reshape(2, 3, 4, 2), inputs.reshape(2, 3, 4, 6), partition_strategy="mod")
    parts = solve(cuda_array, family, nested)
    np.testing.assert_array_equal(parts.loss, whole.loss.reshape(2, 3, 4))
    np.testing.assert_array_equal(parts.inputs, whole.inputs.reshape(2, 3, 4, 6))
    np.testing.assert_array_equal(parts.weights, whole.weights)
    np.testing.assert_array_equal(parts.biases, whole.biases)


@one_framework
@pytest.mark.parametrize(("batch", "dim"), [(0, 3), (4, 3), (2, 0)])
@both_losses
def test_no_labels_or_no_columns(family, batch, dim, cuda_array):
    weights, biases, labels, inputs = operands(batch, 7, dim)
    labels = np.full(batch, -1) if dim else labels
    assert_is_twins(cuda_array, family, named(weights, biases, labels, inputs, padding=-1))


@one_framework
@pytest.mark.parametrize("logit", [20, 1e30])
@both_losses
def test_a_certain_prediction_keeps_its_digits(family, logit, cuda_array):
    """Loss and gradient of a label far above all other classes, which each example names twice."""
    biases = np.full(200, -1 if family == "softmax" else -25, np.float32)
    biases[3] = logit
    weights, inputs, labels = np.zeros((200, 2), np.float32), np.ones((2, 2), np.float32), np.full((2, 2), 3)
    ours = solve(cuda_array, family, named(weights, biases, labels, inputs, true_target="mean"))
    if family == "softmax":
        rest = 199 * np.exp(-1 - float(logit))
        expected, slope = np.log1p(rest), -rest / (1 + rest)
    else:
        expected = np.log1p(np.exp(-float(logit))) + 199 * np.log1p(np.exp(-25))
        slope = -1 / (1 + np.exp(min(float(logit), 700)))
    np.testing.assert_allclose(ours.loss, expected, rtol=1e-5)
    np.testing.assert_allclose(ours.biases[3], 2 * slope, rtol=1e-5, atol=1e-38)


@one_framework
@pytest.mark.parametrize("bad", [50, np.iinfo(np.int64).min])
@pytest.mark.parametrize("padding", [None, -7])
@both_losses
def test_a_label_out_of_range_gives_nan_and_is_reported_once(family, padding, bad, cuda_array):
    weights, biases, labels, inputs = operands(6, 50, 4, 2)
    labels[3] = bad
    ours = solve(cuda_array, family, named(weights, biases, labels, inputs, padding=padding))
    np.testing.assert_array_equal(np.isnan(ours.loss), np.arange(6) == 3)
    assert all(np.isfinite(array).all() for array in ours[1:])
    with pytest.raises(ValueError, match=r"labels\[3, 0\] = .* is outside \[0, num_classes = 50\)") as raised:
        fastnce.cuda.check()
    assert "such faults" not in str(raised.value)
    assert ("padding" in str(raised.value)) == (padding is not None)


@one_framework
def test_an_excluded_class_out_of_range_excludes_nothing_and_is_reported(cuda_array):
    arguments = named(*operands(3, 50, 4))
    ours = solve(cuda_array, "softmax", arguments | {"exclude": Ragged([50, -1], [0, 1, 2, 2])})
    np.testing.assert_array_equal(ours.loss, solve(cuda_array, "softmax", arguments).loss)
    with pytest.raises(ValueError, match=r"exclude.values\[\d\] = .*one of 2 such faults"):
        fastnce.cuda.check()


@one_framework
def test_more_classes_than_there_is_room_for_are_refused(cuda_array):
    weights, inputs = np.zeros((2**22 + 1, 0), np.float32), np.zeros((1, 0), np.float32)
    arguments = cuda_array.put_all(named(weights, None, np.zeros(1, int), inputs))
    with pytest.raises(ValueError, match="num_classes = 4194305: expected at most 4194304 on a CUDA device"):
        fastnce.softmax_loss(**arguments)


def test_out_is_for_the_cpu_alone(cuda_array):
    arguments = cuda_array.put_all(named(*operands(3, 5, 2)))
    with pytest.raises(ValueError, match="out: expected None on a CUDA device"):
        fastnce.softmax_loss_and_grad(**arguments, out=(np.zeros((5, 2), np.float32), None))


def test_progress_is_reported_at_the_end(cuda_array):
    arguments = cuda_array.put_all(named(*operands(3, 5, 2)))
    calls = []
    fastnce.softmax_loss(**arguments, progress=lambda *numbers: calls.append(numbers))
    assert calls == [(15, 15)]
    with pytest.raises(ZeroDivisionError):
        fastnce.sigmoid_loss_and_grad(**arguments, progress=lambda done, total: 1 / 0)
