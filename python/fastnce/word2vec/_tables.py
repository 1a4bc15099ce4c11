"""The tables that are trained: rows of a multiple of 64 bytes, aligned, on huge pages where the system has them."""

from __future__ import annotations

import mmap

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_ROW = 16
"""Rows are padded to a multiple of so many floats: 64 bytes, a cache line and a vector of AVX-512."""
_HUGE_PAGE = 1 << 21


def zeros(rows: int, width: int) -> Floats:
    """``[rows, width]``, a view of ``[rows, stride]``.

    Rows are read in random order: with pages of 2 MiB instead of 4 KiB, few of those reads miss the TLB.
    """
    stride = -(-width // _ROW) * _ROW
    size = 4 * rows * stride
    if size < _HUGE_PAGE:
        memory = np.zeros(size + 64, np.uint8)
        skipped = -memory.ctypes.data % 64
    else:
        try:
            mapped = mmap.mmap(-1, size + _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(
                f"no memory for a table of {rows} x {width} numbers, {size / 2**30:.1f} GiB: expected less; lower "
                "vector_size, or raise min_count"
            ) from error
        if hasattr(mmap, "MADV_HUGEPAGE"):
            mapped.madvise(mmap.MADV_HUGEPAGE)
        memory = np.frombuffer(mapped, np.uint8)
        skipped = -memory.ctypes.data % _HUGE_PAGE
    return memory[skipped : skipped + size].view(np.float32).reshape(rows, stride)[:, :width]


def initial_vectors(rows: int, width: int, seed: int) -> Floats:
    """word2vec's initial word vectors: uniform in +-0.5 / width."""
    vectors = zeros(rows, width)
    random = np.random.default_rng(seed)
    for start in range(0, rows, 1 << 14):  # in blocks, so that nothing else is as large as the table
        block = vectors[start : start + (1 << 14)]
        block[:] = (random.random(block.shape, np.float32) - 0.5) / width
    return vectors
