// Distributions by name, and the tables of those that need one.
#include "fastnce/distribution.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include "cpu/runtime/interrupt.h"
#include "cpu/sampler/sampler.h"
#include "fastnce/error.h"
#include "math/compensated_sum.h"
#include "math/distribution/parameter.h"
#include "math/distribution/registry.h"

namespace fastnce {

namespace {

struct Row {
  const char* name;
  DistributionKind kind;
  std::span<const math::Parameter> parameters;
};

template <class D>
constexpr Row row_of() {
  Row row{D::kName, math::kind_of<D>(), {}};
  if constexpr (requires { D::kParameters; }) row.parameters = D::kParameters;
  return row;
}

// All distributions.
constexpr auto kRows = []<class... D>(std::type_identity<std::tuple<D...>>) {
  static_assert(((row_of<D>().parameters.size() <= std::tuple_size_v<decltype(Distribution::parameters)>) && ...));
  return std::array{row_of<D>()...};
}(std::type_identity<math::Distributions>{});

void require_parameters(const Row& row, std::span<const double> given) {
  if (given.size() != row.parameters.size()) {
    std::string names;
    for (const math::Parameter& parameter : row.parameters) names += concat(names.empty() ? "" : ", ", parameter.name);
    throw InvalidValue(concat("distribution = '", row.name, "': got ", given.size(), " parameters, expected ",
                              row.parameters.size(), names.empty() ? "" : ": ", names));
  }
  for (std::size_t i = 0; i < given.size(); ++i) {
    const math::Parameter& parameter = row.parameters[i];
    if (given[i] > parameter.above && std::isfinite(given[i])) continue;
    throw InvalidValue(concat(parameter.name, " = ", given[i], ": expected a finite number above ", parameter.above));
  }
}

void require_table_size(std::uint64_t classes, const char* what) {
  if (classes >= 1 && classes <= static_cast<std::uint64_t>(kMostTabledClasses)) return;
  throw InvalidValue(concat(what, " of ", classes, " classes: expected 1 to ", kMostTabledClasses));
}

// Between two polls for an interrupt.
constexpr std::int64_t kClassesAtOnce = std::int64_t{1} << 20;

// Calls step(k) for all classes.
template <class Step>
void for_each_class(std::int64_t classes, const Step& step) {
  cpu::Interruption interruption;
  cpu::in_parts({0, classes}, kClassesAtOnce, interruption, [&](cpu::Range part) {
    for (auto k = static_cast<std::size_t>(part.begin); k < static_cast<std::size_t>(part.end); ++k) step(k);
  });
  interruption.check();
}

void require_weights(std::span<const float> weights) {
  const auto classes = static_cast<float>(weights.size());
  for_each_class(std::ssize(weights), [&](std::size_t i) {
    if (!(weights[i] >= 0.0f) || std::isinf(weights[i])) {
      throw InvalidValue(concat("weights[", i, "] = ", weights[i], ": expected a finite number of at least 0"));
    }
    if (std::isinf(weights[i] * classes)) {
      throw InvalidValue(concat("weights[", i, "] = ", weights[i], " is too large for ", weights.size(),
                                " classes: expected at most ", std::numeric_limits<float>::max() / classes));
    }
  });
  if (std::ranges::all_of(weights, [](float weight) { return weight == 0.0f; })) {
    throw InvalidValue(concat("weights: all ", weights.size(), " are 0: expected at least one above 0"));
  }
}

double exact_total_of(std::span<const float> weights) {
  math::CompensatedSum sum;
  for_each_class(std::ssize(weights), [&](std::size_t k) { sum.add(static_cast<double>(weights[k])); });
  return sum.total();
}

// TensorFlow's running float32 sum is taken also for float64 sums where it is as good as theirs: within 2^-20, 16 units
// in the last place of a count. So counts have its bits for tables of some hundred classes.
double total_of(std::span<const float> weights, WeightSums sums, double wide) {
  constexpr double kExactEnough = 0x1p-20;
  float narrow = 0.0f;
  for_each_class(std::ssize(weights), [&](std::size_t k) { narrow += weights[k]; });
  const bool exact_enough = std::abs(static_cast<double>(narrow) - wide) <= kExactEnough * wide;
  if (sums == WeightSums::kFloat64 && !exact_enough) return wide;
  if (std::isinf(narrow)) {
    throw InvalidValue(concat("weights add up to ", wide, ": expected at most ", std::numeric_limits<float>::max()));
  }
  return static_cast<double>(narrow);
}

}  // namespace

Distribution distribution_named(std::string_view name, std::int64_t range_max, std::span<const double> parameters) {
  std::string known;
  for (const Row& row : kRows) {
    if (row.name == nullptr) continue;
    if (name == row.name) {
      require_parameters(row, parameters);
      Distribution distribution{.kind = row.kind, .range_max = range_max};
      std::ranges::copy(parameters, distribution.parameters.begin());
      return distribution;
    }
    known += concat(known.empty() ? "'" : ", '", row.name, "'");
  }
  throw InvalidValue(concat("distribution = '", name, "': expected one of ", known));
}

bool is_all(const Distribution& distribution) { return distribution.kind == math::kind_of<math::All>(); }

UnigramTable::UnigramTable(std::vector<float> weights, WeightSums sums) : weights_(std::move(weights)), sums_(sums) {
  require_table_size(weights_.size(), "a table");
  require_weights(weights_);
  exact_total_ = exact_total_of(weights_);
  total_ = total_of(weights_, sums, exact_total_);
  alias_table_.resize(2 * weights_.size());
  reachable_ = cpu::build_alias_table(weights_, sums, alias_table_.data());
}

Distribution UnigramTable::distribution() const {
  return {.kind = math::kind_of<math::Unigram>(),
          .range_max = std::ssize(weights_),
          .unigram = {.weights = weights_.data(),
                      .alias_table = alias_table_.data(),
                      .total = total_,
                      .exact_total = exact_total_,
                      .reachable = reachable_}};
}

LearnedWeights::LearnedWeights(std::int64_t range_max) {
  if (range_max < 1 || range_max > kMostTabledClasses) {
    throw InvalidValue(
        concat("range_max = ", range_max, ": expected 1 to ", kMostTabledClasses, " for learned_unigram"));
  }
  *this = LearnedWeights(std::vector<std::int32_t>(static_cast<std::size_t>(range_max), 1));
}

LearnedWeights::LearnedWeights(std::vector<std::int32_t> weights) : weights_(std::move(weights)) {
  require_table_size(weights_.size(), "weights");
  const std::int64_t blocks = math::learned_blocks(std::ssize(weights_));
  tree_.assign(static_cast<std::size_t>(blocks + 1), 0);
  for_each_class(std::ssize(weights_), [&](std::size_t k) {
    if (weights_[k] < 1) throw InvalidValue(concat("weights[", k, "] = ", weights_[k], ": expected at least 1"));
    total_ += weights_[k];
    if (total_ > kMostTabledClasses) {
      throw InvalidValue(concat("weights add up to more than ", kMostTabledClasses, " at weights[", k, "]"));
    }
    tree_[1 + k / math::kLearnedBlock] += weights_[k];
  });
  // Each node passes what it holds on to the next larger one that covers it.
  for (std::int64_t node = 1; node <= blocks; ++node) {
    const std::int64_t parent = node + (node & -node);
    if (parent <= blocks) tree_[parent] += tree_[node];
  }
}

void LearnedWeights::learn(std::span<const std::int64_t> classes) {
  const std::int64_t blocks = std::ssize(tree_) - 1;
  for (const std::int64_t k : classes) {
    if (total_ == kMostTabledClasses) return;
    ++total_;
    ++weights_[k];
    for (std::int64_t node = 1 + k / math::kLearnedBlock; node <= blocks; node += node & -node) ++tree_[node];
  }
}

Distribution LearnedWeights::distribution() const {
  return {.kind = math::kind_of<math::LearnedUnigram>(),
          .range_max = std::ssize(weights_),
          .learned = {.weights = weights_.data(), .tree = tree_.data(), .total = total_}};
}

}  // namespace fastnce
