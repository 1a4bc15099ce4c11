"""True classes as lists, their weights, and classes that an example excludes, on a CUDA device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin, assert_temperature_divides_products, sizes_id
from fastnce import Ragged
from halves import HALVES
from losses import EVERY_LOSS

pytestmark = pytest.mark.cuda

OPTIONS = [
    dict(ragged=True),
    dict(label_weights=True),
    dict(excluded=True),
    dict(ragged=True, label_weights=True, excluded=True, padded=True, remove_hits=True),
]
PROBLEM = Case(batch=6, dim=5, sampled=7, num_true=2, ragged=True, excluded=True).problem()


@pytest.mark.parametrize("options", OPTIONS, ids="-".join)
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_every_loss_is_accurate(loss, options, cuda_array):
    problem = Case(loss=loss.name, batch=36, dim=9, sampled=40, num_true=3, **options).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)
    fastnce.cuda.check()


@pytest.mark.parametrize("groups", [2, 36])
@pytest.mark.parametrize("options", [dict(), OPTIONS[-1]], ids="-".join)
@pytest.mark.parametrize("loss", EVERY_LOSS, ids=str)
def test_every_group_has_candidates_of_its_own(loss, options, groups, cuda_array):
    problem = Case(loss=loss.name, batch=36, dim=9, sampled=33, num_true=2, groups=groups, **options).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)
    fastnce.cuda.check()


@pytest.mark.parametrize("groups", [2, 36])
@pytest.mark.parametrize("name", ["nce", "softmax", "weighted"])
def test_a_temperature_divides_the_products_of_every_group(name, groups, cuda_array):
    problem = Case(loss=name, batch=36, dim=9, sampled=33, num_true=2, groups=groups, remove_hits=True).problem()
    assert_temperature_divides_products(problem, cuda_array.put_all, cuda_array.get)


@pytest.mark.parametrize("name", ["nce", "softmax"])
@pytest.mark.parametrize("dtype", ["float32", *HALVES])
def test_no_precision_rounds_what_groups_multiply(dtype, name, cuda_array):
    problem = Case(loss=name, batch=6, dim=33, sampled=9, num_true=2, groups=3).problem()
    if dtype in HALVES:
        roles = ("weights", "biases", "inputs")
        problem = replace(problem, **{role: getattr(problem, role).astype(HALVES[dtype]) for role in roles})
    solved = [cuda_array.solve(problem, precision=level) for level in ("highest", "high", "medium")]
    for ids, results in solved[1:]:
        np.testing.assert_array_equal(ids, solved[0][0])
        for one, other in zip(results, solved[0][1], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["nce", "softmax"])
def test_lists_over_several_tiles(name, cuda_array):
    problem = Case(loss=name, batch=129, dim=3, sampled=130, num_true=12, **OPTIONS[-1]).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)


@pytest.mark.parametrize("dtype", HALVES)
def test_halves_are_read_exactly_by_groups(dtype, cuda_array):
    problem = Case(batch=6, dim=33, sampled=9, num_true=2, groups=3).problem()
    roles = ("weights", "biases", "inputs")
    half = replace(problem, **{name: getattr(problem, name).astype(HALVES[dtype]) for name in roles})
    wide = replace(half, **{name: getattr(half, name).astype(np.float32) for name in roles})
    assert_matches_twin(cuda_array.solve(half, grad_dtype="float32"), wide)


def test_groups_must_divide_the_batch(cuda_array):
    ids = np.zeros((2, 7), np.int64)
    with pytest.raises(ValueError, match="divisor of the batch"):
        cuda_array.solve(Case(batch=5, dim=5, sampled=7).problem(), sampled_values=(ids, None, None))


@pytest.mark.parametrize("sizes", [dict(batch=0), dict(sampled=0), dict(dim=0)], ids=sizes_id)
@pytest.mark.parametrize("name", ["nce", "softmax"])
def test_empty_problems_are_accurate(name, sizes, cuda_array):
    problem = Case(loss=name, **sizes, **OPTIONS[-1]).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
def test_ids_and_offsets_of_any_integers(dtype, cuda_array):
    labels, exclude = (Ragged(*(array.astype(dtype) for array in lists)) for lists in (PROBLEM.labels, exclusions()))
    assert_matches_twin(cuda_array.solve(PROBLEM, labels=labels, exclude=exclude), PROBLEM)


def exclusions():
    return PROBLEM.options["exclude"]


def test_one_set_of_candidates_may_be_a_matrix(cuda_array):
    problem = Case(batch=6, dim=5, sampled=7, num_true=2, groups=1).problem()
    assert_matches_twin(cuda_array.solve(problem), problem)
    ids, *counts = problem.sampled_values
    assert_matches_twin(cuda_array.solve(problem, sampled_values=(ids.astype(np.int32), *counts)), problem)


@pytest.mark.parametrize("name", ["labels", "exclude"])
def test_wrong_offsets_give_nan_and_are_reported(name, cuda_array):
    lists = {"labels": PROBLEM.labels, "exclude": exclusions()}[name]
    offsets = np.array(lists.offsets)
    offsets[3] = 1000
    _, results = cuda_array.solve(PROBLEM, **{name: lists._replace(offsets=offsets)})
    np.testing.assert_array_equal(np.isnan(results.loss), np.arange(6) >= 2)
    with pytest.raises(ValueError, match=rf"{name}.offsets\[\d\] = .*expected offsets that begin at 0, never fall"):
        fastnce.cuda.check()
    fastnce.cuda.check()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": PROBLEM.labels._replace(offsets=np.zeros(3, np.int64))}, ["labels.offsets has shape [3]", "[7]"]),
        ({"exclude": exclusions()._replace(offsets=np.zeros(3, np.int64))}, ["exclude.offsets has shape [3]", "[7]"]),
        ({"label_weights": np.ones(3, np.float32)}, ["label_weights has shape [3]", "[n]"]),
    ],
)
def test_wrong_shapes_are_refused(change, words, cuda_array):
    with pytest.raises(ValueError) as raised:
        cuda_array.solve(PROBLEM, **change)
    assert all(word in str(raised.value) for word in words), str(raised.value)


@pytest.mark.parametrize("name", ["nce", "softmax"])
def test_candidates_that_are_drawn_beside_lists(name, cuda_array):
    problem = Case(loss=name, batch=6, dim=9, sampled=40, num_true=2, ragged=True).problem()
    labels = problem.labels.values[:, np.newaxis]
    ids, true_count, sampled_count = fastnce.log_uniform_candidate_sampler(
        labels, 1, 12, True, problem.num_classes, seed=(5, 6)
    )
    given = replace(problem, sampled_values=(ids, true_count[:, 0], sampled_count))
    drawn = cuda_array.solve(problem, sampled_values=None, num_sampled=12, seed=(5, 6))
    assert_matches_twin(drawn, given)
