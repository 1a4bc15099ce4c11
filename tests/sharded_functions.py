"""Functions over sharded tables: exact losses and ranks of labels, and sampled losses of given samples."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

import fastnce.torch
from fastnce.torch import distributed
from sharded_cases import MODULES, VALUES, Case, batches_of, joined, pairwise
from sharded_table import D, S, V, close, fails, whole_of

OF_ALL_CLASSES = {
    "full softmax": (distributed.softmax_loss, fastnce.torch.softmax_loss),
    "full sigmoid": (distributed.sigmoid_loss, fastnce.torch.sigmoid_loss),
}
OF_SAMPLES = {
    "nce": (distributed.nce_loss, fastnce.torch.nce_loss),
    "softmax": (distributed.sampled_softmax_loss, fastnce.torch.sampled_softmax_loss),
    "negative": (distributed.negative_sampling_loss, fastnce.torch.negative_sampling_loss),
}
OPTIONS = ("labels", "reduction", "dtype", "bias", "exclude", "weight", "label_weights", "sizes")


def tables(case: Case, rank: int, size: int) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Weights and biases of this rank, and of the whole table."""
    generator = torch.Generator().manual_seed(2)
    dtype = getattr(torch, case.dtype)
    weight, bias = torch.randn((V, D), generator=generator).to(dtype), torch.randn(V, generator=generator).to(dtype)
    whole = [weight, bias if case.bias else None]
    own = [None if table is None else table[rank::size].clone().requires_grad_() for table in whole]
    return own, [None if table is None else table.requires_grad_() for table in whole]


def compare(case: Case, rank: int, size: int, sharded: Any, unsharded: Any) -> None:
    """One step of a function of a batch and of tables against one of the global batch and whole tables."""
    own_tables, whole_tables = tables(case, rank, size)
    of_ranks = batches_of(case, size, 0)
    begin = sum(len(batch["input"]) for batch in of_ranks[:rank])
    own, together = dict(of_ranks[rank]), {name: joined([batch[name] for batch in of_ranks]) for name in of_ranks[0]}
    here = slice(begin, begin + len(own["input"]))
    for batch in (own, together):
        batch["input"].requires_grad_()
        if case.weight == "learned":
            batch["weight"].requires_grad_()
        batch["example_weight"] = batch.pop("weight")
        batch["reduction"] = case.reduction
    loss = sharded(weight=own_tables[0], bias=own_tables[1], **own)
    expected = unsharded(weight=whole_tables[0], bias=whole_tables[1], **together)
    if case.reduction == "none":
        close("losses", loss, expected[here], case.dtype)
        upstream = torch.linspace(0.5, 1.5, len(expected), dtype=expected.dtype)
        loss.backward(upstream[here])
        expected.backward(upstream)
    else:
        total = loss.detach().clone()
        dist.all_reduce(total)
        mean = case.reduction == "mean"
        close("loss", total / size if mean else total, expected, case.dtype)
        loss.backward()
        (expected * size if mean else expected).backward()
    names = ["input"] + (["example_weight"] if case.weight == "learned" else [])
    for name in names:
        close(f"gradient of {name}", own[name].grad, together[name].grad[here], case.dtype)
    for name, own_table, whole in zip(("weight", "bias"), own_tables, whole_tables, strict=True):
        if own_table is not None and whole is not None:
            got, wanted = own_table.grad, whole.grad
            assert isinstance(got, Tensor) and isinstance(wanted, Tensor)
            close(f"gradient of {name}", whole_of(got.to_dense(), rank, size), wanted.to_dense() / size, case.dtype)


def check_losses_over_all_classes_are_those_of_a_whole_table(rank: int, size: int) -> None:
    values = {"loss": tuple(OF_ALL_CLASSES), **{name: VALUES[name] for name in OPTIONS}}
    for case in pairwise(values):
        sharded, unsharded = OF_ALL_CLASSES[case.loss]
        for true_target in ("mean", "one"):
            options = {"true_target": true_target}
            compare(case, rank, size, partial(sharded, num_classes=V, **options), partial(unsharded, **options))


def check_losses_of_given_samples_are_those_of_a_whole_table(rank: int, size: int) -> None:
    """With and without log Q; hits removed and not; by both schemes."""
    values = {name: VALUES[name] for name in ("loss", "scheme", "hits", *OPTIONS)}
    samples = fastnce.torch.log_uniform_candidates(torch.arange(V), S, V, seed=4)

    def given(case: Case, target: Any) -> dict[str, Any]:
        if case.loss == "negative":
            return {"sampled_candidates": samples.sampled_candidates}
        if case.sampling == "stratified":
            return {"sampled_values": (samples.sampled_candidates, None, None)}
        classes = target.values if case.labels == "lists" else target
        true_count = samples.true_expected_count[classes.clamp(min=0)].reshape(classes.shape)
        return {"sampled_values": (samples.sampled_candidates, true_count, samples.sampled_expected_count)}

    def with_samples(case: Case, function: Any, target: Any, **arguments: Any) -> Tensor:
        result: Tensor = function(target=target, **given(case, target), **arguments)
        return result

    for number, case in enumerate(pairwise(values)):
        case = dataclasses.replace(case, sampling=VALUES["sampling"][number % 2])  # without log Q, here
        sharded, unsharded = OF_SAMPLES[case.loss]
        options = {**MODULES[case.loss][2], "remove_accidental_hits": case.hits}
        here = partial(with_samples, case, sharded, num_classes=V, scheme=case.scheme, **options)
        compare(case, rank, size, here, partial(with_samples, case, unsharded, **options))


def check_ranks_of_labels_are_those_of_the_whole_table(rank: int, size: int) -> None:
    """To the last bit of the scores: with equal rows, excluded labels, and ignored ones."""
    for case in pairwise({name: VALUES[name] for name in ("labels", "dtype", "bias", "exclude", "sizes")}):
        (own, own_bias), (weight, bias) = tables(case, rank, size)
        assert own is not None and weight is not None
        with torch.no_grad():
            for table, first in ((weight, 0), (own, rank)):
                classes = torch.arange(first, V, 1 if table is weight else size)
                table[classes > 40] = 0.25  # ties
            if bias is not None and own_bias is not None:
                bias[41:], own_bias[own[:, 0] == 0.25] = 0, 0
        batch = batches_of(case, size, 1)[rank]
        arguments = batch["input"], batch["target"]
        got = distributed.rank_of_labels(*arguments, own, own_bias, V, batch["exclude"])
        expected = fastnce.torch.rank_of_labels(*arguments, weight, bias, batch["exclude"])
        assert got.dtype == torch.float64
        assert torch.equal(got.nan_to_num(-1), expected.nan_to_num(-1)), (case, got, expected)
    criterion = distributed.ShardedNCELoss(*(V, D, S), seed=5)
    inputs, labels = torch.randn(3, D), torch.tensor([[1, -100], [40, 3], [7, 8]])
    expected = fastnce.torch.rank_of_labels(
        inputs, labels, *(whole_of(table, rank, size) for table in (criterion.weight, criterion.bias))
    )
    assert torch.equal(criterion.rank(inputs, labels).nan_to_num(-1), expected.nan_to_num(-1))


def check_functions_refuse_what_is_no_shard_on_all_ranks(rank: int, size: int) -> None:
    (weight, bias), _ = tables(Case(), rank, size)
    assert weight is not None
    inputs, labels, last = torch.randn(3, D), torch.arange(3), rank == size - 1
    samples = (torch.arange(S), None, None)

    def refused(message: str, call: Any, **arguments: Any) -> None:
        valid = {"input": inputs, "target": labels, "weight": weight, "bias": bias, "num_classes": V}
        if last:
            fails((ValueError, TypeError), message, lambda: call(**valid | arguments))
        else:
            fails(RuntimeError, f"rank {size - 1} refused its arguments", lambda: call(**valid))

    nce = partial(distributed.nce_loss, sampled_values=samples)
    for call in (distributed.softmax_loss, distributed.rank_of_labels, nce):
        message = rf"weight has shape \[{len(weight) - 1}, {D}\]: expected \[rows, D\] with {len(weight)} rows"
        refused(message, call, weight=weight[1:])
        refused("num_classes", call, num_classes=7.5)
        refused("is outside", call, target=labels + V)
        refused("weight", call, weight=None)
        refused("precision", call, precision="low")
        if call is not distributed.rank_of_labels:
            refused("example_weight has shape", call, example_weight=torch.ones(4))
    groups = fastnce.SampledValues(torch.zeros((3, 2), dtype=torch.int64), None, None)
    refused(r"sampled_candidates has shape \[3, 2\]: expected \[S\]", nce, sampled_values=groups)
    refused("scheme", nce, scheme="both")
    refused("reduction", nce, reduction="median")
    negatives = partial(distributed.negative_sampling_loss, sampled_candidates=torch.arange(S))
    refused("positive_weight", negatives, positive_weight=torch.ones(3))


def check_functions_find_what_differs_between_the_ranks(rank: int, size: int) -> None:
    (weight, bias), _ = tables(Case(), rank, size)
    inputs, labels, last = torch.randn(3, D), torch.arange(3), rank == size - 1
    table = (inputs, labels, weight, bias, V)
    samples = (torch.arange(S) + last, None, None)
    fails(RuntimeError, "hash of the samples", lambda: distributed.nce_loss(*table, samples))
    options = "hash of what is called, of its options"
    call = distributed.sigmoid_loss if last else distributed.softmax_loss
    fails(RuntimeError, options, lambda: call(*table))
    fails(RuntimeError, options, lambda: distributed.softmax_loss(*table, reduction="sum" if last else "mean"))
    fails(RuntimeError, "k: 3 on rank", lambda: distributed.top_k(inputs, weight, bias, V, 3 if last else 2))
    loss = distributed.softmax_loss(*table)
    loss.backward(torch.tensor(2.0 if last else 1.0))
    fails(RuntimeError, "the backward passes since the last call differ", lambda: distributed.softmax_loss(*table))


def shard(rank: int, size: int, rows: int = V) -> tuple[Tensor, Tensor]:
    """Weights and biases of the first classes that this rank holds."""
    (weight, bias), _ = tables(Case(), rank, size)
    assert weight is not None and bias is not None
    return weight.detach()[: len(range(rank, rows, size))], bias.detach()[: len(range(rank, rows, size))]


def check_functions_compare_what_tables_are(rank: int, size: int) -> None:
    """On every rank an error: a bias on one rank alone, another width, another dtype, fewer classes than ranks."""
    weight, bias = shard(rank, size)
    inputs, labels, last = torch.randn(3, D), torch.arange(3), rank == size - 1
    samples = (torch.arange(S), None, None)
    calls = (
        distributed.softmax_loss,
        distributed.rank_of_labels,
        partial(distributed.nce_loss, sampled_values=samples, scheme="data_to_rows"),
        partial(distributed.nce_loss, sampled_values=samples, scheme="rows_to_data"),
    )
    options = "hash of what is called, of its options"
    width = D - last
    few = [part[:1] for part in shard(rank, size, 1)]
    for call in calls:
        tables = {
            "bias": (inputs, weight, None if last else bias),
            "width": (inputs[:, :width], weight[:, :width], bias),
            "dtype": (inputs, weight.bfloat16() if last else weight, bias),
        }
        for own_inputs, *table in tables.values():
            fails(RuntimeError, options, partial(call, own_inputs, labels, *table, num_classes=V))
        message = f"num_classes = 1: expected at least one for each of {size} ranks"
        fails(ValueError, message, partial(call, inputs, labels, *few, num_classes=1))


def check_functions_refuse_tables_of_other_layouts_on_all_ranks(rank: int, size: int) -> None:
    weight, bias = shard(rank, size)
    inputs, labels, last = torch.randn(3, D), torch.arange(3), rank == size - 1
    others = {
        "weight has strides": {"weight": weight.t().contiguous().t()},
        r"bias has shape .*expected \[rows\]": {"bias": bias.unsqueeze(1)},
        r"weight has shape .*expected \[rows, D\]": {"weight": weight[:, 0]},
        r"target has shape \[3, 0\]: expected at least one true class": {"target": labels.view(3, 1)[:, :0]},
    }
    for message, other in others.items():
        valid = {"input": inputs, "target": labels, "weight": weight, "bias": bias, "num_classes": V}
        if last:
            fails(ValueError, message, partial(distributed.softmax_loss, **valid | other))
        else:
            fails(RuntimeError, "refused its arguments", partial(distributed.softmax_loss, **valid))


def check_functions_in_other_calls_are_told_apart(rank: int, size: int) -> None:
    weight, bias = shard(rank, size)
    inputs, labels = torch.randn(3, D), torch.arange(3)
    if rank == size - 1:
        call = partial(distributed.in_batch_softmax_loss, inputs, inputs, labels)
    else:
        call = partial(distributed.softmax_loss, inputs, labels, weight, bias, V)
    fails(RuntimeError, r"rank \d does not exchange the sizes of the batches", call)
    group: Any = dist.new_group([0])
    if rank > 0:
        fails(
            ValueError,
            "this rank is not one of it",
            lambda: distributed.top_k(inputs, weight, bias, V, 1, process_group=group),
        )


def check_classes_masked_by_minus_infinity_keep_their_places(rank: int, size: int) -> None:
    """As they have in one table: last, by their ids; also where a rank has fewer rows than k."""
    weight, bias = torch.randn((V, D), generator=torch.Generator().manual_seed(1)), torch.zeros(V)
    masked = max(size, 2) - 1
    bias[masked :: masked + 1] = -torch.inf  # of two ranks and more, all that the last one holds
    inputs = torch.randn((3, D), generator=torch.Generator().manual_seed(rank))
    own = weight[rank::size], bias[rank::size]
    for k in (V // size + 2, V, V + 2):
        got, expected = distributed.top_k(inputs, *own, V, k), fastnce.torch.top_k(inputs, weight, bias, k)
        assert torch.equal(got[1], expected[1]), k
        close("scores", got[0].nan_to_num(neginf=-9), expected[0].nan_to_num(neginf=-9), "float32")
        assert got[0].is_contiguous() and got[1].is_contiguous()
    labels = torch.tensor([masked, 0])
    for reduction in ("none", "sum"):
        with torch.no_grad():
            losses = distributed.softmax_loss(inputs[:2], labels, *own, V, reduction=reduction)
            expected = fastnce.torch.softmax_loss(inputs[:2], labels, weight, bias, reduction=reduction)
            assert torch.equal(losses.isinf(), expected.isinf()) and not losses.isnan().any(), losses


def check_memory_that_is_used_again_before_backward_is_found(rank: int, size: int) -> None:
    """With reduction="none", whose backward pass reads labels and samples again."""
    weight, bias = shard(rank, size)
    inputs, weight = torch.randn(3, D), weight.clone().requires_grad_()
    calls = {"softmax_loss": distributed.softmax_loss, "nce_loss": distributed.nce_loss}
    for name, changed in (
        ("softmax_loss", "target"),
        ("softmax_loss", "label_weights"),
        ("nce_loss", "target"),
        ("nce_loss", "candidates"),
        ("nce_loss", "counts"),
    ):
        given = {"target": torch.arange(3), "label_weights": torch.ones(3), "example_weight": torch.ones(3)}
        candidates, counts = torch.arange(S), torch.ones(S)
        memory = {**given, "candidates": candidates, "counts": counts}
        samples = {"sampled_values": (candidates, torch.ones(3), counts)} if name == "nce_loss" else {}
        loss = calls[name](inputs, weight=weight, bias=bias, num_classes=V, reduction="none", **given, **samples)
        memory[changed].zero_()
        fails(RuntimeError, "modified by an inplace operation", loss.sum().backward)


def check_a_rank_without_gradients_takes_part_in_backward(rank: int, size: int) -> None:
    weight, bias = shard(rank, size)
    inputs, labels = torch.randn(3, D), torch.arange(3)
    weight = weight.clone().requires_grad_(rank == 0)
    loss = distributed.softmax_loss(inputs, labels, weight, bias, V, reduction="none")
    loss.sum().backward()
    assert (weight.grad is not None) == (rank == 0)
    if size > 1:
        with torch.set_grad_enabled(rank == 0):
            message = "hash of what is called"
            fails(
                RuntimeError,
                message,
                lambda: distributed.softmax_loss(inputs, labels, weight, bias, V, reduction="none"),
            )


def check_sizes_of_0_and_counts_of_16_bits(rank: int, size: int) -> None:
    """Tables without columns, steps without samples; counts of bfloat16."""
    weight, bias = shard(rank, size)
    labels, counts = torch.arange(3), torch.ones(S, dtype=torch.bfloat16)
    samples = (torch.arange(S), counts[:3], counts)
    for scheme in ("rows_to_data", "data_to_rows"):
        for reduction in ("mean", "none"):
            inputs = torch.randn(3, D, requires_grad=True)
            options: Any = {"scheme": scheme, "reduction": reduction}
            distributed.nce_loss(inputs, labels, weight, bias, V, samples, **options).sum().backward()
            none = (torch.arange(0), None, None)
            distributed.nce_loss(inputs, labels, weight, bias, V, none, **options).sum().backward()
            assert inputs.grad is not None and inputs.grad.any()
            empty = torch.randn(3, 0, requires_grad=True)
            distributed.nce_loss(empty, labels, weight[:, :0], bias, V, samples, **options).sum().backward()
            assert empty.grad is not None and empty.grad.shape == (3, 0)
