"""Draw docs/frameworks/next_word.svg: the loss of the examples next_word_*.py, each run by an interpreter of its own.

    python tools/next_word_curves.py numpy=python torch=.venv-torch/bin/python jax=.venv-jax/bin/python

Needs matplotlib here, and fastnce and the framework there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parents[1]
NAMES = {"numpy": "NumPy", "torch": "PyTorch", "jax": "JAX"}
# Thick, thinner, dots: all three are to be seen where they are the same.
STYLES = {
    "numpy": dict(color="#7CC4EE", linewidth=7),
    "torch": dict(color="#D55E00", linewidth=2.5),
    "jax": dict(color="black", linestyle="none", marker="o", markersize=3),
}


def main() -> None:
    plt.rcParams.update({"svg.hashsalt": "fastnce", "axes.spines.top": False, "axes.spines.right": False})
    figure, axes = plt.subplots(figsize=(7, 3))
    for argument in sys.argv[1:]:
        name, _, interpreter = argument.partition("=")
        command = [interpreter, ROOT / "examples" / f"next_word_{name}.py"]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        steps, losses = zip(*(map(float, line.split()) for line in printed.splitlines()), strict=True)
        axes.plot(steps, losses, label=NAMES[name], **STYLES[name])
    axes.set(xlabel="step", ylabel="loss of the batch")
    axes.legend(frameon=False)
    path = ROOT / "docs" / "frameworks" / "next_word.svg"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})


if __name__ == "__main__":
    main()
