"""What the sharded modules share: this rank's rows of the table, the samples, the scheme, and a loss that is data."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from fastnce import _core
from fastnce._seed import Seed, int64
from fastnce._types import Precision
from fastnce.torch._arguments import (
    Reduction,
    TrueTarget,
    require_example_weight,
    require_flag,
    require_loss_arguments,
    require_module_options,
    require_option,
    seed_tensor,
)
from fastnce.torch._kernels import Gradients, as_array
from fastnce.torch._kind import LossKind
from fastnce.torch._lists import Classes, exclude_of, label_weights_of, split_lists
from fastnce.torch._sampling import is_fixed, require_sampler
from fastnce.torch._state import bytes_of, words_of
from fastnce.torch._stream import give_back, next_call
from fastnce.torch.distributed._autograd import Examples, Step, Total
from fastnce.torch.distributed._batch import Batch, Header, Lists, Own, batch_of, header_of, raise_if_refused
from fastnce.torch.distributed._data_to_rows import data_to_rows
from fastnce.torch.distributed._evaluate import require_k, top_k
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import rows_of_rank
from fastnce.torch.distributed._rows_to_data import rows_to_data
from fastnce.torch.distributed._shard import Result, Shard, require_strata, stratum_of

Scheme: TypeAlias = Literal["auto", "rows_to_data", "data_to_rows"]
Sampling: TypeAlias = Literal["global", "stratified"]
SCHEMES = ("auto", "rows_to_data", "data_to_rows")
SAMPLINGS = ("global", "stratified")


class ShardedLoss(LossKind, nn.Module):
    """A table of class embeddings spread over the ranks of a process group, and a loss against samples of it."""

    weight: Tensor
    bias: Tensor | None
    calls: Tensor

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        num_sampled: int,
        *,
        process_group: dist.ProcessGroup | DeviceMesh | None = None,
        scheme: Scheme = "auto",
        sampling: Sampling = "global",
        bias: bool = True,
        sampler: Any = "log_uniform",
        remove_accidental_hits: bool | None = None,
        true_target: TrueTarget | None = None,
        sparse: bool = True,
        reduction: Reduction = "mean",
        ignore_index: int | None = -100,
        precision: Precision | None = None,
        seed: Seed = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Initialise this rank's rows and the stream of samples; see the class for the arguments."""
        super().__init__()
        self._exchange = exchange = Exchange(process_group)
        self._distribution, self._unique = "log_uniform", True
        calls, refusal = 0, None
        configuration: dict[str, Any] = {}
        own_seed = torch.zeros(2, dtype=torch.int64)
        try:
            self.num_classes = int64(num_classes, "num_classes")
            self.embedding_dim = int64(embedding_dim, "embedding_dim")
            self.num_sampled = int64(num_sampled, "num_sampled")
            self.scheme, self.sampling, self.sampler = scheme, sampling, sampler
            self.sparse, self.reduction, self.ignore_index = require_flag("sparse", sparse), reduction, ignore_index
            self.precision, self.true_target = precision, true_target or self._true_target
            hits = self._removes_hits if remove_accidental_hits is None else remove_accidental_hits
            self.remove_accidental_hits = require_flag("remove_accidental_hits", hits)
            if is_fixed(sampler):
                if seed is not None:
                    raise ValueError("seed: expected None beside a sampler, which has a seed of its own")
                first, second, calls = sampler.state
                seed = (first, second)
                self._distribution, self._unique = sampler._distribution, sampler.unique
            own_seed = seed_tensor(seed)
            self._require_options(dtype)
            configuration = self._configuration(require_flag("bias", bias), str(dtype or torch.get_default_dtype()))
            configuration["seed"] = None if seed is None else own_seed.tolist()
        except (TypeError, ValueError) as error:  # raised once the others know
            refusal = error
        self._seed = self._agree(configuration, own_seed, refusal)
        rows = rows_of_rank(self.num_classes, exchange.rank, exchange.size)
        self.weight = nn.Parameter(torch.empty((rows, self.embedding_dim), dtype=dtype))
        self.register_parameter("bias", nn.Parameter(torch.empty(rows, dtype=dtype)) if bias else None)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        stratified = sampling == "stratified"
        self._stratum = stratum_of(self._distribution, self.num_classes, exchange) if stratified else None
        self._factors: list[float] = []  # gradients of the losses in the backward passes since the last call
        self.reset_parameters()
        self.calls.fill_(calls)

    def _require_options(self, dtype: torch.dtype | None) -> None:
        require_option("scheme", self.scheme, SCHEMES)
        require_option("sampling", self.sampling, SAMPLINGS)
        require_module_options(self.reduction, self.precision, self.true_target, self.ignore_index, dtype)
        if self.embedding_dim < 0:
            raise ValueError(f"embedding_dim = {self.embedding_dim}: expected at least 0")
        sampler, size = self.sampler, self._exchange.size
        drawn = isinstance(sampler, str)
        if not drawn and not is_fixed(sampler):
            raise TypeError(
                "sampler: expected 'log_uniform' or a sampler of fastnce that does not learn, whose samples all ranks "
                "can draw alike"
            )
        sizes = {"num_classes": self.num_classes, "num_sampled": self.num_sampled}
        require_sampler(sampler, {**sizes, "num_true": 1 if drawn else sampler.num_true})
        _core.check_sampler("log_uniform" if drawn else "uniform", 1, self.num_sampled, drawn, self.num_classes)
        if self.num_classes < size:
            raise ValueError(f"num_classes = {self.num_classes}: expected at least one for each of {size} ranks")
        if self.sampling == "stratified":
            require_strata(self._distribution, self._unique, self.num_classes, self.num_sampled, size)
        self._options()

    def _configuration(self, bias: bool, dtype: str) -> dict[str, Any]:
        """What all ranks have to agree on."""
        distribution = self._distribution
        if isinstance(distribution, _core.UnigramTable):
            distribution = f"unigram, weights of hash {zlib.crc32(distribution.weights.tobytes())}"
        names = (
            "num_classes",
            "num_sampled",
            "embedding_dim",
            "scheme",
            "sampling",
            "sparse",
            "reduction",
            "ignore_index",
        )
        return {
            "loss": type(self).__name__,
            **{name: getattr(self, name) for name in names},
            "bias": bias,
            "dtype": dtype,
            "sampler": f"{distribution}, {'unique' if self._unique else 'repeated'}",
            **self._options(),
        }

    def _agree(self, configuration: dict[str, Any], seed: Tensor, refusal: Exception | None) -> Tensor:
        """The seed of all ranks: rank 0's.

        Raises:
            ValueError: On every rank, if one was given other arguments.
            RuntimeError: On the others, if one refused its arguments, which is ``refusal`` there.
        """
        everywhere: list[Any] = [None] * self._exchange.size
        dist.all_gather_object(everywhere, (refusal is not None, configuration, seed), group=self._exchange.group)
        if refusal is not None:
            raise refusal
        raise_if_refused([int(refused) for refused, *_ in everywhere])
        _, first, agreed = everywhere[0]
        for rank, (_, other, _) in enumerate(everywhere):
            for name in {**first, **other}:
                values = other.get(name), first.get(name)
                if values[0] != values[1]:
                    raise ValueError(
                        f"{name}: {values[0]!r} on rank {rank}, {values[1]!r} on rank 0: expected the same on all ranks"
                    )
        result: Tensor = agreed
        return result

    def reset_parameters(self) -> None:
        """Initialise this rank's rows again, with PyTorch's generator, and set ``calls`` to 0; the seed stays."""
        self._initialise(self.weight, self.bias, self.num_classes)
        self.calls.zero_()

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "precision": self.precision}

    def forward(
        self,
        input: Tensor,
        target: Classes,
        weight: Tensor | None = None,
        *,
        label_weights: Tensor | None = None,
        exclude: Classes | None = None,
    ) -> Tensor:
        """The loss of this rank's batch. All ranks call it together; arguments are those of an unsharded module."""
        recorded = torch.is_grad_enabled()
        receivers = (input, self.weight, self.bias)
        wanted = [recorded and isinstance(tensor, Tensor) and tensor.requires_grad for tensor in receivers]
        batch, refusal = self._attempt(lambda: self._checked(input, target, weight, label_weights, exclude))
        number = int(self.calls)
        if refusal is None:
            number = int(next_call(self.calls, batch.labels.values, self._seed, recorded))
        try:
            gradients = (wanted[0], wanted[1], wanted[2])
            own_factors = refusal is None and self._has_own_factors(weight)
            header = self._header(batch, refusal, {"number of the call": number}, gradients, own_factors)
            return self._loss_of(input, batch, header, weight, number)
        except BaseException:
            if refusal is None:
                give_back(self.calls, number)
            raise

    def _attempt(self, make: Callable[[], Batch]) -> tuple[Batch, Exception | None]:
        """This rank's batch, or why it is refused: to be raised once the other ranks know."""
        try:
            return make(), None
        except Exception as error:
            none = torch.empty(0, dtype=torch.int64)
            return Batch(self.weight.detach()[:0], Lists(none, none)), error

    def _header(
        self,
        batch: Batch,
        refusal: Exception | None,
        agreed: dict[str, int],
        gradients: Gradients = (False, False, False),
        own_factors: bool = False,
    ) -> Header:
        """What the ranks tell each other. Raises ``refusal``, once the others know of it."""
        options = repr((self._seed.tolist(), self.reduction, self.scheme, self.num_sampled, self._options()))
        own = Own(
            gradients,
            {**agreed, "hash of the seed and the options": zlib.crc32(options.encode())},
            self._factors,
            has_own_factors=own_factors,
            fault=refusal is not None,
            rows_may_travel=self.scheme != "data_to_rows",
        )
        header = header_of(self._exchange, batch, own)
        if refusal is not None:
            raise refusal
        self._factors = []
        return header

    def _checked(
        self,
        input: Tensor,
        target: Classes,
        weight: Tensor | None,
        label_weights: Tensor | None,
        exclude: Classes | None,
    ) -> Batch:
        labels, offsets = split_lists("target", target)
        require_loss_arguments(input, labels, self.weight, self.bias, self.reduction, self.ignore_index)
        if not input.is_cpu:
            raise ValueError(f"input is on {input.device}: expected the CPU, the one device of sharded losses yet")
        if weight is not None:
            require_example_weight("weight", weight, input)
        label_weights = label_weights_of(label_weights, offsets, input)
        excluded, exclude_offsets = exclude_of(exclude, input.device)
        self._require_request(input, labels, offsets, label_weights, excluded, exclude_offsets)
        if label_weights is not None:
            label_weights = label_weights.expand(labels.shape)
        factors = None if weight is None or self._has_own_factors(weight) else weight
        return batch_of(*(input, labels, offsets, self.ignore_index, label_weights, excluded, exclude_offsets, factors))

    def _require_request(
        self,
        input: Tensor,
        labels: Tensor,
        offsets: Tensor | None,
        label_weights: Tensor | None,
        excluded: Tensor | None,
        exclude_offsets: Tensor | None,
    ) -> None:
        """Raises what the library does for a table of all classes, of which a row stands for each here."""
        fields = {
            "weights": self.weight.detach().new_zeros((1, self.embedding_dim)).expand(self.num_classes, -1),
            "labels": labels,
            "label_offsets": offsets,
            "label_weights": label_weights,
            "inputs": input.detach(),
            "exclude": excluded,
            "exclude_offsets": exclude_offsets,
            "sampled_values": (labels.new_zeros(1, dtype=torch.int64), None, None),
        }
        arrays = {name: as_array(field) if isinstance(field, Tensor) else field for name, field in fields.items()}
        arrays["sampled_values"] = (as_array(fields["sampled_values"][0]), None, None)
        num_true = labels.shape[-1] if offsets is None and labels.dim() == input.dim() else 1
        _core.check_loss({**arrays, "num_true": num_true, "padding": self.ignore_index})

    def _has_own_factors(self, weight: Tensor | None) -> bool:
        """Whether losses leave the step one by one, since their factors are not constants of it."""
        return self.reduction == "none" or (weight is not None and weight.requires_grad and torch.is_grad_enabled())

    def _loss_of(self, input: Tensor, batch: Batch, header: Header, weight: Tensor | None, call: int) -> Tensor:
        size = self._exchange.size
        scale = 1 / max(header.taking_part, 1) if self.reduction == "mean" else 1 / size

        def run(factors: Tensor | None, scale: float, gradients: Gradients) -> Result:
            if factors is not None:
                factors = factors.masked_fill(batch.ignored, 0)
            step = Batch(batch.inputs, batch.labels, batch.label_weights, batch.exclude, factors)
            return self._run(step, replace(header, factors=factors is not None), scale, gradients, call)

        step = Step(run, header.gradients, batch.ignored, header.taking_part == 0, size, self.sparse)
        if not self._has_own_factors(weight):
            call_of_total = (step, batch.factors, scale, self._note)
            total: Tensor = Total.apply(input, self.weight, self.bias, call_of_total)
            return total
        losses: Tensor = Examples.apply(input, self.weight, self.bias, step)
        if self.reduction == "mean":
            losses = losses * (scale * size)
        if weight is not None:
            losses = losses * weight.to(losses.dtype).masked_fill(batch.ignored.view(weight.shape), 0)
        return losses if self.reduction == "none" else losses.sum()

    def _note(self, factor: float) -> None:
        self._factors.append(factor)

    def _run(self, batch: Batch, header: Header, scale: float, gradients: Gradients, call: int) -> Result:
        shard = self._shard(call)
        if self.moves_rows(header):
            return rows_to_data(shard, batch, scale, gradients)
        return data_to_rows(shard, batch, header, scale, gradients)

    def _shard(self, call: int) -> Shard:
        return Shard(
            exchange=self._exchange,
            weights=self.weight.detach(),
            biases=None if self.bias is None else self.bias.detach(),
            num_classes=self.num_classes,
            num_sampled=self.num_sampled,
            options=self._options(),
            corrects=self._corrects,
            distribution=self._distribution,
            unique=self._unique,
            seed=self._seed,
            call=call,
            stratum=self._stratum,
        )

    @torch.no_grad()
    def top_k(self, input: Tensor, k: int, exclude: Classes | None = None) -> tuple[Tensor, Tensor]:
        """The classes that score highest for this rank's ``input [b, D]``: :func:`fastnce.torch.top_k` over the whole
        table. All ranks call it together, with the same k."""

        def make() -> Batch:
            require_k(k)
            none = input.new_empty((*input.shape[:-1], 0), dtype=torch.int64)
            return self._checked(input, none, None, None, exclude)

        batch, refusal = self._attempt(make)
        header = self._header(batch, refusal, {"k": 0 if refusal is not None else k})
        scores, classes = top_k(self._shard(0), batch, header, k)
        return scores.reshape(*input.shape[:-1], k), classes.reshape(*input.shape[:-1], k)

    def moves_rows(self, header: Header) -> bool:
        """Whether rows travel to the inputs: by ``scheme``, or where these are fewer than inputs travelling to rows."""
        if self.scheme != "auto":
            return self.scheme == "rows_to_data"
        return self._exchange.size * max(header.examples) > self.num_sampled + max(header.distinct)

    def get_extra_state(self) -> Tensor:
        """The seed of the samples, for ``state_dict``."""
        return bytes_of(self._seed)

    def set_extra_state(self, state: Tensor) -> None:
        """Set the seed from the value that ``get_extra_state`` returned."""
        self._seed = words_of(state)

    def extra_repr(self) -> str:
        """The sizes and this rank's part, for ``repr``."""
        exchange = self._exchange
        sizes = f"{self.num_classes}, {self.embedding_dim}, num_sampled={self.num_sampled}"
        return f"{sizes}, scheme={self.scheme!r}, sampling={self.sampling!r}, rank={exchange.rank} of {exchange.size}"
