"""fastnce.torch's losses, each row of the table: the twin's numbers, in all idioms of PyTorch."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin
from losses import EVERY_LOSS
from tolerances import Results

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from torch_cases import (  # noqa: E402
    CLASSES,
    SAMPLED,
    assert_equal,
    batch,
    call_of,
    leaves,
    module,
)

# PyTorch's own use of what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

EVERY = pytest.mark.parametrize("loss", [loss.name for loss in EVERY_LOSS])
REDUCTION = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
MODULES = ("NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss")
OPTIONS = [
    {},
    {"remove_hits": True},
    {"no_biases": True},
    {"no_counts": True},
    {"padded": True, "num_true": 3},
    {"padded": True, "remove_hits": True, "no_biases": True, "dtype": "float64"},
    {"num_true": 3, "dtype": "float64"},
    {"batch": 65, "sampled": 129, "dim": 33, "remove_hits": True},
]


def solution(losses, tensors):
    """Row ids and results in the order of the twin's."""
    x, weight, bias = tensors
    assert weight.grad.is_coalesced()
    ids = weight.grad.indices()[0].numpy()
    biases = None
    if bias is not None:
        np.testing.assert_array_equal(bias.grad.indices()[0].numpy(), ids)
        biases = bias.grad.values().numpy()
    return ids, Results(losses.detach().numpy(), x.grad.numpy(), weight.grad.values().numpy(), biases)


@EVERY
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_values_and_gradients_are_the_twins_for_any_upstream_factors(loss, options):
    case = Case(loss=loss, **options)
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
    problem = Case(batch=4, dim=3, sampled=5, num_true=2, dtype="float64", loss=loss, padded=True).problem()
    factors = torch.rand(4, dtype=torch.float64, requires_grad=True)

    def function(x, weight, bias, example_weight):
        tensors = (x, weight, bias)
        return call_of(problem, tensors, example_weight=example_weight, reduction=reduction, sparse=False)

    assert torch.autograd.gradcheck(function, [*leaves(problem), factors])


@EVERY
@REDUCTION
@pytest.mark.parametrize("flat", [False, True], ids=["", "flat"])
def test_leading_axes_are_more_examples(loss, reduction, flat):
    problem = Case(batch=6, dim=5, sampled=7, num_true=1 if flat else 2, loss=loss, padded=True).problem()
    tensors, several = leaves(problem), leaves(problem)
    target = torch.from_numpy(problem.labels[:, 0] if flat else problem.labels)
    for name in ("positive_weight", "negative_weight"):
        if isinstance(problem.options.get(name), np.ndarray):
            del problem.options[name]  # their shape follows the examples: below
    factors = torch.linspace(0.5, 1.5, 6)
    expected = call_of(problem, tensors, target, example_weight=factors, reduction=reduction)
    x = several[0].detach().reshape(2, 3, 5).requires_grad_()
    ids, true_count, sampled_count = problem.sampled_values
    if true_count is not None:
        true_count = true_count.reshape(2, 3, *true_count.shape[1:])
    split = dataclasses.replace(problem, sampled_values=(ids, true_count, sampled_count))
    result = call_of(
        split,
        (x, *several[1:]),
        target.reshape(2, 3, *target.shape[1:]),
        example_weight=factors.reshape(2, 3),
        reduction=reduction,
    )
    assert result.shape == ((2, 3) if reduction == "none" else ())
    assert torch.equal(result.flatten(), expected.flatten())
    result.sum().backward()
    expected.sum().backward()
    assert torch.equal(x.grad.reshape(6, 5), tensors[0].grad)
    assert_equal([several[1].grad.to_dense()], [tensors[1].grad.to_dense()])


@EVERY
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("options", [{}, {"no_biases": True, "padded": True, "num_true": 2}], ids=str)
def test_a_compiled_loss_is_the_loss(loss, backend, options):
    torch.compiler.reset()
    problem = Case(loss=loss, **options).problem()
    tensors, compiled = leaves(problem), leaves(problem)
    expected = call_of(problem, tensors)
    expected.backward()
    result = torch.compile(lambda *tensors: call_of(problem, tensors), fullgraph=True, backend=backend)(*compiled)
    result.backward()
    assert torch.equal(result, expected)
    for one, other in zip(compiled, tensors, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            assert torch.equal(one.grad.to_dense(), other.grad.to_dense())


@pytest.mark.parametrize("name", ["positive_weight", "negative_weight"])
@pytest.mark.parametrize("mode", ["eager", "aot_eager"])
def test_a_weight_that_is_a_number_is_that_of_every_example(name, mode):
    problem = Case(loss="negative_sampling").problem()
    expected = call_of(problem, leaves(problem), **{name: torch.full((5,), 2.5)})

    def function(*tensors):
        return call_of(problem, tensors, **{name: 2.5})

    torch.compiler.reset()
    loss = function if mode == "eager" else torch.compile(function, fullgraph=True, backend=mode)
    assert torch.equal(loss(*leaves(problem)), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@EVERY
def test_tables_and_inputs_may_be_of_16_bits(loss, dtype):
    problem = Case(loss=loss).problem()
    wide = [tensor.detach().to(dtype).float().requires_grad_() for tensor in leaves(problem)]
    narrow = [tensor.detach().to(dtype).requires_grad_() for tensor in wide]
    expected = call_of(problem, wide)
    result = call_of(problem, narrow)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, expected)
    result.backward()
    expected.backward()
    for one, other in zip(narrow, wide, strict=True):
        assert one.grad.dtype == dtype
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense().to(dtype))


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("num_true", [1, 3])
def test_a_module_is_its_function_of_the_same_samples(name, bias, num_true):
    criterion = module(loss=name, bias=bias, num_true=num_true, seed=(3, 4), remove_accidental_hits=True)
    assert (criterion.bias is None) != bias
    generator = torch.Generator().manual_seed(1)
    function = {
        "NCELoss": fastnce.torch.nce_loss,
        "SampledSoftmaxLoss": fastnce.torch.sampled_softmax_loss,
        "NegativeSamplingLoss": fastnce.torch.negative_sampling_loss,
    }[name]
    for call in range(3):
        x = torch.randn(7, 6, generator=generator).requires_grad_()
        target = torch.randint(CLASSES, (7, num_true), generator=generator)
        samples = fastnce.torch.log_uniform_candidates(target, SAMPLED, CLASSES, seed=(3, 4), calls=call)
        given = samples[0] if name == "NegativeSamplingLoss" else samples
        tables = criterion.weight, criterion.bias
        expected = function(x, target, *tables, given, remove_accidental_hits=True)
        assert torch.equal(criterion(x, target), expected)
    assert criterion.calls == 3


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"sparse": False, "reduction": "none"}], ids=str)
def test_a_compiled_module_is_the_module(name, options):
    torch.compiler.reset()
    eager, criterion, (x, target) = module(loss=name, **options), module(loss=name, **options), batch()
    target[3] = -100
    compiled = torch.compile(criterion, fullgraph=True, backend="aot_eager")
    for _ in range(2):
        results = []
        for owner, call in ((eager, eager), (criterion, compiled)):
            owner.zero_grad()
            x.grad = None
            loss = call(x, target)
            loss.sum().backward()
            results.append([loss.detach(), x.grad, *(p.grad.to_dense() for p in owner.parameters())])
        assert_equal(*results)
    assert criterion.calls == 2


@pytest.mark.parametrize("name", MODULES)
def test_eval_changes_nothing(name):
    x, target = batch()
    assert torch.equal(module(loss=name).eval()(x, target), module(loss=name)(x, target))


def test_weights_of_a_module_are_those_of_the_function():
    criterion, (x, target) = module(loss="NegativeSamplingLoss", positive_weight=0.5, negative_weight=3), batch()
    samples = fastnce.torch.log_uniform_candidates(target, SAMPLED, CLASSES, seed=7)
    tables = criterion.weight, criterion.bias
    weights = {"positive_weight": 0.5, "negative_weight": 3.0}
    expected = fastnce.torch.negative_sampling_loss(x, target, *tables, samples[0], **weights)
    assert torch.equal(criterion(x, target), expected)
    assert repr(criterion).endswith("positive_weight=0.5, negative_weight=3.0)")


@pytest.mark.parametrize("name", MODULES[:2])
@pytest.mark.parametrize("bias", [True, False])
def test_log_prob_is_that_of_all_classes(name, bias):
    criterion, (x, target) = module(loss=name, bias=bias), batch()
    scores = x @ criterion.weight.T + (criterion.bias if bias else 0)
    log_prob = criterion.log_prob(x)
    assert log_prob.shape == (7, CLASSES)
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(7))
    torch.testing.assert_close(
        torch.nn.functional.nll_loss(log_prob, target), torch.nn.functional.cross_entropy(scores, target)
    )
    assert torch.equal(criterion.log_prob(x.reshape(1, 7, 6)), log_prob.reshape(1, 7, CLASSES))
    assert criterion.log_prob(x.bfloat16()).dtype == torch.float32


def test_a_new_table_is_nearly_normalised_where_the_loss_wants_it():
    biases = [module(loss=name).bias for name in MODULES]
    for bias, start in zip(biases, (-math.log(CLASSES), 0.0, 0.0), strict=True):
        assert torch.equal(bias, torch.full((CLASSES,), start))


def test_the_state_of_a_module_without_biases_has_none():
    state = module(bias=False).state_dict()
    assert sorted(state) == ["_extra_state", "calls", "weight"]
    other = module(seed=1, bias=False)
    other.load_state_dict(state)
    x, target = batch()
    assert torch.equal(other(x, target), module(bias=False)(x, target))
    x.grad = None
    other(x, target).backward()
    assert other.weight.grad.is_coalesced()


def test_steps_of_every_module_lower_its_loss():
    for name in MODULES:
        criterion, (x, target) = module(loss=name), batch()
        optimiser = torch.optim.SGD(criterion.parameters(), lr=0.5)
        losses = []
        for _ in range(30):
            optimiser.zero_grad()
            loss = criterion(x.detach(), target)
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        assert sum(losses[-5:]) < sum(losses[:5])
