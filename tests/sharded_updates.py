"""Sharded losses that update their rows in the backward pass: steps, checkpoints, refusals; in every process."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch

import fastnce.torch
from fastnce.torch import distributed, optim
from sharded_checkpoints import FOLDER
from sharded_table import D, S, V, close, fails, small, trained, whole_of

ADAGRAD = partial(optim.Adagrad, lr=0.3, initial_accumulator_value=0.1)
ADAM = partial(optim.Adam, lr=0.02, weight_decay=0.1)
NOTHING: Any = torch.optim.SGD([torch.zeros(1)])
"""Of a loss that has an optimizer of its own."""
ROWWISE = partial(optim.RowwiseAdagrad, lr=0.3, initial_accumulator_value=0.1)


def check_an_optimizer_in_the_backward_pass_steps_as_one_after_it(rank: int, size: int) -> None:
    for make, scheme in itertools.product((ADAGRAD, ADAM, ROWWISE), ("rows_to_data", "data_to_rows")):
        own = small(scheme=scheme, optimizer=make)
        alone = small(scheme=scheme)
        alone.load_state_dict(own.state_dict(), strict=False)
        optimizer = make(list(alone.parameters()))
        assert trained(own, NOTHING, rank, range(4)) == trained(alone, optimizer, rank, range(4))
        for mine, other in zip(own.parameters(), alone.parameters(), strict=True):
            assert mine.grad is None and torch.equal(mine, other)
            for name, state in optimizer.state[other].items():
                assert torch.equal(own.optimizer.state[mine][name], state), name


def check_an_optimizer_in_the_backward_pass_steps_as_that_of_a_whole_table(rank: int, size: int) -> None:
    own, whole = small(optimizer=ADAGRAD), fastnce.torch.NCELoss(*(V, D, S), seed=5, optimizer=ADAGRAD)
    with torch.no_grad():
        whole.weight.copy_(whole_of(own.weight, rank, size))
    for step in range(4):
        generator = torch.Generator().manual_seed(step)
        inputs = torch.randn((size, 4, D), generator=generator)
        labels = torch.randint(0, V, (size, 4), generator=generator)
        own(inputs[rank], labels[rank]).backward()
        whole(inputs.flatten(0, 1), labels.flatten()).backward()
    for name in ("weight", "bias"):
        mine, other = getattr(own, name), getattr(whole, name)
        close(name, whole_of(mine, rank, size), other, "float32")
        sums = own.optimizer.state[mine]["sum"], whole.optimizer.state[other]["sum"]
        close(f"sum of {name}", whole_of(sums[0], rank, size), sums[1], "float32")


def check_a_run_with_its_own_optimizer_is_resumed_from_a_checkpoint(rank: int, size: int) -> None:
    for make in (ADAGRAD, ADAM, ROWWISE):
        criterion = small(optimizer=make)
        trained(criterion, NOTHING, rank, range(3))
        criterion.optimizer.param_groups[0]["lr"] = 0.07
        distributed.save_checkpoint(FOLDER / "own", criterion, criterion.optimizer)
        state = {name: value.clone() for name, value in criterion.state_dict().items()}
        went_on = trained(criterion, NOTHING, rank, range(3, 6))
        from_folder, from_state = (distributed.ShardedNCELoss(*(V, D, S), seed=9, optimizer=make) for _ in range(2))
        distributed.load_checkpoint(FOLDER / "own", from_folder, from_folder.optimizer)
        from_state.load_state_dict(state)
        for again in (from_folder, from_state):
            assert trained(again, NOTHING, rank, range(3, 6)) == went_on
            assert torch.equal(again.weight, criterion.weight)


def check_nothing_is_updated_without_a_backward_pass_or_in_evaluation(rank: int, size: int) -> None:
    criterion = small(optimizer=ADAGRAD)
    before = criterion.weight.detach().clone()
    inputs, labels = torch.randn(3, D, requires_grad=True), torch.arange(3)
    criterion(inputs, labels)
    with torch.no_grad():
        criterion(inputs, labels)
    criterion.eval()
    criterion(inputs, labels).backward()
    assert inputs.grad is not None and torch.equal(criterion.weight, before)


def check_a_second_update_of_a_loss_is_refused(rank: int, size: int) -> None:
    inputs, labels = torch.randn(3, D, requires_grad=True), torch.arange(3)
    for reduction in ("mean", "none"):
        criterion = small(optimizer=ADAGRAD, reduction=reduction)
        loss = criterion(inputs, labels).sum()
        loss.backward(retain_graph=True)
        fails(RuntimeError, "has updated the table already", loss.backward)
        both = criterion(inputs, labels).sum() + criterion(inputs, labels).sum()
        fails(RuntimeError, "the table was changed after the loss was computed", both.backward)
        loss = criterion(inputs, labels).sum()
        fails(
            RuntimeError,
            "create_graph=False where the backward pass updates",
            partial(torch.autograd.grad, loss, inputs, create_graph=True),
        )


def check_other_arguments_of_optimizers_are_refused(rank: int, size: int) -> None:
    message = "optimizer: True on rank 1, False on rank 0: expected the same on all ranks"
    fails(ValueError, message, lambda: small(optimizer=ADAGRAD if rank > 0 else None))
    criterion = small(optimizer=partial(optim.SGD, lr=0.1 * (rank + 1)))
    message = "hash of what is called, of its options and of the seed: "
    fails(RuntimeError, message, lambda: criterion(torch.randn(3, D), torch.arange(3)))
