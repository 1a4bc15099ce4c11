"""CUDA graphs and streams, with PyTorch on a real device: calls do not wait, and streams do not disturb each other."""

from __future__ import annotations

import functools
import gc

import numpy as np
import pytest

import cuda_arrays
import fastnce
from cases import Case, assert_matches_twin
from tolerances import Results

pytestmark = pytest.mark.cuda

PROBLEM = Case(batch=70, dim=65, sampled=130, num_true=2, remove_hits=True).problem()


@pytest.fixture
def torch():
    if reason := "needs a real device" if cuda_arrays.EMULATED else cuda_arrays.why_not("torch"):
        pytest.skip(reason)
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def put(arguments):
    return cuda_arrays.CudaArrays("torch").put_all(arguments)


def as_solution(loss, grads):
    results = (loss, grads.inputs, grads.rows.weights, grads.rows.biases)
    return grads.rows.ids.cpu().numpy(), Results(*(array.cpu().numpy() for array in results))


def captured(torch, call):
    """A graph of the call and what it fills, after a few calls on another stream as PyTorch asks for."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    return graph, results


def test_loss_and_gradients_are_captured_and_replayed_on_new_numbers(torch):
    arguments = put(PROBLEM.arguments())
    graph, (loss, grads) = captured(torch, lambda: fastnce.nce_loss_and_grad(**arguments, pad_rows=True))
    for seed in (1, 2):
        other = Case(batch=70, dim=65, sampled=130, num_true=2, remove_hits=True, seed=seed).problem()
        for name in ("weights", "biases", "labels", "inputs"):
            arguments[name].copy_(torch.from_numpy(getattr(other, name)))
        for array, values in zip(arguments["sampled_values"], other.sampled_values, strict=True):
            array.copy_(torch.from_numpy(values))
        for result in (loss, grads.inputs, grads.rows.weights, grads.rows.biases):
            result.fill_(torch.nan)
        graph.replay()
        torch.cuda.synchronize()
        ids, results = as_solution(loss, grads)
        used = len(np.unique(ids))
        trimmed = results._replace(weights=results.weights[:used], biases=results.biases[:used])
        assert_matches_twin((ids[:used], trimmed), other)
        assert not results.weights[used:].any() and not results.biases[used:].any()


def test_replays_draw_fresh_ids(torch):
    labels = torch.zeros((4, 1), dtype=torch.int64, device="cuda")
    sampler = fastnce.LogUniformSampler(10_000, 50, seed=(3, 4))
    graph, values = captured(torch, lambda: sampler(labels))
    calls = sampler.state.calls
    on_cpu = fastnce.LogUniformSampler(10_000, 50, seed=(3, 4))
    on_cpu.state = sampler.state
    for _ in range(3):
        graph.replay()
        expected = on_cpu(np.zeros((4, 1), np.int64))
        np.testing.assert_array_equal(values.sampled_candidates.cpu().numpy(), expected.sampled_candidates)
    assert sampler.state.calls == calls + 3
    sampler.state = (3, 4, 0)
    graph.replay()
    first = fastnce.log_uniform_candidate_sampler(np.zeros((4, 1), np.int64), 1, 50, True, 10_000, seed=(3, 4))
    np.testing.assert_array_equal(values.sampled_candidates.cpu().numpy(), first.sampled_candidates)


def test_a_graph_may_outlive_its_sampler(torch):
    labels = torch.zeros((4, 1), dtype=torch.int64, device="cuda")
    sampler = fastnce.LogUniformSampler(10_000, 50, seed=(3, 4))
    graph, values = captured(torch, functools.partial(sampler, labels))
    on_cpu = fastnce.LogUniformSampler(10_000, 50, seed=(3, 4))
    on_cpu.state = sampler.state
    del sampler
    gc.collect()
    others = [torch.full((64,), 2**40, dtype=torch.int64, device="cuda") for _ in range(1000)]
    for _ in range(3):
        graph.replay()
        expected = on_cpu(np.zeros((4, 1), np.int64))
        np.testing.assert_array_equal(values.sampled_candidates.cpu().numpy(), expected.sampled_candidates)
    assert all((other == 2**40).all() for other in others)


@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")  # as the call is refused
def test_a_sampler_is_not_used_first_in_a_capture(torch):
    labels = torch.zeros((4, 1), dtype=torch.int64, device="cuda")
    sampler = fastnce.LogUniformSampler(10_000, 50, seed=1)
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(ValueError, match="captured in a CUDA graph: expected one before"), torch.cuda.graph(graph):
        sampler(labels)


def test_without_padding_a_capture_is_refused(torch):
    arguments = put(PROBLEM.arguments())
    fastnce.nce_loss_and_grad(**arguments)
    graph = torch.cuda.CUDAGraph()
    with pytest.raises((ValueError, RuntimeError)), torch.cuda.graph(graph):
        fastnce.nce_loss_and_grad(**arguments)


def test_two_streams_at_once_give_the_results_of_each_alone(torch):
    problems = [Case(batch=300, dim=130, sampled=500, num_true=2, seed=seed).problem() for seed in (0, 1)]
    arguments = [put(problem.arguments()) for problem in problems]
    alone = [as_solution(*fastnce.nce_loss_and_grad(**each)) for each in arguments]
    streams = [torch.cuda.Stream() for _ in problems]
    torch.cuda.synchronize()
    results = []
    for _ in range(10):
        for stream, each in zip(streams, arguments, strict=True):
            with torch.cuda.stream(stream):
                results.append(fastnce.nce_loss_and_grad(**each, pad_rows=True))
    torch.cuda.synchronize()
    for i, (loss, grads) in enumerate(results):
        ids, expected = alone[i % 2]
        got_ids, got = as_solution(loss, grads)
        np.testing.assert_array_equal(got_ids[: len(ids)], ids)
        for name in Results._fields:
            wanted = getattr(expected, name)
            np.testing.assert_array_equal(getattr(got, name)[: len(wanted)], wanted)


def test_tensors_that_require_gradients_are_to_be_detached(torch):
    arguments = put(PROBLEM.arguments())
    arguments["weights"].requires_grad_()
    with pytest.raises(
        ValueError, match=r"weights requires a gradient, .* use fastnce.torch, or pass weights.detach\(\)"
    ):
        fastnce.nce_loss(**arguments)
