"""fastnce.torch in a fresh process: it may be imported again, and warns of nothing."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")


def run(program, *options):
    """What a program prints in a process of its own; anything on stderr fails the test."""
    command = [sys.executable, *options, "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


STEP = """
    import importlib, sys, warnings
    import torch
    import fastnce.torch

    def step(criterion, call):
        criterion.calls.zero_()
        criterion.zero_grad()
        x = torch.linspace(-1, 1, 42).reshape(7, 6).requires_grad_()
        loss = call(x, torch.tensor([3, 1, 4, 1, 5, -100, 2]))
        loss.backward()
        return [loss.detach(), x.grad, criterion.weight.grad.to_dense(), criterion.bias.grad.to_dense()]

    def same(results, expected):
        return all(torch.equal(one, other) for one, other in zip(results, expected, strict=True))

    def compiled(criterion):
        return torch.compile(criterion, fullgraph=True, backend="aot_eager")

    torch.manual_seed(0)
    criterion = fastnce.torch.NCELoss(40, 6, 5, seed=1)
    graph = compiled(criterion)
    expected = step(criterion, criterion)
    assert same(step(criterion, graph), expected)
    waiting = criterion(torch.ones(2, 6), torch.tensor([1, 2])), graph(torch.ones(2, 6), torch.tensor([1, 2]))
"""
AFTER = """
    for loss in waiting:
        loss.backward()
    assert same(step(criterion, criterion), expected)
    assert same(step(criterion, graph), expected)
    anew = fastnce.torch.NCELoss(40, 6, 5, seed=1)
    anew.load_state_dict(criterion.state_dict())
    assert same(step(anew, anew), expected)
    assert same(step(anew, compiled(anew)), expected)
    target = torch.arange(4)
    sampled = fastnce.torch.log_uniform_candidates(target, 5, 40, seed=2)
    fastnce.torch.nce_loss(torch.ones(4, 6), target, anew.weight, anew.bias, sampled).backward()
    print("computes")
"""


@pytest.mark.parametrize(
    "again",
    [
        "importlib.reload(fastnce.torch._ops)",
        "importlib.reload(fastnce.torch._ops); importlib.reload(fastnce.torch._ops)",
        "[importlib.reload(module) for name, module in list(sys.modules.items()) if name.startswith('fastnce.torch')]",
        "del sys.modules['fastnce.torch._ops']; import fastnce.torch._ops",
        "[sys.modules.pop(name) for name in list(sys.modules) if 'fastnce.torch' in name]; import fastnce.torch",
    ],
    ids=["reload", "reload twice", "reload all", "import", "import all"],
)
def test_the_operators_may_be_imported_again(again):
    assert run(STEP + f"\n    {again}\n" + AFTER) == "computes\n"


TRAIN = """
    import torch
    import fastnce.torch

    torch.manual_seed(0)
    criterion = fastnce.torch.NCELoss(1000, 8, 16, seed=1)
    optimiser = torch.optim.{}(criterion.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        loss = criterion(torch.ones(4, 8, requires_grad=True), torch.tensor([1, 2, 3, -100]))
        loss.backward()
        optimiser.step()
    print(loss.ndim)
"""


@pytest.mark.parametrize("optimiser", ["SGD", "Adagrad", "SparseAdam"])
def test_sparse_training_warns_of_nothing(optimiser):
    assert run(TRAIN.format(optimiser), "-W", "error") == "0\n"


def test_importing_changes_no_setting():
    program = """
        import warnings
        import torch
        def settings():
            checks = torch.sparse.check_sparse_tensor_invariants.is_enabled()
            return checks, torch.get_default_dtype(), torch.is_warn_always_enabled(), list(warnings.filters)
        before = settings()
        import fastnce.torch
        assert settings() == before
        with torch.sparse.check_sparse_tensor_invariants():
            criterion = fastnce.torch.NCELoss(1000, 8, 16, seed=1)
            criterion(torch.ones(4, 8), torch.tensor([1, 2, 3, 4])).backward()
        print(criterion.weight.grad.layout)
    """
    assert run(program, "-W", "error") == "torch.sparse_coo\n"
