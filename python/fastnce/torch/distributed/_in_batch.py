"""The items of all ranks' batches as each other's negatives."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from fastnce._types import Precision
from fastnce.torch._arguments import (
    FLOATS,
    REDUCTIONS,
    Reduction,
    require_floats,
    require_integers,
    require_option,
    require_tensors,
)
from fastnce.torch._in_batch import in_batch_softmax_loss as of_one_rank
from fastnce.torch._lists import Classes
from fastnce.torch.distributed._batch import raise_if_refused, require_equal
from fastnce.torch.distributed._exchange import Exchange, as_floats, as_words, padded, without_padding


class _Gathered(torch.autograd.Function):
    """``[P, rows, ...]`` of all ranks' tensors; gradients go back and are summed."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, exchange: Exchange, rows: int) -> Tensor:
        ctx.exchange, ctx.count = exchange, own.shape[0]
        return exchange.gather("items", padded(own, rows)).wait()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return ctx.exchange.reduce_scatter("gradients of items", gradient).wait()[: ctx.count], None, None


def in_batch_softmax_loss(
    input: Tensor,
    items: Tensor,
    item_ids: Tensor,
    *,
    log_q: Tensor | None = None,
    exclude: Classes | None = None,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
    precision: Precision | None = None,
    process_group: dist.ProcessGroup | DeviceMesh | None = None,
) -> Tensor:
    """:func:`fastnce.torch.in_batch_softmax_loss` with the items of all ranks as negatives of each example.

    All ranks call it together, each with its own examples, as many as it likes. The items travel to all ranks, and
    their gradients back, where those of all ranks' losses are added up; averaged over the ranks, as
    ``DistributedDataParallel`` does with those of the towers, they are the gradients of the average of the losses.

    Args:
        input: ``[b, D]`` embeddings of this rank's examples.
        items: ``[b, D]`` embeddings of their items.
        item_ids: ``[b]`` integers; other items of any rank with the id of an example's own are removed.
        log_q: ``[b]`` logarithms of how often each item is expected in the batch of all ranks, ``log(P)`` more than in
            that of one. All ranks give it, or none.
        exclude: As in :func:`fastnce.torch.in_batch_softmax_loss`.
        temperature: Likewise.
        reduction: ``"mean"`` over the examples of all ranks, times P for each rank's share, so that the ranks' average
            is the mean; ``"sum"``, or ``"none"``.
        precision: As in :func:`fastnce.torch.nce_loss`.
        process_group: The ranks that take part; ``None`` for all.

    Raises:
        RuntimeError: On every rank, if one refused its arguments, has ``log_q`` where another has not, or stopped.
    """
    exchange = Exchange(process_group)
    refusal = None
    try:
        _require_arguments(input, items, item_ids, log_q, reduction)
        _try(input, items, item_ids, log_q, exclude, temperature)
    except Exception as error:  # raised once the others know
        refusal = error
    wanted = isinstance(items, Tensor) and items.requires_grad and torch.is_grad_enabled()
    sizes = [0, 0, 0] if refusal is not None else [*items.shape, FLOATS.index(items.dtype)]
    own = [refusal is not None, log_q is not None, wanted, *sizes]
    columns = zip(*exchange.numbers("sizes of the batches of items", own), strict=True)
    refused, with_q, recorded, counts, widths, dtypes = map(list, columns)
    if refusal is not None:
        raise refusal
    raise_if_refused(refused)
    require_equal({"log_q given": with_q, "width of items": widths, "dtype of items": dtypes})
    if any(recorded) and not wanted:
        items = items.detach().requires_grad_()  # so that this rank, too, sends gradients of the others' items back
    rows = max(counts)
    everywhere = _Gathered.apply(items, exchange, rows)
    numbers = [item_ids.long()] + ([] if log_q is None else [as_words(log_q.double())])
    ids, *logs = exchange.gather("item_ids", padded(torch.stack(numbers, 1), rows)).wait().unbind(-1)
    others = [rank for rank in range(exchange.size) if rank != exchange.rank]
    extra = None
    if others:
        of_others = [counts[rank] for rank in others]
        extra = (
            without_padding(everywhere[others], of_others),
            without_padding(ids[others], of_others),
            None if log_q is None else without_padding(as_floats(logs[0])[others], of_others).to(log_q.dtype),
        )
    result = of_one_rank(
        *(input, items, item_ids),
        log_q=log_q,
        extra=extra,
        exclude=exclude,
        temperature=temperature,
        reduction="none" if reduction == "none" else "sum",
        precision=precision,
    )
    return result * (exchange.size / max(sum(counts), 1)) if reduction == "mean" else result


def _require_arguments(input: Any, items: Any, item_ids: Any, log_q: Any, reduction: Any) -> None:
    require_option("reduction", reduction, REDUCTIONS)
    require_tensors(input=input, items=items, item_ids=item_ids)
    require_floats("input", input)
    require_floats("items", items)
    require_integers("item_ids", item_ids)
    if items.dim() != 2 or input.shape != items.shape:
        raise ValueError(f"items has shape {list(items.shape)}: expected [b, D] like input, {list(input.shape)}")
    for name, tensor in (("item_ids", item_ids), ("log_q", log_q)):
        if tensor is not None and tensor.shape != items.shape[:1]:
            raise ValueError(f"{name} has shape {list(tensor.shape)}: expected [b] = [{items.shape[0]}]")


@torch.no_grad()
def _try(input: Tensor, items: Tensor, item_ids: Tensor, log_q: Tensor | None, exclude: Any, temperature: Any) -> None:
    """Raises what the loss would raise: computed without columns, or, where no lists have to fit, of one example."""
    if exclude is not None:
        of_one_rank(input[:, :0], items[:, :0], item_ids, log_q=log_q, exclude=exclude, temperature=temperature)
    else:
        of_one_rank(input[:1], items[:1], item_ids[:1], temperature=temperature)
        if log_q is not None and not bool(log_q.isfinite().all()):
            raise ValueError("log_q is not finite: expected logarithms of how often each item is expected in the batch")
