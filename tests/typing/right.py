"""Code that type checkers accept, and the types that they find. Read by mypy only: tests/test_typing.py."""

from __future__ import annotations

from typing import Any, Literal, assert_type

import numpy as np
from numpy.typing import NDArray

import fastnce
from fastnce import Grads, RowGrads, SampledValues

Float16 = NDArray[np.float16]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Int64 = NDArray[np.int64]


class Tensor:
    """Any framework's, as far as types go."""

    def __dlpack__(self, *, stream: int | None = None, max_version: tuple[int, int] | None = None) -> object:
        return self

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0


class SparselyTypedTensor:
    """As JAX's stubs declare ``jax.Array``."""

    def __dlpack__(self) -> Any: ...


def numpy_arrays_give_numpy_arrays(w: Float32, c: Float32, x: Float32, y: Int64) -> None:
    assert_type(fastnce.nce_loss(w, c, y, x, 64, 50_000), Float32)
    loss, grads = fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000)
    assert_type(loss, Float32)
    assert_type(grads, Grads[Int64, Float32])
    assert_type(grads.rows, RowGrads[Int64, Float32])
    assert_type(grads.rows.ids, Int64)
    w[grads.rows.ids] -= 0.1 * grads.rows.weights
    c[grads.rows.ids] -= 0.1 * grads.rows.biases


def float64_arrays_give_float64_arrays(w: Float64, c: Float64, x: Float64, y: Int64) -> None:
    assert_type(fastnce.nce_loss(w, c, y, x, 64, 50_000), Float64)
    assert_type(fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000), tuple[Float64, Grads[Int64, Float64]])


def dtypes_are_inferred_from_expressions() -> None:
    rng = np.random.default_rng(0)
    w, c = rng.normal(0, 0.1, (50_000, 128)).astype(np.float32), np.zeros(50_000, np.float32)
    y = rng.integers(0, 1000, 256)
    loss = fastnce.nce_loss(w, c, y, rng.normal(0, 1, (256, 128)).astype(np.float32), 64, 50_000)
    assert_type(loss, Float32)
    assert_type(fastnce.nce_loss(w, c, y, np.zeros((256, 128), np.float32), 64, 50_000), Float32)


def losses_of_16_bit_inputs_are_float32(w: Float32, h: Float16, c: Float32, y: Int64) -> None:
    assert_type(fastnce.nce_loss(h, c, y, h, 64, 50_000), Float32)
    _, grads = fastnce.nce_loss_and_grad(w, c, y, h, 64, 50_000)
    assert_type(grads, Grads[Int64, NDArray[Any]])  # float32 and float16


def tensors_give_tensors(t: Tensor, other: SparselyTypedTensor, w: Float32, c: Float32, y: Int64) -> None:
    assert_type(fastnce.nce_loss(t, t, t, t, 64, 50_000), Tensor)
    assert_type(fastnce.nce_loss(w, c, y, other, 64, 50_000), SparselyTypedTensor)
    assert_type(fastnce.nce_loss_and_grad(t, t, t, t, 64, 50_000), tuple[Tensor, Grads[Tensor, Tensor]])
    assert_type(fastnce.nce_loss_and_grad(w, c, y, t, 64, 50_000)[1].rows.ids, Tensor)
    assert_type(fastnce.nce_loss_and_grad(t, t, t, w, 64, 50_000)[1].rows.ids, Int64)


def samplers(y: Int64, t: Tensor) -> None:
    samples = fastnce.log_uniform_candidate_sampler(y, 1, 64, True, 50_000, seed=(3, 4))
    assert_type(samples, SampledValues[Int64, Float32])
    assert_type(fastnce.log_uniform_candidate_sampler([[1], [2]], 1, 64, True, 50_000).sampled_candidates, Int64)
    assert_type(fastnce.log_uniform_candidate_sampler(t, 1, 64, True, 50_000), SampledValues[Tensor, Tensor])
    sampler = fastnce.LogUniformSampler(50_000, 64, seed=7)
    assert_type(sampler(y), SampledValues[Int64, Float32])
    assert_type(sampler(t).true_expected_count, Tensor)
    sampler.state = sampler.state
    lists = fastnce.Ragged(y, y)
    assert_type(sampler(y, num_groups=np.int64(8), exclude=lists), SampledValues[Int64, Float32])
    sampler(lists, num_groups=8)  # of any: mypy sees an array of any shape in both overloads
    assert_type(sampler(fastnce.Ragged(t, t), num_groups=8), SampledValues[Tensor, Tensor])
    assert_type(fastnce.MixedSampler([(sampler, 64)])(t, num_groups=8), SampledValues[Tensor, Tensor])
    assert_type(fastnce.uniform_candidate_sampler(y, 1, 64, True, 50_000), SampledValues[Int64, Float32])
    assert_type(fastnce.learned_unigram_candidate_sampler(t, 1, 64, True, 50_000), SampledValues[Tensor, Tensor])
    assert_type(fastnce.all_candidate_sampler(y, 1, 64, True), SampledValues[Int64, Float32])
    fixed = fastnce.fixed_unigram_candidate_sampler(y, 1, 64, True, 50_000, "words.csv", 0.75, num_reserved_ids=2)
    assert_type(fixed, SampledValues[Int64, Float32])
    assert_type(fastnce.UniformSampler(50_000, 64, seed=7)(t), SampledValues[Tensor, Tensor])
    unigram = fastnce.UnigramSampler.from_counts(np.arange(50_000), 64, power=0.75)
    assert_type(fastnce.UnigramSampler("words.csv", 64, distortion=0.75)(y).sampled_candidates, Int64)
    assert_type(unigram.weights, Float32)
    learned = fastnce.LearnedUnigramSampler(50_000, 64, num_true=2)
    assert_type(learned.state, fastnce.LearnedSamplerState)
    learned.state = learned.state
    assert_type(fastnce.compute_accidental_hits(y, [5, 6], 1), tuple[NDArray[np.int32], Int64, Float32])
    assert_type(fastnce.compute_accidental_hits(t, t, 1), tuple[Tensor, Tensor, Tensor])


def arguments_in_all_their_forms(w: Float32, c: Float32, x: Float32, y: Int64, t: Tensor) -> None:
    sampler = fastnce.LogUniformSampler(50_000, 64)
    fastnce.nce_loss([w, w], [c, c], y, x, 64, 50_000, partition_strategy="mod")
    fastnce.nce_loss((w, t), c, [1, 2], x, np.int64(64), 50_000, sampled_values=sampler(y))
    fastnce.nce_loss(w, c, [[1, 2], [3, 4]], x, 3, 50_000, 2, ([1, 2, 3], [[0.1, 0.2]], np.float32(0.5)))
    fastnce.nce_loss(w, c, y, x, 64, 50_000, sampled_values=[y, c, 0.5])
    samples = list(sampler(y))
    fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000, sampled_values=samples)
    fastnce.nce_loss(w, c, y, x, 64, 50_000, 1, None, True, "ignored", seed=5, precision="medium")
    fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000, grad_loss=1 / 256, grad_dtype="float32", pad_rows=True)
    fastnce.nce_loss_and_grad(w, c, y, x, 64, 50_000, grad_loss=np.ones(256))


def settings() -> None:
    fastnce.set_precision("high")
    assert_type(fastnce.get_precision(), Literal["highest", "high", "medium"])
    fastnce.set_precision(fastnce.get_precision())
    fastnce.set_num_threads(2)


def annotations_may_leave_out_parameters(grads: Grads, samples: SampledValues) -> RowGrads:
    return grads.rows
