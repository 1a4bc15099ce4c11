// The losses over all classes: threads, strips and passes. The arithmetic is in the -inl.h files.
#include "cpu/all_classes/full_loss.h"

#include <algorithm>
#include <cmath>

#include "cpu/all_classes/examples.h"
#include "cpu/all_classes/sweep_setup.h"
#include "math/loss/softmax.h"

namespace fastnce::cpu {

namespace {

// What the passes of a loss are.
//
// Gradients of a softmax take two. Exponentials that stay in memory from the first to the second save a GEMM, but then
// strips are short, and each strip streams all of W and dW. So strips are as long as a block that a thread keeps from
// call to call holds, or at least kEnough; where memory for that is not allowed, or where D is so small that the GEMM
// costs less than the traffic of exponentials that have left the cache, logits are computed again. Gradients that are
// rounded are summed up over all examples first: then the batch is one strip, and a tile of classes finishes before the
// next begins.
struct Passes {
  bool softmax, gradients, keeps_exponentials = false;
  std::int64_t longest_strip;

  Passes(const LossRequest& r, const NarrowArrays& narrow, std::int64_t examples)
      : softmax(r.loss.family == LossFamily::kSoftmax), gradients(r.wanted.gradients()) {
    constexpr std::int64_t kBytesOfAll = std::int64_t{192} << 20, kBytesNear = std::int64_t{48} << 20;
    constexpr std::int64_t kTooFew = 64, kEnough = 128, kLong = 512, kSmallDim = 128;
    const bool rounds = narrow.grad_weights || narrow.grad_biases;
    longest_strip = SweepShape::kLongestStrip;
    if (!gradients) return;
    const std::int64_t row_bytes = (r.dim + 1) * element_bytes(r.dtype) * SweepShape::threads_of(r, examples, 3.0);
    longest_strip = rounds ? examples : std::clamp(kBytesOfAll / row_bytes, kLong, longest_strip);
    if (!softmax) return;
    const std::int64_t example_bytes = r.num_classes * element_bytes(r.dtype);
    const std::int64_t near = kBytesNear / example_bytes, most = kBytesOfAll / example_bytes;
    const std::int64_t kept = rounds ? most : std::min(std::max(near, kEnough), most);
    const std::int64_t least = rounds ? examples : std::min(kTooFew, examples);
    keeps_exponentials = kept >= least && (r.dim >= kSmallDim || near >= std::min(kTooFew, examples));
    if (keeps_exponentials) longest_strip = std::min(kept, longest_strip);
  }

  std::int64_t count() const { return softmax && gradients ? 2 : 1; }
  double products() const { return gradients ? (softmax && !keeps_exponentials ? 4.0 : 3.0) : 1.0; }
};

template <class T>
class FullLoss {
 public:
  FullLoss(const LossRequest& request, const LossOutputs& outputs, SweptExamples& examples)
      : request_(request),
        outputs_(outputs),
        examples_(examples),
        kernels_(sweep_kernels<T>(current_isa(), request.precision)),
        conversions_(loss_kernels<T>(current_isa())),
        narrow_(request, outputs),
        passes_(request, narrow_, examples.count()),
        shape_(request, kernels_, examples.count(), passes_.longest_strip, passes_.products(),
               request.wanted.grad_inputs) {}

  void run(const Progress& report) {
    Carver measure;
    take(measure);
    const Workspace workspace(measure.used());
    Carver carver(workspace.memory());
    const Memory memory = take(carver);
    Interruption interruption;
    SweepProgress progress(report, examples_.count() * request_.num_classes, interruption);
    const std::int64_t strips = shape_.strips(examples_.count());
    parallel(shape_.threads, [&](const Team& team) {
      sort_excluded(examples_, team.share(examples_.count()));
      if (team.rank == 0) progress.expect(passes_.count() * strips * team.share(request_.num_classes).size());
      for (std::int64_t i = 0; i < strips; ++i) {
        const Range strip = shape_.strip_of(examples_.count(), i);
        const Sweep<T> sweep =
            memory.inputs.sweep(examples_, strip, team, memory.cursors.of(team), interruption, progress);
        run_strip(memory, sweep, strip, i == 0, team);
      }
    });
    progress.finish();
    interruption.check();
  }

 private:
  struct Memory {
    StripInputs<T> inputs;
    PerThread<T> scratch;
    PerThread<std::int64_t> cursors, label_cursors;
    PerThread<T> dx;         // [strip, D]
    PerThread<double> sums;  // [strip]: of exponentials, or the loss
    PerThread<T> maxima;     // [strip]
    Strip<T> exponentials;   // of all threads
    T* maximum;              // [strip]: of all classes
    T* factor;               // [strip]
    T* label_scores;         // [entries]
    T* label_grads;          // [entries]
  };

  Memory take(Carver& carver) const {
    const int threads = shape_.threads;
    const bool softmax = passes_.softmax;
    Memory memory{
        .inputs = {request_, kernels_, conversions_, shape_, carver},
        .scratch = {carver, threads,
                    kernels_.full_loss_scratch_elements(shape_.plane, request_.weights_dtype.value_or(request_.dtype))},
        .cursors = {carver, threads, examples_.excluded.empty() ? 0 : shape_.strip},
        .label_cursors = {carver, threads, shape_.strip},
        .dx = {carver, threads, request_.wanted.grad_inputs ? shape_.strip * request_.dim : 0},
        .sums = {carver, threads, shape_.strip},
        .maxima = {carver, threads, softmax ? shape_.strip : 0},
        .exponentials = {.example_tiles = shape_.example_tiles, .x = nullptr, .exps = nullptr, .maxima = nullptr},
        .maximum = carver.take<T>(softmax ? shape_.strip + kMostLanes : 0),
        .factor = carver.take<T>(softmax ? shape_.strip + kMostLanes : 0),
        .label_scores = carver.take<T>(std::ssize(examples_.labels)),
        .label_grads = carver.take<T>(std::ssize(examples_.labels))};
    if (passes_.keeps_exponentials) {
      std::int64_t slots = 0;  // OpenMP may give fewer threads, whose tiles may be more
      for (int team = 1; team <= threads; ++team) slots = std::max(slots, team * slots_of_thread(team));
      memory.exponentials.exps = carver.take<T>(slots * shape_.example_tiles * shape_.tile.logits_elements);
      memory.exponentials.maxima = carver.take<T>(slots * shape_.example_tiles * shape_.tile.examples + kMostLanes);
    }
    return memory;
  }

  // Tiles of classes, at most.
  std::int64_t slots_of_thread(int threads) const {
    const std::int64_t classes = (request_.num_classes + threads - 1) / threads;
    return (classes + shape_.tile.samples - 1) / shape_.tile.samples;
  }

  Strip<T> exponentials_of(const Memory& memory, const Team& team) const {
    Strip<T> own = memory.exponentials;
    if (own.exps == nullptr) return own;
    const std::int64_t first = team.rank * slots_of_thread(team.size) * shape_.example_tiles;
    own.exps += first * shape_.tile.logits_elements;
    own.maxima += first * shape_.tile.examples;
    return own;
  }

  void run_strip(const Memory& memory, const Sweep<T>& sweep, Range strip, bool first, const Team& team) const {
    T* const scratch = memory.scratch.of(team);
    const Range own = team.share(strip.size());
    memory.inputs.locate(examples_, strip, team);
    team.barrier();
    memory.inputs.pack(sweep, team, scratch);
    kernels_.label_scores(sweep, examples_.labels_of(strip), own,
                          memory.label_scores + examples_.label_offsets[strip.begin], scratch);
    if (!passes_.softmax) {
      for (std::int64_t b = own.begin; b < own.end; ++b) set_label_slopes(memory, strip.begin + b);
    }
    std::fill_n(memory.sums.of(team), strip.size(), 0.0);
    if (passes_.softmax) std::fill_n(memory.maxima.of(team), strip.size(), math::kLeastLogit<T>);
    if (request_.wanted.grad_inputs) std::fill_n(memory.dx.of(team), strip.size() * request_.dim, T{0});
    team.barrier();

    const ClassGradients<T> grads = gradients_of(memory, strip, first, team);
    LossTask<T> task = task_of(memory, strip, team);
    if (passes_.softmax) {
      const Strip<T> exponentials = exponentials_of(memory, team);
      kernels_.exponentials(sweep, task, exponentials, scratch);
      team.barrier();
      for (std::int64_t b = own.begin; b < own.end; ++b) normalise(memory, strip, b, team);
      team.barrier();
      task.softmax_max = memory.maximum;
      if (passes_.gradients) kernels_.softmax_gradients(sweep, task, exponentials, grads, scratch);
    } else {
      kernels_.sigmoid(sweep, task, grads, scratch);
    }
    team.barrier();
    if (!sweep.interruption->requested()) {
      for (std::int64_t b = own.begin; b < own.end; ++b) {
        if (!passes_.softmax) sum_losses(memory, strip, b, team);
        if (request_.wanted.grad_inputs) sum_grad_inputs(memory, strip, b, team);
      }
    }
    team.barrier();
  }

  // The labels of an example are left out of the plane, as if excluded, and their terms are added here: next to those
  // of all classes the terms of a certain prediction would be rounded away. Calls use(entry, share) for each class
  // among the labels; its first entry stands for all, and has the sum of their targets.
  template <class Use>
  void for_each_label(std::int64_t b, const Use& use) const {
    const std::int64_t end = examples_.label_offsets[b + 1];
    for (std::int64_t e = examples_.label_offsets[b]; e < end;) {
      const std::int64_t first = e;
      double share = 0.0;
      for (; e < end && examples_.labels[e] == examples_.labels[first]; ++e) share += target(b, e);
      use(first, share);
    }
  }

  // What the labels of an example add to dL/dlogit; 0 where a class is repeated.
  void clear_slopes(const Memory& memory, std::int64_t b) const {
    std::fill(memory.label_grads + examples_.label_offsets[b], memory.label_grads + examples_.label_offsets[b + 1],
              T{0});
  }

  void set_label_slopes(const Memory& memory, std::int64_t b) const {
    clear_slopes(memory, b);
    for_each_label(b, [&](std::int64_t e, double share) {
      const double slope = math::positive_term<double>(memory.label_scores[e], share).slope;
      memory.label_grads[e] = static_cast<T>(slope) * upstream(b);
    });
  }

  double target(std::int64_t b, std::int64_t e) const {
    const auto* const weights = static_cast<const T*>(request_.targets.weights);
    const double weight = weights == nullptr ? 1.0 : static_cast<double>(weights[examples_.label_at[e]]);
    return request_.loss.true_target == TrueTarget::kOne ? weight : weight / label_count(b);
  }

  // With those in other parts.
  double label_count(std::int64_t b) const {
    const std::int64_t* const counts = request_.parts.label_count;
    if (counts != nullptr) return static_cast<double>(counts[examples_.rows[b]]);
    return static_cast<double>(examples_.label_offsets[b + 1] - examples_.label_offsets[b]);
  }

  // The sum of an example's targets, of which `own` is that of the labels of this call.
  double targets_of_all_parts(std::int64_t b, double own) const {
    const OtherParts& parts = request_.parts;
    if (parts.label_count == nullptr) return own;
    const double weight = parts.label_weight != nullptr ? parts.label_weight[examples_.rows[b]] : label_count(b);
    return request_.loss.true_target == TrueTarget::kOne ? weight : weight / label_count(b);
  }

  T upstream(std::int64_t b) const {
    const auto* const grad_loss = static_cast<const T*>(request_.grad_loss);
    return grad_loss == nullptr ? T{1} : grad_loss[examples_.rows[b]];
  }

  LossTask<T> task_of(const Memory& memory, Range strip, const Team& team) const {
    LossTask<T> task{};
    task.dim = request_.dim;
    task.examples = examples_.rows.data() + strip.begin;
    task.sampled_factor = static_cast<const T*>(request_.grad_loss);
    task.negative_weight = {nullptr, T{1}};
    task.loss_sum = memory.sums.of(team);
    task.softmax_sum = memory.sums.of(team);
    task.softmax_max = memory.maxima.of(team);
    task.softmax_factor = memory.factor;
    return task;
  }

  ClassGradients<T> gradients_of(const Memory& memory, Range strip, bool first, const Team& team) const {
    return {.weights = request_.wanted.grad_weights ? outputs_.grad_weights : nullptr,
            .weights_dtype = outputs_.grad_weights_dtype.value_or(request_.dtype),
            .biases = request_.wanted.grad_biases ? outputs_.grad_biases : nullptr,
            .biases_dtype = outputs_.grad_biases_dtype.value_or(request_.dtype),
            .first_strip = first,
            .dx = request_.wanted.grad_inputs ? memory.dx.of(team) : nullptr,
            .labels = examples_.labels_of(strip),
            .label_grads = memory.label_grads + examples_.label_offsets[strip.begin],
            .cursor = memory.label_cursors.of(team)};
  }

  // Maximum and sum of an example from those of the threads; its loss, and what exponentials are multiplied by to make
  // dL/dlogit.
  void normalise(const Memory& memory, Range strip, std::int64_t in_strip, const Team& team) const {
    const std::int64_t b = strip.begin + in_strip;
    const auto score = [&](std::int64_t e) { return static_cast<double>(memory.label_scores[e]); };
    T maximum = math::kLeastLogit<T>;
    for (int rank = 0; rank < team.size; ++rank) maximum = std::max(maximum, memory.maxima.of(rank)[in_strip]);
    for_each_label(b, [&](std::int64_t e, double) { maximum = std::max(maximum, memory.label_scores[e]); });
    const double* const of_others = request_.parts.log_sum_exp;
    if (of_others != nullptr) maximum = std::max(maximum, static_cast<T>(of_others[examples_.rows[b]]));
    const auto exp_below = [&](double logit) { return std::exp(logit - static_cast<double>(maximum)); };
    math::SoftmaxSums sums{0.0, 0.0};
    for (int rank = 0; rank < team.size; ++rank) {
      sums.of_samples += memory.sums.of(rank)[in_strip] * exp_below(memory.maxima.of(rank)[in_strip]);
    }
    if (of_others != nullptr) sums.of_samples += math::exp_of_others<T>(of_others[examples_.rows[b]], maximum);
    double own_targets = 0.0;
    for_each_label(b, [&](std::int64_t e, double share) {
      sums.of_true += exp_below(score(e));
      own_targets += share;
    });
    const double targets = targets_of_all_parts(b, own_targets);
    const double total = sums.total(), log_total = static_cast<double>(maximum) + std::log(total);
    const double up = static_cast<double>(upstream(b));
    double loss = 0.0;
    clear_slopes(memory, b);
    for_each_label(b, [&](std::int64_t e, double share) {
      const double own = exp_below(score(e)), others = sums.of_samples + (sums.of_true - own);
      loss += share * (own > others ? std::log1p(others / own) : log_total - score(e));
      memory.label_grads[e] = static_cast<T>(up * (sums.true_slope(own, share, targets) / total));
    });
    memory.maximum[in_strip] = maximum;
    memory.factor[in_strip] = static_cast<T>(targets * up / total);
    if (request_.wanted.log_sum_exp) outputs_.log_sum_exp[examples_.rows[b]] = log_total;
    set_loss(b, loss);
  }

  void sum_losses(const Memory& memory, Range strip, std::int64_t in_strip, const Team& team) const {
    const std::int64_t b = strip.begin + in_strip;
    double loss = 0.0;
    for (int rank = 0; rank < team.size; ++rank) loss += memory.sums.of(rank)[in_strip];
    for_each_label(b, [&](std::int64_t e, double share) {
      loss += math::positive_term<double>(memory.label_scores[e], share).loss;
    });
    set_loss(b, loss);
  }

  void set_loss(std::int64_t b, double loss) const {
    if (request_.wanted.loss) static_cast<T*>(outputs_.loss)[examples_.rows[b]] = static_cast<T>(loss);
  }

  // The sums of the threads, in the memory of the first.
  void sum_grad_inputs(const Memory& memory, Range strip, std::int64_t in_strip, const Team& team) const {
    const std::int64_t dim = request_.dim, row = examples_.rows[strip.begin + in_strip];
    T* const sum = memory.dx.of(0) + in_strip * dim;
    for (int rank = 1; rank < team.size; ++rank) {
      const T* const next = memory.dx.of(rank) + in_strip * dim;
      for (std::int64_t d = 0; d < dim; ++d) sum[d] += next[d];
    }
    auto* const to = static_cast<std::byte*>(outputs_.grad_inputs);
    const DType dtype = outputs_.grad_inputs_dtype.value_or(request_.dtype);
    if (dtype == request_.dtype) {
      std::copy_n(sum, dim, reinterpret_cast<T*>(to) + row * dim);
    } else {
      conversions_.narrow(sum, dtype, dim, to + row * dim * element_bytes(dtype));
    }
  }

  const LossRequest& request_;
  const LossOutputs& outputs_;
  SweptExamples& examples_;
  const SweepKernels<T>& kernels_;
  const LossKernels<T>& conversions_;
  const NarrowArrays narrow_;
  const Passes passes_;
  const SweepShape shape_;
};

// Zeros in the results of examples that take no part, or in all.
void clear(const LossRequest& request, const LossOutputs& outputs, const SweptExamples& examples) {
  const auto zero = [](void* results, std::int64_t row, std::int64_t bytes) {
    std::fill_n(static_cast<std::byte*>(results) + row * bytes, bytes, std::byte{0});
  };
  auto next = examples.rows.begin();
  for (std::int64_t row = 0; row < request.batch; ++row) {
    if (next != examples.rows.end() && *next == row) {
      ++next;
      continue;
    }
    if (request.wanted.loss) zero(outputs.loss, row, element_bytes(request.dtype));
    if (request.wanted.log_sum_exp) outputs.log_sum_exp[row] = 0.0;
    const DType dtype = outputs.grad_inputs_dtype.value_or(request.dtype);
    if (request.wanted.grad_inputs) zero(outputs.grad_inputs, row, request.dim * element_bytes(dtype));
  }
  if (examples.count() > 0) return;
  const auto zero_table = [&](bool wanted, void* table, std::optional<DType> dtype, std::int64_t columns) {
    if (wanted) zero(table, 0, request.num_classes * columns * element_bytes(dtype.value_or(request.dtype)));
  };
  zero_table(request.wanted.grad_weights, outputs.grad_weights, outputs.grad_weights_dtype, request.dim);
  zero_table(request.wanted.grad_biases, outputs.grad_biases, outputs.grad_biases_dtype, 1);
}

}  // namespace

void full_loss(const LossRequest& request, const Progress& progress, const LossOutputs& outputs) {
  SweptExamples examples = examples_of(request.batch, request.targets, request.exclude, true, request.parts);
  clear(request, outputs, examples);
  if (examples.count() == 0) return report_all_done(progress, 0);
  if (request.dtype == DType::kFloat32) {
    FullLoss<float>(request, outputs, examples).run(progress);
  } else {
    FullLoss<double>(request, outputs, examples).run(progress);
  }
}

}  // namespace fastnce::cpu
