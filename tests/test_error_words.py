"""The article before a type's name in error messages, in Python and in C++."""

from __future__ import annotations

import numpy as np
import pytest

import fastnce
from fastnce._errors import is_a


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "is None"),
        (3, "is an int"),
        ([3], "is a list"),
        (1.5, "is a float"),
        (object(), "is an object"),
        (np.zeros(1), "is an ndarray"),
        (np.uint8(1), "is a uint8"),
    ],
    ids=str,
)
def test_the_article_is_that_of_the_spoken_name(value, words):
    assert is_a(value) == words


@pytest.mark.parametrize(
    ("seed", "words"),
    [(object(), "seed is an object"), ("7", "seed is a str"), ((1, None), r"seed\[1\] is None")],
)
def test_seeds_of_the_wrong_kind_are_refused_by_name(seed, words):
    with pytest.raises(TypeError, match=f"^{words}: expected an integer$"):
        fastnce.log_uniform_candidate_sampler(np.zeros((2, 1), int), 1, 4, True, 50, seed=seed)


@pytest.mark.parametrize(("number", "words"), [(object(), "is an object"), ("7", "is a str"), (None, "is None")])
def test_numbers_of_the_wrong_kind_are_refused_by_name(number, words):
    with pytest.raises(TypeError, match=f"^num_sampled {words}: expected an integer"):
        fastnce.log_uniform_candidate_sampler(np.zeros((2, 1), int), 1, number, True, 50)
