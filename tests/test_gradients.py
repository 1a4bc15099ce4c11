"""Gradients are the derivatives of the loss: float64 central differences, of the library and of its twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import Case, targets_and_negatives
from differences import assert_slopes
from fastnce import reference
from losses import EVERY_LOSS


def library(problem):
    return problem.loss.library()(**problem.arguments())


def twin(problem):
    tables = (problem.weights, problem.biases, problem.labels, problem.inputs)
    return reference.sampled_loss_and_grad(*tables, problem.sampled_values, **problem.twin_options())


def assert_central_differences(implementation, problem):
    grads = implementation(problem)[1]
    factors = problem.options.get("grad_loss", np.ones(problem.batch))

    def check(name, gradient):
        def loss(moved):
            return implementation(replace(problem, **{name: moved}))[0]

        assert_slopes(gradient, loss, getattr(problem, name), factors)

    check("inputs", grads.inputs)
    for name, gradient in (("weights", grads.rows.weights), ("biases", grads.rows.biases)):
        if getattr(problem, name) is None:
            assert gradient is None
            continue
        dense = np.zeros_like(getattr(problem, name))
        dense[grads.rows.ids] = gradient
        check(name, dense)


@pytest.mark.parametrize(
    ("implementation", "loss"),
    [(of, loss) for of in (library, twin) for loss in EVERY_LOSS],
    ids=lambda v: getattr(v, "__name__", str(v)),
)
@pytest.mark.parametrize("upstream", [False, True], ids=["ones", "grad_loss"])
@pytest.mark.parametrize("remove_hits", [False, True], ids=["all", "no-hits"])
@pytest.mark.parametrize("num_true", [1, 2, 3])
def test_gradients_are_central_differences(num_true, remove_hits, upstream, implementation, loss):
    case = Case(
        batch=4,
        dim=5,
        sampled=6,
        num_true=num_true,
        dtype="float64",
        remove_hits=remove_hits,
        seed=num_true,
        loss=loss.name,
    )
    problem = case.problem()
    hits = fastnce.compute_accidental_hits(problem.labels, problem.sampled_values[0], num_true)[0]
    assert len(hits) > 0  # or there would be nothing to remove
    if upstream:
        factors = np.random.default_rng(1).standard_normal(4)
        problem = replace(problem, options={**problem.options, "grad_loss": factors})
    assert_central_differences(implementation, problem)


@pytest.mark.parametrize("flag", ["no_biases", "no_counts", "padded"])
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_gradients_without_biases_counts_or_labels_are_central_differences(loss, flag):
    case = Case(
        batch=4, dim=3, sampled=5, num_true=3, dtype="float64", remove_hits=True, loss=loss.name, **{flag: True}
    )
    assert_central_differences(twin, case.problem())


@pytest.mark.parametrize("case", targets_and_negatives(4, dim=3, sampled=5, dtype="float64", seed=3), ids=str)
def test_gradients_of_every_kind_of_target_and_negative_are_central_differences(case):
    problem = case.problem()
    problem.options["grad_loss"] = np.array([0.5, -1.5, 2.0, 1.0])
    assert_central_differences(twin, problem)
