"""Gradients are the derivatives of the loss: float64 central differences, of the library and of its twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import Case
from fastnce import reference
from losses import EVERY_LOSS
from tolerances import DIFFERENCE_ABSOLUTE, DIFFERENCE_STEP


def library(problem):
    return problem.loss.library()(**problem.arguments())


def twin(problem):
    tables = (problem.weights, problem.biases, problem.labels, problem.inputs)
    return reference.sampled_loss_and_grad(*tables, problem.sampled_values, **problem.twin_options())


def slopes(implementation, problem, name, factors):
    """Central differences of ``factors . loss`` along every element of one array of the problem."""
    array = getattr(problem, name)
    result = np.empty(array.shape)
    for at in np.ndindex(array.shape):
        sides = []
        for step in (-DIFFERENCE_STEP, DIFFERENCE_STEP):
            moved = array.copy()
            moved[at] += step
            sides.append(factors @ implementation(replace(problem, **{name: moved}))[0])
        result[at] = (sides[1] - sides[0]) / (2 * DIFFERENCE_STEP)
    return result


def assert_central_differences(implementation, problem):
    grads = implementation(problem)[1]
    factors = problem.options.get("grad_loss", np.ones(len(problem.labels)))
    for name, gradient in (("weights", grads.rows.weights), ("biases", grads.rows.biases)):
        if getattr(problem, name) is None:
            assert gradient is None
            continue
        dense = np.zeros_like(getattr(problem, name))
        dense[grads.rows.ids] = gradient
        expected = slopes(implementation, problem, name, factors)
        np.testing.assert_allclose(dense, expected, rtol=0, atol=DIFFERENCE_ABSOLUTE, err_msg=name)
    expected = slopes(implementation, problem, "inputs", factors)
    np.testing.assert_allclose(grads.inputs, expected, rtol=0, atol=DIFFERENCE_ABSOLUTE)


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
