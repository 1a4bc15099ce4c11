// The best classes and the ranks of labels: threads and strips. The arithmetic is in the -inl.h files.
#include "cpu/all_classes/evaluate.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/all_classes/examples.h"
#include "cpu/all_classes/sweep_setup.h"

namespace fastnce::cpu {

namespace {

// What threads keep of a strip's examples is at most this.
constexpr std::int64_t kBytesOfAll = std::int64_t{128} << 20;

// One pass over all classes for each strip. An Epilogue has
//   take(memory, shape)                       its memory
//   begin(sweep, strip, team, scratch)        before the pass, with the inputs located
//   run(sweep, strip, team, scratch)          the pass
//   finish(strip, own, team)                  for a share of the strip's examples, once all threads have passed
template <class T, class Epilogue>
void evaluate(const Scoring& scoring, SweptExamples& examples, std::int64_t bytes_per_example, const Progress& report,
              Epilogue& epilogue) {
  const SweepKernels<T>& kernels = sweep_kernels<T>(current_isa(), scoring.precision);
  if (examples.count() == 0) return report_all_done(report, 0);
  Interruption interruption;
  const int threads = SweepShape::threads_of(scoring, examples.count(), 1.0);
  const std::int64_t longest =
      std::clamp<std::int64_t>(kBytesOfAll / threads / bytes_per_example, 1, SweepShape::kLongestStrip);
  const SweepShape shape(scoring, kernels, examples.count(), longest, 1.0, false);
  const DType weights_dtype = scoring.weights_dtype.value_or(scoring.dtype);
  struct Memory {
    StripInputs<T> inputs;
    PerThread<T> scratch;
    PerThread<std::int64_t> cursors;
  };
  const auto take = [&](Carver& carver) {
    const Memory memory{{scoring, kernels, loss_kernels<T>(current_isa()), shape, carver},
                        {carver, threads, kernels.scratch_elements(shape.plane, weights_dtype)},
                        {carver, threads, examples.excluded.empty() ? 0 : shape.strip}};
    epilogue.take(carver, shape);
    return memory;
  };
  Carver measure;
  take(measure);
  const Workspace workspace(measure.used());
  Carver carver(workspace.memory());
  const Memory memory = take(carver);

  SweepProgress progress(report, examples.count() * scoring.num_classes, interruption);
  const std::int64_t strips = shape.strips(examples.count());
  parallel(threads, [&](const Team& team) {
    T* const scratch = memory.scratch.of(team);
    sort_excluded(examples, team.share(examples.count()));
    if (team.rank == 0) progress.expect(strips * team.share(scoring.num_classes).size());
    for (std::int64_t i = 0; i < strips; ++i) {
      const Range strip = shape.strip_of(examples.count(), i);
      const Sweep<T> sweep =
          memory.inputs.sweep(examples, strip, team, memory.cursors.of(team), interruption, progress);
      memory.inputs.locate(examples, strip, team);
      team.barrier();
      memory.inputs.pack(sweep, team, scratch);
      epilogue.begin(sweep, strip, team, scratch);
      team.barrier();
      epilogue.run(sweep, strip, team, scratch);
      team.barrier();
      if (!interruption.requested()) epilogue.finish(strip, team.share(strip.size()), team);
      team.barrier();
    }
  });
  progress.finish();
  interruption.check();
}

template <class T>
class TopK {
 public:
  TopK(const SweepKernels<T>& kernels, std::int64_t k, std::int64_t num_classes, void* scores, std::int64_t* ids)
      : kernels_(kernels),
        wanted_(k),
        k_(std::min(k, num_classes)),
        capacity_(2 * k_ + 16),
        scores_(static_cast<T*>(scores)),
        ids_(ids) {}

  std::int64_t bytes_per_example() const { return capacity_ * static_cast<std::int64_t>(sizeof(ScoredClass<T>)) + 16; }

  void take(Carver& memory, const SweepShape& shape) {
    candidates_ = {memory, shape.threads, shape.strip * capacity_};
    counts_ = {memory, shape.threads, shape.strip};
    least_ = {memory, shape.threads, shape.strip};
  }

  void begin(const Sweep<T>& sweep, Range, const Team& team, T*) const {
    const TopKLists<T> own = lists(team.rank);
    std::fill_n(own.counts, sweep.examples, std::int64_t{0});
    std::fill_n(own.least, sweep.examples, -std::numeric_limits<T>::infinity());
  }

  void run(const Sweep<T>& sweep, Range, const Team& team, T* scratch) const {
    kernels_.top_k(sweep, lists(team.rank), scratch);
  }

  void finish(Range strip, Range own, const Team& team) const {
    const TopKLists<T> first = lists(0);
    for (std::int64_t b = own.begin; b < own.end; ++b) {
      ScoredClass<T>* const best = first.candidates + b * capacity_;
      std::int64_t count = 0;
      for (int rank = 0; rank < team.size; ++rank) {
        const TopKLists<T> next = lists(rank);
        ScoredClass<T>* const candidates = next.candidates + b * capacity_;
        const std::int64_t kept = kept_of(candidates, next.counts[b]);
        if (rank > 0) std::copy_n(candidates, kept, best + count);
        count = kept_of(best, count + kept);
      }
      std::sort(best, best + count, is_better<T>);
      const std::int64_t to = (strip.begin + b) * wanted_;
      for (std::int64_t i = 0; i < wanted_; ++i) {
        scores_[to + i] = i < count ? best[i].score : -std::numeric_limits<T>::infinity();
        ids_[to + i] = i < count ? best[i].id : -1;
      }
    }
  }

 private:
  TopKLists<T> lists(int rank) const {
    return {k_, capacity_, candidates_.of(rank), counts_.of(rank), least_.of(rank)};
  }

  std::int64_t kept_of(ScoredClass<T>* candidates, std::int64_t count) const {
    if (count <= k_) return count;
    keep_best(candidates, count, k_);
    return k_;
  }

  const SweepKernels<T>& kernels_;
  const std::int64_t wanted_, k_, capacity_;
  T* const scores_;
  std::int64_t* const ids_;
  PerThread<ScoredClass<T>> candidates_;
  PerThread<std::int64_t> counts_;
  PerThread<T> least_;
};

template <class T>
class Ranks {
 public:
  Ranks(const SweepKernels<T>& kernels, const SweptExamples& examples, double* ranks)
      : kernels_(kernels), examples_(examples), ranks_(ranks) {}

  // Of the strip with most labels; lists may be of very different lengths.
  void take(Carver& memory, const SweepShape& shape) {
    std::int64_t most = 0;
    for (std::int64_t i = 0; i < shape.strips(examples_.count()); ++i) {
      most = std::max(most, entries(shape.strip_of(examples_.count(), i)).size());
    }
    scores_ = memory.take<T>(most);
    counts_ = {memory, shape.threads, most};
  }

  void begin(const Sweep<T>& sweep, Range strip, const Team& team, T* scratch) const {
    std::fill_n(counts_.of(team), entries(strip).size(), std::int64_t{0});
    kernels_.label_scores(sweep, examples_.labels_of(strip), team.share(sweep.examples), scores_, scratch);
  }

  void run(const Sweep<T>& sweep, Range strip, const Team& team, T* scratch) const {
    kernels_.ranks(sweep, {examples_.labels_of(strip), scores_, counts_.of(team)}, scratch);
  }

  void finish(Range strip, Range own, const Team& team) const {
    for (std::int64_t b = strip.begin + own.begin; b < strip.begin + own.end; ++b) {
      for (std::int64_t e = examples_.label_offsets[b]; e < examples_.label_offsets[b + 1]; ++e) {
        const std::int64_t at = e - entries(strip).begin;
        // The label ties with itself, unless it is excluded.
        std::int64_t count = is_excluded(b, examples_.labels[e]) ? 0 : -1;
        for (int rank = 0; rank < team.size; ++rank) count += counts_.of(rank)[at];
        ranks_[examples_.label_at[e]] = std::isfinite(scores_[at]) ? 1.0 + static_cast<double>(count) / 2.0 : NAN;
      }
    }
  }

 private:
  Range entries(Range strip) const {
    return {examples_.label_offsets[strip.begin], examples_.label_offsets[strip.end]};
  }

  bool is_excluded(std::int64_t b, std::int64_t id) const {
    if (examples_.excluded.empty()) return false;
    const std::int64_t* const ids = examples_.excluded.data();
    return std::binary_search(ids + examples_.excluded_offsets[b], ids + examples_.excluded_offsets[b + 1], id);
  }

  const SweepKernels<T>& kernels_;
  const SweptExamples& examples_;
  double* const ranks_;
  T* scores_ = nullptr;  // [entries of a strip]
  PerThread<std::int64_t> counts_;
};

}  // namespace

void top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, const Progress& progress, void* scores,
           std::int64_t* ids) {
  if (k == 0) return report_all_done(progress, scoring.batch * scoring.num_classes);
  SweptExamples examples = examples_of(scoring.batch, exclude);
  const auto run = [&]<class T>(T) {
    TopK<T> epilogue(sweep_kernels<T>(current_isa(), scoring.precision), k, scoring.num_classes, scores, ids);
    evaluate<T>(scoring, examples, epilogue.bytes_per_example(), progress, epilogue);
  };
  scoring.dtype == DType::kFloat32 ? run(float{}) : run(double{});
}

void rank_of_labels(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, const Progress& progress,
                    double* ranks) {
  SweptExamples examples = examples_of(scoring.batch, targets, exclude, false);
  std::fill_n(ranks, targets.count(scoring.batch), std::numeric_limits<double>::quiet_NaN());
  const auto run = [&]<class T>(T) {
    Ranks<T> epilogue(sweep_kernels<T>(current_isa(), scoring.precision), examples, ranks);
    const std::int64_t labels = std::ssize(examples.labels) / std::max<std::int64_t>(examples.count(), 1) + 1;
    evaluate<T>(scoring, examples, 8 * labels, progress, epilogue);
  };
  scoring.dtype == DType::kFloat32 ? run(float{}) : run(double{});
}

}  // namespace fastnce::cpu
