"""What mypy says of right and wrong user code, with PyTorch's types at hand."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("mypy", reason="mypy is not installed")

ROOT = pathlib.Path(__file__).parents[1]
# Kept, since reading PyTorch's types takes a minute.
CACHE = ROOT / "build" / "mypy"
CODE = """
import functools
from typing import Any, assert_type

import torch

import fastnce.torch

x, target = torch.randn(7, 6), torch.zeros(7, dtype=torch.int64)
criterion = fastnce.torch.NCELoss(40, 6, 5, reduction="sum", precision="high", seed=(1, 2), ignore_index=None)
assert_type(criterion(x, target, torch.ones(7)), torch.Tensor)
assert_type(criterion.weight, torch.Tensor)
embedding = torch.nn.Embedding(40, 6)
criterion.weight = embedding.weight
assert_type(criterion.num_classes, int)
assert_type(criterion.calls, torch.Tensor)
sampled = fastnce.torch.log_uniform_candidates(target, 5, 40, calls=torch.tensor(3))
assert_type(sampled, fastnce.SampledValues)
weight, bias = criterion.weight, criterion.bias
assert_type(fastnce.torch.nce_loss(x, target, weight, bias, sampled, reduction="none"), torch.Tensor)
fastnce.torch.nce_loss(x, target, weight, bias, (sampled[0], sampled[1], sampled[2]))
fastnce.torch.nce_loss(x, target, weight, bias, (target, x, x))
fastnce.torch.nce_loss(x, target, weight, bias, [target, x, x])
fastnce.torch.sampled_softmax_loss(x, target, weight, None, (target, None, None), true_target="one")
negative = fastnce.torch.negative_sampling_loss(x, target, weight, bias, target, positive_weight=x[:, 0])
assert_type(negative, torch.Tensor)
lists = fastnce.Ragged(target, torch.arange(8))
assert_type(criterion(x, lists, exclude=lists, label_weights=torch.ones(7)), torch.Tensor)
fastnce.torch.nce_loss(x, lists, weight, bias, (target, None, None), label_weights=torch.ones(7), exclude=lists)
softmax = fastnce.torch.SampledSoftmaxLoss(40, 6, 5, bias=False, sampler=fastnce.UniformSampler(40, 5))
assert_type(softmax.log_prob(x), torch.Tensor)
fastnce.torch.NegativeSamplingLoss(40, 6, 5, positive_weight=0.5, reduction="sum")
adagrad = fastnce.torch.optim.Adagrad(criterion.parameters(), lr=0.1, weight_decay=0.01)
assert_type(adagrad.param_groups, list[dict[str, Any]])
torch.optim.lr_scheduler.StepLR(adagrad, 1)
adam = functools.partial(fastnce.torch.optim.Adam, lr=0.1, betas=(0.9, 0.99))
updating = fastnce.torch.NCELoss(40, 6, 5, optimizer=adam)
fastnce.torch.NCELoss(40, 6, 5, optimizer=fastnce.torch.optim.RowwiseAdagrad)
assert_type(updating.optimizer, fastnce.torch.optim.Optimizer | None)

fastnce.torch.negative_sampling_loss(x, target, weight, bias, target, positive_weight="1")  # error: arg-type
fastnce.torch.sampled_softmax_loss(x, target, weight, bias, sampled, true_target="two")  # error: arg-type
fastnce.torch.SampledSoftmaxLoss(40, 6, 5, sampler=3)  # error: arg-type
fastnce.torch.NCELoss(40, 6, 5, reduction="average")  # error: arg-type
fastnce.torch.NCELoss(40, 6, 5, precision="hihg")  # error: arg-type
fastnce.torch.NCELoss(40, 6, 5, sampler="uniform")  # error: arg-type
fastnce.torch.NCELoss(40, 6)  # error: call-arg
fastnce.torch.NCELoss(40, 6, 5, seed="one")  # error: arg-type
fastnce.torch.optim.SGD(criterion.parameters(), lr="0.1")  # error: arg-type
fastnce.torch.optim.SGD(criterion.parameters(), nesterov=True)  # error: call-arg
fastnce.torch.NCELoss(40, 6, 5, optimizer=0.1)  # error: arg-type
fastnce.torch.NCELoss(40, 6, 5, optimizer=torch.optim.Adagrad)  # error: arg-type
criterion(x)  # error: call-arg
criterion(x, [1, 2])  # error: arg-type
criterion(x, target, exclude=[[1], [2]])  # error: arg-type
fastnce.torch.log_uniform_candidates(target, 5, 40, calls=1.5)  # error: arg-type
fastnce.torch.nce_loss(x, target, weight, bias, x)  # error: arg-type
fastnce.torch.nce_loss(x, target, weight, bias, (target, x))  # error: arg-type
criterion.weight = "weight"  # error: assignment
fastnce.torch.nce_loss(x, target, weight, bias, sampled, reduction="average")  # error: arg-type
fastnce.torch.nce_loss(x, target, weight, bias, sampled, precision="hihg")  # error: arg-type
fastnce.torch.nce_loss("x", target, weight, bias, sampled)  # error: arg-type
"""


def test_mistakes_and_nothing_else_are_errors(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(CODE)
    config = tmp_path / "mypy.ini"  # what an installed package says of itself is not reported
    # The sources: mypy exits with an error where mypy_path names a site-packages directory.
    config.write_text(f"[mypy]\nmypy_path = {ROOT / 'python'}\n[mypy-fastnce.*]\nfollow_imports = silent\n")
    command = [sys.executable, "-m", "mypy", "--config-file", str(config), "--cache-dir", str(CACHE), str(program)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, cwd=tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr  # some errors
    report = run.stdout
    found = {
        (int(line.split(":")[1]), line.rpartition("[")[2].rstrip("]"))
        for line in report.splitlines()
        if ": error: " in line
    }
    expected = {
        (number, line.rpartition("# error: ")[2])
        for number, line in enumerate(CODE.splitlines(), 1)
        if "# error: " in line
    }
    assert found == expected, report
