"""Candidates from several samplers: their classes one after the other, expected counts that add up."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastnce
from samplers import KINDS, zipf
from test_sampler import assert_same_values

V, T = 50, 2
LABELS = np.array([[0, 1], [2, 49], [7, 7]])


def sources(unique=True):
    """Of every kind, and of different sizes."""
    samplers = [kind.make(V, 5, num_true=T, unique=unique, seed=(3, i)) for i, kind in enumerate(KINDS)]
    return [(sampler, 4 + 3 * i) for i, sampler in enumerate(samplers)]


def counts_of(sampler, classes):
    """Expected counts of any classes in the next call of a sampler."""
    again = copy.copy(sampler)
    padded = np.pad(classes, (0, len(classes) % T))
    return again(padded.reshape(-1, T)).true_expected_count.ravel()[: len(classes)]


@pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])
def test_classes_are_those_of_the_sources_and_counts_add_up(unique):
    mixture = fastnce.MixedSampler(sources(unique))
    alone = [
        fastnce.MixedSampler([source])._samplers[0]  # the copy that draws as many classes
        for source in sources(unique)
    ]
    for _ in range(3):
        drawn = [copy.copy(sampler)(LABELS) for sampler in alone]
        ids = np.concatenate([values.sampled_candidates for values in drawn])
        values = mixture(LABELS)
        np.testing.assert_array_equal(values.sampled_candidates, ids)
        true_count = sum(values.true_expected_count.astype(np.float64) for values in drawn)
        np.testing.assert_allclose(values.true_expected_count, true_count, rtol=1e-6)
        sampled_count = sum(counts_of(sampler, ids).astype(np.float64) for sampler in alone)
        np.testing.assert_allclose(values.sampled_expected_count, sampled_count, rtol=1e-6)
        assert values.true_expected_count.dtype == values.sampled_expected_count.dtype == np.float32
        for sampler in alone:
            sampler(LABELS)


def test_a_mixture_of_one_is_that_sampler():
    for kind in KINDS:
        sampler = kind.make(V, 8, num_true=T, seed=5)
        mixture = fastnce.MixedSampler([(sampler, 8)])
        for _ in range(2):
            assert_same_values(mixture(LABELS), sampler(LABELS))
        assert mixture.unique and mixture.num_sampled == 8


def test_expected_counts_are_how_often_classes_appear():
    calls, classes = 4000, 30
    noise = fastnce.UnigramSampler(zipf(classes), 8, unique=False, seed=1)
    mixture = fastnce.MixedSampler([(noise, 8), (fastnce.UniformSampler(classes, 6, unique=False, seed=2), 6)])
    appeared, promised = np.zeros(classes), np.zeros(classes)
    for _ in range(calls):
        values = mixture(np.arange(classes))
        np.add.at(appeared, values.sampled_candidates, 1)
        promised += values.true_expected_count[:, 0]
    np.testing.assert_allclose(appeared / calls, promised / calls, atol=5 * np.sqrt(3 / calls))


def test_the_mixture_draws_from_copies():
    given = sources()
    mixture = fastnce.MixedSampler(given)
    mixture(LABELS)
    assert all(sampler.state.calls == 0 for sampler, _ in given)
    assert given[3][0].weights.sum() == V
    assert [state.calls for state in mixture.state] == [1] * len(KINDS)
    assert mixture.state[3].weights.sum() == V + LABELS.size


def test_state_restores_the_streams_and_what_was_learned():
    mixture = fastnce.MixedSampler(sources())
    mixture(LABELS)
    state = mixture.state
    expected = mixture(LABELS)
    mixture(LABELS)
    mixture.state = state
    assert_same_values(mixture(LABELS), expected)
    for wrong in (state[:3], 7, (*state[:3], state[2])):
        before = mixture.state
        with pytest.raises(ValueError, match="state is"):
            mixture.state = wrong
        np.testing.assert_equal(mixture.state, before)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_go_on_where_it_was_on_their_own(duplicate):
    mixture = fastnce.MixedSampler(sources())
    mixture(LABELS)
    other = duplicate(mixture)
    assert repr(other) == repr(mixture)
    expected = mixture(LABELS)
    mixture(LABELS)
    assert_same_values(other(LABELS), expected)
    assert other.state[0].calls == 2 and mixture.state[0].calls == 3


def test_a_refused_call_changes_nothing():
    mixture = fastnce.MixedSampler(sources())
    before = mixture.state
    for wrong in ([[0, 50]], [[1.5, 1.0]], [[1, 2, 3]]):
        with pytest.raises((ValueError, TypeError), match="true_classes"):
            mixture(wrong)
    np.testing.assert_equal(mixture.state, before)


def test_sizes_are_properties():
    given = sources()
    mixture = fastnce.MixedSampler(given)
    total = sum(number for _, number in given)
    assert (mixture.range_max, mixture.num_true, mixture.num_sampled, mixture.unique) == (V, T, total, False)


def test_losses_take_its_values():
    weights, biases = np.ones((V, 3), np.float32), np.zeros(V, np.float32)
    mixture = fastnce.MixedSampler(sources())
    inputs = np.ones((3, 3), np.float32)
    labels = LABELS.clip(1)  # the unigram sampler alone never draws class 0, the others do
    values = mixture(labels)
    loss = fastnce.nce_loss(weights, biases, labels, inputs, mixture.num_sampled, V, T, values)
    assert np.isfinite(loss).all()


class SamplesInItsOwnWay(fastnce.UniformSampler):
    def __call__(self, true_classes):
        return super().__call__(true_classes)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ([], ValueError, "sources is empty: expected at least one pair"),
        ([3], TypeError, r"sources\[0\] is an int: expected a pair"),
        ([(fastnce.UniformSampler(5, 2),)], TypeError, r"sources\[0\] is a tuple: expected a pair"),
        ([("uniform", 3)], TypeError, r"sources\[0\]\[0\] is a str: expected a sampler"),
        ([(fastnce.UniformSampler(5, 2), 6)], ValueError, "num_sampled = 6 is larger than the number of classes, 5"),
        ([(fastnce.UniformSampler(5, 2), 0)], ValueError, "num_sampled = 0: expected 1"),
        ([(fastnce.UniformSampler(5, 2), 2.0)], TypeError, "num_sampled is a float"),
        (
            [(fastnce.UniformSampler(5, 2), 2), (fastnce.LogUniformSampler(6, 2), 2)],
            ValueError,
            r"sources\[1\] has range_max = 6: expected 5, that of sources\[0\]",
        ),
        (
            [(fastnce.UniformSampler(5, 2), 2), (fastnce.UniformSampler(5, 2, num_true=2), 2)],
            ValueError,
            r"sources\[1\] has num_true = 2: expected 1, that of sources\[0\]",
        ),
        (
            [(fastnce.MixedSampler([(fastnce.UniformSampler(5, 2), 2)]), 2)],
            TypeError,
            r"sources\[0\]\[0\] is a MixedSampler: expected a sampler of fastnce, neither a mixture nor one of a",
        ),
        (
            [(SamplesInItsOwnWay(5, 2), 2)],
            TypeError,
            r"sources\[0\]\[0\] is a SamplesInItsOwnWay: .* nor one of a subclass with a __call__ of its own",
        ),
    ],
)
def test_it_refuses(given, error, match):
    with pytest.raises(error, match=match):
        fastnce.MixedSampler(given)
