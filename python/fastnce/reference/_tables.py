"""Tables of classes, whole or in shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnce.reference._targets import Floats

Table: TypeAlias = ArrayLike | Sequence[ArrayLike]
"""One ``[V, D]`` (or ``[V]``) array, or a list or tuple of shards of it."""


def gather(table_or_shards: Table, ids: ArrayLike, partition_strategy: str) -> Floats:
    """Rows ``ids [n]`` of a table, in float64: ``[n, D]`` of a table ``[V, D]``, ``[n]`` of a table ``[V]``.

    N rows in P shards: ``"mod"`` keeps id k in shard ``k mod P`` at row ``k div P``; ``"div"`` gives the
    first ``N mod P`` shards ``N div P + 1`` consecutive ids each and the others ``N div P``. Source:
    ``tf.nn.embedding_lookup``.
    """
    shards: list[NDArray[Any]] = (
        [np.asarray(shard) for shard in table_or_shards]
        if isinstance(table_or_shards, list | tuple)
        else [np.asarray(table_or_shards)]
    )
    sizes = [len(shard) for shard in shards]
    starts = np.cumsum([0, *sizes])
    wanted = np.asarray(ids, np.int64)
    rows = np.empty((len(wanted), *shards[0].shape[1:]), np.float64)
    for i, k in enumerate(wanted.tolist()):
        if partition_strategy == "mod":
            shard, row = k % len(shards), k // len(shards)
        else:
            shard = int(np.searchsorted(starts, k, side="right")) - 1
            row = k - int(starts[shard])
        rows[i] = shards[shard][row]
    return rows


def whole(table_or_shards: Table, partition_strategy: str) -> Floats:
    """All rows of a table in float64, by id: ``[V, D]`` or ``[V]``."""
    shards = table_or_shards if isinstance(table_or_shards, list | tuple) else [table_or_shards]
    return gather(table_or_shards, np.arange(sum(len(np.asarray(shard)) for shard in shards)), partition_strategy)
