"""float16 and bfloat16 tables and inputs: read exactly, computed with in float32, gradients rounded once."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import fastnce
from cases import LENGTHS, Case
from halves import BFLOAT16, HALVES, half_cases, needs_bfloat16

ROLES = ("weights", "biases", "inputs")
PROBLEM = Case(batch=33, dim=40, sampled=70, num_true=2, remove_hits=True).problem()


def narrowed(problem, **dtypes):
    """The problem with some arrays in other dtypes, and the same numbers in float32."""
    arrays = {name: getattr(problem, name).astype(dtype) for name, dtype in dtypes.items()}
    wide = {name: array.astype(np.float32) for name, array in arrays.items()}
    return replace(problem, **arrays), replace(problem, **wide)


def gradients(problem, **changes):
    loss, grads = fastnce.nce_loss_and_grad(**{**problem.arguments(), **changes})
    return {"loss": loss, "inputs": grads.inputs, "weights": grads.rows.weights, "biases": grads.rows.biases}


@pytest.mark.parametrize("dtype", half_cases(HALVES))
@pytest.mark.parametrize("dim", [n for n in LENGTHS if 0 < n < 70])
def test_numbers_are_read_exactly_at_every_width(dim, dtype):
    half, wide = narrowed(Case(batch=5, dim=dim, sampled=7).problem(), **dict.fromkeys(ROLES, HALVES[dtype]))
    np.testing.assert_equal(gradients(half, grad_dtype="float32"), gradients(wide))


@pytest.mark.parametrize("roles", half_cases(product((np.float32, *HALVES.values()), repeat=3)), ids=str)
def test_any_mixture_is_computed_in_float32_and_rounded_once(roles):
    half, wide = narrowed(PROBLEM, **dict(zip(ROLES, roles, strict=True)))
    expected = gradients(wide)
    np.testing.assert_equal(gradients(half, grad_dtype="float32"), expected)
    rounded = gradients(half)
    assert rounded["loss"].dtype == np.float32
    np.testing.assert_array_equal(rounded["loss"], expected["loss"])
    for name, dtype in zip(ROLES, roles, strict=True):
        assert rounded[name].dtype == dtype
        np.testing.assert_array_equal(rounded[name], expected[name].astype(dtype))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", half_cases(HALVES))
def test_many_tiles_and_threads_make_no_difference(dtype, threads, set_threads):
    set_threads(threads)
    problem = Case(batch=700, dim=66, sampled=900).problem()
    half, wide = narrowed(problem, **dict.fromkeys(ROLES, HALVES[dtype]))
    np.testing.assert_equal(gradients(half, grad_dtype="float32"), gradients(wide))


@pytest.mark.parametrize("dtype", half_cases(HALVES.values()), ids=str)
def test_every_16_bit_number_is_read(dtype):
    """Zero weights, so that the biases are the logits: all 65,536 of them, true classes of one example each."""
    biases = np.arange(2**16, dtype=np.uint16).view(dtype)
    labels = np.arange(2**16)[:, None]
    nothing = np.zeros((2**16, 1), np.float32)
    sampled_values = (np.zeros(0, int), np.ones((2**16, 1)), np.ones(0))
    losses = [
        fastnce.nce_loss(nothing, b, labels, nothing, 0, 2**16, sampled_values=sampled_values)
        for b in (biases, biases.astype(np.float32))
    ]
    np.testing.assert_array_equal(*losses)
    assert len(np.unique(losses[0])) > 2**14


@pytest.mark.parametrize("dtype", half_cases(HALVES.values()), ids=str)
def test_gradients_of_every_size_are_rounded_to_nearest_even(dtype):
    """Upstream factors over all exponents, infinity and NaN, and near every tie."""
    exponents = np.ldexp(np.float32(1), np.arange(-149, 128))
    fractions = 1 + np.arange(2**12, dtype=np.float32)[:, None] * np.float32(2.0**-12)
    with np.errstate(over="ignore"):
        factors = np.concatenate([(exponents * fractions).ravel(), [0.0, np.inf, np.nan]]).astype(np.float32)
    factors = np.concatenate([factors, -factors])
    batch = len(factors)
    arguments = {
        "weights": np.ones((1, 1), np.float32),
        "labels": np.zeros((batch, 1), int),
        "num_sampled": 0,
        "num_classes": 1,
        "sampled_values": (np.zeros(0, int), np.ones((batch, 1)), np.ones(0)),
        "inputs": np.zeros((batch, 1), dtype),
        "biases": np.full(1, -1e9, np.float32),  # sigmoid - 1 is -1
        "grad_loss": factors,
    }
    rounded = fastnce.nce_loss_and_grad(**arguments)[1].inputs[:, 0]
    with np.errstate(over="ignore"):
        expected = (-factors).astype(dtype)
    assert rounded.dtype == dtype
    np.testing.assert_array_equal(rounded.astype(np.float32), expected.astype(np.float32))


@needs_bfloat16
def test_uint16_holds_bfloat16():
    half, _ = narrowed(PROBLEM, **dict.fromkeys(ROLES, BFLOAT16))
    bits = replace(half, **{name: getattr(half, name).view(np.uint16) for name in ROLES})
    for expected, got in zip(gradients(half).values(), gradients(bits).values(), strict=True):
        assert got.dtype in (np.float32, np.uint16)
        np.testing.assert_array_equal(got.view(expected.dtype), expected)


@needs_bfloat16
def test_shards_and_strides_of_halves_are_read():
    half, _ = narrowed(PROBLEM, weights=BFLOAT16)
    padded = np.zeros((len(half.weights), 57), half.weights.dtype)
    padded[:, :40] = half.weights
    cut = (len(half.weights) + 1) // 2
    shards = [padded[:cut, :40], padded[cut:, :40]]
    np.testing.assert_equal(gradients(half, weights=shards), gradients(half))


@needs_bfloat16
def test_memory_maps_of_halves_are_read(tmp_path):
    half, _ = narrowed(PROBLEM, weights=BFLOAT16)
    half.weights.view(np.uint16).tofile(tmp_path / "table")
    table = np.memmap(tmp_path / "table", np.uint16, "r", shape=half.weights.shape)
    for expected, got in zip(gradients(half).values(), gradients(half, weights=table).values(), strict=True):
        np.testing.assert_array_equal(np.asarray(got).view(expected.dtype), expected)


@pytest.mark.parametrize(("wrong", "error"), [("float16", ValueError), ("", ValueError), (np.float32, TypeError)])
def test_grad_dtype_takes_nothing_else(wrong, error):
    with pytest.raises(error, match=r"grad_dtype.*expected None or 'float32'"):
        gradients(PROBLEM, grad_dtype=wrong)


def test_float64_gradients_are_float64():
    with pytest.raises(ValueError, match="grad_dtype = 'float32': expected None for float64 arrays"):
        gradients(Case(dtype="float64").problem(), grad_dtype="float32")


@needs_bfloat16
def test_torch_halves_come_back_as_torch_halves():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    expected = gradients(narrowed(PROBLEM, **dict.fromkeys(ROLES, BFLOAT16))[0])
    lent = {name: torch.from_numpy(getattr(PROBLEM, name)).bfloat16() for name in ROLES}
    got = gradients(PROBLEM, **lent)
    for name in ROLES:
        assert got[name].dtype == torch.bfloat16
        np.testing.assert_array_equal(got[name].float().numpy(), expected[name].astype(np.float32))


@needs_bfloat16
def test_jax_halves_come_back_as_jax_halves():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    expected = gradients(narrowed(PROBLEM, **dict.fromkeys(ROLES, BFLOAT16))[0])
    lent = {name: jax.numpy.asarray(getattr(PROBLEM, name), jax.numpy.bfloat16) for name in ROLES}
    got = gradients(PROBLEM, **lent)
    for name in ROLES:
        assert isinstance(got[name], jax.Array)
        assert got[name].dtype == jax.numpy.bfloat16
        np.testing.assert_array_equal(np.asarray(got[name]), expected[name])
