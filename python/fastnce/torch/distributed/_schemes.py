"""Which way a step goes: rows to the inputs, or inputs to the rows."""

from __future__ import annotations

from typing import Literal, TypeAlias

from fastnce.torch._kernels import Gradients
from fastnce.torch.distributed._batch import Batch, Header
from fastnce.torch.distributed._data_to_rows import data_to_rows
from fastnce.torch.distributed._rows_to_data import rows_to_data
from fastnce.torch.distributed._shard import Result, Shard

Scheme: TypeAlias = Literal["auto", "rows_to_data", "data_to_rows"]
SCHEMES = ("auto", "rows_to_data", "data_to_rows")


def moves_rows(scheme: Scheme, shard: Shard, header: Header) -> bool:
    """Whether rows travel to the inputs: by ``scheme``, or where these are fewer than inputs travelling to rows. Inputs
    do where there are no samples."""
    if shard.sampling is None or shard.sampling.num_sampled == 0:
        return False
    if scheme != "auto":
        return scheme == "rows_to_data"
    return shard.exchange.size * max(header.examples) > shard.sampling.num_sampled + max(header.distinct)


def step(scheme: Scheme, shard: Shard, batch: Batch, header: Header, scale: float, gradients: Gradients) -> Result:
    """Computes a step by the scheme, as :func:`data_to_rows`."""
    if moves_rows(scheme, shard, header):
        return rows_to_data(shard, batch, scale, gradients)
    return data_to_rows(shard, batch, header, scale, gradients)
