// Device-wide sort and scan, by CUB. The tests have a second implementation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/rows/row_order.h"
#include "fastnce/cuda.h"

namespace fastnce::cuda {

// Scratch bytes for both functions below, for that many elements on the current device.
std::size_t sort_bytes(std::int64_t count);

// Sorts entries by their bits from `first_bit` up to `end_bit`; entries equal in these keep their order.
void sort_entries(const RowEntry* entries, RowEntry* sorted, std::int64_t count, int first_bit, int end_bit,
                  void* scratch, std::size_t scratch_bytes, const Stream& stream);

// rows_so_far[i] = rows that start at entries 0 to i.
void number_rows(const RowEntry* sorted, std::int64_t num_classes, std::uint32_t* rows_so_far, std::int64_t count,
                 void* scratch, std::size_t scratch_bytes, const Stream& stream);

}  // namespace fastnce::cuda
