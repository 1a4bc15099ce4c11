"""Write the page which_loss.md and its pictures from the newest results in a folder.

    python bench/loss_choice/page.py --results bench/results

Takes the newest loss_choice-quality- and loss_choice-gradients-*.json. Needs matplotlib (dependency group `bench`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from options import ROOT
from plots import STYLES, plt
from report import digits, markdown, newest

Results = dict[str, Any]

EXACT = "full softmax"
COLOURS = {
    "log-uniform": STYLES["fastnce"],
    "unigram": STYLES["tensorflow"],
    "unigram^0.75": STYLES["pytorch"],
    "uniform": STYLES["jax"],
}

HEAD = """# Which loss, which sampler, how many samples

<!-- Written by bench/loss_choice/page.py from the results in bench/results: change those, not this. -->"""

CHOICES = (
    (
        "probabilities of one class among many: a language model",
        "`sampled_softmax_loss`",
        "unigram, or log-uniform if ids are ranks",
        "Its gradient approaches that of the full softmax as S grows. Predictions must be normalised over all classes.",
    ),
    (
        "the same, but scores must be log-probabilities without normalisation",
        "`nce_loss`",
        "the same",
        "Only this loss determines the constant: it drives log Z towards 0.",
    ),
    (
        "vectors, not probabilities: word2vec, embeddings of items",
        "`negative_sampling_loss`",
        "unigram with power 0.75",
        "Scores estimate log p - log Q: add log Q for log p.",
    ),
    (
        "a ranking, with few negatives: sequential recommendation",
        "`negative_sampling_loss` with `gbce_weight`",
        "uniform",
        "The weight of the positive keeps scores from overconfidence.",
    ),
    (
        "several true classes per example",
        '`nce_loss`, each with target 1 / T or (`true_target="one"`) 1; or `sampled_softmax_loss`',
        "as above",
        "A softmax divides probability 1 among the true classes; the logistic losses judge each class alone.",
    ),
    ("few classes: a thousand or two", "the full softmax", "", "Sampling saves little."),
)

HOW_MANY = """How many samples: the variance of the gradient falls with S, and so does the bias of NCE and of sampled
softmax; the time grows. In the table below, 256 samples that follow the frequencies come close to the full softmax;
four times as many uniform ones do not."""

LOSSES = """## The losses

u: logits of the T true classes, v: of the S sampled ones, log Q: logarithms of expected counts, a and m: weights."""

FORMULAS = (
    (
        "`sampled_softmax_loss`",
        "x.w + c - log Q",
        "-1/T sum of log softmax([u, v])[t]",
        "of the full softmax, with a bias that vanishes as S approaches V",
    ),
    (
        "`nce_loss`",
        "x.w + c - log Q",
        "sum of softplus(u) - u/T, plus sum of softplus(v)",
        "of maximum likelihood with Z = 1, with a bias of order 1 / S",
    ),
    (
        "`negative_sampling_loss`",
        "x.w + c",
        "a times sum of softplus(u) - u, plus m times sum of softplus(v)",
        "of another objective, whose optimum is log p - log Q (with a: + log a)",
    ),
)

HITS = """Accidental hits, samples that are true classes of the example, are removed by default only by
`sampled_softmax_loss`."""

PICTURES = """## Measured: perplexity

![Held-out perplexity against S](which_loss/perplexity.svg)"""

TABLE_NOTE = """Held-out perplexity under the softmax over all classes; where a loss does not subtract log Q, log Q is
added to its logits. In brackets: milliseconds of a training step on one thread. The full softmax reaches {exact:.1f}
and takes {exact_ms} ms; with a thousand samples and more, most losses end below that after one epoch."""

SETTING = """- **Data**: the shipped text, {train:,} examples to train on, {held_out:,} held out (every 20th paragraph).
  V = {classes:,}: the words that occur at least {min_count} times.
- **Model**: log-bilinear, {context} words of context, D = {width}, batches of {batch}, {epochs} epoch, {seeds} seeds
  (geometric means). Biases start at each loss's own optimum without context: log p, or log p - log Q.
- **Optimiser**: Adagrad, with a learning rate that falls linearly: for each loss with each sampler the one of {rates}
  that is best at S = 256 on the held-out text. It is not chosen again for other S.
- **Samplers**: one set of S different samples per batch. gBCE: calibration {calibration}."""

GRADIENTS = """## Measured: bias of the gradients

![Distance from the exact gradient against S](which_loss/bias.svg)

Relative distance of the gradient of the weights from the exact one, in float64 by `fastnce.reference`: {batch}
examples, V = {classes}, labels drawn from the model.

- **NCE**, expectation over log-uniform samples with replacement: the distance shrinks as 1 / S. It is {nce_first:.2g}
  at S = {nce_first_size:,} and {nce_last:.1g} at S = {nce_last_size:,}.
- **Sampled softmax**, {draws} draws of unique log-uniform samples: as S approaches V, a single gradient and the mean of
  all approach that of the full softmax. At S = V the distance of a single one is {single:.1g}: expected counts of
  rare classes are a little below 1."""

AGAIN = """## Measure it again

```sh
python bench/loss_choice/run.py          # a quarter of an hour on two cores
python bench/loss_choice/gradients.py    # a minute
python bench/loss_choice/page.py --results build/loss_choice --output build/loss_choice
```"""


def results_of(folder: Path, what: str) -> Results:
    results = newest(folder, f"loss_choice-{what}")
    if results is None:
        raise SystemExit(f"--results {folder}: expected a loss_choice-{what}-*.json")
    return results


def pick(quality: Results, key: str, **wanted: Any) -> list[Results]:
    """The variants that have all of these, each once by `key`."""
    chosen = [v for v in quality["variants"] if all(v[name] == value for name, value in wanted.items())]
    return list({v[key]: v for v in chosen}.values())


def exact_of(quality: Results) -> Results:
    return pick(quality, "loss", loss=EXACT)[0]


def losses_of(quality: Results) -> list[str]:
    return [v["loss"] for v in pick(quality, "loss") if v["loss"] != EXACT]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """Of text: every column to the left."""
    lines = markdown(head, rows)
    return [lines[0], lines[1].replace("--:", "---"), *lines[2:]]


def perplexity_table(quality: Results) -> list[str]:
    """One row per loss and sampler, one column per S."""
    rows, sizes = [], []
    for loss in losses_of(quality):
        for sampler in (v["sampler"] for v in pick(quality, "sampler", loss=loss)):
            of_sizes = pick(quality, "sampled", loss=loss, sampler=sampler)
            sizes = [v["sampled"] for v in of_sizes]
            rows.append([loss, sampler, *(f"{v['perplexity']:.1f} ({digits(v['step_ms'])})" for v in of_sizes)])
    return markdown(["loss", "sampler", *(f"S = {size:,}" for size in sizes)], rows)


def log_axis(axes: Any, which: str) -> None:
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def save(figure: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight", facecolor="white", metadata={"Date": None})
    plt.close(figure)


def draw_perplexity(quality: Results, path: Path) -> None:
    """A panel per loss, a line per sampler, the full softmax as a level."""
    losses = losses_of(quality)
    figure, panels = plt.subplots(1, len(losses), figsize=(3 * len(losses), 3.4), sharey=True, layout="constrained")
    for axes, loss in zip(panels, losses, strict=True):
        for sampler, style in COLOURS.items():
            of_sizes = pick(quality, "sampled", loss=loss, sampler=sampler)
            points = [(v["sampled"], v["perplexity"]) for v in of_sizes]
            axes.plot(*zip(*points, strict=True), color=style.color, marker=style.marker, label=sampler)
        axes.axhline(exact_of(quality)["perplexity"], color="#777777", linestyle="--", label=EXACT)
        log_axis(axes, "x")
        axes.set(title=loss, xlabel="S")
    log_axis(panels[0], "y")
    panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    panels[0].set_ylabel("held-out perplexity")
    panels[-1].legend()
    save(figure, path)


def draw_bias(gradients: Results, path: Path) -> None:
    """NCE with the slope of 1 / S beside it; sampled softmax."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    ours, muted = STYLES["fastnce"], STYLES["mkl_gemms"]
    sizes, bias = zip(*((row["sampled"], row["bias"]) for row in gradients["nce"]), strict=True)
    left.plot(sizes, bias, color=ours.color, marker=ours.marker, label="NCE, expectation")
    through_last = [bias[-1] * sizes[-1] / size for size in sizes]
    left.plot(sizes, through_last, color=muted.color, linestyle="--", label="1 / S")
    left.set(title="NCE", ylabel="relative distance", ylim=(min(bias) / 2, 2))
    rows = gradients["softmax"]
    for key, label, style in (("single", "one draw", STYLES["tensorflow"]), ("bias", "mean of all draws", ours)):
        points = ((row["sampled"], row[key]) for row in rows)
        right.plot(*zip(*points, strict=True), color=style.color, marker=style.marker, label=label)
    right.axvline(gradients["setting"]["classes"], color=muted.color, linestyle="--", label="S = V")
    right.set(title="sampled softmax")
    for axes in (left, right):
        log_axis(axes, "x")
        log_axis(axes, "y")
        axes.set_xlabel("S")
        axes.legend()
    save(figure, path)


def where(name: str, results: Results) -> str:
    """Date, machine and commit of a results file."""
    machine = results["machine"]
    return f"{name}: {results['date']}, {machine['cpu']}, {machine['cores']} cores, at {results['fastnce_commit']}."


def page(quality: Results, gradients: Results) -> str:
    exact, nce, setting = exact_of(quality), gradients["nce"], quality["setting"]
    return "\n\n".join(
        [
            HEAD,
            "\n".join(table(("you train", "loss", "sampler", "why"), CHOICES)),
            HOW_MANY,
            LOSSES,
            "\n".join(table(("loss", "logits", "loss of an example", "gradient in expectation"), FORMULAS)),
            HITS,
            PICTURES,
            "\n".join(perplexity_table(quality)),
            TABLE_NOTE.format(exact=exact["perplexity"], exact_ms=digits(exact["step_ms"])),
            SETTING.format(**{**setting, "rates": ", ".join(map(str, setting["rates"]))}),
            GRADIENTS.format(
                **gradients["setting"],
                nce_first=nce[0]["bias"],
                nce_first_size=nce[0]["sampled"],
                nce_last=nce[-1]["bias"],
                nce_last_size=nce[-1]["sampled"],
                single=gradients["softmax"][-1]["single"],
            ),
            f"{where('Perplexity', quality)}\n{where('Gradients', gradients)}",
            AGAIN,
        ]
    )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", metavar="DIR")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", metavar="DIR", help="(default docs)")
    options = parser.parse_args()
    quality, gradients = (results_of(options.results, what) for what in ("quality", "gradients"))
    draw_perplexity(quality, options.output / "which_loss" / "perplexity.svg")
    draw_bias(gradients, options.output / "which_loss" / "bias.svg")
    path = options.output / "which_loss.md"
    path.write_text(page(quality, gradients) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
