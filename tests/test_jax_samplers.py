"""fastnce.jax's losses with samplers of fastnce, and with callables of one's own."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

import fastnce
from cases import Case
from jax_arrays import RUN_TIME_ERRORS, enable_x64, jax, jnp

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
        (lambda: lambda labels: (jnp.arange(7), None), {}, TypeError, "the sampler returned what is a tuple: expected"),
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


IDS, COUNTS = np.arange(SAMPLED), (np.full((6, 2), 0.5, np.float32), np.full(SAMPLED, 0.25, np.float32))
WRONG_IDS = {
    "groups-of-a-part": np.tile(IDS, (4, 1)),
    "axes": np.tile(IDS, (6, 1, 1)),
    "number": np.int64(3),
    "fractions": IDS + 0.7,
    "flags": IDS > 3,
    "text": "three",
    "none": None,
    "beyond-V": np.where(IDS == 2, CLASSES, IDS),
    "negative": -IDS,
    "beyond-int32": np.where(IDS == 2, 2**32 + 5, IDS),
}
WRONG_VALUES = {
    "too-few": (IDS[:3], None, None),
    "true-count-only": (IDS, COUNTS[0], None),
    "sampled-count-only": (IDS, None, COUNTS[1]),
    "true-count-shape": (IDS, COUNTS[0][:3], COUNTS[1]),
    "sampled-count-shape": (IDS, COUNTS[0], COUNTS[1][:3]),
    "true-count-text": (IDS, "many", COUNTS[1]),
    "true-count-flags": (IDS, COUNTS[0] > 0, COUNTS[1]),
    "true-count-zero": (IDS, 0 * COUNTS[0], COUNTS[1]),
    "sampled-count-nan": (IDS, COUNTS[0], np.nan * COUNTS[1]),
    **{f"ids-{name}": (ids, None, None) for name, ids in WRONG_IDS.items()},
}


def refusal(call):
    with pytest.raises((TypeError, *RUN_TIME_ERRORS)) as caught:
        jax.block_until_ready(call())
    return type(caught.value), str(caught.value)


@pytest.mark.parametrize(
    ("function", "name", "convert"),
    [
        pytest.param(function, name, convert, id=f"{function}-{name}-{convert.__name__}")
        for function, name, convert in product(LOSSES, WRONG_VALUES, (np.asarray, jnp.asarray))
        if function != "negative_sampling_loss" or name.startswith("ids-")  # it takes ids alone, of any number
        if convert is np.asarray or name != "ids-beyond-int32"  # JAX itself makes a 5 of it
    ],
)
def test_what_a_callable_returns_is_refused_as_what_is_given(function, name, convert):
    values = jax.tree.map(lambda leaf: convert(leaf) if isinstance(leaf, np.ndarray) else leaf, WRONG_VALUES[name])
    assert refusal(lambda: loss_of(function, lambda labels: values)) == refusal(lambda: expected_of(function, values))


@pytest.mark.parametrize("function", ["nce_loss", "sampled_softmax_loss"])
def test_a_callable_returns_counts_for_examples_of_all_axes(function):
    arrays = {**ARRAYS, "inputs": ARRAYS["inputs"].reshape(2, 3, -1), "labels": ARRAYS["labels"].reshape(2, 3, 2)}
    values = (IDS, np.linspace(0.1, 0.9, 12).reshape(6, 2), COUNTS[1])
    ours = getattr(fastnce.jax, function)(**arrays, **SIZES, sampled_values=lambda labels: values)
    np.testing.assert_array_equal(ours, expected_of(function, values).reshape(2, 3))


MANY = CLASSES + 5


@pytest.mark.parametrize("function", LOSSES)
@pytest.mark.parametrize("kind", ["sampler", "mixture", "callable"])
def test_more_classes_may_be_drawn_than_there_are(kind, function):
    def uniform():
        return fastnce.UniformSampler(CLASSES, MANY, num_true=2, unique=False, seed=(0, 7))

    samples, options = {
        "sampler": (uniform(), {"key": jax.random.key(7)}),
        "mixture": (fastnce.MixedSampler([(uniform(), MANY)]), {}),
        "callable": (uniform().__call__, {}),
    }[kind]
    values = (fastnce.MixedSampler([(uniform(), MANY)]) if kind == "mixture" else uniform())(PROBLEM.labels)
    if function == "negative_sampling_loss":
        ours = loss_of(function, samples, **options)
        expected = expected_of(function, values)
    else:
        call = getattr(fastnce.jax, function)
        sizes = {**SIZES, "num_sampled": MANY}
        ours = call(**ARRAYS, **sizes, sampled_values=samples, **options)
        expected = call(**ARRAYS, **sizes, sampled_values=values)
    np.testing.assert_array_equal(ours, expected)


def test_a_callable_may_draw_nothing():
    sizes = {**SIZES, "num_sampled": 0}
    nothing = (IDS[:0], None, None)
    ours = fastnce.jax.nce_loss(**ARRAYS, **sizes, sampled_values=lambda labels: nothing)
    np.testing.assert_array_equal(ours, fastnce.jax.nce_loss(**ARRAYS, **sizes, sampled_values=nothing))


@pytest.mark.parametrize("size", ["num_sampled", "num_true", "num_classes"])
@pytest.mark.parametrize("samples", [FIXED["uniform"](), lambda labels: (IDS, None, None)], ids=["sampler", "callable"])
def test_sizes_beside_a_sampler_are_integers(size, samples):
    key = jax.random.key(0) if isinstance(samples, fastnce.UniformSampler) else None
    with pytest.raises(TypeError, match=f"^{size} is a str: expected an integer$"):
        fastnce.jax.nce_loss(**{**ARRAYS, **SIZES, size: "many"}, sampled_values=samples, key=key)


@pytest.mark.parametrize("make", [fastnce.UniformSampler, fastnce.LogUniformSampler])
def test_classes_of_a_sampler_beyond_int32_are_refused_without_x64(make):
    sampler = make(2**32 + CLASSES, SAMPLED, num_true=2)
    with enable_x64(False), pytest.raises(ValueError, match=r"^range_max = \d+: expected at most 2\*\*31 without"):
        loss_of("negative_sampling_loss", sampler, key=jax.random.key(0))


class Renamed(fastnce.UniformSampler):
    pass


class Learner(fastnce.LearnedUnigramSampler):
    pass


class Shifted(fastnce.UniformSampler):
    def __call__(self, true_classes):
        ids, *_ = super().__call__(true_classes)
        return (ids + 1) % CLASSES, None, None


class Told(fastnce.LearnedUnigramSampler):
    def __call__(self, true_classes):
        return super().__call__(np.asarray(true_classes).clip(0, 2))


@pytest.mark.parametrize("function", LOSSES)
def test_a_subclass_with_a_call_of_its_own_is_a_callable(function):
    sampler, twin = (Shifted(CLASSES, SAMPLED, num_true=2, seed=5) for _ in range(2))
    for _ in range(2):
        np.testing.assert_array_equal(loss_of(function, sampler), expected_of(function, twin(PROBLEM.labels)))
    with pytest.raises(ValueError, match="expected None beside a callable, which decides the samples by itself"):
        loss_of(function, sampler, key=jax.random.key(0))


def test_a_subclass_with_a_call_of_its_own_may_learn_beside_padding():
    sampler, twin = (Told(CLASSES, SAMPLED, num_true=2, seed=5) for _ in range(2))
    expected = fastnce.jax.nce_loss(**ARRAYS, **SIZES, sampled_values=twin(PROBLEM.labels), padding=-1)
    np.testing.assert_array_equal(loss_of("nce_loss", sampler, padding=-1), expected)


def test_a_subclass_without_a_call_of_its_own_draws_by_a_key():
    sampler = Renamed(CLASSES, SAMPLED, num_true=2)
    expected = loss_of("nce_loss", FIXED["uniform"](), key=jax.random.key(7))
    np.testing.assert_array_equal(loss_of("nce_loss", sampler, key=jax.random.key(7)), expected)


def test_a_subclass_that_learns_is_refused_beside_padding_as_its_base():
    with pytest.raises(ValueError, match=r"^padding: expected None beside a sampler that learns"):
        loss_of("nce_loss", Learner(CLASSES, SAMPLED, num_true=2), padding=-1)
