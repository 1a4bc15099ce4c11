"""The types of what the library takes, and the tuples that it returns.

Results are arrays of the kind that ``inputs`` is (for a sampler ``true_classes``): NumPy arrays for a NumPy array, a
tensor for a tensor. The tuples are generic over the types of their arrays. One case has no static type: on the CPU a
library that fastnce does not know gets NumPy arrays, not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    # With a default, annotations may leave the parameters out; typing.TypeVar takes one from Python 3.13 on.
    IdsT = TypeVar("IdsT", default=Any)
    FloatsT = TypeVar("FloatsT", default=Any)
else:
    from typing import TypeVar

    IdsT = TypeVar("IdsT")
    FloatsT = TypeVar("FloatsT")


class DLPackArray(Protocol):
    """An array of any library that exports its memory through DLPack; NumPy's among them."""

    # JAX's stubs declare no __dlpack_device__; without one an array is taken to be on the CPU.
    def __dlpack__(self, *args: Any, **options: Any) -> Any: ...


ArrayT = TypeVar("ArrayT", bound=DLPackArray)
FloatT = TypeVar("FloatT", np.float32, np.float64)
"""What is computed in, where all arrays have the one dtype."""

Table: TypeAlias = DLPackArray | Sequence[DLPackArray]
"""A table of classes, whole or in shards."""
IdLists: TypeAlias = Sequence[SupportsIndex | Sequence[SupportsIndex]]
IdsLike: TypeAlias = DLPackArray | IdLists
FloatsLike: TypeAlias = DLPackArray | SupportsFloat | Sequence[SupportsFloat | Sequence[SupportsFloat]]
SampledValuesLike: TypeAlias = tuple[IdsLike, FloatsLike, FloatsLike] | tuple[IdsLike, None, None] | list[Any]

Precision: TypeAlias = Literal["highest", "high", "medium"]
PartitionStrategy: TypeAlias = Literal["div", "mod"]
TrueTarget: TypeAlias = Literal["mean", "one"]
Progress: TypeAlias = Callable[[int, int], object]
"""Called with what is done and the total."""
GradTables: TypeAlias = tuple[npt.NDArray[Any] | None, npt.NDArray[Any] | None]
"""Arrays for the gradients of weights ``[V, D]`` and biases ``[V]``."""


class Ragged(NamedTuple, Generic[IdsT]):
    """Lists of classes, one for each example: ``values[offsets[b]:offsets[b + 1]]`` is that of example b.

    As labels they are true classes, and what belongs to a label (its expected count, its weight) is ``[n]`` like
    ``values``. A list may be empty.
    """

    values: IdsT
    """Ids ``[n]``."""
    offsets: IdsT
    """int64 ``[B + 1]``: begin with 0, never decrease, end with n."""


LabelsLike: TypeAlias = IdsLike | Ragged


class SampledValues(NamedTuple, Generic[IdsT, FloatsT]):
    """What a candidate sampler returns: S candidates shared by the whole batch, or S for each group of examples."""

    sampled_candidates: IdsT
    """int64 ``[S]``, or ``[G, S]``: row g for the examples ``[g B/G, (g+1) B/G)``."""
    true_expected_count: FloatsT
    """float32 ``[B, T]``, or ``[n]`` of Ragged labels: how often each true class is expected among the candidates."""
    sampled_expected_count: FloatsT
    """float32 ``[S]`` or ``[G, S]``: the same for each candidate."""


class RowGrads(NamedTuple, Generic[IdsT, FloatsT]):
    """Gradients of the n table rows that a batch touches; those of all other rows are zero."""

    ids: IdsT
    """int64 ``[n]``, ascending, each id once."""
    weights: FloatsT
    """``[n, D]``."""
    biases: FloatsT
    """``[n]``; ``None`` without biases."""


class Grads(NamedTuple, Generic[IdsT, FloatsT]):
    """Gradients of ``sum(grad_loss * loss)``."""

    inputs: FloatsT
    """``[B, D]``."""
    rows: RowGrads[IdsT, FloatsT]
    """Rows of weights and biases, sparse."""


class DenseGrads(NamedTuple, Generic[FloatsT]):
    """Gradients of ``sum(grad_loss * loss)`` of a loss over all V classes: every row has one."""

    inputs: FloatsT
    """``[B, D]``."""
    weights: FloatsT
    """``[V, D]``."""
    biases: FloatsT
    """``[V]``; ``None`` without biases."""


class SamplerState(NamedTuple):
    """Where a sampler's stream stands: two 64-bit seeds and the number of calls made."""

    seed: int
    seed2: int
    calls: int


class LearnedSamplerState(NamedTuple):
    """The same of a sampler that learns, and what it has learned."""

    seed: int
    seed2: int
    calls: int
    weights: npt.NDArray[np.int32]
    """``[V]``, each at least 1."""


NumpySamples: TypeAlias = SampledValues[npt.NDArray[np.int64], npt.NDArray[np.float32]]
