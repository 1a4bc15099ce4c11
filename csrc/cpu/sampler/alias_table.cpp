// Walker's alias table in the order, and with the roundings, of TensorFlow's DistributionSampler: its ids depend on
// both.
#include <cmath>
#include <vector>

#include "cpu/runtime/interrupt.h"
#include "cpu/sampler/sampler.h"
#include "math/distribution/unigram.h"

namespace fastnce::cpu {

namespace {

constexpr std::size_t kStepsAtOnce = std::size_t{1} << 20;

// n p(k), which averages 1. TensorFlow rounds the product to float32, and n itself: above 2^24 classes that would leave
// classes of weight 0 with a share.
std::vector<double> shares_of(std::span<const float> weights, WeightSums sums, Interruption& interruption) {
  constexpr std::size_t kExactInFloat32 = std::size_t{1} << 24;
  const std::size_t n = weights.size();
  double sum = 0.0;
  for (const float weight : weights) sum += static_cast<double>(weight);
  const bool as_tensorflow = sums == WeightSums::kFloat32 || n <= kExactInFloat32;
  std::vector<double> shares(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kStepsAtOnce == 0) interruption.check();
    const double product = as_tensorflow ? static_cast<double>(weights[i] * static_cast<float>(n))
                                         : static_cast<double>(weights[i]) * static_cast<double>(n);
    shares[i] = product / sum;
  }
  return shares;
}

std::int64_t reachable_classes(const std::uint32_t* alias_table, std::size_t n) {
  std::vector<bool> reached(n, false);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t threshold = alias_table[2 * i];
    if (threshold > 0) reached[i] = true;
    if (threshold < math::kAliasScale) reached[alias_table[2 * i + 1]] = true;
  }
  std::int64_t count = 0;
  for (const bool is_reached : reached) count += is_reached ? 1 : 0;
  return count;
}

}  // namespace

// Each index whose share is below 1 fills up with another's, which is then worth less. Both kinds are taken from
// stacks; together they hold at most n indices, so one array serves both, from its two ends.
std::int64_t build_alias_table(std::span<const float> weights, WeightSums sums, std::uint32_t* alias_table) {
  Interruption interruption;
  const std::size_t n = weights.size();
  std::vector<double> share = shares_of(weights, sums, interruption);
  std::vector<std::uint32_t> stacks(n);
  std::size_t low = 0, high = n;  // the low ones are in [0, low), the high ones in [high, n), the last first
  const auto push = [&](std::uint32_t i) { stacks[share[i] < 1.0 ? low++ : --high] = i; };
  for (std::size_t i = 0; i < n; ++i) push(static_cast<std::uint32_t>(i));
  for (std::size_t step = 0; low > 0 && high < n; ++step) {
    if (step % kStepsAtOnce == 0) interruption.check();
    const std::uint32_t poor = stacks[--low], rich = stacks[high++];
    const double threshold = static_cast<double>(static_cast<float>(share[poor])) * math::kAliasScale;
    alias_table[2 * poor] = static_cast<std::uint32_t>(std::ceil(threshold));
    alias_table[2 * poor + 1] = rich;
    share[rich] -= 1.0 - share[poor];
    push(rich);
  }
  // What rounding has left over on either stack is drawn as itself.
  const auto keep = [&](std::size_t i) {
    alias_table[2 * stacks[i]] = math::kAliasScale;
    alias_table[2 * stacks[i] + 1] = stacks[i];
  };
  for (std::size_t i = 0; i < low; ++i) keep(i);
  for (std::size_t i = high; i < n; ++i) keep(i);
  return reachable_classes(alias_table, n);
}

}  // namespace fastnce::cpu
