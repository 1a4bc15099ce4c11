"""fastnce.jax's losses with samplers of fastnce, and with callables of one's own."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
from cases import Case
from jax_arrays import jax, jnp

PROBLEM = Case(batch=6, num_true=2, sampled=7).problem()
CLASSES, SAMPLED = PROBLEM.num_classes, 7
FIXED = {
    "log_uniform": lambda **options: fastnce.LogUniformSampler(CLASSES, SAMPLED, num_true=2, **options),
    "repeated": lambda **options: fastnce.LogUniformSampler(CLASSES, SAMPLED, num_true=2, unique=False, **options),
    "uniform": lambda **options: fastnce.UniformSampler(CLASSES, SAMPLED, num_true=2, **options),
    "unigram": lambda **options: fastnce.UnigramSampler.from_counts(
        np.arange(1, CLASSES + 1), SAMPLED, num_true=2, **options
    ),
}
ARRAYS = {name: jnp.asarray(getattr(PROBLEM, name)) for name in ("weights", "biases", "labels", "inputs")}
SIZES = {"num_sampled": SAMPLED, "num_classes": CLASSES, "num_true": 2}
LOSSES = ("nce_loss", "sampled_softmax_loss", "negative_sampling_loss")


def loss_of(function, samples, **options):
    if function == "negative_sampling_loss":
        return fastnce.jax.negative_sampling_loss(**ARRAYS, sampled_candidates=samples, num_true=2, **options)
    return getattr(fastnce.jax, function)(**ARRAYS, **SIZES, sampled_values=samples, **options)


def expected_of(function, values):
    if function == "negative_sampling_loss":
        return fastnce.jax.negative_sampling_loss(**ARRAYS, sampled_candidates=values[0], num_true=2)
    return getattr(fastnce.jax, function)(**ARRAYS, **SIZES, sampled_values=values)


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("jit", [False, True], ids=["", "jit"])
def test_a_key_decides_what_a_sampler_draws(name, function, jit):
    values = FIXED[name](seed=(0, 7))(PROBLEM.labels)
    call = lambda key: loss_of(function, FIXED[name](), key=key)  # noqa: E731
    ours = (jax.jit(call) if jit else call)(jax.random.key(7))
    np.testing.assert_array_equal(ours, expected_of(function, values))


def test_another_key_traces_nothing_anew():
    traces = []

    @jax.jit
    def call(key):
        traces.append(key)
        return loss_of("nce_loss", FIXED["unigram"](), key=key).sum()

    assert len({float(call(jax.random.key(seed))) for seed in range(4)}) == 4
    assert len(traces) == 1


@pytest.mark.parametrize("name", FIXED)
def test_gradients_meet_the_samples_of_the_loss(name):
    key = jax.random.key(3)
    values = FIXED[name](seed=(0, 3))(PROBLEM.labels)
    arguments = {**ARRAYS, **SIZES}
    _, dinputs, rows = fastnce.jax.nce_value_and_rows(**arguments, sampled_values=FIXED[name](), key=key)
    _, expected, expected_rows = fastnce.jax.nce_value_and_rows(**arguments, sampled_values=values)
    np.testing.assert_array_equal(dinputs, expected)
    np.testing.assert_array_equal(rows.ids, expected_rows.ids)
    inputs = arguments.pop("inputs")
    grad = jax.grad(lambda x: fastnce.jax.nce_loss(**arguments, inputs=x, sampled_values=FIXED[name](), key=key).sum())(
        inputs
    )
    np.testing.assert_allclose(grad, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("jit", [False, True], ids=["", "jit"])
def test_a_callable_is_a_function_of_the_labels(function, jit):
    counts = jnp.full((6, 2), 0.5), jnp.full(SAMPLED, 0.25)

    def sampler(labels):
        return fastnce.SampledValues(labels[:, 0].repeat(2)[:SAMPLED], *counts)

    call = lambda: loss_of(function, sampler)  # noqa: E731
    ours = (jax.jit(call) if jit else call)()
    expected = expected_of(function, sampler(ARRAYS["labels"]))
    np.testing.assert_array_equal(ours, expected)


def test_padding_is_drawn_for_as_a_class_and_not_read():
    padded = ARRAYS["labels"].at[1].set(-1).at[2, 0].set(-1)
    arrays = {**ARRAYS, "labels": padded}
    ours = fastnce.jax.nce_loss(**arrays, **SIZES, sampled_values=FIXED["unigram"](), key=jax.random.key(7), padding=-1)
    values = FIXED["unigram"](seed=(0, 7))(np.where(padded == -1, 0, padded))
    expected = fastnce.nce_loss(**{**arrays, **SIZES}, sampled_values=values, padding=-1)
    np.testing.assert_array_equal(ours, expected)
    assert ours[1] == 0


def test_a_sampler_that_learns_is_called_outside_of_jit():
    sampler, twin = (fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, num_true=2, seed=5) for _ in range(2))
    for _ in range(2):
        np.testing.assert_array_equal(loss_of("nce_loss", sampler), expected_of("nce_loss", twin(PROBLEM.labels)))
    np.testing.assert_array_equal(sampler.weights, twin.weights)
    with pytest.raises(TypeError, match="has no memory yet"):
        jax.jit(lambda labels: fastnce.jax.nce_loss(**{**ARRAYS, "labels": labels}, **SIZES, sampled_values=sampler))(
            ARRAYS["labels"]
        )


@pytest.mark.parametrize(
    ("samples", "options", "error", "message"),
    [
        (lambda: FIXED["uniform"](), {}, ValueError, "key is None: expected a key beside a sampler"),
        (lambda: len, {"key": jax.random.key(0)}, ValueError, "key is an? .*: expected None beside a callable"),
        (lambda: lambda labels: 3, {}, TypeError, "the sampler returned what is an int: expected three arrays"),
        (
            lambda: lambda labels: (jnp.arange(3), None, None),
            {},
            ValueError,
            r"sampled_candidates has shape \[3\]: expected \[num_sampled\] = \[7\]",
        ),
        (
            lambda: fastnce.UniformSampler(CLASSES, 4, num_true=2),
            {"key": jax.random.key(0)},
            ValueError,
            "the sampler has num_sampled = 4: expected 7, num_sampled of the loss",
        ),
        (
            lambda: fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, num_true=2),
            {"padding": -1},
            ValueError,
            "padding: expected None beside a sampler that learns",
        ),
    ],
)
def test_samplers_that_do_not_fit_are_refused(samples, options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        loss_of("nce_loss", samples(), **options)
