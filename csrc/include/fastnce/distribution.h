// The distributions that candidates are drawn from, and the tables that some of them need.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace fastnce {

// An index into the list of math/distribution/registry.h. 0 is log-uniform; others come from distribution_named() and
// the tables below.
enum class DistributionKind : int;

// The tables of a unigram distribution; of a UnigramTable.
struct UnigramView {
  const float* weights = nullptr;              // [V]
  const std::uint32_t* alias_table = nullptr;  // [V, 2]: Walker's alias table
  double total = 0;                            // sum of the weights: p(k) = weights[k] / total
  double exact_total = 0;                      // the same in float64, whatever the WeightSums
  std::int64_t reachable = 0;                  // classes that can be drawn
};

// The counts of a learned unigram distribution; of LearnedWeights. Without weights all are 1.
struct LearnedView {
  const std::int32_t* weights = nullptr;  // [V]
  const std::int32_t* tree = nullptr;     // sums over blocks of classes
  std::int64_t total = 0;
};

// What one draw follows. The tables are borrowed and must outlive the calls that use them.
struct Distribution {
  DistributionKind kind = {};
  std::int64_t range_max = 0;             // V: classes are drawn from [0, V)
  std::array<double, 2> parameters = {};  // the first ones are those of distribution_named()
  UnigramView unigram = {};               // of a UnigramTable
  LearnedView learned = {};               // of LearnedWeights
};

// The distribution of this name that needs no table: "log_uniform", "uniform", "learned_unigram" (all weights 1) or
// "all". Throws InvalidValue for other names, for another number of parameters than the distribution has, and for
// parameters out of range.
Distribution distribution_named(std::string_view name, std::int64_t range_max, std::span<const double> parameters = {});

// Whether it is "all": every class is a candidate, and range_max is num_sampled.
bool is_all(const Distribution& distribution);

// Unigram and learned unigram draw indices of 32 bits.
inline constexpr std::int64_t kMostTabledClasses = 0x7FFFFFFF;

// How weights come from the unigrams that a caller gives: TensorFlow's attributes of the same names.
struct UnigramOptions {
  float distortion = 1.0f;            // weight = unigram^distortion
  std::int64_t num_reserved_ids = 0;  // classes of weight 0 that come first
  std::int64_t num_shards = 1;        // only words with word % num_shards == shard become classes
  std::int64_t shard = 0;
};

// The weights of the classes [0, V), V being what the options leave of the unigrams: first the reserved ids of the
// shard, then the unigrams of the shard. As in TensorFlow the number of the first unigram, by which it falls to a
// shard, is that of the reserved ids of the shard. `name` is that of the argument, for errors. Throws InvalidValue for
// a unigram or a weight that is not a finite number of at least 0, and for options out of range.
std::vector<float> unigram_weights(std::span<const float> unigrams, std::string_view name,
                                   const UnigramOptions& options);

// The same from the text of a vocabulary file, one unigram per line: the number after the last comma. Empty lines do
// not count, and carriage returns anywhere are ignored. `name` is that of the file. Throws InvalidValue, naming file,
// line and what stands there, for a line of this shard that does not end in such a number, and if the shard has no
// line.
std::vector<float> vocabulary_weights(std::string_view text, std::string_view name, const UnigramOptions& options);

// In which precision a UnigramTable sums weights.
enum class WeightSums {
  kFloat32,  // as TensorFlow does: counts to its bits, with the error of a running float32 sum
  kFloat64,  // the same where that error is at most 2^-20; otherwise exact
};

// Weights with their alias table: O(V) to make, O(1) a draw. 16 bytes per class, twice that while it is made.
class UnigramTable {
 public:
  // Throws InvalidValue for a weight that is not a finite number of at least 0 or too large, if all are 0, and for more
  // than kMostTabledClasses weights.
  explicit UnigramTable(std::vector<float> weights, WeightSums sums = WeightSums::kFloat64);

  std::span<const float> weights() const { return weights_; }
  WeightSums sums() const { return sums_; }
  Distribution distribution() const;

 private:
  std::vector<float> weights_;
  std::vector<std::uint32_t> alias_table_;
  WeightSums sums_;
  double total_, exact_total_;
  std::int64_t reachable_;
};

// The weights of a learned unigram sampler: 1 for each class, and 1 more for each time that it was a true class.
// 4.2 bytes per class.
class LearnedWeights {
 public:
  // All 1. Throws InvalidValue unless 1 <= range_max <= kMostTabledClasses.
  explicit LearnedWeights(std::int64_t range_max);
  // Throws InvalidValue for a weight below 1, and if their sum exceeds kMostTabledClasses.
  explicit LearnedWeights(std::vector<std::int32_t> weights);

  // Adds 1 to the weight of each of `classes`, in order, until the total is kMostTabledClasses. O(log V) each. Classes
  // must lie in [0, V). Not at the same time as draws.
  void learn(std::span<const std::int64_t> classes);

  std::span<const std::int32_t> weights() const { return weights_; }
  Distribution distribution() const;

 private:
  std::vector<std::int32_t> weights_;
  std::vector<std::int32_t> tree_;
  std::int64_t total_ = 0;
};

}  // namespace fastnce
