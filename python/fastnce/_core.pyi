from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from fastnce._types import GradTables, Precision, Progress

_Int64 = npt.NDArray[np.int64]
_Float32 = npt.NDArray[np.float32]

def config() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(num_threads: SupportsIndex, /) -> None: ...
def get_precision() -> Precision: ...
def set_precision(precision: Precision, /) -> None: ...
def fresh_seed() -> tuple[int, int]: ...

class UnigramTable:
    @staticmethod
    def of_unigrams(
        unigrams: Any,
        distortion: SupportsFloat,
        num_reserved_ids: SupportsIndex,
        num_shards: SupportsIndex,
        shard: SupportsIndex,
        float32_sums: bool,
    ) -> UnigramTable: ...
    @staticmethod
    def of_vocabulary(
        text: bytes,
        name: str,
        distortion: SupportsFloat,
        num_reserved_ids: SupportsIndex,
        num_shards: SupportsIndex,
        shard: SupportsIndex,
        float32_sums: bool,
    ) -> UnigramTable: ...
    @property
    def weights(self) -> _Float32: ...
    @property
    def device_bytes(self) -> int: ...
    def on_device(self, memory: Any, address: int, device: Any) -> DeviceUnigramTable: ...
    def __len__(self) -> int: ...

class DeviceUnigramTable: ...

class LearnedWeights:
    def __init__(self, range_max: SupportsIndex) -> None: ...
    def copy(self) -> LearnedWeights: ...
    @staticmethod
    def of_weights(weights: Any) -> LearnedWeights: ...
    def learn(self, true_classes: Any) -> None: ...
    @property
    def weights(self) -> npt.NDArray[np.int32]: ...
    def __len__(self) -> int: ...

Distribution: TypeAlias = (
    str | tuple[str, *tuple[SupportsFloat, ...]] | UnigramTable | DeviceUnigramTable | LearnedWeights
)
"""A name, a name with parameters, or weights."""

def check_sampler(
    distribution: Distribution,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
) -> None: ...
def check_candidates(
    distribution: Distribution,
    true_classes: Any,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
) -> None: ...
def candidates(
    distribution: Distribution,
    true_classes: Any,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
    seed: int,
    seed2: int,
    call: int,
    device: Any,
    calls: int,
    true_offsets: Any = None,
    num_groups: SupportsIndex | None = None,
    exclude: Any = None,
    exclude_offsets: Any = None,
) -> tuple[Any, Any, Any]: ...
def mixed_candidates(
    sources: list[tuple[Distribution, int, bool, int, int, int]],
    true_classes: Any,
    num_true: int,
    range_max: int,
    true_offsets: Any = None,
    num_groups: SupportsIndex | None = None,
    exclude: Any = None,
    exclude_offsets: Any = None,
) -> tuple[Any, Any, Any]: ...
def class_array(true_classes: Any, num_true: SupportsIndex, range_max: SupportsIndex) -> _Int64: ...
def id_array(ids: Any, name: str) -> _Int64: ...
def contains(classes: Any, name: str, value: int) -> bool: ...
def accidental_hits(
    true_classes: Any, sampled_candidates: Any, num_true: SupportsIndex
) -> tuple[npt.NDArray[np.int32], _Int64, _Float32]: ...
def compute_loss(fields: dict[str, Any]) -> tuple[Any, Any, Any, Any, Any, Any, int | None]: ...
def check_loss(fields: dict[str, Any]) -> None: ...
def full_loss(
    fields: dict[str, Any], out: GradTables | None, progress: Progress | None
) -> tuple[Any, Any, Any, Any, Any]: ...
def top_k(fields: dict[str, Any], k: SupportsIndex, progress: Progress | None) -> tuple[Any, _Int64]: ...
def rank_of_labels(fields: dict[str, Any], progress: Progress | None) -> npt.NDArray[np.float64]: ...
def score_labels(fields: dict[str, Any]) -> npt.NDArray[Any]: ...
def rank_of_scores(fields: dict[str, Any], scores: Any, offsets: Any) -> npt.NDArray[np.float64]: ...

loss_fields: tuple[str, ...]
"""The keywords of the fields above."""

jax_handlers: dict[str, dict[str, Any]]
"""XLA handlers in capsules, by platform and name."""

class DeviceArray:
    @property
    def address(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: slice) -> DeviceArray: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

def new_device_array(dtype: str, shape: list[int], device: Any, /) -> DeviceArray: ...
def cuda_built() -> bool: ...
def cuda_unavailable_reason() -> str: ...
def cuda_devices() -> list[tuple[str, tuple[int, int], int, int]]: ...
def cuda_device_of(object: Any, name: str) -> int | None: ...
def cuda_check(device: SupportsIndex, /) -> None: ...
def cuda_synchronize(device: Any, /) -> None: ...
def cuda_read(address: int, device: Any, /) -> int: ...
def cuda_write(value: int, address: int, device: Any, /) -> None: ...
def cuda_joined(
    first: Any,
    first_name: str,
    first_rows: int,
    second: Any,
    second_name: str,
    second_rows: int,
    matrices: bool,
    device: Any,
) -> Any: ...
def cuda_fill(value: float, count: int, address: int, device: Any, /) -> None: ...
def cuda_count_up(count: int, address: int, device: Any, /) -> None: ...
def optimizer_states(kind: str) -> tuple[int, bool]: ...
def table_shape(table: Any, name: str, is_matrix: bool, device: Any) -> tuple[int, int, bool]: ...

class Optimizer:
    def __init__(
        self,
        kind: str,
        weights_states: tuple[Any, ...],
        biases_states: tuple[Any, ...] | None,
        device: Any = ...,
        step: npt.NDArray[np.int64] | None = ...,
    ) -> None: ...
    def set(
        self,
        *,
        lr: float,
        step: int,
        momentum: float = ...,
        beta1: float = ...,
        beta2: float = ...,
        eps: float = ...,
        eps_inside_sqrt: float = ...,
        eps_corrected: float = ...,
        weight_decay: float = ...,
        rounding_seed: int | None = ...,
    ) -> None: ...
    def update_rows(self, fields: dict[str, Any], ids: Any, rows: Any, bias_rows: Any) -> None: ...
