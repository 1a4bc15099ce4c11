"""What the modules share: the class table, its gradients, the stream of samples and its state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from fastnce import _core
from fastnce._samplers._base import FixedSampler
from fastnce._seed import Seed, int64
from fastnce._types import Precision
from fastnce.torch._arguments import (
    FLOATS,
    PRECISIONS,
    REDUCTIONS,
    TRUE_TARGETS,
    Reduction,
    SamplerName,
    TrueTarget,
    is_eager,
    require_device,
    require_example_weight,
    require_loss_arguments,
    require_option,
    seed_tensor,
)
from fastnce.torch._functional import sampled_loss
from fastnce.torch._kernels import candidates
from fastnce.torch._sampling import AnySampler, as_tensors, call, has_state, in_range, require_sampler, restore
from fastnce.torch._sampling import new_key as sampler_key
from fastnce.torch._schema import fields_of
from fastnce.torch._shapes import certainly, fits
from fastnce.torch._stream import give_back, next_call


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


_STATE = ("sampler_position", "sampler_weights")
"""Buffers for the state of a sampler that learns, or of a mixture of samplers."""


def _write_state(module: Any, *_: Any) -> None:
    """Writes the state of the module's sampler to its buffers, before ``state_dict`` reads them."""
    for name, values in zip(_STATE, as_tensors(module.sampler), strict=True):
        module._buffers[name] = values.to(module.calls.device)


class SampledLoss(nn.Embedding):
    """What the modules share: a table of class embeddings, a stream of samples, and a loss that is data.

    It subclasses ``nn.Embedding`` because ``DistributedDataParallel`` accepts sparse gradients of no other module.
    """

    # As nn.Embedding declares its weight, so that type checkers allow assigning the weight of another module.
    weight: Tensor
    bias: Tensor
    """``None`` with ``bias=False``."""
    calls: Tensor

    # Which loss a subclass is, and its defaults.
    _family: ClassVar[str] = "logistic"
    _true_target: ClassVar[TrueTarget] = "mean"
    _removes_hits: ClassVar[bool] = False
    _corrects: ClassVar[bool] = True
    """Whether logits are corrected by log Q."""

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
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Initialise the parameters and the stream of samples; see the class for the arguments."""
        require_option("reduction", reduction, REDUCTIONS)
        if precision is not None:
            require_option("precision", precision, PRECISIONS)
        if true_target is not None:
            require_option("true_target", true_target, TRUE_TARGETS)
        if ignore_index is not None:
            int64(ignore_index, "ignore_index")
        if dtype is not None and dtype not in FLOATS:
            raise TypeError(f"dtype is {dtype}: expected float32, float64, float16 or bfloat16")
        num_classes, embedding_dim = int64(num_classes, "num_classes"), int64(embedding_dim, "embedding_dim")
        num_sampled, num_true = int64(num_sampled, "num_sampled"), int64(num_true, "num_true")
        sizes = {"num_classes": num_classes, "num_sampled": num_sampled, "num_true": num_true}
        require_sampler(sampler, sizes)
        drawn = isinstance(sampler, str)
        _core.check_sampler("log_uniform" if drawn else "uniform", num_true, num_sampled, drawn, num_classes)
        if seed is not None and has_state(sampler):
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
        self.reset_parameters()
        self._take_over()

    def _take_over(self) -> None:
        """Makes a sampler's state the module's: buffers of ``state_dict``."""
        self._sampler_key = None if isinstance(self.sampler, str) else sampler_key(self, self.sampler)
        if isinstance(self.sampler, FixedSampler):
            seed, seed2, calls = self.sampler.state
            self._seed = seed_tensor((seed, seed2))
            self.calls.fill_(calls)
        elif has_state(self.sampler):
            for name, values in zip(_STATE, as_tensors(self.sampler), strict=True):
                self.register_buffer(name, values.to(self.calls.device))
            self.register_state_dict_pre_hook(_write_state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._sampler_key is not None:
            self._sampler_key = sampler_key(self, self.sampler)

    @property
    def num_classes(self) -> int:
        """Number of classes, V."""
        return self.num_embeddings

    def reset_parameters(self) -> None:
        """Initialise weight and bias again and set ``calls`` to 0; the seed stays."""
        bound = 1 / math.sqrt(max(self.embedding_dim, 1))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.constant_(self.bias, self._initial_bias())
        self.calls.zero_()

    def _initial_bias(self) -> float:
        return 0.0

    def _options(self) -> dict[str, Any]:
        """Fields of the request that make it this loss."""
        return {
            "family": self._family,
            "true_target": self.true_target,
            "remove_accidental_hits": self.remove_accidental_hits,
        }

    def forward(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The loss of a batch.

        Args:
            input: ``[B, D]``, or with more axes of examples, as in ``[B, L, D]``.
            target: ``[B]`` or ``[B, num_true]`` (``[B, L]``, ``[B, L, num_true]``) classes, integers in
                [0, num_classes) or ``ignore_index``.
            weight: ``[B]`` (``[B, L]``) factors of the examples' losses.

        Returns:
            A scalar, or ``[B]`` (``[B, L]``) for ``reduction="none"``; float64 for float64 inputs, else float32.

        Raises:
            ValueError: Shapes that do not match, tensors on different devices; on the CPU, classes out of range (on
                a CUDA device, not yet run on a GPU, the loss is NaN).
            TypeError: Unsupported or mixed dtypes.
        """
        # Past nn.Module.__getattr__, which takes a microsecond; what is parametrised is not among the parameters.
        own = self._parameters
        table, bias = own.get("weight"), own.get("bias")
        if table is None or (bias is None and "bias" not in own):
            table, bias = self.weight, self.bias
        calls = self.calls
        require_loss_arguments(input, target, table, bias, self.reduction, self.ignore_index)
        if weight is not None:
            require_example_weight("weight", weight, input)
        if calls.device != input.device:
            require_device(input.device, "input", calls=calls)
        eager = is_eager(input, target, table, calls, *(() if bias is None else (bias,)))

        def loss_of(number: Tensor | int) -> Tensor:
            fields = fields_of(
                weights=table,
                biases=bias,
                labels=target,
                inputs=input,
                num_classes=self.num_embeddings,
                num_true=self.num_true,
                padding=self.ignore_index,
                precision=self.precision,
                sparse=self.sparse,
                **self._options(),
                **self._samples(input, target, number, eager),
            )
            return sampled_loss(fields, weight, self.reduction, eager)

        if not eager:
            # Compiled graphs are guarded by whether gradients are enabled; what other tracers make is not.
            recorded = torch.is_grad_enabled() and torch.compiler.is_dynamo_compiling()
            return loss_of(torch.ops.fastnce.next_call(calls, target, self._seed, recorded))
        number = next_call(calls, target, self._seed, torch.is_grad_enabled())
        try:
            return loss_of(number)
        except BaseException:
            give_back(calls, number)
            raise

    def _samples(self, input: Tensor, target: Tensor, number: Tensor | int, eager: bool) -> dict[str, Any]:
        """Fields of the request for the samples of a call."""
        sampler = self._sampler_key
        by_core = {"num_sampled": self.num_sampled, "seed": self._seed, "calls": number}
        if self._corrects and sampler is None:
            return by_core
        num_true = target.shape[-1] if target.dim() == input.dim() else 1
        if not fits(target.shape, input.shape) or certainly(num_true != self.num_true):
            return by_core  # which refuses the shapes
        classes = target.reshape(-1, self.num_true)
        if sampler is None or isinstance(self.sampler, FixedSampler):
            unique = sampler is None or self.sampler.unique
            # Without expected counts no class need be known, which may be ignore_index.
            classes = in_range(classes, self.ignore_index, eager) if self._corrects else classes[:0].long()
            draw = candidates if eager else torch.ops.fastnce.candidates
            sizes = (self.num_sampled, unique, self.num_embeddings)
            values = draw(classes, number, self._seed, sampler, *sizes)
        else:
            ask = call if eager else torch.ops.fastnce.call_sampler
            values = ask(classes, sampler, number, self.num_sampled, self.ignore_index)
        sampled, true_count, sampled_count = values
        if not self._corrects:
            return {"sampled_candidates": sampled}
        if input.dim() > 2:
            true_count = true_count.reshape(*input.shape[:-1], self.num_true)
        return {
            "sampled_candidates": sampled,
            "true_expected_count": true_count,
            "sampled_expected_count": sampled_count,
        }

    if TYPE_CHECKING:

        def __call__(self, input: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor: ...

    def get_extra_state(self) -> Tensor:
        """The seed of the samples, for ``state_dict``: its 16 bytes as int64 numbers.

        float16, bfloat16, float32 and float64 hold them exactly, so a state that was cast to one of these, or averaged
        over modules of one seed, still has the seed. States cast to bool or to 8-bit floating point are refused.
        """
        return self._seed.view(torch.uint8).to(torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the seed from the value that ``get_extra_state`` returned."""
        if not isinstance(state, Tensor) or state.shape != (16,):
            raise ValueError(f"the state of the seed is {state!r}: expected a tensor of 16 bytes")
        if state.dtype not in FLOATS and (state.dtype == torch.bool or state.is_floating_point() or state.is_complex()):
            raise ValueError(
                f"the state of the seed has dtype {state.dtype}, which does not hold every byte: expected integers, "
                "float16, bfloat16, float32 or float64; save the state before it is cast"
            )
        seed_bytes = state.detach().cpu().double().round()
        if not ((seed_bytes >= 0) & (seed_bytes <= 255)).all():  # NaN is neither
            raise ValueError(f"the state of the seed is {state!r}: expected bytes, numbers from 0 to 255")
        self._seed = seed_bytes.to(torch.uint8).view(torch.int64)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *options: Any) -> None:
        # Casting and averaging change the dtype of the count. Copied into int64, inf and NaN would become numbers.
        error_messages: list[str] = options[-1]
        calls = state_dict.get(f"{prefix}calls")
        if isinstance(calls, Tensor) and not calls.is_meta:
            usable = bool(((calls.double() >= 0) & (calls.double() < 2**62)).all())  # neither NaN nor inf
            if not usable:
                error_messages.append(f"{prefix}calls = {calls!r}: expected how many calls there were, at least 0")
            count = calls.to(torch.int64) if usable else self.calls
            state_dict = {**state_dict, f"{prefix}calls": count}
        try:
            super()._load_from_state_dict(state_dict, prefix, *options)
            if _STATE[0] in self._buffers:
                restore(self.sampler, *(self._buffers[name] for name in _STATE))
        except ValueError as error:
            error_messages.append(f"{prefix}_extra_state: {error}")

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
            "sparse": (self.sparse, True),
            "reduction": (self.reduction, "mean"),
            "ignore_index": (self.ignore_index, -100),
            "precision": (self.precision, None),
        }
        given = [f"{name}={value!r}" for name, (value, default) in options.items() if value != default]
        return ", ".join([f"{self.num_embeddings}, {self.embedding_dim}, num_sampled={self.num_sampled}", *given])
