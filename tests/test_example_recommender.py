"""The recommender example: every loss learns, and the program tells what it found."""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", minversion="2.6", reason="fastnce.torch needs PyTorch 2.6 or later")

PROGRAM = Path(__file__).parents[1] / "examples" / "sequential_recommender.py"
OPTIONS = dict(
    sampled=16, dim=16, blocks=1, length=12, dropout=0.1, batch=64, lr=0.01, epochs=6, patience=6, minutes=2.0, seed=1,
    tensorboard=None,
)  # fmt: skip


@pytest.fixture(scope="module")
def example():
    specification = importlib.util.spec_from_file_location("sequential_recommender", PROGRAM)
    module = importlib.util.module_from_spec(specification)
    sys.modules["sequential_recommender"] = module
    specification.loader.exec_module(module)
    yield module
    del sys.modules["sequential_recommender"]


LOSSES = ["softmax", "uniform", "unigram", "mixed", "per-example", "gbce", "bce"]


def test_the_losses_are_those_tested(example):
    assert list(example.LOSSES) == LOSSES


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns_the_walks(example, loss, capsys):
    """Each item is followed by one of three: guessing ranks the next one among the first ten of 40 in a quarter."""
    random.seed(1)
    torch.manual_seed(1)
    log = example.ranked(example.synthetic_log(users=400, items=40))
    options = argparse.Namespace(loss=loss, **OPTIONS)
    found = example.train(example.Recommender(log, options), options)
    assert found["HR@10"] > 0.5, capsys.readouterr().out


def test_items_are_numbered_by_frequency(example):
    log = example.ranked([[70, 5, 5, 9, 8], [5, 70, 1, 2, 3], [1, 2]])
    assert log.users[0][:3] == [1, 0, 0], "5 is the most frequent one of what is trained on, then 70"
    assert log.counts[0] == 3 and log.counts[1] == 2 and len(log.users) == 2
    assert len(log.counts) == 7


def test_the_program_tells_what_it_found(tmp_path: Path) -> None:
    log, results = tmp_path / "log.txt", tmp_path / "results.json"
    log.write_text("".join(f"{user} {' '.join(str((user + i) % 20 + 1) for i in range(8))}\n" for user in range(60)))
    command = [sys.executable, str(PROGRAM), "--threads=1", f"--log={log}", "--epochs=2", f"--json={results}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("60 users, 20 items, 480 actions\nepoch   1: loss ")
    assert re.search(
        r"\ntest: HR@10 [\d.]+, NDCG@10 [\d.]+ \(epoch \d\), [\d.]+ s per epoch, peak memory \d+ MiB\n$", run.stdout
    )
    written = json.loads(results.read_text())
    assert written["loss"] == "softmax" and written["epochs"] == 2 and 0 <= written["NDCG@10"] <= written["HR@10"] <= 1


@pytest.mark.parametrize("text", ["", "1 2 3\n", "1 2 3 4\n2 3 4 2\n"])  # of three items, one is left to train on
def test_the_program_says_that_a_log_is_too_short(tmp_path: Path, text: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text(text)
    run = subprocess.run([sys.executable, str(PROGRAM), f"--log={log}"], capture_output=True, text=True, timeout=300)
    assert run.returncode == 1
    assert "the log has no user of four items or more" in run.stderr
