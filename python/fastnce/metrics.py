"""Metrics of ranks, as :func:`fastnce.rank_of_labels` returns them, and of losses.

Those of ranks are means over all that are not NaN: labels that are padding, or whose score is not finite, do not count.
Several labels of an example count one by one. The mean of no numbers is NaN.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["hits_at_k", "mean_reciprocal_rank", "ndcg_at_k", "perplexity"]


def mean_reciprocal_rank(ranks: npt.ArrayLike) -> float:
    """The mean of ``1 / rank``."""
    return _mean(1 / _known(ranks))


def hits_at_k(ranks: npt.ArrayLike, k: float) -> float:
    """The share of labels whose rank is at most k, also called hit rate or, of one label per example, recall at k."""
    return _mean(_known(ranks) <= k)


def ndcg_at_k(ranks: npt.ArrayLike, k: float) -> float:
    """The normalised discounted cumulative gain at k with one relevant class for each label: the mean of
    ``1 / log2(1 + rank)``, 0 beyond k."""
    known = _known(ranks)
    return _mean(np.where(known <= k, 1 / np.log2(1 + known), 0.0))


def perplexity(losses: npt.ArrayLike) -> float:
    """``exp`` of the mean of the losses ``[B]``, as :func:`fastnce.softmax_loss` returns them.

    Leave out examples without labels: their loss is 0, which would count as certainty.
    """
    return float(np.exp(_mean(np.asarray(losses, np.float64))))


def _known(ranks: npt.ArrayLike) -> npt.NDArray[np.float64]:
    array = np.asarray(ranks, np.float64)
    return array[~np.isnan(array)]


def _mean(values: npt.NDArray[np.float64 | np.bool]) -> float:
    return float(values.mean()) if values.size else float("nan")
