// Walker's alias table in the order, and with the roundings, of TensorFlow's DistributionSampler: its ids depend on
// both.
#include <cmath>
#include <vector>

#include "cpu/runtime/interrupt.h"
#include "cpu/sampler/sampler.h"
#include "math/distribution/unigram.h"

namespace fastnce::cpu {

namespace {

// Between two polls for an interrupt. A step may be a few cache misses.
constexpr std::int64_t kStepsAtOnce = std::int64_t{1} << 16;

// Calls step(i) for all i in [0, n).
template <class Step>
void for_each(std::size_t n, Interruption& interruption, const Step& step) {
  in_parts({0, static_cast<std::int64_t>(n)}, kStepsAtOnce, interruption, [&](Range part) {
    for (auto i = static_cast<std::size_t>(part.begin); i < static_cast<std::size_t>(part.end); ++i) step(i);
  });
  interruption.check();
}

// n p(k), which averages 1. TensorFlow rounds the product to float32, and n itself: above 2^24 classes that would leave
// classes of weight 0 with a share.
std::vector<double> shares_of(std::span<const float> weights, WeightSums sums, Interruption& interruption) {
  constexpr std::size_t kExactInFloat32 = std::size_t{1} << 24;
  const std::size_t n = weights.size();
  double sum = 0.0;
  for_each(n, interruption, [&](std::size_t i) { sum += static_cast<double>(weights[i]); });
  const bool as_tensorflow = sums == WeightSums::kFloat32 || n <= kExactInFloat32;
  std::vector<double> shares(n);
  for_each(n, interruption, [&](std::size_t i) {
    const double product = as_tensorflow ? static_cast<double>(weights[i] * static_cast<float>(n))
                                         : static_cast<double>(weights[i]) * static_cast<double>(n);
    shares[i] = product / sum;
  });
  return shares;
}

std::int64_t reachable_classes(const std::uint32_t* alias_table, std::size_t n, Interruption& interruption) {
  std::vector<bool> reached(n, false);
  for_each(n, interruption, [&](std::size_t i) {
    const std::uint32_t threshold = alias_table[2 * i];
    if (threshold > 0) reached[i] = true;
    if (threshold < math::kAliasScale) reached[alias_table[2 * i + 1]] = true;
  });
  std::int64_t count = 0;
  for_each(n, interruption, [&](std::size_t i) { count += reached[i] ? 1 : 0; });
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
  for_each(n, interruption, [&](std::size_t i) { push(static_cast<std::uint32_t>(i)); });
  for (std::int64_t step = 0; low > 0 && high < n; ++step) {
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
  return reachable_classes(alias_table, n, interruption);
}

}  // namespace fastnce::cpu
