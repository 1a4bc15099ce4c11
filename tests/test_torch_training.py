"""fastnce.torch in training: optimisers, mixed precision, threads, several processes."""

from __future__ import annotations

import copy
import threading

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


import fastnce  # noqa: E402
import fastnce.torch  # noqa: E402
from fastnce.torch import _stream  # noqa: E402
from torch_cases import (  # noqa: E402
    BATCH,
    assert_equal,
    assert_trained_alike,
    batch,
    module,
    step,
    train_in_two_processes,
)

OPTIMISERS = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.5),
    "momentum": lambda params: torch.optim.SGD(params, lr=0.5, momentum=0.9),
    "Adagrad": lambda params: torch.optim.Adagrad(params, lr=0.5),
    "SparseAdam": lambda params: torch.optim.SparseAdam(params, lr=0.1),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_optimisers_that_know_sparse_gradients_take_them(name):
    criterion, (x, target) = module(), batch()
    optimiser = OPTIMISERS[name](criterion.parameters())
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = criterion(x, target)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_a_sparse_step_is_the_dense_step(name):
    x, target = batch()
    results = []
    for sparse in (True, False):
        criterion = module(sparse=sparse)
        optimiser = OPTIMISERS[name](criterion.parameters())
        for _ in range(3):
            optimiser.zero_grad()
            criterion(x, target).backward()
            optimiser.step()
        results.append(criterion.state_dict())
    torch.testing.assert_close(*results)


def test_a_run_that_is_taken_up_again_ends_as_one_that_was_not():
    def run(criterion, optimiser, steps):
        for _ in range(steps):
            optimiser.zero_grad()
            criterion(*batch()).backward()
            optimiser.step()

    whole = module()
    optimiser = OPTIMISERS["Adagrad"](whole.parameters())
    run(whole, optimiser, 2)
    saved = {key: value.clone() for key, value in whole.state_dict().items()}
    saved_optimiser = copy.deepcopy(optimiser.state_dict())
    resumed = module(seed=99)
    resumed.load_state_dict(saved)
    again = OPTIMISERS["Adagrad"](resumed.parameters())
    again.load_state_dict(saved_optimiser)
    run(whole, optimiser, 2)
    run(resumed, again, 2)
    for key, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[key], value), key


def test_under_autocast_the_table_keeps_its_dtype():
    criterion, (x, target) = module(), batch()
    layer = torch.nn.Linear(6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        hidden = layer(x)
        loss = criterion(hidden, target)
    loss.backward()
    assert (hidden.dtype, loss.dtype) == (torch.bfloat16, torch.float32)
    assert criterion.weight.grad.dtype == layer.weight.grad.dtype == torch.float32
    assert torch.equal(loss, module()(hidden.detach().float(), target))


def test_scaled_gradients_are_unscaled():
    criterion, (x, target) = module(), batch()
    expected = step(criterion(x, target), criterion, x)
    criterion.calls.zero_()
    optimiser = OPTIMISERS["SGD"]([criterion.weight, criterion.bias])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(criterion(x, target)).backward()
    scaler.unscale_(optimiser)
    torch.testing.assert_close(criterion.weight.grad.to_dense(), expected[1])


def test_hooks_see_sparse_gradients():
    criterion, (x, target) = module(), batch()
    seen = []
    criterion.weight.register_post_accumulate_grad_hook(lambda parameter: seen.append(parameter.grad.layout))
    criterion(x, target).backward()
    assert seen == [torch.sparse_coo]


def test_a_signal_handler_may_call_a_loss():
    """Also a handler that runs while its thread holds the lock of the streams."""
    x, target = batch()
    expected = module()(x, target)
    with _stream._lock:
        assert _stream._lock.acquire(timeout=1)  # first, because a loss would wait for ever
        _stream._lock.release()
        assert torch.equal(module()(x, target), expected)


def test_threads_share_a_module():
    criterion, (x, target) = module(), batch()
    expected = [step(criterion(x, target), criterion, x) for _ in range(8)]
    criterion.calls.zero_()
    results, failures = [], []

    def work():
        try:
            for _ in range(2):
                mine = x.detach().clone().requires_grad_()
                loss = criterion(mine, target)
                results.append((loss.detach(), torch.autograd.grad(loss, mine)[0]))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert criterion.calls == 8
    for (loss, gradient), (true_loss, *_, true_gradient) in zip(
        sorted(results, key=lambda pair: pair[0]), sorted(expected, key=lambda parts: parts[0]), strict=True
    ):
        assert_equal([loss, gradient], [true_loss, true_gradient])


def half(rank):
    x, target = batch(2 * BATCH)
    mine = slice(rank * BATCH, (rank + 1) * BATCH)
    return x[mine], target[mine]


def test_two_processes_train_as_one(tmp_path):
    options = {"reduction": "sum"}
    state = train_in_two_processes(tmp_path, options, half, steps=3)
    assert_trained_alike(state, options, *batch(2 * BATCH), steps=3)


@pytest.mark.cuda
def test_on_a_cuda_device_the_loss_is_the_cpus():
    if not torch.cuda.is_available() or not fastnce.cuda.is_available():
        pytest.skip("no CUDA device")
    criterion, (x, target) = module(), batch()
    target[2] = -100
    expected = step(criterion(x, target), criterion, x)
    criterion = module().cuda()
    on_gpu = x.detach().cuda().requires_grad_()
    for call in (criterion, torch.compile(criterion, fullgraph=True)):
        criterion.calls.zero_()
        result = step(call(on_gpu, target.cuda()), criterion, on_gpu)
        for ours, true in zip(result, expected, strict=True):
            torch.testing.assert_close(ours.cpu(), true, rtol=1e-5, atol=1e-6)
    assert criterion.calls.item() == 1
    for reduction in ("sum", "none"):
        criterion, gpu = module(reduction=reduction, sparse=False), module(reduction=reduction, sparse=False).cuda()
        loss = criterion(x, target).sum()
        torch.testing.assert_close(gpu(on_gpu, target.cuda()).sum().cpu(), loss, rtol=1e-5, atol=1e-6)


@pytest.mark.cuda
def test_a_captured_training_step_draws_fresh_samples():
    if not torch.cuda.is_available() or not fastnce.cuda.is_available():
        pytest.skip("no CUDA device")
    criterion = module(sparse=False).cuda()
    x, target = (tensor.detach().cuda() for tensor in batch())
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        criterion(x, target).backward()
    side.synchronize()
    criterion.zero_grad(set_to_none=False)
    criterion.calls.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = criterion(x, target)
        loss.backward()
    losses = []
    for _ in range(3):
        graph.replay()
        losses.append(loss.item())
    eager = module(sparse=False).cuda()
    torch.testing.assert_close(losses, [eager(x, target).item() for _ in range(3)], rtol=1e-5, atol=1e-6)
    assert criterion.calls.item() == 3


def test_a_cuda_tensor_without_the_backend_is_an_error():
    if fastnce.cuda.is_available():
        pytest.skip("there is a CUDA device")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA device to put tensors on")
    with pytest.raises(ValueError, match="inputs is on device cuda:0: expected cpu, since"):
        module().cuda()(*(tensor.detach().cuda() for tensor in batch()))
