"""fastnce.torch with true classes as lists, nested tensors, weights of labels, excluded classes, groups of candidates."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import fastnce
from cases import EVERYTHING, Case, assert_matches_twin, targets_and_negatives
from fastnce import Ragged
from losses import EVERY_LOSS
from tolerances import Results

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastnce.torch  # noqa: E402
from fastnce.torch._schema import arguments_of, fields_of  # noqa: E402
from torch_cases import CLASSES, SAMPLED, assert_equal, call_of, given, leaves, module, step, tensor_of  # noqa: E402

# PyTorch's own use of what it has deprecated; its nested tensors, under inductor.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:NestedTensor does not implement:UserWarning"),
]

EVERY = pytest.mark.parametrize("loss", [loss.name for loss in EVERY_LOSS])
REDUCTION = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
LISTS = [[1, 2], [], [3, 3, 4], [-100], [5, -100], [6], []]
HAVE_A_CLASS = torch.tensor([True, False, True, False, True, True, False])
UNWANTED = [list(range(20)), [], [7], list(range(CLASSES)), [], [0, 0, 1], list(range(0, CLASSES, 2))]


@pytest.fixture(autouse=True)
def forget_graphs():
    torch.compiler.reset()


def nested(lists, dtype=torch.int64):
    return torch.nested.nested_tensor([torch.tensor(own, dtype=dtype) for own in lists], layout=torch.jagged)


def ragged(lists):
    values, offsets = sum(lists, []), np.cumsum([0, *map(len, lists)])
    return Ragged(torch.tensor(values, dtype=torch.int64), torch.from_numpy(offsets))


def hidden(size=len(LISTS)):
    return torch.randn(size, 6, generator=torch.Generator().manual_seed(1)).requires_grad_()


def solution(losses, tensors):
    """Row ids and results in the order of the twin's."""
    x, weight, bias = tensors
    biases = None if bias is None else bias.grad.values().numpy()
    ids = weight.grad.indices()[0].numpy()
    return ids, Results(losses.detach().numpy(), x.grad.numpy(), weight.grad.values().numpy(), biases)


@pytest.mark.parametrize("case", targets_and_negatives(8, dim=5), ids=str)
def test_values_and_gradients_are_the_twins_for_any_upstream_factors(case):
    problem = case.problem()
    factors = np.random.default_rng(case.seed).normal(size=case.batch).astype(case.dtype)
    problem.options["grad_loss"] = factors
    tensors = leaves(problem)
    losses = call_of(problem, tensors, reduction="none")
    losses.backward(torch.from_numpy(factors))
    assert_matches_twin(solution(losses, tensors), problem)


@EVERY
@REDUCTION
def test_gradcheck(loss, reduction):
    problem = Case(batch=5, dim=3, sampled=4, dtype="float64", loss=loss, **EVERYTHING).problem()
    factors = torch.rand(5, dtype=torch.float64, requires_grad=True)

    def function(x, weight, bias, example_weight):
        return call_of(problem, (x, weight, bias), example_weight=example_weight, reduction=reduction, sparse=False)

    assert torch.autograd.gradcheck(function, [*leaves(problem), factors], fast_mode=True)
