#include "cpu/rows/row_plan.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <utility>

#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/workspace.h"

namespace fastnce::cpu {

namespace {

// Between two polls for an interrupt: an entry of a large table is a cache miss.
constexpr std::int64_t kEntriesAtOnce = std::int64_t{1} << 16;

// Some 10 ns each in all passes together: a thread more pays from a few hundred microseconds on.
constexpr double kEntriesPerThread = 32768;

// True classes, then samples.
struct Source {
  std::span<const std::int64_t> labels, sampled;

  std::int64_t size() const { return std::ssize(labels) + std::ssize(sampled); }
  std::int64_t operator[](std::int64_t i) const {
    return i < std::ssize(labels) ? labels[static_cast<std::size_t>(i)]
                                  : sampled[static_cast<std::size_t>(i - std::ssize(labels))];
  }
  std::int64_t all_bits() const {
    const auto merge = [](std::span<const std::int64_t> ids) {
      return std::accumulate(ids.begin(), ids.end(), std::int64_t{0}, std::bit_or<>{});
    };
    return merge(labels) | merge(sampled);
  }
};

// Words of 32 bits, where ids and entries are no larger, halve what the passes read and write.
template <class Word>
struct Entry {
  Word id, index;
};

// Stable radix sort by id, least significant digit first: two or three passes for a table of a million classes, where a
// comparison sort would take a tenth of the whole step on small problems. Small inputs take narrower digits, whose
// histograms cost less than the passes they save. Of several threads each moves a part of its own in every pass, behind
// what the threads before it move to the same digit: the order is that of one thread.
template <class Word>
class RowSort {
 public:
  RowSort(const Source& source, std::int64_t all_bits)
      : source_(source),
        size_(source.size()),
        digit_bits_(size_ < 2048 ? 8 : 11),
        passes_(std::max(
            (static_cast<int>(std::bit_width(static_cast<std::uint64_t>(all_bits))) + digit_bits_ - 1) / digit_bits_,
            1)),
        threads_(threads_for(static_cast<double>(size_), kEntriesPerThread)),
        workspace_(carve({}, threads_)) {
    carve(Carver(workspace_.memory()), threads_);
  }

  void plan(RowPlan& plan) {
    parallel(threads_, [&](const Team& team) { sort(team); });
    interruption_.check();
    std::int64_t rows = 0;
    for (int part = 0; part < parts_; ++part) rows += std::exchange(rows_[part], rows);
    plan.ids.resize(static_cast<std::size_t>(rows));
    plan.offsets.resize(static_cast<std::size_t>(rows) + 1);
    plan.entries.resize(static_cast<std::size_t>(size_));
    plan.sampled_row.resize(source_.sampled.size());
    plan.offsets.back() = size_;
    parallel(parts_, [&](const Team& team) {
      for (int part = team.rank; part < parts_; part += team.size) distinct_[part] = fill(plan, part);
    });
    plan.samples_distinct = std::all_of(distinct_, distinct_ + parts_, [](bool part) { return part; });
  }

 private:
  std::size_t carve(Carver memory, int threads) {
    sorted_ = memory.take<Entry<Word>>(size_);
    other_ = memory.take<Entry<Word>>(size_);
    starts_ = memory.take<Word>(threads << digit_bits_);
    rows_ = memory.take<std::int64_t>(threads);
    distinct_ = memory.take<bool>(threads);
    return memory.used();
  }

  void sort(const Team& team) {
    const Range own = team.share(size_);
    Word* const start = starts_ + (static_cast<std::int64_t>(team.rank) << digit_bits_);
    Entry<Word>* from = other_;
    Entry<Word>* to = sorted_;
    for (int pass = 0; pass < passes_; ++pass) {
      const auto pass_over = [&](const auto& entry) { move(own, pass * digit_bits_, entry, start, to, team); };
      if (pass == 0) {
        pass_over([&](std::int64_t i) { return Entry<Word>{static_cast<Word>(source_[i]), static_cast<Word>(i)}; });
      } else {
        pass_over([&](std::int64_t i) { return from[i]; });
      }
      std::swap(from, to);
    }
    if (team.rank == 0) {
      sorted_ = from;
      parts_ = team.size;
    }
    team.barrier();
    rows_[team.rank] = count_rows(rows_of(team.rank));
  }

  template <class Get>
  void move(Range own, int shift, const Get& entry, Word* start, Entry<Word>* to, const Team& team) {
    const auto digit = [&](const Entry<Word>& e) {
      return static_cast<std::size_t>(e.id >> shift) & ((std::size_t{1} << digit_bits_) - 1);
    };
    std::fill_n(start, std::size_t{1} << digit_bits_, Word{0});
    for (std::int64_t i = own.begin; i < own.end; ++i) ++start[digit(entry(i))];
    team.barrier();
    if (team.rank == 0) {
      Word sum = 0;
      for (std::int64_t d = 0; d < std::int64_t{1} << digit_bits_; ++d) {
        for (std::int64_t thread = 0; thread < team.size; ++thread) {
          sum += std::exchange(starts_[(thread << digit_bits_) + d], sum);
        }
      }
    }
    team.barrier();
    in_parts(own, kEntriesAtOnce, interruption_, [&](Range part) {
      for (std::int64_t i = part.begin; i < part.end; ++i) {
        const Entry<Word> e = entry(i);
        to[start[digit(e)]++] = e;
      }
    });
    team.barrier();
  }

  // The part of the sorted entries whose rows begin in an equal share of them.
  Range rows_of(int part) const {
    const auto first = [&](std::int64_t i) {
      while (i > 0 && i < size_ && sorted_[i].id == sorted_[i - 1].id) ++i;
      return i;
    };
    const Range share = part_of(size_, part, parts_);
    return {first(share.begin), first(share.end)};
  }

  std::int64_t count_rows(Range entries) const {
    std::int64_t rows = 0;
    for (std::int64_t i = entries.begin; i < entries.end; ++i) {
      rows += i == entries.begin || sorted_[i].id != sorted_[i - 1].id ? 1 : 0;
    }
    return rows;
  }

  // Returns whether no class was sampled twice.
  bool fill(RowPlan& plan, int part) const {
    const std::int64_t num_labels = std::ssize(source_.labels);
    const Range own = rows_of(part);
    std::int64_t row = rows_[part] - 1, last_sampled_row = -1;
    bool distinct = true;
    for (std::int64_t i = own.begin; i < own.end; ++i) {
      if (i == own.begin || sorted_[i].id != sorted_[i - 1].id) {
        ++row;
        plan.ids[static_cast<std::size_t>(row)] = static_cast<std::int64_t>(sorted_[i].id);
        plan.offsets[static_cast<std::size_t>(row)] = i;
      }
      const auto index = static_cast<std::int64_t>(sorted_[i].index);
      plan.entries[static_cast<std::size_t>(i)] = index;
      if (index < num_labels) continue;
      plan.sampled_row[static_cast<std::size_t>(index - num_labels)] = row;
      distinct = distinct && row != last_sampled_row;
      last_sampled_row = row;
    }
    return distinct;
  }

  const Source& source_;
  const std::int64_t size_;
  const int digit_bits_, passes_, threads_;
  Entry<Word>*sorted_ = nullptr, *other_ = nullptr;
  Word* starts_ = nullptr;        // [threads, digits]
  std::int64_t* rows_ = nullptr;  // [threads]: of each part, then before it
  bool* distinct_ = nullptr;      // [threads]
  Workspace workspace_;
  Interruption interruption_;
  int parts_ = 1;  // threads that sorted
};

}  // namespace

void plan_rows(std::span<const std::int64_t> labels, std::span<const std::int64_t> sampled, RowPlan& plan) {
  const Source source{labels, sampled};
  const std::int64_t all_bits = source.all_bits();
  constexpr std::int64_t kMost = std::numeric_limits<std::uint32_t>::max();
  if (all_bits <= kMost && source.size() <= kMost) {
    RowSort<std::uint32_t>(source, all_bits).plan(plan);
  } else {
    RowSort<std::uint64_t>(source, all_bits).plan(plan);
  }
}

}  // namespace fastnce::cpu
