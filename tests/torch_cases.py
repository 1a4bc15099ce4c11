"""What the tests of fastnce.torch share: a small module, a batch for it, a step, problems as tensors."""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.distributed as dist
from torch import multiprocessing

import fastnce
import fastnce.torch

CLASSES, WIDTH, SAMPLED, BATCH = 40, 6, 5, 7


def module(seed=7, loss="NCELoss", **options):
    """A small module whose parameters do not depend on the test."""
    torch.manual_seed(0)
    return getattr(fastnce.torch, loss)(CLASSES, WIDTH, SAMPLED, seed=seed, **options)


def batch(size=BATCH):
    """Input, which is a leaf, and target."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, WIDTH, generator=generator).requires_grad_()
    return x, torch.randint(CLASSES, (size,), generator=generator)


def step(loss, criterion, x):
    """The loss and what ``backward`` leaves, dense; leaves no gradient behind."""
    loss.backward()
    tensors = (criterion.weight, criterion.bias, x)
    result = [loss.detach(), *(tensor.grad.to_dense().clone() for tensor in tensors)]
    for tensor in tensors:
        tensor.grad = None
    return result


def assert_equal(first, second):
    """The same numbers, bit for bit."""
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)


def leaves(problem):
    """Input, weight and bias of a problem, each with a gradient to come; ``None`` for no biases."""
    arrays = (problem.inputs, problem.weights, problem.biases)
    return [None if array is None else torch.tensor(array).requires_grad_() for array in arrays]


def tensor_of(value):
    """An array as a tensor, lists as a ``Ragged`` of tensors, anything else as it is."""
    if isinstance(value, fastnce.Ragged):
        return fastnce.Ragged(*map(torch.from_numpy, value))
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def given(problem, labels=None):
    """Target, and the samples as the losses take them."""
    samples = map(tensor_of, problem.sampled_values)
    return tensor_of(problem.labels if labels is None else labels), fastnce.SampledValues(*samples)


def call_of(problem, tensors, target=None, **options):
    """The loss of a problem, whichever it is, of these tensors."""
    labels, samples = given(problem)
    own = {name: tensor_of(value) for name, value in problem.options.items()}
    own["ignore_index"] = own.pop("padding", None)
    own.pop("grad_loss", None)
    function = problem.loss.library(fastnce.torch, "")
    x, weight, bias = tensors
    samples = samples if problem.loss.takes_counts else samples[0]
    return function(x, labels if target is None else target, weight, bias, samples, **{**own, **options})


def train_in_two_processes(directory, options, share, steps):
    """The state of ``module(**options)`` after steps of SGD, each process on its ``share(rank)``: input and target."""
    results = directory / "state.pt"
    multiprocessing.spawn(_train_process, (directory / "store", results, options, share, steps), nprocs=2)
    return torch.load(results)


def _train_process(rank, store, results, options, share, steps):
    torch.set_num_threads(1)
    fastnce.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    criterion = module(**options)
    parallel = torch.nn.parallel.DistributedDataParallel(criterion)
    train(criterion, parallel, *share(rank), steps, learning_rate=0.5)
    if rank == 0:
        torch.save(criterion.state_dict(), results)
    dist.barrier()
    # Not by way of destroy_process_group: after gloo has summed up sparse gradients, those of nn.Embedding, too,
    # PyTorch 2.13 aborts now and then when it takes its threads down.
    os._exit(0)


def train(criterion, call, x, target, steps, learning_rate):
    """Steps of SGD on the parameters of ``criterion`` by the gradients of ``call``."""
    optimiser = torch.optim.SGD(criterion.parameters(), lr=learning_rate)
    for _ in range(steps):
        optimiser.zero_grad()
        call(x.detach(), target).backward()
        optimiser.step()


def assert_trained_alike(state, options, x, target, steps):
    """One process reaches the state of two at half their rate, since gradients are averaged over processes."""
    criterion = module(**options)
    train(criterion, criterion, x, target, steps, learning_rate=0.25)
    for name, value in criterion.state_dict().items():
        torch.testing.assert_close(state[name], value, msg=name)
