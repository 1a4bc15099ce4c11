"""Sharded modules against unsharded ones on the same global batch, trained for some steps: each pair of options."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import fastnce.torch
from fastnce.torch import distributed, optim
from fastnce.torch.distributed import _sampling
from sharded_table import D, S, V, close, whole_of

STEPS = 20
MODULES = {
    "nce": (distributed.ShardedNCELoss, fastnce.torch.NCELoss, {}),
    "softmax": (distributed.ShardedSampledSoftmaxLoss, fastnce.torch.SampledSoftmaxLoss, {}),
    "negative": (
        distributed.ShardedNegativeSamplingLoss,
        fastnce.torch.NegativeSamplingLoss,
        {"positive_weight": 0.6, "negative_weight": 1.4},
    ),
}


@dataclass(frozen=True)
class Case:
    """One setting of each option."""

    loss: str = "nce"
    scheme: str = "data_to_rows"
    sampling: str = "global"
    labels: str = "one"
    reduction: str = "mean"
    dtype: str = "float32"
    hits: bool = False
    bias: bool = True
    exclude: bool = False
    weight: str = "none"
    label_weights: bool = False
    sizes: str = "equal"
    updates: bool = False


VALUES: dict[str, tuple[Any, ...]] = {
    "loss": tuple(MODULES),
    "scheme": ("data_to_rows", "rows_to_data", "auto"),
    "sampling": ("global", "stratified"),
    "labels": ("one", "three", "lists", "ignored"),
    "reduction": ("mean", "sum", "none"),
    "dtype": ("float32", "bfloat16", "float64"),
    "hits": (False, True),
    "bias": (True, False),
    "exclude": (False, True),
    "weight": ("none", "constant", "learned"),
    "label_weights": (False, True),
    "sizes": ("equal", "uneven", "empty"),
    "updates": (False, True),
}


def pairwise(values: dict[str, tuple[Any, ...]] = VALUES) -> list[Case]:
    """Cases in which each pair of values of two options occurs: greedily, always the case that covers most new ones."""
    names = list(values)
    left = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in values[a] for y in values[b]}
    generator = torch.Generator().manual_seed(1)
    cases = []
    while left:
        best: tuple[int, dict[str, Any]] = (0, {})
        seed = dict(sorted(left, key=repr)[0])
        for _ in range(40):
            candidate = {
                name: seed.get(name, values[name][int(torch.randint(len(values[name]), (), generator=generator))])
                for name in names
            }
            covered = sum(pair in left for pair in itertools.combinations(candidate.items(), 2))
            best = max(best, (covered, candidate), key=lambda entry: entry[0])
        cases.append(Case(**best[1]))
        left -= set(itertools.combinations(best[1].items(), 2))
    return cases


def batches_of(case: Case, size: int, step: int) -> list[dict[str, Any]]:
    """The batch of each rank, the same in every process."""
    generator = torch.Generator().manual_seed(1000 + step)
    counts = {"equal": [6] * size, "uneven": [3 + 2 * rank for rank in range(size)]}.get(case.sizes)
    if counts is None:
        counts = [0 if rank == step % size and size > 1 else 5 for rank in range(size)]
    return [_batch(case, count, generator) for count in counts]


def _batch(case: Case, count: int, generator: torch.Generator) -> dict[str, Any]:
    dtype = getattr(torch, case.dtype)
    real = torch.float64 if case.dtype == "float64" else torch.float32

    def ids(*shape: int) -> Tensor:
        # Frequent classes are small, as hits need.
        return (V * torch.rand(shape, generator=generator) ** 3).long()

    def lists() -> fastnce.Ragged:
        lengths = torch.randint(0, 4, (count,), generator=generator)
        return fastnce.Ragged(ids(int(lengths.sum())), torch.cat([torch.zeros(1).long(), lengths.cumsum(0)]))

    labels: Any = lists() if case.labels == "lists" else ids(count, *(() if case.labels == "one" else (3,)))
    if case.labels == "ignored":
        labels[torch.rand(labels.shape, generator=generator) < 0.4] = -100
    values = labels.values if case.labels == "lists" else labels
    return {
        "input": torch.randn((count, D), generator=generator).to(dtype),
        "target": labels,
        "weight": torch.rand(count, generator=generator).to(real) if case.weight != "none" else None,
        "label_weights": torch.rand(values.shape, generator=generator).to(real) if case.label_weights else None,
        "exclude": lists() if case.exclude else None,
    }


def joined(parts: list[Any]) -> Any:
    """The global batch of one argument."""
    if parts[0] is None:
        return None
    if not isinstance(parts[0], fastnce.Ragged):
        return torch.cat(parts)
    lengths = torch.cat([lists.offsets.diff() for lists in parts])
    offsets = torch.cat([torch.zeros(1).long(), lengths.cumsum(0)])
    return fastnce.Ragged(torch.cat([lists.values for lists in parts]), offsets)


class Unsharded:
    """The same loss over the whole table, with the samples of the sharded module."""

    def __init__(self, case: Case, sharded: Any, size: int) -> None:
        self.case, self.sharded, self.size = case, sharded, size
        _, module, options = MODULES[case.loss]
        self.module = module(
            *(V, D, S),
            bias=case.bias,
            remove_accidental_hits=case.hits,
            reduction=case.reduction,
            dtype=getattr(torch, case.dtype),
            num_true=3 if case.labels in ("three", "ignored") else 1,
            sampler=self.samples if case.sampling == "stratified" else "log_uniform",
            seed=5,
            **options,
        )

    def samples(self, classes: Tensor) -> fastnce.SampledValues:
        """The union of what the ranks draw, each from its own rows, with the counts that are exact given that."""
        ids, counts = [], []
        true_count = torch.zeros(classes.shape)
        for rank in range(self.size):
            place: Any = SimpleNamespace(rank=rank, size=self.size)
            stratum = _sampling.stratum_of("log_uniform", V, place)
            drawn = _sampling.Drawn(
                *(V, S, True, "log_uniform", True, self.sharded._seed, int(self.sharded.calls) - 1, stratum),
            )
            mask = classes % self.size == rank
            sampled, sampled_count, count = drawn.of_rank(place, classes[mask])
            true_count[mask] = count
            ids.append(sampled)
            counts.append(sampled_count)
        return fastnce.SampledValues(torch.cat(ids), true_count, torch.cat(counts))


def run(case: Case, rank: int, size: int) -> None:
    """Trains both for some steps, and compares losses, gradients of inputs and of factors, and tables."""
    torch.manual_seed(7 + rank)
    module, _, options = MODULES[case.loss]
    sharded = module(
        *(V, D, S),
        scheme=case.scheme,
        sampling=case.sampling,
        bias=case.bias,
        remove_accidental_hits=case.hits,
        reduction=case.reduction,
        dtype=getattr(torch, case.dtype),
        optimizer=partial(optim.SGD, lr=0.5, stochastic_rounding=False) if case.updates else None,
        seed=5,
        **options,
    )
    unsharded = Unsharded(case, sharded, size)
    parameters = dict(sharded.named_parameters())
    with torch.no_grad():
        for name, parameter in unsharded.module.named_parameters():
            parameter.copy_(whole_of(parameters[name], rank, size))
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.5) for part in (sharded, unsharded.module)]
    for step in range(STEPS):
        of_ranks = batches_of(case, size, step)
        own = dict(of_ranks[rank])
        together = {name: joined([batch[name] for batch in of_ranks]) for name in own}
        for batch in (own, together):
            batch["input"].requires_grad_()
            if case.weight == "learned":
                batch["weight"].requires_grad_()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss, expected = sharded(**own), unsharded.module(**together)
        begin = sum(len(batch["input"]) for batch in of_ranks[:rank])
        here = slice(begin, begin + len(own["input"]))
        scale = 1.0  # of the unsharded loss, whose gradients of tables are those of the average over the ranks
        if case.reduction == "none":
            close("losses", loss, expected[here], case.dtype)
            upstream = torch.linspace(0.5, 1.5, len(expected), dtype=expected.dtype)
            loss.backward(upstream[here])
            expected.backward(upstream / size)
            scale = size
        else:
            total = loss.detach().clone()
            dist.all_reduce(total)
            mean = case.reduction == "mean"
            close("loss", total / size if mean else total, expected, case.dtype)
            loss.backward()
            (expected if mean else expected / size).backward()
            scale = size
        pairs = [("gradient of inputs", own["input"], together["input"])]
        if case.weight == "learned":
            pairs.append(("gradient of weight", own["weight"], together["weight"]))
        for name, got, wanted in pairs:
            close(name, got.grad, scale * wanted.grad[here], case.dtype)
        assert not case.updates or all(parameter.grad is None for parameter in parameters.values())
        for optimizer in optimizers:
            optimizer.step()
    for name, parameter in unsharded.module.named_parameters():
        close(name, whole_of(parameters[name], rank, size), parameter.detach(), case.dtype)
