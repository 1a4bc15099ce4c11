"""Every loss of the table against its float64 twin: the options that all members share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import EMPTY, Case, assert_matches_twin, sizes_id
from fastnce import reference
from losses import EVERY_LOSS, LOSSES
from tolerances import Results

OTHERS = [loss for loss in EVERY_LOSS if loss.name != "nce"]
"""``nce_loss`` has its own file."""
SHAPES = [
    dict(),
    dict(batch=1, dim=1, sampled=1),
    dict(batch=65, dim=33, sampled=129, num_true=2),
    dict(batch=130, dim=17, sampled=257),
    dict(batch=17, dim=300, sampled=31, num_true=5),
]
FLAGS = ["remove_hits", "no_biases", "no_counts", "padded"]


def case_of(loss, **options):
    return Case(loss=loss.name, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", [*SHAPES, *EMPTY], ids=sizes_id)
@pytest.mark.parametrize("loss", OTHERS, ids=str)
def test_every_element_is_accurate(loss, sizes, dtype):
    problem = case_of(loss, **sizes, dtype=dtype).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("flag", FLAGS)
@pytest.mark.parametrize("sizes", SHAPES, ids=sizes_id)
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_every_option_holds_for_every_loss(loss, sizes, flag):
    problem = case_of(loss, **sizes, **{flag: True}).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_padding_and_hits_together(loss):
    problem = case_of(loss, batch=70, dim=9, sampled=60, num_true=3, padded=True, remove_hits=True).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_several_axes_of_examples_are_one_batch(loss):
    problem = case_of(loss, batch=12, dim=5, sampled=9, num_true=2).problem()
    flat, ids = problem.solve()[1], problem.solve()[0]
    arguments = problem.arguments()
    arguments["labels"] = problem.labels.reshape(3, 4, 2)
    arguments["inputs"] = problem.inputs.reshape(3, 4, 5)
    for name in {"grad_loss", "positive_weight", "negative_weight"} & set(arguments):
        if np.ndim(arguments[name]) == 1:
            arguments[name] = np.reshape(arguments[name], (3, 4))
    if loss.takes_counts:
        sampled, true_count, sampled_count = problem.sampled_values
        arguments["sampled_values"] = (sampled, np.reshape(true_count, (3, 4, 2)), sampled_count)
    value, grads = loss.library()(**arguments)
    assert value.shape == (3, 4)
    assert grads.inputs.shape == (3, 4, 5)
    np.testing.assert_array_equal(value.ravel(), flat.loss)
    np.testing.assert_array_equal(grads.inputs.reshape(12, 5), flat.inputs)
    np.testing.assert_array_equal(grads.rows.ids, ids)
    np.testing.assert_array_equal(grads.rows.weights, flat.weights)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_one_true_class_of_each_example_needs_no_axis(loss):
    problem = case_of(loss, batch=12, dim=5, sampled=9).problem()
    arguments = problem.arguments()
    arguments["labels"] = problem.labels.reshape(3, 4)
    arguments["inputs"] = np.asfortranarray(problem.inputs.reshape(3, 4, 5))
    for name in {"grad_loss", "positive_weight", "negative_weight"} & set(arguments):
        if np.ndim(arguments[name]) == 1:
            arguments[name] = np.reshape(arguments[name], (3, 4))
    if loss.takes_counts:
        sampled, true_count, sampled_count = problem.sampled_values
        arguments["sampled_values"] = (sampled, np.reshape(true_count, (3, 4)), sampled_count)
    np.testing.assert_array_equal(loss.library()(**arguments)[0].ravel(), problem.solve()[1].loss)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_the_loss_alone_is_the_loss_beside_gradients(loss):
    problem = case_of(loss, batch=70, dim=65, sampled=130, num_true=3, remove_hits=True).problem()
    arguments = {name: value for name, value in problem.arguments().items() if name != "grad_loss"}
    np.testing.assert_array_equal(loss.library(suffix="")(**arguments), problem.solve()[1].loss)


@pytest.mark.parametrize("strategy", ["div", "mod"])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_sharded_tables_are_the_same_table(loss, strategy):
    problem = case_of(loss, batch=11, dim=6, sampled=20, num_true=2).problem()
    cut = (
        (lambda table: np.array_split(table, 3))
        if strategy == "div"
        else (lambda table: [table[i::3] for i in (0, 1, 2)])
    )
    sharded = replace(problem, weights=cut(problem.weights), biases=cut(problem.biases))
    np.testing.assert_equal(sharded.solve(partition_strategy=strategy), problem.solve())


@pytest.mark.parametrize("dtype", ["float16", "uint16"])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_halves_are_computed_in_float32_and_rounded_once(loss, dtype):
    problem = case_of(loss, batch=9, dim=20, sampled=30, num_true=2, padded=True).problem()
    narrow = (
        (lambda array: array.astype(np.float16))
        if dtype == "float16"
        else (lambda array: (array.view(np.uint32) >> 16).astype(np.uint16))
    )
    wide = (
        (lambda array: array.astype(np.float32))
        if dtype == "float16"
        else (lambda array: (array.astype(np.uint32) << 16).view(np.float32))
    )
    halves = replace(
        problem, weights=narrow(problem.weights), biases=narrow(problem.biases), inputs=narrow(problem.inputs)
    )
    same = replace(problem, weights=wide(halves.weights), biases=wide(halves.biases), inputs=wide(halves.inputs))
    ids, of_halves = halves.solve(grad_dtype="float32")
    same_ids, of_floats = same.solve()
    np.testing.assert_array_equal(ids, same_ids)
    np.testing.assert_equal(of_halves, of_floats)
    _, rounded = halves.solve()
    assert rounded.weights.dtype == dtype
    if dtype == "float16":
        np.testing.assert_array_equal(rounded.weights, of_floats.weights.astype(np.float16))
        np.testing.assert_array_equal(rounded.inputs, of_floats.inputs.astype(np.float16))


def test_softmax_draws_what_nce_draws_by_default_and_removes_hits():
    problem = Case(loss="softmax", batch=6, dim=9, sampled=40, num_true=2).problem()
    arguments = {**problem.arguments(), "num_sampled": 12, "sampled_values": None}
    values = fastnce.log_uniform_candidate_sampler(problem.labels, 2, 12, True, problem.num_classes, seed=5)
    for function in (fastnce.sampled_softmax_loss, fastnce.sampled_softmax_loss_and_grad):
        options = {k: v for k, v in arguments.items() if k != "remove_accidental_hits"}
        options = {k: v for k, v in options.items() if k != "grad_loss" or function is not fastnce.sampled_softmax_loss}
        drawn = function(**options, seed=5)
        given = function(**{**options, "sampled_values": values}, remove_accidental_hits=True)
        if function is fastnce.sampled_softmax_loss_and_grad:
            drawn, given = Results.of(*drawn), Results.of(*given)
        np.testing.assert_equal(drawn, given)


def test_softmax_arguments_stand_as_in_tensorflow():
    problem = Case(loss="softmax", num_true=2).problem()
    positional = (
        problem.weights,
        problem.biases,
        problem.labels,
        problem.inputs,
        7,
        problem.num_classes,
        2,
        problem.sampled_values,
        True,
        3,
        "a name, ignored",
    )
    arguments = {k: v for k, v in problem.arguments().items() if k not in ("grad_loss", "remove_accidental_hits")}
    np.testing.assert_array_equal(fastnce.sampled_softmax_loss(*positional), fastnce.sampled_softmax_loss(**arguments))


def test_with_all_classes_the_sampled_softmax_is_the_full_one():
    problem = Case(loss="softmax", batch=30, dim=12, sampled=200, dtype="float64").problem()
    classes = np.arange(problem.num_classes)
    loss, grads = fastnce.sampled_softmax_loss_and_grad(
        problem.weights, problem.biases, problem.labels, problem.inputs, len(classes), len(classes),
        sampled_values=(classes, None, None),
    )  # fmt: skip
    logits = problem.inputs @ problem.weights.T + problem.biases
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    g = np.exp(log_p)
    g[np.arange(30), problem.labels[:, 0]] -= 1
    np.testing.assert_allclose(loss, -log_p[np.arange(30), problem.labels[:, 0]], rtol=1e-12)
    np.testing.assert_allclose(grads.inputs, g @ problem.weights, rtol=0, atol=1e-12)
    np.testing.assert_allclose(grads.rows.weights, g.T @ problem.inputs, rtol=0, atol=1e-12)


def test_gbce_is_minus_log_of_sigmoid_to_the_power_beta():
    problem = Case(loss="gbce", batch=8, dim=6, sampled=10, dtype="float64").problem()
    beta = fastnce.gbce_weight(10, problem.num_classes, 0.75)
    u = np.vecdot(problem.inputs, problem.weights[problem.labels[:, 0]]) + problem.biases[problem.labels[:, 0]]
    ids = np.asarray(problem.sampled_values[0])
    v = problem.inputs @ problem.weights[ids].T + problem.biases[ids]
    expected = -np.log((1 / (1 + np.exp(-u))) ** beta) - np.log(1 - 1 / (1 + np.exp(-v))).sum(axis=1)
    loss = fastnce.negative_sampling_loss(
        problem.weights, problem.biases, problem.labels, problem.inputs, ids, positive_weight=beta
    )
    np.testing.assert_allclose(loss, expected, rtol=1e-12)
    assert fastnce.gbce_weight(10, 101, 0) == pytest.approx(1)
    assert fastnce.gbce_weight(10, 101, 1) == pytest.approx(0.1)


def test_gbce_weight_loses_nothing_among_very_many_classes():
    for weight in fastnce.gbce_weight, reference.gbce_weight:
        assert weight(1, 2**62, 1) == pytest.approx(1 / (2**62 - 1), rel=1e-15, abs=0)
        assert weight(3, 2**40, 1 - 2**-40) == pytest.approx(2**-40 + 3 * 2**-40, rel=1e-10, abs=0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"padding": "none"}, TypeError, ["padding is a str", "integer"]),
        ({"true_target": "two"}, ValueError, ["true_target = 'two'", "'mean' or 'one'"]),
        ({"true_target": 1}, TypeError, ["true_target is an int", "'mean' or 'one'"]),
        (
            {"sampled_values": ([1, 2], None, [0.1, 0.2])},
            ValueError,
            ["true_expected_count is None", "both or neither"],
        ),
        (
            {"sampled_values": ([1, 2], [[0.1]] * 5, None)},
            ValueError,
            ["sampled_expected_count is None", "both or neither"],
        ),
    ],
)
@pytest.mark.parametrize("name", ["nce", "softmax"])
def test_losses_refuse(name, change, error, words):
    arguments = {**LOSSES[name].library().__kwdefaults__, **Case(loss=name).problem().arguments(), "num_sampled": 2}
    arguments |= {"sampled_values": ([1, 2], None, None), **change}
    with pytest.raises(error) as raised:
        LOSSES[name].library()(**arguments)
    assert all(word in str(raised.value) for word in words), str(raised.value)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"positive_weight": float("nan")}, ValueError, ["positive_weight = nan", "finite"]),
        ({"positive_weight": 1e300}, ValueError, ["positive_weight = 1e+300", "finite number of float32, at most 3.4"]),
        ({"negative_weight": -1e39}, ValueError, ["negative_weight = -1e+39", "finite number of float32, at most 3.4"]),
        ({"negative_weight": 10**400}, ValueError, ["negative_weight is an integer too large", "finite number"]),
        ({"negative_weight": [1.0, 2.0]}, ValueError, ["negative_weight has shape [2]", "[5]"]),
        ({"negative_weight": "1"}, TypeError, ["negative_weight", "<U1"]),
        ({"positive_weight": True}, TypeError, ["positive_weight is a bool"]),
        ({"sampled_candidates": [99]}, ValueError, ["sampled_candidates[0] = 99 is outside [0, num_classes = 10)"]),
    ],
)
def test_negative_sampling_refuses(change, error, words):
    arguments = {**Case(loss="negative_sampling").problem().arguments(), **change}
    with pytest.raises(error) as raised:
        fastnce.negative_sampling_loss_and_grad(**arguments)
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_a_float64_weight_may_be_larger_than_any_float32():
    problem = Case(loss="negative_sampling", dtype="float64").problem()
    arguments = (problem.weights, problem.biases, problem.labels[:, 0], problem.inputs, problem.sampled_values[0])
    loss, double = (fastnce.negative_sampling_loss(*arguments, positive_weight=a) for a in (1e300, 2e300))
    assert np.isfinite(loss).all() and (loss > 1e298).all()
    np.testing.assert_allclose(double, 2 * loss)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((10, 1, 0.5), ValueError, ["num_classes = 1", "at least 2"]),
        ((0, 10, 0.5), ValueError, ["num_sampled = 0", "at least 1"]),
        ((5, 10, 1.5), ValueError, ["calibration = 1.5", "0 to 1"]),
        ((5.0, 10, 0.5), TypeError, ["num_sampled is a float", "integer"]),
    ],
)
def test_gbce_weight_refuses(arguments, error, words):
    with pytest.raises(error) as raised:
        fastnce.gbce_weight(*arguments)
    assert all(word in str(raised.value) for word in words), str(raised.value)
