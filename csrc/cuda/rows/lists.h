// Lists of classes on the device: finds wrong offsets, and the example of each entry.
#pragma once

#include <cstdint>

#include "cuda/rows/targets.cuh"

namespace fastnce::cuda {

struct ListsArguments {
  DeviceLists lists;
  IdArgument argument;  // of the offsets, in messages
  std::int64_t batch;
  AtomicWord* first_fault;  // what lists.first_fault points to
  std::int32_t* example;    // [n]: the example of each entry, or DeviceTargets::kNone; null: not wanted
  runtime::FaultRecord* faults;
};
void queue_lists(const ListsArguments& arguments, const Stream& stream);

}  // namespace fastnce::cuda
