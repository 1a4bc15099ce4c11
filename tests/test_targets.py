"""True classes as lists, their weights, and classes that an example excludes: every loss against its float64 twin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin, sizes_id
from fastnce import Ragged
from losses import EVERY_LOSS, LOSSES

SHAPES = [
    dict(),
    dict(batch=1, dim=1, sampled=1),
    dict(batch=0),
    dict(sampled=0),
    dict(batch=65, dim=33, sampled=129, num_true=3),
    dict(batch=130, dim=17, sampled=257, num_true=2),
    dict(batch=17, dim=300, sampled=31, num_true=5),
]
OPTIONS = [
    dict(ragged=True),
    dict(label_weights=True),
    dict(excluded=True),
    dict(ragged=True, padded=True),
    dict(ragged=True, label_weights=True, excluded=True, padded=True, remove_hits=True),
]


def options_id(options):
    return "-".join(options)


@pytest.mark.parametrize("options", OPTIONS, ids=options_id)
@pytest.mark.parametrize("sizes", SHAPES, ids=sizes_id)
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_every_loss_is_accurate(loss, sizes, options):
    problem = Case(loss=loss.name, **sizes, **options).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_float64(loss):
    problem = Case(loss=loss.name, batch=33, dim=9, sampled=40, num_true=3, dtype="float64", **OPTIONS[-1]).problem()
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_lists_of_equal_length_are_a_matrix(loss):
    problem = Case(loss=loss.name, batch=40, dim=13, sampled=30, num_true=3, label_weights=True).problem()
    sampled, true_count, sampled_count = problem.sampled_values
    lists = replace(
        problem,
        labels=Ragged(problem.labels.ravel(), np.arange(0, 121, 3)),
        sampled_values=(sampled, None if true_count is None else np.ravel(true_count), sampled_count),
        options={**problem.options, "label_weights": problem.options["label_weights"].ravel()},
    )
    np.testing.assert_equal(lists.solve(), problem.solve())


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_weights_of_one_change_nothing(loss):
    problem = Case(loss=loss.name, batch=40, dim=13, sampled=30, num_true=3).problem()
    np.testing.assert_equal(problem.solve(label_weights=1.0), problem.solve())
    np.testing.assert_equal(problem.solve(label_weights=np.ones((40, 1))), problem.solve())


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_excluding_nothing_changes_nothing(loss):
    problem = Case(loss=loss.name, batch=40, dim=13, sampled=30, num_true=3).problem()
    nothing = Ragged(np.empty(0, np.int64), np.zeros(41, np.int64))
    np.testing.assert_equal(problem.solve(exclude=nothing), problem.solve())


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_excluding_the_labels_removes_the_hits(loss):
    problem = Case(loss=loss.name, batch=70, dim=13, sampled=130, num_true=3).problem()
    labels = Ragged(problem.labels.ravel(), np.arange(0, 211, 3))
    excluded = problem.solve(exclude=labels, remove_accidental_hits=False)
    np.testing.assert_equal(excluded, problem.solve(remove_accidental_hits=True))


@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_a_sample_that_all_exclude_is_as_good_as_absent(loss):
    problem = Case(loss=loss.name, batch=20, dim=7, sampled=25, distinct=True, dtype="float64").problem()
    sampled, true_count, sampled_count = problem.sampled_values
    others = replace(
        problem,
        sampled_values=(sampled[1:], true_count, None if sampled_count is None else sampled_count[1:]),
    )
    unwanted = Ragged(np.full(20, sampled[0]), np.arange(21))
    _, with_it = problem.solve(exclude=unwanted)
    _, without = others.solve()
    np.testing.assert_allclose(with_it.loss, without.loss, rtol=1e-13)
    np.testing.assert_allclose(with_it.inputs, without.inputs, rtol=0, atol=1e-13)


def test_a_count_that_every_example_excludes_is_not_read():
    problem = Case(batch=20, sampled=25, distinct=True).problem()
    sampled, true_count, sampled_count = problem.sampled_values
    broken = np.array(sampled_count)
    broken[3] = np.nan
    unwanted = Ragged(np.full(20, sampled[3]), np.arange(21))
    values = problem.solve(exclude=unwanted, sampled_values=(sampled, true_count, broken))
    np.testing.assert_equal(values, problem.solve(exclude=unwanted))
    with pytest.raises(ValueError, match=r"sampled_expected_count\[3\] = nan"):
        problem.solve(sampled_values=(sampled, true_count, broken))


def test_a_class_that_was_sampled_hundreds_of_times_is_removed_everywhere():
    problem = Case(batch=70, dim=5, sampled=700, remove_hits=True).problem()
    sampled, true_count, sampled_count = problem.sampled_values
    often = np.where(np.arange(700) % 2, sampled, problem.labels[3, 0])
    problem = replace(problem, sampled_values=(often, true_count, sampled_count))
    assert_matches_twin(problem.solve(), problem)


PROBLEM = Case(batch=4, num_true=2, sampled=6).problem()
LISTS = Ragged(np.array([0, 1, 2]), np.array([0, 1, 1, 3, 3]))
COUNTS = (np.arange(6), None, None)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"labels": LISTS._replace(offsets=[0, 3])}, ValueError, ["labels.offsets has shape [2]", "[B + 1] = [5]"]),
        ({"labels": LISTS._replace(offsets=[0, 2, 1, 3, 3])}, ValueError, ["labels.offsets[2] = 1", "before it, 2"]),
        ({"labels": LISTS._replace(offsets=[1, 1, 1, 3, 3])}, ValueError, ["labels.offsets[0] = 1: expected 0"]),
        ({"labels": LISTS._replace(offsets=[0, 1, 1, 2, 2])}, ValueError, ["labels.offsets[4] = 2", "values, 3"]),
        ({"labels": LISTS._replace(offsets=[0, 1, 1, 9, 9])}, ValueError, ["labels.offsets[4] = 9", "values, 3"]),
        ({"labels": LISTS._replace(offsets=[0.0] * 5)}, TypeError, ["labels.offsets", "float64", "integer"]),
        ({"labels": LISTS._replace(values=[[0], [1], [2]])}, ValueError, ["labels.values", "[3, 1]", "[n]"]),
        ({"labels": LISTS._replace(values=[0, 99, 2])}, ValueError, ["labels.values[1] = 99", "num_classes = 9"]),
        ({"labels": LISTS, "sampled_values": (np.arange(6), [0.1, 0.2], 1.0)}, ValueError, ["true_", "[2]", "[n]"]),
        ({"labels": LISTS, "label_weights": [1.0, 2.0]}, ValueError, ["label_weights", "[2]", "labels.values, [n]"]),
        ({"label_weights": [1.0, 2.0]}, ValueError, ["label_weights", "[2]", "[4, 2]"]),
        ({"label_weights": "heavy"}, TypeError, ["label_weights", "<U"]),
        ({"exclude": [[1], [2], [3], [4]]}, TypeError, ["exclude is a list", "fastnce.Ragged"]),
        ({"exclude": LISTS._replace(offsets=[0, 1, 1, 2, 2])}, ValueError, ["exclude.offsets[4] = 2", "values, 3"]),
        ({"exclude": LISTS._replace(offsets=[0, 2, 1, 3, 3])}, ValueError, ["exclude.offsets[2] = 1", "before it, 2"]),
        ({"exclude": LISTS._replace(offsets=[0, 3])}, ValueError, ["exclude.offsets has shape [2]", "[5]"]),
        ({"exclude": LISTS._replace(values=[0, -1, 2])}, ValueError, ["exclude.values[1] = -1", "num_classes = 9"]),
    ],
)
@pytest.mark.parametrize("name", ["nce", "softmax"])
def test_losses_refuse(name, change, error, words):
    problem = replace(PROBLEM, loss=LOSSES[name])
    with pytest.raises(error) as raised:
        problem.solve(**{"sampled_values": COUNTS, **change})
    assert all(word in str(raised.value) for word in words), str(raised.value)


def test_the_callers_arguments_stay_as_they_are():
    labels = Ragged(np.array([0, 1, 2], np.int32), np.array([0, 1, 1, 3, 3], np.int32))
    before = [array.copy() for array in labels]
    arguments = PROBLEM.arguments() | {"labels": labels, "exclude": labels, "sampled_values": COUNTS}
    given = dict(arguments)
    fastnce.nce_loss_and_grad(**arguments)
    assert arguments.keys() == given.keys() and all(arguments[name] is given[name] for name in given)
    np.testing.assert_equal(list(labels), before)
