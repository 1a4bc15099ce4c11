"""Every tolerance of the suite, and the rule by which losses and gradients are judged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce import reference

COUNT_ULPS = 2
"""Expected counts against TensorFlow's and the twin's, in units in the last place of float32."""

TENSORFLOW_RELATIVE = 2e-6
"""float32 losses and gradients against TensorFlow's, relative to the largest element of the array."""

UNITS = {"float32": 8.0, "float64": 16.0}
"""How many machine epsilons an element may be off, relative to the magnitude of the terms that make it up.

float32 has the error of a naive float32 evaluation on top; float64 has not, for there the oracle is naive.
"""

PRECISION_RELATIVE = {"highest": 0.0, "high": 2.0**-15, "medium": 2.0**-7}
"""What a precision level may add to the error of an element, relative to the magnitude of the terms that make it up:
the largest error of one product of two bfloat16 parts each, and of one each."""

PRECISION_PER_TENSOR = {"high": 2e-5, "medium": 1e-2}
"""The same for a whole tensor, where errors average out: Euclidean norm of the error over that of the tensor. "highest"
must be as good as NumPy's own float32."""

IN_BATCH_RELATIVE = {"float32": 4e-6, "float64": 1e-14, "float16": 1e-3, "uint16": 8e-3}
"""Results of the in-batch softmax, relative to the largest element of the array, by their dtype (uint16: bfloat16).
Halves are rounded once, by at most half a unit: 2^-11 and 2^-8. A temperature of 0.05 costs a digit."""

PARTS_RELATIVE = {"float32": 2e-6, "float64": 1e-14}
"""A loss in parts against the whole, relative to the largest element of the array, by the dtype of the computation:
the sums are the same in another order."""

SHARDED_RELATIVE = {"float32": 2e-5, "float64": 1e-12, "bfloat16": 4e-2}
"""Losses, gradients and tables of sharded modules after some steps of training against those of whole tables, relative
to the largest element of the array, by the dtype of the tables. A bfloat16 table rounds each step, by up to 2^-8."""

JAX_SHARDED_RELATIVE = {**PARTS_RELATIVE, "bfloat16": 2.0**-7}
"""Losses, gradients and tables of fastnce.jax.distributed against those of the unsharded functions, likewise: sums over
devices have another order. Both round once to bfloat16, by half a unit, of up to 2^-7."""

OPTIMIZER_RELATIVE = {"float32": 4e-6, "float64": 1e-13}
"""Tables and states after 50 steps against the twin or another library, relative to the largest element of the array:
some roundings of each step, which mostly cancel."""

CUDA_OPTIMIZER_RELATIVE = {"float32": 4e-5, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""Tables and states that a loss updates on a CUDA device against the CPU's, likewise, by the dtype of the tables. The
gradients of a loss have errors of their own there, which Adagrad's and Adam's first steps magnify; a 16-bit table may
be rounded to the other neighbour, one unit away."""

CURVE_RELATIVE = 1e-5
"""Losses along one training in several frameworks, which round sums differently and carry the differences on."""

COSINE_ABSOLUTE = 1e-6
"""Cosines of float32 vectors of some ten numbers, and correlations of such cosines, against float64."""

SKIP_GRAM_RELATIVE = 2e-5
"""Loss and tables after some dozens of steps of training in float32 against the float64 twin's, relative to the largest
element: each step rounds, and carries on what the one before has rounded."""

DIFFERENCE_STEP = 1e-5
DIFFERENCE_ABSOLUTE = 1e-8
"""float64 central differences: the step, and a bound on truncation (step^2) and cancellation (eps / step)."""

CHI_SQUARE_SIGMAS = 5.0
"""How far a chi-square statistic may lie above its mean, in standard deviations."""


class Results(NamedTuple):
    """One loss call's numeric results, or something of the same shapes."""

    loss: NDArray[np.floating]
    inputs: NDArray[np.floating]
    weights: NDArray[np.floating]
    biases: NDArray[np.floating] | None
    """``None`` of a call without biases."""

    @classmethod
    def of(cls, loss: ArrayLike, grads: reference.Grads) -> Results:
        results = (loss, grads.inputs, grads.rows.weights, grads.rows.biases)
        return cls(*(None if array is None else np.asarray(array) for array in results))


def allowed_error(
    true: NDArray[np.floating],
    scale: NDArray[np.floating],
    naive: NDArray[np.floating] | None,
    dtype: np.dtype[np.floating],
    precision: str,
) -> NDArray[np.floating]:
    """``|true - naive| + (units * eps + relative) * scale``: how far off each element of a result may be."""
    limits = np.finfo(dtype)
    relative = UNITS[dtype.name] * float(limits.eps)
    if dtype == np.float32:
        relative += PRECISION_RELATIVE[precision]
    allowed = relative * scale + float(limits.tiny)
    return allowed if naive is None else allowed + np.abs(true - naive)


def assert_accurate(
    actual: Results,
    truth: Results,
    magnitude: Results,
    naive: Results | None = None,
    precision: str = "highest",
    logits_precision: str | None = None,
) -> None:
    """``|truth - actual| <= allowed_error(...)``, for every single element.

    ``logits_precision`` is the level of what depends on the logits alone, where it is a better one.
    """
    for name in Results._fields:
        ours, true, scale = (getattr(results, name) for results in (actual, truth, magnitude))
        if true is None:
            assert ours is None, f"{name}: {ours!r}, expected None"
            continue
        assert ours.shape == true.shape, f"{name}: shape {ours.shape}, expected {true.shape}"
        plain = None if naive is None else getattr(naive, name)
        level = logits_precision if name in ("loss", "biases") and logits_precision is not None else precision
        allowed = allowed_error(true, scale, plain, ours.dtype, level)
        # Not `error > allowed`: a NaN must fail.
        bad = np.argwhere(~(np.abs(true - ours) <= allowed))
        if len(bad):
            at = tuple(bad[0].tolist())
            raise AssertionError(
                f"{len(bad)} of {ours.size} elements of {name} are off, first at {list(at)}: "
                f"{ours[at]!r}, expected {true[at]!r} +- {allowed[at]!r}"
            )


def relative_error(actual: ArrayLike, expected: ArrayLike) -> float:
    """The largest error, relative to the largest element; at least that to 1."""
    expected = np.asarray(expected)
    return float(np.abs(actual - expected).max(initial=0.0) / np.abs(expected).max(initial=1.0))


def assert_same_as_tensorflow(actual: ArrayLike, expected: ArrayLike) -> None:
    expected = np.asarray(expected)
    largest = np.abs(expected).max(initial=0.0)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TENSORFLOW_RELATIVE * largest)


def assert_counts_match(actual: ArrayLike, expected: ArrayLike) -> None:
    """Equal shapes, and at most ``COUNT_ULPS`` representable float32 numbers apart."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype == np.float32
    assert actual.shape == expected.shape
    apart = actual.view(np.int32).astype(np.int64) - expected.view(np.int32)
    assert np.abs(apart).max(initial=0) <= COUNT_ULPS
