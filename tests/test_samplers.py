"""Every sampler: TensorFlow's ids and counts, its distribution, one continuing stream, the same interface."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import pytest

import fastnce
from cases import golden_sampler_calls
from fastnce import reference
from samplers import KINDS, zipf
from test_sampler import assert_same_values
from tolerances import CHI_SQUARE_SIGMAS

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
every_function = pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.function], ids=lambda kind: kind.name)


def golden_kernels(kind):
    """Successive calls of each of TensorFlow's kernels."""
    for _, kernel in groupby(golden_sampler_calls(kind), key=lambda golden: str(golden.arguments)):
        yield list(kernel)


def unigram_sampler(arguments):
    rest = {k: v for k, v in arguments.items() if k not in ("range_max", "unigrams", "num_sampled")}
    return fastnce.UnigramSampler(arguments["unigrams"], arguments["num_sampled"], **rest)


GOLDEN_SAMPLERS = {
    "uniform": (lambda arguments: fastnce.UniformSampler(**arguments), 432),
    "fixed_unigram": (unigram_sampler, 36),
    "learned_unigram": (lambda arguments: fastnce.LearnedUnigramSampler(**arguments), 36),
}
"""Beside those of the log-uniform one, which test_sampler.py compares: 936 calls."""


@pytest.mark.parametrize("kind", GOLDEN_SAMPLERS)
def test_successive_calls_are_tensorflows(kind):
    make, expected_calls = GOLDEN_SAMPLERS[kind]
    calls = 0
    for kernel in golden_kernels(kind):
        sampler = make(kernel[0].arguments)
        for golden in kernel:
            assert_same_values(sampler(golden.true_classes), golden.expected)
            calls += 1
    assert calls == expected_calls


@pytest.mark.parametrize("kind", GOLDEN_SAMPLERS)
def test_the_functions_return_tensorflows_first_call_every_time(kind):
    function = getattr(fastnce, f"{kind}_candidate_sampler")
    for golden in golden_sampler_calls(kind):
        if golden.call == 0:
            for _ in range(2):
                assert_same_values(function(golden.true_classes, **golden.arguments), golden.expected)


def test_counts_of_golden_unigrams_are_tensorflows_bits():
    """Where no draw was rejected they are one product; the float32 sum of 20 weights is exact enough for the class."""
    for golden in golden_sampler_calls("fixed_unigram"):
        if golden.call == 0 and not golden.arguments["unique"]:
            values = unigram_sampler(golden.arguments)(golden.true_classes)
            np.testing.assert_array_equal(values.true_expected_count, golden.expected.true_expected_count)
            np.testing.assert_array_equal(values.sampled_expected_count, golden.expected.sampled_expected_count)


# Just above a power of two half of all integers are rejected, and all draws behind a rejected one move.
SIZES = [
    (2, 1),
    (17, 5),
    (1000, 600),
    (2**16 + 1, 70_000),
    (10**6, 2000),
    (10**6, 50_000),
    (2**20, 80_000),
    (2**62 + 1, 20_000),
    (2**63 - 1, 3000),
]


# Tables end somewhere, and nearly all classes of a large one cannot be distinct in a test's time.
WALKS = [
    pytest.param(kind, sizes, unique, id=f"{kind.name}-{sizes}-{'unique' if unique else 'repeated'}")
    for kind in KINDS
    for sizes in SIZES
    for unique in (True, False)
    if sizes[0] <= kind.most_classes and (not unique or sizes[1] <= sizes[0] // 2)
]


@pytest.mark.parametrize(("kind", "sizes", "unique"), WALKS)
def test_samples_are_what_a_sequential_walk_keeps(kind, sizes, unique, set_threads):
    range_max, num_sampled = sizes
    labels = [[1], [range_max // 2], [range_max - 1]]
    expected = reference.candidates(kind.twin(range_max), labels, 1, num_sampled, unique, (3, -4), 2)
    for threads in (1, 2, 7):
        set_threads(threads)
        sampler = kind.make(range_max, num_sampled, unique=unique)
        learned = sampler.state[3:]
        sampler.state = (3, 2**64 - 4, 2, *learned)
        assert_same_values(sampler(labels), expected)
    if unique:
        assert len(np.unique(expected.sampled_candidates)) == num_sampled


def test_learned_samples_are_what_a_sequential_walk_keeps(set_threads):
    """With weights that differ, and a total whose integers are often rejected."""
    rng = np.random.default_rng(5)
    weights = rng.geometric(0.01, 3001).astype(np.int32)
    weights[7] += 2**30 + 1 - weights.sum()
    labels = rng.integers(3001, size=(50, 2))
    for threads in (1, 2, 7):
        set_threads(threads)
        sampler = fastnce.LearnedUnigramSampler(3001, 100_000, num_true=2, unique=False)
        sampler.state = (1, 2, 0, weights)
        twin = weights.copy()
        for call in range(2):
            expected = reference.learned_unigram_candidate_sampler(labels, 2, 100_000, False, twin, (1, 2), call)
            assert_same_values(sampler(labels), expected)
        np.testing.assert_array_equal(sampler.weights, twin)


def test_all_candidates_are_the_classes_with_counts_of_one():
    for unique in (True, False):
        values = fastnce.all_candidate_sampler([[1, 4], [0, 0]], 2, 5, unique, seed=3)
        assert_same_values(values, reference.all_candidate_sampler([[1, 4], [0, 0]], 2, 5))
    many = fastnce.all_candidate_sampler([[0]], 1, 3_000_001, False).sampled_candidates
    np.testing.assert_array_equal(many, np.arange(3_000_001))


@every_kind
@pytest.mark.parametrize("range_max", [2, 10, 1000])
def test_draws_follow_the_distribution(kind, range_max):
    draws = 400_000
    sampler = kind.make(range_max, draws, unique=False, seed=12345)
    observed = np.bincount(sampler([[0]]).sampled_candidates, minlength=range_max)
    assert len(observed) == range_max
    expected = draws * kind.probability(range_max)
    assert (observed[expected == 0] == 0).all()
    observed, expected = observed[expected > 0], expected[expected > 0]
    assert expected.min() > 5  # below, the statistic is no chi-square
    chi_square = ((observed - expected) ** 2 / expected).sum()
    freedom = max(len(expected) - 1, 1)
    assert chi_square < freedom + CHI_SQUARE_SIGMAS * np.sqrt(2 * freedom)


@every_kind
@pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])
def test_expected_counts_are_how_often_classes_appear(kind, unique):
    """Averaged over many calls."""
    calls, classes = 4000, 30
    sampler = kind.make(classes, 10, unique=unique, seed=7)
    appeared, promised = np.zeros(classes), np.zeros(classes)
    for _ in range(calls):
        values = sampler(np.arange(classes))
        if unique:
            assert len(np.unique(values.sampled_candidates)) == 10
        np.add.at(appeared, values.sampled_candidates, 1)
        promised += values.true_expected_count[:, 0]
    # The number of tries varies and stops at the tenth find, which biases the formula by a few per cent. With
    # repetition nothing does: five standard deviations of a mean of up to 3 or so.
    np.testing.assert_allclose(appeared / calls, promised / calls, atol=0.05 if unique else 5 * np.sqrt(3 / calls))


def test_a_learned_sampler_comes_to_draw_what_it_was_shown():
    sampler = fastnce.LearnedUnigramSampler(10, 1000, unique=False, seed=3)
    for _ in range(50):
        values = sampler([[3]] * 100)
    assert np.bincount(values.sampled_candidates, minlength=10)[3] > 990
    assert sampler.weights.tolist() == [1, 1, 1, 5001, 1, 1, 1, 1, 1, 1]
    # The counts are those of the weights before the call.
    np.testing.assert_allclose(values.true_expected_count, 1000 * 4901 / 4910, rtol=1e-6)


@every_kind
def test_each_batch_continues_the_stream_and_state_restores_it(kind):
    labels = [[1], [7]]
    sampler = kind.make(5000, 8, seed=(1, 2))
    first = sampler(labels)
    assert not np.array_equal(first.sampled_candidates, sampler(np.zeros((0, 1), np.int64)).sampled_candidates)
    state = sampler.state
    assert state[:3] == (1, 2, 2)
    expected = sampler(labels)
    elsewhere = kind.make(5000, 8, seed=99)
    elsewhere.state = tuple(state)
    assert_same_values(elsewhere(labels), expected)
    sampler.state = state
    assert_same_values(sampler(labels), expected)


@every_kind
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_go_on_where_it_was_on_their_own(kind, duplicate):
    sampler = kind.make(1000, 10, num_true=2, unique=False, seed=(3, 4))
    sampler([[0, 1]])
    other = duplicate(sampler)
    np.testing.assert_equal(other.state, sampler.state)
    assert repr(other) == repr(sampler) and type(other).__name__ in repr(other)
    expected = sampler([[2, 2]])
    sampler([[0, 1]])
    assert other.state.calls == 1
    assert_same_values(other([[2, 2]]), expected)
    assert other.state.calls == 2 and sampler.state.calls == 3


@every_kind
def test_threads_that_share_a_sampler_draw_different_ids(kind):
    sampler = kind.make(10**5, 20_000, seed=1)
    with ThreadPoolExecutor(2) as pool:
        drawn = [values.sampled_candidates.tobytes() for values in pool.map(sampler, [[0]] * 6)]
    assert len(set(drawn)) == 6
    assert sampler.state.calls == 6


@every_kind
def test_sizes_are_properties_and_fixed(kind):
    sampler = kind.make(50, 5, num_true=3, unique=False)
    assert (sampler.range_max, sampler.num_sampled, sampler.num_true, sampler.unique) == (50, 5, 3, False)
    for name in ("range_max", "num_sampled", "num_true", "unique"):
        with pytest.raises(AttributeError):
            setattr(sampler, name, 4)


@every_kind
def test_a_refused_call_changes_nothing(kind):
    sampler = kind.make(50, 8, seed=1)
    before = sampler.state
    for wrong in ([[1], [50]], [[1.5]], [[1, 2]]):
        with pytest.raises((ValueError, TypeError), match="true_classes"):
            sampler(wrong)
    np.testing.assert_equal(sampler.state, before)


@every_function
def test_a_function_draws_what_its_sampler_draws_first(kind):
    labels = [[1, 2], [3, 4]]
    for seed in (5, (1, 2)):
        expected = kind.make(100, 20, num_true=2, seed=seed)(labels)
        assert_same_values(kind.function(labels, 2, 20, True, 100, seed=seed), expected)


@every_function
def test_without_a_seed_every_call_differs(kind):
    first, second = (kind.function([[0]], 1, 64, True, 10**5) for _ in range(2))
    assert not np.array_equal(first.sampled_candidates, second.sampled_candidates)


def test_unique_unigram_samples_may_be_all_that_can_be_drawn():
    unigrams = zipf(40)
    unigrams[5:9] = 0
    values = fastnce.UnigramSampler(unigrams, 35, seed=1)(np.arange(40))
    np.testing.assert_array_equal(np.sort(values.sampled_candidates), np.flatnonzero(unigrams))
    counts = values.true_expected_count[:, 0]
    assert (counts[unigrams == 0] == 0).all() and (counts[unigrams > 0] > 0).all()


def test_one_frequent_class_among_rare_ones():
    """Its probability is close to 1 while draws are rejected: log(1 - p) by doubling."""
    unigrams = [1e5, 1.0, 2.0, 1.0]
    values = fastnce.UnigramSampler(unigrams, 2, seed=1)(np.arange(4))
    expected = reference.candidates(reference.Unigram(unigrams), np.arange(4), 1, 2, True, (87654321, 1))
    assert_same_values(values, expected)
    assert values.true_expected_count[0, 0] == 1.0


def test_learning_stops_at_the_largest_int32():
    sampler = fastnce.LearnedUnigramSampler(4, 2, unique=False, seed=1)
    weights = np.array([2**31 - 1 - 5, 1, 1, 1], np.int32)
    sampler.state = (1, 2, 0, weights)
    twin = weights.copy()
    for call in range(2):
        expected = reference.learned_unigram_candidate_sampler([[1], [2], [2], [1]], 1, 2, False, twin, (1, 2), call)
        assert_same_values(sampler([[1], [2], [2], [1]]), expected)
    assert sampler.weights.tolist() == twin.tolist() == [2**31 - 6, 2, 2, 1]


@pytest.mark.parametrize(
    ("state", "error", "match"),
    [
        ((1, 2, 0), ValueError, r"expected \(seed, seed2, calls, weights\)"),
        ((1, 2, 0, [1, 1]), ValueError, "state.weights has 2 elements: expected range_max = 3"),
        ((1, 2, 0, [1, 0, 1]), ValueError, r"weights\[1\] = 0: expected 1 to 2147483647"),
        ((1, 2, 0, [2**31 - 1, 1, 1]), ValueError, "add up to more than 2147483647"),
        ((1, 2, 0, [1.0, 1.0, 1.0]), TypeError, "weights has dtype float64"),
        ((1, 2, -1, [1, 1, 1]), ValueError, "state.calls = -1"),
        ((1, "2", 0, [1, 1, 1]), TypeError, "state.seed2 is a str"),
    ],
)
def test_a_learned_state_is_checked_before_it_is_taken(state, error, match):
    sampler = fastnce.LearnedUnigramSampler(3, 2, seed=(5, 6))
    with pytest.raises(error, match=match):
        sampler.state = state
    np.testing.assert_equal(tuple(sampler.state), (5, 6, 0, np.ones(3, np.int32)))
