"""Train examples/sequential_recommender.py with each of its losses on a log, and take the time and memory of an epoch.

    python bench/recommender/run.py --log LOG    # some two hours on two cores
    python bench/recommender/page.py             # writes docs/recommender_losses.md from the results in bench/results

In an environment with fastnce, torch and numpy. Two trainings at a time, each on one thread, whose finished runs are
kept in `build/recommender/runs.jsonl`: what is there is not trained again. Then, for the time and the memory, a few
epochs of each loss alone, in turn; leave the machine idle for these. The JSON file goes to `build/recommender/`. To
publish: commit first, so that it names a commit, measure, move it to `bench/results/`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))
sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from sequential_recommender import LOSSES, ranked, read_log

from options import ROOT, add_output, header
from report import save

SEEDS = {"softmax": 3, "mixed": 3}
"""Of the full and of the sampled softmax; one of the others."""
TIMED_EPOCHS, WORKERS = 3, 2


def train(log: Path, results: Path, loss: str, seed: int, threads: int, *more: str) -> None:
    """Appends an object to the results."""
    command = [sys.executable, str(ROOT / "examples" / "sequential_recommender.py"), "--log", str(log), "--loss", loss]
    options = ["--seed", str(seed), "--threads", str(threads), "--json", str(results), *more]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def trained(log: Path, path: Path) -> list[dict[str, Any]]:
    """A run of each loss and seed."""
    known = {(run["loss"], run["seed"]) for run in read(path)}
    wanted = [(loss, seed) for loss in LOSSES for seed in range(1, SEEDS.get(loss, 1) + 1)]
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(lambda run: train(log, path, *run, 1), [run for run in wanted if run not in known]))
    return [run for run in read(path) if (run["loss"], run["seed"]) in wanted]


def timed(log: Path, path: Path) -> list[dict[str, Any]]:
    """A few epochs of each loss, on one thread and on two."""
    path.unlink(missing_ok=True)
    runs = [(loss, threads) for threads in (1, 2) for loss in LOSSES]
    for loss, threads in runs:
        train(log, path, loss, 1, threads, "--epochs", str(TIMED_EPOCHS))
    keys = ("seconds_per_epoch", "peak_mib")
    return [
        {"loss": loss, "threads": threads, **{key: run[key] for key in keys}}
        for (loss, threads), run in zip(runs, read(path), strict=True)
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser, "recommender")
    parser.add_argument("--log", type=Path, required=True, help="a user a line: id of the user, ids of items")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    log = ranked(read_log(options.log))
    results = {
        **header(),
        "log": {"name": options.log.name, "users": len(log.users), "items": len(log.counts)}
        | {"actions": sum(map(len, log.users))},
        "runs": trained(options.log, options.output / "runs.jsonl"),
        "timed": timed(options.log, options.output / "timed.jsonl"),
    }
    print(f"written: {save('recommender', results, options.output)}")


if __name__ == "__main__":
    main()
