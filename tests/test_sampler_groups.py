"""Samplers that draw for groups of examples, and again what is excluded, against their twins."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

import fastnce
from fastnce import Ragged, _core, reference
from fastnce.reference._samplers import redrawn
from samplers import KINDS, zipf
from test_sampler import assert_same_values
from tolerances import CHI_SQUARE_SIGMAS, assert_counts_match

V, S, B, T = 50, 8, 6, 2
LABELS = np.random.default_rng(0).integers(V, size=(B, T))

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
each_way = pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])


def at(sampler, *position):
    """The sampler, moved to this position of its stream."""
    sampler.state = (*position, *sampler.state[3:])
    return sampler


def lists_of(lists):
    """A Ragged of these lists."""
    return Ragged(
        np.array([k for some in lists for k in some], np.int64), np.cumsum([0, *map(len, lists)], dtype=np.int64)
    )


def list_of(lists, b):
    return lists.values[lists.offsets[b] : lists.offsets[b + 1]]


EXCLUDE = {
    "none": lists_of([[]] * B),
    "short": lists_of([[3], [], [0, 49], [1], [], [2]]),
    "duplicates": lists_of([[1, 5, 5], [], [0], [49, 49, 49, 49], [2, 3, 2, 3, 2], [1]]),
    "true-classes": lists_of([[*labels, 0, 1] for labels in LABELS]),
    "nearly-all": lists_of([[k for k in range(V) if k % 5 != b % 5] for b in range(B)]),
}


# ---- groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, 1, 2, B // 2, B])
@each_way
@every_kind
def test_groups_are_the_twins(kind, unique, groups):
    expected = reference.candidates(kind.twin(V), LABELS, T, S, unique, (3, 4), 5, groups)
    sampler = at(kind.make(V, S, num_true=T, unique=unique), 3, 4, 5)
    assert_same_values(sampler(LABELS, num_groups=groups), expected)


# Just above a power of two half of all integers are rejected. Sets that are larger than what is drawn at once, and
# fewer of them than threads.
SIZES = [(2**16 + 1, 20_000, 2), (2**17 + 5, 64, 40), (2**16 + 1, 300, 12), (300, 300, 12), (1000, 1, 40)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@each_way
@every_kind
def test_groups_do_not_depend_on_the_number_of_threads(kind, unique, sizes, set_threads):
    range_max, num_sampled, groups = sizes
    if kind.name == "unigram" and num_sampled == range_max:
        num_sampled -= 1  # a class without weight is never drawn
    labels = np.random.default_rng(1).integers(range_max, size=2 * groups)
    expected = reference.candidates(kind.twin(range_max), labels, 1, num_sampled, unique, (3, -4), 2, groups)
    for threads in (1, 2, 7):
        set_threads(threads)
        sampler = at(kind.make(range_max, num_sampled, unique=unique), 3, 2**64 - 4, 2)
        assert_same_values(sampler(labels, num_groups=groups), expected)


@pytest.mark.parametrize("groups", [None, 1, 2, B])
@each_way
@every_kind
def test_true_classes_may_be_lists(kind, unique, groups):
    lists = lists_of([[1, 2, 49], [], [7], [], [3, 3], [0]])
    expected = reference.candidates(kind.twin(V), lists, T, S, unique, (3, 4), 5, groups)
    sampler = at(kind.make(V, S, num_true=T, unique=unique), 3, 4, 5)
    assert_same_values(sampler(lists, num_groups=groups), expected)


@every_kind
def test_each_call_counts_once_and_continues_the_stream(kind):
    sampler = at(kind.make(V, S, num_true=T), 1, 2, 0)
    twin_weights = np.ones(V, np.int32)
    for call, groups in enumerate([2, None, B, 1]):
        assert sampler.state.calls == call
        if kind.name == "learned_unigram":
            arguments = (LABELS, T, S, True, twin_weights, (1, 2), call)
            expected = reference.learned_unigram_candidate_sampler(*arguments, num_groups=groups)
        else:
            expected = reference.candidates(kind.twin(V), LABELS, T, S, True, (1, 2), call, groups)
        assert_same_values(sampler(LABELS, num_groups=groups), expected)
    if kind.name == "learned_unigram":
        np.testing.assert_array_equal(sampler.weights, twin_weights)


def test_a_learned_sampler_counts_the_classes_of_lists():
    sampler = fastnce.LearnedUnigramSampler(V, S)
    sampler(lists_of([[1, 2, 49], [], [1]]), num_groups=3)
    expected = np.ones(V, np.int32)
    np.add.at(expected, [1, 2, 49, 1], 1)
    np.testing.assert_array_equal(sampler.weights, expected)


@every_kind
def test_groups_of_no_examples(kind):
    values = at(kind.make(V, S), 1, 2, 3)(np.zeros((0, 1), np.int64), num_groups=2)
    assert values.true_expected_count.shape == (0, 1)
    expected = reference.candidates(kind.twin(V), [[0], [0]], 1, S, True, (1, 2), 3, 2)
    np.testing.assert_array_equal(values.sampled_candidates, expected.sampled_candidates)


# ---- excluded classes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("exclude", EXCLUDE.values(), ids=EXCLUDE)
@each_way
@every_kind
def test_excluded_classes_are_drawn_again_as_by_the_twin(kind, unique, exclude, set_threads):
    expected = reference.candidates(kind.twin(V), LABELS, T, S, unique, (3, 4), 5, B, exclude)
    for threads in (1, 2):
        set_threads(threads)
        values = at(kind.make(V, S, num_true=T, unique=unique), 3, 4, 5)(LABELS, num_groups=B, exclude=exclude)
        assert_same_values(values, expected)
    for b, ids in enumerate(values.sampled_candidates):
        assert not np.isin(ids, list_of(exclude, b)).any()


@each_way
@every_kind
def test_lists_of_many_lengths_on_threads(kind, unique, set_threads):
    batch, range_max, num_sampled = 300, 2000, 64
    rng = np.random.default_rng(2)
    exclude = lists_of([rng.integers(0, range_max, rng.choice([0, 1, 20, 300, 3000])) for _ in range(batch)])
    labels = rng.integers(range_max, size=batch)
    arguments = (kind.twin(range_max), labels, 1, num_sampled, unique, (3, 4), 0, batch, exclude)
    expected = reference.candidates(*arguments)
    for threads in (1, 2, 7):
        set_threads(threads)
        sampler = kind.make(range_max, num_sampled, unique=unique, seed=(3, 4))
        assert_same_values(sampler(labels, num_groups=batch, exclude=exclude), expected)


@every_kind
def test_one_example_needs_no_groups(kind):
    exclude = lists_of([[1, 2, 3]])
    expected = reference.candidates(kind.twin(V), LABELS[:1], T, S, True, (1, 2), 0, None, exclude)
    assert_same_values(kind.make(V, S, num_true=T, seed=(1, 2))(LABELS[:1], exclude=exclude), expected)


@each_way
def test_a_label_that_is_excluded_counts_as_a_class_that_every_draw_gives_at_most(unique):
    unigrams, labels, exclude = [90.0, 5.0, 3.0, 2.0], [[0, 1, 2, 3]], lists_of([[0]])
    sampler = fastnce.UnigramSampler(unigrams, 3, num_true=4, unique=unique, seed=(1, 2))
    values = sampler(labels, num_groups=1, exclude=exclude)
    twin = reference.Unigram(unigrams, float32_sums=False)
    assert_same_values(values, reference.candidates(twin, labels, 4, 3, unique, (1, 2), 0, 1, exclude))
    assert values.true_expected_count[0, 0] == (1.0 if unique else 3.0)  # unique: more than 3 tries


HEAVY = [3 * 2**20, 1, 2, 1]


def learned_heavy(classes, num_sampled, **options):
    sampler = fastnce.LearnedUnigramSampler(classes, num_sampled, **options)
    sampler.state = (*sampler.state[:3], np.array(HEAVY, np.int32))
    return sampler


NEARLY_ALL = {
    "uniform": (fastnce.UniformSampler, reference.Uniform, 300_000, 299_998),
    "log_uniform": (fastnce.LogUniformSampler, reference.LogUniform, 300_000, 299_995),
    "unigram": (lambda _, s, **how: fastnce.UnigramSampler(HEAVY, s, **how), lambda _: reference.Unigram(HEAVY), 4, 1),
    "learned_unigram": (learned_heavy, lambda _: reference.LearnedUnigram(np.array(HEAVY, np.int32)), 4, 1),
}


@pytest.mark.parametrize("name", NEARLY_ALL)
def test_counts_are_right_where_a_list_holds_nearly_all_probability(name):
    """Against rational arithmetic. The first classes are excluded; the others have a probability of some 1e-6."""
    make, twin, classes, excluded = NEARLY_ALL[name]
    left = np.arange(excluded, classes)
    if name == "log_uniform":  # the only one that is not rational; the sum over consecutive classes telescopes
        all_left = math.log1p(len(left) / (excluded + 1))
        share = [math.log1p(1 / (k + 1)) / all_left for k in left.tolist()]
    else:
        weights = HEAVY[1:] if classes == 4 else [1] * len(left)
        share = [float(Fraction(weight, sum(weights))) for weight in weights]
    expected = (2 * np.array(share)).astype(np.float32)
    sampler = make(classes, 2, num_true=len(left), unique=False, seed=(1, 2))
    values = sampler([left], num_groups=1, exclude=lists_of([range(excluded)]))
    assert_counts_match(values.true_expected_count[0], expected)
    distribution = twin(classes)
    p = redrawn(distribution.probability(left), distribution.exact_probability(np.arange(excluded)))
    assert_counts_match(reference.expected_count(p, 2, 2), expected)


def test_counts_are_positive_where_rounding_leaves_no_probability():
    """The other class is drawn 2**-24 of the time, as the alias table rounds; its float32 probability is 1e-30."""
    sampler = fastnce.UnigramSampler([1e30, 1.0], 1, num_true=2, seed=1)
    values = sampler([[0, 1]], num_groups=1, exclude=lists_of([[0]]))
    assert values.sampled_candidates == 1
    assert values.true_expected_count.tolist() == [[1.0, 1.0]] and values.sampled_expected_count == 1.0


@every_kind
def test_draws_follow_the_distribution_of_the_classes_that_are_left(kind):
    range_max, draws = 60, 200_000
    exclude = lists_of([[1, 7, 7, 30], list(range(40)), []])
    ids = kind.make(range_max, draws, unique=False, seed=5)([[0]] * 3, num_groups=3, exclude=exclude).sampled_candidates
    for b in range(3):
        p = kind.probability(range_max)
        p[list_of(exclude, b)] = 0
        expected = draws * p / p.sum()
        observed = np.bincount(ids[b], minlength=range_max)
        assert (observed[expected == 0] == 0).all()
        observed, expected = observed[expected > 0], expected[expected > 0]
        assert expected.min() > 5  # below, the statistic is no chi-square
        chi_square = ((observed - expected) ** 2 / expected).sum()
        freedom = len(expected) - 1
        assert chi_square < freedom + CHI_SQUARE_SIGMAS * np.sqrt(2 * freedom)


@each_way
@every_kind
def test_expected_counts_are_how_often_classes_appear(kind, unique):
    """Averaged over the groups of one call, with half of the classes excluded."""
    groups, classes, num_sampled = 4000, 30, 10
    exclude = lists_of([list(range(1, classes, 2))] * groups)
    labels = np.tile(np.arange(classes), (groups, 1))
    sampler = kind.make(classes, num_sampled, num_true=classes, unique=unique, seed=7)
    values = sampler(labels, num_groups=groups, exclude=exclude)
    appeared = np.bincount(values.sampled_candidates.ravel(), minlength=classes)
    promised = values.true_expected_count.sum(0)
    left = np.arange(0, classes, 2)
    # As in test_samplers.py: unique counts are biased by a few per cent.
    atol = 0.05 if unique else 5 * np.sqrt(4 / groups)
    np.testing.assert_allclose(appeared[left] / groups, promised[left] / groups, atol=atol)


@every_kind
def test_all_classes_but_as_many_as_are_drawn_may_be_excluded(kind):
    left = [4, 9, 17]
    exclude = lists_of([[k for k in range(V) if k not in left]] * 2)
    values = kind.make(V, 3, seed=1)([0, 1], num_groups=2, exclude=exclude)
    for ids in values.sampled_candidates:
        assert sorted(ids) == left


# ---- mixtures ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("groups", "exclude"), [(1, None), (2, None), (B, None), (B, EXCLUDE["duplicates"])])
@each_way
def test_mixtures_draw_for_groups(unique, groups, exclude):
    options = {"num_groups": groups, "exclude": exclude}
    samplers = [kind.make(V, 4 + i, num_true=T, unique=unique, seed=(3, i)) for i, kind in enumerate(KINDS)]
    mixture = fastnce.MixedSampler([(sampler, sampler.num_sampled) for sampler in samplers])
    values = mixture(LABELS, **options)
    alone = [
        reference.candidates(kind.twin(V), LABELS, T, 4 + i, unique, (3, i), **options) for i, kind in enumerate(KINDS)
    ]
    ids = np.concatenate([one.sampled_candidates for one in alone], axis=1)
    np.testing.assert_array_equal(values.sampled_candidates, ids)
    # Counts of any classes: as if they were true classes of their group.
    lists = Ragged(ids.ravel(), np.arange(0, ids.size + 1, ids.size // groups))
    true_count, sampled_count = (
        sum(
            reference.candidates(
                kind.twin(V), classes, T, 4 + i, unique, (3, i), num_groups=groups, exclude=exclude
            ).true_expected_count.astype(np.float64)
            for i, kind in enumerate(KINDS)
        )
        for classes in (LABELS, lists)
    )
    np.testing.assert_allclose(values.true_expected_count, true_count, rtol=1e-6)
    np.testing.assert_allclose(values.sampled_expected_count, sampled_count.reshape(ids.shape), rtol=1e-6)
    assert [state.calls for state in mixture.state] == [1] * len(KINDS)


# ---- errors --------------------------------------------------------------------------------------------------


def mixture_of(range_max, num_sampled, **options):
    first = fastnce.UniformSampler(range_max, num_sampled, **options)
    return fastnce.MixedSampler([(first, num_sampled), (fastnce.LogUniformSampler(range_max, 1, **options), 1)])


def offsets(*numbers):
    return np.array(numbers, np.int64)


SIX = EXCLUDE["short"]
REFUSED = {
    "no-groups": ({"num_groups": 0}, "num_groups = 0: expected at least 1"),
    "negative": ({"num_groups": -2}, "num_groups = -2: expected at least 1"),
    "no-divisor": ({"num_groups": 4}, "num_groups = 4: expected a divisor of the batch, B = 6"),
    "shared": ({"exclude": SIX}, "num_groups = 1: expected the number of examples, B = 6, to draw again what exclude"),
    "half": ({"num_groups": 3, "exclude": SIX}, "num_groups = 3: expected the number of examples, B = 6"),
    "other-batch": (
        {"num_groups": B, "exclude": lists_of([[1]] * 5)},
        r"exclude.offsets has shape \[6\]: expected \[B \+ 1\] = \[7\], as true_classes has B = 6 examples",
    ),
    "outside": (
        {"num_groups": B, "exclude": Ragged(np.array([1, V]), offsets(0, 1, 2, 2, 2, 2, 2))},
        r"exclude.values\[1\] = 50 is outside \[0, range_max = 50\)",
    ),
    "below": (
        {"num_groups": B, "exclude": Ragged(np.array([1, -1]), offsets(0, 1, 2, 2, 2, 2, 2))},
        r"exclude.values\[1\] = -1 is outside",
    ),
    "first-offset": (
        {"num_groups": B, "exclude": Ragged(np.array([1, 2]), offsets(1, 1, 2, 2, 2, 2, 2))},
        r"exclude.offsets\[0\] = 1: expected 0",
    ),
    "falling": (
        {"num_groups": B, "exclude": Ragged(np.array([1, 2]), offsets(0, 2, 1, 2, 2, 2, 2))},
        r"exclude.offsets\[2\] = 1: expected at least the offset before it, 2",
    ),
    "last-offset": (
        {"num_groups": B, "exclude": Ragged(np.array([1, 2]), offsets(0, 1, 1, 1, 1, 1, 1))},
        r"exclude.offsets\[6\] = 1: expected the number of values, 2",
    ),
    "no-offsets": (
        {"num_groups": B, "exclude": Ragged(np.array([1, 2]), offsets())},
        r"exclude.offsets has shape \[0\]: expected \[B \+ 1\]",
    ),
    "too-few": (
        {"num_groups": B, "exclude": lists_of([[1], [2], range(44), range(45), [], []])},
        "exclude: the list of example 2 leaves 6 classes that can be drawn: expected at least num_sampled = 8, because",
    ),
    "everything": (
        {"num_groups": B, "exclude": lists_of([[1], [2], [3], [4], [5], range(V)])},
        "exclude: the list of example 5 leaves 0 classes that can be drawn: expected at least num_sampled = 8",
    ),
}


@pytest.mark.parametrize(("options", "match"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("make", [*(kind.make for kind in KINDS), mixture_of], ids=[*(k.name for k in KINDS), "mixed"])
def test_a_refused_call_says_why_and_changes_nothing(make, options, match):
    sampler = make(V, S, num_true=T, seed=(1, 2))
    before = sampler.state
    with pytest.raises(ValueError, match=match):
        sampler(LABELS, **options)
    np.testing.assert_equal(sampler.state, before)


@every_kind
def test_everything_excluded_is_refused_where_samples_may_repeat(kind):
    sampler = kind.make(V, S, unique=False)
    with pytest.raises(
        ValueError, match=r"exclude: the list of example 1 leaves 0 classes that can be drawn: expected at least 1$"
    ):
        sampler([3, 4], num_groups=2, exclude=lists_of([[], range(V)]))
    ids = sampler(
        [3, 4], num_groups=2, exclude=lists_of([[], range(1, V) if kind.name != "unigram" else [0, *range(2, V)]])
    )
    assert len(np.unique(ids.sampled_candidates[1])) == 1


def test_classes_without_weight_do_not_count_as_left():
    unigrams = zipf(V)
    unigrams[40:] = 0.0  # as is the first: 39 can be drawn
    sampler = fastnce.UnigramSampler(unigrams, S)
    with pytest.raises(ValueError, match="exclude: the list of example 0 leaves 7 classes that can be drawn"):
        sampler([1], num_groups=1, exclude=lists_of([[*range(0, 33), 45, 46]]))
    ids = sampler([1], num_groups=1, exclude=lists_of([[*range(0, 32), 45, 46]])).sampled_candidates
    assert sorted(ids[0]) == list(range(32, 40))


def test_the_first_example_that_cannot_be_served_is_named(set_threads):
    set_threads(4)
    lists = [[] for _ in range(2000)]
    for b in (1999, 1200, 700, 701):
        lists[b] = range(V)
    with pytest.raises(ValueError, match="exclude: the list of example 700 leaves 0 classes"):
        fastnce.UniformSampler(V, 20)(np.zeros(2000, int), num_groups=2000, exclude=lists_of(lists))


@pytest.mark.parametrize(
    ("true_classes", "error", "match"),
    [
        (
            Ragged(np.array([1, V]), offsets(0, 1, 2)),
            ValueError,
            r"true_classes.values\[1\] = 50 is outside \[0, range",
        ),
        (Ragged(np.array([1, 2]), offsets(0, 1)), ValueError, r"true_classes.offsets\[1\] = 1: expected the number of"),
        (Ragged(np.array([1, 2]), offsets()), ValueError, r"true_classes.offsets has shape \[0\]: expected \[B \+ 1\]"),
        (Ragged(np.array([[1, 2]]), offsets(0, 2)), ValueError, r"true_classes.values has shape \[1, 2\]"),
        (Ragged(np.array([1.5]), offsets(0, 1)), TypeError, "true_classes.values has dtype float64: expected integers"),
        (Ragged(np.array([1]), np.array([0.0, 1.0])), TypeError, "true_classes.offsets has dtype float64"),
    ],
)
@pytest.mark.parametrize("make", [*(kind.make for kind in KINDS), mixture_of], ids=[*(k.name for k in KINDS), "mixed"])
def test_lists_of_true_classes_are_checked(make, true_classes, error, match):
    sampler = make(V, S, seed=(1, 2))
    before = sampler.state
    with pytest.raises(error, match=match):
        sampler(true_classes)
    np.testing.assert_equal(sampler.state, before)


@pytest.mark.parametrize(
    "exclude", [[[1]], np.array([1]), (np.array([1]), offsets(0, 1))], ids=["list", "array", "pair"]
)
def test_what_is_excluded_is_a_ragged(exclude):
    with pytest.raises(TypeError, match=r"exclude is an? .*: expected a fastnce.Ragged"):
        fastnce.UniformSampler(V, S)([1], num_groups=1, exclude=exclude)


@pytest.mark.parametrize("groups", [2.0, "2", [2]])
def test_the_number_of_groups_is_an_integer(groups):
    for sampler in (fastnce.UniformSampler(V, S), fastnce.LearnedUnigramSampler(V, S), mixture_of(V, S)):
        with pytest.raises(TypeError, match=r"num_groups is a .*: expected an integer"):
            sampler([1, 2], num_groups=groups)


@pytest.mark.parametrize(
    ("true_classes", "options", "name"),
    [
        ([1, 2], {"exclude": lists_of([[1], []])}, "exclude"),
        (lists_of([[1], []]), {}, "a Ragged of true classes"),
    ],
    ids=["exclude", "lists"],
)
def test_a_cuda_device_refuses_what_it_does_not_draw(true_classes, options, name, monkeypatch):
    monkeypatch.setattr(_core, "cuda_device_of", lambda example, name: 0)
    sampler = fastnce.UniformSampler(V, S, seed=(1, 2))
    with pytest.raises(ValueError, match=f"^{name} on a CUDA device: expected arrays on the CPU, where it is impl"):
        sampler(true_classes, **options)
    assert sampler.state == (1, 2, 0)
