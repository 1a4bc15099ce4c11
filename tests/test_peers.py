"""bench/peers measures the loss that it names: its workers against the reference, and what its tables say."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench" / "peers"))
import agreement
from client import FASTNCE, FASTNCE_SOFTMAX, MEMBERS, SOFTMAX_MEMBERS, Conditions, Process
from fastnce import reference
from report import softmax_tables
from shapes import NCE, SOFTMAX, Case, Shape

PEERS = Path(agreement.__file__).parent
# Hits in most examples, and several true classes that are sampled.
SHAPE = Shape(V=60, D=5, B=33, T=3, S=20)
MODULES = {FASTNCE: "fastnce", "pytorch": "torch", "jax": "jax", "tensorflow": "tensorflow"}


@pytest.mark.parametrize("loss", [NCE, SOFTMAX])
@pytest.mark.parametrize("name", MODULES)
def test_a_worker_computes_the_loss_that_it_was_asked_for(name, loss, tmp_path):
    if importlib.util.find_spec(MODULES[name]) is None:
        pytest.skip(f"{MODULES[name]} is not installed")
    command = [sys.executable, str(PEERS / "worker.py"), "1", *MEMBERS[name].adapter]
    with Process(name, command, Conditions(tmp_path, 1, "retain", None).environment()) as worker:
        worker.ask("prepare", shape=asdict(SHAPE), loss=loss)
        assert worker.ask("check", path=str(tmp_path / "outputs.npz"))
    case = Case(SHAPE)
    (labels, inputs), candidates = case.batches[0], case.candidates()
    assert np.isin(labels, candidates.ids).any()
    twin = getattr(reference, f"{loss}_and_grad")
    losses, (dx, rows) = twin(*case.table(), labels, inputs, candidates)
    with np.load(tmp_path / "outputs.npz") as outputs:
        for key, expected in {"loss": losses, "dx": dx, "ids": rows.ids, "dw": rows.weights, "db": rows.biases}.items():
            limit = agreement.TOLERANCE[key]
            assert agreement.difference(outputs[key], expected, elementwise=key in ("loss", "ids")) <= limit, key


@pytest.mark.parametrize("num_true", [1, 3])
def test_the_pytorch_peer_removes_every_copy_of_a_hit(num_true):
    """What it times are samples with replacement; the check before has unique ones."""
    torch = pytest.importorskip("torch")
    from adapters.pytorch import without_hits

    rng = np.random.default_rng(0)
    labels, sampled = rng.integers(0, 12, (9, num_true)), rng.integers(0, 9, 40)
    logits = rng.standard_normal((9, 40)).astype(np.float32)
    hits = (labels[:, :, np.newaxis] == sampled).any(axis=1)
    removed = without_hits(*map(torch.from_numpy, (logits.copy(), labels.ravel(), sampled)))
    np.testing.assert_array_equal(removed.numpy(), np.where(hits, -np.inf, logits))


def workers(**results):
    """Stand-ins for workers whose check writes these losses."""

    def standing_in(name, losses):
        outputs = dict.fromkeys(("dx", "ids", "dw", "db"), np.zeros(1)) | {"loss": np.array(losses)}

        def ask(_command, path):
            np.savez(path, **outputs)
            return True

        return SimpleNamespace(ask=ask, loss=SOFTMAX if name in SOFTMAX_MEMBERS else NCE)

    return {name: standing_in(name, losses) for name, losses in results.items()}


def test_agreement_is_with_fastnce_s_of_the_same_loss():
    softmax = {FASTNCE_SOFTMAX: [2.0], "jax_softmax": [2.0]}
    differences = agreement.check_agreement(workers(fastnce=[5.0], jax=[5.0], **softmax))
    assert {name: found["loss"] for name, found in differences.items()} == {"jax": 0.0, "jax_softmax": 0.0}
    with pytest.raises(SystemExit, match="jax_softmax and fastnce disagree"):
        agreement.check_agreement(workers(fastnce=[5.0], **softmax | {"jax_softmax": [5.0]}))


@pytest.fixture
def results():
    """As of sampled_softmax.py, three rounds, of which the second was under load."""
    seconds = {
        FASTNCE: [1.0, 10.0, 2.0],
        FASTNCE_SOFTMAX: [1.1, 11.0, 2.0],
        "tensorflow_softmax": [2.2, 11.0, 4.0],
    }
    measured = {
        "round_seconds": seconds,
        "median_ms": {name: 1e3 * float(np.median(rounds)) for name, rounds in seconds.items()},
        "other_load": 0.0,
    }
    return {
        "date": "2026-01-02T03:04:05+00:00",
        "fastnce_commit": "0123abc",
        "machine": {"cpu": "a processor", "cores": 2},
        "threads": 2,
        "isa": None,
        "versions": {name: {} for name in seconds},
        "missing": {"jax_softmax": "no interpreter"},
        "shapes": {"w2v": measured},
    }


def test_the_softmax_is_compared_with_nce_and_the_others_with_the_softmax_round_by_round(results):
    head, _, row, *end = softmax_tables(results)
    assert head == "| ms | fastnce, `nce_loss` | fastnce | TensorFlow |"
    assert row == "| w2v | 2,000 | 2,000 (1.10x) | 4,000 (2.00x) |"
    assert end == ["", "Left out: jax_softmax (no interpreter)."]


def test_the_page_has_a_section_on_the_softmax_where_there_are_results(results, tmp_path):
    pytest.importorskip("matplotlib", reason="the page's script draws with Matplotlib")
    (tmp_path / "sampled_softmax-20260102T030405.json").write_text(json.dumps(results))
    command = [sys.executable, str(PEERS / "page.py"), "--results", str(tmp_path)]
    subprocess.run([*command, "--output", str(tmp_path)], check=True, timeout=120, env=os.environ)
    _, section = (tmp_path / "benchmarks.md").read_text().split("\n## ")
    assert section.startswith("Sampled softmax\n")
    assert "\n".join(softmax_tables(results)) in section
    assert "Measured 2026-01-02T03:04:05+00:00 at 0123abc, a processor, 2 cores, 2 threads." in section
