"""Random configurations of every candidate sampler against TensorFlow itself: successive calls of one kernel each."""

from __future__ import annotations

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

import fastnce  # noqa: E402
from tolerances import assert_counts_match  # noqa: E402

CONFIGURATIONS = 60
CALLS = 3


def random_sizes(rng, most_classes, drawable=1.0):
    """(range_max, num_sampled, unique, num_true, seed); unique samples are at most half of the classes."""
    range_max = int(np.exp(rng.uniform(0, np.log(most_classes))))
    unique = bool(rng.integers(2))
    most = max(int(range_max * drawable / 2), 1) if unique else 3000
    num_sampled = int(rng.integers(1, min(most, 3000) + 1))
    seed = tuple(rng.integers(-(2**63), 2**63 - 1, 2).tolist())
    return range_max, num_sampled, unique, int(rng.integers(1, 4)), seed


def random_labels(rng, range_max, num_true):
    return rng.integers(range_max, size=(int(rng.integers(0, 6)), num_true))


def assert_same(values, expected):
    ids, true_count, sampled_count = expected
    np.testing.assert_array_equal(values.sampled_candidates, ids)
    assert_counts_match(values.true_expected_count, true_count.numpy())
    assert_counts_match(values.sampled_expected_count, sampled_count.numpy())


def raw_arguments(range_max, num_sampled, unique, num_true, seed):
    return {
        "num_true": num_true,
        "num_sampled": num_sampled,
        "unique": unique,
        "range_max": range_max,
        "seed": seed[0],
        "seed2": seed[1],
    }


@pytest.mark.parametrize("configuration", range(CONFIGURATIONS))
@pytest.mark.parametrize(
    ("name", "op", "most_classes"),
    [
        ("LogUniformSampler", "LogUniformCandidateSampler", 2**63 - 1),
        ("UniformSampler", "UniformCandidateSampler", 2**63 - 1),
        ("LearnedUnigramSampler", "LearnedUnigramCandidateSampler", 2**20),
    ],
)
def test_successive_calls(name, op, most_classes, configuration):
    rng = np.random.default_rng([configuration, most_classes % 2**32])
    range_max, num_sampled, unique, num_true, seed = random_sizes(rng, most_classes)
    sampler = getattr(fastnce, name)(range_max, num_sampled, num_true=num_true, unique=unique, seed=seed)
    for _ in range(CALLS):
        labels = random_labels(rng, range_max, num_true)
        arguments = raw_arguments(range_max, num_sampled, unique, num_true, seed)
        assert_same(sampler(labels), getattr(tf.raw_ops, op)(true_classes=labels, **arguments))


def random_unigrams(rng):
    """Unigrams of one of several shapes, and TensorFlow's attributes."""
    n = int(np.exp(rng.uniform(np.log(4), np.log(3000))))
    shape = rng.integers(4)
    if shape == 0:
        unigrams = 1 / np.arange(1, n + 1)
    elif shape == 1:
        unigrams = rng.integers(0, 5, n) * rng.integers(0, 5, n)
    elif shape == 2:
        unigrams = np.exp(rng.normal(0, 3, n))
    else:
        unigrams = np.ones(n)
    unigrams = unigrams.astype(np.float32)
    unigrams[rng.integers(n)] = 1  # not all are 0
    options = {"distortion": float(np.float32(rng.choice([1.0, 0.75, 0.5, 0.0, 1.7])))}
    options["num_reserved_ids"] = int(rng.integers(0, 5))
    options["num_shards"] = int(rng.choice([1, 1, 2, 3]))
    options["shard"] = int(rng.integers(options["num_shards"]))
    return unigrams, options


@pytest.mark.parametrize("configuration", range(CONFIGURATIONS))
def test_successive_calls_of_fixed_unigram(configuration, tmp_path):
    """The class draws the same; the function also has the same counts, and reads the same files."""
    rng = np.random.default_rng([configuration, 7])
    unigrams, options = random_unigrams(rng)
    weights = fastnce.reference.unigram_weights(unigrams, **options)
    range_max, drawable = len(weights), int(np.count_nonzero(weights))
    if drawable == 0:
        pytest.skip("no unigram falls to this shard")
    unique = bool(rng.integers(2))
    num_sampled = int(rng.integers(1, max(drawable // 4, 1) + 1 if unique else 500))
    num_true = int(rng.integers(1, 4))
    seed = tuple(rng.integers(1, 2**62, 2).tolist())
    sampler = fastnce.UnigramSampler(unigrams, num_sampled, num_true=num_true, unique=unique, seed=seed, **options)
    path = tmp_path / "words.csv"
    path.write_text("".join(f"w{i},{unigram!r}\r\n" for i, unigram in enumerate(unigrams.tolist())))
    sources = [{"unigrams": unigrams.tolist()}, {"vocab_file": str(path)}]
    for call in range(CALLS):
        labels = random_labels(rng, range_max, num_true)
        arguments = raw_arguments(range_max, num_sampled, unique, num_true, seed)
        expected = tf.raw_ops.FixedUnigramCandidateSampler(true_classes=labels, **arguments, **options, **sources[0])
        values = sampler(labels)
        np.testing.assert_array_equal(values.sampled_candidates, expected.sampled_candidates)
        np.testing.assert_allclose(values.true_expected_count, expected.true_expected_count, rtol=1e-5)
        if call > 0:
            continue
        of_file = tf.raw_ops.FixedUnigramCandidateSampler(true_classes=labels, **arguments, **options, **sources[1])
        for source in sources:
            ours = fastnce.fixed_unigram_candidate_sampler(
                labels, num_true, num_sampled, unique, range_max, **options, **source, seed=seed
            )
            assert_same(ours, expected)
            assert_same(ours, of_file)


@pytest.mark.parametrize("num_sampled", [1, 7, 1000])
def test_all(num_sampled):
    labels = np.arange(num_sampled).reshape(-1, 1)
    expected = tf.random.all_candidate_sampler(labels, 1, num_sampled, True)
    assert_same(fastnce.all_candidate_sampler(labels, 1, num_sampled, True), expected)


@pytest.mark.parametrize("op_seed", [0, 42, -3, 2**31 - 1])
@pytest.mark.parametrize("name", ["uniform_candidate_sampler", "learned_unigram_candidate_sampler"])
def test_an_int_seed_is_the_op_seed(name, op_seed):
    tf.random.set_seed(None)  # no global seed
    labels = np.array([[0], [7]])
    expected = getattr(tf.random, name)(labels, 1, 16, True, 1000, seed=op_seed)
    assert_same(getattr(fastnce, name)(labels, 1, 16, True, 1000, seed=op_seed), expected)


def test_a_fixed_unigram_takes_tensorflows_arguments_in_its_order():
    tf.random.set_seed(None)
    labels = np.array([[0], [4]], np.int64)
    arguments = (labels, 1, 3, True, 7, "", 0.75, 2, 1, 0, (3.0, 1.0, 4.0, 1.0, 5.0), 11)
    assert_same(
        fastnce.fixed_unigram_candidate_sampler(*arguments), tf.random.fixed_unigram_candidate_sampler(*arguments)
    )


# What both refuse, and what TensorFlow does not.
@pytest.mark.parametrize("line", ["++1", "+-1", "1f", "1_000", "a,", "  ", "a\t1", "\ufeff1", "x", "0x", "1 2", "1e"])
def test_lines_that_tensorflow_refuses_are_refused(line, tmp_path):
    path = tmp_path / "words.csv"
    path.write_text(f"{line}\n1\n")
    arguments = ([[0]], 1, 1, True, 2, str(path))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Wrong vocabulary format"):
        tf.random.fixed_unigram_candidate_sampler(*arguments)
    with pytest.raises(ValueError, match=r"words\.csv, line 1, "):
        fastnce.fixed_unigram_candidate_sampler(*arguments)


@pytest.mark.parametrize("line", ["4e0", "+1", "0x10", " 7\t", "a,b,2", '"q,z",4', "1e-60", ".5", "5.", "-0"])
def test_lines_that_tensorflow_takes_mean_the_same(line, tmp_path):
    path = tmp_path / "words.csv"
    path.write_text(f"{line}\r\n\n1")
    arguments = ([[0], [1]], 1, 100, False, 2, str(path))
    tf.random.set_seed(None)
    expected = tf.random.fixed_unigram_candidate_sampler(*arguments, seed=5)
    assert_same(fastnce.fixed_unigram_candidate_sampler(*arguments, seed=5), expected)
