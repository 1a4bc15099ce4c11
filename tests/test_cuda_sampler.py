"""Samplers on a CUDA device: the CPU's ids, bit for bit, and a counter of calls that lives there."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import cuda_arrays
import fastnce
from tolerances import assert_counts_match

pytestmark = pytest.mark.cuda

SIZES = [
    (1, 1),
    (2, 2),
    (50, 8),
    (50, 50),
    (300, 299),
    (1000, 7),
    (1000, 1000),
    (50_000, 64),
    (100_000, 300),
    (2**31 + 11, 200),
    (2**62 + 5, 33),
    (2**63 - 1, 100),
]
"""range_max and num_sampled; equal ones take most of the draws there are."""

LARGE = [(10**6, 8192), (30_000, 30_000), (2**40, 2**20 + 3)]


def assert_same_candidates(on_device, on_cpu):
    np.testing.assert_array_equal(on_device[0], on_cpu[0])
    assert_counts_match(on_device[1], on_cpu[1])
    assert_counts_match(on_device[2], on_cpu[2])


def assert_draws_like_the_cpu(cuda_array, range_max, num_sampled, unique, state):
    labels = np.random.default_rng(num_sampled).integers(range_max, size=(5, 3))
    values = []
    for classes in (cuda_array.put(labels), labels):
        sampler = fastnce.LogUniformSampler(range_max, num_sampled, num_true=3, unique=unique)
        sampler.state = state
        values.append(tuple(map(cuda_array.get if classes is not labels else np.asarray, sampler(classes))))
    assert_same_candidates(*values)


@pytest.mark.parametrize("state", [(1, 2, 0), (2**64 - 1, 2**63 + 7, 3), (5, 0, 2**40 + 1)], ids=str)
@pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_ids_are_the_cpus(sizes, unique, state, cuda_array):
    assert_draws_like_the_cpu(cuda_array, *sizes, unique, state)


@pytest.mark.skipif(cuda_arrays.EMULATED, reason="too large for an emulated device")
@pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])
@pytest.mark.parametrize("sizes", LARGE, ids=str)
def test_many_ids_are_the_cpus(sizes, unique, cuda_array):
    assert_draws_like_the_cpu(cuda_array, *sizes, unique, (3, 4, 1))


@pytest.mark.parametrize("seed", [7, (8, 9)], ids=str)
def test_the_function_gives_the_cpus_ids(seed, cuda_array):
    labels = np.arange(12).reshape(6, 2)
    arguments = (2, 20, True, 1000, seed)
    values = fastnce.log_uniform_candidate_sampler(cuda_array.put(labels), *arguments)
    assert all(map(cuda_array.is_own, values))
    expected = fastnce.log_uniform_candidate_sampler(labels, *arguments)
    assert_same_candidates(tuple(map(cuda_array.get, values)), expected)


def test_no_seed_gives_new_ids_each_time(cuda_array):
    labels = cuda_array.put(np.zeros((1, 1), np.int64))
    draws = [fastnce.log_uniform_candidate_sampler(labels, 1, 20, True, 10**6)[0] for _ in range(2)]
    assert not np.array_equal(*map(cuda_array.get, draws))


def test_labels_may_be_a_vector_of_any_integers_or_none(cuda_array):
    expected = fastnce.log_uniform_candidate_sampler(np.arange(6), 1, 20, True, 100, seed=1)
    for dtype in (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.int64, np.uint64):
        labels = cuda_array.put(np.arange(6, dtype=dtype))
        values = fastnce.log_uniform_candidate_sampler(labels, 1, 20, True, 100, seed=1)
        assert_same_candidates(tuple(map(cuda_array.get, values)), expected)
    values = fastnce.log_uniform_candidate_sampler(cuda_array.put(np.zeros((0, 2), np.int64)), 2, 20, True, 100, seed=1)
    assert cuda_array.get(values[1]).shape == (0, 2)
    np.testing.assert_array_equal(cuda_array.get(values[0]), expected[0])


@pytest.mark.parametrize("bad", [-1, 50])
def test_the_count_of_a_class_out_of_range_is_nan(bad, cuda_array):
    values = fastnce.log_uniform_candidate_sampler(cuda_array.put(np.array([3, bad])), 1, 8, True, 50, seed=1)
    np.testing.assert_array_equal(np.isnan(cuda_array.get(values[1])), [[False], [True]])
    assert np.isfinite(cuda_array.get(values[2])).all()


def test_calls_continue_the_stream(cuda_array):
    labels = np.arange(4)[:, None]
    sampler, on_cpu = (fastnce.LogUniformSampler(1000, 20, seed=(3, 4)) for _ in range(2))
    lent = cuda_array.put(labels)
    for _ in range(3):
        assert_same_candidates(tuple(map(cuda_array.get, sampler(lent))), on_cpu(labels))
    assert sampler.state == on_cpu.state == (3, 4, 3)
    sampler.state = on_cpu.state = (3, 4, 2**33)
    for _ in range(2):
        assert_same_candidates(tuple(map(cuda_array.get, sampler(lent))), on_cpu(labels))
    assert sampler.state.calls == 2**33 + 2


def test_a_refused_call_does_not_move_the_stream(cuda_array):
    sampler = fastnce.LogUniformSampler(1000, 20, seed=1)
    lent = cuda_array.put(np.arange(4)[:, None])
    first = cuda_array.get(sampler(lent)[0])
    with pytest.raises(TypeError, match="true_classes has dtype float32: expected integers"):
        sampler(cuda_array.put(np.zeros((4, 1), np.float32)))
    assert sampler.state.calls == 1
    assert not np.array_equal(first, cuda_array.get(sampler(lent)[0]))


def test_a_sampler_belongs_to_the_device_of_its_first_call(cuda_array):
    labels = np.arange(4)[:, None]
    lent = cuda_array.put(labels)
    on_device, on_cpu = fastnce.LogUniformSampler(1000, 20, seed=1), fastnce.LogUniformSampler(1000, 20, seed=1)
    on_device(lent)
    on_cpu(labels)
    with pytest.raises(ValueError, match=r"true_classes is on device cpu.*: expected cuda:0"):
        on_device(labels)
    with pytest.raises(ValueError, match=r"true_classes is on device cuda:0: expected cpu"):
        on_cpu(lent)
    assert on_device.state.calls == on_cpu.state.calls == 1


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_copies_go_on_from_there_on_any_device(duplicate, cuda_array):
    labels = np.arange(4)[:, None]
    sampler = fastnce.LogUniformSampler(1000, 20, seed=1)
    sampler(cuda_array.put(labels))
    other = duplicate(sampler)
    assert other.state == sampler.state
    on_cpu = other(labels)  # the copy has no device yet
    assert_same_candidates(tuple(map(cuda_array.get, sampler(cuda_array.put(labels)))), on_cpu)
    assert other.state == sampler.state
    assert "device=cuda:0" in repr(sampler)


UNIGRAMS = 1.0 / np.arange(1, 301)
UNIGRAMS[5:9] = 0.0

OTHERS = {
    "uniform": lambda **options: fastnce.UniformSampler(300, 40, **options),
    "uniform, half rejected": lambda **options: fastnce.UniformSampler(2**62 + 1, 40, **options),
    "unigram": lambda **options: fastnce.UnigramSampler(UNIGRAMS, 40, **options),
    "all that can be drawn": lambda **options: fastnce.UnigramSampler(UNIGRAMS[:40], 36, **options),
}


@pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])
@pytest.mark.parametrize("make", OTHERS.values(), ids=OTHERS)
def test_other_samplers_draw_like_the_cpu(make, unique, cuda_array):
    labels = np.arange(12).reshape(4, 3)
    sampler, on_cpu = (make(num_true=3, unique=unique, seed=(3, 4)) for _ in range(2))
    lent = cuda_array.put(labels)
    for _ in range(3):
        assert_same_candidates(tuple(map(cuda_array.get, sampler(lent))), on_cpu(labels))
    assert sampler.state == on_cpu.state
    expected = on_cpu(labels)
    for duplicate in (copy.deepcopy(sampler), copy.copy(sampler), pickle.loads(pickle.dumps(sampler))):
        assert_same_candidates(duplicate(labels), expected)  # from the table on the host
    assert_same_candidates(tuple(map(cuda_array.get, copy.copy(sampler)(lent))), expected)


GROUPED = OTHERS | {
    "log-uniform": lambda **options: fastnce.LogUniformSampler(300, 40, **options),
    "every class": lambda **options: fastnce.LogUniformSampler(300, 300, **options),  # many rounds of draws
    "one sample": lambda **options: fastnce.LogUniformSampler(50, 1, **options),
}


@pytest.mark.parametrize("groups", [1, 3, 12])
@pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])
@pytest.mark.parametrize("make", GROUPED.values(), ids=GROUPED)
def test_groups_draw_like_the_cpu(make, unique, groups, cuda_array):
    labels = np.arange(36).reshape(12, 3)
    sampler, on_cpu = (make(num_true=3, unique=unique, seed=(3, 4)) for _ in range(2))
    lent = cuda_array.put(labels)
    for number in (groups, None):  # one call each, in one stream
        values = tuple(map(cuda_array.get, sampler(lent, num_groups=number)))
        assert_same_candidates(values, on_cpu(labels, num_groups=number))
    assert sampler.state == on_cpu.state


@pytest.mark.parametrize(("sampler", "unique"), [(fastnce.UniformSampler, False), (fastnce.LogUniformSampler, True)])
def test_groups_that_take_turns_draw_like_the_cpu(sampler, unique, cuda_array):
    """More groups than run at once."""
    labels = np.arange(1030) % 50
    on_device, on_cpu = (sampler(50, 3, unique=unique, seed=(3, 4)) for _ in range(2))
    values = tuple(map(cuda_array.get, on_device(cuda_array.put(labels), num_groups=1030)))
    assert_same_candidates(values, on_cpu(labels, num_groups=1030))


@pytest.mark.parametrize(("groups", "words"), [(0, "at least 1"), (5, "a divisor of the batch, B = 6")])
def test_groups_must_divide_the_batch(groups, words, cuda_array):
    sampler = fastnce.LogUniformSampler(50, 3, seed=1)
    with pytest.raises(ValueError, match=f"num_groups = {groups}: expected {words}"):
        sampler(cuda_array.put(np.arange(6)), num_groups=groups)
    assert sampler.state.calls == 0


def test_other_functions_give_the_cpus_ids(cuda_array):
    labels = np.arange(12).reshape(6, 2)
    lent = cuda_array.put(labels)
    for function, options in (
        (fastnce.uniform_candidate_sampler, {"range_max": 300}),
        (fastnce.fixed_unigram_candidate_sampler, {"range_max": 300, "unigrams": UNIGRAMS}),
    ):
        values, expected = (function(y, 2, 20, True, seed=(8, 9), **options) for y in (lent, labels))
        assert all(map(cuda_array.is_own, values))
        assert_same_candidates(tuple(map(cuda_array.get, values)), expected)


def test_samplers_of_the_cpu_alone_say_so(cuda_array):
    lent = cuda_array.put(np.zeros((2, 1), np.int64))
    learned = fastnce.LearnedUnigramSampler(10, 3, seed=1)
    for call in (learned, fastnce.MixedSampler([(learned, 3)])):
        with pytest.raises(ValueError, match="true_classes is on device cuda:0: expected cpu"):
            call(lent)
        call([[1]])
    with pytest.raises(ValueError, match="a learned unigram sampler on a CUDA device: expected arrays on the CPU"):
        fastnce.learned_unigram_candidate_sampler(lent, 1, 3, True, 10)
    with pytest.raises(ValueError, match="a sampler of all classes on a CUDA device: expected arrays on the CPU"):
        fastnce.all_candidate_sampler(lent, 1, 3, True)
