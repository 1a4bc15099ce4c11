"""fastnce.train_step: loss, gradients and optimizer in one pass, which reads the tables as they were before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fastnce
from cases import EMPTY, EVERYTHING, Case, Problem, shape_sweep, sizes_id, targets_and_negatives
from halves import half_cases
from losses import EVERY_LOSS
from optimizers import EVERY_RULE, RULES, Rule
from tolerances import OPTIMIZER_RELATIVE, relative_error

SMOOTH = ("sgd_decay", "adagrad_tensorflow", "rowwise_adagrad_inside")
"""Rules whose step is a smooth function of the gradient: Adagrad's first step is its sign, where rounding decides."""


def steps(problem: Problem, rule: Rule, count: int = 2, **options: Any) -> None:
    """Asserts that steps in one pass are steps in two."""
    arguments = problem.arguments()
    weights, biases = arguments.pop("weights"), arguments.pop("biases")
    arguments["grad_loss"] = np.linspace(0.5, 2.0, problem.batch)
    inputs, labels = arguments.pop("inputs"), arguments.pop("labels")
    loss_and_grad = problem.loss.library()
    ours, theirs = (rule.make(weights.copy(), None if biases is None else biases.copy(), **options) for _ in range(2))
    for _ in range(count):
        loss, grads = loss_and_grad(theirs.weights, theirs.biases, labels, inputs, **arguments)
        theirs.update_rows(*grads.rows)
        own_loss, own_grad = fastnce.train_step(loss_and_grad, ours, labels, inputs, **arguments)
        limit = OPTIMIZER_RELATIVE[loss.dtype.name]
        assert relative_error(own_loss, loss) <= limit
        assert relative_error(own_grad, grads.inputs) <= limit
    assert relative_error(ours.weights, theirs.weights) <= limit
    assert biases is None or relative_error(ours.biases, theirs.biases) <= limit
    for name, state in theirs.state.items():
        assert relative_error(ours.state[name], state) <= limit, name


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_a_step_is_loss_gradients_and_update(loss: Any, rule: Rule) -> None:
    steps(Case(batch=33, dim=21, sampled=40, num_true=2, loss=loss.name, distinct=True).problem(), rule)


@pytest.mark.parametrize("case", shape_sweep("float32", 1) + shape_sweep("float64", 1), ids=str)
def test_all_shapes(case: Case) -> None:
    steps(case.problem(), RULES["adagrad_tensorflow"], 1)


@pytest.mark.parametrize("case", targets_and_negatives(8, dim=9, sampled=11), ids=str)
@pytest.mark.parametrize("rule", SMOOTH)
def test_all_forms_of_labels_and_samples(case: Case, rule: str) -> None:
    steps(case.problem(), RULES[rule])


@pytest.mark.parametrize("sizes", EMPTY, ids=sizes_id)
@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_empty_problems(sizes: dict[str, int], loss: str) -> None:
    steps(Case(**sizes, loss=loss).problem(), RULES["adagrad_tensorflow"])


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("loss", ["nce", "softmax"])
@pytest.mark.parametrize("more", [{}, {"distinct": True}, {"groups": 4}, {"groups": 64}], ids=str)
def test_any_number_of_threads(more: dict[str, Any], loss: str, threads: int, set_threads: Any) -> None:
    set_threads(threads)
    problem = Case(batch=64, dim=65, sampled=700, num_true=2, loss=loss, **more).problem()
    for rule in SMOOTH:
        steps(problem, RULES[rule], 1)


@pytest.mark.parametrize("loss", ["nce", "softmax"])
def test_strips_of_a_softmax_and_many_tiles(loss: str, set_threads: Any) -> None:
    set_threads(2)
    steps(Case(batch=1500, dim=16, sampled=5000, loss=loss, remove_hits=True).problem(), RULES["adagrad_tensorflow"], 1)


@pytest.mark.parametrize("dtype", half_cases(["float16", "bfloat16"]))
@pytest.mark.parametrize("rule", SMOOTH)
def test_tables_of_16_bits_are_rounded_once(rule: str, dtype: str) -> None:
    """To the same neighbour: the random bits are those of row and step."""
    problem = Case(batch=16, dim=24, sampled=30, distinct=True).problem()
    weights, biases = problem.weights.astype(dtype), problem.biases.astype(dtype)
    arguments = problem.arguments()
    for name in ("weights", "biases"):
        arguments.pop(name)
    labels, inputs = arguments.pop("labels"), arguments.pop("inputs")
    ours, theirs = (RULES[rule].make(weights.copy(), biases.copy()) for _ in range(2))
    for _ in range(3):
        _, grads = fastnce.nce_loss_and_grad(
            theirs.weights, theirs.biases, labels, inputs, grad_dtype="float32", **arguments
        )
        theirs.update_rows(*grads.rows)
        fastnce.train_step(fastnce.nce_loss_and_grad, ours, labels, inputs, **arguments)
    assert np.array_equal(ours.weights.view(np.uint16), theirs.weights.view(np.uint16))
    assert np.array_equal(ours.biases.view(np.uint16), theirs.biases.view(np.uint16))


@pytest.mark.parametrize("strategy", ["div", "mod"])
def test_shards_are_updated(strategy: str) -> None:
    problem = Case(batch=16, dim=10, sampled=30, num_true=2).problem()
    arguments = problem.arguments()
    weights, biases, labels, inputs = (arguments.pop(name) for name in ("weights", "biases", "labels", "inputs"))
    split = (lambda a: np.array_split(a, 5)) if strategy == "div" else (lambda a: [a[i::5] for i in range(5)])
    parts, bias_parts = ([part.copy() for part in split(table)] for table in (weights, biases))
    whole = RULES["adagrad"].make(weights, biases)
    sharded = RULES["adagrad"].make(parts, bias_parts, partition_strategy=strategy)
    for _ in range(2):
        fastnce.train_step(fastnce.nce_loss_and_grad, whole, labels, inputs, **arguments)
        arguments_of_shards = arguments | {"partition_strategy": strategy}
        fastnce.train_step(fastnce.nce_loss_and_grad, sharded, labels, inputs, **arguments_of_shards)
    assert all(map(np.array_equal, parts, split(weights)))
    assert all(map(np.array_equal, bias_parts, split(biases)))


def test_memory_maps_are_updated(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mapped = np.memmap(tmp_path / "table", np.float32, "w+", shape=(500, 12))
    mapped[:] = rng.normal(size=mapped.shape)
    whole = fastnce.optim.Adagrad(np.array(mapped))
    labels, inputs = rng.integers(500, size=20), rng.normal(size=(20, 12)).astype(np.float32)
    for optimizer in (whole, fastnce.optim.Adagrad(mapped)):
        fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, labels, inputs, 30, 500, seed=3)
    mapped.flush()
    assert np.array_equal(np.fromfile(tmp_path / "table", np.float32).reshape(500, 12), whole.weights)


def test_the_same_step_is_made_twice_with_the_same_threads(set_threads: Any) -> None:
    set_threads(3)
    problem = Case(batch=200, dim=64, sampled=900, **EVERYTHING).problem()
    arguments = problem.arguments()
    weights, biases, labels, inputs = (arguments.pop(name) for name in ("weights", "biases", "labels", "inputs"))
    results = []
    for _ in range(3):
        optimizer = RULES["adam"].make(weights.copy(), biases.copy())
        for _ in range(3):
            fastnce.train_step(problem.loss.library(), optimizer, labels, inputs, **arguments)
        results.append(optimizer.weights)
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_the_ids_of_the_rows_that_were_updated_are_returned() -> None:
    problem = Case(batch=6, dim=4, sampled=9).problem()
    optimizer = RULES["sgd"].make(problem.weights, problem.biases)
    expected, _ = problem.solve()
    ids, weights, biases = problem.loss.library()(**problem.arguments(), optimizer=optimizer)[1].rows
    assert np.array_equal(ids, expected) and weights is None and biases is None


def test_inputs_in_the_memory_of_a_table_are_refused() -> None:
    weights, biases = np.ones((30, 4), np.float32), np.zeros(30, np.float32)
    optimizer = fastnce.optim.SGD(weights, biases)
    with pytest.raises(ValueError, match="inputs shares memory with weights, which is updated while inputs is read"):
        fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, [1, 2], weights[3:5], 5, 30)
    assert (weights == 1).all() and optimizer.state["step"] == 0
    fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, [1, 2], weights[3:5].copy(), 5, 30)
    assert optimizer.state["step"] == 1


def test_tables_of_another_optimizer_are_refused() -> None:
    weights, biases = np.ones((30, 4), np.float32), np.zeros(30, np.float32)
    optimizer = fastnce.optim.SGD(weights, biases)
    inputs = np.ones((2, 4), np.float32)
    with pytest.raises(ValueError, match=r"weights is not the table of the optimizer: expected optimizer\.weights"):
        fastnce.nce_loss_and_grad(weights.copy(), biases, [1, 2], inputs, 5, 30, optimizer=optimizer)
    with pytest.raises(ValueError, match="partition_strategy = 'mod': expected that of the optimizer, 'div'"):
        fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, [1, 2], inputs, 5, 30, partition_strategy="mod")
    with pytest.raises(ValueError, match="pad_rows = True: expected False with an optimizer"):
        fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, [1, 2], inputs, 5, 30, pad_rows=True)


def test_a_call_that_is_refused_is_no_step() -> None:
    weights, biases = np.ones((30, 4), np.float32), np.zeros(30, np.float32)
    optimizer = fastnce.optim.Adam(weights, biases)
    with pytest.raises(ValueError, match=r"labels\[0, 0\] = 30 is outside"):
        fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, [30], np.ones((1, 4), np.float32), 5, 30)
    assert optimizer.state["step"] == 0 and (weights == 1).all()


def test_a_function_that_keeps_the_optimizer_to_itself_is_refused() -> None:
    optimizer = fastnce.optim.SGD(np.ones((30, 4), np.float32), np.zeros(30, np.float32))

    def without(*arguments: Any, optimizer: Any, **options: Any) -> Any:
        return fastnce.nce_loss_and_grad(*arguments, **options)

    with pytest.raises(ValueError, match="loss_and_grad returned gradients of rows, which nothing has updated"):
        fastnce.train_step(without, optimizer, [1], np.ones((1, 4), np.float32), 5, 30)


def test_an_optimizer_of_another_library_is_refused() -> None:
    class Adagrad:
        pass

    arguments = [1], np.ones((1, 4), np.float32), 5, 30
    with pytest.raises(TypeError, match=r"optimizer is an Adagrad: expected one of fastnce\.optim"):
        fastnce.train_step(fastnce.nce_loss_and_grad, Adagrad(), *arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"optimizer is an Adagrad: expected one of fastnce\.optim"):
        fastnce.nce_loss_and_grad(np.ones((30, 4), np.float32), None, *arguments, optimizer=Adagrad())  # type: ignore[arg-type]


@pytest.mark.parametrize("loss", [fastnce.nce_loss, fastnce.softmax_loss_and_grad, lambda w, b, y, x: None])
def test_a_loss_that_takes_no_optimizer_is_refused_with_those_that_do(loss: Any) -> None:
    optimizer = fastnce.optim.SGD(np.zeros((9, 4), np.float32))
    with pytest.raises(TypeError, match=r"loss_and_grad = .* has no argument optimizer: expected nce_loss_and_grad"):
        fastnce.train_step(loss, optimizer, np.array([1]), np.ones((1, 4), np.float32))


def test_tables_are_not_given_twice() -> None:
    optimizer = fastnce.optim.SGD(np.zeros((9, 4), np.float32))
    with pytest.raises(TypeError, match="labels are the weights: expected labels and inputs"):
        fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, optimizer.weights, optimizer.biases, [1])  # type: ignore
