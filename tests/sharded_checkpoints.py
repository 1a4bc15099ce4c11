"""Checkpoints of sharded losses: written and read by any number of ranks, whole or refused; in every process."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from fastnce.torch import distributed
from fastnce.torch.distributed import _checkpoint, _natural_order
from sharded_table import D, S, V, fails, small, trained, whole_of

FOLDER = Path(sys.argv[3]).parent if len(sys.argv) > 3 else Path()
"""Of checkpoints: that of the store."""


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
        found = safetensors(FOLDER / "table.safetensors")
        assert list(found) == list(whole)
        for name, table in found.items():
            assert torch.equal(table, whole[name]), name


def safetensors(file: Path) -> dict[str, Tensor]:
    """The tables of a consolidated checkpoint, float32."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    tables = {}
    for name, entry in json.loads(content[8 : 8 + length]).items():
        first, end = (8 + length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(content[first:end], np.float32).copy()
        tables[name] = torch.from_numpy(values).view(entry["shape"])
    return tables


def check_a_table_without_columns_has_checkpoints(rank: int, size: int) -> None:
    for bias in (True, False):
        criterion = distributed.ShardedNCELoss(*(V, 0, S), bias=bias, seed=5)
        optimizer = torch.optim.Adagrad(criterion.parameters(), lr=0.3)
        if bias:  # else nothing has a gradient
            criterion(torch.ones(4, 0), torch.arange(4)).backward()
            optimizer.step()
        folder, file = FOLDER / f"no columns {bias}", FOLDER / f"no columns {bias}.safetensors"
        whole = {name: whole_of(table, rank, size) for name, table in criterion.named_parameters()}
        distributed.save_checkpoint(folder, criterion, optimizer, "saved")
        criterion.reset_parameters()
        assert distributed.load_checkpoint(folder, criterion, optimizer) == "saved"
        for name, table in criterion.named_parameters():
            assert torch.equal(whole_of(table, rank, size), whole[name]), name
        if rank == 0:
            distributed.consolidate_checkpoint(folder, file)
            found = safetensors(file)
            assert {name: table.shape for name, table in found.items()} == {n: t.shape for n, t in whole.items()}
            assert not bias or torch.equal(found["bias"], whole["bias"])


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
    extra = {"a": torch.ones(1)}
    message = "not JSON serializable" if rank == 0 else "see the error of rank 0"
    fails(RuntimeError, message, lambda: distributed.save_checkpoint(folder, criterion, extra=extra))
    distributed.save_checkpoint(folder, criterion, extra=None if rank == 0 else extra)  # rank 0's is saved
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


def check_a_save_replaces_the_checkpoint_of_the_same_table_alone(rank: int, size: int) -> None:
    """Whichever run wrote it: the options of the loss and of the optimizer may be others, the table may not."""
    folder, first = FOLDER / "replaced", small()
    distributed.save_checkpoint(folder, first, torch.optim.Adagrad(first.parameters()), "first")
    second = distributed.ShardedSampledSoftmaxLoss(*(V, D, S + 1), seed=6)
    distributed.save_checkpoint(folder, second, extra="second")
    for name, sizes, bias in (
        ("'num_classes': 62, 'embedding_dim': 9, 'bias': True", (V + 1, D, S), True),
        ("'num_classes': 61, 'embedding_dim': 8, 'bias': True", (V, D - 1, S), True),
        ("'num_classes': 61, 'embedding_dim': 9, 'bias': False", (V, D, S), False),
    ):
        other = distributed.ShardedNCELoss(*sizes, bias=bias, seed=5)
        message = f"replaced holds a checkpoint of another table, .*: expected {{{name}}}, or a folder without"
        fails(ValueError, message, partial(distributed.save_checkpoint, folder, other))
    assert distributed.load_checkpoint(folder, second) == "second"


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
