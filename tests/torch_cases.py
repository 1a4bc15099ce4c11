"""What the tests of fastnce.torch share: a small module, a batch for it, a step, problems as tensors."""

from __future__ import annotations

import torch

import fastnce
import fastnce.torch

CLASSES, WIDTH, SAMPLED, BATCH = 40, 6, 5, 7


def module(seed=7, **options):
    """A small module whose parameters do not depend on the test."""
    torch.manual_seed(0)
    return fastnce.torch.NCELoss(CLASSES, WIDTH, SAMPLED, seed=seed, **options)


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
    """Input, weight and bias of a problem, each with a gradient to come."""
    arrays = (problem.inputs, problem.weights, problem.biases)
    return [torch.tensor(array).requires_grad_() for array in arrays]


def given(problem, labels=None):
    """Target, and the samples as the losses take them."""
    ids, *counts = problem.sampled_values
    target = torch.from_numpy(problem.labels if labels is None else labels)
    return target, fastnce.SampledValues(torch.from_numpy(ids), *map(torch.from_numpy, counts))
