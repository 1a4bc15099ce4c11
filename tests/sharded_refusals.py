"""What ranks that disagree, refuse or stop do to each other, and what a call does not read; in every process."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

import fastnce.torch
from fastnce.torch import distributed
from sharded_table import D, S, V, fails, small


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
    fails(
        RuntimeError,
        "hash of what is called, of its options and of the seed",
        lambda: criterion(torch.randn(4, D), torch.arange(4)),
    )
    weights = torch.arange(1.0, V + 1)
    sampler = fastnce.UnigramSampler((weights.flip(0) if last else weights).tolist(), S, seed=1)
    fails(ValueError, f"sampler: .* on rank {size - 1}", lambda: distributed.ShardedNCELoss(V, D, S, sampler=sampler))


IN_BATCH_REFUSED: dict[str, dict[str, Any]] = {
    "lists to exclude of fewer examples": {"exclude": fastnce.Ragged(torch.arange(3), torch.arange(4))},
    "a temperature of 0": {"temperature": 0.0},
    "ids of other items": {"item_ids": torch.arange(3)},
    "an infinite log Q": {"log_q": torch.full((4,), torch.inf)},
}


def check_what_the_in_batch_loss_refuses_is_refused_on_all_ranks(rank: int, size: int) -> None:
    for arguments in IN_BATCH_REFUSED.values():
        valid: dict[str, Any] = {"input": torch.randn(4, D), "items": torch.randn(4, D), "item_ids": torch.arange(4)}
        if rank == size - 1:
            fails(ValueError, "", partial(distributed.in_batch_softmax_loss, **valid | arguments))
        else:
            message = f"rank {size - 1} refused its arguments"
            fails(RuntimeError, message, partial(distributed.in_batch_softmax_loss, **valid))
    exclude = fastnce.Ragged(torch.tensor([0, 2]), torch.tensor([0, 1, 1, 2, 2]))
    loss = distributed.in_batch_softmax_loss(**valid, exclude=exclude)
    assert loss.isfinite()


def check_a_rank_that_refuses_its_options_stops_all(rank: int, size: int) -> None:
    refused: list[dict[str, Any]] = [{"reduction": "median"}, {"bias": 3}, {"seed": "one"}, {"dtype": torch.int32}]
    for options in refused:
        if rank == 0:
            fails((ValueError, TypeError), next(iter(options)), partial(distributed.ShardedNCELoss, V, D, S, **options))
        else:
            fails(RuntimeError, "rank 0 refused its arguments", partial(distributed.ShardedNCELoss, V, D, S))


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
