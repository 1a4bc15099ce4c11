"""What every call on a sharded table is: ranks check their arguments, tell each other, and compute together."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fastnce import _core
from fastnce._seed import int64
from fastnce.torch._arguments import (
    TRUE_TARGETS,
    Reduction,
    require_example_weight,
    require_loss_arguments,
    require_module_options,
    require_option,
    require_tensors,
)
from fastnce.torch._kernels import Gradients, as_array
from fastnce.torch._lists import Classes, exclude_of, label_weights_of, split_lists
from fastnce.torch._update import Update
from fastnce.torch.distributed._autograd import Examples, Step, Total
from fastnce.torch.distributed._batch import Batch, Header, Lists, Own, batch_of, header_of
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import require_classes, rows_of_rank
from fastnce.torch.distributed._shard import Result, Shard

Run: TypeAlias = Callable[[Batch, Header, float, Gradients], Result]
"""What computes a step: as :func:`data_to_rows`, for a shard."""

Counts: TypeAlias = tuple[Tensor, Tensor | None, Tensor | None]
"""Sampled classes, and expected counts of true and of sampled ones."""

_NO_SAMPLES: Counts = (torch.zeros(1, dtype=torch.int64, device="cpu"), None, None)

_factors: Any = WeakTensorKeyDictionary()
"""Of a table: gradients of its losses, in the backward passes since the last call."""


class Arguments(NamedTuple):
    """Those of a call, as users name them."""

    input: Tensor
    target: Classes
    weight: Tensor | None = None
    """Factors of the losses."""
    label_weights: Tensor | None = None
    exclude: Classes | None = None
    sampled_values: Any = None


def attempt(make: Callable[[], Batch]) -> tuple[Batch, Exception | None]:
    """This rank's batch, or why it is refused: to be raised once the other ranks know."""
    try:
        return make(), None
    except Exception as error:
        none = torch.empty(0, dtype=torch.int64, device="cpu")
        return Batch(none.float().view(0, 0), Lists(none, none)), error


def require_labels(target: Any, input: Tensor) -> None:
    """Raises ValueError for examples that are not meant to have a true class."""
    if isinstance(target, Tensor) and not target.is_nested and target.dim() == input.dim() and not target.shape[-1]:
        raise ValueError(
            f"target has shape {list(target.shape)}: expected at least one true class for each example, or lists, "
            "of which some may be empty"
        )


@dataclass
class Table:
    """A table whose rows are spread over the ranks of a process group."""

    exchange: Exchange
    weight: Tensor
    """``[rows, D]``: those of this rank."""
    bias: Tensor | None
    num_classes: int
    reduction: Reduction = "none"
    ignore_index: int | None = None
    update: Update | None = None
    """What the backward passes of its losses do with this rank's rows."""

    def shard(self, options: dict[str, Any], sampling: Any = None) -> Shard:
        """This rank's rows, with a loss."""
        biases = None if self.bias is None else self.bias.detach()
        return Shard(self.exchange, self.weight.detach(), biases, options, sampling)

    def require_rows(self) -> None:
        """Raises ValueError unless tables have the rows that this rank has to hold."""
        rank, size = self.exchange.rank, self.exchange.size
        require_classes(self.num_classes, size)
        rows = rows_of_rank(self.num_classes, rank, size)
        for name, table, dims in (("weight", self.weight, 2), ("bias", self.bias, 1)):
            if table is not None and (table.shape[:1] != (rows,) or table.dim() != dims):
                letters = "[rows, D]" if dims == 2 else "[rows]"
                raise ValueError(
                    f"{name} has shape {list(table.shape)}: expected {letters} with {rows} rows, those of the classes "
                    f"{rank}, {rank + size}, {rank + 2 * size}, ... below num_classes = {self.num_classes}"
                )

    def checked(self, given: Arguments, weight_name: str = "weight") -> Batch:
        """The batch of arguments that a table of all classes would take. ``weight_name``: in errors."""
        labels, offsets = split_lists("target", given.target)
        input, weight = given.input, given.weight
        require_loss_arguments(input, labels, self.weight, self.bias, self.reduction, self.ignore_index)
        if self.weight.shape[1] > 1 and self.weight.stride(1) != 1:
            raise ValueError(
                f"weight has strides {list(self.weight.stride())}: expected contiguous rows; call weight.contiguous()"
            )
        if weight is not None:
            require_example_weight(weight_name, weight, input)
        label_weights = label_weights_of(given.label_weights, offsets, input)
        excluded, exclude_offsets = exclude_of(given.exclude, input.device)
        samples = given.sampled_values or _NO_SAMPLES
        self._require_request(input, labels, offsets, label_weights, excluded, exclude_offsets, samples)
        factors = None if weight is None or self.has_own_factors(weight) else weight
        return batch_of(
            input=input,
            labels=labels,
            offsets=offsets,
            ignore_index=self.ignore_index,
            label_weights=_per_label(label_weights, labels),
            true_count=_per_label(samples[1], labels),
            excluded=excluded,
            exclude_offsets=exclude_offsets,
            factors=factors,
        )

    def checked_as_given(self, given: Arguments, options: dict[str, Any]) -> Batch:
        """The same where the table and the options, too, are arguments of the call."""
        require_tensors(weight=self.weight, **({} if self.bias is None else {"bias": self.bias}))
        require_module_options(self.reduction, options["precision"], None, self.ignore_index)
        if "true_target" in options:
            require_option("true_target", options["true_target"], TRUE_TARGETS)
        self.num_classes = int64(self.num_classes, "num_classes")
        self.require_rows()
        return self.checked(given, "example_weight")

    def _require_request(
        self,
        input: Tensor,
        labels: Tensor,
        offsets: Tensor | None,
        label_weights: Tensor | None,
        excluded: Tensor | None,
        exclude_offsets: Tensor | None,
        samples: Counts,
    ) -> None:
        """Raises what the library does for a table of all classes, of which a row stands for each here."""
        row = torch.zeros(self.weight.shape[1:], dtype=self.weight.dtype, device="cpu")
        fields = {
            "weights": row.expand(self.num_classes, -1),
            "labels": labels,
            "label_offsets": offsets,
            "label_weights": label_weights,
            "inputs": input if input.is_cpu else row.to(input.dtype).expand(input.shape),
            "exclude": excluded,
            "exclude_offsets": exclude_offsets,
        }
        arrays: dict[str, Any] = {name: _on_cpu(field) for name, field in fields.items()}
        arrays["sampled_values"] = tuple(map(_on_cpu, samples))
        num_true = labels.shape[-1] if offsets is None and labels.dim() == input.dim() else 1
        _core.check_loss({**arrays, "num_true": num_true, "padding": self.ignore_index})

    def has_own_factors(self, weight: Tensor | None) -> bool:
        """Whether losses leave the step one by one, since their factors are not constants of it."""
        return self.reduction == "none" or (weight is not None and weight.requires_grad and torch.is_grad_enabled())

    def wanted(self, input: Any) -> Gradients:
        """Which gradients this rank asks for."""
        recorded = torch.is_grad_enabled()
        inputs, weights, biases = (
            recorded and isinstance(tensor, Tensor) and tensor.requires_grad
            for tensor in (input, self.weight, self.bias)
        )
        return inputs, weights, biases

    def header(
        self,
        batch: Batch,
        refusal: Exception | None,
        call: object,
        number: Mapping[str, int] = MappingProxyType({"number of the call": 0}),
        gradients: Gradients = (False, False, False),
        weight: Tensor | None = None,
        *,
        rows_may_travel: bool = False,
    ) -> Header:
        """What the ranks tell each other. Raises ``refusal``, once the others know of it.

        ``call``: what is called and with which options, by its ``repr``; and another number that all have to share.
        """
        has_own_factors = refusal is None and self.has_own_factors(weight)
        told = None
        if refusal is None:
            recorded = not has_own_factors or torch.is_grad_enabled()  # or the backward pass would lack this rank
            told = call, recorded, self.bias is not None, self.weight.shape[1], self.weight.dtype
        own = Own(
            gradients,
            {"hash of what is called, of its options and of the seed": zlib.crc32(repr(told).encode()), **number},
            [] if refusal is not None else _factors.get(self.weight, []),
            has_own_factors=has_own_factors,
            fault=refusal is not None,
            rows_may_travel=rows_may_travel,
        )
        header = header_of(self.exchange, batch, own)
        if refusal is not None:
            raise refusal
        _factors.pop(self.weight, None)
        return header

    def loss(
        self,
        input: Tensor,
        batch: Batch,
        header: Header,
        weight: Tensor | None,
        run: Run,
        *,
        sparse: bool,
        all_classes: bool = False,
        samples: tuple[Tensor | None, ...] = (),
    ) -> Tensor:
        """The losses of this rank's examples, reduced. ``samples``: those that the caller gave."""
        size = self.exchange.size
        scale = 1 / max(header.taking_part, 1) if self.reduction == "mean" else 1 / size

        def of_step(factors: Tensor | None, scale: float, gradients: Gradients) -> Result:
            if factors is not None:
                factors = factors.masked_fill(batch.ignored, 0)
            step = replace(batch, factors=factors)
            return run(step, replace(header, factors=factors is not None), scale, gradients)

        no_example = header.taking_part == 0
        reads = (*batch.tensors, *(tensor for tensor in samples if tensor is not None))
        step = Step(of_step, header.gradients, batch.ignored, no_example, size, sparse, all_classes, reads, self.update)
        if not self.has_own_factors(weight):
            total: Tensor = Total.apply(input, self.weight, self.bias, (step, batch.factors, scale, self._note))
            return total
        receivers: list[Any] = [input, self.weight, self.bias]
        if torch.is_grad_enabled() and any(header.gradients) and not any(self.wanted(input)):
            first = header.gradients.index(True)  # so that this rank, too, has a backward pass, for the others
            receivers[first] = receivers[first].detach().requires_grad_()
        losses: Tensor = Examples.apply(*receivers, step)
        if self.reduction == "mean":
            losses = losses * (scale * size)
        if weight is not None:
            losses = losses * weight.to(losses.dtype).masked_fill(batch.ignored.view(weight.shape), 0)
        return losses if self.reduction == "none" else losses.sum()

    def _note(self, factor: float) -> None:
        _factors.setdefault(self.weight, []).append(factor)


def _on_cpu(tensor: Tensor | None) -> Any:
    """As the library checks it: values of a CUDA device are copied, which the exchange of sizes waits for anyway."""
    return None if tensor is None else as_array(tensor.cpu())


def _per_label(values: Tensor | None, labels: Tensor) -> Tensor | None:
    """In the shape of the labels, to which it may be broadcast."""
    if values is None:
        return None
    return values.reshape(labels.shape) if values.numel() == labels.numel() else values.expand(labels.shape)
