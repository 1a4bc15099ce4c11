// Rows of a table in place, for JAX on the CPU: XLA's own scatter of bfloat16 converts the whole table to float32 and
// back.
#include <cstring>

#include "bindings/jax/jax_ffi.h"

namespace fastnce::bindings::jax {

namespace {

// The first operand is the table, and so is the result: XLA has been told that they are the same memory. Of rows with
// the same id, which follow each other, the first counts.
void set_rows(const xla::CallFrame& frame) {
  const Call call(frame, 3, 1);
  const HostIds ids(call.operand(1));
  const Buffer rows = call.operand(2), table = call.result(0);
  const std::int64_t num_rows = table.dimension(0);
  for (std::size_t i = 0; i < ids.all().size(); ++i) {
    const std::int64_t id = ids.all()[i];
    if (id < 0 || id >= num_rows) {
      throw InvalidValue(concat("rows.ids[", i, "] = ", id, " is outside [0, ", num_rows, "), the rows of the table"));
    }
  }
  const std::size_t row_bytes = num_rows > 0 ? table.bytes() / static_cast<std::size_t>(num_rows) : 0;
  if (rows.type() != table.type() || rows.bytes() != ids.all().size() * row_bytes) {
    throw InvalidValue(concat("rows of ", rows.bytes(), " bytes: expected ", ids.all().size(), " of ", row_bytes,
                              " each, of the table's dtype"));
  }
  const auto* from = static_cast<const std::byte*>(rows.data());
  auto* const to = static_cast<std::byte*>(table.data());
  std::int64_t last = -1;
  for (const std::int64_t id : ids.all()) {
    if (id != last) std::memcpy(to + static_cast<std::size_t>(id) * row_bytes, from, row_bytes);
    last = id;
    from += row_bytes;
  }
}

}  // namespace

xla::Handler* const kSetRowsOnCpu = kOnCpu<set_rows>;

}  // namespace fastnce::bindings::jax
