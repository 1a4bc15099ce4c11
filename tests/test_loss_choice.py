"""bench/loss_choice, but for its results: what its plots of gradients say, and that its model learns."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench" / "loss_choice"))
import fastnce
import gradients
from fastnce import reference
from model import BATCH, CONTEXT, Examples, Model


@pytest.fixture(scope="module")
def problem():
    return gradients.Problem.random()


def test_the_exact_gradient_is_that_of_a_softmax_over_all_classes(problem):
    everything = (np.arange(gradients.V), None, None)
    tables = (problem.weights, None, problem.labels, problem.inputs)
    _, grads = reference.sampled_softmax_loss_and_grad(*tables, everything)
    np.testing.assert_allclose(problem.table(grads), problem.exact(), rtol=1e-12, atol=1e-12)


def test_the_bias_of_nce_shrinks_as_1_over_S(problem):
    measured = gradients.nce_bias(problem)
    bias = np.array([row["bias"] for row in measured])
    assert (np.diff(bias) < 0).all()
    large = np.array([row["sampled"] for row in measured]) >= 4096
    sizes = np.array([row["sampled"] for row in measured])
    products = (bias * sizes)[large]
    np.testing.assert_allclose(products, products[-1], rtol=0.02)


def test_sampled_softmax_approaches_the_full_softmax_as_S_approaches_V(problem, monkeypatch):
    monkeypatch.setattr(gradients, "SOFTMAX_SIZES", (50, 250, 450, 500))
    monkeypatch.setattr(gradients, "DRAWS", 10)
    single = np.array([row["single"] for row in gradients.softmax_distance(problem)])
    assert (single[1:] < single[:-1] / 2).all()
    assert single[-1] < 0.01


def test_the_model_learns_a_text_that_repeats_itself():
    words = np.arange(4 * BATCH) % 7
    places = np.arange(CONTEXT, len(words))
    examples = Examples(words[places[:, None] - np.arange(1, CONTEXT + 1)], words[places])
    model, rng = Model(np.bincount(words), seed=1), np.random.default_rng(0)
    everything = (np.arange(7), np.ones((BATCH, 1)), np.ones(7))

    def loss(weights, biases, labels, inputs):
        return fastnce.nce_loss_and_grad(weights, biases, labels, inputs, 7, 7, 1, everything, True)[1]

    before = model.perplexity(examples)
    assert before == pytest.approx(7, rel=0.01)
    for _ in range(20):
        for batch in examples.batches(rng):
            model.step(batch, loss, 0.1)
    assert model.perplexity(examples) < 1.1
    # Any constant in the logits is normalised away, a shift of one class is not.
    assert model.perplexity(examples, np.full(7, 100.0)) == pytest.approx(model.perplexity(examples), rel=1e-4)
    assert model.perplexity(examples, 20.0 * np.eye(7)[0]) > 2
