#include "cpu/rows/row_plan.h"

#include <algorithm>
#include <bit>
#include <memory_resource>
#include <utility>
#include <vector>

#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/workspace.h"

namespace fastnce::cpu {

namespace {

// Between two polls for an interrupt: an entry of a large table is a cache miss.
constexpr std::int64_t kEntriesAtOnce = std::int64_t{1} << 18;

struct Entry {
  std::int64_t id;
  std::int64_t index;
};

// Stable radix sort by id, least significant digit first: two or three passes for a table of a million classes, where a
// comparison sort would take a tenth of the whole step on small problems. Small inputs take narrower digits, whose
// histograms cost less than the passes they save.
void sort_by_id(std::pmr::vector<Entry>& entries) {
  std::int64_t all_bits = 0;
  for (const Entry& entry : entries) all_bits |= entry.id;
  const int bits = static_cast<int>(std::bit_width(static_cast<std::uint64_t>(all_bits)));
  const int digit_bits = entries.size() < 2048 ? 8 : 11;
  std::pmr::vector<Entry> other(entries.size(), call_memory());
  std::pmr::vector<std::size_t> start(std::size_t{1} << digit_bits, call_memory());
  Interruption interruption;
  for (int shift = 0; shift < bits; shift += digit_bits) {
    const auto digit = [&](const Entry& entry) {
      return static_cast<std::size_t>(entry.id >> shift) & (start.size() - 1);
    };
    std::fill(start.begin(), start.end(), 0);
    for (const Entry& entry : entries) ++start[digit(entry)];
    std::size_t sum = 0;
    for (std::size_t& count : start) sum += std::exchange(count, sum);
    in_parts({0, std::ssize(entries)}, kEntriesAtOnce, interruption, [&](Range part) {
      const std::span some(entries.data() + part.begin, static_cast<std::size_t>(part.size()));
      for (const Entry& entry : some) other[start[digit(entry)]++] = entry;
    });
    interruption.check();
    entries.swap(other);
  }
}

}  // namespace

void plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, RowPlan& plan) {
  std::pmr::vector<Entry> entries(call_memory());
  entries.reserve(labels.size() + sampled.size());
  for (const std::int64_t id : labels) entries.push_back({id, static_cast<std::int64_t>(entries.size())});
  for (const std::int64_t id : sampled) entries.push_back({id, static_cast<std::int64_t>(entries.size())});
  sort_by_id(entries);

  const std::int64_t num_labels = static_cast<std::int64_t>(labels.size());
  plan.ids.clear();
  plan.offsets.clear();
  plan.samples_distinct = true;
  plan.ids.reserve(entries.size());
  plan.offsets.reserve(entries.size() + 1);
  plan.entries.resize(entries.size());
  plan.sampled_row.resize(sampled.size());
  std::int64_t last_sampled_row = -1;
  for (std::size_t i = 0; i < entries.size(); ++i) {
    if (i == 0 || entries[i].id != entries[i - 1].id) {
      plan.ids.push_back(entries[i].id);
      plan.offsets.push_back(static_cast<std::int64_t>(i));
    }
    plan.entries[i] = entries[i].index;
    if (entries[i].index < num_labels) continue;
    const std::int64_t row = static_cast<std::int64_t>(plan.ids.size()) - 1;
    plan.sampled_row[static_cast<std::size_t>(entries[i].index - num_labels)] = row;
    plan.samples_distinct = plan.samples_distinct && row != last_sampled_row;
    last_sampled_row = row;
  }
  plan.offsets.push_back(static_cast<std::int64_t>(entries.size()));
}

}  // namespace fastnce::cpu
