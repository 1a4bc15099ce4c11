#include "core/candidates.h"

#include <algorithm>
#include <span>

#include "cpu/loss/log_q.h"

namespace fastnce {

namespace {

template <class T, class From>
const void* log_of(const From* counts, std::int64_t count, std::vector<std::byte>& memory) {
  memory.resize(static_cast<std::size_t>(count) * sizeof(T));
  cpu::log_of_counts(counts, count, reinterpret_cast<T*>(memory.data()));
  return memory.data();
}

const void* log_of_given(const void* counts, std::int64_t count, DType dtype, std::vector<std::byte>& memory) {
  if (counts == nullptr) return nullptr;
  return dtype == DType::kFloat64 ? log_of<double>(static_cast<const double*>(counts), count, memory)
                                  : log_of<float>(static_cast<const float*>(counts), count, memory);
}

}  // namespace

void Candidates::prepare(const LossRequest& request) {
  if (request.negatives.sampler) {
    draw(request);
    return;
  }
  const Targets& targets = request.targets;
  const Negatives& negatives = request.negatives;
  sampled_ = negatives.ids;
  const auto log_of = [&](const void* log_q, const void* counts, std::int64_t count, std::vector<std::byte>& memory) {
    return log_q != nullptr ? log_q : log_of_given(counts, count, request.dtype, memory);
  };
  true_log_q_ = log_of(targets.log_q, targets.expected_count, targets.count(request.batch), true_memory_);
  sampled_log_q_ = log_of(negatives.log_q, negatives.expected_count, negatives.total(), sampled_memory_);
}

void Candidates::draw(const LossRequest& request) {
  const SamplerParams& sampler = *request.negatives.sampler;
  const Targets& targets = request.targets;
  std::span labels(targets.ids, static_cast<std::size_t>(targets.count(request.batch)));
  if (targets.padding) {
    // Padding is no class of the distribution. What is counted in its place is not read.
    constexpr std::int64_t kSomeClass = 0;
    labels_.assign(labels.begin(), labels.end());
    std::ranges::replace(labels_, *targets.padding, kSomeClass);
    labels = labels_;
  }
  drawn_.resize(static_cast<std::size_t>(request.negatives.total()));
  true_counts_.resize(labels.size());
  sampled_counts_.resize(drawn_.size());
  sample({.sources = {&sampler, 1},
          .batch = request.batch,
          .groups = request.negatives.groups,
          .true_classes = labels,
          .true_offsets = targets.offsets},
         drawn_.data(), true_counts_.data(), sampled_counts_.data());
  sampled_ = drawn_.data();
  const auto log_q = [&](const std::vector<float>& counts, std::vector<std::byte>& memory) {
    return request.dtype == DType::kFloat64 ? log_of<double>(counts.data(), std::ssize(counts), memory)
                                            : log_of<float>(counts.data(), std::ssize(counts), memory);
  };
  true_log_q_ = log_q(true_counts_, true_memory_);
  sampled_log_q_ = log_q(sampled_counts_, sampled_memory_);
}

}  // namespace fastnce
