from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from fastnce._types import PartitionStrategy, Precision

_Int64 = npt.NDArray[np.int64]
_Float32 = npt.NDArray[np.float32]

def config() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(num_threads: SupportsIndex, /) -> None: ...
def get_precision() -> Precision: ...
def set_precision(precision: Precision, /) -> None: ...
def fresh_seed() -> tuple[int, int]: ...
def check_sampler(
    num_true: SupportsIndex, num_sampled: SupportsIndex, unique: bool | np.bool, range_max: SupportsIndex
) -> None: ...
def check_log_uniform_candidates(
    true_classes: Any,
    num_true: SupportsIndex,
    num_sampled: SupportsIndex,
    unique: bool | np.bool,
    range_max: SupportsIndex,
) -> None: ...
def log_uniform_candidates(
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
) -> tuple[Any, Any, Any]: ...
def contains(classes: Any, name: str, value: int) -> bool: ...
def accidental_hits(
    true_classes: Any, sampled_candidates: Any, num_true: SupportsIndex
) -> tuple[npt.NDArray[np.int32], _Int64, _Float32]: ...
def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex,
    sampled_values: Any,
    remove_accidental_hits: bool | np.bool,
    partition_strategy: PartitionStrategy,
    seed: int,
    seed2: int,
    call: int,
    calls: int,
    precision: Precision | None,
    gradients: tuple[bool, bool, bool],
    grad_loss: Any,
    grad_dtype: Literal["float32"] | None,
    pad_rows: bool | np.bool,
    device: Any,
) -> tuple[Any, Any, Any, Any, Any, int | None]: ...
def check_nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: SupportsIndex,
    num_classes: SupportsIndex,
    num_true: SupportsIndex,
    sampled_values: Any,
    remove_accidental_hits: bool | np.bool,
    precision: Precision | None,
    grad_loss: Any,
) -> None: ...

jax_handlers: dict[str, dict[str, Any]]
"""XLA handlers in capsules, by platform and name."""

class DeviceArray:
    @property
    def address(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    def head(self, rows: int) -> DeviceArray: ...
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
