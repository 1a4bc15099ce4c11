"""fastnce.torch leaves out the examples that ignore_index marks: zeros, whatever the upstream gradient is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cases import Case

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


import fastnce  # noqa: E402
import fastnce.torch  # noqa: E402
from torch_cases import (  # noqa: E402
    BATCH,
    assert_equal,
    assert_trained_alike,
    batch,
    given,
    leaves,
    module,
    step,
    train_in_two_processes,
)

# PyTorch's own use of what it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

REDUCTION = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
SPARSE = pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])


@pytest.fixture(autouse=True)
def forget_graphs():
    torch.compiler.reset()


def ignored_batch(kind, num_true=1):
    """A batch without an example that counts: all are ignored, or there is none."""
    x, target = batch(0 if kind == "empty" else BATCH)
    target = target.unsqueeze(1).expand(-1, num_true).clone()
    return x, target.fill_(-100)


def by_module(x, target, **options):
    criterion = module(num_true=target.shape[1], **options)
    return criterion, criterion


def by_function(x, target, **options):
    criterion = module(num_true=target.shape[1])
    sampled = fastnce.torch.log_uniform_candidates(target.clamp(min=0), 5, 40, seed=1)

    def call(x, target, weight=None):
        return fastnce.torch.nce_loss(x, target, criterion.weight, criterion.bias, sampled, weight, **options)

    return criterion, call


@SPARSE
@REDUCTION
@pytest.mark.parametrize("upstream", [1.0, math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("kind", ["ignored", "empty"])
@pytest.mark.parametrize("make", [by_module, by_function])
@pytest.mark.parametrize("num_true", [1, 2])
def test_without_an_example_loss_and_gradients_are_zero(make, kind, upstream, reduction, sparse, num_true):
    x, target = ignored_batch(kind, num_true)
    criterion, call = make(x, target, reduction=reduction, sparse=sparse)
    factors = torch.full((len(x),), 2.0, requires_grad=True)
    for arguments in ((x, target), (x, target, factors)):
        loss = call(*arguments)
        assert torch.equal(loss, torch.zeros_like(loss))
        results = step((loss * upstream).sum(), criterion, x)
        assert_equal(results[1:], map(torch.zeros_like, results[1:]))
    assert torch.equal(factors.grad, torch.zeros_like(factors))


@REDUCTION
@pytest.mark.parametrize("num_sampled", [5, BATCH])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_without_an_example_no_expected_count_is_used(reduction, num_sampled, backend):
    x, target = ignored_batch("ignored")
    criterion = module()
    sampled = fastnce.SampledValues(torch.arange(num_sampled), torch.zeros(BATCH, 1), torch.zeros(num_sampled))

    def call(x, target):
        tables = (criterion.weight, criterion.bias)
        return fastnce.torch.nce_loss(x, target, *tables, sampled, reduction=reduction)

    loss = torch.compile(call, fullgraph=True, backend=backend)(x, target)
    assert torch.equal(loss, torch.zeros_like(loss))
    results = step(loss.sum(), criterion, x)
    assert_equal(results[1:], map(torch.zeros_like, results[1:]))
    target[2] = 3
    with pytest.raises(ValueError, match="expected_count"):
        call(x, target)


@SPARSE
@pytest.mark.parametrize("upstream", [1.0, math.inf])
@pytest.mark.parametrize(("kind", "ignore_index"), [("ignored", -100), ("empty", -100), ("empty", None)])
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_a_compiled_loss_without_an_example_is_zero(kind, upstream, sparse, ignore_index, backend):
    x, target = ignored_batch(kind)
    criterion = module(sparse=sparse, ignore_index=ignore_index)
    compiled = torch.compile(criterion, fullgraph=True, backend=backend)
    loss = compiled(x, target)
    assert loss == 0
    results = step(loss * upstream, criterion, x)
    assert_equal(results[1:], map(torch.zeros_like, results[1:]))


@REDUCTION
def test_nothing_leaks_from_an_ignored_example(reduction):
    x, target = batch()
    target[2] = -100
    results = []
    for harm in (0.0, math.inf, math.nan):
        criterion = module(reduction=reduction)
        hidden = torch.where((target == -100).unsqueeze(1), harm, x.detach()).requires_grad_()
        factors = torch.where(target == -100, harm, torch.ones(BATCH)).requires_grad_()
        loss = criterion(hidden, target, factors)
        if reduction == "none":
            loss = torch.where(target == -100, harm, 1.0) * loss
            assert loss[2].isnan() == (harm != 0)  # 0 * harm: of the caller's own making
        results.append([*step(loss.sum(), criterion, hidden)[1:], factors.grad])
    assert all(part.isfinite().all() for part in results[0])
    assert_equal(results[0], results[1])
    assert_equal(results[0], results[2])


@SPARSE
def test_a_micro_batch_of_ignored_examples_adds_nothing(sparse):
    x, target = batch()
    nothing, ignored = ignored_batch("ignored")
    criterion = module(sparse=sparse)
    expected = step(criterion(x, target), criterion, x)
    criterion.calls.zero_()
    total = (criterion(x, target) + criterion(nothing, ignored)) * 1.0
    assert_equal(step(total, criterion, x), expected)


@SPARSE
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [65536.0, math.inf])
def test_a_scaled_step_on_ignored_examples_changes_nothing(sparse, dtype, scale):
    x, target = ignored_batch("ignored")
    criterion = module(sparse=sparse)
    before = criterion.weight.detach().clone()
    optimiser = torch.optim.SGD(criterion.parameters(), lr=0.5)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    layer = torch.nn.Linear(6, 6)
    with torch.autocast("cpu", dtype=dtype):
        loss = criterion(layer(x), target)
    scaler.scale(loss).backward()
    assert torch.equal(layer.weight.grad, torch.zeros_like(layer.weight))
    if scale == math.inf:
        optimiser.step()  # the scaler divides by the scale, and 0 / inf is 0
    else:
        scaler.step(optimiser)
        scaler.update()
    assert torch.equal(criterion.weight, before)


def ignored_on_the_second(rank):
    x, target = batch()
    return x, target if rank == 0 else torch.full_like(target, -100)


@SPARSE
def test_a_process_with_ignored_examples_only_adds_nothing(sparse, tmp_path):
    options = {"sparse": sparse}
    state = train_in_two_processes(tmp_path, options, ignored_on_the_second, steps=2)
    assert_trained_alike(state, options, *batch(), steps=2)


PARTLY = torch.tensor([[4, 5], [-100, -100], [6, -100], [-100, 7], [8, 9]])


@REDUCTION
@pytest.mark.parametrize("make", [by_module, by_function])
@pytest.mark.parametrize("mode", ["eager", "aot_eager", "inductor"])
@pytest.mark.parametrize("ignore_index", [-100, 39, -1])
def test_a_class_that_is_ignored_is_left_out_alone(make, mode, ignore_index, reduction):
    x, _ = batch(5)
    target = torch.where(PARTLY == -100, ignore_index, PARTLY)
    # Each row by itself, with the number of classes that remain.
    single = module(reduction="none")
    sampled = fastnce.torch.log_uniform_candidates(target.clamp(min=0), 5, 40, seed=1 if make is by_function else 7)
    losses = torch.zeros(5)
    for row in (0, 2, 3, 4):
        kept = PARTLY[row] != -100
        alone = sampled._replace(true_expected_count=sampled.true_expected_count[row : row + 1, kept])
        tables = single.weight, single.bias
        losses[row] = fastnce.torch.nce_loss(x[row : row + 1], PARTLY[row : row + 1, kept], *tables, alone).sum()
    expected = {"mean": losses.sum() / 4, "sum": losses.sum(), "none": losses}[reduction]
    _, call = make(x, target, ignore_index=ignore_index, reduction=reduction)
    if mode != "eager":
        call = torch.compile(call, fullgraph=True, backend=mode)
    loss = call(x, target)
    torch.testing.assert_close(loss, expected)
    gradient, true_gradient = torch.autograd.grad(loss.sum(), x)[0], torch.autograd.grad(expected.sum(), x)[0]
    torch.testing.assert_close(gradient, true_gradient)
    assert not gradient[1].any()


@pytest.mark.parametrize("count", [0.0, math.nan])
def test_expected_counts_of_ignored_classes_are_not_read(count):
    x, _ = batch(5)
    criterion = module(num_true=2)
    sampled = fastnce.torch.log_uniform_candidates(PARTLY.clamp(min=0), 5, 40, seed=1)
    spoilt = sampled._replace(true_expected_count=sampled.true_expected_count.masked_fill(PARTLY == -100, count))
    tables = criterion.weight, criterion.bias
    expected = fastnce.torch.nce_loss(x, PARTLY, *tables, sampled)
    assert torch.equal(fastnce.torch.nce_loss(x, PARTLY, *tables, spoilt), expected)


@pytest.mark.cuda
def test_on_a_cuda_device_a_class_that_is_ignored_is_left_out_alone():
    if not torch.cuda.is_available() or not fastnce.cuda.is_available():
        pytest.skip("no CUDA device")
    expected = module(num_true=2, reduction="none")(batch(5)[0].detach(), PARTLY)
    for compiled in (False, True):
        criterion = module(num_true=2, reduction="none").cuda()
        call = torch.compile(criterion, fullgraph=True) if compiled else criterion
        torch.testing.assert_close(call(batch(5)[0].detach().cuda(), PARTLY.cuda()).cpu(), expected)


@pytest.mark.parametrize("count", [0.0, -1.0, math.nan])
@pytest.mark.parametrize("shape", ["each", "shared"])
def test_expected_counts_of_ignored_examples_are_not_read(count, shape):
    x, target = batch()
    target[2:] = -100
    criterion = module()
    sampled = fastnce.torch.log_uniform_candidates(target.clamp(min=0), 5, 40, seed=1)
    tables = criterion.weight, criterion.bias
    if shape == "shared":
        target[:] = -100
        spoilt = sampled._replace(true_expected_count=torch.full((1, 1), count))
    else:
        spoilt = sampled._replace(true_expected_count=sampled.true_expected_count.clone())
        spoilt.true_expected_count[2:] = count
    expected = fastnce.torch.nce_loss(x, target, *tables, sampled)
    assert torch.equal(fastnce.torch.nce_loss(x, target, *tables, spoilt), expected)


@REDUCTION
@pytest.mark.parametrize("num_true", [1, 2])
def test_ignored_examples_are_as_if_they_were_not_there(reduction, num_true):
    problem = Case(batch=6, num_true=num_true, sampled=3).problem()
    ignored = np.array([True, False, True, False, False, True])
    labels = problem.labels.copy()
    labels[ignored] = -1
    problem.inputs[ignored] = np.nan
    tensors, kept = leaves(problem), leaves(problem)
    target, sampled = given(problem, labels)
    options = {"reduction": reduction, "example_weight": torch.arange(1.0, 7.0)}
    loss = fastnce.torch.nce_loss(tensors[0], target, *tensors[1:], sampled, ignore_index=-1, **options)
    options["example_weight"] = options["example_weight"][~ignored]
    few = sampled._replace(true_expected_count=sampled.true_expected_count[~ignored])
    expected = fastnce.torch.nce_loss(kept[0][~ignored], target[~ignored], *kept[1:], few, **options)
    if reduction == "none":
        assert torch.equal(loss[ignored], torch.zeros(3))
        loss = loss[~ignored]
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    expected.sum().backward()
    assert torch.equal(tensors[0].grad[ignored], torch.zeros_like(tensors[0].grad[ignored]))
    torch.testing.assert_close(tensors[0].grad[~ignored], kept[0].grad[~ignored])
    for tensor, other in zip(tensors[1:], kept[1:], strict=True):
        assert torch.equal(tensor.grad.indices(), other.grad.indices())  # no row more
        torch.testing.assert_close(tensor.grad.values(), other.grad.values())


def test_a_class_of_the_table_may_be_ignored():
    x, target = batch()
    target[2] = 0
    criterion = module(ignore_index=0, reduction="none")
    losses = criterion(x, target)
    assert (losses == 0).tolist() == (target == 0).tolist()


def test_nothing_need_be_ignored():
    x, target = batch()
    assert torch.equal(module(ignore_index=None)(x, target), module()(x, target))
    target[0] = -100
    with pytest.raises(ValueError, match=r"labels\[0, 0\] = -100 is outside"):
        module(ignore_index=None)(x, target)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.uint16])
def test_narrow_targets_are_compared_as_numbers(dtype):
    x, _ = batch()
    target = torch.tensor([156, 3, 4, 5, 6, 7, 8]).to(dtype)
    criterion = fastnce.torch.NCELoss(300, 6, 5, seed=1, reduction="none")
    expected = criterion(x, target.long())
    for ignored in (False, True):
        criterion.calls.zero_()
        if ignored:
            criterion.ignore_index = 3
        losses = criterion(x, target)
        assert torch.equal(losses, expected * (target.long() != criterion.ignore_index))
