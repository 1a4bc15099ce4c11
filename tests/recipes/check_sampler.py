"""What the tests of every sampler leave out of sampler.patch: its parameter, and a loss. test_recipes.py runs it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin

SHIFTS = [1e-300, 0.01, 1.0, 2.7, 1e9, 1e300]


@pytest.mark.parametrize("unique", [True, False], ids=["unique", "repeated"])
def test_a_loss_takes_its_samples(unique):
    problem = Case(batch=20, num_true=2).problem()
    sampler = fastnce.ZipfMandelbrotSampler(problem.num_classes, 7, shift=2.7, num_true=2, unique=unique, seed=1)
    problem = replace(problem, sampled_values=tuple(sampler(problem.labels)))
    assert_matches_twin(problem.solve(), problem)


@pytest.mark.parametrize("range_max", [1, 10, 10**6])
@pytest.mark.parametrize("shift", SHIFTS)
def test_probabilities_of_any_shift_add_up_to_one(shift, range_max):
    sampler = fastnce.ZipfMandelbrotSampler(range_max, 1, shift=shift, unique=False)
    total = sampler(np.arange(range_max)).true_expected_count.sum(dtype=np.float64)
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)


@pytest.mark.parametrize("range_max", [1, 2, 10**6, 2**53 + 1, 2**63 - 1])
@pytest.mark.parametrize("shift", SHIFTS)
def test_ids_of_any_shift_are_classes(shift, range_max):
    ids = fastnce.ZipfMandelbrotSampler(range_max, 10**5, shift=shift, unique=False, seed=1)([0]).sampled_candidates
    assert ids.min() >= 0 and ids.max() < range_max


@pytest.mark.parametrize("shift", [0, -1.5, np.nan, np.inf])
def test_a_shift_that_is_no_positive_number_is_refused(shift):
    with pytest.raises(ValueError, match=rf"^shift = {shift}: expected a finite number above 0$"):
        fastnce.ZipfMandelbrotSampler(10, 2, shift=shift)


@pytest.mark.parametrize("shift", ["2", None, True])
def test_a_shift_that_is_no_number_is_refused(shift):
    with pytest.raises(TypeError, match=r"^parameter 1 of 'zipf_mandelbrot' is .*: expected a number$"):
        fastnce.ZipfMandelbrotSampler(10, 2, shift=shift)


def test_a_sampler_keeps_its_shift():
    shift = np.array(2.7)
    sampler = fastnce.ZipfMandelbrotSampler(10, 10, shift=shift, unique=False, seed=1)
    expected = sampler.state, sampler(np.arange(10)).true_expected_count
    shift[...], sampler.state = 0.1, expected[0]
    np.testing.assert_array_equal(sampler(np.arange(10)).true_expected_count, expected[1])
