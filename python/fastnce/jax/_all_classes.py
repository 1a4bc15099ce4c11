"""What goes over all classes: exact losses, the best classes, ranks of labels."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastnce._seed import int64
from fastnce._types import Precision, Ragged, TrueTarget
from fastnce.jax import _handlers
from fastnce.jax._arguments import Operands, table
from fastnce.jax._handlers import Options
from fastnce.jax._loss import prepare, request_over_all, value


def softmax_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    *,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.softmax_loss` for ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``scan``: cross entropy over
    all V classes, without the ``[B, V]`` logits in memory. On the CPU only.

    Differentiable once, in reverse mode, with respect to ``weights``, ``biases`` and ``inputs``. The gradients of the
    tables are dense; a table that is not differentiated costs nothing in the backward pass, which computes the logits
    again.

    Args:
        weights: ``[V, D]`` class embeddings, one array: float32, float16, bfloat16, or float64 (with
            ``jax_enable_x64``).
        biases: ``[V]``, or ``None``.
        labels: ``[B]`` or ``[B, T]`` integer classes, or a :class:`fastnce.Ragged` with a list for each example, as
            :func:`nce_loss` takes it.
        inputs: ``[B, D]`` input embeddings, or with more axes of examples, as :func:`nce_loss` takes them.
        padding: A label that stands for no class: T is then the number of the others.
        label_weights: ``[B, T]`` (``[B]`` if T is 1), or ``[n]`` of ragged labels: multiply the targets; constants.
        exclude: A :class:`fastnce.Ragged` with a list of classes for each example that are left out of its softmax,
            unless they are its labels.
        true_target: The target of a label: ``"mean"`` is 1 / T, ``"one"`` is 1.
        precision: As in :func:`nce_loss`.

    Returns:
        ``[B]`` losses, float32, or float64 for float64 arrays.

    Raises:
        ValueError: When traced: shapes that do not match, arrays committed to another device than ``inputs``. When
            lowered: another platform than the CPU.
        TypeError: When traced: unsupported or mixed dtypes, arguments of the wrong kind; JAX arrays of 64 bits without
            ``jax_enable_x64``.
        jax.errors.JaxRuntimeError: When run: classes out of range; the message says which. (For small programs, which
            XLA runs synchronously, JAX raises ValueError instead.)
    """
    return value(
        request_over_all(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            family="softmax",
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target=true_target,
            precision=precision,
        )
    )


def sigmoid_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    *,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "one",
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.sigmoid_loss` for ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``scan``: binary cross
    entropy, summed over all V classes.

    ``exclude`` leaves classes out of the sum. The other arguments, results and errors are those of
    :func:`softmax_loss`.
    """
    return value(
        request_over_all(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            family="logistic",
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target=true_target,
            precision=precision,
        )
    )


def top_k(
    weights: Any,
    biases: Any,
    inputs: Any,
    k: int,
    exclude: Ragged | None = None,
    *,
    precision: Precision | None = "highest",
) -> tuple[Any, Any]:
    """The k classes that score highest, :func:`fastnce.top_k`, for ``jit``, ``vmap`` and ``scan``: without a ``[B, V]``
    matrix. On the CPU only.

    Args:
        k: How many; static.
        exclude: A :class:`fastnce.Ragged` with a list of classes for each example that are left out.

    The other arguments and the errors are those of :func:`softmax_loss`.

    Returns:
        ``(scores [B, k], ids [B, k])``, constants for ``grad``: scores fall, equal ones are in the order of their ids.
        Where fewer than k classes are left, the rest are ``-inf`` with id -1. Ids are int32, or int64 with
        ``jax_enable_x64``.
    """
    k = int64(k, "k")
    if k < 0:
        raise ValueError(f"k = {k}: expected at least 0")
    inputs = table(inputs, "inputs")
    shape = jnp.shape(inputs)[:-1]
    labels = np.zeros((*shape, 0), np.int32)
    options, operands = _constants(
        weights=weights, biases=biases, labels=labels, inputs=inputs, exclude=exclude, precision=precision
    )
    scores, ids = _handlers.top_k(options, operands, k)
    return scores.reshape(*shape, k), ids.reshape(*shape, k)


def rank_of_labels(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    exclude: Ragged | None = None,
    *,
    padding: int | None = None,
    precision: Precision | None = "highest",
) -> Any:
    """The rank of each label among all classes, :func:`fastnce.rank_of_labels`, for ``jit``, ``vmap`` and ``scan``: 1
    for the best; ties count half. On the CPU only.

    Args:
        exclude: A :class:`fastnce.Ragged` with a list of classes for each example that do not compete. A label is
            ranked even if it is in the list.

    The other arguments and the errors are those of :func:`softmax_loss`.

    Returns:
        Ranks in the shape of the labels, ``[n]`` of a Ragged, constants for ``grad``: float64 with ``jax_enable_x64``,
        else float32, which has halves up to 2^23. NaN where the label is padding or its score is not finite, and of
        what follows the last list.
    """
    options, operands = _constants(
        weights=weights,
        biases=biases,
        labels=labels,
        inputs=inputs,
        exclude=exclude,
        padding=padding,
        precision=precision,
    )
    shape = jnp.shape(labels.values if isinstance(labels, Ragged) else labels)
    return _handlers.rank_of_labels(options, operands).reshape(shape)


def _constants(**given: Any) -> tuple[Options, Operands]:
    options, operands, _ = prepare(request_over_all(**given))
    return options, Operands(*map(jax.lax.stop_gradient, operands))
