"""Loss, gradients and update in one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastnce._types import DLPackArray, Grads, LabelsLike
from fastnce.optim._base import Optimizer, require_optimizer

ArrayT = TypeVar("ArrayT", bound=DLPackArray)


def train_step(
    loss_and_grad: Callable[..., tuple[Any, Grads]],
    optimizer: Optimizer,
    labels: LabelsLike,
    inputs: ArrayT,
    *arguments: Any,
    **options: Any,
) -> tuple[ArrayT, ArrayT]:
    """A step of training: a loss, the gradient of its inputs, and the update of the tables in place.

    ::

        loss, grad_inputs = fastnce.train_step(fastnce.nce_loss_and_grad, optimizer, labels, inputs, S, V, seed=7)

    computes what these two calls do, to rounding, without the gradient rows ``[n, D]`` in memory (on
    CUDA they are in scratch memory)::

        loss, grads = fastnce.nce_loss_and_grad(optimizer.weights, optimizer.biases, labels, inputs, S, V, seed=7)
        optimizer.update_rows(*grads.rows)

    All that is computed is of the tables as they were before the step. A step gives the same result whenever it is made
    with the same number of threads. Ctrl-C ends a step before its update, or lets it finish, never in between;
    ``optimizer.state["step"]`` says which.

    Args:
        loss_and_grad: :func:`nce_loss_and_grad`, :func:`sampled_softmax_loss_and_grad`,
            :func:`negative_sampling_loss_and_grad`, or a function of one's own that hands its arguments on to one of
            these, with ``optimizer=``, which it gets, too.
        optimizer: One of :mod:`fastnce.optim`, made of the weights ``[V, D]`` and biases ``[V]`` that it updates.
        labels: As the loss has them.
        inputs: ``[B, D]``, not in the memory of the tables.
        *arguments: Of the loss, after its inputs.
        **options: Of the loss: ``grad_loss=1 / B`` makes it a step on the mean of the losses.

    Returns:
        ``(loss [B], grad_inputs [B, D])``.

    Raises:
        ValueError: As the loss; inputs in the memory of the tables; a function that does not hand the optimizer on.
        TypeError: As the loss; an optimizer of another library.
    """
    require_optimizer(optimizer)
    if labels is optimizer.weights:
        raise TypeError("labels are the weights: expected labels and inputs, since the optimizer hands its tables on")
    try:
        _, grads = result = loss_and_grad(
            optimizer.weights, optimizer.biases, labels, inputs, *arguments, optimizer=optimizer, **options
        )
    except TypeError as error:
        if "unexpected keyword argument 'optimizer'" not in str(error):
            raise
        raise TypeError(
            f"loss_and_grad = {getattr(loss_and_grad, '__name__', loss_and_grad)} has no argument optimizer: expected "
            "nce_loss_and_grad, sampled_softmax_loss_and_grad, negative_sampling_loss_and_grad, or a function of your "
            "own that hands optimizer= on to one of these"
        ) from error
    if grads.rows.weights is not None or grads.rows.biases is not None:
        raise ValueError(
            "loss_and_grad returned gradients of rows, which nothing has updated: expected a function that hands its "
            "argument optimizer on to the loss"
        )
    return result[0], grads.inputs
