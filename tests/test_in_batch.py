"""In-batch softmax against its float64 twin, and by the cases of the sampled softmax that it equals."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastnce
from fastnce import Ragged, reference
from tolerances import IN_BATCH_RELATIVE, relative_error

SIZES = [(1, 1, 0), (1, 4, 2), (2, 8, 0), (65, 33, 0), (130, 16, 70), (257, 64, 129)]
"""B, D and N."""
OPTIONS = [dict(), dict(ids=True), dict(log_q=True), dict(ids=True, log_q=True, excluded=True, temperature=0.05)]


def problem(batch, dim, more, dtype="float32", *, ids=False, log_q=False, excluded=False, temperature=1.0):
    """Arguments of the loss; items come several times."""
    rng = np.random.default_rng(batch + dim)
    rows = lambda count: (rng.standard_normal((count, dim)) * 0.3).astype(dtype)  # noqa: E731
    numbers = lambda count: rng.integers(0, batch // 2 + 2, count) - 7  # noqa: E731
    logs = lambda count: rng.standard_normal(count).astype(np.float32) if log_q else None  # noqa: E731
    arguments: dict[str, Any] = {"inputs": rows(batch), "items": rows(batch), "temperature": temperature}
    arguments |= {"item_ids": numbers(batch) if ids else None, "log_q": logs(batch)}
    if more:
        arguments["extra"] = (rows(more), numbers(more) if ids else None, logs(more))
    if excluded:
        lengths = rng.integers(0, 4, batch)
        arguments["exclude"] = Ragged(numbers(lengths.sum()), np.append(0, np.cumsum(lengths)))
    arguments["grad_loss"] = rng.uniform(-1, 2, batch).astype(np.float32)
    return arguments


def widened(array):
    if array.dtype == np.uint16:  # bfloat16
        return (array.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array, np.float64)


def truth_of(arguments):
    wide = {**arguments, "inputs": widened(arguments["inputs"]), "items": widened(arguments["items"])}
    if "extra" in wide:
        wide["extra"] = (widened(wide["extra"][0]), *wide["extra"][1:])
    return reference.in_batch_softmax_loss_and_grad(**wide)


def assert_equal_but_for_rounding(results, truth):
    assert len(results) == len(truth)
    for got, expected in zip(results, truth, strict=True):
        assert got.shape == expected.shape
        assert relative_error(widened(got), expected) <= IN_BATCH_RELATIVE[got.dtype.name]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_loss_and_gradients_of_both_towers_are_accurate(sizes, options):
    arguments = problem(*sizes, **options)
    results = fastnce.in_batch_softmax_loss_and_grad(**arguments)
    assert_equal_but_for_rounding(results, truth_of(arguments))
    without = {name: value for name, value in arguments.items() if name != "grad_loss"}
    np.testing.assert_array_equal(fastnce.in_batch_softmax_loss(**without), results[0])


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint16"])
def test_every_element_type(dtype):
    wide = problem(70, 40, 30, ids=True, log_q=True, temperature=0.5)
    narrow = lambda a: (a.view(np.uint32) >> 16).astype(np.uint16) if dtype == "uint16" else a.astype(dtype)  # noqa: E731
    arguments = wide | {name: narrow(wide[name]) for name in ("inputs", "items")}
    arguments["extra"] = (narrow(wide["extra"][0]), *wide["extra"][1:])
    results = fastnce.in_batch_softmax_loss_and_grad(**arguments)
    assert [array.dtype for array in results[1:]] == [np.dtype(dtype)] * 3
    assert_equal_but_for_rounding(results, truth_of(arguments))
    if dtype != "float64":
        wide_results = fastnce.in_batch_softmax_loss_and_grad(**arguments, grad_dtype="float32")
        assert_equal_but_for_rounding(wide_results, truth_of(arguments))


def test_it_is_a_sampled_softmax_over_the_table_of_items():
    arguments = problem(40, 12, 0, "float64", log_q=True)
    count = np.exp(arguments["log_q"].astype(np.float64))
    loss, grads = fastnce.sampled_softmax_loss_and_grad(
        arguments["items"], None, np.arange(40), arguments["inputs"], 40, 40,
        sampled_values=(np.arange(40), count, count), grad_loss=arguments["grad_loss"],
    )  # fmt: skip
    results = fastnce.in_batch_softmax_loss_and_grad(**arguments)
    for got, expected in zip(results, (loss, grads.inputs, grads.rows.weights), strict=True):
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)


def test_ids_may_be_any_integers():
    arguments = problem(60, 8, 20, ids=True, excluded=True)
    huge = lambda ids: ids * 2**57  # noqa: E731
    items, ids, log_q = arguments["extra"]
    same = arguments | {"item_ids": huge(arguments["item_ids"]), "extra": (items, huge(ids), log_q)}
    same["exclude"] = Ragged(huge(arguments["exclude"].values), arguments["exclude"].offsets)
    results = [fastnce.in_batch_softmax_loss_and_grad(**some) for some in (arguments, same)]
    np.testing.assert_equal(*results)


def test_a_temperature_of_numpy_is_a_number():
    arguments = problem(20, 8, 0)
    results = [fastnce.in_batch_softmax_loss_and_grad(**arguments | {"temperature": t}) for t in (0.5, np.float32(0.5))]
    np.testing.assert_equal(*results)


def test_a_batch_of_one_item_has_no_negatives():
    arguments = problem(50, 8, 0) | {"item_ids": np.full(50, 3)}
    loss, grad_inputs, grad_items = fastnce.in_batch_softmax_loss_and_grad(**arguments)
    np.testing.assert_array_equal(loss, 0)
    np.testing.assert_array_equal(grad_inputs, 0)
    np.testing.assert_array_equal(grad_items, 0)


def test_an_empty_batch_has_no_losses():
    empty = np.zeros((0, 4), np.float32)
    loss, grad_inputs, grad_items = fastnce.in_batch_softmax_loss_and_grad(empty, empty)
    assert loss.shape == (0,) and grad_inputs.shape == grad_items.shape == (0, 4)
    *_, grad_extra = results = fastnce.in_batch_softmax_loss_and_grad(empty, empty, extra=(empty, None, None))
    assert len(results) == 4 and grad_extra.shape == (0, 4)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"items": np.zeros((4, 6), "f")}, ValueError, ["items has shape [4, 6]", "[5, 6]"]),
        ({"items": np.zeros((5, 6))}, TypeError, ["items has dtype float64", "inputs has dtype float32"]),
        ({"item_ids": np.arange(4)}, ValueError, ["item_ids has shape [4]", "[5]"]),
        ({"item_ids": np.arange(5.0)}, TypeError, ["item_ids", "float64", "integer"]),
        ({"item_ids": None}, ValueError, ["ids of extra is given but item_ids is None"]),
        ({"item_ids": None, "extra": None}, ValueError, ["exclude is given but item_ids is None"]),
        ({"log_q": None}, ValueError, ["log_q of extra is given but log_q is None"]),
        ({"log_q": np.zeros((5, 1))}, ValueError, ["log_q has shape [5, 1]", "[5]"]),
        ({"log_q": np.array([0, 1, -np.inf, 0, 0])}, ValueError, ["log_q[2] = -inf", "finite"]),
        ({"extra": (np.zeros((3, 5), "f"), np.arange(3), np.zeros(3))}, ValueError, ["extra", "[3, 5]", "D = 6"]),
        ({"extra": (np.zeros((3, 6), "f"), np.arange(2), np.zeros(3))}, ValueError, ["ids of extra", "[2]", "[3]"]),
        ({"extra": (np.zeros((1, 6), "f"), [1], [np.nan])}, ValueError, ["log_q[0] of extra = nan", "finite"]),
        ({"items": [[0.0] * 6] * 5}, TypeError, ["items is a list: expected an array"]),
        ({"extra": (np.zeros((1, 6), "f"), [1])}, ValueError, ["extra has 2 values: expected three"]),
        ({"extra": 7}, ValueError, ["extra is an int: expected three"]),
        ({"extra": ([[0.0] * 6], [1], [0.0])}, TypeError, ["items of extra is a list"]),
        ({"log_q": np.array([0, 1, 1e39, 0, 0])}, ValueError, ["log_q[2] = inf", "finite float32"]),
        ({"exclude": [[1]] * 5}, TypeError, ["exclude is a list", "fastnce.Ragged"]),
        ({"temperature": 0.0}, ValueError, ["temperature = 0", "positive"]),
        ({"temperature": np.nan}, ValueError, ["temperature = nan"]),
        ({"temperature": 1e-39}, ValueError, ["temperature = 1e-39", "inverse"]),
        ({"temperature": "cold"}, TypeError, ["temperature is a str", "number"]),
        ({"grad_loss": np.ones(4)}, ValueError, ["grad_loss", "[4]", "[5]"]),
    ],
)
def test_it_refuses(change, error, words):
    arguments = problem(5, 6, 3, ids=True, log_q=True, excluded=True) | change
    with pytest.raises(error) as raised:
        fastnce.in_batch_softmax_loss_and_grad(**arguments)
    assert all(word in str(raised.value) for word in words), str(raised.value)


MEMORY = """
import resource, numpy as np, fastnce
def call(batch):
    x = np.zeros((batch, 4), np.float32)
    fastnce.in_batch_softmax_loss_and_grad(x, x, np.arange(batch) // 2, log_q=np.zeros(batch), temperature=0.5)
call(64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
call(24576)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_bits_of_bfloat16_are_not_joined_with_other_floats():
    """NumPy would promote the bits as integers."""
    items, extra = np.ones((3, 2), np.float32), np.ones((4, 2), np.uint16)
    for first, second in ((items, extra), (extra[:3], np.ones((4, 2), np.float32))):
        with pytest.raises(TypeError, match="extra: items have dtype"):
            fastnce.in_batch_softmax_loss(items, first, extra=(second, None, None))


def test_ids_of_the_batch_and_of_extra_items_may_differ_in_dtype():
    """NumPy would make float64 of uint64 and int64, in which neighbours of this size are one number."""
    large = 2**60
    rng = np.random.default_rng(0)
    inputs, items, extra = (rng.standard_normal((count, 4)).astype(np.float32) for count in (3, 3, 2))
    ids, more = np.array([large, large + 1, 5], np.uint64), np.array([large + 1, 7], np.int64)
    mixed = fastnce.in_batch_softmax_loss(inputs, items, ids, extra=(extra, more, None))
    same = fastnce.in_batch_softmax_loss(inputs, items, np.array([0, 1, 2]), extra=(extra, np.array([1, 3]), None))
    np.testing.assert_array_equal(mixed, same)


def test_the_logits_are_never_in_memory():
    kilobytes = subprocess.run([sys.executable, "-c", MEMORY], check=True, capture_output=True, text=True, timeout=300)
    assert int(kilobytes.stdout) < 300 * 1024, "the logits alone take 2.25 GiB"
