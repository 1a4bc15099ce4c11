"""torch.export of modules: a program draws what its module drew, wherever it runs, or is refused."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import fastnce

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

import fastnce.torch  # noqa: E402
from fastnce.torch import _sampling  # noqa: E402
from torch_cases import CLASSES, SAMPLED, batch, module  # noqa: E402

pytestmark = pytest.mark.skipif(
    not hasattr(torch.compiler, "is_exporting"), reason="this PyTorch does not tell that it exports"
)

WEIGHTS = np.r_[np.arange(1.0, CLASSES), 0.0]
FIXED = {
    "default": lambda: "log_uniform",
    "log_uniform": lambda: fastnce.LogUniformSampler(CLASSES, SAMPLED, unique=False, seed=7),
    "uniform": lambda: fastnce.UniformSampler(CLASSES, SAMPLED, seed=7),
    "unigram": lambda: fastnce.UnigramSampler(WEIGHTS, SAMPLED, distortion=0.75, seed=7),
}
OTHERS = {
    "learned": lambda: fastnce.LearnedUnigramSampler(CLASSES, SAMPLED, seed=7),
    "mixed": lambda: fastnce.MixedSampler([(fastnce.UniformSampler(CLASSES, SAMPLED, seed=7), SAMPLED)]),
    "callable": lambda: lambda classes: (torch.arange(SAMPLED), None, None),
}


def made(name, loss="NCELoss"):
    return module(7 if name == "default" else None, loss, sampler={**FIXED, **OTHERS}[name]())


def draws(call, count=3):
    """Losses of the first batch, whose classes have weights."""
    x, target = batch()
    return [call(x.detach(), target % (CLASSES - 1)).item() for _ in range(count)]


def exported(name, loss="NCELoss"):
    """A program whose module is gone."""
    x, target = batch()
    program = torch.export.export(made(name, loss), (x.detach(), target))
    gc.collect()
    return program


@pytest.mark.parametrize("loss", ["NCELoss", "SampledSoftmaxLoss", "NegativeSamplingLoss"])
@pytest.mark.parametrize("name", FIXED)
def test_a_program_draws_without_its_module(name, loss):
    expected = draws(made(name, loss))
    program = exported(name, loss)
    assert draws(program.module()) == expected
    file = io.BytesIO()
    torch.export.save(exported(name, loss), file)
    file.seek(0)
    other = module(None, sampler=fastnce.UnigramSampler(WEIGHTS[::-1].copy(), SAMPLED, seed=7))
    assert draws(torch.export.load(file).module()) == expected
    del other


def test_a_program_draws_in_another_process(tmp_path):
    expected = draws(made("unigram"))
    path = tmp_path / "program.pt2"
    torch.export.save(exported("unigram"), path)
    script = f"""
        import sys, torch, fastnce, fastnce.torch
        other = fastnce.torch.NCELoss(
            {CLASSES}, 6, {SAMPLED}, sampler=fastnce.UnigramSampler([1.0] * {CLASSES}, {SAMPLED}, seed=7))
        program, (x, target) = torch.export.load(sys.argv[1]).module(), torch.load(sys.argv[2])
        print(*(repr(program(x, target).item()) for _ in range(3)))
    """
    x, target = batch()
    torch.save((x.detach(), target % (CLASSES - 1)), tmp_path / "batch.pt")
    command = [sys.executable, "-c", textwrap.dedent(script), path, tmp_path / "batch.pt"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert list(map(float, result.stdout.split())) == expected


def test_a_program_builds_its_table_once():
    program = exported("unigram").module()
    draws(program, 1)
    tables = len(_sampling._rebuilt)
    draws(program)
    assert len(_sampling._rebuilt) == tables > 0


@pytest.mark.parametrize("name", OTHERS)
def test_samplers_that_no_program_can_hold_are_refused(name):
    criterion, (x, target) = made(name), batch()
    with pytest.raises(NotImplementedError, match=r"torch\.export: a program cannot hold .* draw samples outside"):
        torch.export.export(criterion, (x.detach(), target))
    assert criterion.calls == 0
    torch.compiler.reset()
    torch.compile(criterion, fullgraph=True, backend="aot_eager")(x, target)
    assert criterion.calls == 1


def test_a_key_without_a_sampler_is_refused():
    criterion, (_, target) = made("learned"), batch()
    key = criterion._sampler_key.clone()
    del criterion
    gc.collect()
    with pytest.raises(RuntimeError, match="the sampler of this graph is not in this process"):
        torch.ops.fastnce.call_sampler(target[:, None], key, torch.tensor(0), SAMPLED, None)


def test_keys_of_two_processes_differ():
    keys = {int(made("learned")._sampler_key) for _ in range(3)}
    assert len(keys) == 3
    assert min(keys) > 2**32  # a counter would begin anew in each process
