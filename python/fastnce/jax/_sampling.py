"""Where the samples of a loss come from: given arrays, a key, a sampler of fastnce with a key, or a callable."""

from __future__ import annotations

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fastnce import _core
from fastnce._errors import is_a
from fastnce._samplers._base import FixedSampler, is_own_sampler
from fastnce._seed import integer
from fastnce._types import Ragged, SampledValues
from fastnce.jax._arguments import check_samples, fits, id_dtype, require_ids_fit
from fastnce.jax._handlers import draw
from fastnce.jax._varying import axes_of, vary


class _Source:
    """A sampler or a callable in place of samples. One of a subclass with a ``__call__`` of its own is a callable."""

    def __init__(self, sampler: Any, corrects: bool) -> None:
        self.sampler, self.corrects = sampler, corrects

    @property
    def needs_key(self) -> bool:
        return isinstance(self.sampler, FixedSampler) and is_own_sampler(self.sampler)


def split(fields: dict[str, Any]) -> tuple[dict[str, Any], _Source | None]:
    """A request without a sampler or callable in place of samples, and that apart."""
    samples = fields["sampled_values"]
    if callable(samples):
        source = _Source(samples, corrects=True)
    elif isinstance(samples, tuple) and samples and callable(samples[0]):  # in place of the candidates alone
        source = _Source(samples[0], corrects=False)
    else:
        return dict(fields), None
    has_lists = isinstance(fields["labels"], Ragged)
    if source.corrects:
        integer(fields["num_sampled"], "num_sampled")
    if source.needs_key:
        for name, of_loss in (("num_sampled", "num_sampled"), ("num_true", "num_true"), ("range_max", "num_classes")):
            if of_loss == "num_true" and has_lists:
                continue
            expected, found = fields[of_loss], getattr(source.sampler, name)
            if expected is not None and found != integer(expected, of_loss):
                raise ValueError(f"the sampler has {name} = {found}: expected {expected}, {of_loss} of the loss")
        require_ids_fit(source.sampler.range_max, "range_max")
    elif is_own_sampler(source.sampler) and fields["padding"] is not None:
        raise ValueError("padding: expected None beside a sampler that learns, which would count it as a class")
    elif is_own_sampler(source.sampler) and has_lists:
        raise ValueError("labels is a Ragged: expected an array beside a sampler that learns, which has no lists")
    return {**fields, "sampled_values": None}, source


def require_key(source: _Source | None, samples: Any, key: Any) -> None:
    """Raises ValueError where samples come from nowhere, or from two sources."""
    if source is None and (key is None) == (samples is None):
        got = "neither" if key is None else "both"
        raise ValueError(f"key, sampled_values: expected just one of them, got {got}")
    if source is not None and source.needs_key and key is None:
        raise ValueError("key is None: expected a key beside a sampler, whose samples it decides")
    if source is not None and not source.needs_key and key is not None:
        raise ValueError(f"key {is_a(key)}: expected None beside a callable, which decides the samples by itself")


def draw_for(fields: dict[str, Any], source: _Source | None, labels: Any, words: Any) -> Any:
    """Sampled classes ``[S]`` and expected counts like labels and ``[S]``, or ``None`` for both counts."""
    padding, offsets = fields["padding"], fields["label_offsets"]
    pads = padding is not None and fits(padding, labels.dtype)
    classes = jnp.where(labels == padding, 0, labels) if pads else labels  # the counts of padding are not read
    name = "labels"
    if labels.ndim == 1:  # nor are those of values that follow the last list
        name, classes = "labels.values", jnp.where(jnp.arange(labels.size) < offsets[-1], classes, 0)
    if source is None:
        num_sampled = operator.index(fields["num_sampled"])
        return draw(words, classes, num_sampled, True, fields["num_classes"], name, "num_classes")
    if source.needs_key:
        values = _draw_of(source.sampler, words, classes, name)
        return values if source.corrects else (values[0], None, None)
    values = _asked(source, classes)
    check_samples({**fields, "labels": labels}, values)
    return values


def _asked(source: _Source, classes: Any) -> Any:
    """What a callable draws; the labels of lists are a column for it, as if each were of an example of its own."""
    values = source.sampler(classes.reshape(-1, 1) if classes.ndim == 1 else classes)
    if not isinstance(values, tuple | list) or len(values) != 3:
        raise TypeError(f"the sampler returned what {is_a(values)}: expected three arrays, {SampledValues._fields}")
    ids, true_count, sampled_count = values
    if not source.corrects:
        return ids, None, None
    if classes.ndim == 1 and np.shape(true_count) == (classes.size, 1):
        true_count = jnp.reshape(true_count, -1)
    return ids, true_count, sampled_count


def _draw_of(sampler: FixedSampler, words: Any, classes: Any, name: str) -> Any:
    """What a sampler draws first whose seeds are the words of a key."""
    distribution, num_sampled = sampler._distribution, sampler.num_sampled
    num_true = 1 if classes.ndim == 1 else sampler.num_true
    arguments = (num_true, num_sampled, sampler.unique, sampler.range_max)
    if distribution == "log_uniform":
        return draw(words, classes, num_sampled, sampler.unique, sampler.range_max, name, "num_classes")

    def on_host(words: Any, classes: Any) -> Any:
        parts = np.asarray(words).tolist()
        first, second = parts if len(parts) == 2 else (parts[0] << 32 | parts[1], parts[2] << 32 | parts[3])
        ids, *counts = _core.candidates(distribution, np.asarray(classes), *arguments, first, second, 0, None, 0)
        return ids.astype(id_dtype()), counts[0].reshape(classes.shape), counts[1]

    shapes = (
        jax.ShapeDtypeStruct((num_sampled,), id_dtype()),
        jax.ShapeDtypeStruct(classes.shape, jnp.float32),
        jax.ShapeDtypeStruct((num_sampled,), jnp.float32),
    )
    axes = axes_of(words, classes)
    values = jax.pure_callback(on_host, shapes, words, classes, vmap_method="sequential")
    return tuple(vary(axes, value) for value in values)
