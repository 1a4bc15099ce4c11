"""The loss as a differentiable function, and with sparse gradients in one pass."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp

from fastnce import _core
from fastnce._types import Precision, RowGrads, SampledValues
from fastnce.jax import _arguments
from fastnce.jax._arguments import Operands
from fastnce.jax._handlers import Options, draw, replace_rows, run


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
    precision: Precision | None = None,
) -> Any:
    """:func:`fastnce.nce_loss` for ``jit``, ``grad``, ``value_and_grad``, ``vmap`` and ``scan``.

    Differentiable once, in reverse mode, with respect to ``weights``, ``biases`` and ``inputs``; expected counts
    are constants. The gradients of the tables are dense, as large as the tables: for many classes use
    :func:`nce_value_and_rows`. A table that is not differentiated costs nothing in the backward pass.

    Args:
        weights: ``[V, D]`` class embeddings, one array, of at least ``num_classes`` rows: float32, float16, bfloat16,
            or float64 (with ``jax_enable_x64``).
        biases: ``[V]``.
        labels: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes in [0, num_classes). With ``key``,
            class 0 should be the most frequent one, class 1 the next, and so on.
        inputs: ``[B, D]`` input embeddings. If one of weights, biases and inputs is float64, all must be; float32,
            float16 and bfloat16 may be mixed and are computed in float32.
        num_sampled: Classes to sample, S. This argument and the other numbers and options are static.
        num_classes: Number of classes, V; at most 2**31 without ``jax_enable_x64``.
        num_true: True classes per example, T. Each has target 1 / T.
        sampled_values: ``(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``.
        remove_accidental_hits: Leave out sampled classes that are true classes of the example.
        key: A key from ``jax.random.key``, or its words, ``[2]`` or ``[4]`` uint32, in place of ``sampled_values``:
            classes are sampled as by :func:`log_uniform_candidate_sampler`, without repetition. A key may be traced;
            another key does not recompile.
        precision: ``"highest"``, ``"high"`` or ``"medium"``, as in :func:`fastnce.set_precision`; ``None`` uses the
            setting at the time the call runs.

    Returns:
        ``[B]`` losses, float32, or float64 for float64 arrays.

    Raises:
        ValueError: When traced: shapes that do not match, sizes out of range, neither or both of ``key`` and
            ``sampled_values``, arrays committed to another device than ``inputs``.
        TypeError: When traced: unsupported or mixed dtypes, arguments of the wrong kind.
        jax.errors.JaxRuntimeError: When run on the CPU: classes out of range, expected counts that are not positive;
            the message says which. (For small programs, which XLA runs synchronously, JAX raises ValueError instead.)
            On a GPU (not yet run on one) such an example gets a loss of NaN; see :func:`fastnce.cuda.check`.
    """
    arguments = (weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values)
    options, operands, _ = _prepare(*arguments, remove_accidental_hits, key, precision, None)
    return _loss(options, *operands)


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
        ``(loss [B], dinputs [B, D], RowGrads(ids=[n], weights=[n, D], biases=[n]))`` with ``n = B * num_true + S``. Row
        ids are ascending, int32, or int64 with ``jax_enable_x64``; unused rows repeat the last id, with gradients of
        zero. Gradients have the dtypes of their arrays.
    """
    arguments = (weights, biases, labels, inputs, num_sampled, num_classes, num_true, sampled_values)
    options, operands, upstream = _prepare(*arguments, remove_accidental_hits, key, precision, grad_loss)
    results = run(options, operands, upstream, loss=True, inputs=True, rows=True)
    return results.loss, results.inputs, RowGrads(results.ids, results.weights, results.biases)


def log_uniform_candidate_sampler(
    true_classes: Any, num_true: int, num_sampled: int, unique: bool, range_max: int, *, key: Any
) -> SampledValues:
    """:func:`fastnce.log_uniform_candidate_sampler` with the two words of a JAX key as ``seed``, for the same ids.

    Args:
        true_classes: ``[B, num_true]`` (or ``[B]`` if ``num_true`` is 1) integer classes.
        num_true: True classes per example, T.
        num_sampled: Classes to sample, S.
        unique: Sample without repetition.
        range_max: Number of classes, V; at most 2**31 without ``jax_enable_x64``.
        key: A key from ``jax.random.key``, or its words as uint32. Four words make two 64-bit words; the
            first of each pair is the upper half.

    Returns:
        ``SampledValues(sampled_candidates [S], true_expected_count [B, T], sampled_expected_count [S])``. Ids are
        int32, or int64 with ``jax_enable_x64``.

    Raises:
        ValueError, TypeError: When traced, as the NumPy function.
        jax.errors.JaxRuntimeError: When run on the CPU: a class outside [0, range_max).
    """
    words = _arguments.key_words(key)
    classes = _arguments.seen_by_core(true_classes)
    _core.check_log_uniform_candidates(classes, num_true, num_sampled, unique, range_max)
    _arguments.require_ids_fit(range_max, "range_max")
    classes = _arguments.ids(true_classes, (-1, num_true))
    return SampledValues(*draw(words, classes, num_sampled, unique, range_max, "true_classes", "range_max"))


def _prepare(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: Any,
    num_classes: Any,
    num_true: Any,
    sampled_values: Any,
    remove_accidental_hits: Any,
    key: Any,
    precision: Any,
    grad_loss: Any,
) -> tuple[Options, Operands, Any]:
    """Options, operands and upstream factors for the handlers, from valid arguments."""
    if (key is None) == (sampled_values is None):
        got = "neither" if key is None else "both"
        raise ValueError(f"key, sampled_values: expected just one of them, got {got}")
    words = None if key is None else _arguments.key_words(key)
    weights, biases, inputs = (
        _arguments.table(array, name) for array, name in ((weights, "weights"), (biases, "biases"), (inputs, "inputs"))
    )
    _arguments.check_loss(
        *(weights, biases, labels, inputs, num_sampled, num_classes, num_true),
        *(sampled_values, remove_accidental_hits, precision, grad_loss),
    )
    _arguments.require_one_device(weights=weights, biases=biases, labels=labels, inputs=inputs, key=words)
    weights, biases, inputs = map(jnp.asarray, (weights, biases, inputs))
    num_sampled, num_classes, num_true = map(operator.index, (num_sampled, num_classes, num_true))
    batch = len(inputs)
    labels = _arguments.ids(labels, (batch, num_true))
    dtype = jnp.float64 if inputs.dtype == jnp.float64 else jnp.float32
    if words is not None:
        sampled_values = draw(words, labels, num_sampled, True, num_classes, "labels", "num_classes")
    sampled, true_count, sampled_count = sampled_values
    true_count = jnp.asarray(true_count, dtype)
    if true_count.ndim == 1 and true_count.size != 1:  # one for each example
        true_count = true_count[:, None]
    operands = (
        *(weights, biases, labels, inputs, _arguments.ids(sampled, (num_sampled,))),
        jnp.broadcast_to(true_count, labels.shape),
        jnp.broadcast_to(jnp.asarray(sampled_count, dtype), (num_sampled,)),
    )
    if grad_loss is not None:
        grad_loss = jnp.broadcast_to(jnp.asarray(grad_loss, dtype), (batch,))
    return Options(num_classes, bool(remove_accidental_hits), precision or ""), operands, grad_loss


def _compute_loss(options: Options, *operands: Any) -> Any:
    return run(options, operands, loss=True).loss


def _forward(options: Options, *operands: Any) -> Any:
    """The loss, and as residuals the operands and which gradients are wanted, which pytrees hold as () or None."""
    values = tuple(operand.value for operand in operands)
    weights, biases, _, inputs, *_ = (() if operand.perturbed else None for operand in operands)
    return _compute_loss(options, *values), (values, (weights, biases, inputs))


def _backward(options: Options, residuals: Any, grad_loss: Any) -> Any:
    """The cotangents of all operands: dense ones of the tables, zeros of ids and counts."""
    operands, wanted = residuals
    for_weights, for_biases, for_inputs = (flag is not None for flag in wanted)
    grads = run(options, operands, grad_loss, inputs=for_inputs, rows=for_weights or for_biases)

    def dense(table: Any, rows: Any) -> Any:
        return replace_rows(jnp.zeros_like(table), grads.ids, rows)

    weights = dense(operands[0], grads.weights) if for_weights else None
    biases = dense(operands[1], grads.biases) if for_biases else None
    return weights, biases, None, grads.inputs if for_inputs else None, None, None, None


_loss = jax.custom_vjp(_compute_loss, nondiff_argnums=(0,))
_loss.defvjp(_forward, _backward, symbolic_zeros=True)
