"""fastnce.torch: values and gradients of the loss as a function and as a module."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import fastnce
from cases import Case, assert_matches_twin, shape_sweep
from fastnce import _core, reference
from tolerances import Results

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from torch_cases import assert_equal, batch, given, leaves, module, step  # noqa: E402

SPARSE = pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
REDUCTION = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])


def loss_of(problem, tensors, **options):
    target, sampled = given(problem)
    hits = problem.options["remove_accidental_hits"]
    x, weight, bias = tensors
    return fastnce.torch.nce_loss(x, target, weight, bias, sampled, remove_accidental_hits=hits, **options)


def rows_of(gradient):
    """``(ids, rows)`` of a table's gradient."""
    if gradient.layout == torch.sparse_coo:
        assert gradient.is_coalesced()
        return gradient.indices()[0].numpy(), gradient.values().numpy()
    ids = np.flatnonzero(np.abs(gradient.numpy()).reshape(len(gradient), -1).sum(1))
    return ids, gradient.numpy()[ids]


def solution(losses, tensors):
    """Row ids and results in the order of the twin's."""
    (ids, weights), (bias_ids, biases) = (rows_of(tensor.grad) for tensor in tensors[1:])
    np.testing.assert_array_equal(ids, bias_ids)
    return ids, Results(losses.detach().numpy(), tensors[0].grad.numpy(), weights, biases)


@pytest.mark.parametrize("case", shape_sweep("float32", 1) + shape_sweep("float64", 1)[::4], ids=str)
def test_gradients_are_the_twins_for_any_upstream_factors(case):
    problem = case.problem()
    factors = np.random.default_rng(case.seed).normal(size=case.batch).astype(case.dtype)
    problem.options["grad_loss"] = factors
    tensors = leaves(problem)
    losses = loss_of(problem, tensors, reduction="none")
    losses.backward(torch.from_numpy(factors))
    assert_matches_twin(solution(losses, tensors), problem)


@SPARSE
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_a_reduced_loss_has_the_gradients_of_its_definition(sparse, reduction, weighted, upstream):
    problem = Case(batch=6, dim=5, sampled=7, num_true=2, remove_hits=True).problem()
    generator = torch.Generator().manual_seed(3)
    example_weight = torch.rand(6, generator=generator) if weighted else None
    fused, defined = leaves(problem), leaves(problem)
    total = loss_of(problem, fused, example_weight=example_weight, reduction=reduction, sparse=sparse)
    losses = loss_of(problem, defined, reduction="none") * (1 if example_weight is None else example_weight)
    expected = losses.mean() if reduction == "mean" else losses.sum()
    torch.testing.assert_close(total, expected)
    (upstream * total).backward()
    (upstream * expected).backward()
    for one, other in zip(fused, defined, strict=True):
        torch.testing.assert_close(one.grad.to_dense(), other.grad.to_dense())
    assert fused[1].grad.layout == fused[2].grad.layout == (torch.sparse_coo if sparse else torch.strided)


@REDUCTION
@pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
def test_gradcheck(reduction, weighted):
    problem = Case(batch=4, dim=3, sampled=5, num_true=2, dtype="float64", remove_hits=True).problem()
    tensors = leaves(problem)
    if weighted:
        tensors.append(torch.rand(4, dtype=torch.float64, requires_grad=True))

    def loss(x, weight, bias, example_weight=None):
        options = {"example_weight": example_weight, "reduction": reduction, "sparse": False}
        return loss_of(problem, (x, weight, bias), **options)

    assert torch.autograd.gradcheck(loss, tensors)


@pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])
@REDUCTION
def test_only_what_requires_a_gradient_gets_one(reduction, sparse):
    problem = Case().problem()
    everything = leaves(problem)
    loss_of(problem, everything, reduction=reduction, sparse=sparse).sum().backward()
    for wanted in np.ndindex(2, 2, 2):
        tensors = leaves(problem)
        for tensor, want in zip(tensors, wanted, strict=True):
            tensor.requires_grad_(bool(want))
        loss = loss_of(problem, tensors, reduction=reduction, sparse=sparse).sum()
        assert loss.requires_grad == any(wanted)
        if any(wanted):
            loss.backward()
        for tensor, want, full in zip(tensors, wanted, everything, strict=True):
            assert (tensor.grad is not None) == bool(want)
            if want:
                assert torch.equal(tensor.grad.to_dense(), full.grad.to_dense())


def test_without_gradients_the_loss_is_the_same():
    problem = Case().problem()
    with torch.no_grad():
        quiet = loss_of(problem, leaves(problem))
    loss = loss_of(problem, leaves(problem))
    assert not quiet.requires_grad
    torch.testing.assert_close(quiet, loss.detach())


def test_a_second_backward_pass_needs_the_graph_retained_and_gives_the_same():
    problem = Case().problem()
    tensors = leaves(problem)
    loss = loss_of(problem, tensors)
    first = [g.to_dense() for g in torch.autograd.grad(loss, tensors, retain_graph=True)]
    second = [g.to_dense() for g in torch.autograd.grad(loss, tensors)]
    assert_equal(first, second)
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


TWICE = pytest.raises(RuntimeError, match="cannot differentiate twice")


@REDUCTION
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("leaf", [True, False], ids=["leaf", "inner"])
@pytest.mark.parametrize("of", [0, 1, 2])
def test_differentiating_twice_is_refused(of, leaf, sparse, reduction):
    """Also where another path leads from the gradient to the same tensor, and would give a wrong derivative."""
    problem = Case(dtype="float64").problem()
    own = leaves(problem)
    tensors = own if leaf else [tensor * 1 for tensor in own]
    loss = loss_of(problem, tensors, reduction=reduction, sparse=sparse).sum()
    (gradient,) = torch.autograd.grad(loss, [tensors[of]], create_graph=True)
    product = (gradient.to_dense() * tensors[of]).sum()
    for wanted in (own[of], tensors[of], own[0], tensors[0]):
        with TWICE:
            torch.autograd.grad(product, [wanted], retain_graph=True)
    with TWICE:
        product.backward()


def test_the_hessian_is_refused():
    problem = Case(dtype="float64").problem()
    x, weight, bias = leaves(problem)
    with TWICE:
        torch.autograd.functional.hessian(lambda x: loss_of(problem, (x, weight, bias)).sum(), x)


@REDUCTION
def test_first_derivatives_may_create_a_graph(reduction):
    problem = Case().problem()
    tensors = leaves(problem)
    expected = torch.autograd.grad(loss_of(problem, tensors, reduction=reduction).sum(), tensors)
    loss = loss_of(problem, tensors, reduction=reduction).sum()
    gradients = torch.autograd.grad(loss, tensors, create_graph=True)
    assert_equal([g.to_dense() for g in gradients], [g.to_dense() for g in expected])
    loss.backward()
    with TWICE:
        loss_of_again = loss_of(problem, tensors, reduction=reduction).sum()
        loss_of_again.backward(retain_graph=True)
        torch.autograd.grad(loss_of_again, tensors, create_graph=True)


def test_gradients_accumulate():
    criterion, (x, target) = module(), batch()
    parts = [step(criterion(x, target), criterion, x) for _ in range(2)]
    criterion = module()
    both = step(criterion(x, target) + criterion(x, target), criterion, x)
    for whole, first, second in zip(both, *parts, strict=True):
        torch.testing.assert_close(whole, first + second)


def test_no_reference_cycle_keeps_tensors_alive():
    gc.disable()
    try:
        criterion, (x, target) = module(), batch()
        loss = criterion(x * 1, target)
        node = weakref.ref(loss.grad_fn)
        loss.backward()
        del loss
        assert node() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("num_true", [1, 3])
def test_the_module_is_the_numpy_loss_of_the_same_stream(num_true):
    criterion = fastnce.torch.NCELoss(40, 6, 5, num_true=num_true, seed=(3, 4), remove_accidental_hits=True)
    sampler = fastnce.LogUniformSampler(40, 5, num_true=num_true, seed=(3, 4))
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        x = torch.randn(7, 6, generator=generator).requires_grad_()
        target = torch.randint(40, (7, num_true), generator=generator)
        expected, grads = fastnce.nce_loss_and_grad(
            criterion.weight.detach(),
            criterion.bias.detach(),
            target,
            x.detach(),
            5,
            40,
            num_true,
            sampler(target),
            True,
            grad_loss=np.full(7, 1 / 7, np.float32),
        )
        criterion.zero_grad()
        loss = criterion(x, target)
        loss.backward()
        torch.testing.assert_close(loss.detach(), expected.mean())
        assert_equal(
            [x.grad, criterion.weight.grad.indices()[0], criterion.weight.grad.values(), criterion.bias.grad.values()],
            [grads.inputs, *grads.rows],
        )


def test_a_flat_target_is_one_class_for_each_example():
    x, target = batch()
    assert torch.equal(module()(x, target), module()(x, target.unsqueeze(1)))


def test_the_bias_starts_where_probabilities_sum_to_one():
    criterion = fastnce.torch.NCELoss(1000, 8, 5)
    assert torch.equal(criterion.bias, torch.full((1000,), -np.log(1000)))
    x = torch.zeros(1, 8)
    normaliser = (x @ criterion.weight.T + criterion.bias).exp().sum()
    torch.testing.assert_close(normaliser, torch.tensor(1.0))
    assert criterion.weight.abs().max() <= 8**-0.5


def test_the_functional_sampler_draws_what_a_sampler_object_draws():
    sampler = fastnce.LogUniformSampler(1000, 20, seed=9)
    target = torch.arange(6)
    for call in range(3):
        expected = sampler(target)
        assert_equal(fastnce.torch.log_uniform_candidates(target, 20, 1000, seed=9, calls=call), expected)
        assert_equal(fastnce.torch.log_uniform_candidates(target, 20, 1000, seed=9, calls=torch.tensor(call)), expected)
    repeated = fastnce.torch.log_uniform_candidates(target, 2000, 1000, unique=False, seed=9)
    assert_equal(repeated, fastnce.log_uniform_candidate_sampler(target, 1, 2000, False, 1000, seed=9))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_gradients_have_the_dtype_of_their_tensors(dtype):
    x, target = batch()
    criterion = module(dtype=dtype)
    x = x.detach().to(dtype).requires_grad_()
    loss = criterion(x, target)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert x.grad.dtype == criterion.weight.grad.dtype == criterion.bias.grad.dtype == dtype


def test_inputs_may_be_of_less_precision_than_the_table():
    x, target = batch()
    criterion = module()
    (narrow,) = (x.detach().bfloat16().requires_grad_(),)
    loss = criterion(narrow, target)
    loss.backward()
    assert (narrow.grad.dtype, criterion.weight.grad.dtype) == (torch.bfloat16, torch.float32)
    assert torch.equal(loss, module()(narrow.detach().float(), target))


def test_precision_is_asked_for(monkeypatch):
    x, target = batch()
    asked = []
    compute = _core.compute_loss
    monkeypatch.setattr(_core, "compute_loss", lambda fields: asked.append(fields["precision"]) or compute(fields))
    module(precision="medium")(x, target)
    module()(x, target)
    assert asked == ["medium", None]


def test_without_a_seed_modules_draw_differently():
    x, target = batch()
    assert module(seed=None)(x, target) != module(seed=None)(x, target)


def test_tables_may_be_tied():
    embedding = torch.nn.Embedding(40, 6, sparse=True)
    criterion = module()
    criterion.weight = embedding.weight
    words, target = torch.arange(7), batch()[1]
    criterion(embedding(words), target).backward()
    assert criterion.weight is embedding.weight
    x = embedding(words).detach().requires_grad_()
    alone = module()
    alone.weight.data.copy_(embedding.weight.data)
    alone(x, target).backward()
    expected = alone.weight.grad.to_dense().index_add(0, words, x.grad)
    torch.testing.assert_close(embedding.weight.grad.to_dense(), expected)


def test_a_table_may_have_more_rows_than_classes():
    x, target = batch()
    criterion = module()
    wide = torch.nn.Parameter(torch.cat([criterion.weight.detach(), torch.full((8, 6), torch.nan)]))
    expected = criterion(x, target)
    criterion.calls.zero_()
    criterion.weight = wide
    loss = criterion(x, target)
    loss.backward()
    assert torch.equal(loss, expected)
    assert wide.grad.shape == (48, 6)


@pytest.mark.parametrize("name", ["weights", "biases", "labels", "inputs"])
def test_tensors_that_are_negated_lazily_are_read_as_what_they_mean(name):
    x, target = batch()
    criterion = module()
    tensors = {"weights": criterion.weight.detach(), "biases": criterion.bias.detach(), "inputs": x.detach()}
    lazy = {**tensors, "labels": target}
    lazy[name] = torch._neg_view(-lazy[name])
    sampled = fastnce.torch.log_uniform_candidates(target, 5, 40, seed=1)
    expected = fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, sampled)
    with pytest.raises(ValueError, match=f"{name} is the negative of its memory"):
        fastnce.nce_loss(**lazy, num_sampled=5, num_classes=40, sampled_values=sampled)
    if name != "labels":
        loss = fastnce.torch.nce_loss(lazy["inputs"], target, lazy["weights"], lazy["biases"], sampled)
        assert torch.equal(loss, expected)


def test_inputs_may_have_any_strides_but_tables_may_not():
    x, target = batch()
    criterion = module()
    expected = criterion(x, target)
    criterion.calls.zero_()
    turned = x.detach().T.contiguous().T.requires_grad_()
    loss = criterion(turned, target)
    loss.backward()
    assert torch.equal(loss, expected)
    assert turned.grad.shape == x.shape
    criterion.weight = torch.nn.Parameter(criterion.weight.detach().T.contiguous().T)
    with pytest.raises(ValueError, match="weights has strides"):
        criterion(x, target)


def test_small_gradients_survive_in_float16_when_the_loss_is_scaled():
    rng = torch.Generator().manual_seed(0)
    x = (1e-3 * torch.randn(4096, 6, generator=rng)).half()
    target = torch.randint(40, (4096,), generator=rng)
    sampled = fastnce.torch.log_uniform_candidates(target, 5, 40, seed=1)
    weight, bias = 1e-4 * torch.randn(40, 6, generator=rng), torch.zeros(40)
    gradients = []
    for dtype in (torch.float16, torch.float32):
        leaf = x.clone().to(dtype).requires_grad_()
        (65536 * fastnce.torch.nce_loss(leaf, target, weight, bias, sampled)).backward()
        gradients.append(leaf.grad.float())
    torch.testing.assert_close(*gradients, rtol=2e-3, atol=1e-7)


def test_gradients_are_no_windows_on_what_a_second_pass_needs():
    criterion, (x, target) = module(), batch()
    loss = criterion(x, target)
    first = torch.autograd.grad(loss, [x, criterion.weight], retain_graph=True)
    expected = first[0].clone(), first[1].to_dense()
    first[0].zero_()
    first[1]._values().zero_()
    second = torch.autograd.grad(loss, [x, criterion.weight])
    assert_equal((second[0], second[1].to_dense()), expected)


def test_the_twin_agrees_on_a_training_step():
    criterion, (x, target) = module(), batch()
    sampled = fastnce.torch.log_uniform_candidates(target, 5, 40, seed=7)
    loss = criterion(x, target)
    true, _ = reference.nce_loss_and_grad(
        *(t.detach().numpy() for t in (criterion.weight, criterion.bias)),
        target[:, None].numpy(),
        x.detach().numpy(),
        tuple(map(np.asarray, sampled)),
    )
    assert loss.item() == pytest.approx(true.mean(), rel=1e-6)
