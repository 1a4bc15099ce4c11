// Rows of a table in place, for JAX on the CPU: XLA's own scatter of bfloat16 converts the whole table to float32 and
// back.
#include <cstring>

#include "bindings/jax_ffi.h"

namespace fastnce::bindings::jax {

namespace {

// The result is the table itself: XLA has been told that they are the same memory. Of rows with the same id, which
// follow each other, the first counts.
void set_rows(const Buffer& id_buffer, const Buffer& rows, const Buffer& table) {
  const HostIds ids(id_buffer);
  const std::int64_t num_rows = table.dimensions()[0];
  for (std::size_t i = 0; i < ids.all().size(); ++i) {
    const std::int64_t id = ids.all()[i];
    if (id < 0 || id >= num_rows) {
      throw InvalidValue(concat("rows.ids[", i, "] = ", id, " is outside [0, ", num_rows, "), the rows of the table"));
    }
  }
  const std::size_t row_bytes = num_rows > 0 ? table.size_bytes() / static_cast<std::size_t>(num_rows) : 0;
  if (rows.element_type() != table.element_type() || rows.size_bytes() != ids.all().size() * row_bytes) {
    throw InvalidValue(concat("rows of ", rows.size_bytes(), " bytes: expected ", ids.all().size(), " of ", row_bytes,
                              " each, of the table's dtype"));
  }
  const auto* from = static_cast<const std::byte*>(rows.untyped_data());
  auto* const to = static_cast<std::byte*>(table.untyped_data());
  std::int64_t last = -1;
  for (const std::int64_t id : ids.all()) {
    if (id != last) std::memcpy(to + static_cast<std::size_t>(id) * row_bytes, from, row_bytes);
    last = id;
    from += row_bytes;
  }
}

XLA_FFI_DEFINE_HANDLER(
    on_cpu,
    [](Buffer, Buffer ids, Buffer rows, Result table) {
      return reporting_errors([&] { set_rows(ids, rows, *table); });
    },
    ffi::Ffi::Bind().Arg<Buffer>().Arg<Buffer>().Arg<Buffer>().Ret<Buffer>());

}  // namespace

XLA_FFI_Handler* const kSetRowsOnCpu = on_cpu;

}  // namespace fastnce::bindings::jax
