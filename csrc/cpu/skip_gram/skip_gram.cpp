// Skip-gram training: the hand-out of the text to threads, and its blocks.
#include "cpu/skip_gram/skip_gram.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "cpu/runtime/parallel.h"
#include "cpu/runtime/workspace.h"
#include "cpu/skip_gram/kept_text.h"
#include "cpu/skip_gram/negatives.h"
#include "cpu/skip_gram/skip_gram_kernels.h"

namespace fastnce::cpu {

namespace {

constexpr std::int64_t kIdsAtOnce = 8192;  // handed out to a thread

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
      : call_(call),
        task_(task),
        kernels_(kernels),
        scratch_(scratch),
        kept_(call),
        negatives_(call),
        occurrences_(call.repeats < call.positions ? static_cast<std::size_t>(call.num_words) : 0) {
    std::fill_n(scratch_, kernels.scratch_floats(task), 0.0f);
  }

  void train(Range ids) {
    kept_.read(ids);
    progress.kept += kept_.size;
    progress.pairs += kept_.pairs;
    if (kept_.size == 0) return;
    negatives_.prepare(kept_.ids.front());
    SkipGramBlock block = block_at(0);
    for (std::int64_t i = 0; i < kept_.size;) {
      i += block.count;
      const SkipGramBlock next = block_at(i);
      progress.loss += kernels_.step(task_, block, next, scratch_);
      block = next;
    }
  }

  SkipGramProgress progress;

 private:
  // The block of the kept positions from `begin` on, with its negatives.
  SkipGramBlock block_at(std::int64_t begin) {
    if (begin >= kept_.size) return {};
    const SkipGramText& text = call_.text;
    const double passed = static_cast<double>(kept_.ids[static_cast<std::size_t>(begin)]) /
                          static_cast<double>(std::max<std::int64_t>(std::ssize(text.ids) - 1, 1));
    const SkipGramBlock block{
        .count = positions_from(begin),
        .words = kept_.words() + begin,
        .terms = kept_.terms() + begin,
        .to_left = kept_.to_left.data() + begin,
        .to_right = kept_.to_right.data() + begin,
        .negatives = negatives_.take(),
        .negative_terms = negatives_.terms(),
        .rate = static_cast<float>(text.first_rate + (text.last_rate - text.first_rate) * passed)};
    const std::int64_t end = begin + block.count;
    if (end < kept_.size) negatives_.prepare(kept_.ids[static_cast<std::size_t>(end)]);
    return block;
  }

  // How many positions the block has: at most L, and so many that no word stands there more often than `repeats`. All
  // of them move the word's row from the same value, each by up to the rate times the pairs of a position: in a list
  // where two words take turns, that was enough to diverge.
  std::int64_t positions_from(std::int64_t begin) {
    const std::int64_t most = std::min(task_.positions, kept_.size - begin);
    if (occurrences_.empty()) return most;
    const std::int32_t* const words = kept_.words() + begin;
    const auto of = [&](std::int64_t i) -> std::uint8_t& { return occurrences_[static_cast<std::size_t>(words[i])]; };
    std::int64_t count = 0;
    while (count < most && of(count) < call_.repeats) ++of(count++);
    for (std::int64_t i = 0; i < count; ++i) of(i) = 0;
    return count;
  }

  const SkipGramCall& call_;
  const SkipGramTask& task_;
  const SkipGramKernels& kernels_;
  float* scratch_;
  KeptText kept_;
  Negatives negatives_;
  std::vector<std::uint8_t> occurrences_;  // [V], of the block in the making; none where L are allowed
};

}  // namespace

SkipGramProgress train_skip_gram(const SkipGramCall& call) {
  const SkipGramOptions& options = *call.options;
  const SkipGramTask task{
      .vectors = call.vectors,
      .outputs = call.outputs,
      .dim = call.dim,
      .window = options.window,
      .samples = call.samples,
      .positions = call.positions,
      .loss = options.loss,
      .negative_weight = static_cast<float>(static_cast<double>(options.negative) / static_cast<double>(call.samples))};
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
