"""The definition of fastnce: every operation in plain float64 NumPy, slow and readable.

This module is the oracle of the test suite and the page to read when a formula is in doubt. It trades speed
and memory for being obvious (the ``[B, S]`` logits are stored whole, unique sampling walks one draw at a
time) and shares no code with the compiled library.

Shape letters: B examples, D width, V classes, S sampled classes, T true classes per example.

The semantics are those of TensorFlow 2.21: ``tf.nn.nce_loss``, ``tf.random.log_uniform_candidate_sampler``
(kernels ``range_sampler.cc`` and ``candidate_sampler_ops.cc``) and ``tf.nn.compute_accidental_hits``, with
two departures: every duplicate of an accidental hit counts, and samplers of 2**21 ids or more do not repeat
themselves.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce._types import Grads, RowGrads, SampledValues

Floats: TypeAlias = NDArray[np.float64]
Floats32: TypeAlias = NDArray[np.float32]
Ids: TypeAlias = NDArray[np.int64]
Words: TypeAlias = NDArray[np.uint64]
"""32-bit words, held in uint64 so that a product of two of them is exact."""
Table: TypeAlias = ArrayLike | Sequence[ArrayLike]
"""One ``[V, D]`` (or ``[V]``) array, or a list or tuple of shards of it."""
Seed: TypeAlias = int | tuple[int, int] | None

DEFAULT_GRAPH_SEED = 87654321
"""The graph-level seed that TensorFlow assumes when only an op-level seed is given."""
WORD = 2**32 - 1
PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
WORDS_RESERVED_PER_SAMPLE = 2048
FLT_MAX = float(np.finfo(np.float32).max)


# ---- random numbers ----------------------------------------------------------------------------------------


def seed_pair(seed: Seed) -> tuple[int, int]:
    """The two unsigned 64-bit op attributes ``(seed, seed2)`` that a seed argument stands for.

    A pair is taken as it is (modulo 2**64); an int ``s`` is TensorFlow's op seed ``(87654321, s mod (2**31 -
    1))``; ``None``, and the pair ``(0, 0)``, are fresh entropy. Source:
    ``tensorflow/python/framework/random_seed.py``.
    """
    if isinstance(seed, int):
        return DEFAULT_GRAPH_SEED, seed % (2**31 - 1)
    if seed is None or tuple(seed) == (0, 0):
        return secrets.randbits(64), secrets.randbits(64)
    return seed[0] % 2**64, seed[1] % 2**64


def philox4x32(counter: Sequence[ArrayLike], key: tuple[int, int]) -> tuple[Words, Words, Words, Words]:
    """Philox 4x32-10 of four counter words and two key words; the words of ``counter`` may be arrays.

    One round: ``(c0, c1, c2, c3) -> (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0))``, ten
    times, with the key stepped between rounds. Source: Salmon et al., "Parallel random numbers: as easy as 1,
    2, 3" (2011).
    """
    c0, c1, c2, c3 = (np.atleast_1d(np.asarray(word, np.uint64)) for word in counter)
    low, half = np.uint64(WORD), np.uint64(32)
    for turn in range(10):
        k0, k1 = (np.uint64((k + turn * step) & WORD) for k, step in zip(key, PHILOX_KEY_STEPS, strict=True))
        p0, p1 = c0 * np.uint64(PHILOX_MULTIPLIERS[0]), c2 * np.uint64(PHILOX_MULTIPLIERS[1])
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & low, (p0 >> half) ^ c3 ^ k1, p0 & low
    return c0, c1, c2, c3


def skip(counter: int, blocks: int) -> int:
    """The 128-bit ``counter`` after TensorFlow's ``PhiloxRandom::Skip`` of a uint64 number of blocks.

    Word by word as there: where the carry out of word 0 wraps the upper half of ``blocks`` from 2**32 - 1 to
    0, the carry into word 2 is lost. That happens only with the negative counts of :func:`stream_start`.
    """
    low, high = blocks & WORD, blocks >> 32
    c0, c1, c23 = counter & WORD, counter >> 32 & WORD, counter >> 64
    c0 = (c0 + low) & WORD
    high = (high + (c0 < low)) & WORD
    c1 = (c1 + high) & WORD
    c23 = (c23 + (c1 < high)) % 2**64
    return c23 << 64 | c1 << 32 | c0


def stream_start(seed2: int, call: int, num_sampled: int) -> int:
    """The 128-bit counter at which call number ``call`` (from 0) of one sampler begins to draw.

    TensorFlow reserves ``2048 S`` words, hence ``512 S`` blocks, per call: ``seed2 * 2**64 + 512 S call``.
    Its product is an int32, so for 2**20 <= S < 2**21 it is negative and the counter steps back; that is
    reproduced. For S >= 2**21 (where TensorFlow would repeat itself at multiples of 2**21) the exact product
    is used.
    """
    if not 2**20 <= num_sampled < 2**21:
        return ((seed2 % 2**64 << 64) + 512 * num_sampled * call) % 2**128
    wrapped_words = WORDS_RESERVED_PER_SAMPLE * num_sampled - 2**32
    blocks = -(-(wrapped_words + 3) // 4)  # C++ division rounds towards zero
    counter = seed2 % 2**64 << 64
    for _ in range(call):
        counter = skip(counter, blocks % 2**64)
    return counter


def log_uniform_draws(seed: int, seed2: int, call: int, num_sampled: int, range_max: int, count: int) -> Ids:
    """The first ``count`` draws (before any rejection) of call number ``call``, as int64 ``[count]``.

    Draw i takes words ``2 (i mod 2)`` and the next of Philox block ``i div 2``, the first word giving the
    high bits of ``u = ((w0 mod 2**20) 2**32 + w1) / 2**52`` in [0, 1), and is ``k = floor(exp(u log(V + 1)))
    - 1 (mod V)``, the inverse of the distribution function ``log(k + 2) / log(V + 1)``. ``math.exp`` is the C
    library's, as in TensorFlow.
    """
    start = stream_start(seed2, call, num_sampled)
    block = np.arange((count + 1) // 2, dtype=np.uint64)
    low = np.uint64(start % 2**64) + block
    high = np.uint64(start >> 64) + (low < block).astype(np.uint64)
    key = (seed & WORD, seed >> 32 & WORD)
    words = np.stack(philox4x32((low & WORD, low >> 32, high & WORD, high >> 32), key), axis=1).reshape(-1, 2)
    u = ((words[:count, 0] & 0xFFFFF) << 32 | words[:count, 1]).astype(np.float64) * 2.0**-52
    log_range = math.log1p(range_max)
    return np.array([(int(math.exp(x)) - 1) % range_max for x in (u * log_range).tolist()], np.int64)


# ---- candidate sampling ------------------------------------------------------------------------------------


def log_uniform_probability(ids: ArrayLike, range_max: int) -> Floats32:
    """``p(k) = log((k + 2) / (k + 1)) / log(V + 1)``, rounded once to float32; the shape of ``ids``."""
    k = np.asarray(ids, np.int64).astype(np.float64)
    return (np.log((k + 2.0) / (k + 1.0)) / math.log1p(range_max)).astype(np.float32)


def expected_count(p: Floats32, num_sampled: int, tries: int) -> Floats32:
    """How often a class of probability ``p`` is expected among the samples; same shape as ``p``.

    ``S p`` where every draw was kept (``tries == S``: may exceed 1), else ``1 - (1 - p)**tries``.
    TensorFlow's float32 ``p``, ``float32(S)`` and ``float32(tries)`` are part of the definition; its float32
    ``log1p`` and ``expm1`` are not, and this float64 evaluation differs from them by at most 2 ulp.
    """
    if tries == num_sampled:
        return p * np.float32(num_sampled)
    with np.errstate(divide="ignore"):  # p = 1 has log 0: expected count 1
        return (-np.expm1(float(np.float32(tries)) * np.log1p(-p.astype(np.float64)))).astype(np.float32)


def log_uniform_candidate_sampler(
    true_classes: ArrayLike,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: Seed,
    call: int = 0,
) -> SampledValues:
    """Call number ``call`` (from 0) of a sampler: ids ``[S]``, expected counts ``[B, T]`` and ``[S]``.

    With ``unique`` the draws are walked in order and first occurrences kept; ``tries`` is the number of draws
    walked.
    """
    first, second = seed_pair(seed)
    tries = count = num_sampled
    ids = log_uniform_draws(first, second, call, num_sampled, range_max, count)
    if unique:
        while len(set(ids.tolist())) < num_sampled:
            count *= 2
            ids = log_uniform_draws(first, second, call, num_sampled, range_max, count)
        kept: dict[int, None] = {}
        tries = 0
        while len(kept) < num_sampled:
            kept[int(ids[tries])] = None
            tries += 1
        ids = np.fromiter(kept, np.int64, num_sampled)
    labels = np.asarray(true_classes, np.int64).reshape(-1, num_true)
    true_count, sampled_count = (
        expected_count(log_uniform_probability(k, range_max), num_sampled, tries) for k in (labels, ids)
    )
    return SampledValues(ids, true_count, sampled_count)


def compute_accidental_hits(
    true_classes: ArrayLike, sampled_candidates: ArrayLike, num_true: int
) -> tuple[NDArray[np.int32], Ids, Floats32]:
    """Where sampled ids ``[S]`` are true classes ``[B, T]`` of a row: rows, positions, weights, each ``[H]``.

    Row-major over (row, true column), and within it every position of the id in ascending order. (TensorFlow
    keeps the last position only.) All weights are ``-FLT_MAX``.
    """
    labels = np.asarray(true_classes, np.int64).reshape(-1, num_true) if num_true else np.empty((0, 0))
    sampled = np.asarray(sampled_candidates, np.int64)
    rows: list[int] = []
    positions: list[int] = []
    for row, classes in enumerate(labels):
        for k in classes:
            found = np.flatnonzero(sampled == k).tolist()
            rows += [row] * len(found)
            positions += found
    return np.array(rows, np.int32), np.array(positions, np.int64), np.full(len(rows), -FLT_MAX, np.float32)


# ---- loss and gradients ------------------------------------------------------------------------------------


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
