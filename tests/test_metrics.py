"""Metrics of ranks and losses."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastnce
from fastnce import metrics

RANKS = np.array([[1.0, 2.0], [4.5, np.nan]])


def test_metrics_of_a_few_ranks():
    assert metrics.mean_reciprocal_rank(RANKS) == pytest.approx((1 + 1 / 2 + 1 / 4.5) / 3)
    assert metrics.hits_at_k(RANKS, 1) == pytest.approx(1 / 3)
    assert metrics.hits_at_k(RANKS, 4) == pytest.approx(2 / 3)
    assert metrics.hits_at_k(RANKS, 5) == 1
    assert metrics.ndcg_at_k(RANKS, 2) == pytest.approx((1 + 1 / math.log2(3)) / 3)
    assert metrics.ndcg_at_k(RANKS, 10) == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(5.5)) / 3)


def test_nan_ranks_do_not_count_and_no_ranks_have_no_mean():
    for metric in (metrics.mean_reciprocal_rank, lambda r: metrics.hits_at_k(r, 3), lambda r: metrics.ndcg_at_k(r, 3)):
        assert metric([2.0, np.nan, np.nan]) == metric([2.0])
        assert math.isnan(metric([np.nan])) and math.isnan(metric([]))


def test_perplexity_of_a_uniform_prediction_is_the_number_of_classes():
    losses = fastnce.softmax_loss(np.zeros((50, 3), np.float32), None, np.arange(7), np.ones((7, 3), np.float32))
    assert metrics.perplexity(losses) == pytest.approx(50)
    assert math.isnan(metrics.perplexity([1.0, np.nan])) and math.isnan(metrics.perplexity([]))


def test_random_scores_rank_in_the_middle():
    rng = np.random.default_rng(0)
    weights, inputs = rng.standard_normal((99, 8)), rng.standard_normal((500, 8))
    ranks = fastnce.rank_of_labels(weights, None, rng.integers(99, size=500), inputs)
    assert ranks.mean() == pytest.approx(50, abs=5)
    assert metrics.hits_at_k(ranks, 50) == pytest.approx(0.5, abs=0.1)
