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

// The scores of labels. The pass over all classes does nothing.
template <class T>
class LabelScores {
 public:
  LabelScores(const SweepKernels<T>& kernels, const SweptExamples& examples, void* scores)
      : kernels_(kernels), examples_(examples), scores_(static_cast<T*>(scores)) {}

  void take(Carver& memory, const SweepShape&) { of_entries_ = memory.take<T>(std::ssize(examples_.labels)); }

  void begin(const Sweep<T>& sweep, Range strip, const Team& team, T* scratch) const {
    kernels_.label_scores(sweep, examples_.labels_of(strip), team.share(sweep.examples),
                          of_entries_ + examples_.label_offsets[strip.begin], scratch);
  }

  void run(const Sweep<T>&, Range, const Team&, T*) const {}

  void finish(Range strip, Range own, const Team&) const {
    const std::int64_t last = examples_.label_offsets[strip.begin + own.end];
    for (std::int64_t e = examples_.label_offsets[strip.begin + own.begin]; e < last; ++e) {
      scores_[examples_.label_at[e]] = of_entries_[e];
    }
  }

 private:
  const SweepKernels<T>& kernels_;
  const SweptExamples& examples_;
  T* const scores_;
  T* of_entries_ = nullptr;
};

// Of labels or, where `given` is not null, of scores.
template <class T>
class Ranks {
 public:
  Ranks(const SweepKernels<T>& kernels, const SweptExamples& examples, const void* given, double* ranks)
      : kernels_(kernels), examples_(examples), given_(static_cast<const T*>(given)), ranks_(ranks) {}

  // Of the strip with most labels; lists may be of very different lengths.
  void take(Carver& memory, const SweepShape& shape) {
    std::int64_t most = 0;
    for (std::int64_t i = 0; i < shape.strips(examples_.count()); ++i) {
      most = std::max(most, entries(shape.strip_of(examples_.count(), i)).size());
    }
    scores_ = memory.take<T>(given_ == nullptr ? most : 0);
    counts_ = {memory, shape.threads, most};
  }

  void begin(const Sweep<T>& sweep, Range strip, const Team& team, T* scratch) const {
    std::fill_n(counts_.of(team), entries(strip).size(), std::int64_t{0});
    if (given_ != nullptr) return;
    kernels_.label_scores(sweep, examples_.labels_of(strip), team.share(sweep.examples), scores_, scratch);
  }

  void run(const Sweep<T>& sweep, Range strip, const Team& team, T* scratch) const {
    kernels_.ranks(sweep, {examples_.labels_of(strip), scores_of(strip), counts_.of(team)}, scratch);
  }

  void finish(Range strip, Range own, const Team& team) const {
    for (std::int64_t b = strip.begin + own.begin; b < strip.begin + own.end; ++b) {
      for (std::int64_t e = examples_.label_offsets[b]; e < examples_.label_offsets[b + 1]; ++e) {
        const std::int64_t at = e - entries(strip).begin;
        std::int64_t count = ties_with_itself(b, e) ? -1 : 0;
        for (int rank = 0; rank < team.size; ++rank) count += counts_.of(rank)[at];
        const bool finite = std::isfinite(scores_of(strip)[at]);
        ranks_[examples_.label_at[e]] = finite ? 1.0 + static_cast<double>(count) / 2.0 : NAN;
      }
    }
  }

 private:
  Range entries(Range strip) const {
    return {examples_.label_offsets[strip.begin], examples_.label_offsets[strip.end]};
  }

  // [entries of the strip]
  const T* scores_of(Range strip) const { return given_ != nullptr ? given_ + entries(strip).begin : scores_; }

  // A label, unless it is excluded.
  bool ties_with_itself(std::int64_t b, std::int64_t e) const {
    if (given_ != nullptr) return false;
    if (examples_.excluded.empty()) return true;
    const std::int64_t* const ids = examples_.excluded.data();
    return !std::binary_search(ids + examples_.excluded_offsets[b], ids + examples_.excluded_offsets[b + 1],
                               examples_.labels[e]);
  }

  const SweepKernels<T>& kernels_;
  const SweptExamples& examples_;
  const T* const given_;
  double* const ranks_;
  T* scores_ = nullptr;  // [entries of a strip]
  PerThread<std::int64_t> counts_;
};

// Of the examples' labels or, where they are given, of scores.
void rank(const Scoring& scoring, SweptExamples& examples, const void* scores, const Progress& progress,
          double* ranks) {
  const auto run = [&]<class T>(T) {
    Ranks<T> epilogue(sweep_kernels<T>(current_isa(), scoring.precision), examples, scores, ranks);
    const std::int64_t entries = std::ssize(examples.label_at) / std::max<std::int64_t>(examples.count(), 1) + 1;
    evaluate<T>(scoring, examples, 8 * entries, progress, epilogue);
  };
  scoring.dtype == DType::kFloat32 ? run(float{}) : run(double{});
}

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
  rank(scoring, examples, nullptr, progress, ranks);
}

void rank_of_scores(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude,
                    const Progress& progress, double* ranks) {
  SweptExamples examples = examples_of(scoring.batch, lists, exclude);
  rank(scoring, examples, lists.scores, progress, ranks);
}

void score_labels(const Scoring& scoring, const Targets& targets, const Progress& progress, void* scores) {
  SweptExamples examples = examples_of(scoring.batch, targets, {}, false);
  const auto run = [&]<class T>(T) {
    std::fill_n(static_cast<T*>(scores), targets.count(scoring.batch), std::numeric_limits<T>::quiet_NaN());
    LabelScores<T> epilogue(sweep_kernels<T>(current_isa(), scoring.precision), examples, scores);
    evaluate<T>(scoring, examples, 8, progress, epilogue);
  };
  scoring.dtype == DType::kFloat32 ? run(float{}) : run(double{});
}

}  // namespace fastnce::cpu
