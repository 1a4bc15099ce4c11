"""Optimizers and train_step on a CUDA device: the float64 twin's numbers, and those of the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fastnce
from cases import EVERYTHING, Case
from halves import HALVES
from losses import EVERY_LOSS
from optimizers import EVERY_RULE, RULES, Rule, Twin
from tolerances import CUDA_OPTIMIZER_RELATIVE, relative_error

pytestmark = pytest.mark.cuda
LIMIT = CUDA_OPTIMIZER_RELATIVE["float32"]


@pytest.fixture
def device(cuda_array: Any) -> Any:
    """Arrays of a framework that lets them be written to."""
    if cuda_array.name == "jax":
        pytest.skip("JAX's arrays cannot be written to")
    return cuda_array


def random_tables(rows: int, dim: int, dtype: Any = np.float32) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, dim)).astype(dtype), rng.normal(size=rows).astype(dtype)


class OnDevice:
    """An optimizer there, read as one here."""

    def __init__(self, device: Any, rule: Rule, weights: Any, biases: Any, **options: Any) -> None:
        self.device = device
        self.optimizer = rule.make(device.put(weights), None if biases is None else device.put(biases), **options)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.optimizer, name)
        if name == "state":
            return {key: array if key == "step" else self.device.get(array) for key, array in value.items()}
        return self.device.get(value) if name in ("weights", "biases") else value

    def update_rows(self, *given: Any) -> None:
        self.optimizer.update_rows(*(None if array is None else self.device.put(array) for array in given))


@pytest.mark.parametrize("sizes", [(60, 1, 25), (60, 7, 25), (60, 36, 25), (500, 33, 1500), (40, 132, 300)], ids=str)
@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_steps_are_those_of_the_twin(rule: Rule, sizes: tuple[int, int, int], device: Any) -> None:
    rows, dim, count = sizes
    weights, biases = random_tables(rows, dim)
    twin = Twin(rule, weights, biases)
    ours = OnDevice(device, rule, weights, biases)
    rng = np.random.default_rng(1)
    for _ in range(3):
        ids = rng.integers(rows, size=count)
        gradients = rng.normal(size=(count, dim)).astype(np.float32), rng.normal(size=count).astype(np.float32)
        ours.update_rows(ids, *gradients)
        twin.update_rows(ids, *gradients)
    twin.assert_same(ours)


def test_many_rows_are_sorted_in_several_blocks(device: Any) -> None:
    weights, _ = random_tables(9000, 4)
    twin, ours = Twin(RULES["momentum"], weights), OnDevice(device, RULES["momentum"], weights, None)
    rng = np.random.default_rng(1)
    ids, rows = rng.integers(9000, size=14_000), rng.normal(size=(14_000, 4)).astype(np.float32)
    ours.update_rows(ids, rows)
    twin.update_rows(ids, rows)
    twin.assert_same(ours)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize("dim", [8, 9])
def test_tables_of_16_bits_are_rounded_as_on_the_cpu(dim: int, stochastic: bool, dtype: str, device: Any) -> None:
    if HALVES[dtype] is None:
        pytest.skip("ml_dtypes is not installed")
    weights, biases = random_tables(50, dim, HALVES[dtype])
    rule = Rule("power", fastnce.optim.SGD, lambda: None, {"lr": 0.5})  # type: ignore[arg-type]
    here = rule.make(weights.copy(), biases.copy(), stochastic_rounding=stochastic, seed=4)
    ours = OnDevice(device, rule, weights, biases, stochastic_rounding=stochastic, seed=4)
    rng = np.random.default_rng(1)
    for _ in range(2):
        given = np.arange(50), *(rng.normal(size=shape).astype(np.float32) for shape in ((50, dim), 50))
        here.update_rows(*given)
        ours.update_rows(*given)
    assert np.array_equal(np.asarray(ours.weights).view(np.uint16), here.weights.view(np.uint16))
    assert np.array_equal(np.asarray(ours.biases).view(np.uint16), here.biases.view(np.uint16))


@pytest.mark.parametrize("rule", ["sgd_decay", "adagrad_tensorflow", "rowwise_adagrad_inside", "adam_corrected"])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
@pytest.mark.parametrize("more", [{}, EVERYTHING, {"groups": 4, **EVERYTHING}], ids=["plain", "lists", "groups"])
def test_train_step_is_the_cpus(more: dict[str, Any], loss: Any, rule: str, device: Any) -> None:
    problem = Case(batch=12, dim=20, sampled=30, loss=loss.name, **more).problem()
    arguments = problem.arguments()
    on_device = device.put_all(arguments)
    weights, biases, labels, inputs = (arguments.pop(name) for name in ("weights", "biases", "labels", "inputs"))
    for name in ("weights", "biases"):
        on_device.pop(name)
    here = RULES[rule].make(weights.copy(), biases.copy())
    ours = OnDevice(device, RULES[rule], weights, biases)
    own_labels, own_inputs = on_device.pop("labels"), on_device.pop("inputs")
    for _ in range(2):
        expected = fastnce.train_step(problem.loss.library(), here, labels, inputs, **arguments)
        got = fastnce.train_step(problem.loss.library(), ours.optimizer, own_labels, own_inputs, **on_device)
        for own, other in zip(got, expected, strict=True):
            assert relative_error(device.get(own), other) <= LIMIT
    assert relative_error(ours.weights, here.weights) <= LIMIT
    assert relative_error(ours.biases, here.biases) <= LIMIT
    for name, state in here.state.items():
        assert relative_error(ours.state[name], state) <= LIMIT, name


def test_ids_out_of_range_are_left_out_and_reported(device: Any) -> None:
    weights, biases = random_tables(10, 4)
    expected = weights.copy()
    expected[3] -= np.float32(0.1)
    ours = OnDevice(device, RULES["sgd"], weights, biases)
    ours.update_rows(np.array([3, 10, -1]), np.ones((3, 4), np.float32), np.ones(3, np.float32))
    np.testing.assert_allclose(ours.weights, expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"ids\[\d\] = (10|-1) is outside \[0, num_classes = 10\)"):
        fastnce.cuda.check()


def test_gradients_that_the_device_cannot_take_are_refused(device: Any) -> None:
    weights, biases = random_tables(10, 4)
    ours = OnDevice(device, RULES["sgd"], weights, biases)
    ids, rows = np.array([1, 2]), np.ones((2, 4), np.float32)
    with pytest.raises(TypeError, match="bias_rows has dtype float16: expected float32 on a CUDA device"):
        ours.update_rows(ids, rows, np.ones(2, np.float16))
    with pytest.raises(ValueError, match="rows shares memory with weights, which is updated while rows is read"):
        ours.optimizer.update_rows(device.put(ids), ours.optimizer.weights[:2])
    with pytest.raises(ValueError, match="weights has shards that share memory"):
        fastnce.optim.SGD([ours.optimizer.weights] * 2).update_rows(device.put(ids), device.put(rows))
    assert ours.state["step"] == 0 and np.array_equal(ours.weights, weights)


def test_an_update_of_no_rows_is_a_step(device: Any) -> None:
    weights, biases = random_tables(10, 4)
    before = weights.copy()
    ours = OnDevice(device, RULES["adam"], weights, biases)
    ours.update_rows(np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32))
    assert ours.state["step"] == 1 and np.array_equal(ours.weights, before)


def test_a_state_is_saved_and_restored(device: Any) -> None:
    if device.name in ("emulated", "unknown"):
        pytest.skip("saved states are loaded into arrays of PyTorch and CuPy alone")
    weights, _ = random_tables(10, 4)
    ours = OnDevice(device, RULES["adagrad"], weights, None)
    ours.update_rows(np.arange(5), np.ones((5, 4), np.float32))
    other = OnDevice(device, RULES["adagrad"], weights, None, state=ours.state)
    assert other.state["step"] == 1 and np.array_equal(other.state["weights.sum"], ours.state["weights.sum"])
