"""How accurate a float32 result can be: a plain float32 evaluation of every loss, and the size of its terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastnce import reference
from fastnce.reference._targets import Targets, are_listed
from tolerances import Results

if TYPE_CHECKING:
    from cases import Problem

Array: TypeAlias = NDArray[np.floating[Any]]


class _Pair(NamedTuple):
    """The same quantity of the true classes, ``[B, T]`` or ``[B, T, D]``, and of the sampled ones: ``[B, S]``; rows and
    biases are those of the candidates, ``[G, S, D]`` and ``[G, S]``."""

    true: Array
    sampled: Array


class _Terms(NamedTuple):
    """A problem's operands in one dtype, dense."""

    softmax: bool
    x: Array
    w: _Pair
    c: _Pair
    log_q: _Pair
    used: _Pair
    """0 for padded labels, removed samples and the samples of examples without labels, else 1."""
    target: Array
    """``[B, T]``; 0 for padded labels. Of a softmax with the labels' weights."""
    weight: _Pair
    """a with the labels' weights ``[B, T]``, and m ``[B, 1]``."""
    upstream: Array
    classes: NDArray[np.int64]
    """Labels, then candidates."""

    @classmethod
    def of(cls, problem: Problem, dtype: type[np.floating[Any]]) -> _Terms:
        options = problem.twin_options()
        softmax = options["family"] == "softmax"
        ids, true_count, sampled_count = problem.sampled_values
        targets = Targets(problem.labels, options.get("padding"))
        is_true, y = targets.is_true, np.where(targets.is_true, targets.ids, 0)
        z = np.atleast_2d(ids)
        candidates = np.repeat(z, problem.batch // len(z), axis=0)
        hits = targets.are_labels(candidates) & options["remove_accidental_hits"]
        negative = targets.has_labels & ~(hits | are_listed(candidates, options.get("exclude")))
        r, h = (array.astype(dtype) for array in targets.shares(options["true_target"], options.get("label_weights")))
        w = np.asarray(problem.weights, dtype)
        c = np.zeros(len(w), dtype) if problem.biases is None else np.asarray(problem.biases, dtype)
        with np.errstate(divide="ignore", invalid="ignore"):  # of padded labels
            true_log_q, sampled_log_q = (
                np.log(np.asarray(1.0 if count is None else count, dtype)) for count in (true_count, sampled_count)
            )
        names = ("positive_weight", "negative_weight", "grad_loss")
        a, m, upstream = (_column(options.get(name, 1.0), len(y)).astype(dtype) for name in names)
        return cls(
            softmax,
            np.asarray(problem.inputs, dtype),
            _Pair(w[y], w[z]),
            _Pair(c[y], c[z]),
            _Pair(
                np.where(is_true, targets.spread(true_log_q), dtype(0)),
                np.repeat(np.broadcast_to(sampled_log_q, z.shape), problem.batch // len(z), axis=0),
            ),
            _Pair(is_true.astype(dtype), negative.astype(dtype)),
            r * (h if softmax else is_true.astype(dtype)),
            _Pair(a * h, m),
            upstream,
            np.concatenate([targets.ids[is_true], z.ravel()]),
        )

    def affine(self) -> _Pair:
        """``x.w + c``."""
        sampled = self.by_group(self.x) @ self.w.sampled.transpose(0, 2, 1) + self.c.sampled[:, np.newaxis]
        true = np.vecdot(self.x[:, np.newaxis], self.w.true) + self.c.true
        return _Pair(true, sampled.reshape(self.used.sampled.shape))

    def by_group(self, array: Array) -> Array:
        """``[B, ...]`` as ``[G, B / G, ...]``."""
        groups = len(self.c.sampled)
        return array.reshape(groups, len(self.x) // groups, *array.shape[1:])

    def logits(self) -> _Pair:
        return _Pair(*(logit - log_q for logit, log_q in zip(self.affine(), self.log_q, strict=True)))

    def absolute(self) -> _Terms:
        w, c, log_q = (_Pair(*map(np.abs, pair)) for pair in (self.w, self.c, self.log_q))
        return self._replace(x=np.abs(self.x), w=w, c=c, log_q=log_q, upstream=np.abs(self.upstream))

    def backward(self, problem: Problem, derivatives: _Pair) -> tuple[Array, Array, Array | None]:
        """The sums over examples and classes behind dx, dw and dc."""
        du, dv = (d * used * self.upstream for d, used in zip(derivatives, self.used, strict=True))
        labelled = self.used.true > 0
        ids, row = np.unique(self.classes, return_inverse=True)
        dw, dc = np.zeros((len(ids), self.x.shape[1]), du.dtype), np.zeros(len(ids), du.dtype)
        dw_true = (du[:, :, np.newaxis] * self.x[:, np.newaxis])[labelled]
        grouped = self.by_group(dv)
        dw_sampled = grouped.transpose(0, 2, 1) @ self.by_group(self.x)
        np.add.at(dw, row, np.concatenate([dw_true, dw_sampled.reshape(self.c.sampled.size, dw.shape[1])]))
        np.add.at(dc, row, np.concatenate([du[labelled], grouped.sum(axis=1).ravel()]))
        dx = np.einsum("bt,btd->bd", du, self.w.true) + (grouped @ self.w.sampled).reshape(self.x.shape)
        return dx, dw, None if problem.biases is None else dc

    def probabilities(self, logits: _Pair) -> tuple[_Pair, Array]:
        """Softmax of what is left of the logits, and the log of its denominator ``[B, 1]``."""
        minus_infinity = self.x.dtype.type(-np.inf)
        left = [np.where(used > 0, logit, minus_infinity) for logit, used in zip(logits, self.used, strict=True)]
        joined = np.concatenate(left, axis=1)
        top = joined.max(axis=1, keepdims=True, initial=minus_infinity)
        top = np.where(np.isfinite(top), top, 0).astype(top.dtype)
        total = np.exp(joined - top).sum(axis=1, keepdims=True)
        log_total = top + np.log(np.where(total > 0, total, 1)).astype(top.dtype)
        p = np.exp(joined - log_total)
        return _Pair(p[:, : logits.true.shape[1]], p[:, logits.true.shape[1] :]), log_total


def _column(value: Any, batch: int) -> Array:
    """A number or ``[B]``, as ``[B, 1]``."""
    return np.broadcast_to(np.asarray(value), (batch,))[:, np.newaxis]


def naive_float32(problem: Problem) -> Results:
    """The formulas of the twin as a careful NumPy user would type them, every operation in float32."""
    terms = _Terms.of(problem, np.float32)
    u, v = logits = terms.logits()
    if terms.softmax:
        p, log_total = terms.probabilities(logits)
        loss = (terms.target * (log_total - u)).sum(axis=1)
        share = terms.target.sum(axis=1, keepdims=True)
        derivatives = _Pair(share * p.true - terms.target, share * p.sampled)
    else:
        a, m = terms.weight
        softplus_u, softplus_v = np.logaddexp(np.float32(0), u), np.logaddexp(np.float32(0), v)
        true_loss = a * (softplus_u * terms.used.true - u * terms.target)
        loss = true_loss.sum(axis=1) + (m * softplus_v * terms.used.sampled).sum(axis=1)
        derivatives = _Pair(a * (np.exp(u - softplus_u) - terms.target), m * np.exp(v - softplus_v))
    return Results(loss, *terms.backward(problem, derivatives))


def magnitude(problem: Problem) -> Results:
    """How large the terms are that make up each element: its rounding errors are a few epsilon times this.

    A logit l = x.w + c - log Q is uncertain by epsilon times L, the sum of its terms' magnitudes. That moves
    softplus(l) by sigmoid(l) L, and sigmoid(l) by sigmoid(l) (1 - sigmoid(l)) L; a log-sum-exp by sum p L, and a
    probability by p (L + sum p L). The sums carry it on.
    """
    terms = _Terms.of(problem, np.float64)
    absolute = terms.absolute()
    logits = terms.logits()
    size = _Pair(*(a + log_q for a, log_q in zip(absolute.affine(), absolute.log_q, strict=True)))
    target = terms.target
    if terms.softmax:
        p, log_total = terms.probabilities(logits)
        share = target.sum(axis=1, keepdims=True)
        moved = sum((part * s).sum(axis=1, keepdims=True) for part, s in zip(p, size, strict=True))
        lost = 1 + np.abs(log_total) + moved
        loss = (share * lost + (target * size.true).sum(axis=1, keepdims=True))[:, 0]
        derivatives = _Pair(share * p.true * (lost + size.true) + target, share * p.sampled * (lost + size.sampled))
    else:
        (u, v), (a, m) = logits, terms.weight
        p = _Pair(*map(reference.sigmoid, logits))
        true_loss = reference.softplus(u) + np.abs(u) * target + size.true * (p.true + target)
        sampled_loss = (reference.softplus(v) + size.sampled * p.sampled) * terms.used.sampled
        loss = (a * true_loss * terms.used.true).sum(axis=1) + (m * sampled_loss).sum(axis=1)
        derivatives = _Pair(
            a * (p.true + target + size.true * p.true * (1 - p.true)),
            m * (p.sampled + size.sampled * p.sampled * (1 - p.sampled)),
        )
    return Results(loss, *absolute.backward(problem, derivatives))
