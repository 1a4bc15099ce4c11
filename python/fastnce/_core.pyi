from typing import Any

import numpy as np
import numpy.typing as npt

_Int64 = npt.NDArray[np.int64]
_Float32 = npt.NDArray[np.float32]

def config() -> dict[str, Any]: ...
def get_num_threads() -> int: ...
def set_num_threads(threads: int) -> None: ...
def get_precision() -> str: ...
def set_precision(precision: str) -> None: ...
def fresh_seed() -> tuple[int, int]: ...
def check_sampler(num_true: int, num_sampled: int, unique: bool, range_max: int) -> None: ...
def log_uniform_candidates(
    true_classes: Any,
    num_true: int,
    num_sampled: int,
    unique: bool,
    range_max: int,
    seed: int,
    seed2: int,
    call: int,
) -> tuple[_Int64, _Float32, _Float32]: ...
def accidental_hits(
    true_classes: Any, sampled_candidates: Any, num_true: int
) -> tuple[npt.NDArray[np.int32], _Int64, _Float32]: ...
def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int,
    sampled_values: Any,
    remove_accidental_hits: bool,
    partition_strategy: str,
    seed: int,
    seed2: int,
    precision: str | None,
    with_grad: bool,
    grad_loss: Any,
    grad_dtype: str | None,
) -> Any: ...
