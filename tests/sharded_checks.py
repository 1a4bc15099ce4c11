"""What sharded losses compute besides gradients, what they move, and that they end together; in every process."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

import fastnce.torch

sys.path.insert(0, str(Path(__file__).parents[1] / "bench" / "sharded"))
import plan

from counting_group import CountingGroup
from fastnce.torch import distributed
from fastnce.torch.distributed import _data_to_rows, _exchange, _rows_to_data, _sampling
from sharded_table import D, S, V, close, small, whole_of


def check_batches_of_ranks_end_together(rank: int, size: int) -> None:
    """Rank r has r + 1 batches; the others go on without examples, and their rows learn from those that have some."""
    for module, scheme in itertools.product(
        (distributed.ShardedNCELoss, distributed.ShardedSampledSoftmaxLoss), ("rows_to_data", "data_to_rows")
    ):
        criterion = module(*(V, D, S), scheme=scheme, seed=5)
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
    """The formulas are those of bench/sharded/plan.py."""
    batch, sampled = 7, 4 * size
    moved, _ = counted(rank, size, batch, sampled, scheme="data_to_rows")
    traffic = plan.data_to_rows(size, batch)
    assert floats(moved, "all_gather") == traffic.rows * D, moved
    losses = (size - 1) * batch
    assert floats(moved, "all_to_all") == traffic.gradients * D + losses, moved
    moved, labels = counted(rank, size, batch, sampled, scheme="rows_to_data")
    of_ranks: list[Any] = [None] * size
    dist.all_gather_object(of_ranks, labels.unique())
    remote = int((of_ranks[rank] % size != rank).sum())
    asked = sum(int((of_ranks[other] % size == rank).sum()) for other in range(size) if other != rank)
    traffic = plan.rows_to_data(size, sampled, remote, asked)
    assert floats(moved, "all_gather") + floats(moved, "all_to_all") == (traffic.rows + traffic.gradients) * D, moved


def check_auto_is_the_scheme_that_moves_less(rank: int, size: int) -> None:
    for batch, sampled in ((4, 60), (30, 8), (60, 60), (2, 8), (40, 40)):
        total = {}
        for scheme in ("rows_to_data", "data_to_rows", "auto"):
            moved, _ = counted(rank, size, batch, sampled // size * size, scheme=scheme)
            sums: list[Any] = [None] * size
            dist.all_gather_object(sums, sum(elements for *_, elements, dtype in moved if dtype == torch.float32))
            total[scheme] = sum(sums)
        assert total["auto"] == min(total.values()), (batch, sampled, total)


def events_of_a_step(module: Any, scheme: str) -> list[str]:
    """Collectives that start and are waited for, draws, and parts of the loss that are computed."""
    events: list[str] = []
    start, wait = _exchange.Exchange._start, _exchange.Pending.wait

    def noted_start(self: Any, what: str, *rest: Any) -> Any:
        events.append(f"start {what}")
        return start(self, what, *rest)

    def noted_wait(self: Any) -> Tensor:
        events.append(f"wait {self._what}")
        return wait(self)

    def noted(event: str, function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            events.append(event)
            return function(*arguments, **options)

        return call

    with (
        mock.patch.object(_exchange.Exchange, "_start", noted_start),
        mock.patch.object(_exchange.Pending, "wait", noted_wait),
        mock.patch.object(_sampling, "draw", noted("draw", _sampling.draw)),
        mock.patch.object(_rows_to_data, "part_of_loss", noted("score", _rows_to_data.part_of_loss)),
        mock.patch.object(_data_to_rows, "part_of_loss", noted("score", _data_to_rows.part_of_loss)),
    ):
        criterion = module(*(V, D, S), scheme=scheme, seed=5)
        events.clear()
        criterion(torch.randn(3, D), torch.arange(3))
    return [re.sub(" on rank .*", "", event) for event in events]


def check_rows_of_true_classes_travel_while_samples_are_scored(rank: int, size: int) -> None:
    for module in (distributed.ShardedNCELoss, distributed.ShardedSampledSoftmaxLoss):
        events = events_of_a_step(module, "rows_to_data")
        first = events.index("score")
        assert events.index("start all_to_all of weights of true classes") < first, events
        assert events.index("wait all_to_all of weights of true classes") > first, events


def check_inputs_travel_while_samples_are_drawn(rank: int, size: int) -> None:
    for module in (distributed.ShardedNCELoss, distributed.ShardedSampledSoftmaxLoss):
        events = events_of_a_step(module, "data_to_rows")
        assert events.index("start all_gather of inputs") < events.index("draw"), events
        assert events.index("draw") < events.index("wait all_gather of inputs") < events.index("score"), events


def check_arrays_are_made_where_the_inputs_are(rank: int, size: int) -> None:
    """Whatever PyTorch's default device is: one without memory, here."""
    samples = fastnce.torch.log_uniform_candidates(torch.arange(3), S, V, seed=1)
    for reduction in ("mean", "none"):
        for module in (distributed.ShardedNCELoss, distributed.ShardedSampledSoftmaxLoss):
            for scheme in ("rows_to_data", "data_to_rows"):
                for sampling in ("global", "stratified"):
                    criterion = module(*(V, D, S), scheme=scheme, sampling=sampling, reduction=reduction, seed=5)
                    inputs, labels = torch.randn(3, D, requires_grad=True), torch.tensor([0, -100, 2])
                    exclude = fastnce.Ragged(torch.arange(3), torch.arange(4))
                    weights = torch.ones(3)
                    with torch.device("meta"):
                        criterion(inputs, labels, weights, label_weights=weights, exclude=exclude).sum().backward()
                        criterion.top_k(inputs, 3, exclude)
                        criterion.rank(inputs, labels, exclude)
                        table = inputs, labels, criterion.weight, criterion.bias, V
                        distributed.softmax_loss(*table, exclude=exclude).sum().backward()
                        distributed.nce_loss(*table, samples, scheme=scheme, reduction=reduction).sum().backward()


def replicated(body: nn.Module) -> nn.Module:
    return DistributedDataParallel(body)


def compiled(body: nn.Module) -> nn.Module:
    whole: Any = torch.compile(body, backend="aot_eager")
    return DistributedDataParallel(whole)


def check_the_body_before_it_learns_as_before_a_whole_table(rank: int, size: int) -> None:
    """Replicated, compiled, or sharded itself; with two batches before each step of the optimizer."""
    for wrap in (replicated, compiled, fully_shard):
        torch.manual_seed(5)
        body, criterion = nn.Linear(6, D, bias=False), small()
        alone = nn.Linear(6, D, bias=False)
        alone.load_state_dict(body.state_dict())
        whole = fastnce.torch.NCELoss(V, D, S, seed=5)
        with torch.no_grad():
            whole.weight.copy_(whole_of(criterion.weight, rank, size))
        wrapped: Any = wrap(body)
        optimizers = [torch.optim.SGD(part.parameters(), lr=0.5) for part in (body, criterion, alone, whole)]
        for step in range(4):
            generator = torch.Generator().manual_seed(step)
            inputs = torch.randn((size, 4, 6), generator=generator)
            labels = torch.randint(0, V, (size, 4), generator=generator)
            criterion(wrapped(inputs[rank]), labels[rank]).backward()
            whole(alone(inputs.flatten(0, 1)), labels.flatten()).backward()
            if step % 2 == 1:
                for optimizer in optimizers:
                    optimizer.step()
                    optimizer.zero_grad()
        own = body.weight.detach()
        close("weight of the body", own.full_tensor() if isinstance(own, DTensor) else own, alone.weight, "float32")
        close("table", whole_of(criterion.weight, rank, size), whole.weight, "float32")


def check_a_device_mesh_names_the_ranks(rank: int, size: int) -> None:
    mesh = init_device_mesh("cpu", (1, size), mesh_dim_names=("replicas", "rows"))
    criterion = small(process_group=mesh["rows"])
    assert len(criterion.weight) == -(-(V - rank) // size)
    criterion(torch.randn(3, D), torch.arange(3)).backward()


def check_a_state_dict_goes_on_with_the_same_samples(rank: int, size: int) -> None:
    first, second = small(), distributed.ShardedNCELoss(*(V, D, S), seed=9)
    inputs, labels = torch.randn(3, D), torch.arange(3)
    first(inputs, labels)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(inputs, labels), second(inputs, labels))
