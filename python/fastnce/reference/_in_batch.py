"""Softmax over the items of the batch itself: each example's item is its label, those of the others its negatives."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from fastnce.reference._functions import softmax
from fastnce.reference._targets import Floats, Lists, are_listed, per_example

Extra: TypeAlias = tuple[ArrayLike, ArrayLike | None, ArrayLike | None]
"""More candidates: items ``[N, D]``, their ids ``[N]``, their log Q ``[N]``; the last two may be ``None``."""


@np.errstate(divide="ignore", invalid="ignore")
def in_batch_softmax_loss_and_grad(
    inputs: ArrayLike,
    items: ArrayLike,
    item_ids: ArrayLike | None = None,
    *,
    log_q: ArrayLike | None = None,
    extra: Extra | None = None,
    exclude: Lists | None = None,
    temperature: float = 1.0,
    grad_loss: ArrayLike | None = None,
) -> tuple[Floats, ...]:
    """Loss ``[B]``, and the gradients of ``sum(grad_loss * loss)``: of inputs, items and, where given, extra items.

    With x inputs ``[B, D]``, e the B items ``[B, D]`` and after them the N extra ones ``[N, D]``, k their ids, Q their
    expected counts (log Q = 0 for ``None``)::

        l[i,j]   = x[i].e[j] / temperature - log Q(k[j])       logits of the candidates
        p[i,:]   = softmax of l[i,j] over the candidates j that are left
        loss[i]  = - log p[i,i]
        dl[i,j]  = grad_loss[i] (p[i,j] - (1 if j = i else 0))
        dx[i]    = sum_j dl[i,j] e[j] / temperature
        de[j]    = sum_i dl[i,j] x[i] / temperature

    Removed for example i is every candidate j other than i with ``k[j] = k[i]``, or with k[j] in the list
    ``exclude[i]``; none without ``item_ids``. No gradient flows through Q.
    """
    x, own_items = np.asarray(inputs, np.float64), np.asarray(items, np.float64)
    batch = len(x)
    extra_items, extra_ids, extra_log_q = (np.zeros((0, x.shape[1])), None, None) if extra is None else extra
    e = np.concatenate([own_items, np.asarray(extra_items, np.float64)])
    logs = [
        np.broadcast_to(np.asarray(0.0 if log is None else log, np.float64), (count,))
        for log, count in ((log_q, batch), (extra_log_q, len(e) - batch))
    ]
    is_own = np.eye(batch, len(e), dtype=bool)
    is_left = np.full(is_own.shape, True)
    if item_ids is not None:
        own_ids = np.asarray(item_ids, np.int64)
        more_ids = np.empty(0, np.int64) if extra_ids is None else np.asarray(extra_ids, np.int64)
        ids = np.broadcast_to(np.concatenate([own_ids, more_ids]), is_own.shape)
        is_left = is_own | ~((ids == own_ids[:, np.newaxis]) | are_listed(ids, exclude))

    logits = x @ e.T / temperature - np.concatenate(logs)
    p, log_total = softmax(np.where(is_left, logits, -np.inf))
    loss = log_total[:, 0] - logits[is_own]
    g = np.where(is_left, per_example(grad_loss, batch) * (p - is_own), 0.0) / temperature
    de = g.T @ x
    return (loss, g @ e, de[:batch]) if extra is None else (loss, g @ e, de[:batch], de[batch:])
