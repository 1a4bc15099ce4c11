"""fastnce.torch.distributed on a CUDA device: one process there computes what it does on the CPU."""

from __future__ import annotations

from functools import partial

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
import torch
import torch.distributed as dist

import cuda_arrays
import emulated_torch
import fastnce
from fastnce.torch import distributed, optim
from optimizers import EVERY_RULE, RULES
from sharded_table import close

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed"),
    pytest.mark.skipif(not (cuda_arrays.EMULATED or torch.cuda.is_available()), reason="PyTorch has no CUDA device"),
]
V, D, B, S = 300, 16, 40, 32
MODULES = (distributed.ShardedNCELoss, distributed.ShardedSampledSoftmaxLoss, distributed.ShardedNegativeSamplingLoss)


@pytest.fixture(autouse=True, scope="module")
def group():
    if not fastnce.cuda.is_available():
        pytest.skip(f"no CUDA device: {fastnce.cuda.unavailable_reason()}")
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(autouse=True)
def device(monkeypatch):
    if cuda_arrays.EMULATED:
        emulated_torch.emulate(monkeypatch)


def results(module, device, scheme, sampling, reduction):
    """Losses, gradients and evaluation, on the CPU."""
    generator = torch.Generator().manual_seed(1)
    options = {"scheme": scheme, "sampling": sampling, "reduction": reduction, "device": device, "seed": 3}
    criterion = module(V, D, S, **options)
    with torch.no_grad():
        for parameter in criterion.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    inputs = torch.randn(B, D, generator=generator).to(device).requires_grad_()
    target = torch.randint(0, V, (B, 2), generator=generator)
    target[3] = target[5, 0] = -100
    exclude = fastnce.Ragged(torch.arange(2 * B), 2 * torch.arange(B + 1))
    weights = torch.rand((B, 2), generator=generator).to(device)
    target, exclude = target.to(device), fastnce.Ragged(*(part.to(device) for part in exclude))
    loss = criterion(inputs, target, label_weights=weights, exclude=exclude)
    loss.sum().backward()
    scores, classes = criterion.top_k(inputs, 7, exclude)
    tables = (parameter.grad.to_dense() for parameter in criterion.parameters())
    named = zip(("loss", "gradient of inputs", "of weight", "of bias"), (loss, inputs.grad, *tables), strict=True)
    return {name: value.detach().cpu() for name, value in (*named, ("scores", scores), ("classes", classes))}


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("sampling", ["global", "stratified"])
@pytest.mark.parametrize("scheme", ["rows_to_data", "data_to_rows"])
@pytest.mark.parametrize("module", MODULES)
def test_on_a_cuda_device_the_results_are_the_cpus(module, scheme, sampling, reduction):
    on_cpu, on_gpu = (results(module, device, scheme, sampling, reduction) for device in ("cpu", "cuda"))
    for name, expected in on_cpu.items():
        close(name, on_gpu[name], expected, "float32")


def trained(device, make, dtype=torch.float32, steps=2, **options):
    """Gradients of inputs, tables and states of a module that owns an optimizer, on the CPU."""
    generator = torch.Generator().manual_seed(1)
    criterion = distributed.ShardedNCELoss(V, D, S, device=device, dtype=dtype, seed=3, optimizer=make, **options)
    with torch.no_grad():
        for parameter in criterion.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    named = {}
    for step in range(steps):
        inputs = torch.randn(B, D, generator=generator).to(device, dtype).requires_grad_()
        target = torch.randint(0, V, (B, 2), generator=generator)
        target[3] = -100
        criterion(inputs, target.to(device)).sum().backward()
        named[f"gradient of inputs {step}"] = inputs.grad
    for name, parameter in criterion.named_parameters():
        assert parameter.grad is None and parameter.device.type == device
        states = criterion.optimizer.state[parameter]
        named |= {name: parameter} | {f"{state} of {name}": value for state, value in states.items()}
    return {name: value.detach().float().cpu() for name, value in named.items()}


def assert_trained_alike(make, dtype="float32", **options):
    on_cpu, on_gpu = (trained(device, make, getattr(torch, dtype), **options) for device in ("cpu", "cuda"))
    assert on_cpu.keys() == on_gpu.keys()
    for name, expected in on_cpu.items():
        close(name, on_gpu[name], expected, dtype)


@pytest.mark.parametrize("rule", EVERY_RULE, ids=str)
def test_every_optimizer_in_the_backward_pass_makes_the_cpus_steps(rule):
    assert_trained_alike(partial(getattr(optim, rule.optimizer.__name__), **rule.options))


ADAGRAD = partial(optim.Adagrad, **RULES["adagrad_keras"].options, stochastic_rounding=False)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("scheme", ["rows_to_data", "data_to_rows"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_each_scheme_updates_as_on_the_cpu(dtype, scheme, reduction):
    assert_trained_alike(ADAGRAD, dtype, scheme=scheme, reduction=reduction)


def operands(device, dtype):
    """Inputs, labels and a table, of which the first have gradients; some labels are padding."""
    generator = torch.Generator().manual_seed(2)
    tensors = [torch.randn(shape, generator=generator) for shape in ((B, D), (V, D), (V,))]
    inputs, weight, bias = (tensor.to(device, dtype).requires_grad_() for tensor in tensors)
    target = torch.randint(0, V, (B, 3), generator=generator)
    target[3] = target[5, 0] = -100
    exclude = fastnce.Ragged(torch.arange(2 * B), 2 * torch.arange(B + 1))
    return inputs, target.to(device), weight, bias, fastnce.Ragged(*(part.to(device) for part in exclude))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("true_target", ["mean", "one"])
@pytest.mark.parametrize("function", [distributed.softmax_loss, distributed.sigmoid_loss])
def test_losses_over_all_classes_are_the_cpus(function, true_target, weighted, reduction, dtype):
    results = []
    for device in ("cpu", "cuda"):
        inputs, target, weight, bias, exclude = operands(device, dtype)
        options = {"true_target": true_target, "reduction": reduction, "exclude": exclude}
        if weighted:
            factors = torch.linspace(0.5, 2, 3 * B).reshape(B, 3).to(device)
            options |= {"label_weights": factors, "example_weight": factors[:, 0]}
        loss = function(inputs, target, weight, bias, V, **options)
        loss.sum().backward()
        results.append([value.detach().float().cpu() for value in (loss, inputs.grad, weight.grad, bias.grad)])
    for name, expected, got in zip(("loss", "of inputs", "of weight", "of bias"), *results, strict=True):
        close(name, got, expected, str(dtype).removeprefix("torch."))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("excludes", [False, True])
def test_ranks_are_the_cpus(excludes, dtype):
    """Where scores are exact, and many tie."""
    ranks = []
    for device in ("cpu", "cuda"):
        inputs, target, weight, bias, exclude = operands(device, dtype)
        inputs, weight, bias = (tensor.detach().round() for tensor in (inputs, weight, bias))
        ranks.append(distributed.rank_of_labels(inputs, target, weight, bias, V, exclude if excludes else None).cpu())
    torch.testing.assert_close(ranks[1], ranks[0], rtol=0, atol=0, equal_nan=True)
    assert ranks[0].isnan().any() and (ranks[0] % 1 == 0.5).any()


@pytest.mark.parametrize("with_q", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_loss_in_the_batch_is_the_cpus(reduction, with_q):
    results = []
    for device in ("cpu", "cuda"):
        inputs, target, table, log_q, exclude = operands(device, torch.float32)
        inputs, items = (tensor.detach()[:B].requires_grad_() for tensor in (inputs, table))
        options = {"log_q": log_q.detach()[:B] if with_q else None, "exclude": exclude, "reduction": reduction}
        loss = distributed.in_batch_softmax_loss(inputs, items, target[:, 1], **options)
        loss.sum().backward()
        results.append([value.detach().cpu() for value in (loss, inputs.grad, items.grad)])
    for name, expected, got in zip(("loss", "of inputs", "of items"), *results, strict=True):
        close(name, got, expected, "float32")
