// Skip-gram training: which positions are kept, their windows and negatives, and the hand-out of the text to threads.
//
// Random numbers come from two Philox streams under the seed. Of the first, id t of the run has the words 2 (t mod 2)
// and the next of block t div 2: whether it is kept, and its reach. Of the second, the block of positions that begins
// with id t has the S / 2 Philox blocks from t S / 2 on, two words for each negative, as the unigram sampler reads
// them, but that no word is rejected: shares are off by at most V / 2^32.
#include "cpu/skip_gram/skip_gram.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/runtime/cache.h"
#include "cpu/runtime/parallel.h"
#include "cpu/runtime/workspace.h"
#include "cpu/skip_gram/skip_gram_kernels.h"
#include "math/distribution/unigram.h"
#include "math/philox.h"

namespace fastnce::cpu {

namespace {

constexpr std::int64_t kIdsAtOnce = 8192;  // handed out to a thread
constexpr std::uint64_t kTextStream = 0, kNegativeStream = 1;

// Where part `index` of the text begins: at the first paragraph that begins in its kIdsAtOnce ids, or with them.
std::int64_t part_begin(std::span<const std::int32_t> ids, std::int64_t index) {
  const std::int64_t size = std::ssize(ids);
  const std::int64_t begin = std::min(index * kIdsAtOnce, size), end = std::min(begin + kIdsAtOnce, size);
  for (std::int64_t i = begin; i < end; ++i) {
    if (i == 0 || ids[static_cast<std::size_t>(i - 1)] < 0) return i;
  }
  return begin;
}

// What one thread does.
class Worker {
 public:
  Worker(const SkipGramCall& call, const SkipGramTask& task, const SkipGramKernels& kernels, float* scratch)
      : call_(call), task_(task), kernels_(kernels), scratch_(scratch), distribution_(call.negatives) {
    std::fill_n(scratch_, kernels.scratch_floats(task), 0.0f);
    for (auto& negatives : negatives_) negatives.resize(static_cast<std::size_t>(task.samples));
    random_.resize(static_cast<std::size_t>(2 * task.samples));
  }

  void train(Range ids) {
    keep(ids);
    progress.kept += kept_;
    SkipGramBlock block = block_at(0, 0);
    for (std::int64_t i = 0; i < kept_; i += task_.positions) {
      const SkipGramBlock next = block_at(i + task_.positions, i / task_.positions + 1);
      progress.loss += kernels_.step(task_, block, next, scratch_);
      block = next;
    }
  }

  SkipGramProgress progress;

 private:
  std::uint64_t place_of(std::int64_t id) const { return call_.text.place + static_cast<std::uint64_t>(id); }

  // Subsamples the ids and draws the reaches of what is kept.
  void keep(Range ids) {
    const auto none = static_cast<std::size_t>(task_.window);
    const auto most = static_cast<std::size_t>(ids.size());
    words_.assign(none, -1);
    words_.resize(none + most);
    ids_.resize(most);
    to_left_.resize(most);
    to_right_.resize(most);
    const std::int32_t* const text = call_.text.ids.data();
    const auto window = static_cast<std::uint64_t>(task_.window);
    std::int64_t paragraph = 0;
    kept_ = 0;
    for (std::int64_t i = ids.begin; i < ids.end;) {
      const math::PhiloxBlock random = math::philox4x32(call_.options->seed, {place_of(i) / 2, kTextStream});
      for (std::uint64_t half = place_of(i) % 2; half < 2 && i < ids.end; ++half, ++i) {
        const std::int32_t word = text[i];
        if (word < 0) {
          end_paragraph(paragraph);
          paragraph = kept_;
          continue;
        }
        // No branch: one that nothing predicts costs more than what it saves.
        const auto at = static_cast<std::size_t>(kept_);
        words_[none + at] = word;
        ids_[at] = i;
        to_left_[at] = static_cast<std::int32_t>((random.word[2 * half + 1] * window) >> 32) + 1;
        kept_ += random.word[2 * half] <= call_.keep[word] ? 1 : 0;
      }
    }
    end_paragraph(paragraph);
    words_.resize(none + static_cast<std::size_t>(kept_));
    words_.insert(words_.end(), none, -1);
  }

  // Windows end at the paragraph that began with kept position `begin`.
  void end_paragraph(std::int64_t begin) {
    const std::int64_t end = kept_;
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t reach = to_left_[static_cast<std::size_t>(i)];
      const std::int64_t left = std::min(reach, i - begin), right = std::min(reach, end - 1 - i);
      to_left_[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(left);
      to_right_[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(right);
      progress.pairs += left + right;
    }
  }

  // All words first: the tables of the unigrams come from beyond the L1 cache, then many lines at once.
  void draw(std::uint64_t first_block, std::vector<std::int32_t>& negatives) {
    for (std::size_t s = 0; s < negatives.size(); s += 2) {
      const math::PhiloxBlock random = math::philox4x32(call_.options->seed, {first_block + s / 2, kNegativeStream});
      std::copy_n(random.word, 4, random_.data() + 2 * s);
    }
    for (std::size_t s = 0; s < negatives.size(); ++s) {
      negatives[s] = static_cast<std::int32_t>(distribution_.id(&random_[2 * s], &random_[2 * s + 1]));
    }
  }

  // The block of the kept positions from `begin` on, with its negatives.
  SkipGramBlock block_at(std::int64_t begin, std::int64_t number) {
    if (begin >= kept_) return {};
    const std::int64_t first = ids_[static_cast<std::size_t>(begin)];
    const SkipGramText& text = call_.text;
    const double passed = static_cast<double>(first) / static_cast<double>(std::max(std::ssize(text.ids) - 1, 1L));
    std::vector<std::int32_t>& negatives = negatives_[number % 2];
    draw(place_of(first) * static_cast<std::uint64_t>(task_.samples / 2), negatives);
    return {.count = std::min(task_.positions, kept_ - begin),
            .words = words_.data() + task_.window + begin,
            .to_left = to_left_.data() + begin,
            .to_right = to_right_.data() + begin,
            .negatives = negatives.data(),
            .rate = static_cast<float>(text.first_rate + (text.last_rate - text.first_rate) * passed)};
  }

  const SkipGramCall& call_;
  const SkipGramTask& task_;
  const SkipGramKernels& kernels_;
  float* scratch_;
  const math::Unigram distribution_;
  std::vector<std::int32_t> words_;              // kept ones, between `window` times -1
  std::vector<std::int64_t> ids_;                // where they are in the text
  std::vector<std::int32_t> to_left_, to_right_;  // their contexts on each side
  std::int64_t kept_ = 0;                         // of each of these
  std::vector<std::int32_t> negatives_[2];        // of this block and the next
  std::vector<std::uint32_t> random_;             // two words for each negative
};

}  // namespace

SkipGramProgress train_skip_gram(const SkipGramCall& call) {
  const SkipGramOptions& options = *call.options;
  const SkipGramTask task{.vectors = call.vectors,
                          .outputs = call.outputs,
                          .dim = call.dim,
                          .window = options.window,
                          .samples = call.samples,
                          .positions = call.positions,
                          .loss = options.loss,
                          .negative_weight = static_cast<float>(static_cast<double>(options.negative) /
                                                                static_cast<double>(call.samples)),
                          .terms = call.terms,
                          .l2_bytes = l2_cache_bytes()};
  const SkipGramKernels& kernels = skip_gram_kernels(current_isa(), options.precision);
  const std::int64_t parts = (std::ssize(call.text.ids) + kIdsAtOnce - 1) / kIdsAtOnce;
  const int threads = static_cast<int>(std::clamp(parts, std::int64_t{1}, std::int64_t{call.threads}));
  const std::int64_t floats = (kernels.scratch_floats(task) + 15) / 16 * 16;
  const Workspace scratch(static_cast<std::size_t>(floats * threads) * sizeof(float));
  std::vector<SkipGramProgress> results(static_cast<std::size_t>(threads));
  std::atomic<std::int64_t> next_part{0};
  parallel(threads, [&](const Team& team) {
    Worker worker(call, task, kernels, reinterpret_cast<float*>(scratch.memory()) + team.rank * floats);
    for (std::int64_t part = next_part++; part < parts; part = next_part++) {
      worker.train({part_begin(call.text.ids, part), part_begin(call.text.ids, part + 1)});
    }
    results[static_cast<std::size_t>(team.rank)] = worker.progress;
  });
  SkipGramProgress total;
  for (const SkipGramProgress& result : results) {
    total.loss += result.loss;
    total.pairs += result.pairs;
    total.kept += result.kept;
  }
  return total;
}

}  // namespace fastnce::cpu
