"""fastnce.jax's losses with labels and a padding that JAX's integers cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
from cases import Case
from jax_arrays import RUN_TIME_ERRORS, enable_x64, jax, jnp

PROBLEM = Case(batch=6, num_true=2, sampled=7, remove_hits=True).problem()
CLASSES, SAMPLED = PROBLEM.num_classes, 7
OTHERS = {name: array for name, array in PROBLEM.arguments().items() if name not in ("labels", "padding")}
IS_PADDING = np.array([[0, 0], [1, 1], [0, 1], [1, 0], [0, 0], [0, 1]], bool)
X64 = pytest.mark.parametrize("x64", [False, True], ids=["x32", "x64"])
BEYOND_INT32 = [2**31, -(2**31) - 1, 2**32 - 1, 2**32, 2**40, -(2**40), 2**63 - 1, -(2**63)]
KEY = {"key": jax.random.key(7)}
SOURCES = {
    "given": {"sampled_values": PROBLEM.sampled_values},
    "key": {"sampled_values": None, **KEY},
    "sampler": {"sampled_values": fastnce.UniformSampler(CLASSES, SAMPLED, num_true=2), **KEY},
    "callable": {"sampled_values": lambda labels: (labels[:, 0].repeat(2)[:SAMPLED], None, None)},
}


def padded(padding, dtype="int64"):
    return np.where(IS_PADDING, np.array(padding, dtype), PROBLEM.labels.astype(dtype))


def losses_of(labels, padding, **changes):
    """The losses, and those of the rows' function, which must be the same."""
    arguments = {**OTHERS, "labels": labels, "padding": padding, **changes}
    loss = fastnce.jax.nce_loss(**arguments)
    np.testing.assert_array_equal(fastnce.jax.nce_value_and_rows(**arguments)[0], loss)
    return np.asarray(loss)


@X64
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("convert", [lambda labels: labels, np.ndarray.tolist], ids=["array", "list"])
@pytest.mark.parametrize("padding", [-1, *BEYOND_INT32])
def test_padding_of_numpy_labels_is_any_integer(padding, convert, source, x64):
    with enable_x64(x64):
        ours = losses_of(convert(padded(padding)), padding, **SOURCES[source])
        expected = losses_of(jnp.asarray(padded(-2)), -2, **SOURCES[source])
    np.testing.assert_array_equal(ours, expected)
    assert ours[1] == 0


@pytest.mark.parametrize("padding", BEYOND_INT32)
def test_padding_of_numpy_labels_is_the_numpy_entrys(padding):
    expected = fastnce.nce_loss(**OTHERS, labels=padded(padding), padding=padding)
    np.testing.assert_array_equal(losses_of(padded(padding), np.int64(padding)), expected)


def test_padding_may_be_of_any_unsigned_dtype():
    labels = padded(2**32 - 1, "uint32")
    expected = fastnce.nce_loss(**OTHERS, labels=labels, padding=2**32 - 1)
    for array in (labels, labels.astype(np.uint64), jnp.asarray(labels)):
        np.testing.assert_array_equal(losses_of(array, 2**32 - 1), expected)


@X64
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    ("dtype", "padding"),
    [("int32", padding) for padding in BEYOND_INT32]
    + [("uint32", -1), ("uint32", -(2**31)), ("uint32", 2**40), ("uint8", -1), ("uint8", 256), ("int8", 200)],
)
def test_padding_that_no_label_can_equal_pads_nothing(dtype, padding, source, x64):
    with enable_x64(x64):
        labels = jnp.asarray(PROBLEM.labels.astype(dtype))
        call = jax.jit(
            lambda labels, padding: fastnce.jax.nce_loss(
                **{**OTHERS, "labels": labels, "padding": padding, **SOURCES[source]}
            ),
            static_argnums=1,
        )
        np.testing.assert_array_equal(call(labels, padding), call(labels, None))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("dtype", "x64"), [("uint32", False), ("uint32", True), ("uint64", True)])
def test_no_unsigned_label_is_a_negative_padding(dtype, x64, source):
    with enable_x64(x64):
        labels = jnp.asarray(padded(np.iinfo(dtype).max, dtype))
        assert labels.dtype == dtype
        with pytest.raises(RUN_TIME_ERRORS, match=r"(labels|true_classes)\[1, 0\] = .* is outside"):
            losses_of(labels, -1, **SOURCES[source])


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_labels_of_64_bits_are_refused_where_jax_makes_none(dtype):
    with enable_x64(True):
        labels = jnp.asarray(PROBLEM.labels.astype(dtype)).at[0, 0].set(2**32 + 1)
        samples = (jnp.full(SAMPLED, 2**32 + 1, dtype), None, None)
    with enable_x64(False):
        with pytest.raises(TypeError, match=f"^labels has dtype {dtype}: expected jax_enable_x64 to be set"):
            losses_of(labels, None)
        with pytest.raises(TypeError, match=f"^sampled_candidates has dtype {dtype}: expected jax_enable_x64"):
            losses_of(PROBLEM.labels, None, sampled_values=samples)
        with pytest.raises(TypeError, match=f"^true_classes has dtype {dtype}: expected jax_enable_x64"):
            fastnce.jax.log_uniform_candidate_sampler(labels, 2, 3, True, CLASSES, key=jax.random.key(0))
