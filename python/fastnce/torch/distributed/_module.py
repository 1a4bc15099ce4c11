"""What the sharded modules share: this rank's rows of the table, the samples, the scheme, and a loss that is data."""

from __future__ import annotations

import zlib
from functools import partial
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
    require_flag,
    require_module_options,
    require_option,
    seed_tensor,
)
from fastnce.torch._kind import LossKind
from fastnce.torch._lists import Classes
from fastnce.torch._sampling import is_fixed, require_sampler
from fastnce.torch._state import bytes_of, words_of
from fastnce.torch._stream import give_back, next_call
from fastnce.torch._update import MakeOptimizer, OwnOptimizer
from fastnce.torch.distributed._all_classes import rank_of_labels, top_k
from fastnce.torch.distributed._batch import Batch, raise_if_refused
from fastnce.torch.distributed._call import Arguments, Table, attempt, require_labels
from fastnce.torch.distributed._exchange import Exchange
from fastnce.torch.distributed._layout import require_classes, rows_of_rank
from fastnce.torch.distributed._sampling import Drawn, require_strata, stratum_of
from fastnce.torch.distributed._schemes import SCHEMES, Scheme, step

Sampling: TypeAlias = Literal["global", "stratified"]
SAMPLINGS = ("global", "stratified")


class ShardedLoss(LossKind, OwnOptimizer):
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
        optimizer: MakeOptimizer | None = None,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Initialise this rank's rows and the stream of samples; see the class for the arguments."""
        super().__init__()
        self._exchange = exchange = Exchange(process_group)
        self._distribution, self._unique = "log_uniform", True
        calls, refusal = 0, None
        configuration: dict[str, Any] = {}
        own_seed = seed_tensor((0, 0))
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
            configuration["optimizer"] = optimizer is not None
        except (TypeError, ValueError) as error:  # raised once the others know
            refusal = error
        self._seed = self._agree(configuration, own_seed, refusal)
        rows = rows_of_rank(self.num_classes, exchange.rank, exchange.size)
        self.weight = nn.Parameter(torch.empty((rows, self.embedding_dim), device=device, dtype=dtype))
        own_bias = nn.Parameter(torch.empty(rows, device=device, dtype=dtype)) if bias else None
        self.register_parameter("bias", own_bias)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64, device="cpu"))
        stratified = sampling == "stratified"
        self._stratum = stratum_of(self._distribution, self.num_classes, exchange) if stratified else None
        self._make_optimizer(optimizer)
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
        require_classes(self.num_classes, size)
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
        """Initialise this rank's rows again, with PyTorch's generator, forget what an optimizer keeps for them, and set
        ``calls`` to 0; the seed stays."""
        self._initialise(self.weight, self.bias, self.num_classes)
        self._forget_steps()
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
        tables: tuple[Tensor, Tensor | None] = self.weight, self.bias
        if self.optimizer is not None and not self.training:
            tables = self.weight.detach(), None if self.bias is None else self.bias.detach()
        update = self._update_of(*tables, eager=True) if self._makes_updates() else None
        table = Table(self._exchange, *tables, self.num_classes, self.reduction, self.ignore_index, update)
        wanted = table.wanted(input)
        arguments = Arguments(input, target, weight, label_weights, exclude)

        def make() -> Batch:
            batch = table.checked(arguments)
            require_labels(target, input)
            return batch

        batch, refusal = attempt(make)
        number = int(self.calls)
        if refusal is None:
            number = int(next_call(self.calls, batch.labels.values, self._seed, recorded))
        try:
            options = self._options()
            call = (self._seed.tolist(), self.reduction, self.scheme, self.num_sampled, options, self._steps_alike())
            of_call = {"number of the call": number}
            travels = self.scheme != "data_to_rows"
            header = table.header(batch, refusal, call, of_call, wanted, weight, rows_may_travel=travels)
            shard = table.shard(options, self._samples(number))
            return table.loss(input, batch, header, weight, partial(step, self.scheme, shard), sparse=self.sparse)
        except BaseException:
            if refusal is None:
                give_back(self.calls, number)
            raise

    def _steps_alike(self) -> dict[str, Any] | None:
        """What all ranks have to share of an optimizer."""
        if self.optimizer is None or not self.training:
            return None
        group = self.optimizer.param_groups[0]
        options = {name: value for name, value in group.items() if name not in ("params", "rounding_seed")}
        return {"optimizer": type(self.optimizer).__name__, **options, "lr": float(options["lr"])}

    def _samples(self, call: int) -> Drawn:
        sizes = self.num_classes, self.num_sampled
        distribution = self._distribution, self._unique
        return Drawn(*sizes, self._corrects, *distribution, self._seed, call, self._stratum)

    def top_k(self, input: Tensor, k: int, exclude: Classes | None = None) -> tuple[Tensor, Tensor]:
        """The classes that score highest for this rank's ``input [b, D]``: :func:`fastnce.torch.top_k` over the whole
        table. All ranks call it together, with the same k."""
        return top_k(input, *self._table(), k, exclude, process_group=self._exchange.group)

    def rank(self, input: Tensor, target: Classes, exclude: Classes | None = None) -> Tensor:
        """The ranks of the true classes of this rank's ``input [b, D]`` among all classes:
        :func:`fastnce.torch.rank_of_labels` over the whole table. All ranks call it together."""
        options: dict[str, Any] = {"ignore_index": self.ignore_index, "process_group": self._exchange.group}
        return rank_of_labels(input, target, *self._table(), exclude, **options)

    def _table(self) -> tuple[Tensor, Tensor | None, int]:
        return self.weight, self.bias, self.num_classes

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
