"""What the modules share: the class table, its gradients, the stream of samples and its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fastnce import _core
from fastnce._seed import Seed, int64
from fastnce._types import Precision
from fastnce.torch._all_classes import Evaluated
from fastnce.torch._arguments import (
    Reduction,
    SamplerName,
    TrueTarget,
    is_eager,
    require_device,
    require_example_weight,
    require_flag,
    require_loss_arguments,
    require_module_options,
    seed_tensor,
)
from fastnce.torch._functional import sampled_loss
from fastnce.torch._kernels import draw
from fastnce.torch._kind import LossKind
from fastnce.torch._lists import Classes, exclude_of, label_weights_of, split_lists
from fastnce.torch._sampling import (
    AnySampler,
    Undo,
    as_arguments,
    call,
    has_seed,
    has_state,
    in_range,
    is_fixed,
    new_key,
    refuse_export,
    require_sampler,
    share_table,
)
from fastnce.torch._schema import fields_of
from fastnce.torch._shapes import certainly, fits
from fastnce.torch._state import ENTRIES, are_calls, bytes_of, entries_of, load_entries, words_of
from fastnce.torch._stream import give_back, next_call
from fastnce.torch._update import MakeOptimizer, OwnOptimizer, eagerly


class _NotOfALoss:
    """An attribute of ``nn.Embedding`` that a loss does not use: fixed at its default, other values are refused."""

    def __init__(self, default: Any, remedy: str) -> None:
        self.default, self.remedy = default, remedy

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: Any = None) -> Any:
        return self.default

    def __set__(self, module: Any, value: Any) -> None:
        if value != self.default:
            raise NotImplementedError(f"{type(module).__name__} has no {self.name}: {self.remedy}")


class SampledLoss(LossKind, Evaluated, OwnOptimizer, nn.Embedding):
    """What the modules share: a table of class embeddings, a stream of samples, and a loss that is data.

    It subclasses ``nn.Embedding`` because ``DistributedDataParallel`` accepts sparse gradients of no other module.
    """

    # As nn.Embedding declares its weight, so that type checkers allow assigning the weight of another module.
    weight: Tensor
    bias: Tensor
    """``None`` with ``bias=False``."""
    calls: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        num_sampled: int,
        *,
        num_true: int = 1,
        bias: bool = True,
        sampler: SamplerName | AnySampler = "log_uniform",
        remove_accidental_hits: bool | None = None,
        true_target: TrueTarget | None = None,
        sparse: bool = True,
        reduction: Reduction = "mean",
        ignore_index: int | None = -100,
        precision: Precision | None = None,
        seed: Seed = None,
        optimizer: MakeOptimizer | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Initialise the parameters and the stream of samples; see the class for the arguments."""
        bias, sparse = require_flag("bias", bias), require_flag("sparse", sparse)
        if remove_accidental_hits is not None:
            remove_accidental_hits = require_flag("remove_accidental_hits", remove_accidental_hits)
        require_module_options(reduction, precision, true_target, ignore_index, dtype)
        num_classes, embedding_dim = int64(num_classes, "num_classes"), int64(embedding_dim, "embedding_dim")
        num_sampled, num_true = int64(num_sampled, "num_sampled"), int64(num_true, "num_true")
        sizes = {"num_classes": num_classes, "num_sampled": num_sampled, "num_true": num_true}
        require_sampler(sampler, sizes)
        drawn = isinstance(sampler, str)
        _core.check_sampler("log_uniform" if drawn else "uniform", num_true, num_sampled, drawn, num_classes)
        if seed is not None and has_seed(sampler):
            raise ValueError("seed: expected None beside a sampler, which has a seed of its own")
        if embedding_dim < 0:
            raise ValueError(f"embedding_dim = {embedding_dim}: expected at least 0")
        table = torch.empty((num_classes, embedding_dim), device=device, dtype=dtype)
        super().__init__(num_classes, embedding_dim, sparse=sparse, _weight=table)
        self.num_sampled, self.num_true = num_sampled, num_true
        self.sampler: Any = sampler
        self.reduction, self.ignore_index = reduction, ignore_index
        self.remove_accidental_hits = self._removes_hits if remove_accidental_hits is None else remove_accidental_hits
        self.true_target, self.precision = true_target or self._true_target, precision
        self._seed = seed_tensor(seed)
        biases = nn.Parameter(torch.empty(num_classes, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", biases)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64, device=device))
        self._make_optimizer(optimizer)
        self.reset_parameters()
        self._take_over()

    def _take_over(self) -> None:
        """Goes on from the state of a sampler that does not learn."""
        self._fixed: Any = self.sampler if is_fixed(self.sampler) else None
        self._distribution: tuple[str, Tensor | None] = ("log_uniform", None)
        if self._fixed is not None:
            seed, seed2, calls = self._fixed.state
            self._seed = seed_tensor((seed, seed2))
            self.calls.fill_(calls)
            self._distribution = as_arguments(self._fixed._distribution)
        self._sampler_key: Tensor | None = None
        self._register_sampler()

    def _register_sampler(self) -> None:
        """Makes the sampler known to the operators."""
        weights = self._distribution[1]
        if weights is not None:
            share_table(self, weights, self._fixed._distribution)
        elif self._fixed is None and not isinstance(self.sampler, str):
            self._sampler_key = new_key(self, self.sampler)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._register_sampler()

    @property
    def num_classes(self) -> int:
        """Number of classes, V."""
        return self.num_embeddings

    def reset_parameters(self) -> None:
        """Initialise weight and bias again, forget what an optimizer keeps for them, and set ``calls`` to 0; the seed
        stays."""
        self._initialise(self.weight, self.bias, self.num_classes)
        self._forget_steps()
        self.calls.zero_()

    def forward(
        self,
        input: Tensor,
        target: Classes,
        weight: Tensor | None = None,
        *,
        label_weights: Tensor | None = None,
        exclude: Classes | None = None,
    ) -> Tensor:
        """The loss of a batch.

        Args:
            input: ``[B, D]``, or with more axes of examples, as in ``[B, L, D]``.
            target: ``[B]`` or ``[B, num_true]`` (``[B, L]``, ``[B, L, num_true]``) classes, integers in
                [0, num_classes) or ``ignore_index``. Or a list for each example, in place of ``num_true`` classes: a
                :class:`fastnce.Ragged` of tensors, values ``[n]`` and offsets ``[B + 1]``, or a nested tensor
                ``[B, j]`` of layout ``torch.jagged``.
            weight: ``[B]`` (``[B, L]``) factors of the examples' losses.
            label_weights: Factors of the terms of each true class, of the shape of target; ``[n]``, or a nested tensor
                of the same offsets, for lists.
            exclude: A list of classes for each example, of either kind, that it leaves out of its samples.

        Returns:
            A scalar, or ``[B]`` (``[B, L]``) for ``reduction="none"``; float64 for float64 inputs, else float32.

        Raises:
            ValueError: Shapes that do not match, tensors on different devices; on the CPU, classes out of range (on a
                CUDA device the loss is NaN).
            TypeError: Unsupported or mixed dtypes.
        """
        updates = self._makes_updates()
        if updates and torch.compiler.is_dynamo_compiling():
            return eagerly(self.forward, input, target, weight, label_weights=label_weights, exclude=exclude)
        # Past nn.Module.__getattr__, which takes a microsecond; what is parametrised is not among the parameters.
        own = self._parameters
        table, bias = own.get("weight"), own.get("bias")
        if table is None or (bias is None and "bias" not in own):
            table, bias = self.weight, self.bias
        if self.optimizer is not None and not self.training:
            table, bias = table.detach(), None if bias is None else bias.detach()
        calls = self.calls
        labels, offsets = split_lists("target", target)
        nested = offsets is not None and isinstance(target, Tensor)
        require_loss_arguments(input, labels, table, bias, self.reduction, self.ignore_index)
        if weight is not None:
            require_example_weight("weight", weight, input)
        if calls.device != input.device:
            require_device(input.device, "input", calls=calls)
        label_weights = label_weights_of(label_weights, offsets, input)
        excluded, exclude_offsets = exclude_of(exclude, input.device)
        eager = is_eager(input, labels, table, calls, *(() if bias is None else (bias,)))

        update = self._update_of(table, bias, eager) if updates else None

        def loss_of(number: Tensor | int, undo: Undo | None = None) -> Tensor:
            fields = fields_of(
                weights=table,
                biases=bias,
                labels=labels,
                label_offsets=offsets,
                label_weights=label_weights,
                inputs=input,
                exclude=excluded,
                exclude_offsets=exclude_offsets,
                num_classes=self.num_embeddings,
                num_true=self.num_true,
                padding=self.ignore_index,
                precision=self.precision,
                sparse=self.sparse,
                **self._options(),
                **self._samples(input, labels, offsets, number, eager, undo),
            )
            return sampled_loss(fields, weight, self.reduction, eager, nested, update)

        if not eager:
            # Compiled graphs are guarded by whether gradients are enabled; what other tracers make is not.
            recorded = torch.is_grad_enabled() and torch.compiler.is_dynamo_compiling()
            return loss_of(torch.ops.fastnce.next_call(calls, labels, self._seed, recorded))
        number = next_call(calls, labels, self._seed, torch.is_grad_enabled())
        undo: Undo = []
        try:
            return loss_of(number, undo)
        except BaseException:
            give_back(calls, number)
            for take_back in undo:
                take_back()
            raise

    def _samples(
        self,
        input: Tensor,
        target: Tensor,
        offsets: Tensor | None,
        number: Tensor | int,
        eager: bool,
        undo: Undo | None,
    ) -> dict[str, Any]:
        """Fields of the request for the samples of a call."""
        key, fixed = self._sampler_key, self._fixed
        by_core = {"num_sampled": self.num_sampled, "seed": self._seed, "calls": number}
        if self._corrects and key is None and fixed is None:
            return by_core
        if not self._can_be_drawn_for(input, target, offsets):
            return by_core  # which refuses the shapes
        classes = target.reshape(-1, self.num_true if offsets is None else 1)
        if key is None:
            # Without expected counts no class need be known, which may be ignore_index.
            classes = in_range(classes, self.ignore_index, eager) if self._corrects else classes[:0].long()
            sizes = (self.num_sampled, fixed is None or fixed.unique, self.num_embeddings)
            if eager:
                distribution = "log_uniform" if fixed is None else fixed._distribution
                values = draw(distribution, classes, number, self._seed, *sizes)
            else:
                values = torch.ops.fastnce.candidates(classes, number, self._seed, *self._distribution, *sizes)
        elif eager:
            values = call(classes, key, number, self.num_sampled, self.ignore_index, undo)
        else:
            refuse_export()
            values = torch.ops.fastnce.call_sampler(classes, key, number, self.num_sampled, self.ignore_index)
        sampled, true_count, sampled_count = values
        if not self._corrects:
            return {"sampled_candidates": sampled}
        if offsets is not None:
            true_count = true_count.reshape(-1)
        elif input.dim() > 2:
            true_count = true_count.reshape(*input.shape[:-1], self.num_true)
        return {
            "sampled_candidates": sampled,
            "true_expected_count": true_count,
            "sampled_expected_count": sampled_count,
        }

    def _can_be_drawn_for(self, input: Tensor, target: Tensor, offsets: Tensor | None) -> bool:
        """Whether the shape of the target is as expected."""
        if offsets is not None:
            return target.dim() == 1
        num_true = target.shape[-1] if target.dim() == input.dim() else 1
        return fits(target.shape, input.shape) and not certainly(num_true != self.num_true)

    if TYPE_CHECKING:

        def __call__(
            self,
            input: Tensor,
            target: Classes,
            weight: Tensor | None = None,
            *,
            label_weights: Tensor | None = None,
            exclude: Classes | None = None,
        ) -> Tensor: ...

    def get_extra_state(self) -> Tensor:
        """The seed of the samples, for ``state_dict``: its 16 bytes as int64 numbers.

        float16, bfloat16, float32 and float64 hold them exactly, so a state that was cast to one of these, or averaged
        over modules of one seed, still has the seed. States cast to bool or to 8-bit floating point are refused.
        """
        return bytes_of(self._seed)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the seed from the value that ``get_extra_state`` returned."""
        words = words_of(state)
        if words.dim() > 1:
            raise ValueError(f"the state of the seed has shape {list(state.shape)}: expected [16]")
        self._seed = words

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if has_state(self.sampler):
            destination.update({prefix + name: value for name, value in entries_of(self.sampler).items()})

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, strict: bool, missing_keys: list[str], *lists: Any
    ) -> None:
        error_messages: list[str] = lists[-1]
        state_dict = dict(state_dict)
        missing: list[str] = []
        if has_state(self.sampler):
            given = {name: state_dict.pop(prefix + name) for name in ENTRIES if prefix + name in state_dict}
            missing = [prefix + name for name in ENTRIES if strict and name not in given]
            there = {name: value for name, value in given.items() if not getattr(value, "is_meta", False)}
            wrong = load_entries(self.sampler, there)
            error_messages.extend(f"{prefix}{name}: {what}" for name, what in wrong.items())
        # Casting and averaging change the dtype of the count.
        calls = state_dict.get(f"{prefix}calls")
        if isinstance(calls, Tensor) and not calls.is_meta:
            usable = are_calls(calls)
            if not usable:
                error_messages.append(f"{prefix}calls = {calls!r}: expected how many calls there were, at least 0")
            state_dict[f"{prefix}calls"] = calls.to(torch.int64) if usable else self.calls
        try:
            super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing_keys, *lists)
        except ValueError as error:
            error_messages.append(f"{prefix}_extra_state: {error}")
        missing_keys.extend(missing)

    @classmethod
    def from_pretrained(cls, *_arguments: Any, **_options: Any) -> SampledLoss:
        """Not available: ``nn.Embedding`` has no argument for the number of samples."""
        raise NotImplementedError(
            f"{cls.__name__}.from_pretrained: make {cls.__name__}(num_classes, embedding_dim, num_sampled), then set "
            "its weight = nn.Parameter(embeddings), and its bias likewise; requires_grad=False freezes them"
        )

    def _own_options(self) -> dict[str, tuple[Any, Any]]:
        """Options that only this loss has, with their defaults, for ``repr``."""
        return {}

    padding_idx = _NotOfALoss(None, "ignore_index leaves examples out")
    max_norm = _NotOfALoss(None, "scale the rows of weight after the optimizer's step, as torch.renorm does")
    norm_type = _NotOfALoss(2.0, "it goes with max_norm of nn.Embedding")
    scale_grad_by_freq = _NotOfALoss(False, "the weight that forward takes scales the losses of examples")

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from their defaults, for ``repr``."""
        options = {
            "num_true": (self.num_true, 1),
            "bias": (self.bias is not None, True),
            "sampler": (self.sampler, "log_uniform"),
            "remove_accidental_hits": (self.remove_accidental_hits, self._removes_hits),
            "true_target": (self.true_target, self._true_target),
            **self._own_options(),
            "optimizer": (None if self.optimizer is None else type(self.optimizer).__name__, None),
            "sparse": (self.sparse, True),
            "reduction": (self.reduction, "mean"),
            "ignore_index": (self.ignore_index, -100),
            "precision": (self.precision, None),
        }
        given = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}, num_sampled={self.num_sampled}", *given])
