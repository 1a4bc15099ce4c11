"""The family of sampled losses and their gradients: one function, and the names under which its members are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeAlias, Unpack

import numpy as np
from numpy.typing import ArrayLike

from fastnce._types import Grads, RowGrads, SampledValues
from fastnce.reference._functions import sigmoid, softmax, softplus
from fastnce.reference._tables import Table, gather
from fastnce.reference._targets import Flags, Floats, Labels, Lists, TargetOptions, Targets, are_listed, per_example

Candidates: TypeAlias = SampledValues | Sequence[ArrayLike | None]
"""Sampled ids ``[S]`` or ``[G, S]``, expected counts of the true classes and of the sampled ones; both counts ``None``:
no log Q."""


class LossOptions(TargetOptions, total=False):
    """Options of every member of the family; see :func:`sampled_loss_and_grad`."""

    remove_accidental_hits: bool


class _Terms(NamedTuple):
    """What a family makes of the logits: loss ``[B]``, and its derivatives by ``u [B, T]`` and ``v [B, S]``, of which
    those of padded labels and of removed samples mean nothing."""

    loss: Floats
    du: Floats
    dv: Floats


def _logistic(
    u: Floats, v: Floats, r: Floats, h: Floats, is_true: Flags, is_negative: Flags, a: Floats, m: Floats
) -> _Terms:
    """``a h (softplus(u) - r u)`` of each label, ``m softplus(v)`` of each negative."""
    true_terms = np.where(is_true, a * h * (softplus(u) - r * u), 0.0)
    negative_terms = np.where(is_negative, m * softplus(v), 0.0)
    return _Terms(true_terms.sum(axis=1) + negative_terms.sum(axis=1), a * h * (sigmoid(u) - r), m * sigmoid(v))


def _softmax(u: Floats, v: Floats, r: Floats, h: Floats, is_true: Flags, is_negative: Flags) -> _Terms:
    """``-r h log p`` of one softmax over what is left of u and v."""
    p, log_total = softmax(np.concatenate([np.where(is_true, u, -np.inf), np.where(is_negative, v, -np.inf)], axis=1))
    q = r * h
    loss = np.where(is_true, q * (log_total - u), 0.0).sum(axis=1)
    g = q.sum(axis=1, keepdims=True) * p
    return _Terms(loss, g[:, : u.shape[1]] - q, g[:, u.shape[1] :])


@np.errstate(divide="ignore", invalid="ignore")
def sampled_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: Labels,
    inputs: ArrayLike,
    sampled_values: Candidates,
    *,
    family: Literal["logistic", "softmax"],
    true_target: Literal["mean", "one"] = "mean",
    label_weights: ArrayLike | None = None,
    positive_weight: ArrayLike = 1.0,
    negative_weight: ArrayLike = 1.0,
    remove_accidental_hits: bool = False,
    exclude: Lists | None = None,
    padding: int | None = None,
    partition_strategy: str = "div",
    grad_loss: ArrayLike | None = None,
) -> tuple[Floats, Grads]:
    """Loss ``[B]`` of any member of the family, and the gradients of ``sum(grad_loss * loss)``.

    With x inputs ``[B, D]``, w weights ``[V, D]``, c biases ``[V]`` (0 for ``None``), y labels ``[B]``, ``[B, T]`` or
    Ragged, z sampled ids ``[S]`` or ``[G, S]``, of which row g = b div (B / G) serves example b, Q their expected
    counts (1 for ``None``), h the label weights in the shape of the labels (1 for ``None``), a and m the positive and
    the negative weight, each a number or ``[B]``::

        u[b,t]    = x[b].w[y[b,t]] + c[y[b,t]] - log Q(y[b,t])                          true logits
        v[b,s]    = x[b].w[z[g,s]] + c[z[g,s]] - log Q(z[g,s])                          sampled logits
        r         = 1 / T where true_target is "mean", 1 where it is "one"
        logistic    loss[b] = a sum_t h[t] (softplus(u[b,t]) - r u[b,t])  +  m sum_s softplus(v[b,s])
                    du[b,t] = a h[t] (sigmoid(u[b,t]) - r)           dv[b,s] = m sigmoid(v[b,s])
        softmax     p       = softmax of u[b,:] and v[b,:] together; a and m have no part in it
                    loss[b] = - sum_t q[t] log p[t]                  q[t] = r h[t]
                    du[b,t] = (sum_t q[t]) p[t] - q[t]               dv[b,s] = (sum_t q[t]) p[T + s]
        dx[b]     = grad_loss[b] (sum_t du[b,t] w[y[b,t]] + sum_s dv[b,s] w[z[g,s]])
        dw[k]     = sum over all (b,t), (b,s) of class k of grad_loss[b] du x[b], grad_loss[b] dv x[b]
        dc[k]     = the same without x; None without biases

    Accidental hits (``z[g,s]`` among ``y[b]``), when removed, are no term of any of these sums, nor of p's denominator.
    Samples in the list ``exclude[b]`` are removed in the same way, hits or not; labels never are, and Q stays.
    A label equal to ``padding`` is no label: T counts the others, its expected count and its weight are not read and
    its id is no row. T counts labels, whatever their weights. An example all of whose labels are padding, or whose
    list is empty, has loss 0 and no gradient. No gradient flows through Q, a, m and h.
    ``Grads.rows.ids`` holds the classes met in y and z, ascending, each once.
    """
    x = np.asarray(inputs, np.float64)
    targets = Targets(labels, padding)
    ids, true_count, sampled_count = sampled_values
    z = np.atleast_2d(np.asarray(ids, np.int64))
    is_true, batch, dim = targets.is_true, *x.shape
    groups, sampled = z.shape
    of_group = (groups, batch // groups)  # of reshape, for what is [B, ...]
    candidates = np.repeat(z, batch // groups, axis=0)
    is_removed = (targets.are_labels(candidates) & remove_accidental_hits) | are_listed(candidates, exclude)
    is_negative = targets.has_labels & ~is_removed

    classes = np.concatenate([targets.ids[is_true], z.ravel()])
    w_used = gather(weights, classes, partition_strategy)
    c_used = np.zeros(len(classes)) if biases is None else gather(biases, classes, partition_strategy)
    num_labels = len(classes) - z.size
    w_true, c_true = np.zeros((*is_true.shape, dim)), np.zeros(is_true.shape)
    w_true[is_true], c_true[is_true] = w_used[:num_labels], c_used[:num_labels]
    w_sampled, c_sampled = w_used[num_labels:].reshape(*z.shape, dim), c_used[num_labels:].reshape(z.shape)
    true_log_q = np.log(targets.spread(np.asarray(1.0 if true_count is None else true_count, np.float64)))
    sampled_log_q = np.log(np.asarray(1.0 if sampled_count is None else sampled_count, np.float64))
    # Not einsum, which reads beyond its operands where D is 0 (NumPy 2.4).
    u = np.vecdot(x[:, np.newaxis], w_true) + c_true - true_log_q
    grouped = x.reshape(*of_group, dim) @ w_sampled.transpose(0, 2, 1)
    v = (grouped + (c_sampled - sampled_log_q)[:, np.newaxis]).reshape(batch, sampled)

    r, h = targets.shares(true_target, label_weights)
    if family == "logistic":
        a, m = per_example(positive_weight, batch), per_example(negative_weight, batch)
        loss, du, dv = _logistic(u, v, r, h, is_true, is_negative, a, m)
    else:
        loss, du, dv = _softmax(u, v, r, h, is_true, is_negative)
    upstream = per_example(grad_loss, batch)
    du, dv = np.where(is_true, du * upstream, 0.0), np.where(is_negative, dv * upstream, 0.0)

    row_ids, row_of_class = np.unique(classes, return_inverse=True)
    dw, dc = np.zeros((len(row_ids), dim)), np.zeros(len(row_ids))
    dw_true = (du[:, :, np.newaxis] * x[:, np.newaxis])[is_true]
    dv = dv.reshape(*of_group, sampled)
    dw_sampled = dv.transpose(0, 2, 1) @ x.reshape(*of_group, dim)
    np.add.at(dw, row_of_class, np.concatenate([dw_true, dw_sampled.reshape(z.size, dim)]))
    # NumPy sums contiguous rows pairwise: less rounding.
    dc_sampled = np.ascontiguousarray(dv.transpose(0, 2, 1)).sum(axis=2)
    np.add.at(dc, row_of_class, np.concatenate([du[is_true], dc_sampled.ravel()]))
    dx = np.einsum("bt,btd->bd", du, w_true) + (dv @ w_sampled).reshape(batch, dim)
    return loss, Grads(dx, RowGrads(row_ids, dw, None if biases is None else dc))


def nce_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: Labels,
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
    labels: Labels,
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
    labels: Labels,
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
