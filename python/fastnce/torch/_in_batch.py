"""Softmax whose negatives are the items of the other examples in the batch: function and module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

from fastnce._errors import is_a
from fastnce._frequency import FrequencyEstimator, FrequencyState
from fastnce._types import Precision
from fastnce.torch._arguments import (
    Reduction,
    is_eager,
    require_constants,
    require_device,
    require_example_weight,
    require_floats,
    require_integers,
    require_loss_arguments,
    require_mixable,
    require_module_options,
    require_tensors,
)
from fastnce.torch._functional import sampled_loss
from fastnce.torch._lists import Classes, exclude_of
from fastnce.torch._sampling import is_exporting
from fastnce.torch._schema import fields_of
from fastnce.torch._shapes import loss_dtype
from fastnce.torch._stream import repeats

ExtraItems: TypeAlias = tuple[Tensor, Tensor | None, Tensor | None]
"""``(items [N, D], ids [N], log_q [N])``."""


def in_batch_softmax_loss(
    input: Tensor,
    items: Tensor,
    item_ids: Tensor | None = None,
    *,
    log_q: Tensor | None = None,
    extra: ExtraItems | None = None,
    exclude: Classes | None = None,
    temperature: float = 1.0,
    example_weight: Tensor | None = None,
    reduction: Reduction = "mean",
    precision: Precision | None = None,
) -> Tensor:
    """The loss of two-tower models, :func:`fastnce.in_batch_softmax_loss`, differentiable in input, items, extra items
    and example weights.

    ::

        v[i, j] = x[i] . e[j] / temperature - log_q[j]           x input, e items of the batch, then the extra ones
        loss[i] = -log softmax(v[i, :])[i]                       over j = i and what is not removed

    Args:
        input: ``[B, D]`` embeddings of the examples, such as users or queries.
        items: ``[B, D]`` embeddings of their items: item i is the target of example i.
        item_ids: ``[B]`` integers; other items with the id of an example's own are removed. ``None``: all differ.
        log_q: ``[B]`` logarithms of how often each item is expected in the batch; a constant. ``None``: no correction.
        extra: ``(items [N, D], ids [N], log_q [N])``, negatives of all examples.
        exclude: Lists of item ids that each example removes, as :func:`nce_loss` takes them. Needs ``item_ids``.
        temperature: Divides the products; a number. One that is learned: ``input / temperature``.
        example_weight: ``[B]`` factors of the examples' losses.
        reduction: ``"mean"``, ``"sum"``, or ``"none"``.
        precision: As in :func:`nce_loss`.

    Returns:
        A scalar, or ``[B]`` for ``"none"``; float64 for float64 inputs, else float32.

    Raises:
        ValueError: Shapes that do not match, tensors on different devices, a temperature that is not positive.
        TypeError: Unsupported or mixed dtypes.
    """
    require_tensors(input=input, items=items)
    require_floats("input", input)
    _require_items("items", items, input)
    if items.dim() != 2 or input.shape != items.shape:
        raise ValueError(f"items has shape {list(items.shape)}: expected [B, D] like input, {list(input.shape)}")
    more, more_ids, more_log_q = (None, None, None) if extra is None else _three(extra)
    size = items.shape[0]
    if more is not None:
        _require_items("items of extra", more, input)
        if more.dim() != 2 or more.shape[1] != items.shape[1]:
            raise ValueError(f"items of extra has shape {list(more.shape)}: expected [N, D], D = {items.shape[1]}")
        items = torch.cat([items, more])
    elif items.stride(1) != 1:
        items = items.contiguous()  # of a table, which is never copied, the library refuses such rows
    ids = _for_all("item_ids", item_ids, size, more_ids, items)
    logs = _for_all("log_q", log_q, size, more_log_q, items)
    if ids is None and exclude is not None:
        raise ValueError("exclude is given but item_ids is None: expected the id of each item")
    candidates = torch.arange(items.shape[0], device=items.device)
    target = candidates[:size]
    require_loss_arguments(input, target, items, None, reduction, None)
    require_example_weight("example_weight", example_weight, input)
    temperature = _number(temperature)
    if logs is not None and is_eager(logs) and logs.is_cpu:
        _require_finite(logs.to(loss_dtype(input)), size)
    excluded, offsets = exclude_of(exclude, input.device)
    fields = fields_of(
        weights=items,
        labels=target,
        inputs=input,
        sampled_candidates=candidates,
        true_expected_count=None if logs is None else logs[:size].unsqueeze(1),
        sampled_expected_count=logs,
        log_q=True,
        class_keys=ids,
        exclude=excluded,
        exclude_offsets=offsets,
        temperature=temperature,
        family="softmax",
        true_target="one",
        remove_accidental_hits=True,
        precision=precision,
        sparse=False,
    )
    if items.shape[0] == 0:
        # Of everything that may want a gradient, so that a backward pass finds it.
        nothing = (input * items).sum(-1, dtype=loss_dtype(input))
        if example_weight is not None:
            nothing = nothing * example_weight.to(nothing.dtype)
        return nothing if reduction == "none" else nothing.sum()
    return sampled_loss(fields, example_weight, reduction, is_eager(input, items), False)


def _three(extra: Any) -> ExtraItems:
    # A tensor would be unpacked, too.
    if not isinstance(extra, (tuple, list)):
        raise TypeError(f"extra {is_a(extra)}: expected a tuple, (items [N, D], ids [N], log_q [N])")
    if len(extra) != 3:
        raise ValueError(f"extra has {len(extra)} values: expected three, (items [N, D], ids [N], log_q [N])")
    items, ids, log_q = extra
    return items, ids, log_q


def _number(temperature: Any) -> float:
    if isinstance(temperature, Tensor) and temperature.requires_grad:
        raise ValueError("temperature requires a gradient, which the loss does not have: pass input / temperature")
    try:
        return float(temperature)
    except (TypeError, ValueError):
        raise TypeError(f"temperature {is_a(temperature)}: expected a number") from None


def _require_finite(log_q: Tensor, size: int) -> None:
    """Raises ValueError for what is not finite in the dtype of the loss; the library would name fields of its own."""
    if not log_q.isfinite().all():
        first = int(log_q.isfinite().to(torch.uint8).argmin())
        where = f"log_q[{first}]" if first < size else f"log_q[{first - size}] of extra"
        dtype = str(log_q.dtype).removeprefix("torch.")
        raise ValueError(f"{where} = {log_q[first]:g}: expected a finite {dtype} number, the log of an expected count")


def _require_items(name: str, items: Tensor, input: Tensor) -> None:
    require_tensors(**{name: items})
    require_floats(name, items)
    require_mixable(name, items, input)
    require_device(input.device, "input", **{name: items})


def _for_all(name: str, own: Tensor | None, size: int, more: Tensor | None, items: Tensor) -> Tensor | None:
    """Ids or log Q of the items of the batch and of the extra ones; ``None`` for none."""
    count = items.shape[0] - size
    if own is None or (more is None and count > 0):
        if own is None and more is None:
            return None
        given, missing = (f"{name} of extra", name) if own is None else (name, f"{name} of extra")
        raise ValueError(f"{given} is given but {missing} is None: expected both or neither")
    parts = {name: (own, size)} if more is None else {name: (own, size), f"{name} of extra": (more, count)}
    for text, (part, expected) in parts.items():
        require_tensors(**{text: part})
        (require_integers if name == "item_ids" else require_floats)(text, part)
        require_device(items.device, "input", **{text: part})
        require_constants(**{text: part})
        if part.shape != (expected,):
            raise ValueError(f"{text} has shape {list(part.shape)}: expected one for each item, [{expected}]")
    # Ids of two dtypes need not have a common one: int64 and uint64.
    return torch.cat([part.long() if name == "item_ids" else part for part, _ in parts.values()])


_ENTRIES = tuple(f"frequency_{name}" for name in FrequencyState._fields)


class InBatchSoftmaxLoss(nn.Module):
    """In-batch softmax, :func:`in_batch_softmax_loss`, which may learn how frequent items are.

    >>> criterion = fastnce.torch.InBatchSoftmaxLoss(temperature=0.05, frequency=FrequencyEstimator(num_items))
    >>> criterion(users, items, item_ids).backward()           # users, items [B, D]: outputs of two towers

    Args:
        temperature: Divides the products.
        frequency: A :class:`fastnce.FrequencyEstimator` that gives ``log_q`` where a call does not. In training mode it
            learns the items of each call; ``state_dict`` holds what it has learned. On the CPU only, outside of the
            graph under ``torch.compile``. Under activation checkpointing and in exported programs give ``log_q``
            instead: what is computed again would be learned again.
        reduction: ``"mean"``, ``"sum"``, or ``"none"``.
        precision: As in :func:`nce_loss`.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        frequency: FrequencyEstimator | None = None,
        reduction: Reduction = "mean",
        precision: Precision | None = None,
    ) -> None:
        """Hold the options; see the class."""
        super().__init__()
        require_module_options(reduction, precision)
        if frequency is not None and not isinstance(frequency, FrequencyEstimator):
            raise TypeError(f"frequency {is_a(frequency)}: expected a fastnce.FrequencyEstimator")
        self.temperature, self.frequency, self.reduction, self.precision = temperature, frequency, reduction, precision

    def forward(
        self,
        input: Tensor,
        items: Tensor,
        item_ids: Tensor | None = None,
        *,
        log_q: Tensor | None = None,
        extra: ExtraItems | None = None,
        exclude: Classes | None = None,
        example_weight: Tensor | None = None,
    ) -> Tensor:
        """The loss of ``input [B, D]`` and ``items [B, D]``; see :func:`in_batch_softmax_loss`."""
        take_back: Callable[[], None] | None = None
        if log_q is None and self.frequency is not None:
            if item_ids is None:
                raise ValueError("item_ids is None: expected the id of each item, whose frequency is learned")
            if extra is not None:
                raise ValueError(
                    "log_q is None beside extra items: expected log_q of all, to which both sources add, as in "
                    "torch.logaddexp(log_q of the batch, log of what the sampler expects)"
                )
            log_q, take_back = self.learned_log_q(item_ids)
        try:
            return in_batch_softmax_loss(
                input,
                items,
                item_ids,
                log_q=log_q,
                extra=extra,
                exclude=exclude,
                temperature=self.temperature,
                example_weight=example_weight,
                reduction=self.reduction,
                precision=self.precision,
            )
        except BaseException:
            if take_back is not None:
                take_back()  # a call that fails is not learned
            raise

    def learned_log_q(self, item_ids: Tensor) -> tuple[Tensor, Callable[[], None] | None]:
        """``log_q`` of the items of a batch, ``[B]``, which the estimator learns in training mode; and what undoes
        that."""
        if is_exporting():
            raise NotImplementedError(
                "torch.export: a program cannot hold a FrequencyEstimator: expected log_q as an argument"
            )
        if torch.compiler.is_compiling():  # as a decorator it would load the compiler with this module
            outside: Any = torch.compiler.disable(self._learned_log_q)
            return cast(tuple[Tensor, Callable[[], None] | None], outside(item_ids))
        return self._learned_log_q(item_ids)

    def _learned_log_q(self, item_ids: Tensor) -> tuple[Tensor, Callable[[], None] | None]:
        assert self.frequency is not None
        require_tensors(item_ids=item_ids)
        require_integers("item_ids", item_ids)
        ids = item_ids.detach().cpu()
        if not self.training:
            return self.frequency.log_q(ids, max(len(ids), 1)).to(item_ids.device), None
        if repeats():
            raise RuntimeError(
                "the loss runs again within a backward pass, where its batch would be learned twice: expected log_q as "
                "an argument under checkpointing, computed outside of what is checkpointed"
            )
        found, take_back = self.frequency._call(ids)
        return found.to(item_ids.device), take_back

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.frequency is not None:
            examples, last, interval = self.frequency.state
            values = torch.tensor(examples, device="cpu"), torch.from_numpy(last), torch.from_numpy(interval)
            destination.update(zip((prefix + name for name in _ENTRIES), values, strict=True))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str], *lists: Any
    ) -> None:
        error_messages: list[str] = lists[-1]
        state_dict, missing = dict(state_dict), list[str]()
        if self.frequency is not None:
            given = {name: state_dict.pop(prefix + name) for name in _ENTRIES if prefix + name in state_dict}
            missing = [prefix + name for name in _ENTRIES if strict and name not in given]
            if len(given) == len(_ENTRIES):
                try:
                    self._restore(**given)
                except (TypeError, ValueError) as error:
                    error_messages.append(f"{prefix}frequency: {error}")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *lists)
        missing_keys.extend(missing)

    def _restore(self, **entries: Any) -> None:
        assert self.frequency is not None
        require_tensors(**entries)
        for name in _ENTRIES[:2]:
            require_integers(name, entries[name], ", which a cast may round; save the state before it is cast")
        examples, last, interval = (entries[name].detach().cpu() for name in _ENTRIES)
        self.frequency.state = (int(examples), last.numpy(), interval.double().numpy())

    def extra_repr(self) -> str:
        """The options that differ from their defaults."""
        options: dict[str, Any] = {"frequency": (self.frequency, None), "reduction": (self.reduction, "mean")}
        options["precision"] = (self.precision, None)
        changed = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
        return ", ".join([f"temperature={self.temperature}", *changed])
