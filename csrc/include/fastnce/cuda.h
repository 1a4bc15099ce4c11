// The CUDA backend: the operations of sampler.h and loss.h on arrays in the memory of a GPU.
//
// A call queues its work on the caller's stream and returns; it neither synchronises nor allocates, and a CUDA graph
// can capture it. Params and requests are those of the CPU, with device pointers; only spans of shards are in host
// memory. Everything that can be checked without reading device memory is checked before anything is queued:
// InvalidValue. Every call that needs the backend throws InvalidValue unless unavailable_reason() is empty, and
// DeviceError if CUDA reports an error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "fastnce/evaluate.h"
#include "fastnce/loss.h"
#include "fastnce/optimizer.h"
#include "fastnce/sampler.h"

namespace fastnce::cuda {

// Whether this build holds the backend.
bool built();

// What is missing: build, driver or device. Empty if a device can be used.
std::string unavailable_reason();

struct Device {
  std::string name;
  int major, minor;  // compute capability
  int multiprocessors;
  std::int64_t memory_bytes;
};

// By CUDA's device number; empty where the backend is unavailable.
std::vector<Device> devices();

// Where a call's work is queued.
struct Stream {
  int device = 0;
  void* handle = nullptr;  // a cudaStream_t; null: the device's legacy default stream
};

// Device memory for the intermediate results of one call. Later work on the same stream may reuse it.
struct Workspace {
  void* data = nullptr;  // aligned to 256 bytes
  std::size_t bytes = 0;
};

// What a candidate sampler writes, on the device.
struct Candidates {
  std::int64_t* sampled = nullptr;  // z [S], or [G, S]
  float* sampled_count = nullptr;   // Q(z), likewise
  float* true_count = nullptr;      // Q(y) of every label; NaN where a label is out of range
};

// Memory for the tables of a distribution; 0 where it has none.
std::size_t table_bytes(const Distribution& distribution);

// Copies the tables of a distribution, which is on the host, to `memory` on the stream's device, and returns the
// distribution of these copies, for calls on that device. Returns when the host's tables have been read. Not while the
// stream is being captured.
Distribution copy_tables(const Distribution& distribution, void* memory, const Stream& stream);

// Of sample_candidates() and sample(). Throws as validate() does.
std::size_t workspace_bytes(const SamplerParams& params);
std::size_t workspace_bytes(const SampleRequest& request);

// Draws the classes that fastnce::sample_candidates() draws and computes the counts of expected_counts().
// `calls`, unless null, is a counter on the device that is used instead of params.call and incremented, so that replays
// of a CUDA graph continue the stream. `labels` [num_labels] may be null where num_labels is 0.
void sample_candidates(const SamplerParams& params, std::uint64_t* calls, const std::int64_t* labels,
                       std::int64_t num_labels, const Candidates& candidates, const Workspace& workspace,
                       const Stream& stream);

// The same for a batch, what fastnce::sample() draws, from one source and without `exclude`. Offsets of true classes
// are not checked: where they are wrong, true counts are those of some group.
void sample(const SampleRequest& request, std::uint64_t* calls, const Candidates& candidates,
            const Workspace& workspace, const Stream& stream);

// A request that was checked, and how it is computed.
struct LossPlan {
  std::size_t workspace_bytes = 0;  // O((S + B) D)
  std::shared_ptr<const struct PlannedLoss> contents;
};

// As fastnce::plan() and run(), computed in float32, with row_ids and row_count in place of the plan's rows. Candidates
// may be drawn in run(). An example with a label outside [0, V) that is not padding, or with an expected count that is
// not positive, gets a loss of NaN; that label adds nothing to the gradients. A sampled class out of range or with such
// a count makes all results NaN; one of a group those of its examples, and all gradients of rows. Offsets of lists that
// fall or reach beyond the values make the loss of every example from there on NaN; these add nothing to the
// gradients. An excluded class out of range excludes nothing. Nothing is read or written out of bounds; check() reports
// ids and offsets. Where groups have candidates of their own, the workspace also has 20 bytes or so per example and
// sample, and D floats for 16 of those; arithmetic is float32 then, whatever the precision.
LossPlan plan(const LossRequest& request, int device);
void run(const LossPlan& plan, const LossOutputs& outputs, const Workspace& workspace, const Stream& stream);

// A plan of fastnce::full_loss(), for at most 2^22 classes. run() then writes dense gradients of tables, and neither
// row_ids nor row_count. The workspace has some 2 to 6 bytes for each element of the table, as many for each class and
// 128 examples, and 4 for each element of its gradient.
LossPlan plan_full_loss(const LossRequest& request, int device);

// As fastnce::top_k(), rank_of_labels(), score_labels() and rank_of_scores(), computed in float32. A label out of range
// has score and rank NaN, and so has a score that is in no list; every label or score of an example whose list of
// excluded classes is not known has rank NaN, and top_k() gives such an example scores of NaN and ids of -1. The
// workspace has 12 to 24 bytes for each label or score, some 2 to 6 for each element of the inputs (none of these for
// score_labels()), and what does not depend on the number of classes and examples.
std::size_t top_k_workspace_bytes(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, int device);
void top_k(const Scoring& scoring, std::int64_t k, const ClassLists& exclude, float* scores, std::int64_t* ids,
           const Workspace& workspace, const Stream& stream);
std::size_t rank_of_labels_workspace_bytes(const Scoring& scoring, const Targets& targets, const ClassLists& exclude,
                                           int device);
void rank_of_labels(const Scoring& scoring, const Targets& targets, const ClassLists& exclude, double* ranks,
                    const Workspace& workspace, const Stream& stream);
std::size_t score_labels_workspace_bytes(const Scoring& scoring, const Targets& targets, int device);
void score_labels(const Scoring& scoring, const Targets& targets, float* scores, const Workspace& workspace,
                  const Stream& stream);
std::size_t rank_of_scores_workspace_bytes(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude,
                                           int device);
void rank_of_scores(const Scoring& scoring, const ScoreLists& lists, const ClassLists& exclude, double* ranks,
                    const Workspace& workspace, const Stream& stream);

// As fastnce::update_rows(), of float32, float16 and bfloat16 tables with float32 states; gradients of biases are
// float32. Rows of ids out of range are left out, and check() reports them. The workspace has D + 12 floats or so for
// each row.
std::size_t update_rows_workspace_bytes(const Scoring& tables, const GradientRows& rows, int device);
void update_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows, const Workspace& workspace,
                 const Stream& stream);

// The same with the rows of a loss: ids ascending, each once among the first `row_count`, a number on the device;
// contiguous float32 gradients. A loss with rows that were not finite, as after a sampled class out of range, makes its
// rows of the tables not finite.
void update_complete_rows(const RowUpdate& update, const Scoring& tables, const GradientRows& rows,
                          const std::int64_t* row_count, const Stream& stream);

// Ids of any integer type and layout in device memory.
struct IdArray {
  const void* data = nullptr;
  int bytes = 8;  // of an id: 1, 2, 4 or 8
  bool is_signed = true;
  std::int64_t rows = 0, columns = 0;
  std::int64_t row_stride = 0, column_stride = 0;  // in elements
};

// Writes them to `to` [rows, columns] as int64; an id of 2^63 or more becomes negative.
void copy_ids(const IdArray& ids, std::int64_t* to, const Stream& stream);

// Rows in device memory, each contiguous.
struct RowArray {
  const void* data = nullptr;
  std::int64_t element_bytes = 4;  // or 2
  std::int64_t rows = 0, columns = 0;
  std::int64_t row_stride = 0;  // in elements
};

// Writes them to `to` [rows, columns].
void copy_rows(const RowArray& rows, void* to, const Stream& stream);

// Writes `value` `count` times.
void fill(float value, std::int64_t count, float* to, const Stream& stream);

// Writes 0 to count - 1.
void count_up(std::int64_t count, std::int64_t* to, const Stream& stream);

// Synchronises the device. Throws InvalidValue, naming argument, position and value, if a call since the last check had
// an id out of range.
void check(int device);

// Functions of the CUDA runtime that bindings need.
void* allocate(std::size_t bytes, const Stream& stream);  // ordered with the stream's work
void release(void* memory, const Stream& stream);         // the same; work on other streams must have come before
std::int64_t read(const std::int64_t* value, const Stream& stream);  // waits for the stream
void write(std::int64_t value, std::int64_t* to, const Stream& stream);
void wait_for(const Stream& waiting, const Stream& producing);  // on the same device; the host goes on
void synchronize(const Stream& stream);
void synchronize_device(int device);  // all streams, those of other libraries, too

}  // namespace fastnce::cuda
