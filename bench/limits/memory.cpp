// Rates of reading memory in GB/s: in order, and whole rows at random places, as gathering rows of a table does.
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <span>
#include <string>

#include "rate.h"

namespace fastnce::bench {

namespace {

using Word = std::uint64_t;

constexpr std::size_t kBytes = std::size_t{1} << 30;  // far beyond any L3 that two or a few cores get to see
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kCacheLine = 64;

// kBytes of zeros, touched, with huge pages advised or advised against. Starts on a huge page's boundary.
class Memory {
 public:
  explicit Memory(bool huge) {
    map_ = mmap(nullptr, kBytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map_ == MAP_FAILED) {
      std::perror("fastnce_limits: mmap");
      std::exit(1);
    }
    const auto address = reinterpret_cast<std::uintptr_t>(map_);
    const std::uintptr_t aligned = (address + kHugePage - 1) / kHugePage * kHugePage;
    words_ = {reinterpret_cast<Word*>(aligned), kBytes / sizeof(Word)};
    madvise(words_.data(), kBytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    // Ones, because the kernel may map one page for all that is only read.
    for (Word& word : words_) word = 1;
  }
  ~Memory() { munmap(map_, kBytes + kHugePage); }
  Memory(const Memory&) = delete;

  std::span<const Word> words() const { return words_; }

 private:
  void* map_;
  std::span<Word> words_;
};

Word sum(std::span<const Word> words) {
  Word total = 0;
  for (const Word word : words) total += word;
  return total;
}

// Each thread reads a part of its own.
double streaming(int threads, std::span<const Word> words) {
  const std::size_t part = words.size() / static_cast<std::size_t>(threads);
  return best_rate(threads, static_cast<double>(part * sizeof(Word)),
                   [&](int thread) { keep(sum(words.subspan(static_cast<std::size_t>(thread) * part, part))); });
}

// Each thread reads rows that it draws from all of the memory, and asks for each some rows ahead, as the kernels can.
double gathering(int threads, std::span<const Word> words, std::size_t row_bytes) {
  constexpr std::size_t kBytesPerThread = std::size_t{1} << 28;
  constexpr std::size_t kLinesAhead = 128;  // 8 KiB: fewer measured slower on Zen 4, and none at all slowest
  const std::size_t count = kBytesPerThread / row_bytes;
  const std::size_t ahead = kLinesAhead * kCacheLine / row_bytes;
  const std::size_t row_words = row_bytes / sizeof(Word);
  std::vector<std::vector<std::uint32_t>> rows(static_cast<std::size_t>(threads));
  std::minstd_rand random(1);
  for (auto& own : rows) {
    own.resize(count + ahead);
    for (auto& row : own) row = static_cast<std::uint32_t>(random() % (kBytes / row_bytes));
  }
  return best_rate(threads, static_cast<double>(kBytesPerThread), [&](int thread) {
    const std::uint32_t* const own = rows[static_cast<std::size_t>(thread)].data();
    Word total = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const auto* const next = reinterpret_cast<const char*>(&words[own[i + ahead] * row_words]);
      for (std::size_t line = 0; line < row_bytes; line += kCacheLine) __builtin_prefetch(next + line);
      total += sum(words.subspan(own[i] * row_words, row_words));
    }
    keep(total);
  });
}

}  // namespace

std::vector<Limit> memory_limits(int threads) {
  std::vector<Limit> limits;
  for (const bool huge : {true, false}) {
    const Memory memory(huge);
    const auto add = [&](const std::string& name, double rate) {
      limits.push_back({name + (huge ? "_huge_pages_gbs" : "_small_pages_gbs"), 1e-9 * rate});
    };
    add("read", streaming(threads, memory.words()));
    for (const std::size_t row_bytes : {512, 2048}) {
      add("gather_" + std::to_string(row_bytes), gathering(threads, memory.words(), row_bytes));
    }
  }
  return limits;
}

}  // namespace fastnce::bench
