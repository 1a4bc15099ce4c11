#include "cuda/runtime/ids.h"

#include <string>

#include "cuda/runtime/device.cuh"
#include "cuda/runtime/ids.cuh"
#include "cuda/runtime/limits.h"
#include "fastnce/error.h"

namespace fastnce::cuda {

namespace {

constexpr int kThreads = 256;

struct CopyArguments {
  IdArray ids;
  std::int64_t* to;
};

FASTNCE_DEVICE std::int64_t id_at(const IdArray& ids, std::int64_t i) {
  switch (ids.bytes) {
    case 1:
      return ids.is_signed ? static_cast<const std::int8_t*>(ids.data)[i]
                           : static_cast<const std::uint8_t*>(ids.data)[i];
    case 2:
      return ids.is_signed ? static_cast<const std::int16_t*>(ids.data)[i]
                           : static_cast<const std::uint16_t*>(ids.data)[i];
    case 4:
      return ids.is_signed ? static_cast<const std::int32_t*>(ids.data)[i]
                           : static_cast<std::int64_t>(static_cast<const std::uint32_t*>(ids.data)[i]);
    default: return static_cast<const std::int64_t*>(ids.data)[i];
  }
}

const char* name_of(IdArgument argument) {
  switch (argument) {
    case IdArgument::kSampled: return "sampled_candidates";
    case IdArgument::kLabelValues: return "labels.values";
    case IdArgument::kLabelOffsets: return "labels.offsets";
    case IdArgument::kExcludeValues: return "exclude.values";
    case IdArgument::kExcludeOffsets: return "exclude.offsets";
    case IdArgument::kScoreOffsets: return "scores.offsets";
    case IdArgument::kRowIds: return "ids";
    case IdArgument::kLabels: break;
  }
  return "labels";
}

bool is_offsets(IdArgument argument) {
  return argument == IdArgument::kLabelOffsets || argument == IdArgument::kExcludeOffsets ||
         argument == IdArgument::kScoreOffsets;
}

FASTNCE_KERNEL(kThreads, 1) copy_ids_kernel(FASTNCE_ARGUMENTS CopyArguments args) {
  const IdArray& ids = args.ids;
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i >= ids.rows * ids.columns) return;
  args.to[i] = id_at(ids, i / ids.columns * ids.row_stride + i % ids.columns * ids.column_stride);
}

struct CountArguments {
  std::int64_t count;
  std::int64_t* to;
};

FASTNCE_KERNEL(kThreads, 1) count_up_kernel(FASTNCE_ARGUMENTS CountArguments args) {
  const std::int64_t i = block_x() * kThreads + thread_index();
  if (i < args.count) args.to[i] = i;
}

}  // namespace

void queue_count_up(std::int64_t count, std::int64_t* to, const Stream& stream) {
  launch(count_up_kernel, {.x = ceiling(count, kThreads)}, kThreads, 0, stream, CountArguments{count, to});
}

void queue_copy_ids(const IdArray& ids, std::int64_t* to, const Stream& stream) {
  launch(copy_ids_kernel, {.x = ceiling(ids.rows * ids.columns, kThreads)}, kThreads, 0, stream,
         CopyArguments{ids, to});
}

void check_ids() {
  const runtime::FaultRecord fault = runtime::take_fault_record();
  if (fault.count == 0) return;
  const auto argument = static_cast<IdArgument>(fault.argument);
  const std::string at =
      fault.columns > 0 ? concat(fault.index / fault.columns, ", ", fault.index % fault.columns) : concat(fault.index);
  const std::string expected =
      is_offsets(argument)
          ? concat(": expected offsets that begin at 0, never fall and end within the values, of which there are ",
                   fault.num_classes)
          : concat(" is outside [0, num_classes = ", fault.num_classes, ")",
                   fault.has_padding ? concat(", and is not padding = ", fault.padding) : "");
  throw InvalidValue(
      concat(name_of(argument), "[", at, "] = ", fault.value, expected,
             fault.count > 1 ? concat(", one of ", fault.count, " such faults since the last check") : ""));
}

}  // namespace fastnce::cuda
