// Threading of one call: the phases of the fused loss and the work of each thread in them. The arithmetic is
// in loss_rows-inl.h and loss_tiles-inl.h.
#include "cpu/loss.h"

#include <algorithm>

#include "cpu/cache.h"
#include "cpu/interrupt.h"
#include "cpu/isa.h"
#include "cpu/loss_task.h"
#include "cpu/parallel.h"
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

double flops(const LossRequest& r) {
  constexpr double kLogistic = 8;     // as many columns more
  constexpr double kTrueClass = 4e3;  // 50 ns: a row from anywhere in the table, the gradients, their place
  const auto num_true = static_cast<double>(r.targets.per_example);
  return static_cast<double>(r.batch) *
         (6.0 * (static_cast<double>(r.negatives.count) + num_true) * (static_cast<double>(r.dim) + kLogistic) +
          num_true * kTrueClass);
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

TableView view(const Table& table, DType dtype) {
  return {table.shards.data(), static_cast<std::int64_t>(table.shards.size()), table.rows(), table.partition, dtype};
}

template <class T>
FactorView<T> view(const ExampleFactor& factor) {
  return {static_cast<const T*>(factor.values), static_cast<T>(factor.all)};
}

template <class T>
TargetsView<T> targets_of(const LossRequest& request, const LossPlan& plan) {
  const bool padded = plan.padded;
  return {.ids = padded ? plan.entries.data() : request.targets.ids,
          .log_q = static_cast<const T*>(plan.candidates.true_log_q),
          .per_example = request.targets.per_example,
          .offsets = padded ? plan.entry_offsets.data() : nullptr,
          .example = padded ? plan.entry_example.data() : nullptr,
          .mean = request.loss.true_target == TrueTarget::kMean};
}

template <class T>
LossTask<T> typed(const LossRequest& r, const LossPlan& plan, const LossOutputs& out, Interruption& interruption) {
  LossTask<T> task{};
  task.batch = plan.padded ? std::ssize(plan.examples) : r.batch;
  task.dim = r.dim;
  task.num_sampled = r.negatives.count;
  task.l2_bytes = l2_cache_bytes();
  task.weights = view(r.weights, r.weights_dtype.value_or(r.dtype));
  task.biases = view(r.biases, r.biases_dtype.value_or(r.dtype));
  task.targets = targets_of<T>(r, plan);
  task.examples = plan.padded ? plan.examples.data() : nullptr;
  task.inputs = static_cast<const T*>(r.inputs);  // or narrower, see NarrowArrays
  task.inputs_stride = r.inputs_stride;
  task.sampled = plan.candidates.sampled;
  task.sampled_log_q = static_cast<const T*>(plan.candidates.sampled_log_q);
  task.grad_loss = static_cast<const T*>(r.grad_loss);
  task.positive_weight = view<T>(r.loss.positive_weight);
  task.negative_weight = view<T>(r.loss.negative_weight);
  if (!plan.hit_begin.empty()) task.hits = {plan.hit_begin.data(), plan.hit_positions.data()};
  task.interruption = &interruption;
  task.loss = r.wanted.loss ? static_cast<T*>(out.loss) : nullptr;
  task.grad_inputs = r.wanted.grad_inputs ? static_cast<T*>(out.grad_inputs) : nullptr;
  task.grad_weights = r.wanted.grad_weights ? static_cast<T*>(out.grad_weights) : nullptr;
  task.grad_biases = r.wanted.grad_biases ? static_cast<T*>(out.grad_biases) : nullptr;
  if (task.wants_rows()) {
    task.row_offsets = plan.rows.offsets.data();
    task.row_entries = plan.rows.entries.data();
    task.sampled_row = plan.rows.sampled_row.data();
  }
  return task;
}

// Which of the caller's arrays are narrower than the compute dtype. During the call, arrays of the compute dtype
// replace them.
struct NarrowArrays {
  NarrowArrays(const LossRequest& r, const LossOutputs& out)
      : inputs(r.inputs_dtype.value_or(r.dtype) != r.dtype),
        grad_inputs(r.wanted.grad_inputs && out.grad_inputs_dtype.value_or(r.dtype) != r.dtype),
        grad_weights(r.wanted.grad_weights && out.grad_weights_dtype.value_or(r.dtype) != r.dtype),
        grad_biases(r.wanted.grad_biases && out.grad_biases_dtype.value_or(r.dtype) != r.dtype) {}
  bool inputs, grad_inputs, grad_weights, grad_biases;
};

// The task's workspace: what does not depend on the number of threads, and one scratch block for each.
struct WorkspaceSizes {
  std::int64_t rows_of_batch, rows;
  std::int64_t scratch_elements;  // of one thread
  bool samples_distinct;
  NarrowArrays narrow;
};

template <class T>
T* take_workspace(Carver& memory, LossTask<T>& task, const WorkspaceSizes& sizes, const Schedule& schedule,
                  int threads) {
  task.true_grad = memory.take<T>(task.num_entries());
  task.loss_sum = memory.take<double>(task.batch);
  task.sampled_offset = memory.take<T>(task.num_sampled);
  if (!task.negative_weight.is_one()) {
    task.sampled_factor = memory.take<T>(sizes.rows_of_batch);
  } else {
    task.sampled_factor = task.grad_loss;
  }
  // Where a class was sampled twice, two groups would add to one row of dW: then no team writes there directly.
  task.copies = schedule.teams;
  task.weight_copy_count = task.grad_weights == nullptr ? 0 : schedule.teams - (sizes.samples_distinct ? 1 : 0);
  task.bias_copies = task.grad_biases == nullptr ? nullptr : memory.take<T>(task.copies * task.num_sampled);
  task.weight_copies = memory.take<T>(task.weight_copy_count * task.num_sampled * task.dim);
  if (sizes.narrow.inputs) {
    task.inputs = memory.take<T>(sizes.rows_of_batch * task.dim);
    task.inputs_stride = task.dim;
  }
  if (sizes.narrow.grad_inputs) task.grad_inputs = memory.take<T>(sizes.rows_of_batch * task.dim);
  if (sizes.narrow.grad_weights) task.grad_weights = memory.take<T>(sizes.rows * task.dim);
  if (sizes.narrow.grad_biases) task.grad_biases = memory.take<T>(sizes.rows);
  return memory.take<T>(sizes.scratch_elements * threads);
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
void widen_inputs(const LossKernels<T>& kernels, const LossRequest& request, const LossTask<T>& task, Range examples) {
  const auto* from = static_cast<const std::byte*>(request.inputs);
  const DType dtype = request.inputs_dtype.value_or(request.dtype);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    T* const to = const_cast<T*>(task.input(b));  // workspace
    kernels.widen(from + task.row_of_batch(b) * request.inputs_stride * element_bytes(dtype), dtype, task.dim, to);
  }
}

// Rounds elements [range] * columns of a gradient from its float32 temporary.
template <class T>
void narrow_rows(const LossKernels<T>& kernels, const T* from, DType dtype, Range range, std::int64_t columns,
                 void* to) {
  kernels.narrow(from + range.begin * columns, dtype, range.size() * columns,
                 static_cast<std::byte*>(to) + range.begin * columns * element_bytes(dtype));
}

// Zeros in the results of rows of the batch that take no part.
void clear_left_out(const LossRequest& request, const LossPlan& plan, const LossOutputs& outputs, Range rows) {
  const auto clear = [](void* results, std::int64_t row, std::int64_t bytes) {
    std::fill_n(static_cast<std::byte*>(results) + row * bytes, bytes, std::byte{0});
  };
  auto next = std::ranges::lower_bound(plan.examples, rows.begin);
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    if (next != plan.examples.end() && *next == row) {
      ++next;
      continue;
    }
    if (request.wanted.loss) clear(outputs.loss, row, element_bytes(request.dtype));
    if (request.wanted.grad_inputs) {
      const DType dtype = outputs.grad_inputs_dtype.value_or(request.dtype);
      clear(outputs.grad_inputs, row, request.dim * element_bytes(dtype));
    }
  }
}

// grad_loss times the weight of negatives.
template <class T>
void combine_factors(const LossTask<T>& task, Range examples) {
  T* const factor = const_cast<T*>(task.sampled_factor);  // workspace
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    const std::int64_t row = task.row_of_batch(b);
    factor[row] = task.negative_weight.of(row) * task.upstream(b);
  }
}

template <class T>
void run(const LossRequest& request, const LossPlan& plan, const LossOutputs& outputs) {
  const LossKernels<T>& kernels = current_isa().loss<T>();
  const TileKernels<T>& tiles = current_isa().tiles<T>(request.precision);
  Interruption interruption;
  LossTask<T> task = typed<T>(request, plan, outputs, interruption);
  if (!task.wants_gradients() && task.loss == nullptr) return;

  const std::int64_t useful = std::max<std::int64_t>(request.batch, 1);
  const int threads = static_cast<int>(std::min<std::int64_t>(threads_for(flops(request), kFlopsPerThread), useful));
  const WorkspaceSizes sizes{.rows_of_batch = request.batch,
                             .rows = std::ssize(plan.rows.ids),
                             .scratch_elements = std::max(tiles.scratch_elements(task), task.dim),
                             .samples_distinct = !task.wants_rows() || plan.rows.samples_distinct,
                             .narrow = NarrowArrays(request, outputs)};
  const NarrowArrays& narrow = sizes.narrow;
  Carver measure;
  LossTask<T> measured = task;
  take_workspace(measure, measured, sizes, Schedule(threads, task.num_sampled), threads);
  const Workspace workspace(measure.used());

  parallel(threads, [&](const Team& team) {
    // OpenMP may give fewer threads than asked for; the workspace for those is never larger.
    const Schedule schedule(team.size, task.num_sampled);
    LossTask<T> own = task;
    Carver carver(workspace.memory());
    T* const all_scratch = take_workspace(carver, own, sizes, schedule, team.size);
    T* const scratch = all_scratch + team.rank * sizes.scratch_elements;

    const Range examples = team.share(own.batch);
    if (plan.padded) clear_left_out(request, plan, outputs, team.share(request.batch));
    if (!own.negative_weight.is_one()) combine_factors(own, examples);
    const std::int64_t elements_per_example = (own.targets.per_example + 1) * (own.dim + 1);
    in_parts(examples, kElementsAtOnce / elements_per_example + 1, interruption, [&](Range part) {
      if (narrow.inputs) widen_inputs(kernels, request, own, part);
      kernels.logistic_true_classes(own, part, scratch);
    });
    kernels.sampled_offsets(own, team.share(own.num_sampled));
    team.barrier();
    const Range rows = own.wants_rows() ? share_of_rows(plan.rows, team) : Range{0, 0};
    const auto for_rows = [&](auto kernel) {
      if (!own.wants_rows()) return;
      in_parts_of_rows(plan.rows, rows, own.dim, interruption, [&](Range part) { kernel(own, part); });
    };
    for_rows(kernels.start_rows);
    if (own.num_sampled > 0) {
      sampled_classes(tiles, own, schedule, team, scratch);
      for_rows(kernels.finish_rows);
    }
    if (interruption.requested()) return;  // loss_sum and the rows are not complete
    for (std::int64_t b = examples.begin; b < examples.end && own.loss != nullptr; ++b) {
      own.loss[own.row_of_batch(b)] = static_cast<T>(own.loss_sum[b]);
    }
    if (narrow.grad_weights) {
      narrow_rows(kernels, own.grad_weights, *outputs.grad_weights_dtype, rows, own.dim, outputs.grad_weights);
    }
    if (narrow.grad_biases) {
      narrow_rows(kernels, own.grad_biases, *outputs.grad_biases_dtype, rows, 1, outputs.grad_biases);
    }
    for (std::int64_t b = examples.begin; b < examples.end && narrow.grad_inputs; ++b) {
      const std::int64_t row = own.row_of_batch(b);
      narrow_rows(kernels, own.grad_inputs, *outputs.grad_inputs_dtype, {row, row + 1}, own.dim, outputs.grad_inputs);
    }
  });
  interruption.check();
}

}  // namespace

void run_loss(const LossRequest& request, const LossPlan& plan, const LossOutputs& outputs) {
  request.dtype == DType::kFloat32 ? run<float>(request, plan, outputs) : run<double>(request, plan, outputs);
}

}  // namespace fastnce::cpu
