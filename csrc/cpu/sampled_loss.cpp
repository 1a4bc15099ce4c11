// Threading of one call: the phases of the fused loss and the work of each thread in them. The arithmetic is
// in sampled_loss-inl.h and sampled_tiles-inl.h.
#include "cpu/sampled_loss.h"

#include <algorithm>
#include <memory_resource>
#include <span>
#include <vector>

#include "cpu/accidental_hits.h"
#include "cpu/cache.h"
#include "cpu/interrupt.h"
#include "cpu/isa.h"
#include "cpu/parallel.h"
#include "cpu/task.h"
#include "cpu/workspace.h"

namespace fastnce::cpu {

namespace {

// Threads in the [B, S] plane.
//
// Every thread owns a range of examples, so dX and the losses are written without conflict. Sampled rows are shared:
// the threads form teams, and the samples are split into as many groups as a team has members. In step k member j works
// on group (j + k) mod groups: all members are in different columns at all times, and after `groups` steps, with a
// barrier after each, every member has met every group. A team adds straight into its own copy of dW; only the copies
// of different teams are summed at the end. One team is best (no copies) as long as the groups stay a tile wide; copies
// are then at most (threads / groups) S D = O(threads * tile * D).
struct Schedule {
  std::int64_t groups;
  std::int64_t teams;

  Schedule(std::int64_t threads, std::int64_t num_sampled) {
    constexpr std::int64_t kNarrowestGroup = 128;
    groups = std::clamp<std::int64_t>(num_sampled / kNarrowestGroup, 1, threads);
    teams = (threads + groups - 1) / groups;
  }
};

// Work of some 35 microseconds. On an idle machine, starting threads and barriers cost 5 to 10 microseconds, so two
// threads pay for a problem that takes 70 on one (w2v: 1.5 times as fast), and hardly below. If other programs hold the
// cores, no size is safe.
constexpr double kFlopsPerThread = 3e6;

double flops(const SampledLossParams& p) {
  constexpr double kLogistic = 8;     // as many columns more
  constexpr double kTrueClass = 4e3;  // 50 ns: a row from anywhere in the table, the gradients, their place
  return static_cast<double>(p.batch) *
         (6.0 * static_cast<double>(p.num_sampled + p.num_true) * (static_cast<double>(p.dim) + kLogistic) +
          static_cast<double>(p.num_true) * kTrueClass);
}

// Elements read between two polls for an interrupt: some 10 ms where they come from memory.
constexpr std::int64_t kElementsAtOnce = 1 << 24;

// Rows [begin, end) of thread `rank`, so that threads have equal numbers of rows plus entries: the row of the most
// frequent class can hold a tenth of all labels.
Range share_of_rows(const RowPlan& plan, const Team& team) {
  const std::int64_t rows = static_cast<std::int64_t>(plan.ids.size());
  const std::int64_t total = rows + plan.offsets[rows];
  const auto first_row = [&](std::int64_t target) {
    std::int64_t low = 0;
    std::int64_t high = rows;
    while (low < high) {
      const std::int64_t middle = (low + high) / 2;
      middle + plan.offsets[middle] < target ? low = middle + 1 : high = middle;
    }
    return low;
  };
  return {first_row(total * team.rank / team.size),
          team.rank + 1 == team.size ? rows : first_row(total * (team.rank + 1) / team.size)};
}

// Calls work(part) for parts of `rows` that poll often enough, until the call is interrupted. A row of many entries is
// not cut.
template <class Work>
void in_parts_of_rows(const RowPlan& plan, Range rows, std::int64_t dim, Interruption& interruption, const Work& work) {
  const std::int64_t most_entries = kElementsAtOnce / (dim + 1) + 1;
  for (std::int64_t begin = rows.begin; begin < rows.end && !interruption.requested();) {
    std::int64_t end = begin + 1;
    while (end < rows.end && plan.offsets[end + 1] - plan.offsets[begin] + (end - begin) < most_entries) ++end;
    work(Range{begin, end});
    begin = end;
  }
}

// Accidental hits in the form the kernels read.
class HitStore {
 public:
  explicit HitStore(const SampledLossParams& p) {
    if (!p.remove_accidental_hits) return;
    const std::span labels(p.labels, static_cast<std::size_t>(p.batch * p.num_true));
    const std::span sampled(p.sampled, static_cast<std::size_t>(p.num_sampled));
    begin_.assign(static_cast<std::size_t>(p.batch) + 1, 0);
    visit_accidental_hits(labels, p.num_true, sampled, [&](const AccidentalHit& hit) {  // ascending examples
      ++begin_[hit.example + 1];
      positions_.push_back(hit.position);
    });
    for (std::size_t b = 1; b < begin_.size(); ++b) begin_[b] += begin_[b - 1];
  }
  HitLists lists() const { return positions_.empty() ? HitLists{} : HitLists{begin_.data(), positions_.data()}; }

 private:
  std::pmr::vector<std::int64_t> begin_{call_memory()};
  std::pmr::vector<std::int64_t> positions_{call_memory()};
};

TableView view(const Table& table, DType dtype) {
  return {table.shards.data(), static_cast<std::int64_t>(table.shards.size()), table.rows(), table.partition, dtype};
}

template <class T>
LossTask<T> typed(const SampledLossParams& p, const HitStore& hits, Interruption& interruption) {
  LossTask<T> task{};
  task.batch = p.batch;
  task.dim = p.dim;
  task.l2_bytes = l2_cache_bytes();
  task.num_true = p.num_true;
  task.num_sampled = p.num_sampled;
  task.weights = view(p.weights, p.weights_dtype.value_or(p.dtype));
  task.biases = view(p.biases, p.biases_dtype.value_or(p.dtype));
  task.labels = p.labels;
  task.inputs = static_cast<const T*>(p.inputs);  // or narrower, see NarrowArrays
  task.inputs_stride = p.inputs_stride;
  task.sampled = p.sampled;
  task.true_count = static_cast<const T*>(p.true_count);
  task.sampled_count = static_cast<const T*>(p.sampled_count);
  task.grad_loss = static_cast<const T*>(p.grad_loss);
  task.hits = hits.lists();
  task.interruption = &interruption;
  task.loss = static_cast<T*>(p.loss);
  task.grad_inputs = static_cast<T*>(p.grad_inputs);
  task.grad_weights = static_cast<T*>(p.grad_weights);
  task.grad_biases = static_cast<T*>(p.grad_biases);
  if (task.wants_rows()) {
    task.row_offsets = p.rows->offsets.data();
    task.row_entries = p.rows->entries.data();
    task.sampled_row = p.rows->sampled_row.data();
  }
  return task;
}

// Which of the caller's arrays are narrower than the compute dtype. During the call, arrays of the compute dtype
// replace them.
struct NarrowArrays {
  explicit NarrowArrays(const SampledLossParams& p)
      : inputs(p.inputs_dtype.value_or(p.dtype) != p.dtype),
        grad_inputs(p.grad_inputs != nullptr && p.grad_inputs_dtype.value_or(p.dtype) != p.dtype),
        grad_weights(p.grad_weights != nullptr && p.grad_weights_dtype.value_or(p.dtype) != p.dtype),
        grad_biases(p.grad_biases != nullptr && p.grad_biases_dtype.value_or(p.dtype) != p.dtype) {}
  bool inputs, grad_inputs, grad_weights, grad_biases;
};

// Takes the task's workspace and one scratch block per thread from `memory`.
template <class T>
T* take_workspace(Carver& memory, LossTask<T>& task, const NarrowArrays& narrow, std::int64_t rows,
                  const Schedule& schedule, bool samples_distinct, std::int64_t scratch_elements, int threads) {
  task.true_grad = memory.take<T>(task.batch * task.num_true);
  task.loss_sum = memory.take<double>(task.batch);
  task.sampled_offset = memory.take<T>(task.num_sampled);
  // Where a class was sampled twice, two groups would add to one row of dW: then no team writes there directly.
  task.copies = schedule.teams;
  task.weight_copy_count = task.grad_weights == nullptr ? 0 : schedule.teams - (samples_distinct ? 1 : 0);
  task.bias_copies = task.grad_biases == nullptr ? nullptr : memory.take<T>(task.copies * task.num_sampled);
  task.weight_copies = memory.take<T>(task.weight_copy_count * task.num_sampled * task.dim);
  if (narrow.inputs) {
    task.inputs = memory.take<T>(task.batch * task.dim);
    task.inputs_stride = task.dim;
  }
  if (narrow.grad_inputs) task.grad_inputs = memory.take<T>(task.batch * task.dim);
  if (narrow.grad_weights) task.grad_weights = memory.take<T>(rows * task.dim);
  if (narrow.grad_biases) task.grad_biases = memory.take<T>(rows);
  return memory.take<T>(scratch_elements * threads);
}

// The sampled part of one thread's examples.
template <class T>
void sampled_classes(const TileKernels<T>& kernels, const LossTask<T>& task, const Schedule& schedule, const Team& team,
                     T* scratch) {
  const std::int64_t own_team = team.rank / schedule.groups;
  const std::int64_t member = team.rank % schedule.groups;
  const std::int64_t members = std::min(schedule.groups, team.size - own_team * schedule.groups);
  const std::int64_t direct_teams = task.copies - task.weight_copy_count;
  SampledRowSink<T> sink{};
  if (task.bias_copies != nullptr) sink.bias = task.bias_copies + own_team * task.num_sampled;
  if (task.grad_weights != nullptr && own_team >= direct_teams) {
    sink.weights = task.weight_copies + (own_team - direct_teams) * task.num_sampled * task.dim;
  }
  // Each member clears its part of the team's copies.
  const Range clear = part_of(task.num_sampled, member, members);
  if (sink.bias != nullptr) std::fill(sink.bias + clear.begin, sink.bias + clear.end, T{0});
  if (sink.weights != nullptr) {
    std::fill(sink.weights + clear.begin * task.dim, sink.weights + clear.end * task.dim, T{0});
  }
  team.barrier();
  for (std::int64_t step = 0; step < schedule.groups; ++step) {
    const std::int64_t group = (member + step) % schedule.groups;
    kernels.sampled_block(task, team.share(task.batch), part_of(task.num_sampled, group, schedule.groups), sink,
                          scratch);
    team.barrier();
  }
}

// Into their stand-ins.
template <class T>
void widen_inputs(const LossKernels<T>& kernels, const SampledLossParams& params, const LossTask<T>& task,
                  Range examples) {
  const auto* from = static_cast<const std::byte*>(params.inputs);
  const DType dtype = params.inputs_dtype.value_or(params.dtype);
  T* const to = const_cast<T*>(task.inputs);  // workspace
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    kernels.widen(from + b * params.inputs_stride * element_bytes(dtype), dtype, task.dim, to + b * task.dim);
  }
}

// Rounds elements [range] * columns of a gradient from its float32 temporary.
template <class T>
void narrow_rows(const LossKernels<T>& kernels, const T* from, DType dtype, Range range, std::int64_t columns,
                 void* to) {
  kernels.narrow(from + range.begin * columns, dtype, range.size() * columns,
                 static_cast<std::byte*>(to) + range.begin * columns * element_bytes(dtype));
}

template <class T>
void run(const SampledLossParams& params) {
  const LossKernels<T>& kernels = current_isa().loss<T>();
  const TileKernels<T>& tiles = current_isa().tiles<T>(params.precision);
  const HitStore hits(params);
  Interruption interruption;
  LossTask<T> task = typed<T>(params, hits, interruption);
  const bool wants_grad = task.grad_inputs != nullptr || task.wants_rows();
  if (!wants_grad && task.loss == nullptr) return;
  const bool samples_distinct = params.rows == nullptr || params.rows->samples_distinct;

  const std::int64_t useful = std::max<std::int64_t>(params.batch, 1);
  const int threads = static_cast<int>(std::min<std::int64_t>(threads_for(flops(params), kFlopsPerThread), useful));
  const std::int64_t scratch_elements = std::max(tiles.scratch_elements(task), task.dim);
  const NarrowArrays narrow(params);
  const std::int64_t num_rows = params.rows != nullptr ? std::ssize(params.rows->ids) : 0;
  Carver measure;
  LossTask<T> measured = task;
  take_workspace(measure, measured, narrow, num_rows, Schedule(threads, task.num_sampled), samples_distinct,
                 scratch_elements, threads);
  const Workspace workspace(measure.used());

  parallel(threads, [&](const Team& team) {
    // OpenMP may give fewer threads than asked for; the workspace for those is never larger.
    const Schedule schedule(team.size, task.num_sampled);
    LossTask<T> own = task;
    Carver carver(workspace.memory());
    T* const all_scratch =
        take_workspace(carver, own, narrow, num_rows, schedule, samples_distinct, scratch_elements, team.size);
    T* const scratch = all_scratch + team.rank * scratch_elements;

    const Range examples = team.share(own.batch);
    const std::int64_t elements_per_example = (own.num_true + 1) * (own.dim + 1);
    in_parts(examples, kElementsAtOnce / elements_per_example + 1, interruption, [&](Range part) {
      if (narrow.inputs) widen_inputs(kernels, params, own, part);
      kernels.true_classes(own, part, scratch);
    });
    kernels.sampled_offsets(own, team.share(own.num_sampled));
    team.barrier();
    const Range rows = own.wants_rows() ? share_of_rows(*params.rows, team) : Range{0, 0};
    const auto for_rows = [&](auto kernel) {
      if (!own.wants_rows()) return;
      in_parts_of_rows(*params.rows, rows, own.dim, interruption, [&](Range part) { kernel(own, part); });
    };
    for_rows(kernels.start_rows);
    if (own.num_sampled > 0) {
      sampled_classes(tiles, own, schedule, team, scratch);
      for_rows(kernels.finish_rows);
    }
    if (interruption.requested()) return;  // loss_sum and the rows are not complete
    if (narrow.grad_inputs) {
      narrow_rows(kernels, own.grad_inputs, *params.grad_inputs_dtype, examples, own.dim, params.grad_inputs);
    }
    if (narrow.grad_weights) {
      narrow_rows(kernels, own.grad_weights, *params.grad_weights_dtype, rows, own.dim, params.grad_weights);
    }
    if (narrow.grad_biases) {
      narrow_rows(kernels, own.grad_biases, *params.grad_biases_dtype, rows, 1, params.grad_biases);
    }
    for (std::int64_t b = examples.begin; b < examples.end && own.loss != nullptr; ++b) {
      own.loss[b] = static_cast<T>(own.loss_sum[b]);
    }
  });
  interruption.check();
}

}  // namespace

void nce_loss(const SampledLossParams& params) {
  params.dtype == DType::kFloat32 ? run<float>(params) : run<double>(params);
}

}  // namespace fastnce::cpu
