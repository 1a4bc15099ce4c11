"""The twins of the samplers with groups of examples and with excluded classes."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest

from fastnce import Ragged, reference
from samplers import KINDS
from tolerances import assert_counts_match

V, S = 50, 8
LABELS = np.random.default_rng(0).integers(V, size=(6, 2))
EXCLUDE = Ragged(np.array([1, 5, 5, 0, 49, 2, 3, 4, 1]), np.array([0, 3, 3, 4, 5, 8, 9]))

EACH = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
UNIQUE = pytest.mark.parametrize("unique", [False, True], ids=["repeated", "unique"])


def assert_same(actual, expected):
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def list_of(lists, b):
    return lists.values[lists.offsets[b] : lists.offsets[b + 1]]


# ---- groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2, 6])
@UNIQUE
@EACH
def test_group_g_of_call_c_is_a_call_of_its_own(kind, unique, groups):
    call = 3
    ids, true_count, count = reference.candidates(kind.twin(V), LABELS, 2, S, unique, (1, 2), call, groups)
    assert ids.shape == count.shape == (groups, S)
    for g, labels in enumerate(np.split(LABELS, groups)):
        alone = reference.candidates(kind.twin(V), labels, 2, S, unique, (1, 2), call * groups + g)
        assert_same((ids[g], np.split(true_count, groups)[g], count[g]), alone)


def test_groups_differ_in_their_tries():
    """Or their counts could not tell whose they are."""
    _, true_count, _ = reference.candidates(reference.LogUniform(V), np.zeros((6, 1)), 1, S, True, (1, 2), 0, 6)
    assert len(np.unique(true_count)) > 2


@pytest.mark.parametrize("groups", [None, 1, 2, 6])
@EACH
def test_counts_of_lists_of_labels_are_those_of_the_matrix(kind, groups):
    is_entry = np.random.default_rng(1).random(LABELS.shape) < 0.5
    lists = Ragged(LABELS[is_entry], np.append(0, np.cumsum(is_entry.sum(axis=1))))
    ids, true_count, count = reference.candidates(kind.twin(V), LABELS, 2, S, True, (1, 2), 0, groups)
    ragged = reference.candidates(kind.twin(V), lists, 2, S, True, (1, 2), 0, groups)
    assert_same(ragged, (ids, true_count[is_entry], count))


def test_the_functions_take_groups():
    options = {"num_groups": 6, "exclude": EXCLUDE}
    weights = np.arange(1, V + 1)
    for values, distribution in (
        (reference.log_uniform_candidate_sampler(LABELS, 2, S, True, V, (1, 2), **options), reference.LogUniform(V)),
        (reference.uniform_candidate_sampler(LABELS, 2, S, True, V, (1, 2), **options), reference.Uniform(V)),
        (
            reference.fixed_unigram_candidate_sampler(LABELS, 2, S, True, V, weights, seed=(1, 2), **options),
            reference.Unigram(weights),
        ),
    ):
        assert_same(values, reference.candidates(distribution, LABELS, 2, S, True, (1, 2), **options))


@pytest.mark.parametrize("lists", [False, True], ids=["matrix", "lists"])
def test_a_learned_unigram_learns_after_all_groups_have_drawn(lists):
    weights = np.arange(1, V + 1, dtype=np.int32)
    labels = Ragged(LABELS.ravel(), 2 * np.arange(7)) if lists else LABELS
    expected = reference.candidates(reference.LearnedUnigram(weights), labels, 2, S, True, (1, 2), num_groups=3)
    values = reference.learned_unigram_candidate_sampler(labels, 2, S, True, weights, (1, 2), num_groups=3)
    assert_same(values, expected)
    np.testing.assert_array_equal(weights, np.arange(1, V + 1) + np.bincount(LABELS.ravel(), minlength=V))


# ---- excluded classes ----------------------------------------------------------------------------------------


@UNIQUE
@EACH
def test_excluded_draws_are_skipped_and_are_no_tries(kind, unique):
    twin = kind.twin(V)
    ids, _, count = reference.candidates(twin, LABELS, 2, S, unique, (1, 2), 5, 6, EXCLUDE)
    for b in range(6):
        draws = list(islice(twin.draws(1, 2, 5 * 6 + b, S), 500))
        left = [k for k in draws if k not in list_of(EXCLUDE, b)]
        expected = list(dict.fromkeys(left))[:S] if unique else left[:S]
        np.testing.assert_array_equal(ids[b], expected)
        tries = left.index(expected[-1]) + 1 if unique else S
        p = kind.probability(V)
        q = p[ids[b]] / (1 - p[np.unique(list_of(EXCLUDE, b))].sum())
        np.testing.assert_allclose(count[b], S * q if tries == S else 1 - (1 - q) ** tries, rtol=1e-6)


@EACH
def test_expected_counts_of_the_classes_that_are_left_add_up_to_the_samples(kind):
    for b in range(6):
        excluded = list_of(EXCLUDE, b)
        everything = np.arange(V)[np.newaxis]
        lists = Ragged(excluded, np.array([0, len(excluded)]))
        _, count, _ = reference.candidates(kind.twin(V), everything, V, S, False, (1, 2), 0, 1, lists)
        assert np.delete(count, excluded).sum() == pytest.approx(S, rel=1e-5)


@UNIQUE
def test_excluding_classes_of_a_uniform_sampler_leaves_a_uniform_sampler_of_the_others(unique):
    _, true_count, count = reference.candidates(reference.Uniform(V), LABELS, 2, S, unique, (1, 2), 0, 6, EXCLUDE)
    for b in range(6):
        q = np.float32(1 / (V - len(np.unique(list_of(EXCLUDE, b)))))
        draws = (k for k in reference.Uniform(V).draws(1, 2, b, S) if k not in list_of(EXCLUDE, b))
        tries, seen = S, set()
        if unique:
            tries = 0
            while len(seen) < S:
                seen.add(next(draws))
                tries += 1
        expected = reference.expected_count(np.full(S, q, np.float32), S, tries)
        assert_counts_match(count[b], expected)
        assert_counts_match(true_count[b], expected[:2])  # excluded or not


@UNIQUE
@EACH
def test_empty_lists_exclude_nothing(kind, unique):
    empty = Ragged(np.empty(0, np.int64), np.zeros(7, np.int64))
    arguments = (kind.twin(V), LABELS, 2, S, unique, (1, 2), 3, 6)
    assert_same(reference.candidates(*arguments, empty), reference.candidates(*arguments))


@UNIQUE
def test_a_label_that_is_excluded_has_an_expected_count_all_the_same(unique):
    """Its probability may be larger than that of all classes that are left: it counts as 1."""
    twin = reference.Unigram([90.0, 5.0, 3.0, 2.0])
    lists = Ragged(np.array([0]), np.array([0, 1]))
    ids, true_count, _ = reference.candidates(twin, [[0, 1]], 2, 3, unique, (1, 2), 0, 1, lists)
    assert 0 not in ids
    assert true_count[0, 0] == (1.0 if unique else 3.0)  # unique: more than 3 tries
    assert 0 < true_count[0, 1] <= true_count[0, 0]
