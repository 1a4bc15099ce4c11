"""Side by side with TensorFlow, where it is installed: the same calls, the same numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import Case
from losses import LOSSES
from tolerances import assert_counts_match, assert_same_as_tensorflow

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

from tensorflow_cases import SHAPES, tensorflow_gradients  # noqa: E402


def assert_same_results(problem, expected, **changes):
    loss, dx, dw, dc = expected
    ids, ours = problem.solve(**changes)
    assert_same_as_tensorflow(ours.loss, loss)
    assert_same_as_tensorflow(ours.inputs, dx)
    for table, rows in ((dw, ours.weights), (dc, ours.biases)):
        ours_dense = np.zeros(table.shape, rows.dtype)
        ours_dense[ids] = rows
        assert_same_as_tensorflow(ours_dense, table)


THEIRS = {"nce": tf.nn.nce_loss, "softmax": tf.nn.sampled_softmax_loss}
"""TensorFlow's losses, by the names of ours."""


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_losses_and_gradients_of_given_candidates(case, name):
    problem = replace(case, loss=name).problem()
    factors = np.random.default_rng(case.seed).standard_normal(case.batch).astype(np.float32)
    problem = replace(problem, options={**problem.options, "grad_loss": factors})
    ids, *counts = problem.sampled_values

    def loss_function(weights, biases, inputs):
        values = (tf.constant(ids), *map(tf.constant, counts))
        return THEIRS[name](
            weights,
            biases,
            problem.labels,
            inputs,
            case.sampled,
            case.num_classes,
            case.num_true,
            values,
            problem.options.get("remove_accidental_hits", LOSSES[name].removes_hits),
        )

    expected = tensorflow_gradients(problem, loss_function)
    assert_same_results(problem, expected)
    eager = {name: tf.constant(getattr(problem, name)) for name in ("weights", "biases", "labels", "inputs")}
    values = (tf.constant(ids), *map(tf.constant, counts))
    assert_same_results(problem, expected, **eager, sampled_values=values, grad_loss=tf.constant(factors))


@pytest.mark.parametrize("case", SHAPES[:6], ids=str)
def test_default_candidates(case):
    """TensorFlow's nce_loss takes no seed: its sampler is called first, with the seed that ours then gets."""
    problem = replace(case.problem(), options={"remove_accidental_hits": case.remove_hits})
    num_sampled = max(case.sampled // 2, 1)
    values = tf.raw_ops.LogUniformCandidateSampler(
        true_classes=problem.labels,
        num_true=case.num_true,
        num_sampled=num_sampled,
        unique=True,
        range_max=case.num_classes,
        seed=100 + case.seed,
        seed2=7,
    )
    expected = tf.nn.nce_loss(
        problem.weights,
        problem.biases,
        problem.labels,
        problem.inputs,
        num_sampled,
        case.num_classes,
        case.num_true,
        tuple(values),
        case.remove_hits,
    )
    changes = {"sampled_values": None, "num_sampled": num_sampled}
    ours = fastnce.nce_loss(**{**problem.arguments(), **changes}, seed=(100 + case.seed, 7))
    assert_same_as_tensorflow(ours, expected)


@pytest.mark.parametrize("op_seed", [0, 42, -3])
def test_sampled_softmax_takes_tensorflows_seed_and_defaults(op_seed):
    tf.random.set_seed(None)  # no global seed
    problem = Case(loss="softmax", batch=9, dim=6, sampled=30, num_true=2).problem()
    positional = (problem.weights, problem.biases, problem.labels, problem.inputs, 12, problem.num_classes, 2)
    expected = tf.nn.sampled_softmax_loss(*positional, seed=op_seed)
    assert_same_as_tensorflow(fastnce.sampled_softmax_loss(*positional, seed=op_seed), expected)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("strategy", ["div", "mod"])
@pytest.mark.parametrize("shards", [2, 3, 5])
def test_shards(strategy, shards, name):
    """TensorFlow's losses divide by "div"; the older ones take either."""
    older_loss = getattr(tf.compat.v1.nn, THEIRS[name].__name__.removesuffix("_v2"))
    problem = Case(loss=name, batch=7, dim=6, sampled=10, num_true=2, remove_hits=True, distinct=True).problem()
    assert problem.num_classes % shards  # some shards are longer
    changes = {
        name: np.array_split(table, shards) if strategy == "div" else [table[i::shards] for i in range(shards)]
        for name, table in (("weights", problem.weights), ("biases", problem.biases))
    }
    positional = (problem.labels, problem.inputs, 10, problem.num_classes, 2, problem.sampled_values, True)
    older = older_loss(*changes.values(), *positional, partition_strategy=strategy)
    ours = LOSSES[name].library(suffix="")(*changes.values(), *positional, partition_strategy=strategy)
    assert_same_as_tensorflow(ours, older)
    if strategy == "div":
        assert_same_as_tensorflow(ours, THEIRS[name](*changes.values(), *positional))


@pytest.mark.parametrize("unique", [True, False])
@pytest.mark.parametrize("seed", [(11, 13), (-1, -5), (2**62 + 1, -(2**62))])
@pytest.mark.parametrize(
    ("range_max", "num_sampled"),
    [
        (1, 1),
        (7, 5),
        (50, 50),
        (1000, 900),
        (50_000, 64),
        (2**31 - 1, 257),
        (2**40 + 1, 5000),
        (2**63 - 1, 16),
    ],
)
def test_three_calls_of_a_sampler(range_max, num_sampled, seed, unique):
    labels = np.array([[0, range_max - 1], [range_max // 2, range_max // 3]])
    sampler = fastnce.LogUniformSampler(range_max, num_sampled, num_true=2, unique=unique, seed=seed)
    for _ in range(3):
        expected = tf.raw_ops.LogUniformCandidateSampler(
            true_classes=labels,
            num_true=2,
            num_sampled=num_sampled,
            unique=unique,
            range_max=range_max,
            seed=seed[0],
            seed2=seed[1],
        )
        ids, true_count, sampled_count = sampler(labels)
        np.testing.assert_array_equal(ids, expected.sampled_candidates)
        assert_counts_match(true_count, expected.true_expected_count.numpy())
        assert_counts_match(sampled_count, expected.sampled_expected_count.numpy())


@pytest.mark.parametrize("num_sampled", [2**20 - 1, 2**20, 2**20 + 12_345, 2**21 - 1])
def test_huge_samples(num_sampled):
    """From 2**20 on TensorFlow's int32 word count is negative: its stream steps back, and so does ours."""
    sampler = fastnce.LogUniformSampler(50_000, num_sampled, unique=False, seed=(21, 22))
    for _ in range(3):
        expected = tf.raw_ops.LogUniformCandidateSampler(
            true_classes=[[0]],
            num_true=1,
            num_sampled=num_sampled,
            unique=False,
            range_max=50_000,
            seed=21,
            seed2=22,
        )
        np.testing.assert_array_equal(sampler([[0]]).sampled_candidates, expected.sampled_candidates)


@pytest.mark.parametrize("op_seed", [0, 42, -3, 2**31 - 1])
def test_an_int_seed_is_the_op_seed(op_seed):
    tf.random.set_seed(None)  # no global seed
    expected = tf.random.log_uniform_candidate_sampler([[0], [7]], 1, 16, True, 1000, seed=op_seed)
    values = fastnce.log_uniform_candidate_sampler([[0], [7]], 1, 16, True, 1000, seed=op_seed)
    np.testing.assert_array_equal(values.sampled_candidates, expected.sampled_candidates)


def test_accidental_hits_of_distinct_samples():
    problem = Case(batch=20, sampled=30, num_true=3, distinct=True).problem()
    ids = problem.sampled_values[0]
    expected = tf.nn.compute_accidental_hits(problem.labels, ids, 3)
    for ours, theirs in zip(fastnce.compute_accidental_hits(problem.labels, ids, 3), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_tensors_give_tensors():
    problem = Case(batch=6, num_true=2).problem()
    arguments = problem.arguments()
    tensors = {name: tf.constant(arguments[name]) for name in ("weights", "biases", "labels", "inputs")}
    loss, grads = fastnce.nce_loss_and_grad(**{**arguments, **tensors})
    for result in (loss, grads.inputs, *grads.rows):
        assert tf.is_tensor(result)
    np.testing.assert_array_equal(loss, fastnce.nce_loss(**arguments))
