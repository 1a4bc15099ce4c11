"""Calls that are refused: the texts of their errors, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import fastnce

B, D, V, S, T = 4, 5, 13, 10, 2
_rng = np.random.default_rng(0)
GOOD: dict[str, Any] = {
    "weights": _rng.standard_normal((V, D)).astype(np.float32),
    "biases": _rng.standard_normal(V).astype(np.float32),
    "labels": _rng.integers(V, size=(B, T)),
    "inputs": _rng.standard_normal((B, D)).astype(np.float32),
    "num_sampled": S,
    "num_classes": V,
    "num_true": T,
    "sampled_values": (np.arange(S), np.ones((B, T), np.float32), np.ones(S, np.float32)),
}
GOOD_SAMPLER: dict[str, Any] = {
    "true_classes": np.array([[0, 1], [2, 3]]),
    "num_true": 2,
    "num_sampled": 8,
    "unique": True,
    "range_max": 50,
    "seed": 1,
}


def _sampled(ids: Any = None, true_count: Any = 1.0, sampled_count: Any = None) -> dict[str, Any]:
    ids = np.arange(S) if ids is None else ids
    return {"sampled_values": (ids, true_count, np.ones(S) if sampled_count is None else sampled_count)}


# Changes to the arguments of nce_loss_and_grad.
LOSS: dict[str, dict[str, Any]] = {
    "inputs: rank": {"inputs": GOOD["inputs"].ravel()},
    "inputs: integers": {"inputs": GOOD["labels"]},
    "inputs: mixed with float64": {"inputs": GOOD["inputs"].astype(np.float64)},
    "weights: rank": {"weights": GOOD["weights"][None]},
    "weights: width": {"weights": GOOD["weights"][:, :4]},
    "weights: too few rows": {"num_classes": V + 1},
    "weights: byte order": {"weights": GOOD["weights"].astype(">f4")},
    "weights: no shards": {"weights": []},
    "weights: string": {"weights": "weights"},
    "biases: rank": {"biases": GOOD["biases"][:, None]},
    "biases: too few": {"biases": GOOD["biases"][:12]},
    "labels: rank": {"labels": GOOD["labels"][:, :, None]},
    "labels: examples": {"labels": GOOD["labels"][:3]},
    "labels: T": {"num_true": 3},
    "labels: floats": {"labels": GOOD["labels"] * 1.0},
    "labels: out of range": {"labels": GOOD["labels"] + V},
    "labels: negative": {"labels": -1 - GOOD["labels"]},
    "sampled_values: two": {"sampled_values": (np.arange(S), 1.0)},
    "sampled_values: number": {"sampled_values": 7},
    "sampled_candidates: rank": _sampled(ids=np.arange(S)[None, None]),
    "sampled_candidates: S": {"num_sampled": S - 1},
    "sampled_candidates: out of range": _sampled(ids=np.arange(S) + V),
    "sampled_candidates: floats": _sampled(ids=np.arange(S) * 1.0),
    "true_expected_count: shape": _sampled(true_count=np.ones((B, 3))),
    "true_expected_count: zero": _sampled(true_count=0.0),
    "sampled_expected_count: shape": _sampled(sampled_count=np.ones(S - 1)),
    "sampled_expected_count: NaN": _sampled(sampled_count=np.full(S, np.nan)),
    "num_sampled: above V": {"sampled_values": None, "num_sampled": V + 1},
    "num_sampled: zero": {"sampled_values": None, "num_sampled": 0},
    "num_sampled: float": {"num_sampled": 10.0},
    "num_sampled: huge": {"sampled_values": None, "num_sampled": 2**64},
    "num_classes: zero": {"num_classes": 0},
    "num_true: bool": {"num_true": True},
    "remove_accidental_hits: string": {"remove_accidental_hits": "no"},
    "partition_strategy": {"partition_strategy": "rows"},
    "precision": {"precision": "low"},
    "seed": {"sampled_values": None, "seed": 1.5},
    "grad_loss: shape": {"grad_loss": np.ones(3)},
    "grad_dtype": {"grad_dtype": "float16"},
    "pad_rows": {"pad_rows": 1},
}
# The same of log_uniform_candidate_sampler.
SAMPLER: dict[str, dict[str, Any]] = {
    "range_max: zero": {"range_max": 0},
    "range_max: float": {"range_max": 50.0},
    "num_sampled: above range_max": {"num_sampled": 51},
    "unique: string": {"unique": "no"},
    "true_classes: rank": {"true_classes": [0, 1]},
    "true_classes: out of range": {"true_classes": [[0, 1], [50, 3]]},
    "true_classes: floats": {"true_classes": [[0.0, 1.0]]},
    "seed: float": {"seed": 1.5},
}
# Those of compute_accidental_hits and of the settings.
OTHERS: dict[str, Callable[[], Any]] = {
    "hits: T": lambda: fastnce.compute_accidental_hits([[0, 1]], [1], 3),
    "hits: floats": lambda: fastnce.compute_accidental_hits([[0, 1]], [1.0], 2),
    "set_num_threads: zero": lambda: fastnce.set_num_threads(0),
    "set_precision: unknown": lambda: fastnce.set_precision("low"),
}


def bad_calls() -> dict[str, Callable[[], Any]]:
    """All of them, by name."""
    losses = {
        f"nce_loss_and_grad, {name}": lambda changes=changes: fastnce.nce_loss_and_grad(**{**GOOD, **changes})
        for name, changes in LOSS.items()
    }
    samplers = {
        f"log_uniform_candidate_sampler, {name}": lambda changes=changes: fastnce.log_uniform_candidate_sampler(
            **{**GOOD_SAMPLER, **changes}
        )
        for name, changes in SAMPLER.items()
    }
    return losses | samplers | OTHERS


def error_texts() -> dict[str, str]:
    """Type and message of each error."""
    return {name: _text(call) for name, call in bad_calls().items()}


def _text(call: Callable[[], Any]) -> str:
    try:
        call()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"
