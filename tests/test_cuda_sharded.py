"""fastnce.torch.distributed on a CUDA device: one process there computes what it does on the CPU."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs PyTorch")
import torch
import torch.distributed as dist

import fastnce
from fastnce.torch import distributed
from sharded_table import close

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed"),
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch has no CUDA device"),
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


def test_what_is_on_the_cpu_alone_is_refused():
    weight, bias = torch.randn(V, D, device="cuda"), torch.randn(V, device="cuda")
    inputs, target = torch.randn(B, D, device="cuda"), torch.arange(B, device="cuda")
    for function in (distributed.softmax_loss, distributed.sigmoid_loss, distributed.rank_of_labels):
        with pytest.raises(ValueError, match="weight is on cuda:0: expected the CPU"):
            function(inputs, target, weight, bias, V)
