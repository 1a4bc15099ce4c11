// What takes the place of the CUDA backend in a build without it. There is no device, so that core/cuda.cpp refuses
// every call that needs one before it comes here.
#include "cuda/all_classes/evaluate.h"
#include "cuda/loss/loss.h"
#include "cuda/rows/update.h"
#include "cuda/runtime/copy.h"
#include "cuda/runtime/ids.h"
#include "cuda/runtime/runtime.h"
#include "cuda/sampler/sampler.h"
#include "fastnce/error.h"

namespace fastnce::cuda {

namespace {

[[noreturn]] void refuse() {
  throw InvalidValue(concat("a CUDA device is asked for, but ", runtime::unavailable_reason()));
}

}  // namespace

std::size_t sampler_workspace_bytes(const SampleRequest&) { refuse(); }
void queue_candidates(const SampleRequest&, std::uint64_t*, const Candidates&, const Workspace&, const Stream&) {
  refuse();
}
LossPlan plan_loss(const LossRequest&, int, bool) { refuse(); }
void queue_loss(const LossPlan&, const LossOutputs&, const Workspace&, const Stream&) { refuse(); }
std::size_t top_k_bytes(const Scoring&, std::int64_t, const ClassLists&, int) { refuse(); }
void queue_top_k(const Scoring&, std::int64_t, const ClassLists&, float*, std::int64_t*, const Workspace&,
                 const Stream&) {
  refuse();
}
std::size_t ranks_bytes(const Scoring&, const Targets&, const ClassLists&, int) { refuse(); }
void queue_ranks(const Scoring&, const Targets&, const ClassLists&, double*, const Workspace&, const Stream&) {
  refuse();
}
std::size_t ranks_bytes(const Scoring&, const ScoreLists&, const ClassLists&, int) { refuse(); }
void queue_ranks(const Scoring&, const ScoreLists&, const ClassLists&, double*, const Workspace&, const Stream&) {
  refuse();
}
std::size_t label_scores_bytes(const Scoring&, const Targets&, int) { refuse(); }
void queue_label_scores(const Scoring&, const Targets&, float*, const Workspace&, const Stream&) { refuse(); }
std::size_t update_rows_bytes(const Scoring&, const GradientRows&) { refuse(); }
void queue_update_rows(const RowUpdate&, const Scoring&, const GradientRows&, const Workspace&, const Stream&) {
  refuse();
}
void queue_update_complete_rows(const RowUpdate&, const Scoring&, const GradientRows&, const std::int64_t*,
                                const Stream&) {
  refuse();
}
void queue_copy_ids(const IdArray&, std::int64_t*, const Stream&) { refuse(); }
void queue_copy_rows(const RowArray&, void*, const Stream&) { refuse(); }
void queue_fill(float, std::int64_t, float*, const Stream&) { refuse(); }
void queue_count_up(std::int64_t, std::int64_t*, const Stream&) { refuse(); }
void check_ids() { refuse(); }

namespace runtime {

bool built() { return false; }
std::string unavailable_reason() { return "fastnce was built without CUDA"; }
int device_count() { return 0; }
Device properties(int) { refuse(); }
CurrentDevice::CurrentDevice(int) { refuse(); }
CurrentDevice::~CurrentDevice() = default;
void* allocate(std::size_t, const Stream&) { refuse(); }
void release(void*, const Stream&) { refuse(); }
std::int64_t read(const std::int64_t*, const Stream&) { refuse(); }
void copy_to_device(void*, const void*, std::size_t, const Stream&) { refuse(); }
void wait_for(const Stream&, const Stream&) { refuse(); }
void synchronize(const Stream&) { refuse(); }
void synchronize_device() { refuse(); }
void fill_bytes(void*, int, std::size_t, const Stream&) { refuse(); }

}  // namespace runtime

}  // namespace fastnce::cuda
