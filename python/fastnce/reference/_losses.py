"""The family of sampled losses and their gradients: one function, and the names under which its members are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce._types import Grads, RowGrads, SampledValues

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Table: TypeAlias = ArrayLike | Sequence[ArrayLike]
"""One ``[V, D]`` (or ``[V]``) array, or a list or tuple of shards of it."""
Candidates: TypeAlias = SampledValues | Sequence[ArrayLike | None]
"""Sampled ids ``[S]``, expected counts of the true classes and of the sampled ones; both counts ``None``: no log Q."""


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


class LossOptions(TypedDict, total=False):
    """Options of every member of the family; see :func:`sampled_loss_and_grad`."""

    true_target: Literal["mean", "one"]
    remove_accidental_hits: bool
    padding: int | None
    partition_strategy: str
    grad_loss: ArrayLike | None


class _Terms(NamedTuple):
    """What a family makes of the logits: loss ``[B]``, and its derivatives by ``u [B, T]`` and ``v [B, S]``, of which
    those of padded labels and of removed samples mean nothing."""

    loss: Floats
    du: Floats
    dv: Floats


def _logistic(u: Floats, v: Floats, target: Floats, is_true: Flags, is_negative: Flags, a: Floats, m: Floats) -> _Terms:
    """``a (softplus(u) - r u)`` of each label, ``m softplus(v)`` of each negative."""
    true_terms = np.where(is_true, a * (softplus(u) - target * u), 0.0)
    negative_terms = np.where(is_negative, m * softplus(v), 0.0)
    return _Terms(true_terms.sum(axis=1) + negative_terms.sum(axis=1), a * (sigmoid(u) - target), m * sigmoid(v))


def _softmax(u: Floats, v: Floats, target: Floats, is_true: Flags, is_negative: Flags) -> _Terms:
    """``-q log p`` of one softmax over what is left of u and v; exponentials relative to the largest logit."""
    logits = np.concatenate([np.where(is_true, u, -np.inf), np.where(is_negative, v, -np.inf)], axis=1)
    largest = logits.max(axis=1, keepdims=True, initial=-np.inf)
    exponentials = np.exp(logits - np.where(largest == -np.inf, 0.0, largest))
    total = exponentials.sum(axis=1, keepdims=True)
    q = np.where(is_true, target, 0.0)
    loss = np.where(is_true, q * (largest + np.log(total) - u), 0.0).sum(axis=1)
    g = q.sum(axis=1, keepdims=True) * exponentials / total
    return _Terms(loss, g[:, : u.shape[1]] - q, g[:, u.shape[1] :])


def _per_example(value: ArrayLike, batch: int) -> Floats:
    """A number or ``[B]``, as ``[B, 1]``."""
    return np.broadcast_to(np.asarray(value, np.float64), (batch,))[:, np.newaxis]


def _true_log_q(count: ArrayLike | None, batch: int, num_true: int) -> Floats:
    """``[B, T]``, from expected counts given as that, as ``[B, 1]``, one number, or ``[B]`` where T = 1."""
    values = np.asarray(1.0 if count is None else count, np.float64)
    if values.ndim == 1 and num_true == 1 and len(values) == batch:
        values = values[:, np.newaxis]
    return np.log(np.broadcast_to(values, (batch, num_true)))


@np.errstate(divide="ignore", invalid="ignore")
def sampled_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: ArrayLike,
    inputs: ArrayLike,
    sampled_values: Candidates,
    *,
    family: Literal["logistic", "softmax"],
    true_target: Literal["mean", "one"] = "mean",
    positive_weight: ArrayLike = 1.0,
    negative_weight: ArrayLike = 1.0,
    remove_accidental_hits: bool = False,
    padding: int | None = None,
    partition_strategy: str = "div",
    grad_loss: ArrayLike | None = None,
) -> tuple[Floats, Grads]:
    """Loss ``[B]`` of any member of the family, and the gradients of ``sum(grad_loss * loss)``.

    With x inputs ``[B, D]``, w weights ``[V, D]``, c biases ``[V]`` (0 for ``None``), y labels ``[B, T]``, z sampled
    ids ``[S]``, Q their expected counts (1 for ``None``), a and m the positive and the negative weight, each a number
    or ``[B]``::

        u[b,t]    = x[b].w[y[b,t]] + c[y[b,t]] - log Q(y[b,t])                          true logits
        v[b,s]    = x[b].w[z[s]]   + c[z[s]]   - log Q(z[s])                            sampled logits
        r         = 1 / T where true_target is "mean", 1 where it is "one"
        logistic    loss[b] = a sum_t (softplus(u[b,t]) - r u[b,t])  +  m sum_s softplus(v[b,s])
                    du[b,t] = a (sigmoid(u[b,t]) - r)                dv[b,s] = m sigmoid(v[b,s])
        softmax     p       = softmax of u[b,:] and v[b,:] together; a and m have no part in it
                    loss[b] = - r sum_t log p[t]
                    du[b,t] = r T p[t] - r                           dv[b,s] = r T p[T + s]
        dx[b]     = grad_loss[b] (sum_t du[b,t] w[y[b,t]] + sum_s dv[b,s] w[z[s]])
        dw[k]     = sum over all (b,t), (b,s) of class k of grad_loss[b] du x[b], grad_loss[b] dv x[b]
        dc[k]     = the same without x; None without biases

    Accidental hits (``z[s]`` among ``y[b]``), when removed, are no term of any of these sums, nor of p's denominator.
    A label equal to ``padding`` is no label: T counts the others, its expected count is not read and its id is no row.
    An example all of whose labels are padding has loss 0 and no gradient. No gradient flows through Q, a and m.
    ``Grads.rows.ids`` holds the classes met in y and z, ascending, each once.
    """
    x = np.asarray(inputs, np.float64)
    y = np.asarray(labels, np.int64)
    y = y[:, np.newaxis] if y.ndim == 1 else y
    ids, true_count, sampled_count = sampled_values
    z = np.asarray(ids, np.int64)
    batch, num_true = y.shape
    is_true = np.full(y.shape, True) if padding is None else y != padding
    remaining = is_true.sum(axis=1, keepdims=True)
    has_labels = (remaining > 0) | (num_true == 0)
    is_hit = ((y[:, :, np.newaxis] == z) & is_true[:, :, np.newaxis]).any(axis=1)
    is_negative = has_labels & ~(is_hit & remove_accidental_hits)

    classes = np.concatenate([y[is_true], z])
    w_used = gather(weights, classes, partition_strategy)
    c_used = np.zeros(len(classes)) if biases is None else gather(biases, classes, partition_strategy)
    num_labels = len(classes) - len(z)
    w_true, c_true = np.zeros((*y.shape, x.shape[1])), np.zeros(y.shape)
    w_true[is_true], c_true[is_true] = w_used[:num_labels], c_used[:num_labels]
    w_sampled, c_sampled = w_used[num_labels:], c_used[num_labels:]
    # Not einsum, which reads beyond its operands where D is 0 (NumPy 2.4).
    u = np.vecdot(x[:, np.newaxis], w_true) + c_true - _true_log_q(true_count, batch, num_true)
    v = x @ w_sampled.T + c_sampled - np.log(np.asarray(1.0 if sampled_count is None else sampled_count, np.float64))

    target = 1.0 / np.maximum(remaining, 1) if true_target == "mean" else np.ones((batch, 1))
    if family == "logistic":
        a, m = _per_example(positive_weight, batch), _per_example(negative_weight, batch)
        loss, du, dv = _logistic(u, v, target, is_true, is_negative, a, m)
    else:
        loss, du, dv = _softmax(u, v, target, is_true, is_negative)
    upstream = _per_example(1.0 if grad_loss is None else grad_loss, batch)
    du, dv = np.where(is_true, du * upstream, 0.0), np.where(is_negative, dv * upstream, 0.0)

    row_ids, row_of_class = np.unique(classes, return_inverse=True)
    dw, dc = np.zeros((len(row_ids), x.shape[1])), np.zeros(len(row_ids))
    dw_true = (du[:, :, np.newaxis] * x[:, np.newaxis])[is_true]
    np.add.at(dw, row_of_class, np.concatenate([dw_true, dv.T @ x]))
    dc_sampled = np.ascontiguousarray(dv.T).sum(axis=1)  # NumPy sums contiguous rows pairwise: less rounding
    np.add.at(dc, row_of_class, np.concatenate([du[is_true], dc_sampled]))
    dx = np.einsum("bt,btd->bd", du, w_true) + dv @ w_sampled
    return loss, Grads(dx, RowGrads(row_ids, dw, None if biases is None else dc))


def nce_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: ArrayLike,
    inputs: ArrayLike,
    sampled_values: Candidates,
    **options: Unpack[LossOptions],
) -> tuple[Floats, Grads]:
    """Noise-contrastive estimation: logistic; true_target "mean" and hits kept by default, as in TensorFlow's
    ``nn_impl.py``. As published by Gutmann and Hyvarinen: ``true_target="one"``."""
    return sampled_loss_and_grad(weights, biases, labels, inputs, sampled_values, family="logistic", **options)


def sampled_softmax_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: ArrayLike,
    inputs: ArrayLike,
    sampled_values: Candidates,
    **options: Unpack[LossOptions],
) -> tuple[Floats, Grads]:
    """Sampled softmax: true_target "mean" and hits removed by default, as in TensorFlow's ``nn_impl.py``."""
    options = {"remove_accidental_hits": True, **options}
    return sampled_loss_and_grad(weights, biases, labels, inputs, sampled_values, family="softmax", **options)


def negative_sampling_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: ArrayLike,
    inputs: ArrayLike,
    sampled_candidates: ArrayLike,
    *,
    positive_weight: ArrayLike = 1.0,
    negative_weight: ArrayLike = 1.0,
    **options: Unpack[LossOptions],
) -> tuple[Floats, Grads]:
    """Negative sampling, the objective of word2vec: logistic without log Q; true_target "one" and hits kept by default.

    With ``positive_weight=gbce_weight(...)`` it is gBCE.
    """
    options = {"true_target": "one", **options}
    return sampled_loss_and_grad(
        weights,
        biases,
        labels,
        inputs,
        (sampled_candidates, None, None),
        family="logistic",
        positive_weight=positive_weight,
        negative_weight=negative_weight,
        **options,
    )


def gbce_weight(num_sampled: int, num_classes: int, calibration: float) -> float:
    """gBCE's beta = ``a (t (1 - 1/a) + 1/a)`` = ``t a + (1 - t)``, with a = ``S / (V - 1)`` the sampling rate and t the
    calibration.

    The loss ``-log(sigmoid(u)**beta)`` of the true class undoes the overconfidence that sampled negatives teach:
    t = 1 fully (beta = a), t = 0 not at all (beta = 1). Source: Petrov and Macdonald, "gSASRec" (2023).
    """
    rate = num_sampled / (num_classes - 1)
    return calibration * rate + (1 - calibration)
