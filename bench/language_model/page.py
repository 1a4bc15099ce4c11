"""Write the page language_model.md and its picture from the newest results in a folder.

    python bench/language_model/page.py --results bench/results

Takes the newest language_model-steps- and language_model-quality-*.json. Needs matplotlib (dependency group `bench`).
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from matplotlib.ticker import FuncFormatter

from options import ROOT
from plots import STYLES, plt
from report import OTHER_LOAD, digits, markdown

Results = dict[str, Any]

BASES = ("nce 256", "nce 1024")  # whose step times the others' are multiples of
LABELS = {
    "softmax": "full softmax",
    "nce 256": "`NCELoss`, S = 256",
    "nce 1024": "`NCELoss`, S = 1,024",
    "torch-nce 256": "PyTorch by hand, S = 256",
    "torch-nce 1024": "PyTorch by hand, S = 1,024",
}
COLOURS = {"softmax": STYLES["mkl_gemms"].color, "nce": STYLES["fastnce"].color, "torch-nce": STYLES["pytorch"].color}

HEAD = """# A language model: what NCE saves and what it costs

<!-- Written by bench/language_model/page.py from the results in bench/results: change those, not this. -->

[examples/language_model.py](../examples/language_model.py) trains one model with three output layers:
`fastnce.torch.NCELoss`, the full softmax (`nn.Linear` and cross entropy over all classes), and NCE written by hand in
PyTorch. Held-out perplexity is always computed with the full softmax over all V classes."""

MODEL = """- **Data**: {train:,} words to train on, {held_out:,} held out (every 20th document). V = {classes:,}
  classes: the words that occur at least {min_count} times in the training text, one class for all others, one for ends
  of paragraphs.
- **Model**: embedding and GRU of width D = {dim}, dropout {dropout}. A batch is {streams} streams of {chunk} words, N
  = {batch:,} examples. For each seed, all variants start from the same weights and see the same batches. Output biases
  start at the words' log-probabilities.
- **Optimiser**: Adagrad for all, because it treats sparse and dense gradients alike. Gradients are sparse for the
  embedding and for `NCELoss`. The other output layers use dense gradients and PyTorch's fused update; for NCE by hand,
  sparse gradients were no faster."""

COLUMNS = """- **ms per step**: the whole training step: forward, backward, clipping, update.
- **time relative to**: time of a step divided by that of a step with `NCELoss`, median over interleaved rounds.
- **rest**, **output**: the step without its output layer, and the output layer alone (loss, gradients, update of its
  tables).
- **perplexity**: held-out, after {epochs} epochs, of {seeds}. **cost**: how far it is above that of the full softmax.
- **log Z**: mean logarithm of the sum over all classes of exp(logit). At 0 the logits are normalised log-probabilities.
- **self-normalised**: perplexity if the logits are used as log-probabilities without normalisation. It is meaningless
  for the full softmax, whose logits are determined only up to a constant."""

# The numbers are filled in; the words hold for the results they were written for: read them again with new ones.
VERDICT = """## What it says

- **Time**: with {classes:,} classes, a step with the full softmax takes {whole_1024:.1f} times as long as with
  `NCELoss` at S = 1,024, and {whole_256:.1f} times at S = 256. The output layer alone takes {output_1024:.0f} and
  {output_256:.0f} times as long. NCE by hand takes only {hand_1024:.2f} and {hand_256:.2f} times as long per step,
  because the GRU dominates the rest of the step; its output layer takes {hand_output_1024:.1f} and
  {hand_output_256:.1f} times as long.
- **Quality**: after equal epochs, perplexity with NCE is higher: {cost_256:+.1f} % at S = 256, {cost_1024:+.1f} % at S
  = 1,024. More samples cost time and improve quality. NCE by hand is further behind ({hand_cost_256:+.1f} and
  {hand_cost_1024:+.1f} %). It samples with replacement and so sees fewer different words; we have not measured whether
  that explains the whole difference.
- **Quality per minute**: in the time of one epoch with the full softmax (perplexity {first:.0f}), `NCELoss` at S =
  1,024 finishes three epochs (perplexity {ours:.0f}).
- **Without normalisation**: NCE's logits, used as log-probabilities, give a perplexity of {self_1024:.0f}; normalised,
  {ours:.0f} (S = 1,024).

Prefer the full softmax if quality matters more than time, if the rest of the model takes nearly all the time, or if
there are few classes. Scaled linearly (calculated, not measured), its output layer would be as fast as that of
`NCELoss` with S = 1,024 at about {even:,.0f} classes. [When not to use NCE](when_not_to_use_nce.md) lists
alternatives."""

PICTURE = "![Held-out perplexity against minutes of training](language_model/perplexity.svg)"

RATES = """Held-out perplexity after one epoch of seed 1, per learning rate. Each variant was then trained with its best
learning rate. The rates were chosen on the held-out text, from the same values for all variants."""

AGAIN = """## Measure it again

With PyTorch and fastnce installed:

```sh
python bench/language_model/run.py steps      # a few minutes; leave the machine idle meanwhile
python bench/language_model/run.py quality    # most of an hour on two cores
python bench/language_model/page.py --results build/language_model --output build/language_model
```

`quality` trains two models at a time, each on one thread, so its times mean nothing. `steps` sets glibc to keep freed
memory; otherwise the N V logits of the full softmax would be fresh pages in every step."""


def newest(folder: Path, what: str) -> Results:
    """By date."""
    files = sorted(folder.glob(f"language_model-{what}-*.json"))
    if not files:
        raise SystemExit(f"--results {folder}: expected a language_model-{what}-*.json, as run.py {what} writes")
    return json.loads(files[-1].read_text())


def last(quality: Results, name: str, key: str) -> float:
    """After the last epoch: the mean over seeds, a geometric one for perplexities."""
    values = [epochs[-1][key] for epochs in quality["trained"][name]]
    return statistics.fmean(values) if key == "log_z" else statistics.geometric_mean(values)


def milliseconds(steps: Results, name: str) -> tuple[float, float]:
    """The median step, and the median of the output layer's share."""
    total, output = zip(*steps["round_seconds"][name], strict=True)
    return 1e3 * statistics.median(total), 1e3 * statistics.median(output)


def ratio(steps: Results, name: str, base: str) -> float:
    """Time of a step relative to that of `base`, median over rounds."""
    rounds = zip(steps["round_seconds"][name], steps["round_seconds"][base], strict=True)
    return statistics.median(theirs[0] / ours[0] for theirs, ours in rounds)


def main_table(steps: Results, quality: Results) -> list[str]:
    """One row per variant."""
    softmax = last(quality, "softmax", "perplexity")

    def row(name: str) -> list[str]:
        total, output = milliseconds(steps, name)
        perplexity = last(quality, name, "perplexity")
        is_softmax = name == "softmax"
        return [
            LABELS[name],
            digits(total),
            *(f"{ratio(steps, name, base):.2f}" for base in BASES),
            digits(total - output),
            digits(output),
            f"{perplexity:.1f}",
            "" if is_softmax else f"{100 * (perplexity / softmax - 1):+.1f} %",
            f"{last(quality, name, 'log_z'):+.3f}",
            "" if is_softmax else f"{last(quality, name, 'self_normalized'):.1f}",
        ]

    times = (f"time relative to {LABELS[base]}" for base in BASES)
    head = ["", "ms per step", *times, "rest", "output", "perplexity", "cost", "log Z", "self-normalised"]
    return markdown(head, map(row, LABELS))


def epochs_table(quality: Results) -> list[str]:
    """Perplexity after every epoch, of every seed."""

    def row(name: str) -> list[str]:
        epochs = zip(*quality["trained"][name], strict=True)
        return [LABELS[name], *(" / ".join(f"{seed['perplexity']:.1f}" for seed in seeds) for seeds in epochs)]

    return markdown(["", *(f"epoch {1 + i}" for i in range(quality["epochs"]))], map(row, LABELS))


def rates_table(quality: Results) -> list[str]:
    """Perplexity after one epoch at each learning rate."""
    rates = list(quality["tried"]["softmax"])
    rows = ([LABELS[name], *(f"{tried[rate]:.1f}" for rate in rates)] for name, tried in quality["tried"].items())
    return markdown(["", *rates], rows)


def draw(steps: Results, quality: Results, path: Path) -> None:
    """Perplexity after each epoch against the time that its steps take."""
    figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
    setting = quality["setting"]
    per_epoch = math.ceil((setting["train"] - 1) // setting["streams"] / setting["chunk"])
    for name, label in LABELS.items():
        kind, _, sampled = name.partition(" ")
        minutes = per_epoch * milliseconds(steps, name)[0] / 60e3
        seeds = zip(*quality["trained"][name], strict=True)
        perplexities = [statistics.geometric_mean(epoch["perplexity"] for epoch in epochs) for epochs in seeds]
        times = [minutes * (1 + i) for i in range(len(perplexities))]
        style = {"linestyle": "--" if sampled == "256" else "-", "marker": "s" if sampled == "256" else "o"}
        axes.plot(times, perplexities, color=COLOURS[kind], label=label.replace("`", ""), **style)
    axes.set(xscale="log", xlabel="minutes of training steps (log scale), a mark per epoch")
    axes.set_ylabel("held-out perplexity")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis(FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "125" else ""))
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})


def where(name: str, results: Results) -> str:
    """Date, machine and versions of a results file."""
    machine, facts = results["machine"], results["setting"]
    return (
        f"{name}: {results['date']}, {machine['cpu']}, {machine['cores']} cores, fastnce {facts['fastnce']['version']} "
        f"at {results['fastnce_commit']}, instruction set {facts['fastnce']['isa']}, PyTorch {facts['torch']}."
    )


def verdict(steps: Results, quality: Results) -> str:
    """`VERDICT` with its numbers."""
    softmax_output = milliseconds(steps, "softmax")[1]
    softmax = last(quality, "softmax", "perplexity")
    facts = {"classes": quality["setting"]["classes"]}
    for sampled in ("256", "1024"):
        ours, hand = f"nce {sampled}", f"torch-nce {sampled}"
        output = milliseconds(steps, ours)[1]
        facts |= {
            f"whole_{sampled}": ratio(steps, "softmax", ours),
            f"output_{sampled}": softmax_output / output,
            f"hand_{sampled}": ratio(steps, hand, ours),
            f"hand_output_{sampled}": milliseconds(steps, hand)[1] / output,
            f"cost_{sampled}": 100 * (last(quality, ours, "perplexity") / softmax - 1),
            f"hand_cost_{sampled}": 100 * (last(quality, hand, "perplexity") / softmax - 1),
        }
    facts |= {
        "first": statistics.geometric_mean(epochs[0]["perplexity"] for epochs in quality["trained"]["softmax"]),
        "ours": last(quality, "nce 1024", "perplexity"),
        "self_1024": last(quality, "nce 1024", "self_normalized"),
        "even": round(facts["classes"] / facts["output_1024"], -2),
    }
    return VERDICT.format(**facts)


def load(steps: Results) -> str:
    """How the times were taken, and whether to trust them."""
    share = steps["other_load"]
    trust = ". Do not trust these times." if share > OTHER_LOAD else "."
    return (
        f"{steps['rounds']} rounds, {steps['threads']} threads. Other processes used {100 * share:.0f} % of the "
        f"machine meanwhile{trust}"
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIR", help="(default docs)")
    options = parser.parse_args()
    steps, quality = (newest(options.results, what) for what in ("steps", "quality"))
    draw(steps, quality, options.output / "language_model" / "perplexity.svg")

    setting = quality["setting"] | {"batch": quality["setting"]["streams"] * quality["setting"]["chunk"]}
    seeds = len(quality["trained"]["softmax"])
    seeds_text = "one seed" if seeds == 1 else f"{seeds} seeds (geometric means)"
    text = [
        HEAD,
        "\n".join(main_table(steps, quality)),
        COLUMNS.format(epochs=quality["epochs"], seeds=seeds_text),
        PICTURE,
        verdict(steps, quality),
        "## How it was measured",
        MODEL.format(**setting),
        f"{where('Times', steps)} {load(steps)}",
        where("Quality", quality),
        "Perplexity after each epoch" + (", of each seed:" if seeds > 1 else ":"),
        "\n".join(epochs_table(quality)),
        RATES,
        "\n".join(rates_table(quality)),
        AGAIN,
    ]
    page = options.output / "language_model.md"
    page.write_text("\n\n".join(text) + "\n")
    print(f"written: {page}")


if __name__ == "__main__":
    main()
