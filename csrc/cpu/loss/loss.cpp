// Threading of one call: the phases of a loss and the work of each thread in them. The arithmetic is in the -inl.h
// files.
#include "cpu/loss/loss.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <optional>

#include "cpu/loss/group_plane.h"
#include "cpu/loss/loss_kernels.h"
#include "cpu/loss/loss_setup.h"
#include "cpu/loss/plane.h"
#include "cpu/loss/row_sink.h"
#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/parallel.h"

namespace fastnce::cpu {

namespace {

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

// Calls work(part) for parts of all rows: each thread takes the next part when it is done with one, since a row of many
// entries, or of samples that serve many examples, takes as long as hundreds of others.
template <class T, class Work>
void take_rows_in_turn(std::atomic<std::int64_t>& next, const RowPlan& plan, const LossTask<T>& task, const Team& team,
                       const Work& work) {
  if (!task.wants_rows()) return;
  const std::int64_t rows = std::ssize(plan.ids);
  const std::int64_t step = std::clamp<std::int64_t>(rows / (64 * team.size), 1, 512);
  while (!task.interruption->requested()) {
    const std::int64_t begin = next.fetch_add(step, std::memory_order_relaxed);
    if (begin >= rows) return;
    work(Range{begin, std::min(begin + step, rows)});
  }
}

template <class T>
void scale(T* row, std::int64_t dim, double temperature) {
  if (temperature == 1.0) return;
  const T factor = static_cast<T>(1.0 / temperature);
  for (std::int64_t d = 0; d < dim; ++d) row[d] *= factor;
}

// Into their stand-ins, divided by the temperature.
template <class T>
void enter_inputs(const LossKernels<T>& kernels, const LossRequest& request, const LossTask<T>& task, Range examples) {
  const auto* from = static_cast<const std::byte*>(request.inputs);
  const DType dtype = request.inputs_dtype.value_or(request.dtype);
  for (std::int64_t b = examples.begin; b < examples.end; ++b) {
    T* const to = const_cast<T*>(task.input(b));  // workspace
    const std::byte* const row = from + task.row_of_batch(b) * request.inputs_stride * element_bytes(dtype);
    if (dtype == request.dtype) {
      std::memcpy(to, row, static_cast<std::size_t>(task.dim) * sizeof(T));
    } else {
      kernels.widen(row, dtype, task.dim, to);
    }
    scale(to, task.dim, request.temperature);
  }
}

// Losses and gradients of inputs, once their sums are complete.
template <class T>
void leave_examples(const LossKernels<T>& kernels, const LossRequest& request, const LossOutputs& outputs,
                    const NarrowArrays& narrow, const LossTask<T>& task, Range examples) {
  for (std::int64_t b = examples.begin; b < examples.end && task.loss != nullptr; ++b) {
    task.loss[task.row_of_batch(b)] = static_cast<T>(task.loss_sum[b]);
  }
  for (std::int64_t b = examples.begin; b < examples.end && task.grad_inputs != nullptr; ++b) {
    scale(task.grad_input(b), task.dim, request.temperature);
    if (!narrow.grad_inputs) continue;
    const DType dtype = *outputs.grad_inputs_dtype;
    auto* const to = static_cast<std::byte*>(outputs.grad_inputs);
    const std::int64_t first = task.row_of_batch(b) * task.dim;
    kernels.narrow(task.grad_inputs + first, dtype, task.dim, to + first * element_bytes(dtype));
  }
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
    if (request.wanted.log_sum_exp) clear(outputs.log_sum_exp, row, element_bytes(DType::kFloat64));
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

// Groups of fewer examples do not repay packing.
template <class T>
const TileKernels<T>& tiles_for(const LossRequest& request) {
  constexpr std::int64_t kFewest = 8;
  const std::int64_t groups = request.negatives.groups;
  if (groups > 1 && request.batch / groups < kFewest) return gather_kernels<T>(current_isa());
  return tile_kernels<T>(current_isa(), request.precision);
}

StripSizes strips_of(const LossRequest& request, std::int64_t batch, const TileSizes& tile, int threads) {
  // Each thread takes the strips of one group after the other.
  const std::int64_t groups = request.negatives.groups;
  const std::int64_t examples = groups > 1 ? request.batch / groups * threads : batch;
  return {examples, request.negatives.count, tile, threads, element_bytes(request.dtype), request.wanted.gradients()};
}

template <class T>
void run(const LossRequest& request, const LossPlan& plan, const LossOutputs& outputs) {
  const LossKernels<T>& kernels = loss_kernels<T>(current_isa());
  const TileKernels<T>& tiles = tiles_for<T>(request);
  Interruption interruption;
  LossTask<T> task = typed<T>(request, plan, outputs, interruption);
  if (!request.wanted.gradients() && task.loss == nullptr && task.log_sum_exp == nullptr) return;

  const std::int64_t useful = std::max<std::int64_t>(request.batch, 1);
  const int threads = static_cast<int>(std::min<std::int64_t>(threads_for(flops(request), kFlopsPerThread), useful));
  const TileSizes tile = tiles.sizes(task);
  const WorkspaceSizes sizes{.rows_of_batch = request.batch,
                             .rows = std::ssize(plan.rows.ids),
                             .scratch_elements = std::max(tiles.scratch_elements(task), task.dim),
                             .tile = tile,
                             .softmax = request.loss.family == LossFamily::kSoftmax,
                             .strips = strips_of(request, task.batch, tile, threads),
                             .wanted = request.wanted,
                             .samples_distinct = !request.wanted.rows() || plan.rows.samples_distinct,
                             .rows_at_once = outputs.update != nullptr ? rows_at_once(request.dim) : 0,
                             .narrow = NarrowArrays(request, outputs)};
  const NarrowArrays& narrow = sizes.narrow;
  Carver measure;
  LossTask<T> measured = task;
  take_workspace(measure, measured, sizes, Schedule(threads, task.num_sampled), threads);
  const Workspace workspace(measure.used());
  const bool updates = outputs.update != nullptr;
  const StoredRows<T> stored(kernels, request, outputs);
  std::optional<UpdatedRows<T>> updated;
  if (updates) updated.emplace(*outputs.update, request, plan.rows);
  std::atomic<std::int64_t> next_row = 0;  // of several groups

  parallel(threads, [&](const Team& team) {
    // OpenMP may give fewer threads than asked for; the workspace for those is never larger.
    const Schedule schedule(team.size, task.num_sampled);
    LossTask<T> own = task;
    Carver carver(workspace.memory());
    const ThreadMemory<T> memory = take_workspace(carver, own, sizes, schedule, team.size, team.rank);

    const bool grouped = own.groups.count > 1;
    const Range examples = grouped ? share_of_examples(own.groups, own.batch, team) : team.share(own.batch);
    if (plan.listed) clear_left_out(request, plan, outputs, team.share(request.batch));
    if (!own.negative_weight.is_one()) combine_factors(own, examples);
    const std::int64_t entries_per_example = own.num_entries() / std::max<std::int64_t>(own.batch, 1) + 1;
    const std::int64_t elements_per_example = entries_per_example * (own.dim + 1);
    const auto for_examples = [&](Range range, auto kernel) {
      in_parts(range, kElementsAtOnce / elements_per_example + 1, interruption, kernel);
    };
    for_examples(examples, [&](Range part) {
      if (narrow.inputs) enter_inputs(kernels, request, own, part);
      (sizes.softmax ? kernels.softmax_true_logits : kernels.logistic_true_classes)(own, part, memory.scratch);
    });
    // Rows in parts, one after the other in the same memory, once all threads have read the tables. Then all are
    // updated: half a step would leave a table that no step leaves.
    const auto update_rows = [&](const auto& complete) {
      if (team.rank == 0) interruption.requested();
      team.barrier();
      if (interruption.known() || !request.wanted.rows()) return;
      const Range rows = share_of_rows(plan.rows, team);
      for (own.first_row = rows.begin; own.first_row < rows.end; own.first_row += sizes.rows_at_once) {
        const Range part{own.first_row, std::min(own.first_row + sizes.rows_at_once, rows.end)};
        complete(part);
        updated->take({part, own.grad_weights, own.grad_biases}, memory.scratch);
      }
    };
    const auto store_rows = [&](Range part) {
      T* const weights = own.grad_weights != nullptr ? own.grad_weights_row(part.begin) : nullptr;
      stored.take({part, weights, own.grad_biases != nullptr ? &own.grad_bias_of(part.begin) : nullptr});
    };
    const auto true_classes = [&](Range strip) {
      for_examples(strip, [&](Range part) { kernels.softmax_true_classes(own, part, memory.scratch); });
    };
    if (grouped) {
      team.barrier();
      GroupPlane<T> plane(own, kernels, tiles, memory);
      if (sizes.softmax) {
        plane.softmax(examples, sizes.strips, true_classes);
      } else if (own.num_sampled > 0) {
        plane.logistic(examples);
      }
      team.barrier();
      if (updates) {
        update_rows([&](Range part) { kernels.group_rows(own, part); });
      } else {
        take_rows_in_turn(next_row, plan.rows, own, team, [&](Range part) {
          kernels.group_rows(own, part);
          store_rows(part);
        });
      }
    } else {
      kernels.sampled_offsets(own, team.share(own.num_sampled));
      team.barrier();
      const Range rows = own.wants_rows() ? share_of_rows(plan.rows, team) : Range{0, 0};
      const auto for_rows = [&](auto kernel) {
        if (!own.wants_rows() || updates) return;
        in_parts_of_rows(plan.rows, rows, own.dim, interruption, [&](Range part) { kernel(own, part); });
      };
      const Plane<T> plane(own, tiles, schedule, team, memory);
      if (sizes.softmax) {
        const bool one_strip = sizes.strips.strips(own.batch, team.size) == 1;
        plane.softmax(sizes, true_classes, [&] { for_rows(one_strip ? kernels.set_true_rows : kernels.clear_rows); });
        if (!one_strip) for_rows(kernels.add_true_rows);
      } else {
        for_rows(kernels.set_true_rows);
        if (own.num_sampled > 0) plane.logistic();
      }
      for_rows([&](const LossTask<T>& task, Range part) {
        if (task.num_sampled > 0) kernels.add_copies(task, part);
        store_rows(part);
      });
      if (updates) {
        update_rows([&](Range part) {
          kernels.set_true_rows(own, part);
          if (own.num_sampled > 0) kernels.add_copies(own, part);
        });
      }
    }
    // After an update nobody asks again: the call has done what it was called for.
    if (updates ? interruption.known() : interruption.requested()) return;  // loss_sum is not complete
    leave_examples(kernels, request, outputs, narrow, own, examples);
  });
  if (!updates || interruption.known()) interruption.check();
}

}  // namespace

void run_loss(const LossRequest& request, const LossPlan& plan, const LossOutputs& outputs) {
  request.dtype == DType::kFloat32 ? run<float>(request, plan, outputs) : run<double>(request, plan, outputs);
}

}  // namespace fastnce::cpu
