"""Softmax whose negatives are the items of the other examples in the batch."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from fastnce import _core
from fastnce._arrays import joined, no_losses
from fastnce._devices import Device, cuda_device_of
from fastnce._errors import is_a
from fastnce._request import compute
from fastnce._types import ArrayT, DLPackArray, FloatsLike, IdsLike, Precision, Ragged

ExtraItems: TypeAlias = tuple[DLPackArray, IdsLike | None, FloatsLike | None]
"""``(items [N, D], ids [N], log_q [N])``."""


def in_batch_softmax_loss(
    inputs: DLPackArray,
    items: DLPackArray,
    item_ids: IdsLike | None = None,
    *,
    log_q: FloatsLike | None = None,
    extra: ExtraItems | None = None,
    exclude: Ragged | None = None,
    temperature: float = 1.0,
    precision: Precision | None = None,
) -> Any:
    """Cross entropy of the softmax over the items of the batch, per example: the loss of two-tower models.

    ::

        v[i, j] = x[i] . e[j] / temperature - log_q[j]           x inputs, e items of the batch, then the extra ones
        loss[i] = -log softmax(v[i, :])[i]                       over j = i and what is not removed

    The target of example i is item i. Another j is removed from the softmax of example i if its id is that of item i or
    is in ``exclude`` of example i. The ``[B, B + N]`` logits are never in memory.

    Items come into a batch as often as they are popular; ``log_q`` corrects for that (Yi et al. 2019): the logarithm of
    how often item j is expected in the batch, ``log(B p)`` with p its frequency, as for sampled classes. The expected
    counts of several sources add up, for instance of the batch and of extra items that were sampled uniformly from V
    classes: ``log(B p + N / V)``, for the items of the batch and the extra ones alike.

    Arrays, devices and errors are those of :func:`nce_loss`. On a CUDA device there is at least one example, and a
    ``log_q`` that is not finite gives NaN.

    Args:
        inputs: ``[B, D]`` embeddings of the examples, such as users or queries.
        items: ``[B, D]`` embeddings of their items.
        item_ids: ``[B]`` integers that tell items apart; ``None``: all are different.
        log_q: ``[B]``; ``None``: no correction.
        extra: ``(items [N, D], ids [N], log_q [N])``: items that are negatives of all examples. ``ids`` is ``None``
            where ``item_ids`` is, ``log_q`` where the argument is.
        exclude: A :class:`Ragged` with a list of item ids for each example: all that a user knows, for instance. Needs
            ``item_ids``.
        temperature: Divides the products; a positive number, often near 0.05 for embeddings of norm 1.
        precision: As in :func:`nce_loss`.

    Returns:
        ``[B]`` losses, float64 or float32, as the kind of array that ``inputs`` is.
    """
    batch = _Batch(inputs, items, item_ids, log_q, extra)
    if batch.is_empty:
        return no_losses(inputs)
    return compute(batch.fields(inputs, exclude, temperature, precision))[0]


@overload
def in_batch_softmax_loss_and_grad(
    inputs: ArrayT,
    items: ArrayT,
    item_ids: IdsLike | None = ...,
    *,
    extra: None = ...,
    log_q: FloatsLike | None = ...,
    exclude: Ragged | None = ...,
    temperature: float = ...,
    precision: Precision | None = ...,
    grad_loss: FloatsLike | None = ...,
    grad_dtype: Literal["float32"] | None = ...,
) -> tuple[ArrayT, ArrayT, ArrayT]: ...


@overload
def in_batch_softmax_loss_and_grad(
    inputs: DLPackArray,
    items: DLPackArray,
    item_ids: IdsLike | None = ...,
    *,
    log_q: FloatsLike | None = ...,
    extra: ExtraItems | None = ...,
    exclude: Ragged | None = ...,
    temperature: float = ...,
    precision: Precision | None = ...,
    grad_loss: FloatsLike | None = ...,
    grad_dtype: Literal["float32"] | None = ...,
) -> Any: ...


def in_batch_softmax_loss_and_grad(
    inputs: DLPackArray,
    items: DLPackArray,
    item_ids: IdsLike | None = None,
    *,
    log_q: FloatsLike | None = None,
    extra: ExtraItems | None = None,
    exclude: Ragged | None = None,
    temperature: float = 1.0,
    precision: Precision | None = None,
    grad_loss: FloatsLike | None = None,
    grad_dtype: Literal["float32"] | None = None,
) -> Any:
    """:func:`in_batch_softmax_loss` and, in the same pass, the gradients of the sum of the losses, of both towers.

    Args:
        grad_loss: ``[B]`` upstream gradient of each example's loss. It multiplies the gradients, not the loss.
        grad_dtype: ``"float32"`` returns gradients of float16 and bfloat16 arrays in float32.

    The other arguments and the errors are those of :func:`in_batch_softmax_loss`.

    Returns:
        ``(loss [B], grad_inputs [B, D], grad_items [B, D])`` and, where there are extra items, ``grad_extra [N, D]``.
    """
    batch = _Batch(inputs, items, item_ids, log_q, extra)
    if batch.is_empty:
        none = (no_losses(inputs), joined(inputs, inputs), joined(items, items))
        return none if extra is None else (*none, joined(extra[0], extra[0]))
    fields = batch.fields(inputs, exclude, temperature, precision)
    fields.update(gradients=(True, True, False), grad_loss=grad_loss, grad_dtype=grad_dtype)
    # Every item is a candidate: the rows are all items, in their order.
    loss, grad_inputs, _, rows, _ = compute(fields)
    return (loss, grad_inputs, rows) if extra is None else (loss, grad_inputs, rows[: batch.size], rows[batch.size :])


class _Batch:
    """The candidates of a batch: its items, then the extra ones."""

    def __init__(self, inputs: Any, items: Any, item_ids: Any, log_q: Any, extra: ExtraItems | None) -> None:
        _require_arrays(inputs=inputs, items=items)
        if tuple(items.shape) != tuple(inputs.shape) or len(items.shape) != 2:
            raise ValueError(
                f"items has shape {list(items.shape)}: expected [B, D] like inputs, which has {list(inputs.shape)}"
            )
        self.size = items.shape[0]
        self.device = cuda_device_of(inputs, "inputs", self.size)
        if self.device is not None and self.size == 0:
            raise ValueError("inputs has no rows on a CUDA device: expected arrays on the CPU, where it is implemented")
        more: Any
        more, more_ids, more_log_q = (None, None, None) if extra is None else _three(extra)
        if more is not None and (len(more.shape) != 2 or more.shape[1] != items.shape[1]):
            raise ValueError(
                f"extra: items have shape {list(more.shape)}, expected [N, D] with D = {items.shape[1]}, as of items"
            )
        self.count = self.size + (0 if more is None else more.shape[0])
        self.items = items if more is None else self._join_items(items, more)
        self.ids = self._for_all(item_ids, "item_ids", more_ids, "ids of extra")
        self.log_q = self._for_all(log_q, "log_q", more_log_q, "log_q of extra")
        self.own_log_q: Any = log_q
        if self.device is None and self.log_q is not None:
            self.own_log_q = self.log_q[: self.size, np.newaxis]
            with np.errstate(over="ignore"):
                self._require_finite(self.log_q.astype(np.float64 if "float64" in str(inputs.dtype) else np.float32))

    def _join_items(self, items: Any, more: Any) -> Any:
        if self.device is not None:
            made = self._join_on_device(self.device, (items, "items"), (more, "items of extra"), matrices=True)
            return self.device.hand_over(made, items)
        if more.dtype != items.dtype and np.uint16 in (more.dtype, items.dtype):
            # Joined they would be promoted as integers, not as the bits of bfloat16.
            raise TypeError(f"extra: items have dtype {more.dtype}, expected {items.dtype}, as of items")
        return joined(items, more)

    def _join_on_device(self, device: Device, own: tuple[Any, str], more: tuple[Any, str], *, matrices: bool) -> Any:
        with device.call(own[0], more[0]):
            return _core.cuda_joined(*own, self.size, *more, self.count - self.size, matrices, device)

    def _for_all(self, own: Any, name: str, more: Any, more_name: str) -> Any:
        """A number for each item of the batch and each extra one, or for none."""
        if own is None and more is None:
            return None
        if own is None or (more is None and self.count > self.size):
            given, missing = (more_name, name) if own is None else (name, more_name)
            raise ValueError(f"{given} is given but {missing} is None: expected both or neither")
        if self.device is None:
            return _joined_numbers(own, name, self.size, more, more_name, self.count - self.size)
        return (
            own if more is None else self._join_on_device(self.device, (own, name), (more, more_name), matrices=False)
        )

    def _require_finite(self, log_q: npt.NDArray[Any]) -> None:
        """Raises ValueError for what is not finite in the dtype of the computation."""
        if not np.isfinite(log_q).all():
            first = int(np.argmin(np.isfinite(log_q)))
            where = f"log_q[{first}]" if first < self.size else f"log_q[{first - self.size}] of extra"
            raise ValueError(
                f"{where} = {log_q[first]}: expected a finite {log_q.dtype} number, the log of an expected count"
            )

    @property
    def is_empty(self) -> bool:
        """Whether there are no candidates, and so no table."""
        return bool(self.count == 0)

    def fields(
        self, inputs: Any, exclude: Ragged | None, temperature: float, precision: Precision | None
    ) -> dict[str, Any]:
        """A sampled softmax whose table is the items: example i has label i, and all classes are candidates."""
        if exclude is not None and self.ids is None:
            raise ValueError("exclude is given but item_ids is None: expected the id of each item")
        candidates = np.arange(self.count) if self.device is None else self.device.arange(self.count)
        return {
            "weights": self.items,
            "weights_name": "items",
            "labels": candidates if self.count == self.size else candidates[: self.size],
            "inputs": inputs,
            "sampled_values": (candidates, self.own_log_q, self.log_q),
            "log_q": True,
            "class_keys": self.ids,
            "exclude": exclude,
            "temperature": float(temperature) if isinstance(temperature, np.number) else temperature,
            "family": "softmax",
            "true_target": "one",
            "remove_accidental_hits": True,
            "precision": precision,
        }


def _require_arrays(**arrays: Any) -> None:
    for name, array in arrays.items():
        if not hasattr(array, "shape"):
            raise TypeError(f"{name} {is_a(array)}: expected an array")


def _three(extra: Any) -> ExtraItems:
    if not isinstance(extra, tuple | list) or len(extra) != 3:
        got = f"has {len(extra)} values" if isinstance(extra, tuple | list) else is_a(extra)
        raise ValueError(f"extra {got}: expected three, (items [N, D], ids [N], log_q [N])")
    items, ids, log_q = extra
    _require_arrays(**{"items of extra": items})
    return items, ids, log_q


def _joined_numbers(own: Any, name: str, size: int, more: Any, more_name: str, count: int) -> npt.NDArray[Any]:
    parts = [np.asarray(own)] if more is None else [np.asarray(own), np.asarray(more)]
    if more is not None and name == "item_ids" and all(part.ndim == 1 for part in parts):
        # As int64: NumPy joins uint64 and int64 to float64, in which large ids are not exact.
        parts = [_core.id_array(own, name), _core.id_array(more, more_name)]
    for part, text, expected in zip(parts, (name, more_name), (size, count), strict=False):
        if part.shape != (expected,):
            raise ValueError(f"{text} has shape {list(part.shape)}: expected one for each item, [{expected}]")
    return np.concatenate(parts)
