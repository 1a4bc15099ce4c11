"""How far the gradients of NCE and of sampled softmax are from those of maximum likelihood, by the float64 reference.

    python bench/loss_choice/gradients.py

Distances are Euclidean norms over the gradient of the whole table of weights, relative to that of the exact gradient.
The JSON file goes to `build/loss_choice/`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "peers"))

from fastnce import reference
from options import add_output, header
from report import save

B, D, V = 64, 8, 500
NCE_SIZES = tuple(4**n for n in range(1, 10))  # S
# The samples that stand for any number of them: some MULTIPLE in all, at least one of each class.
MULTIPLE = 2048
SOFTMAX_SIZES = (5, 10, 20, 50, 100, 200, 300, 400, 450, 480, 495, 500)
DRAWS = 200

Floats = NDArray[np.float64]


class Problem(NamedTuple):
    """A softmax model and examples drawn from it: its logits are log-probabilities."""

    weights: Floats
    labels: NDArray[np.int64]
    inputs: Floats

    @classmethod
    def random(cls, seed: int = 1) -> Problem:
        rng = np.random.default_rng(seed)
        weights = np.concatenate([rng.standard_normal((V, D)), np.ones((V, 1))], axis=1)
        weights[:, 0] += 1.0 - np.log(np.arange(1, V + 1))  # frequent classes first, by the input's first entry, 1
        inputs = np.concatenate([0.5 * rng.standard_normal((B, D)), np.zeros((B, 1))], axis=1)
        inputs[:, 0] = 1.0
        # The last column subtracts log Z: NCE takes logits for log-probabilities, and must not pay for a constant.
        inputs[:, -1] = -np.log(np.exp(inputs @ weights.T).sum(axis=1))
        p = np.exp(inputs @ weights.T)
        labels = np.array([rng.choice(V, p=row / row.sum()) for row in p])
        return cls(weights, labels[:, np.newaxis], inputs)

    def exact(self) -> Floats:
        """The gradient of the weights of -log p, summed over examples."""
        p = np.exp(self.inputs @ self.weights.T)
        p[np.arange(B), self.labels[:, 0]] -= 1.0
        return p.T @ self.inputs

    def table(self, grads: reference.Grads) -> Floats:
        dense = np.zeros_like(self.weights)
        dense[grads.rows.ids] = grads.rows.weights
        return dense


def distance(gradient: Floats, exact: Floats) -> float:
    return float(np.linalg.norm(gradient - exact) / np.linalg.norm(exact))


def nce_bias(problem: Problem) -> list[dict[str, float]]:
    """Of the expectation over samples that are drawn with replacement, without the noise of drawing.

    NCE is a sum over samples: in expectation class k contributes Q(k) = S q(k) times. Here it stands n(k) times for N
    q(k), and each time counts S / N.
    """
    share = reference.log_uniform_probability(np.arange(V), V).astype(np.float64)
    times = np.maximum(1, np.round(MULTIPLE * share)).astype(np.int64)
    samples = np.repeat(np.arange(V), times)
    exact, measured = problem.exact(), []
    for size in NCE_SIZES:
        weight = size / len(samples)
        values = (samples, weight * times[problem.labels], weight * times[samples])
        tables = (problem.weights, None, problem.labels, problem.inputs)
        _, grads = reference.sampled_loss_and_grad(*tables, values, family="logistic", negative_weight=weight)
        measured.append({"sampled": size, "bias": distance(problem.table(grads), exact)})
    return measured


def softmax_distance(problem: Problem) -> list[dict[str, float]]:
    """Unique log-uniform samples: the distance of single gradients (root mean square), and of their mean."""
    exact, measured = problem.exact(), []
    for size in SOFTMAX_SIZES:
        mean, squares = np.zeros_like(exact), 0.0
        for draw in range(DRAWS):
            values = reference.log_uniform_candidate_sampler(problem.labels, 1, size, True, V, (1, 2), draw)
            tables = (problem.weights, None, problem.labels, problem.inputs)
            gradient = problem.table(reference.sampled_softmax_loss_and_grad(*tables, values)[1])
            mean += gradient / DRAWS
            squares += distance(gradient, exact) ** 2 / DRAWS
        measured.append({"sampled": size, "bias": distance(mean, exact), "single": squares**0.5})
    return measured


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_output(parser, "loss_choice")
    options = parser.parse_args()
    problem = Problem.random()
    results: dict[str, Any] = {
        **header(),
        "setting": {"batch": B, "width": D, "classes": V, "draws": DRAWS},
        "nce": nce_bias(problem),
        "softmax": softmax_distance(problem),
    }
    print(f"written: {save('loss_choice-gradients', results, options.output)}")


if __name__ == "__main__":
    main()
