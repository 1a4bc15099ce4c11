"""Mistakes that type checkers report, each with the code of mypy's error. Read by mypy only: tests/test_typing.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

import fastnce

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


def losses(w: Float32, c: Float32, x: Float32, y: Int64) -> None:
    fastnce.nce_loss(w, c, y, "x", 64, 50_000)  # error: call-overload
    fastnce.nce_loss(w, c, y, [[0.5, 0.5]], 64, 50_000)  # error: call-overload
    fastnce.nce_loss("w", c, y, x, 64, 50_000)  # error: arg-type
    fastnce.nce_loss(["w"], c, y, x, 64, 50_000)  # error: list-item
    fastnce.nce_loss(w, 0.5, y, x, 64, 50_000)  # error: call-overload
    fastnce.nce_loss(w, c, "y", x, 64, 50_000)  # error: arg-type
    fastnce.nce_loss(w, c, [0.5], x, 64, 50_000)  # error: list-item
    fastnce.nce_loss(w, c, y, x, 64.0, 50_000)  # error: call-overload
    fastnce.nce_loss(w, c, y, x, 64)  # error: call-overload
    fastnce.nce_loss(w, c, y, x, 64, 50_000, sampled_values=(y, c))  # error: arg-type
    fastnce.nce_loss(w, c, y, x, 64, 50_000, remove_accidental_hits="no")  # error: call-overload
    fastnce.nce_loss(w, c, y, x, 64, 50_000, precision="hihg")  # error: call-overload
    fastnce.nce_loss(w, c, y, x, 64, 50_000, partition_strategy="round")  # error: call-overload
    fastnce.nce_loss(w, c, y, x, 64, 50_000, seed=0.5)  # error: call-overload
    fastnce.nce_loss(w, c, y, x, 64, 50_000, grad_loss=1.0)  # error: call-overload
    fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000, grad_dtype="float64")  # error: call-overload
    fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000, grad_loss="mean")  # error: arg-type


def results(w: Float32, c: Float32, x: Float32, y: Int64) -> None:
    loss, grads = fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000)
    loss.backward()  # error: attr-defined
    print(grads.weights)  # error: attr-defined
    x = grads.rows.ids  # error: assignment
    fastnce.nce_loss(w, c, y, x, 64, 50_000, sampled_values=grads)  # error: arg-type


def samplers(y: Int64) -> None:
    fastnce.log_uniform_candidate_sampler(y, 1, 64, "yes", 50_000)  # error: call-overload
    fastnce.log_uniform_candidate_sampler([0.5], 1, 64, True, 50_000)  # error: list-item
    fastnce.LogUniformSampler(50_000, 64, seed="7")  # error: arg-type
    fastnce.LogUniformSampler(50_000, 64).state = (1, 2)  # error: assignment
    fastnce.LearnedUnigramSampler(50_000, 64).state = (1, 2, 3)  # error: assignment
    fastnce.UnigramSampler(None, 64)  # error: arg-type
    fastnce.fixed_unigram_candidate_sampler(y, 1, 64, True, 50_000, vocab_file=3)  # error: call-overload
    fastnce.UniformSampler(50_000, 64, power=0.75)  # error: call-arg
    fastnce.LogUniformSampler(50_000, 64)("y")  # error: arg-type
    fastnce.LogUniformSampler(50_000, 64)(y, exclude=[[1], [2]])  # error: call-overload
    fastnce.compute_accidental_hits(y, "y", 1)  # error: arg-type


def settings() -> None:
    fastnce.set_precision("low")  # error: arg-type
    fastnce.set_num_threads("2")  # error: arg-type
    if fastnce.get_precision() == "hihg":  # error: comparison-overlap
        pass
