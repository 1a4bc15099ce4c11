"""Candidate samplers: TensorFlow's ids, one continuing stream, the log-uniform distribution."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import numpy as np
import pytest

import fastnce
from cases import golden_sampler_calls
from fastnce import reference
from tolerances import CHI_SQUARE_SIGMAS, assert_counts_match

TRUE_CLASSES = [[0], [7]]


def sampler_of(arguments):
    rest = {k: v for k, v in arguments.items() if k not in ("range_max", "num_sampled")}
    return fastnce.LogUniformSampler(arguments["range_max"], arguments["num_sampled"], **rest)


def assert_same_values(values, expected):
    """Ids are equal, counts within tolerance; kinds and dtypes as documented."""
    assert isinstance(values, fastnce.SampledValues)
    assert values.sampled_candidates.dtype == np.int64
    np.testing.assert_array_equal(values.sampled_candidates, expected.sampled_candidates)
    assert_counts_match(values.true_expected_count, expected.true_expected_count)
    assert_counts_match(values.sampled_expected_count, expected.sampled_expected_count)


def test_successive_calls_are_tensorflows():
    calls = 0
    for _, kernel in groupby(golden_sampler_calls(), key=lambda golden: str(golden.arguments)):
        kernel = list(kernel)
        sampler = sampler_of(kernel[0].arguments)
        for golden in kernel:
            assert_same_values(sampler(golden.true_classes), golden.expected)
            calls += 1
    assert calls == 432


def test_the_function_returns_tensorflows_first_call_every_time():
    for golden in golden_sampler_calls():
        if golden.call == 0:
            for _ in range(2):
                values = fastnce.log_uniform_candidate_sampler(golden.true_classes, **golden.arguments)
                assert_same_values(values, golden.expected)


# The unique cases reject many duplicates: parallel code must keep what a sequential walk keeps.
@pytest.mark.parametrize(
    ("range_max", "num_sampled", "unique"),
    [
        (1, 1, True),
        (5, 5, True),
        (1000, 1000, True),
        (3001, 3001, True),
        (20_500, 20_000, True),
        (2**18 + 3, 2**16, True),
        (10**6, 2**18, True),
        (2**63 - 1, 2**18, True),
        (2, 2**18 + 1, False),
        (10**6, 2**18 + 1, False),
        (2**40 + 1, 99_999, False),
    ],
)
def test_samples_are_what_a_sequential_walk_keeps(range_max, num_sampled, unique, set_threads):
    labels = [[0], [range_max // 2], [range_max - 1]]
    expected = reference.log_uniform_candidate_sampler(labels, 1, num_sampled, unique, range_max, (3, -4))
    for threads in (1, 2, 7):
        set_threads(threads)
        assert_same_values(
            fastnce.log_uniform_candidate_sampler(labels, 1, num_sampled, unique, range_max, seed=(3, -4)),
            expected,
        )
    if unique:
        assert len(np.unique(expected.sampled_candidates)) == num_sampled


@pytest.mark.parametrize("num_sampled", [2**20, 2**20 + 77, 2**21, 2**22])
def test_huge_samples_continue_as_documented(num_sampled):
    """TensorFlow's backward step for 2**20 <= S < 2**21, and no repetition at multiples of 2**21."""
    sampler = fastnce.LogUniformSampler(10**6, num_sampled, unique=False, seed=(1, 2))
    calls = [sampler(TRUE_CLASSES).sampled_candidates for _ in range(3)]
    for number, ids in enumerate(calls):
        expected = reference.log_uniform_draws(1, 2, number, num_sampled, 10**6, 500)
        np.testing.assert_array_equal(ids[:500], expected)
    assert not np.array_equal(calls[0], calls[1])


def test_each_batch_continues_the_stream_whatever_its_size():
    sampler = fastnce.LogUniformSampler(50_000, 8, num_true=2, seed=(1, 2))
    for call, labels in enumerate([[[0, 1]], np.zeros((0, 2), np.int64), [[3, 4], [5, 6]]]):
        expected = reference.log_uniform_candidate_sampler(labels, 2, 8, True, 50_000, (1, 2), call)
        assert_same_values(sampler(labels), expected)


def test_state_counts_calls_and_restores_the_stream():
    sampler = fastnce.LogUniformSampler(50_000, 8, seed=(1, 2))
    sampler(TRUE_CLASSES)
    state = sampler.state
    assert isinstance(state, fastnce.SamplerState)
    assert state == (1, 2, 1)
    expected = sampler(TRUE_CLASSES)

    elsewhere = fastnce.LogUniformSampler(50_000, 8, seed=99)
    elsewhere.state = tuple(state)
    assert_same_values(elsewhere(TRUE_CLASSES), expected)
    sampler.state = state
    assert_same_values(sampler(TRUE_CLASSES), expected)


def test_threads_that_share_a_sampler_draw_different_ids():
    sampler = fastnce.LogUniformSampler(10**6, 100_000, seed=1)
    with ThreadPoolExecutor(2) as pool:
        drawn = [values.sampled_candidates.tobytes() for values in pool.map(sampler, [[0]] * 6)]
    assert len(set(drawn)) == 6
    assert sampler.state.calls == 6


def test_a_sampler_may_be_called_while_it_reads_its_arguments():
    sampler = fastnce.LogUniformSampler(1000, 10, seed=1)

    class Calling:
        def __array__(self, dtype=None, copy=None):
            sampler([0])
            return np.array([0])

        __len__ = __getitem__ = None

        def __index__(self):
            return 0

    sampler(Calling())
    assert sampler.state.calls == 2


def test_a_sampler_keeps_its_own_sizes():
    size = np.array(5)
    sampler = fastnce.LogUniformSampler(50, size, seed=1)
    size[...] = 7
    assert sampler.num_sampled == len(sampler([0]).sampled_candidates) == 5


def test_a_pickled_sampler_goes_on_where_it_was():
    sampler = fastnce.LogUniformSampler(1000, 10, num_true=2, unique=False, seed=(3, 4))
    sampler([[0, 1]])
    copied = pickle.loads(pickle.dumps(sampler))
    assert_same_values(copied([[0, 1]]), sampler([[0, 1]]))
    assert copied.state == sampler.state


def test_a_sampler_is_checked_when_it_is_made_and_then_fixed():
    with pytest.raises(ValueError, match=r"num_sampled = 5 .*4 \(num_classes or range_max\)"):
        fastnce.LogUniformSampler(4, 5)
    sampler = fastnce.LogUniformSampler(5, 5)
    with pytest.raises(AttributeError):
        sampler.num_sampled = 4


def test_the_state_of_an_unseeded_sampler_restores_it_too():
    sampler = fastnce.LogUniformSampler(10**9, 8)
    state = sampler.state
    expected = sampler(TRUE_CLASSES)
    sampler.state = state
    assert_same_values(sampler(TRUE_CLASSES), expected)


@pytest.mark.parametrize("seed", [0, 42, -1, 2**31 - 1, 2**40])
def test_an_int_seed_is_tensorflows_op_seed(seed):
    pair = (87654321, seed % (2**31 - 1))
    by_int, by_pair = (
        fastnce.log_uniform_candidate_sampler(TRUE_CLASSES, 1, 8, True, 50_000, seed=s) for s in (seed, pair)
    )
    assert_same_values(by_int, by_pair)


def test_seeds_are_64_bit_patterns():
    signed, unsigned = (
        fastnce.log_uniform_candidate_sampler(TRUE_CLASSES, 1, 8, True, 50_000, seed=s)
        for s in ((-1, -5), (2**64 - 1, 2**64 - 5))
    )
    assert_same_values(signed, unsigned)


@pytest.mark.parametrize("seed", [None, (0, 0)])
def test_without_a_seed_every_call_differs(seed):
    first, second = (
        fastnce.log_uniform_candidate_sampler(TRUE_CLASSES, 1, 64, True, 10**9, seed=seed) for _ in range(2)
    )
    assert not np.array_equal(first.sampled_candidates, second.sampled_candidates)


@pytest.mark.parametrize("range_max", [2, 10, 1000])
def test_draws_follow_the_log_uniform_distribution(range_max):
    draws = 400_000
    sampler = fastnce.LogUniformSampler(range_max, draws, unique=False, seed=12345)
    observed = np.bincount(sampler([[0]]).sampled_candidates, minlength=range_max)
    assert len(observed) == range_max
    k = np.arange(range_max)
    expected = draws * np.log((k + 2) / (k + 1)) / np.log(range_max + 1)
    assert expected.min() > 5  # below, the statistic is no chi-square
    chi_square = ((observed - expected) ** 2 / expected).sum()
    freedom = range_max - 1
    assert chi_square < freedom + CHI_SQUARE_SIGMAS * np.sqrt(2 * freedom)


def test_expected_counts_of_unique_samples_are_how_often_classes_appear():
    """Averaged over many calls, a class is among the samples as often as its expected count says."""
    calls, classes = 4000, 30
    sampler = fastnce.LogUniformSampler(classes, 10, num_true=1, seed=7)
    appeared, promised = np.zeros(classes), np.zeros(classes)
    for _ in range(calls):
        values = sampler(np.arange(classes))
        assert len(np.unique(values.sampled_candidates)) == 10
        appeared[values.sampled_candidates] += 1
        promised += values.true_expected_count[:, 0]
    # The number of tries varies and stops at the tenth find, which biases the formula by a few per cent.
    np.testing.assert_allclose(appeared / calls, promised / calls, atol=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.uint64])
def test_true_classes_may_have_any_integer_type_and_rank_one(dtype):
    expected = reference.log_uniform_candidate_sampler(TRUE_CLASSES, 1, 8, True, 50_000, (1, 2))
    for labels in (
        np.array(TRUE_CLASSES, dtype),
        np.array([0, 7], dtype),
        np.array([0, 9, 7, 9], dtype)[::2],
    ):
        assert_same_values(fastnce.log_uniform_candidate_sampler(labels, 1, 8, True, 50_000, seed=(1, 2)), expected)


@pytest.mark.parametrize(
    ("true_classes", "sampled"),
    [
        ([[1, 2], [5, 1]], [1, 5, 1]),
        ([[1, 1]], [1, 0, 1]),
        ([[3], [4]], [0, 1]),
        (np.zeros((0, 2), np.int64), [1]),
        ([[1]], np.zeros(0, np.int64)),
        (np.zeros((3, 0), np.int64), [1]),
        (np.random.default_rng(0).integers(20, size=(50, 3)), np.random.default_rng(1).integers(20, size=70)),
    ],
    ids=["duplicates", "label-twice", "none", "B0", "S0", "T0", "random"],
)
def test_accidental_hits_are_the_twins(true_classes, sampled):
    num_true = np.shape(true_classes)[1]
    actual = fastnce.compute_accidental_hits(true_classes, sampled, num_true)
    expected = reference.compute_accidental_hits(true_classes, sampled, num_true)
    for ours, twin in zip(actual, expected, strict=True):
        assert ours.dtype == twin.dtype
        np.testing.assert_array_equal(ours, twin)
