"""README and the generated pages say what the results in bench/results say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / "bench" / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_readme_has_the_figures_of_the_results() -> None:
    run("peers/summary.py", "--check")


@pytest.mark.parametrize(
    ("script", "page"),
    [
        ("peers/page.py", "benchmarks.md"),
        ("language_model/page.py", "language_model.md"),
        ("loss_choice/page.py", "which_loss.md"),
        ("recommender/page.py", "recommender_losses.md"),
    ],
)
def test_generated_pages_are_those_of_their_scripts(script: str, page: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the scripts draw with Matplotlib: pip install matplotlib")
    run(script, "--output", str(tmp_path))
    assert (tmp_path / page).read_text() == (ROOT / "docs" / page).read_text()


def test_auto_goes_the_way_that_moves_less_in_every_measured_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("peers", "sharded"):
        monkeypatch.syspath_prepend(str(ROOT / "bench" / folder))
    import measured

    from report import newest

    results = newest(ROOT / "bench" / "results", "sharded")
    assert results is not None
    ways: dict[tuple[str, int], list[tuple[int, bool]]] = {}
    for run in results["runs"]:
        if len(run["ranks"]) > 1:
            key = run["name"], len(run["ranks"])
            ways.setdefault(key, []).append((measured.most_bytes(run), measured.is_chosen(run)))
    assert len(ways) == 8
    for key, both in ways.items():
        assert [chosen for _, chosen in sorted(both)] == [True, False], (key, both)


@pytest.mark.parametrize("script", ["sharded/measured.py", "sharded/plan.py"])
def test_the_page_on_ranks_has_what_was_measured_and_what_is_predicted(script: str) -> None:
    assert run(script) in (ROOT / "docs" / "distributed.md").read_text()
