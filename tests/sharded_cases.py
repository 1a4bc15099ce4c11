"""What every process of a process group checks: sharded modules against unsharded ones, on the same global batch.

    python tests/sharded_cases.py RANK SIZE STORE RESULTS

The processes meet through the file STORE; rank 0 writes what it found, a line of JSON for each case, to RESULTS.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor

import fastnce.torch
from counting_group import CountingGroup
from fastnce.torch import distributed
from fastnce.torch.distributed import _checkpoint, _exchange, _natural_order, _rows_to_data, _shard
from tolerances import SHARDED_RELATIVE

V, D, S, STEPS = 61, 9, 13, 20
FOLDER = Path(sys.argv[3]).parent if len(sys.argv) > 3 else Path()
"""Of checkpoints: that of the store."""
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
}


def pairwise() -> list[Case]:
    """Cases in which each pair of values of two options occurs: greedily, always the case that covers most new ones."""
    names = list(VALUES)
    left = {((a, x), (b, y)) for a, b in itertools.combinations(names, 2) for x in VALUES[a] for y in VALUES[b]}
    generator = torch.Generator().manual_seed(1)
    cases = []
    while left:
        best: tuple[int, dict[str, Any]] = (0, {})
        seed = dict(sorted(left, key=repr)[0])
        for _ in range(40):
            candidate = {
                name: seed.get(name, VALUES[name][int(torch.randint(len(VALUES[name]), (), generator=generator))])
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


def close(name: str, got: Tensor, expected: Tensor, dtype: str) -> None:
    assert got.shape == expected.shape, f"{name}: shape {list(got.shape)}, expected {list(expected.shape)}"
    largest = expected.double().abs().max().item() if expected.numel() else 0.0
    error = (got.double() - expected.double()).abs().max().item() if expected.numel() else 0.0
    assert error <= SHARDED_RELATIVE[dtype] * largest, f"{name}: off by {error:.3g} of {largest:.3g}"


def whole_of(parameter: Tensor, rank: int, size: int) -> Tensor:
    """The table of all ranks' rows, in natural order."""
    parts: list[Any] = [None] * size
    dist.all_gather_object(parts, parameter.detach())
    whole = parameter.new_zeros((sum(map(len, parts)), *parameter.shape[1:]))
    for owner, rows in enumerate(parts):
        whole[owner::size] = rows
    return whole


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
            place = type("Place", (), {"rank": rank, "size": self.size})
            stratum = _shard.stratum_of("log_uniform", V, place)
            shard = _shard.Shard(
                *(place, torch.empty(-(-(V - rank) // self.size), D), None, V, S, {}, True, "log_uniform", True),
                seed=self.sharded._seed,
                call=int(self.sharded.calls) - 1,
                stratum=stratum,
            )
            mask = classes % self.size == rank
            sampled, sampled_count, count = shard.own_samples(classes[mask])
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
        for optimizer in optimizers:
            optimizer.step()
    for name, parameter in unsharded.module.named_parameters():
        close(name, whole_of(parameters[name], rank, size), parameter.detach(), case.dtype)


def small(**options: Any) -> distributed.ShardedNCELoss:
    return distributed.ShardedNCELoss(*(V, D, S), seed=5, **options)


def fails(kind: type[Exception] | tuple[type[Exception], ...], message: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except kind as error:
        assert re.search(message, str(error)), str(error)
        return
    raise AssertionError(f"no {kind} with {message!r}")


def check_other_arguments_are_found_when_a_module_is_made(rank: int, size: int) -> None:
    last = rank == size - 1
    fails(
        ValueError,
        f"seed: .* on rank {size - 1}",
        lambda: distributed.ShardedNCELoss(*(V, D, S), seed=6 if last else 5),
    )
    fails(ValueError, f"num_classes: {V + 1} on rank {size - 1}, {V} on rank 0", lambda: other_sizes(last))
    loss = distributed.ShardedSampledSoftmaxLoss if last else distributed.ShardedNCELoss
    fails(ValueError, "loss: 'ShardedSampledSoftmaxLoss' on rank", lambda: loss(*(V, D, S)))


def other_sizes(last: bool) -> distributed.ShardedNCELoss:
    return distributed.ShardedNCELoss(V + last, D, S)


def check_a_rank_that_refuses_its_arguments_stops_all(rank: int, size: int) -> None:
    criterion, inputs = small(), torch.randn(3, D)
    labels = torch.tensor([0, 1, V if rank == 0 else 2])
    if rank == 0:
        fails(ValueError, rf"labels\[2, 0\] = {V} is outside", lambda: criterion(inputs, labels))
    else:
        fails(RuntimeError, "rank 0 refused its arguments", lambda: criterion(inputs, labels))
    assert criterion.calls == 0
    criterion(inputs, labels.clamp(max=V - 1))  # and the next call works


def check_arguments_that_one_rank_lacks_are_named_on_all(rank: int, size: int) -> None:
    weight = torch.ones(3) if rank == 0 else None
    call = lambda: small()(torch.randn(3, D), torch.arange(3), weight)  # noqa: E731
    fails(RuntimeError, "weight given: 0 on rank 1, 1 on rank 0", call)


def check_factors_of_backward_that_differ_are_found_in_the_next_call(rank: int, size: int) -> None:
    """Of any backward pass since the last call."""
    criterion = small()
    first, second = (criterion(torch.randn(3, D), torch.arange(3)) for _ in range(2))
    first.backward(torch.tensor(1.0 + rank))
    second.backward()
    message = r"the backward passes since the last call differ .*\[2, 2.*reduction=\"none\""
    fails(RuntimeError, message, lambda: criterion(torch.randn(3, D), torch.arange(3)))


def check_a_rank_that_wants_no_gradient_needs_no_backward(rank: int, size: int) -> None:
    criterion = small()
    for parameter in criterion.parameters():
        parameter.requires_grad_(False)
    loss = criterion(torch.randn(3, D, requires_grad=rank == 0), torch.arange(3))
    if rank == 0:
        (8 * loss).backward()
    criterion(torch.randn(3, D), torch.arange(3))


REFUSED: dict[str, dict[str, Any]] = {
    "weights of other labels": {"label_weights": torch.ones(3)},
    "weights of more axes": {"label_weights": torch.ones(2, 2)},
    "lists to exclude of fewer examples": {"exclude": fastnce.Ragged(torch.arange(3), torch.arange(4))},
    "offsets that do not begin at 0": {"target": fastnce.Ragged(torch.arange(4), torch.tensor([1, 2, 3, 3, 4]))},
    "offsets that fall": {"target": fastnce.Ragged(torch.arange(4), torch.tensor([0, 2, 1, 3, 4]))},
    "more labels than examples": {"target": torch.arange(5)},
    "another width": {"input": torch.randn(4, D - 1)},
    "inputs of one axis": {"input": torch.randn(D)},
    "an exclusion out of range": {"exclude": fastnce.Ragged(torch.tensor([V]), torch.tensor([0, 1, 1, 1, 1]))},
}


def check_what_an_unsharded_module_refuses_is_refused_on_all_ranks(rank: int, size: int) -> None:
    whole = fastnce.torch.NCELoss(V, D, S)
    for scheme in ("data_to_rows", "rows_to_data"):
        criterion = small(scheme=scheme)
        for what, arguments in REFUSED.items():
            valid: dict[str, Any] = {"input": torch.randn(4, D), "target": torch.arange(4)}
            refused = valid | arguments
            fails((ValueError, TypeError), "", partial(whole, **refused))
            if rank == size - 1:
                fails((ValueError, TypeError), "", partial(criterion, **refused))
            else:
                fails(RuntimeError, f"rank {size - 1} refused its", partial(criterion, **valid))
            assert criterion.calls == 0, what
        criterion(torch.randn(4, D), torch.arange(4))


def check_dtypes_and_options_that_differ_are_found_in_a_call(rank: int, size: int) -> None:
    last = rank == size - 1
    inputs = torch.randn(4, D).to(torch.bfloat16 if last else torch.float32)
    fails(RuntimeError, f"dtype of input: 3 on rank {size - 1}", lambda: small()(inputs, torch.arange(4)))
    weight = torch.ones(4, requires_grad=True) if last else torch.ones(4)
    message = f"losses with factors of their own: 1 on rank {size - 1}"
    fails(RuntimeError, message, lambda: small()(torch.randn(4, D), torch.arange(4), weight))
    criterion = small()
    if last:
        criterion.reduction = "sum"
    fails(RuntimeError, "hash of the seed and the options", lambda: criterion(torch.randn(4, D), torch.arange(4)))
    weights = torch.arange(1.0, V + 1)
    sampler = fastnce.UnigramSampler((weights.flip(0) if last else weights).tolist(), S, seed=1)
    fails(ValueError, f"sampler: .* on rank {size - 1}", lambda: distributed.ShardedNCELoss(V, D, S, sampler=sampler))


def check_a_rank_that_refuses_its_options_stops_all(rank: int, size: int) -> None:
    reduction = "median" if rank == 0 else "mean"
    kind, message = (ValueError, "reduction") if rank == 0 else (RuntimeError, "rank 0 refused its arguments")
    fails(kind, message, lambda: small(reduction=reduction))


def check_checkpointed_activations_repeat_their_samples(rank: int, size: int) -> None:
    from torch.utils.checkpoint import checkpoint

    for reduction in ("mean", "none"):
        for reentrant in (False, True):
            gradients = []
            for wrapped in (False, True):
                criterion = small(reduction=reduction)
                with torch.no_grad():
                    for parameter in criterion.parameters():
                        parameter.copy_(torch.linspace(-1, 1, parameter.numel()).view(parameter.shape))
                inputs = torch.linspace(-1, 1, 4 * D).view(4, D).requires_grad_()
                call = partial(checkpoint, criterion, use_reentrant=reentrant) if wrapped else criterion
                call(inputs, torch.arange(4)).sum().backward()
                assert criterion.calls == 1
                gradients.append((inputs.grad, criterion.weight.grad.to_dense(), criterion.bias.grad.to_dense()))
            assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True)), (reduction, reentrant)


def check_changes_between_forward_and_backward_are_found(rank: int, size: int) -> None:
    criterion, inputs = small(reduction="none"), torch.randn(4, D, requires_grad=True)
    hidden = 1 * inputs
    loss = criterion(hidden, torch.arange(4)).sum()
    with torch.no_grad():
        hidden.mul_(0)
    fails(RuntimeError, "modified by an inplace operation", loss.backward)


def check_factors_of_ignored_examples_are_not_read(rank: int, size: int) -> None:
    labels, weight = torch.tensor([1, -100, 3]), torch.tensor([1.0, torch.inf, 2.0])
    for reduction in ("mean", "sum", "none"):
        for learned in (False, True):
            inputs = torch.randn(3, D, requires_grad=True)
            loss = small(reduction=reduction)(inputs, labels, weight.clone().requires_grad_(learned))
            assert loss.isfinite().all()
            loss.sum().backward()
            assert inputs.grad.isfinite().all() and not inputs.grad[1].any()
    criterion, inputs = small(), torch.randn(3, D, requires_grad=True)
    criterion(inputs, torch.full((3,), -100)).backward(torch.tensor(torch.inf))
    assert not inputs.grad.any() and not criterion.weight.grad.to_dense().any()


def check_batches_without_examples_on_all_ranks(rank: int, size: int) -> None:
    for scheme in ("data_to_rows", "rows_to_data"):
        for reduction in ("mean", "none"):
            inputs = torch.randn(0, D, requires_grad=True)
            loss = small(scheme=scheme, reduction=reduction)(inputs, torch.arange(0))
            assert loss.sum() == 0
            loss.sum().backward()
    criterion = small()
    assert [list(part.shape) for part in criterion.top_k(torch.randn(0, D), 3)] == [[0, 3], [0, 3]]
    assert [list(part.shape) for part in criterion.top_k(torch.randn(2, D), 0)] == [[2, 0], [2, 0]]
    if size > 1:
        kind = TypeError if rank == 0 else RuntimeError
        fails(kind, "", lambda: criterion.top_k(torch.randn(2, D), 2.5 if rank == 0 else 2))


def check_strata_too_small_are_refused_on_all_ranks(rank: int, size: int) -> None:
    unigrams = [1.0 if k % size == 0 else 0.0 for k in range(V)]
    sampler = fastnce.UnigramSampler(unigrams, S, unique=False, seed=1)
    make = lambda: distributed.ShardedNCELoss(V, D, S, sampler=sampler, sampling="stratified")  # noqa: E731
    fails(ValueError, rf"rank 1 of {size} draws \d+ of num_sampled = {S} samples from 0 classes", make)


def check_batches_of_ranks_end_together(rank: int, size: int) -> None:
    """Rank r has r + 1 batches; the others go on without examples, and their rows learn from those that have some."""
    criterion = small()
    optimizer = torch.optim.SGD(criterion.parameters(), lr=0.1)
    sizes = []
    for inputs, labels in distributed.even_batches([(torch.randn(4, D), torch.arange(4))] * (rank + 1)):
        sizes.append(len(inputs))
        optimizer.zero_grad()
        before = criterion.weight.detach().clone()
        loss = criterion(inputs, labels)
        loss.backward()
        optimizer.step()
        assert (loss == 0) == (len(inputs) == 0)
        assert not torch.equal(before, criterion.weight), "rows of a rank without examples do not learn"
    assert sizes == [4] * (rank + 1) + [0] * (size - rank - 1)


def check_top_k_is_that_of_the_whole_table(rank: int, size: int) -> None:
    criterion = small()
    with torch.no_grad():
        criterion.weight[len(criterion.weight) // 2 :] = 0.5  # ties
    weight, bias = (whole_of(table, rank, size) for table in (criterion.weight, criterion.bias))
    generator = torch.Generator().manual_seed(rank)
    inputs = torch.randn((2 + rank, D), generator=generator)
    exclude = fastnce.Ragged(torch.arange(V).repeat(2 + rank)[: 20 * (2 + rank)], torch.arange(3 + rank) * 20)
    for k in (1, 5, V + 3):
        scores, classes = criterion.top_k(inputs, k, exclude)
        expected_scores, expected = fastnce.torch.top_k(inputs, weight, bias, k, exclude)
        close("scores", scores.nan_to_num(neginf=-9), expected_scores.nan_to_num(neginf=-9), "float32")
        assert torch.equal(classes, expected)


def check_items_of_all_ranks_are_negatives(rank: int, size: int) -> None:
    """Also of batches of unequal sizes, with duplicates within and across ranks."""
    generator = torch.Generator().manual_seed(3)
    counts = [3 + 2 * other for other in range(size)]
    users, items = (torch.randn((sum(counts), D), generator=generator) for _ in range(2))
    ids = torch.randint(0, 12, (sum(counts),), generator=generator)
    log_q = torch.rand(sum(counts), generator=generator)
    begin = sum(counts[:rank])
    here = slice(begin, begin + counts[rank])
    for with_q in (False, True):
        own = [part[here].clone().requires_grad_() for part in (users, items)]
        together = [part.clone().requires_grad_() for part in (users, items)]
        q = log_q if with_q else None
        loss = distributed.in_batch_softmax_loss(*own, ids[here], log_q=None if q is None else q[here], temperature=0.3)
        expected = fastnce.torch.in_batch_softmax_loss(*together, ids, log_q=q, temperature=0.3)
        loss.backward()
        expected.backward()
        average = loss.detach().clone()
        dist.all_reduce(average)
        close("loss", average / size, expected, "float32")
        for name, got, wanted in zip(("input", "items"), own, together, strict=True):
            # Of the average of the losses, as DistributedDataParallel would average what the towers make of it.
            close(f"gradient of {name}", got.grad / size, wanted.grad[here], "float32")


def counted(rank: int, size: int, batch: int, sampled: int, **options: Any) -> tuple[list[Any], Tensor]:
    """What one step moves, floats by floats: a loss without biases and log Q moves rows alone. And its labels."""
    whole = dist.distributed_c10d._get_default_group()
    group = CountingGroup(whole) if size > 1 else whole
    criterion = distributed.ShardedNegativeSamplingLoss(
        *(V, D, sampled), bias=False, process_group=group, sampling="stratified", seed=5, **options
    )
    labels = torch.randint(0, V, (batch,), generator=torch.Generator().manual_seed(rank))
    if size > 1:
        group.moved.clear()
    criterion(torch.randn(batch, D, requires_grad=True), labels).backward()
    return getattr(group, "moved", []), labels


def floats(moved: list[Any], collective: str) -> int:
    return sum(elements for name, _, elements, dtype in moved if name == collective and dtype == torch.float32)


def check_rows_that_travel_are_as_many_as_the_formula_says(rank: int, size: int) -> None:
    batch, sampled = 7, 4 * size
    moved, _ = counted(rank, size, batch, sampled, scheme="data_to_rows")
    others = (size - 1) * batch
    assert floats(moved, "all_gather") == others * D, moved
    assert floats(moved, "reduce_scatter") == others * (D + 1), moved  # gradients of inputs, and losses
    assert floats(moved, "all_to_all") == 0
    moved, labels = counted(rank, size, batch, sampled, scheme="rows_to_data")
    of_ranks: list[Any] = [None] * size
    dist.all_gather_object(of_ranks, labels.unique())
    remote = int((of_ranks[rank] % size != rank).sum())
    asked = sum(int((of_ranks[other] % size == rank).sum()) for other in range(size) if other != rank)
    others = (size - 1) * sampled // size
    assert floats(moved, "all_gather") == others * D, moved
    assert floats(moved, "reduce_scatter") == others * D, moved
    assert floats(moved, "all_to_all") == (remote + asked) * D, moved


def check_auto_is_the_scheme_that_moves_less(rank: int, size: int) -> None:
    for batch, sampled in ((4, 60), (30, 8), (60, 60), (2, 8), (40, 40)):
        total = {}
        for scheme in ("rows_to_data", "data_to_rows", "auto"):
            moved, _ = counted(rank, size, batch, sampled // size * size, scheme=scheme)
            sums: list[Any] = [None] * size
            dist.all_gather_object(sums, sum(elements for *_, elements, dtype in moved if dtype == torch.float32))
            total[scheme] = sum(sums)
        assert total["auto"] == min(total.values()), (batch, sampled, total)


def check_rows_of_true_classes_travel_while_samples_are_scored(rank: int, size: int) -> None:
    events: list[str] = []
    start, wait, part = _exchange.Exchange._start, _exchange.Pending.wait, _rows_to_data.part_of_loss

    def noted_start(self: Any, what: str, *rest: Any) -> Any:
        events.append(f"start {what}")
        return start(self, what, *rest)

    def noted_wait(self: Any) -> Tensor:
        events.append(f"wait {self._what}")
        return wait(self)

    def noted_part(*arguments: Any, **options: Any) -> Any:
        events.append("score")
        return part(*arguments, **options)

    with (
        mock.patch.object(_exchange.Exchange, "_start", noted_start),
        mock.patch.object(_exchange.Pending, "wait", noted_wait),
        mock.patch.object(_rows_to_data, "part_of_loss", noted_part),
    ):
        for module in (distributed.ShardedNCELoss, distributed.ShardedSampledSoftmaxLoss):
            events.clear()
            module(*(V, D, S), scheme="rows_to_data", seed=5)(torch.randn(3, D), torch.arange(3))
            names = [re.sub(" on rank .*", "", event) for event in events]
            first = names.index("score")
            assert names.index("start all_to_all of weights of true classes") < first, names
            assert names.index("wait all_to_all of weights of true classes") > first, names


def trained(criterion: Any, optimizer: torch.optim.Optimizer, rank: int, steps: range) -> list[float]:
    """The losses of some steps, whose batches depend on rank and step."""
    losses = []
    for step in steps:
        generator = torch.Generator().manual_seed(100 * step + rank)
        optimizer.zero_grad()
        loss = criterion(torch.randn(4, D, generator=generator), torch.randint(0, V, (4,), generator=generator))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def check_a_run_resumed_from_a_checkpoint_is_the_one_that_went_on(rank: int, size: int) -> None:
    for make in (
        lambda parameters: torch.optim.Adagrad(parameters, lr=0.3),
        lambda parameters: torch.optim.SparseAdam(parameters, lr=0.02, betas=(0.8, 0.99)),
    ):
        criterion = small()
        optimizer = make(list(criterion.parameters()))
        trained(criterion, optimizer, rank, range(3))
        distributed.save_checkpoint(FOLDER / "resumed", criterion, optimizer, {"step": 3})
        went_on = trained(criterion, optimizer, rank, range(3, 6))
        again = distributed.ShardedNCELoss(*(V, D, S), seed=99)
        optimizer_again = make(list(again.parameters()))
        optimizer_again.param_groups[0]["lr"] = 7.0
        assert distributed.load_checkpoint(FOLDER / "resumed", again, optimizer_again) == {"step": 3}
        assert optimizer_again.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
        assert trained(again, optimizer_again, rank, range(3, 6)) == went_on
        assert torch.equal(again.weight, criterion.weight)


def check_any_number_of_ranks_reads_a_checkpoint(rank: int, size: int) -> None:
    criterion = small()
    optimizer = torch.optim.Adagrad(criterion.parameters(), lr=0.3)
    trained(criterion, optimizer, rank, range(2))
    folder = FOLDER / "any number"
    distributed.save_checkpoint(folder, criterion, optimizer)
    sums = {name: optimizer.state[table]["sum"] for name, table in criterion.named_parameters()}
    whole = {name: whole_of(table, rank, size) for name, table in criterion.named_parameters()}
    whole_sums = {name: whole_of(table, rank, size) for name, table in sums.items()}
    for fewer in range(1, size + 1):
        group = dist.new_group(range(fewer))
        if rank >= fewer:
            continue
        other = small(process_group=group)
        own = torch.optim.Adagrad(other.parameters(), lr=0.3)
        distributed.load_checkpoint(folder, other, own)
        for name, table in other.named_parameters():
            assert torch.equal(table, whole[name][rank::fewer]), (fewer, name)
            assert torch.equal(own.state[table]["sum"], whole_sums[name][rank::fewer]), (fewer, name)
        assert own.state[other.weight]["step"] == 2
    if rank == 0:
        distributed.consolidate_checkpoint(folder, FOLDER / "table.safetensors")
        content = (FOLDER / "table.safetensors").read_bytes()
        length = int.from_bytes(content[:8], "little")
        for name, entry in json.loads(content[8 : 8 + length]).items():
            first, end = (8 + length + offset for offset in entry["data_offsets"])
            found = torch.frombuffer(bytearray(content[first:end]), dtype=torch.float32).view(entry["shape"])
            assert torch.equal(found, whole[name]), name


def check_rows_are_reshuffled_in_blocks(rank: int, size: int) -> None:
    criterion = small()
    natural = _natural_order.to_natural_order(criterion._exchange, criterion.weight.detach(), V)
    with mock.patch.object(_natural_order, "BLOCK_BYTES", 5 * 4 * D):
        again = _natural_order.to_natural_order(criterion._exchange, criterion.weight.detach(), V)
        back = _natural_order.from_natural_order(criterion._exchange, natural, V)
    assert torch.equal(again, natural)
    assert torch.equal(back, criterion.weight)


def check_a_checkpoint_that_is_not_whole_is_refused(rank: int, size: int) -> None:
    folder, criterion = FOLDER / "cut", small()
    distributed.save_checkpoint(folder, criterion)
    dist.barrier()
    if rank == 0:
        part = next(folder.glob("save-*"))
        victim = sorted(part.glob("*.distcp"))[0]
        victim.write_bytes(victim.read_bytes()[:-1])
    dist.barrier()
    message = r"save-0/__0_0.distcp has \d+ bytes: expected \d+ bytes; the checkpoint .*cut is not whole"
    fails(ValueError, message, lambda: distributed.load_checkpoint(folder, criterion))
    fails(FileNotFoundError, "no checkpoint", lambda: distributed.load_checkpoint(FOLDER / "none", criterion))


def check_loading_replaces_the_state_of_the_optimizer(rank: int, size: int) -> None:
    folder, criterion = FOLDER / "rolled back", small()
    optimizer = torch.optim.SparseAdam(list(criterion.parameters()), lr=0.02)
    distributed.save_checkpoint(folder, criterion, optimizer)
    first = trained(criterion, optimizer, rank, range(3))
    distributed.load_checkpoint(folder, criterion, optimizer)
    assert trained(criterion, optimizer, rank, range(3)) == first
    other = torch.optim.Adagrad(criterion.parameters())
    message = "holds the state of optimizer SparseAdam: expected Adagrad"
    fails(ValueError, message, lambda: distributed.load_checkpoint(folder, criterion, other))


def check_what_cannot_be_saved_is_refused_on_all_ranks(rank: int, size: int) -> None:
    folder, criterion = FOLDER / "refused", small(sparse=False)
    fails(TypeError, "JSON", lambda: distributed.save_checkpoint(folder, criterion, extra={"a": torch.ones(1)}))
    optimizer = torch.optim.Adafactor(criterion.parameters())
    trained(criterion, optimizer, rank, range(1))
    message = r"the optimizer keeps col_var of shape \[1, 9\] for weight"
    fails(ValueError, message, lambda: distributed.save_checkpoint(folder, criterion, optimizer))


def check_a_save_removes_nothing_but_saves(rank: int, size: int) -> None:
    criterion = small()
    distributed.save_checkpoint(FOLDER / "outer" / "save-best", criterion)
    for _ in range(2):
        distributed.save_checkpoint(FOLDER / "outer", criterion)
    distributed.load_checkpoint(FOLDER / "outer" / "save-best", criterion)


def check_a_save_that_fails_leaves_the_one_before_it(rank: int, size: int) -> None:
    folder, criterion = FOLDER / "failed", small()
    distributed.save_checkpoint(folder, criterion, extra="first")
    with mock.patch.object(_checkpoint, "_finish", side_effect=OSError("No space left on device")):
        fails(
            RuntimeError,
            "the checkpoint was not written: " + ("OSError: No space left" if rank == 0 else "see the error of rank 0"),
            lambda: distributed.save_checkpoint(folder, criterion, extra="second"),
        )
    assert distributed.load_checkpoint(folder, criterion) == "first"
    distributed.save_checkpoint(folder, criterion, extra="third")
    assert distributed.load_checkpoint(folder, criterion) == "third"
    dist.barrier()
    assert len(list(folder.glob("save-*"))) == 1


def check_a_state_dict_goes_on_with_the_same_samples(rank: int, size: int) -> None:
    first, second = small(), distributed.ShardedNCELoss(*(V, D, S), seed=9)
    inputs, labels = torch.randn(3, D), torch.arange(3)
    first(inputs, labels)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(inputs, labels), second(inputs, labels))


CHECKS = {name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")}
NEED_TWO = (
    *("other_arguments", "a_rank_that", "arguments_that", "factors_of_backward", "rows_of_true", "auto"),
    *("what_an_unsharded", "dtypes_and_options", "strata_too_small"),
)


def checks_of(size: int) -> dict[str, Callable[[int, int], None]]:
    """What can be checked with so many ranks."""
    return {name: check for name, check in CHECKS.items() if size > 1 or not name.startswith(NEED_TWO)}


def main() -> None:
    """Runs all cases. A case that fails on one rank alone leaves the others waiting: the group's time-out ends them."""
    rank, size, store, results = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", store=dist.FileStore(store, size), rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    fastnce.set_num_threads(1)
    with results.open("w") if rank == 0 else open("/dev/null", "w") as out:
        cases: dict[str, Callable[[int, int], None]] = {str(case): partial(run, case) for case in pairwise()}
        for name, check in (cases | checks_of(size)).items():
            failure = ""
            try:
                check(rank, size)
            except Exception:
                failure = traceback.format_exc()
                print(name, failure, file=sys.stderr, flush=True)  # should others wait for this rank
            failures: list[Any] = [None] * size
            dist.all_gather_object(failures, failure)
            print(json.dumps({"name": name, "failures": failures}), file=out, flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
