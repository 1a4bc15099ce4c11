"""The losses, in the order of arguments that ``fastnce.jax`` has, over a table that is spread over devices."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, TypeAlias

from fastnce._types import Precision, Ragged, RowGrads
from fastnce.jax._loss import request
from fastnce.jax._losses import TrueTarget
from fastnce.jax.distributed._loss import value, value_and_rows

AxisName: TypeAlias = Hashable


def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    *,
    axis_name: AxisName,
    key: Any = None,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.jax.nce_loss` of this device's examples, to be called inside ``jax.shard_map``.

    All devices of the axis take part; together they compute what the unsharded function does for all their examples and
    the whole table, with the same samples for the same key, to rounding. Differentiable as that function. The gradient
    of a table is that of the sum of the losses of all devices of the axis, dense, ``[R, D]``: for many classes use
    :func:`nce_value_and_rows`. Call ``shard_map`` under ``jit``.

    Args:
        weights: ``[R, D]``, R = ceil(V / P) rows on each of P devices: row k of device r is class k P + r, as
            :func:`shard_rows` lays them out. Rows beyond V are not read.
        biases: ``[R]``, likewise, or ``None``.
        labels: Of the ``[b]`` examples of this device, ``[b, num_true]``, or ``[b]`` if ``num_true`` is 1, or a
            :class:`fastnce.Ragged`; of equal shapes on all devices, with padding where a device has less.
        inputs: ``[b, D]``, or with more axes of examples.
        num_sampled: Classes to sample, S, for all devices together: each scores its examples against all of them.
        num_classes: Number of classes, V, of the whole table.
        sampled_values: As in the unsharded function: candidates ``[S]`` and their counts, the same on all devices, and
            expected counts of this device's labels. A callable has to return the same candidates on all devices.
        axis_name: The name of the axis of the mesh over which the rows are spread, or a tuple of names. Examples have
            to be spread over it, too.
        key: The same on all devices.

    The other arguments are those of the unsharded function.

    Returns:
        ``[b]`` losses of this device's examples. Errors that the unsharded function reports when it runs are losses of
        NaN with gradients of zero, because an error on one device would leave the others waiting for it. A label, its
        expected count or an excluded class out of range: of that example. A sample or its expected count out of range:
        of all examples. Invalid offsets of lists: of all examples of the device.

    Raises:
        ValueError: When traced, as the unsharded function; an ``axis_name`` that is no axis of a surrounding
            ``shard_map``, tables without R rows, a key that varies over the axis, candidates ``[G, S]``.
        TypeError: When traced, as the unsharded function.
    """
    return value(
        request(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            num_sampled=num_sampled,
            num_classes=num_classes,
            num_true=num_true,
            sampled_values=sampled_values,
            remove_accidental_hits=remove_accidental_hits,
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target=true_target,
            precision=precision,
        ),
        key,
        axis_name,
    )


def nce_value_and_rows(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    *,
    axis_name: AxisName,
    key: Any = None,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
    grad_loss: Any = None,
) -> tuple[Any, Any, RowGrads]:
    """:func:`nce_loss` and, in the same pass, the gradients of the sum of the losses of all devices of the axis: of the
    inputs of this device, and of its rows of the tables as rows.

    The update of a table in which each device writes its own rows, inside ``shard_map``::

        loss, dinputs, rows = nce_value_and_rows(weights, biases, labels, inputs, S, V, axis_name="rows", key=key)
        weights, biases = fastnce.jax.sgd_rows(weights, biases, rows, 0.1)

    Not itself differentiable.

    Args:
        grad_loss: ``[b]`` upstream gradient of each example's loss; 1 / (P b) gives the gradients of the mean.

    The other arguments and the errors are those of :func:`nce_loss`.

    Returns:
        ``(loss [b], dinputs [b, D], RowGrads(ids=[N], weights=[N, D], biases=[N]))`` with room for each sample and each
        label of all devices, N = S + P b T, at most R. Ids are rows of ``weights`` on this device, distinct and
        ascending; unused rows repeat the last id, with gradients of zero. They are summed up over the devices in the
        compute dtype, and rounded once.
    """
    return value_and_rows(
        request(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            num_sampled=num_sampled,
            num_classes=num_classes,
            num_true=num_true,
            sampled_values=sampled_values,
            remove_accidental_hits=remove_accidental_hits,
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target=true_target,
            precision=precision,
            grad_loss=grad_loss,
        ),
        key,
        axis_name,
    )


def sampled_softmax_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    *,
    axis_name: AxisName,
    key: Any = None,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.jax.sampled_softmax_loss` of this device's examples, to be called inside ``jax.shard_map``.

    Arguments, results and errors are those of :func:`nce_loss`; accidental hits are removed by default.
    """
    return value(
        request(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            num_sampled=num_sampled,
            num_classes=num_classes,
            num_true=num_true,
            sampled_values=sampled_values,
            remove_accidental_hits=remove_accidental_hits,
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target=true_target,
            precision=precision,
            family="softmax",
        ),
        key,
        axis_name,
    )


def sampled_softmax_value_and_rows(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    *,
    axis_name: AxisName,
    key: Any = None,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
    grad_loss: Any = None,
) -> tuple[Any, Any, RowGrads]:
    """:func:`sampled_softmax_loss` and, in the same pass, gradients, as :func:`nce_value_and_rows` has them."""
    return value_and_rows(
        request(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            num_sampled=num_sampled,
            num_classes=num_classes,
            num_true=num_true,
            sampled_values=sampled_values,
            remove_accidental_hits=remove_accidental_hits,
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target=true_target,
            precision=precision,
            family="softmax",
            grad_loss=grad_loss,
        ),
        key,
        axis_name,
    )


def negative_sampling_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    sampled_candidates: Any,
    num_true: int = 1,
    *,
    axis_name: AxisName,
    key: Any = None,
    positive_weight: Any = 1.0,
    negative_weight: Any = 1.0,
    remove_accidental_hits: bool = False,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.jax.negative_sampling_loss` of this device's examples, to be called inside ``jax.shard_map``.

    V is P R here, the number of all rows.

    Args:
        sampled_candidates: ``[S]`` sampled classes, the same on all devices; or a sampler of fastnce that does not
            learn, with ``key``, or a callable, as ``sampled_values`` of :func:`nce_loss`.
        positive_weight: A number or ``[b]``, which may be traced; a constant.
        negative_weight: Likewise.

    The other arguments, results and errors are those of :func:`nce_loss`.
    """
    return value(
        request(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            num_true=num_true,
            sampled_values=(sampled_candidates, None, None),
            positive_weight=positive_weight,
            negative_weight=negative_weight,
            remove_accidental_hits=remove_accidental_hits,
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target="one",
            precision=precision,
        ),
        key,
        axis_name,
    )


def negative_sampling_value_and_rows(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    sampled_candidates: Any,
    num_true: int = 1,
    *,
    axis_name: AxisName,
    key: Any = None,
    positive_weight: Any = 1.0,
    negative_weight: Any = 1.0,
    remove_accidental_hits: bool = False,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    precision: Precision | None = None,
    grad_loss: Any = None,
) -> tuple[Any, Any, RowGrads]:
    """:func:`negative_sampling_loss` and, in the same pass, gradients, as :func:`nce_value_and_rows` has them."""
    return value_and_rows(
        request(
            weights=weights,
            biases=biases,
            labels=labels,
            inputs=inputs,
            num_true=num_true,
            sampled_values=(sampled_candidates, None, None),
            positive_weight=positive_weight,
            negative_weight=negative_weight,
            remove_accidental_hits=remove_accidental_hits,
            padding=padding,
            label_weights=label_weights,
            exclude=exclude,
            true_target="one",
            precision=precision,
            grad_loss=grad_loss,
        ),
        key,
        axis_name,
    )
