"""Unigram tables: weights from lists and files, large tables, and what TensorFlow hangs on or turns to NaN."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

import fastnce
from fastnce import reference
from samplers import zipf
from test_sampler import assert_same_values
from test_validation import assert_raises

LABELS = np.array([[0, 1], [2, 3]])
ARGUMENTS = dict(true_classes=LABELS, num_true=2, num_sampled=3, unique=True, range_max=5, seed=1)
UNIGRAMS = [5.0, 4.0, 3.0, 2.0, 1.0]


@pytest.fixture
def vocabulary(tmp_path):
    """Writes a vocabulary file and returns its path."""

    def write(text, name="words.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def call(**changes):
    return fastnce.fixed_unigram_candidate_sampler(**{**ARGUMENTS, **changes})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"distortion": 0.75},
        {"distortion": 0.0},
        {"num_reserved_ids": 3},
        {"num_shards": 2, "shard": 1},
        {"num_reserved_ids": 3, "num_shards": 3, "shard": 2, "distortion": 0.5},
    ],
    ids=str,
)
def test_weights_are_the_twins_from_a_list_and_from_a_file(options, vocabulary):
    unigrams = [3.0, 0.25, 7.0, 1e-3, 12.0, 5.5, 2.0, 0.0, 9.0]
    path = vocabulary("".join(f"word{i},{unigram}\n" for i, unigram in enumerate(unigrams)))
    weights = reference.unigram_weights(unigrams, **options)
    expected = reference.candidates(reference.Unigram(unigrams, **options), LABELS % len(weights), 2, 50, False, (1, 2))
    for source in (unigrams, tuple(unigrams), np.array(unigrams), path, str(path)):
        sampler = fastnce.UnigramSampler(source, 50, num_true=2, unique=False, seed=(1, 2), **options)
        np.testing.assert_array_equal(sampler.weights, weights)
        assert sampler.range_max == len(weights)
        assert_same_values(sampler(LABELS % len(weights)), expected)
    rest = dict(true_classes=LABELS % len(weights), num_true=2, num_sampled=50, unique=False, range_max=len(weights))
    for source in ({"unigrams": np.array(unigrams, np.float32)}, {"vocab_file": path}, {"vocab_file": str(path)}):
        values = fastnce.fixed_unigram_candidate_sampler(**rest, **options, **source, seed=(1, 2))
        assert_same_values(values, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float64])
def test_counts_may_have_any_type_of_number(dtype):
    counts = np.array([9, 100, 0, 25], dtype)
    sampler = fastnce.UnigramSampler.from_counts(counts, 2, power=0.5)
    np.testing.assert_array_equal(sampler.weights, [3, 10, 0, 5])
    default = fastnce.UnigramSampler.from_counts(counts, 2, seed=3)
    np.testing.assert_array_equal(default.weights, reference.unigram_weights(counts, 0.75))
    assert_same_values(default([0]), fastnce.UnigramSampler(counts, 2, distortion=0.75, seed=3)([0]))


def test_a_list_may_be_strided_and_is_not_kept():
    memory = np.array([5, 99, 3, 99, 2], np.float32)
    sampler = fastnce.UnigramSampler(memory[::2], 2, seed=1)
    memory[:] = 0
    np.testing.assert_array_equal(sampler.weights, [5, 3, 2])
    sampler.weights[:] = 0
    np.testing.assert_array_equal(sampler.weights, [5, 3, 2])


def test_the_file_is_read_when_the_sampler_is_made(vocabulary):
    path = vocabulary("a,1\nb,2\n")
    sampler = fastnce.UnigramSampler(path, 1)
    path.unlink()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(sampler)).weights, [1, 2])


class Executed:
    def __reduce__(self):
        return os.abort, ()


@pytest.mark.parametrize(
    "text", [pickle.dumps(Executed()), b"__import__('os').abort()\n", b"\x93NUMPY\x01\x00v\x00{'descr"]
)
def test_a_vocabulary_file_is_read_as_text_alone(text, vocabulary):
    with pytest.raises(ValueError, match=r"words\.csv, line 1, .*: expected a number after the last comma"):
        fastnce.UnigramSampler(vocabulary(text), 1)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,1\n\nb,x\n", ["words.csv, line 3, 'b,x'", "number"]),
        ("a,1\nb,-2\n", ["words.csv, line 2, 'b,-2' = -2", "at least 0"]),
        ("a,1\r\nb,nan\r\n", ["words.csv, line 2, 'b,nan' = nan", "finite"]),
        ("a,inf\n", ["words.csv, line 1, 'a,inf' = inf", "finite"]),
        ("a,0\nb,0\n", ["weights: all 2 are 0"]),
        ("", ["words.csv has no words: expected a number on at least one line"]),
        ("a,1e5000\n", ["words.csv, line 1, 'a,1e5000' = inf", "finite"]),
    ],
)
def test_errors_in_a_vocabulary_file_name_line_and_number(text, parts, vocabulary):
    for function in (lambda path: fastnce.UnigramSampler(path, 1), lambda path: call(vocab_file=path)):
        with pytest.raises(ValueError) as caught:
            function(vocabulary(text))
        for part in parts:
            assert part in str(caught.value)


def test_a_missing_file_is_pythons_error(tmp_path):
    for function in (lambda path: fastnce.UnigramSampler(path, 1), lambda path: call(vocab_file=path)):
        with pytest.raises(FileNotFoundError, match=r"none\.csv"):
            function(tmp_path / "none.csv")
        with pytest.raises(IsADirectoryError):
            function(tmp_path)


@pytest.mark.parametrize(
    ("changes", "error", "parts"),
    [
        ({}, ValueError, ["vocab_file and unigrams are missing", "expected one"]),
        ({"unigrams": UNIGRAMS, "vocab_file": "words.csv"}, ValueError, ["both given", "expected one"]),
        ({"unigrams": UNIGRAMS[:2]}, ValueError, ["range_max = 5: expected 2, the number of weights"]),
        ({"unigrams": UNIGRAMS, "num_shards": 2}, ValueError, ["range_max = 5: expected 3, the number of weights"]),
        ({"unigrams": [1, 2, -3, 4, 5]}, ValueError, ["unigrams[2] = -3", "at least 0"]),
        ({"unigrams": [1, 2, np.nan, 4, 5]}, ValueError, ["unigrams[2] = nan", "finite"]),
        ({"unigrams": [1, 2, np.inf, 4, 5]}, ValueError, ["unigrams[2] = inf", "finite"]),
        ({"unigrams": [1, 2, 1e40, 4, 5]}, ValueError, ["unigrams[2] = inf", "finite"]),
        ({"unigrams": [0] * 5}, ValueError, ["all 5 are 0", "at least one above 0"]),
        ({"unigrams": [3e38, 0, 0, 0, 1]}, ValueError, ["weights[0] = 3e+38 is too large for 5 classes"]),
        ({"unigrams": [1e38, 1e38, 1e38, 1e38, 1e38]}, ValueError, ["1e+38", "too large"]),
        ({"unigrams": [1, 0, 0, 2, 0]}, ValueError, ["num_sampled = 3", "2 of 5", "expected at most 2", "unique"]),
        ({"unigrams": UNIGRAMS, "num_sampled": 6}, ValueError, ["num_sampled = 6", "5"]),
        ({"unigrams": [UNIGRAMS]}, ValueError, ["unigrams", "[1, 5]", "[n]"]),
        ({"unigrams": ["a", "b"]}, TypeError, ["unigrams", "<U1"]),
        ({"unigrams": [1j] * 5}, TypeError, ["unigrams", "complex128"]),
        ({"unigrams": np.ma.array(UNIGRAMS, mask=True)}, TypeError, ["unigrams", "mask"]),
        ({"unigrams": None}, TypeError, ["unigrams is None"]),
        ({"vocab_file": None}, TypeError, ["vocab_file is None", "path"]),
        ({"vocab_file": 3}, TypeError, ["vocab_file is an int", "path"]),
        ({"unigrams": UNIGRAMS, "distortion": "1"}, TypeError, ["distortion is a str", "number"]),
        ({"unigrams": UNIGRAMS, "distortion": True}, TypeError, ["distortion is a bool", "number"]),
        ({"unigrams": UNIGRAMS, "distortion": np.nan}, ValueError, ["distortion = nan", "finite"]),
        ({"unigrams": UNIGRAMS, "distortion": 1e300}, ValueError, ["distortion = 1e+300", "finite float32"]),
        ({"unigrams": UNIGRAMS, "distortion": 10**400}, ValueError, ["distortion is an integer too large", "finite"]),
        ({"unigrams": [1, 0, 1, 1, 1], "distortion": -1}, ValueError, ["unigrams[1] = 0", "distortion = -1", "inf"]),
        ({"unigrams": UNIGRAMS, "num_reserved_ids": -1}, ValueError, ["num_reserved_ids = -1", "0"]),
        ({"unigrams": UNIGRAMS, "num_reserved_ids": 1.0}, TypeError, ["num_reserved_ids is a float", "integer"]),
        ({"unigrams": UNIGRAMS, "num_shards": 0}, ValueError, ["num_shards = 0", "1"]),
        ({"unigrams": UNIGRAMS, "num_shards": 2, "shard": 2}, ValueError, ["shard = 2", "[0, num_shards = 2)"]),
        ({"unigrams": UNIGRAMS, "shard": -1}, ValueError, ["shard = -1", "[0, num_shards = 1)"]),
        ({"unigrams": UNIGRAMS, "range_max": 5.0}, TypeError, ["range_max is a float", "integer"]),
        ({"unigrams": UNIGRAMS, "seed": "1"}, TypeError, ["seed is a str", "integer"]),
    ],
    ids=str,
)
def test_the_function_refuses(changes, error, parts):
    assert_raises(error, parts, fastnce.fixed_unigram_candidate_sampler, {**ARGUMENTS, **changes})


def test_the_class_says_how_many_classes_it_can_draw():
    with pytest.raises(ValueError, match=r"num_sampled = 3 .* 2 of 5 .*expected at most 2, because samples are unique"):
        fastnce.UnigramSampler([1, 0, 0, 2, 0], 3)
    fastnce.UnigramSampler([1, 0, 0, 2, 0], 3, unique=False)
    # The weight is lost beside the others: TensorFlow would draw for ever.
    with pytest.raises(ValueError, match="2 of 3"):
        fastnce.UnigramSampler([1e30, 1e-30, 1e30], 3)


def test_the_float32_sum_of_many_weights_is_the_functions_alone():
    """Above 2**24 adding 1 changes no float32: TensorFlow's total, and so its counts, are off by a sixth here."""
    unigrams = np.ones(20_000_000, np.float32)
    classes = [0, 19_999_999]
    values = fastnce.fixed_unigram_candidate_sampler(classes, 1, 1000, False, len(unigrams), unigrams=unigrams, seed=1)
    np.testing.assert_allclose(values.true_expected_count, 1000 / 2**24, rtol=1e-6)
    sampler = fastnce.UnigramSampler(unigrams, 1000, unique=False, seed=1)
    np.testing.assert_allclose(sampler(classes).true_expected_count, 1000 / 20_000_000, rtol=1e-6)


def test_classes_without_weight_are_never_drawn_from_a_table_of_more_than_2_to_the_24():
    """With TensorFlow's float32 products and size a share of each table would fall to its first classes."""
    unigrams = np.ones(2**24 + 5, np.float32)
    unigrams[:1000] = 0
    sampler = fastnce.UnigramSampler(unigrams, 2**22, unique=False, seed=1)
    ids = sampler([[0]]).sampled_candidates
    assert ids.min() >= 1000 and ids.max() > 2**24 - 100
    np.testing.assert_allclose(ids.mean(), (1000 + 2**24 + 4) / 2, rtol=5 * 12**-0.5 / 2**11)
    with pytest.raises(ValueError, match=f"{2**24 - 995} of {2**24 + 5}"):
        fastnce.UnigramSampler(unigrams, 2**24 - 994, seed=1)


def test_expected_counts_of_a_long_tail_are_those_of_a_float64_sum():
    unigrams = zipf(300_000)
    classes = np.array([1, 2, 1000, 299_999])
    counts = fastnce.UnigramSampler(unigrams, 100, unique=False)(classes).true_expected_count
    exact = 100 * unigrams[classes] / unigrams.sum(dtype=np.float64)
    np.testing.assert_allclose(counts[:, 0], exact, rtol=1.1e-6)
