"""Before anything is timed: each contender's results against float64, given the same candidates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus

from contender import Contender, Outputs
from problems import Candidates, Problem

# Examples whose float64 logits are in memory at a time.
CHUNK_LOGITS = 1 << 25


def truth(problem: Problem, candidates: Candidates) -> Outputs:
    """Loss, gradients and coalesced rows of batch 0 in float64, written from the definition."""
    labels, inputs = problem.batches[0]
    B, T = labels.shape
    x = inputs.double()
    log_true, log_sampled = candidates.true_counts.double().log(), candidates.sampled_counts.double().log()
    rows = problem.weights[candidates.ids].double()
    shift = problem.biases[candidates.ids].double() - log_sampled
    ids, at = torch.unique(torch.cat([labels.flatten(), candidates.ids]), return_inverse=True)
    to_true, to_sampled = at[: B * T], at[B * T :]
    dw = torch.zeros(len(ids), x.shape[1], dtype=torch.float64, device=x.device)
    db = torch.zeros(len(ids), dtype=torch.float64, device=x.device)
    loss = torch.zeros(B, dtype=torch.float64, device=x.device)
    dx = torch.zeros_like(x)
    for t in range(T):
        true_rows = problem.weights[labels[:, t]].double()
        logit = (x * true_rows).sum(1) + problem.biases[labels[:, t]].double() - log_true[:, t]
        g = logit.sigmoid() - 1 / T
        loss += softplus(logit) - logit / T
        dx += g[:, None] * true_rows
        places = to_true.view(B, T)[:, t]
        dw.index_add_(0, places, g[:, None] * x)
        db.index_add_(0, places, g)
    step = max(1, CHUNK_LOGITS // len(rows))
    for start in range(0, B, step):
        part = slice(start, start + step)
        logit = x[part] @ rows.t() + shift
        # PyTorch's softplus is the identity from 20 on: off by 2e-9 there.
        loss[part] += softplus(logit).sum(1)
        g = logit.sigmoid()
        dx[part] += g @ rows
        dw.index_add_(0, to_sampled, g.t() @ x[part])
        db.index_add_(0, to_sampled, g.sum(0))
    return Outputs(loss, dx, ids, dw, db)


def error(actual: Tensor, expected: Tensor) -> float:
    """Euclidean norm of the error over that of the truth; NaN and infinities come through."""
    if actual.shape != expected.shape:
        return float("inf")
    return float((actual.double() - expected).norm() / expected.norm().clamp(min=1e-300))


def _rows_in_place(outputs: Outputs, expected: Outputs, V: int) -> tuple[Tensor, Tensor] | str:
    """Row gradients in the places of the truth's rows; or what is wrong with their ids.

    Padding is left out where its id is outside [0, V), and otherwise has to add nothing.
    """
    assert outputs.ids is not None and outputs.dw is not None and outputs.db is not None and expected.ids is not None
    if not len(outputs.ids) == len(outputs.dw) == len(outputs.db):
        return "ids, row weights and row biases differ in length"
    inside = (outputs.ids >= 0) & (outputs.ids < V)
    ids, dw, db = outputs.ids[inside], outputs.dw[inside], outputs.db[inside]
    n = len(expected.ids)
    if not torch.equal(ids[:n], expected.ids):
        return f"ids: {len(ids)} inside the table, not the {n} expected ones in ascending order"
    if bool(dw[n:].any()) or bool(db[n:].any()):
        return "padding inside the table is not zero"
    return dw[:n], db[:n]


def check(contender: Contender, expected: Outputs, candidates: Candidates) -> dict[str, object]:
    """Errors of each tensor, and under "wrong" what is the matter, if anything is."""
    outputs = contender.outputs(contender.step(0, candidates))
    if outputs is None:
        return {}
    errors: dict[str, float] = {"loss": error(outputs.loss, expected.loss)}
    if contender.gradients:
        assert outputs.dx is not None and expected.dx is not None
        assert expected.dw is not None and expected.db is not None
        rows = _rows_in_place(outputs, expected, contender.problem.shape.V)
        if isinstance(rows, str):
            return {"wrong": rows}
        errors |= {
            "dx": error(outputs.dx, expected.dx),
            "dw": error(rows[0], expected.dw),
            "db": error(rows[1], expected.db),
        }
    limits = dict.fromkeys(errors, contender.tolerance.gradient) | {"loss": contender.tolerance.loss}
    # Written so that NaN counts as wrong.
    wrong = [f"{name} off by {value:.1e}" for name, value in errors.items() if not value <= limits[name]]
    return {"errors": errors, **({"wrong": ", ".join(wrong)} if wrong else {})}
