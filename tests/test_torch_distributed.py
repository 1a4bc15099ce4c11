"""fastnce.torch.distributed: several processes, each with rows of the table, compute what one with all of it does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch")
import torch

import fastnce
import sharded_cases
import sharded_killed
import sharded_processes
from fastnce.torch.distributed import _sampling
from tolerances import CHI_SQUARE_SIGMAS

pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")


def launch(program: Any, size: int, *arguments: object) -> list[tuple[int, str, str]]:
    """Runs so many processes; the exit status and what each wrote. None is left behind."""
    processes = [
        subprocess.Popen(
            [sys.executable, program.__file__, str(rank), str(size), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


@pytest.mark.parametrize("size", [1, 2, 3, *([4] if os.environ.get("FASTNCE_TEST_ALL") else [])])
def test_ranks_together_compute_what_one_process_does(size: int, tmp_path: Path) -> None:
    """One launch runs all of sharded_processes.py."""
    results = tmp_path / "results.jsonl"
    done = launch(sharded_processes, size, tmp_path / "store", results)
    assert all(status == 0 for status, *_ in done), "\n".join(errors for *_, errors in done)
    found = [json.loads(line) for line in results.read_text().splitlines()]
    names = [*map(str, sharded_cases.pairwise()), *sharded_processes.checks_of(size)]
    assert [case["name"] for case in found] == names
    failed = [f"{case['name']}\n{''.join(case['failures'])}" for case in found if any(case["failures"])]
    assert not failed, f"{len(failed)} of {len(found)} cases:\n" + "\n".join(failed)


def test_a_run_whose_rank_was_killed_ends_and_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    """The others end with an error that names the collective; from the last checkpoint come the same numbers, to the
    bit, as from a run that was not interrupted."""
    begin = time.monotonic()
    done = launch(sharded_killed, 3, tmp_path / "first", tmp_path / "run", 8)
    assert time.monotonic() - begin < 60, "the time-out of the process group is 20 s"
    assert [status for status, *_ in done] == [0, -9, 0], done
    for rank in (0, 2):
        assert re.match(rf"call 7: \w+ of [\w ]+ on rank {rank} of 3 failed: ", done[rank][1]), done[rank][1]
    resumed, whole = (
        launch(sharded_killed, 3, tmp_path / store, tmp_path / folder, 0)
        for store, folder in (("second", "run"), ("third", "other"))
    )
    for again, alone in zip(resumed, whole, strict=True):
        assert again[0] == alone[0] == 0, again[2] + alone[2]
        found, expected = (json.loads(output) for _, output, _ in (again, alone))
        assert (found["begin"], expected["begin"]) == (6, 0)
        assert found["losses"] == expected["losses"][6:]
    tables = [(tmp_path / folder / "table.safetensors").read_bytes() for folder in ("run", "other")]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("scheme", "batch", "sampled", "arrived"),
    [("rows_to_data", 512, 16_384, 16_384 + 512), ("data_to_rows", 8192, 512, 2 * 8192)],
)
def test_a_step_takes_a_few_times_the_memory_of_what_arrives(
    scheme: str, batch: int, sampled: int, arrived: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of this rank's part of the table, 98 MiB, no copy is made."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(1 << 16))  # as bench/sharded/measure.py
    shape = {"classes": 400_000, "dim": 128, "batch": batch, "labels": 1, "sampled": sampled}
    request = {"scheme": scheme, "shape": shape}
    step = SimpleNamespace(__file__=str(Path(__file__).parents[1] / "bench" / "sharded" / "step.py"))
    for status, output, errors in launch(step, 2, tmp_path / "store", json.dumps(request)):
        assert status == 0, errors
        assert 0 < json.loads(output)["step_bytes"] < 4.5 * 4 * 128 * arrived


def stratum(
    rank: int, size: int, num_classes: int, num_sampled: int, call: int, classes: torch.Tensor
) -> _sampling.Samples:
    """What a rank draws as if others held the rest: with replacement, of log-uniform frequencies; and the expected
    counts of classes of its own."""
    place: Any = SimpleNamespace(rank=rank, size=size)
    distribution = _sampling.stratum_of("log_uniform", num_classes, place)
    drawn = _sampling.Drawn(
        *(num_classes, num_sampled, True, "log_uniform", False),
        seed=torch.tensor([1, 2]),
        call=call,
        stratum=distribution,
    )
    return drawn.of_rank(place, classes)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_strata_are_sampled_as_often_as_their_expected_counts_say(rank: int) -> None:
    """V = 40, and 5 + 5 + 4 samples of three ranks."""
    num_classes, num_sampled, calls = 40, 14, 3000
    own = torch.arange(rank, num_classes, 3)
    counts = np.zeros(num_classes)
    for call in range(calls):
        sampled, _, expected = stratum(rank, 3, num_classes, num_sampled, call, own)
        counts += np.bincount(sampled.numpy(), minlength=num_classes)
    assert counts[own].sum() == counts.sum() == calls * (5 if rank < 2 else 4)
    frequency = np.log1p(1 / (own.numpy() + 1.0))
    assert expected is not None
    np.testing.assert_allclose(expected, (5 if rank < 2 else 4) * frequency / frequency.sum(), rtol=1e-6)
    mean = calls * expected.double().numpy()
    statistic, freedom = ((counts[own] - mean) ** 2 / mean).sum(), len(own) - 1
    assert statistic < freedom + CHI_SQUARE_SIGMAS * np.sqrt(2 * freedom)


def test_ranks_draw_their_strata_independently() -> None:
    """Not row k on all ranks together: two of equal frequencies agree about as often as chance has it."""
    agree = [
        torch.equal(*(stratum(rank, 2, 2000, 2, call, torch.arange(0)).classes // 2 for rank in range(2)))
        for call in range(400)
    ]
    assert np.mean(agree) < 0.2


def test_even_batches_refuses_what_is_no_group() -> None:
    with pytest.raises((ValueError, RuntimeError), match="process group"):
        next(iter(fastnce.torch.distributed.even_batches([torch.ones(1)])))
