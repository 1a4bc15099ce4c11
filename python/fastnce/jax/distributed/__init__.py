"""Losses over tables whose rows are spread over an axis of a mesh, to be called inside ``jax.shard_map``."""

from fastnce.jax.distributed._layout import natural_rows, shard_rows
from fastnce.jax.distributed._losses import (
    nce_loss,
    nce_value_and_rows,
    negative_sampling_loss,
    negative_sampling_value_and_rows,
    sampled_softmax_loss,
    sampled_softmax_value_and_rows,
)

__all__ = [
    "natural_rows",
    "nce_loss",
    "nce_value_and_rows",
    "negative_sampling_loss",
    "negative_sampling_value_and_rows",
    "sampled_softmax_loss",
    "sampled_softmax_value_and_rows",
    "shard_rows",
]
