"""Losses over all V classes."""

from __future__ import annotations

from typing import Literal, Unpack

import numpy as np
from numpy.typing import ArrayLike

from fastnce._types import DenseGrads
from fastnce.reference._functions import sigmoid, softmax, softplus
from fastnce.reference._tables import Table, whole
from fastnce.reference._targets import Floats, Labels, Lists, TargetOptions, Targets, are_listed, per_example


@np.errstate(divide="ignore", invalid="ignore")
def full_loss_and_grad(
    weights: Table,
    biases: Table | None,
    labels: Labels,
    inputs: ArrayLike,
    *,
    family: Literal["logistic", "softmax"],
    true_target: Literal["mean", "one"],
    label_weights: ArrayLike | None = None,
    exclude: Lists | None = None,
    padding: int | None = None,
    partition_strategy: str = "div",
    grad_loss: ArrayLike | None = None,
) -> tuple[Floats, DenseGrads]:
    """Loss ``[B]``, and the gradients of ``sum(grad_loss * loss)``.

    With x inputs ``[B, D]``, w weights ``[V, D]``, c biases ``[V]`` (0 for ``None``), y labels ``[B]``, ``[B, T]`` or
    Ragged, h the label weights in the shape of the labels (1 for ``None``)::

        v[b,k]    = x[b].w[k] + c[k]                                                    scores
        r         = 1 / T where true_target is "mean", 1 where it is "one"
        q[b,k]    = r sum of h[b,t] over the labels y[b,t] = k
        logistic    loss[b] = sum_k softplus(v[b,k]) - sum_k q[b,k] v[b,k]
                    dv[b,k] = sigmoid(v[b,k]) - q[b,k]
        softmax     p       = softmax of v[b,:]
                    loss[b] = - sum_k q[b,k] log p[k]
                    dv[b,k] = (sum_k q[b,k]) p[k] - q[b,k]
        dx[b]     = grad_loss[b] sum_k dv[b,k] w[k]
        dw[k]     = sum_b grad_loss[b] dv[b,k] x[b]
        dc[k]     = sum_b grad_loss[b] dv[b,k]; None without biases

    Each class stands once in these sums: a label given twice, and label weights, change the target q alone. (In
    ``sampled_loss_and_grad`` every label brings a softplus, or an exponential, of its own, and the weight of a logistic
    label multiplies that, too.) Classes in the list ``exclude[b]`` are no term of any sum, nor of p's denominator,
    unless they are labels of the example. A label equal to ``padding`` is no label: T counts the others, and its weight
    is not read. An example all of whose labels are padding, or whose list is empty, has loss 0 and no gradient.
    """
    x = np.asarray(inputs, np.float64)
    w = whole(weights, partition_strategy)
    c = np.zeros(len(w)) if biases is None else whole(biases, partition_strategy)
    targets = Targets(labels, padding)
    batch = len(x)
    classes = np.broadcast_to(np.arange(len(w)), (batch, len(w)))
    r, h = targets.shares(true_target, label_weights)
    q = np.zeros(classes.shape)
    at_labels = np.nonzero(targets.is_true)[0], targets.ids[targets.is_true]
    np.add.at(q, at_labels, (r * h)[targets.is_true])
    is_label = np.full(classes.shape, False)
    is_label[at_labels] = True
    is_left = targets.has_labels & (is_label | ~are_listed(classes, exclude))

    v = x @ w.T + c
    if family == "logistic":
        loss = np.where(is_left, softplus(v), 0.0).sum(axis=1) - np.where(is_label, q * v, 0.0).sum(axis=1)
        dv = sigmoid(v) - q
    else:
        p, log_total = softmax(np.where(is_left, v, -np.inf))
        loss = np.where(is_label, q * (log_total - v), 0.0).sum(axis=1)
        dv = q.sum(axis=1, keepdims=True) * p - q
    dv = np.where(is_left, dv * per_example(grad_loss, batch), 0.0)
    return loss, DenseGrads(dv @ w, dv.T @ x, None if biases is None else dv.sum(axis=0))


def softmax_loss_and_grad(
    weights: Table, biases: Table | None, labels: Labels, inputs: ArrayLike, **options: Unpack[TargetOptions]
) -> tuple[Floats, DenseGrads]:
    """Cross entropy of the softmax over all classes; true_target "mean" by default."""
    options = {"true_target": "mean", **options}
    return full_loss_and_grad(weights, biases, labels, inputs, family="softmax", **options)


def sigmoid_loss_and_grad(
    weights: Table, biases: Table | None, labels: Labels, inputs: ArrayLike, **options: Unpack[TargetOptions]
) -> tuple[Floats, DenseGrads]:
    """Binary cross entropy of every class; true_target "one" (multi-hot targets) by default."""
    options = {"true_target": "one", **options}
    return full_loss_and_grad(weights, biases, labels, inputs, family="logistic", **options)
