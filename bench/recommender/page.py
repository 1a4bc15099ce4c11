"""Write the page recommender_losses.md and its picture from the newest results in a folder.

    python bench/recommender/page.py --results bench/results

Takes the newest recommender-*.json. Needs matplotlib (dependency group `bench`).
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from options import ROOT
from plots import STYLES, plt
from report import digits, markdown, newest

Results = dict[str, Any]

NAMES = {
    "softmax": "full softmax: `softmax_loss`",
    "uniform": "sampled softmax, 256 uniform items of the batch",
    "unigram": "sampled softmax, 256 items of the batch by frequency",
    "mixed": "sampled softmax, half of each",
    "per-example": "sampled softmax, 256 items of each position",
    "gbce": "gBCE, 256 items of each position",
    "bce": "binary cross entropy, 1 item of each position",
}
COLOURS = {
    "softmax": "fastnce",
    "uniform": "jax",
    "unigram": "tensorflow",
    "mixed": "pytorch",
    "per-example": "pytorch_compile",
    "gbce": "fastnce_medium",
    "bce": "mkl_gemms",
}
"""Of the styles in plots.py."""

PAGE = """# Which loss for a recommender: measured

<!-- Written by bench/recommender/page.py from the results in bench/results: change those, not this. -->

[examples/sequential_recommender.py](../examples/sequential_recommender.py), SASRec with the losses below, on a log of
{users:,} users, {items:,} items and {actions:,} actions (Amazon Beauty, of which each user and item has at least 5).
Its options are at their defaults, which are the papers': width 64, 2 blocks, 1 head, the last 50 items, dropout 0.5,
Adam with rate 0.001, batches of 128 users. No option was chosen by these results. The last item of a user is the test,
the one before it the validation; both are ranked among all items but those that the user already has. The epoch with
the best validation is tested.

![NDCG@10 of the validation by epoch](recommender_losses/validation.svg)

{quality}

With more than one seed: mean, and in brackets the range. A training ends after 10 epochs without a better validation.

## Time and memory

{cost}

An epoch is {steps} steps. Seconds are medians of three epochs on an idle machine; memory is the peak of the process,
PyTorch's own part included.

{where}

## Measure it again

```sh
python bench/recommender/run.py --log LOG    # a user a line: an id of the user, then ids of items in order of time
python bench/recommender/page.py --results build/recommender --output build/recommender
```
"""


def runs_of(results: Results, loss: str) -> list[Results]:
    return [run for run in results["runs"] if run["loss"] == loss]


def spread(runs: list[Results], key: str) -> str:
    """The mean of the seeds, and their range."""
    values = [run[key] for run in runs]
    mean = f"{statistics.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4f} - {max(values):.4f})"


def quality_table(results: Results) -> list[str]:
    rows = []
    for loss, name in NAMES.items():
        runs = runs_of(results, loss)
        epochs = ", ".join(str(run["epoch"]) for run in runs)
        rows.append([name, f"`{loss}`", spread(runs, "HR@10"), spread(runs, "NDCG@10"), epochs])
    return markdown(["loss", "`--loss`", "HR@10", "NDCG@10", "best epoch"], rows)


def cost_table(results: Results) -> list[str]:
    cost = {(row["loss"], row["threads"]): row for row in results["timed"]}
    rows = [
        [f"`{loss}`"]
        + [digits(cost[loss, threads]["seconds_per_epoch"]) for threads in (1, 2)]
        + [digits(cost[loss, 2]["peak_mib"])]
        for loss in NAMES
    ]
    return markdown(["`--loss`", "s per epoch, 1 thread", "2 threads", "peak memory, MiB"], rows)


def draw(results: Results, path: Path) -> None:
    """NDCG@10 of the validation by epoch, a line per loss: of the first seed."""
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for loss, style in COLOURS.items():
        curve = runs_of(results, loss)[0]["validation"]
        axes.plot(range(1, len(curve) + 1), curve, color=STYLES[style].color, label=loss)
    axes.set(xlabel="epoch", ylabel="NDCG@10, validation", ylim=(0, None))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


def page(results: Results) -> str:
    machine = results["machine"]
    return PAGE.format(
        **{key: results["log"][key] for key in ("users", "items", "actions")},
        quality="\n".join(quality_table(results)),
        cost="\n".join(cost_table(results)),
        steps=-(-results["log"]["users"] // 128),
        where=f"{results['date']}, {machine['cpu']}, {machine['cores']} cores, at {results['fastnce_commit']}.",
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIR", help="(default docs)")
    options = parser.parse_args()
    results = newest(options.results, "recommender")
    if results is None:
        raise SystemExit(f"--results {options.results}: expected a recommender-*.json")
    draw(results, options.output / "recommender_losses" / "validation.svg")
    path = options.output / "recommender_losses.md"
    path.write_text(page(results))
    print(f"written: {path}")


if __name__ == "__main__":
    main()
