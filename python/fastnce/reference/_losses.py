"""Losses and their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce._types import Grads, RowGrads, SampledValues

Floats: TypeAlias = NDArray[np.float64]
Table: TypeAlias = ArrayLike | Sequence[ArrayLike]
"""One ``[V, D]`` (or ``[V]``) array, or a list or tuple of shards of it."""


def gather(table_or_shards: Table, ids: ArrayLike, partition_strategy: str) -> Floats:
    """Rows ``ids [n]`` of a table, in float64: ``[n, D]`` of a table ``[V, D]``, ``[n]`` of a table ``[V]``.

    N rows in P shards: ``"mod"`` keeps id k in shard ``k mod P`` at row ``k div P``; ``"div"`` gives the
    first ``N mod P`` shards ``N div P + 1`` consecutive ids each and the others ``N div P``. Source:
    ``tf.nn.embedding_lookup``.
    """
    shards: list[NDArray[Any]] = (
        [np.asarray(shard) for shard in table_or_shards]
        if isinstance(table_or_shards, list | tuple)
        else [np.asarray(table_or_shards)]
    )
    sizes = [len(shard) for shard in shards]
    starts = np.cumsum([0, *sizes])
    wanted = np.asarray(ids, np.int64)
    rows = np.empty((len(wanted), *shards[0].shape[1:]), np.float64)
    for i, k in enumerate(wanted.tolist()):
        if partition_strategy == "mod":
            shard, row = k % len(shards), k // len(shards)
        else:
            shard = int(np.searchsorted(starts, k, side="right")) - 1
            row = k - int(starts[shard])
        rows[i] = shards[shard][row]
    return rows


def softplus(logit: Floats) -> Floats:
    """``log(1 + exp(logit))`` without overflow."""
    return np.logaddexp(0.0, logit)


def sigmoid(logit: Floats) -> Floats:
    """``1 / (1 + exp(-logit))`` without overflow."""
    return np.exp(-softplus(-logit))


def _true_counts(count: ArrayLike, batch: int, num_true: int) -> Floats:
    """Expected counts as ``[B, T]``, given as that, as ``[B, 1]``, one number, or ``[B]`` where T = 1."""
    values = np.asarray(count, np.float64)
    if values.ndim == 1 and num_true == 1 and len(values) == batch:
        values = values[:, np.newaxis]
    return np.broadcast_to(values, (batch, num_true))


@np.errstate(divide="ignore", invalid="ignore")
def nce_loss_and_grad(
    weights: Table,
    biases: Table,
    labels: ArrayLike,
    inputs: ArrayLike,
    sampled_values: SampledValues | Sequence[ArrayLike],
    *,
    remove_accidental_hits: bool = False,
    partition_strategy: str = "div",
    grad_loss: ArrayLike | None = None,
) -> tuple[Floats, Grads]:
    """Noise-contrastive estimation loss ``[B]`` and the gradients of ``sum(grad_loss * loss)``.

    With x inputs ``[B, D]``, w weights ``[V, D]``, c biases ``[V]``, y labels ``[B, T]``, z sampled ids
    ``[S]`` and Q their expected counts::

        u[b,t]  = x[b].w[y[b,t]] + c[y[b,t]] - log Q(y[b,t])                            true logits
        v[b,s]  = x[b].w[z[s]]   + c[z[s]]   - log Q(z[s])                              sampled logits
        loss[b] = sum_t softplus(u[b,t]) - u[b,t] / T  +  sum_s softplus(v[b,s])
        du[b,t] = (sigmoid(u[b,t]) - 1 / T) grad_loss[b]          dv[b,s] = sigmoid(v[b,s]) grad_loss[b]
        dx[b]   = sum_t du[b,t] w[y[b,t]] + sum_s dv[b,s] w[z[s]]
        dw[k]   = sum over all (b,t), (b,s) of class k of du x[b], dv x[b];      dc[k]: the same without x

    Accidental hits (``z[s]`` among ``y[b]``), when removed, are no term of any of these sums. No gradient
    flows through Q. ``Grads.rows.ids`` holds the classes met in y and z, ascending, each once. Source:
    ``nn_impl.py`` of TensorFlow.
    """
    x = np.asarray(inputs, np.float64)
    y = np.asarray(labels, np.int64)
    y = y[:, np.newaxis] if y.ndim == 1 else y
    z, true_count, sampled_count = sampled_values
    z = np.asarray(z, np.int64)
    batch, num_true = y.shape
    upstream = np.asarray(1.0 if grad_loss is None else grad_loss, np.float64)
    upstream = np.broadcast_to(upstream, (batch,))[:, np.newaxis]

    w_true = gather(weights, y.ravel(), partition_strategy).reshape(*y.shape, x.shape[1])
    c_true = gather(biases, y.ravel(), partition_strategy).reshape(y.shape)
    w_sampled, c_sampled = (gather(table, z, partition_strategy) for table in (weights, biases))
    # Not einsum, which reads beyond its operands where D is 0 (NumPy 2.4).
    u = np.vecdot(x[:, np.newaxis], w_true) + c_true - np.log(_true_counts(true_count, batch, num_true))
    v = x @ w_sampled.T + c_sampled - np.log(np.asarray(sampled_count, np.float64))

    is_hit = (y[:, :, np.newaxis] == z).any(axis=1) & remove_accidental_hits
    loss = (softplus(u) - u / num_true).sum(axis=1) + np.where(is_hit, 0.0, softplus(v)).sum(axis=1)
    du = (sigmoid(u) - np.ones_like(u) / num_true) * upstream
    dv = np.where(is_hit, 0.0, sigmoid(v) * upstream)

    classes = np.concatenate([y.ravel(), z])
    ids, row_of_class = np.unique(classes, return_inverse=True)
    dw, dc = np.zeros((len(ids), x.shape[1])), np.zeros(len(ids))
    dw_true = np.einsum("bt,bd->btd", du, x).reshape(du.size, x.shape[1])
    np.add.at(dw, row_of_class, np.concatenate([dw_true, dv.T @ x]))
    dc_sampled = np.ascontiguousarray(dv.T).sum(axis=1)  # NumPy sums contiguous rows pairwise: less rounding
    np.add.at(dc, row_of_class, np.concatenate([du.ravel(), dc_sampled]))
    dx = np.einsum("bt,btd->bd", du, w_true) + dv @ w_sampled
    return loss, Grads(dx, RowGrads(ids, dw, dc))
