"""The losses, differentiable and with gradients as rows, in the order of arguments that the NumPy functions have."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from fastnce._types import Precision, Ragged, RowGrads
from fastnce.jax._loss import request, value, value_and_rows

TrueTarget: TypeAlias = Literal["mean", "one"]


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
    key: Any = None,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.nce_loss` for ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``scan``.

    Differentiable once, in reverse mode, with respect to ``weights``, ``biases`` and ``inputs``; expected counts
    are constants. The gradients of the tables are dense, as large as the tables: for many classes use
    :func:`nce_value_and_rows`. A table that is not differentiated costs nothing in the backward pass.

    Args:
        weights: ``[V, D]`` class embeddings, one array, of at least ``num_classes`` rows: float32, float16, bfloat16,
            or float64 (with ``jax_enable_x64``).
        biases: ``[V]``, or ``None``.
        labels: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes in [0, num_classes). Or a
            :class:`fastnce.Ragged` with a list for each example, whose length is its T; ``num_true`` is not read then,
            and an example with an empty list has a loss of 0 and no gradient. Its values ``[n]`` have a static size:
            those that follow the last list, from ``offsets[B]`` on, are ignored. With ``key``, class 0 should be the
            most frequent one, class 1 the next, and so on.
        inputs: ``[B, D]`` input embeddings, or with more axes of examples, as in ``[B, L, D]``; then they are axes of
            what is ``[B]`` here. If one of weights, biases and inputs is float64, all must be; float32,
            float16 and bfloat16 may be mixed and are computed in float32.
        num_sampled: Classes to sample, S. This argument and the other numbers and options are static.
        num_classes: Number of classes, V; at most 2**31 without ``jax_enable_x64``.
        num_true: True classes per example, T.
        sampled_values: ``(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``; both
            counts may be ``None``: no log Q. Candidates ``[G, S]``, and counts like them, are of groups: group g serves
            the examples ``[g B / G, (g + 1) B / G)``. The counts of ragged labels are ``[n]``. Or a sampler of fastnce
            that does not learn, which draws by ``key``; or a callable that takes labels ``[B, T]`` (``[n, 1]`` for
            ragged ones) and returns such values, called when the loss is traced. An object of a subclass that has a
            ``__call__`` of its own is such a callable.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.
        key: A key from ``jax.random.key``, or its words, ``[2]`` or ``[4]`` uint32, in place of ``sampled_values``:
            classes are sampled as by :func:`log_uniform_candidate_sampler`, without repetition. A key may be traced;
            another key does not recompile.
        padding: A label that is no class, any integer of 64 bits, or ``None``. T counts the others; an example without
            others has a loss of 0 and no gradient.
        label_weights: ``[B, T]`` (``[B]`` if T is 1), or ``[n]`` of ragged labels: factor of the terms of each label,
            a constant. Not read at padding.
        exclude: A :class:`fastnce.Ragged` with a list of classes for each example: sampled ones among them are left
            out, as if they were hits. What follows its last list is ignored, too.
        true_target: ``"mean"``: each true class has target 1 / T. ``"one"``: 1, as NCE was published.
        precision: ``"highest"``, ``"high"`` or ``"medium"``, as in :func:`fastnce.set_precision`; ``None`` uses the
            setting at the time the call runs.

    Returns:
        ``[B]`` losses, float32, or float64 for float64 arrays.

    Raises:
        ValueError: When traced: shapes that do not match, sizes out of range, neither or both of ``key`` and
            ``sampled_values``, arrays committed to another device than ``inputs``.
        TypeError: When traced: unsupported or mixed dtypes, arguments of the wrong kind; JAX arrays of 64 bits without
            ``jax_enable_x64``.
        jax.errors.JaxRuntimeError: When run on the CPU: classes out of range, expected counts that are not positive;
            the message says which. (For small programs, which XLA runs synchronously, JAX raises ValueError instead.)
            On a GPU such an example gets a loss of NaN; see :func:`fastnce.cuda.check`.
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
    key: Any = None,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
    grad_loss: Any = None,
) -> tuple[Any, Any, RowGrads]:
    """:func:`nce_loss` and, in the same pass, the gradients of the sum of the losses; those of the tables as rows.

    A training step in which XLA updates the donated tables in place::

        @functools.partial(jax.jit, donate_argnums=(0, 1))
        def step(weights, biases, labels, inputs, key):
            loss, dinputs, rows = nce_value_and_rows(weights, biases, labels, inputs, S, V, key=key)
            return *sgd_rows(weights, biases, rows, 0.1), loss, dinputs

    Not itself differentiable. If inputs are computed from parameters, pass ``dinputs`` to the function that
    ``jax.vjp`` returns.

    Args:
        grad_loss: ``[B]`` upstream gradient of each example's loss. It multiplies the gradients, not the loss. ``None``
            means 1; ``1 / B`` gives the gradients of the mean.

    The other arguments and the errors are those of :func:`nce_loss`.

    Returns:
        ``(loss [B], dinputs [B, D], RowGrads(ids=[R], weights=[R, D], biases=[R]))`` with a row for each label and
        each sample, ``R = B * num_true + S``, or ``n + G * S``. Row ids are ascending, int32, or int64 with
        ``jax_enable_x64``; unused rows repeat the last id, with gradients of zero. Gradients have the dtypes of their
        arrays; ``None`` for no biases.
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
    key: Any = None,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    true_target: TrueTarget = "mean",
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.sampled_softmax_loss` for ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``scan``.

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
    )


def negative_sampling_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    sampled_candidates: Any,
    num_true: int = 1,
    *,
    key: Any = None,
    positive_weight: Any = 1.0,
    negative_weight: Any = 1.0,
    remove_accidental_hits: bool = False,
    padding: int | None = None,
    label_weights: Any = None,
    exclude: Ragged | None = None,
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.negative_sampling_loss` for ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``scan``.

    Args:
        sampled_candidates: ``[S]`` sampled classes, shared by the batch, or ``[G, S]`` of groups; or a sampler of
            fastnce that does not learn, with ``key``, or a callable, as ``sampled_values`` of :func:`nce_loss`.
        positive_weight: Factor of the terms of true classes, a number or ``[B]``, which may be traced; a constant.
        negative_weight: Factor of the terms of sampled classes, likewise.

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
    )


def negative_sampling_value_and_rows(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    sampled_candidates: Any,
    num_true: int = 1,
    *,
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
    )
