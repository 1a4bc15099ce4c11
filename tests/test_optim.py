"""Optimizers in NumPy: the twin's numbers, rows that occur twice, rows that are not touched, states, dtypes, errors."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnce
from halves import half_cases
from optimizers import EVERY_RULE, RULES, Rule, Twin
from tolerances import CHI_SQUARE_SIGMAS

V = 60


def tables(dim: int, dtype: Any = np.float32, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(V, dim)).astype(dtype), rng.normal(size=V).astype(dtype)


def gradients(dim: int, dtype: Any = np.float32, seed: int = 1, rows: int = 25) -> tuple[np.ndarray, ...]:
    """Ids in any order, some of them several times, and their gradients."""
    rng = np.random.default_rng(seed)
    return rng.integers(V, size=rows), rng.normal(size=(rows, dim)).astype(dtype), rng.normal(size=rows).astype(dtype)


@pytest.mark.parametrize("dim", [1, 7, 16, 33, 128])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_50_steps_are_those_of_the_twin(rule: Rule, dtype: Any, dim: int) -> None:
    weights, biases = tables(dim, dtype)
    twin = Twin(rule, weights, biases)
    optimizer = rule.make(weights, biases)
    for step in range(50):
        given = gradients(dim, dtype, step)
        optimizer.update_rows(*given)
        twin.update_rows(*given)
    twin.assert_same(optimizer)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_rows_that_a_step_does_not_touch_stay_as_they_are(rule: Rule) -> None:
    weights, biases = tables(9)
    optimizer = rule.make(weights, biases)
    optimizer.update_rows(*gradients(9))
    before = [array.copy() for array in (weights, biases, *optimizer.state.values())]
    ids, rows, bias_rows = gradients(9, seed=2)
    optimizer.update_rows(ids, rows, bias_rows)
    others = np.setdiff1d(np.arange(V), ids)
    after = (weights, biases, *optimizer.state.values())
    for old, new in zip(before, after, strict=True):
        assert old.ndim == 0 or np.array_equal(old[others], new[others])


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_biases_may_be_left_out_and_updated_alone(rule: Rule) -> None:
    weights, biases = tables(5)
    ids, rows, bias_rows = gradients(5)
    alone = rule.make(weights.copy())
    alone.update_rows(ids, rows)
    both = rule.make(weights.copy(), biases.copy())
    both.update_rows(ids, rows)
    assert np.array_equal(alone.weights, both.weights)
    assert np.array_equal(both.biases, biases)
    both = rule.make(weights.copy(), biases.copy())
    both.update_rows(ids, None, bias_rows)
    assert np.array_equal(both.weights, weights)
    assert not np.array_equal(both.biases, biases)


@pytest.mark.parametrize("strategy", ["div", "mod"])
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_shards_are_updated_as_the_whole_table_is(rule: Rule, strategy: str) -> None:
    weights, biases = tables(6)
    if strategy == "div":
        parts = tuple([part.copy() for part in np.array_split(table, 7)] for table in (weights, biases))
    else:
        parts = tuple([table[i::7].copy() for i in range(7)] for table in (weights, biases))
    whole = rule.make(weights, biases)
    sharded = rule.make(*parts, partition_strategy=strategy)
    for step in range(3):
        for optimizer in (whole, sharded):
            optimizer.update_rows(*gradients(6, seed=step))
    for i, part in enumerate(parts[0]):
        assert np.array_equal(part, np.array_split(weights, 7)[i] if strategy == "div" else weights[i::7])
    for i, part in enumerate(parts[1]):
        assert np.array_equal(part, np.array_split(biases, 7)[i] if strategy == "div" else biases[i::7])
    assert all(np.array_equal(whole.state[name], sharded.state[name]) for name in whole.state)


def test_tables_may_be_rows_of_a_wider_array_and_memory_maps(tmp_path: Path) -> None:
    weights, _ = tables(10)
    expected = RULES["adagrad"].make(weights.copy())
    expected.update_rows(*gradients(10)[:2])
    wide = np.full((V, 16), 7.0, np.float32)
    wide[:, 3:13] = weights
    RULES["adagrad"].make(wide[:, 3:13]).update_rows(*gradients(10)[:2])
    assert np.array_equal(wide[:, 3:13], expected.weights)
    assert (np.delete(wide, np.s_[3:13], axis=1) == 7.0).all()
    mapped = np.memmap(tmp_path / "table", np.float32, "w+", shape=weights.shape)
    mapped[:] = weights
    RULES["adagrad"].make(mapped).update_rows(*gradients(10)[:2])
    mapped.flush()
    assert np.array_equal(np.fromfile(tmp_path / "table", np.float32).reshape(V, 10), expected.weights)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_results_do_not_depend_on_the_number_of_threads(rule: Rule, set_threads: Any) -> None:
    ids, rows = np.arange(5000) % 3000, np.random.default_rng(1).normal(size=(5000, 200)).astype(np.float32)
    results = []
    for threads in (1, 2, 5):
        set_threads(threads)
        optimizer = rule.make(np.ones((3000, 200), np.float32))
        optimizer.update_rows(ids, rows)
        results.append((optimizer.weights, *optimizer.state.values()))
    for other in results[1:]:
        assert all(map(np.array_equal, results[0], other))


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_training_goes_on_from_a_saved_state(rule: Rule, tmp_path: Path) -> None:
    weights, biases = tables(8)
    optimizer = rule.make(weights, biases)
    optimizer.update_rows(*gradients(8))
    np.savez(tmp_path / "state.npz", **optimizer.state)
    resumed = rule.make(weights.copy(), biases.copy(), state=np.load(tmp_path / "state.npz"))
    for step in range(2, 5):
        optimizer.update_rows(*gradients(8, seed=step))
        resumed.update_rows(*gradients(8, seed=step))
    assert np.array_equal(resumed.weights, weights) and np.array_equal(resumed.biases, biases)
    assert all(np.array_equal(resumed.state[name], optimizer.state[name]) for name in optimizer.state)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_copies_and_pickles_go_on_by_themselves(rule: Rule) -> None:
    weights, biases = tables(8)
    optimizer = rule.make(weights, biases)
    optimizer.update_rows(*gradients(8))
    model = {"table": weights, "optimizer": optimizer}
    copies = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
    optimizer.update_rows(*gradients(8, seed=2))
    for copied in copies:
        other = copied["optimizer"]
        assert other.weights is copied["table"] and other.state["step"] == 1
        other.update_rows(*gradients(8, seed=2))
        assert np.array_equal(other.weights, weights) and np.array_equal(other.biases, biases)
        assert all(np.array_equal(other.state[name], optimizer.state[name]) for name in optimizer.state)


def test_a_state_of_another_optimizer_is_refused_and_changes_nothing() -> None:
    weights, biases = tables(8)
    adam = RULES["adam"].make(weights, biases)
    for name, array, error in (
        (
            "weights.exp_avg_sq",
            np.ones((V, 8), complex),
            r"state\['weights.exp_avg_sq'\] has dtype complex128",
        ),
        ("step", np.array(2.0), r"state\['step'\] has dtype float64: expected int64"),
        ("step", np.array(-1), r"state\['step'\] = -1: expected at least 0"),
        ("step", np.array(2**64 - 1, np.uint64), r"state\['step'\] = 18446744073709551615: expected .*, below 2\^62"),
    ):
        changed = {key: np.ones_like(value) for key, value in adam.state.items()} | {name: array}
        with pytest.raises((TypeError, ValueError), match=error):
            adam.load_state(changed)
        assert not any(value.any() for value in adam.state.values())
    with pytest.raises(
        ValueError, match=r"state has the arrays \['step', 'weights.sum'\]: expected \['biases.exp_avg'"
    ):
        adam.load_state(RULES["adagrad"].make(weights).state)
    other = dict(RULES["adam"].make(weights[:, :5].copy(), biases).state) | {"step": np.array(9)}
    with pytest.raises(ValueError, match=r"state\['weights.exp_avg'\] has shape \[60, 5\]: expected \[60, 8\]"):
        adam.load_state(other)
    with pytest.raises(TypeError, match="state is an int: expected arrays by name"):
        adam.load_state(5)  # type: ignore[arg-type]
    assert adam.state["step"] == 0


def test_a_schedule_is_asked_for_each_step() -> None:
    weights, _ = tables(3)
    asked = []

    def schedule(step: int) -> float:
        asked.append(step)
        return 0.5 / step

    optimizer = fastnce.optim.SGD(weights.copy(), lr=schedule)
    for _ in range(3):
        optimizer.update_rows([4], np.ones((1, 3), np.float32))
    assert asked[-3:] == [1, 2, 3]
    np.testing.assert_allclose(optimizer.weights[4], weights[4] - 0.5 * (1 + 1 / 2 + 1 / 3), rtol=1e-6)
    decayed = fastnce.optim.Adagrad(weights.copy(), lr=0.5, lr_decay=1.0, initial_accumulator_value=1e12, eps=0.0)
    for _ in range(3):
        decayed.update_rows([4], np.full((1, 3), 1e6, np.float32))
    expected = weights[4] - 0.5 * (1 / np.sqrt(2) + 1 / 2 / np.sqrt(3) + 1 / 3 / np.sqrt(4))
    np.testing.assert_allclose(decayed.weights[4], expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", half_cases(["float16", "bfloat16"]))
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_rows_of_16_bits_are_rounded_once_to_nearest(rule: Rule, dtype: str) -> None:
    weights, biases = (array.astype(dtype) for array in tables(19))
    twin = Twin(rule, weights, biases)
    optimizer = rule.make(weights, biases, stochastic_rounding=False)
    for step in range(3):
        given = gradients(19, seed=step)
        optimizer.update_rows(*given)
        twin.update_rows(*given)
        for table in ("weights", "biases"):
            exact, ours = twin.tables[table], np.asarray(getattr(optimizer, table))
            unit = np.spacing(np.abs(ours)).astype(np.float64)
            assert (np.abs(ours.astype(np.float64) - exact) <= 0.505 * unit).all(), table
            twin.tables[table] = ours.astype(np.float64)


@pytest.mark.parametrize("scale", [1.0, 3e-6], ids=["normal", "subnormal"])
@pytest.mark.parametrize("dtype", half_cases(["float16", "bfloat16"]))
def test_stochastic_rounding_is_to_a_neighbour_and_without_bias(dtype: str, scale: float) -> None:
    rows, dim = 2000, 64
    row = (np.random.default_rng(3).uniform(-2, 2, dim) * scale).astype(dtype)
    row[:3] = 0.0, scale, -scale
    weights = np.tile(row, (rows, 1))
    step = np.random.default_rng(4).uniform(-0.01, 0.01, dim).astype(np.float32) * np.float32(scale)
    exact = row.astype(np.float64) - step
    optimizer = fastnce.optim.SGD(weights, lr=1.0, seed=5)
    optimizer.update_rows(np.arange(rows), np.tile(step, (rows, 1)))
    results = weights.astype(np.float64)
    nearest = exact.astype(np.float32).astype(dtype)
    unit = np.spacing(np.abs(nearest)).astype(np.float64)
    assert (np.abs(results - exact) < unit).all()
    above = np.maximum(results.max(0), results.min(0))
    below = np.minimum(results.max(0), results.min(0))
    spread = np.maximum(above - below, 0)
    deviation = np.sqrt(np.maximum((exact - below) * (above - exact), 0) / rows)
    assert (np.abs(results.mean(0) - exact) <= CHI_SQUARE_SIGMAS * deviation + 1e-3 * unit).all()
    assert (spread > 0).mean() > 0.9


@pytest.mark.parametrize("dtype", half_cases(["float16", "bfloat16"]))
def test_small_steps_are_not_lost_by_stochastic_rounding(dtype: str) -> None:
    weights = {rounding: np.ones((100, 16), dtype) for rounding in (False, True)}
    step = np.full((100, 16), 1e-4, np.float32)
    for rounding, table in weights.items():
        optimizer = fastnce.optim.SGD(table, lr=1.0, stochastic_rounding=rounding)
        for _ in range(1000):
            optimizer.update_rows(np.arange(100), step)
    assert (weights[False] == 1).all()
    assert abs(weights[True].astype(np.float64).mean() - 0.9) < 0.005


@pytest.mark.parametrize("dtype", half_cases(["bfloat16"]))
def test_rounding_follows_from_seed_and_step(dtype: str) -> None:
    def after(steps: int, seed: int) -> np.ndarray:
        optimizer = fastnce.optim.SGD(np.ones((V, 32), dtype), lr=1.0, seed=seed)
        for _ in range(steps):
            optimizer.update_rows(np.arange(V), np.full((V, 32), 1e-3, np.float32))
        return optimizer.weights.view(np.uint16)

    assert np.array_equal(after(3, seed=1), after(3, seed=1))
    assert not np.array_equal(after(3, seed=1), after(3, seed=2))
    once, rows = after(1, seed=1), after(1, seed=1)[:, :16]
    assert not np.array_equal(once[0], once[1])
    assert not np.array_equal(rows[:, 0], rows[:, 1])


@pytest.mark.parametrize("dtype", half_cases(["float16", "bfloat16"]))
def test_numbers_that_are_not_finite_survive_stochastic_rounding(dtype: str) -> None:
    weights = np.array([[np.inf, -np.inf, np.nan, 1.0]], dtype)
    fastnce.optim.SGD(weights, lr=1.0).update_rows([0], np.zeros((1, 4), np.float32))
    assert weights[0, 0] == np.inf and weights[0, 1] == -np.inf and np.isnan(weights[0, 2]) and weights[0, 3] == 1


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("dtype", half_cases(["float16", "bfloat16"]))
def test_gradients_of_16_bits_are_taken(dtype: str, ascending: bool) -> None:
    weights, biases = tables(11)
    ids, rows, bias_rows = gradients(11)
    ids = np.arange(len(ids)) if ascending else ids
    rows, bias_rows = rows.astype(dtype), bias_rows.astype(dtype)
    wide = RULES["adagrad"].make(weights.copy(), biases.copy())
    wide.update_rows(ids, rows.astype(np.float32), bias_rows.astype(np.float32))
    narrow = RULES["adagrad"].make(weights, biases)
    narrow.update_rows(ids, rows, bias_rows)
    assert np.array_equal(narrow.weights, wide.weights) and np.array_equal(narrow.biases, wide.biases)


@pytest.mark.parametrize("dtype", ["float32", *half_cases(["float16", "bfloat16"])])
def test_ids_that_ascend_may_have_rows_of_any_layout(dtype: Any) -> None:
    weights, biases = tables(11)
    rng = np.random.default_rng(3)
    ids, bias_rows = np.arange(0, V, 3), rng.normal(size=V // 3).astype(dtype)
    rows = rng.normal(size=(V // 3, 11)).astype(dtype)
    expected = RULES["adagrad"].make(weights.copy(), biases.copy())
    expected.update_rows(ids, rows.astype(np.float32), bias_rows.astype(np.float32))
    wide = np.zeros((V // 3, 20), dtype)
    wide[:, 4:15] = rows
    for given in (rows, rows[::-1].copy()[::-1], np.asfortranarray(rows), wide[:, 4:15]):
        optimizer = RULES["adagrad"].make(weights.copy(), biases.copy())
        optimizer.update_rows(ids, given, bias_rows)
        assert np.array_equal(optimizer.weights, expected.weights)
        assert np.array_equal(optimizer.biases, expected.biases)


def test_gradients_of_biases_may_be_any_numbers() -> None:
    ids, bias_rows = [3, 1], np.array([0.5, -2.0], np.float32)
    expected = RULES["sgd"].make(*tables(4))
    expected.update_rows(ids, None, bias_rows)
    for given in ([0.5, -2], bias_rows.astype(np.float64), np.repeat(bias_rows, 3)[::3]):
        optimizer = RULES["sgd"].make(*tables(4))
        optimizer.update_rows(ids, None, given)
        assert np.array_equal(optimizer.biases, expected.biases)


def test_an_update_of_no_rows_is_a_step() -> None:
    weights, biases = tables(4)
    optimizer = RULES["adam"].make(weights.copy(), biases.copy())
    optimizer.update_rows(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert optimizer.state["step"] == 1 and np.array_equal(optimizer.weights, weights)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([V], np.zeros((1, 4), np.float32)), r"ids\[0\] = 60 is outside \[0, num_classes = 60\)"),
        (([-1], np.zeros((1, 4), np.float32)), r"ids\[0\] = -1 is outside"),
        (([1, 2], np.zeros((1, 4), np.float32)), r"rows has shape \[1, 4\]: expected \[2, 4\], a row for each of ids"),
        (([1], np.zeros((1, 5), np.float32)), r"rows has shape \[1, 5\]: expected \[1, 4\]"),
        (([1], np.zeros((1, 4), np.float32), np.zeros(2, np.float32)), r"bias_rows has shape \[2\]: expected \[1\]"),
        (([[1]], np.zeros((1, 4), np.float32)), r"ids has shape \[1, 1\] of rank 2: expected \[n\]"),
        (([1], np.zeros((1, 4))), "rows has dtype float64: expected float32, float16 or bfloat16"),
        (([1], None), "rows and bias_rows are None: expected the gradients of weights, of biases, or both"),
    ],
)
def test_gradients_that_do_not_fit_are_refused_and_change_nothing(arguments: Any, message: str) -> None:
    weights, biases = tables(4)
    optimizer = RULES["adagrad"].make(weights.copy(), biases.copy())
    with pytest.raises((ValueError, TypeError), match=message):
        optimizer.update_rows(*arguments)
    assert np.array_equal(optimizer.weights, weights) and np.array_equal(optimizer.biases, biases)
    assert optimizer.state["step"] == 0 and not optimizer.state["weights.sum"].any()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda w: fastnce.optim.SGD(w, lr=-1.0), ValueError, "lr = -1: expected a finite number, at least 0"),
        (lambda w: fastnce.optim.SGD(w, lr=np.nan), ValueError, "lr = nan: expected a finite number, at least 0"),
        (lambda w: fastnce.optim.SGD(w, lr="fast"), TypeError, "lr is a str: expected a number"),
        (lambda w: fastnce.optim.SGD(w, lr="0.1"), TypeError, "lr is a str: expected a number"),
        (lambda w: fastnce.optim.SGD(w, momentum=w[0]), TypeError, "momentum is an ndarray: expected a number"),
        (lambda w: fastnce.optim.SGD(w, momentum=-0.1), ValueError, "momentum = -0.1: expected a finite number"),
        (
            lambda w: fastnce.optim.Adam(w, betas=(1.0, 0.9)),
            ValueError,
            r"betas\[0\] = 1: expected a number in \[0, 1\)",
        ),
        (lambda w: fastnce.optim.Adam(w, betas=0.9), TypeError, r"betas = 0\.9: expected two numbers"),
        (lambda w: fastnce.optim.Adam(w, betas=("b", 0.9)), TypeError, r"betas\[0\] is a str: expected a number"),
        (lambda w: fastnce.optim.Adam(w, eps=-1e-8), ValueError, "eps = -1e-08: expected a finite number, at least 0"),
        (lambda w: fastnce.optim.Adagrad(w, lr_decay=-1), ValueError, "lr_decay = -1: expected a finite number"),
        (
            lambda w: fastnce.optim.RowwiseAdagrad(w, initial_accumulator_value=-1),
            ValueError,
            "initial_accumulator_value = -1: expected a finite number, at least 0",
        ),
        (lambda w: fastnce.optim.SGD(w, weight_decay=-1), ValueError, "weight_decay = -1: expected a finite number"),
        (
            lambda w: fastnce.optim.SGD(w, nesterov=True),
            TypeError,
            "SGD has no argument nesterov: expected one of weights, biases, lr, momentum, weight_decay",
        ),
        (lambda w: fastnce.optim.SGD(w[:, 0]), ValueError, r"weights has shape \[60\] of rank 1: expected \[V, D\]"),
        (lambda w: fastnce.optim.SGD(w, w), ValueError, r"biases has shape \[60, 4\] of rank 2: expected \[V\]"),
        (lambda w: fastnce.optim.SGD([]), ValueError, "weights has no shards: expected at least one"),
        (lambda w: fastnce.optim.SGD(w, w[:5, 0]), ValueError, "biases has 5 rows: expected at least num_classes = 60"),
        (
            lambda w: fastnce.optim.SGD(w, np.zeros(V)),
            TypeError,
            "biases has dtype float64 but weights has dtype float32: expected float32, float16 or bfloat16; convert w",
        ),
        (lambda w: fastnce.optim.SGD([w, w[:9]]), ValueError, r"weights\[0\] has 60 rows: expected 35"),
        (
            lambda w: fastnce.optim.SGD(w, partition_strategy="rows"),  # type: ignore[arg-type]
            ValueError,
            "partition_strategy = 'rows': expected 'div' or 'mod'",
        ),
        (lambda w: fastnce.optim.SGD(w[:0]), ValueError, "num_classes = 0: expected at least 1"),
    ],
)
def test_what_makes_no_optimizer_is_refused(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make(tables(4)[0])


def test_tables_that_cannot_be_written_to_are_refused() -> None:
    weights, _ = tables(4)
    weights.flags.writeable = False
    with pytest.raises(ValueError, match="weights is read-only: expected an array that can be written to"):
        fastnce.optim.SGD(weights)
    repeated = np.lib.stride_tricks.as_strided(np.ones(4, np.float32), (3, 4), (0, 4))
    with pytest.raises(ValueError, match="weights has rows 0 elements apart: expected at least 4"):
        fastnce.optim.SGD(repeated).update_rows([0], np.ones((1, 4), np.float32))
    optimizer = fastnce.optim.SGD(tables(4)[0])
    optimizer.weights.flags.writeable = False  # since it was made
    with pytest.raises(ValueError, match="weights is read-only: expected an array that can be written to"):
        optimizer.update_rows([0], np.ones((1, 4), np.float32))


def test_memory_that_would_be_updated_twice_or_while_it_is_read_is_refused() -> None:
    weights, biases = tables(4)
    before = weights.copy(), biases.copy()
    rows, bias_rows = np.ones((2, 4), np.float32), np.ones(2, np.float32)
    optimizer = RULES["adagrad"].make(weights, biases)
    for arguments, message in (
        ((weights[:2],), "rows shares memory with weights, which is updated while rows is read: expected an array of"),
        ((optimizer.state["weights.sum"][:2],), "rows shares memory with a state of weights"),
        ((None, biases[3:5]), "bias_rows shares memory with biases"),
    ):
        with pytest.raises(ValueError, match=message):
            optimizer.update_rows([1, 0], *arguments)
    with pytest.raises(ValueError, match="weights has shards that share memory: expected each row once"):
        fastnce.optim.SGD([weights, weights]).update_rows([0, V], rows)
    with pytest.raises(ValueError, match="biases shares memory with weights: expected an array of its own"):
        fastnce.optim.SGD(weights, weights[:, 1]).update_rows([0, 1], rows, bias_rows)
    assert np.array_equal(weights, before[0]) and np.array_equal(biases, before[1]) and optimizer.state["step"] == 0
    both = np.column_stack(before)  # columns of one array lie beside each other
    fastnce.optim.SGD(both[:, :4], both[:, 4], lr=1.0).update_rows([1, 0], rows, bias_rows)
    assert np.array_equal(both[:2], np.column_stack(before)[:2] - 1)


def test_a_state_that_was_replaced_is_refused() -> None:
    """The core writes to the arrays that the optimizer made."""
    optimizer = RULES["adagrad"].make(*tables(4))
    optimizer.state["weights.sum"] = np.ones((V, 4), np.float32)
    with pytest.raises(ValueError, match=r"state\['weights.sum'\] is not the array that the optimizer made"):
        optimizer.update_rows([0], np.ones((1, 4), np.float32))
