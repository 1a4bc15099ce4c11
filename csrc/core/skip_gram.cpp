// Skip-gram: checks, and what follows from the counts of the words.
#include "fastnce/skip_gram.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/skip_gram/skip_gram.h"
#include "fastnce/error.h"

namespace fastnce {

namespace {

constexpr std::int64_t kMostPositions = 64;
constexpr std::int64_t kSamplesAtOnce = 32, kNegativesAtOnce = 5, kMostSamples = 128;
constexpr double kRounding = 1e-9;
constexpr double kMostWeight = 3.0;     // above 8, training always diverged; up to 2.9 never
constexpr double kMostOwnWeight = 1.0;  // of a word that repeats, on its own row: at 1.5, lists of words diverged

void require_between(std::int64_t least, std::int64_t most, const char* name, std::int64_t value) {
  if (value < least || value > most) {
    throw InvalidValue(concat(name, " = ", value, ": expected ", least, " to ", most));
  }
}

void require_number(const char* name, double value) {
  if (!std::isfinite(value) || value < 0.0) {
    throw InvalidValue(concat(name, " = ", value, ": expected a finite number of at least 0"));
  }
}

SkipGramOptions checked(const SkipGramOptions& options) {
  require_between(1, 1024, "window", options.window);
  require_between(1, 1024, "negative", options.negative);
  require_number("sample", options.sample);
  if (!std::isfinite(options.ns_exponent)) {
    throw InvalidValue(concat("ns_exponent = ", options.ns_exponent, ": expected a finite number"));
  }
  return options;
}

UnigramTable negatives_of(std::span<const std::int64_t> counts, double exponent) {
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] < 1) throw InvalidValue(concat("counts[", i, "] = ", counts[i], ": expected at least 1"));
  }
  const std::vector<float> unigrams(counts.begin(), counts.end());
  return UnigramTable(unigram_weights(unigrams, "counts", {.distortion = static_cast<float>(exponent)}));
}

double keep_probability(double frequency, double sample) {
  return sample == 0.0 ? 1.0 : std::min(1.0, std::sqrt(sample / frequency) + sample / frequency);
}

}  // namespace

SkipGram::SkipGram(const SkipGramOptions& options, std::span<const std::int64_t> counts)
    : options_(checked(options)), unigram_(negatives_of(counts, options.ns_exponent)) {
  const std::int64_t k = options.negative;
  samples_ = std::min((k + kNegativesAtOnce - 1) / kNegativesAtOnce * kSamplesAtOnce, kMostSamples);
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  const double weights = unigram_.distribution().unigram.exact_total;
  const bool softmax = options.loss == SkipGramLoss::kSampledSoftmax;
  const auto drawn = static_cast<double>(softmax ? samples_ : k);
  double kept = 0.0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    const double frequency = static_cast<double>(counts[i]) / total;
    const double p = keep_probability(frequency, options.sample);
    kept += frequency * p;
    commonest_kept_ = std::max(commonest_kept_, frequency * p);
    const double q = static_cast<double>(unigram_.weights()[i]) / weights;
    commonest_negative_ = std::max(commonest_negative_, q);
    const double expected = drawn * q;
    // NCE scores p(c | x) = exp(x . c) / V: normalised where training begins, at 0.
    const double noise = options.loss == SkipGramLoss::kNce ? expected * static_cast<double>(counts.size()) : expected;
    const double term = options.loss == SkipGramLoss::kNegativeSampling ? noise : std::log(noise);
    words_.push_back({static_cast<std::uint32_t>(std::ceil(p * 0x1p32) - 1.0), static_cast<float>(term)});
  }
  commonest_kept_ /= kept;
}

std::int64_t SkipGram::block_positions(double rate) const {
  require_number("rate", rate);
  const double pairs = static_cast<double>(options_.window + 1);  // of a position, on average
  // What a pair weighs on the negative that gets most: of a softmax, which is larger the rarer the negative, maybe all.
  const double share = std::max(1.0 / static_cast<double>(samples_), commonest_negative_);
  const bool softmax = options_.loss == SkipGramLoss::kSampledSoftmax;
  const double negative = softmax ? 1.0 : static_cast<double>(options_.negative) * share;
  const double weight = rate * pairs * std::max(negative, commonest_kept_);  // of a position
  if (weight * static_cast<double>(kMostPositions) <= kMostWeight + kRounding) return kMostPositions;
  return std::max(static_cast<std::int64_t>(kMostWeight / weight + kRounding), std::int64_t{1});
}

std::int64_t SkipGram::block_repeats(double rate) const {
  require_number("rate", rate);
  const double weight = rate * static_cast<double>(options_.window + 1);
  if (weight * static_cast<double>(kMostPositions) <= kMostOwnWeight) return kMostPositions;
  return std::max(static_cast<std::int64_t>(kMostOwnWeight / weight + kRounding), std::int64_t{1});
}

SkipGramProgress SkipGram::train(const EmbeddingTable& vectors, const EmbeddingTable& outputs, std::int64_t dim,
                                 const SkipGramText& text, std::int64_t threads) const {
  require_between(1, 1 << 16, "dim", dim);
  require_between(1, 4096, "threads", threads);
  require_number("rates[0]", text.first_rate);
  require_number("rates[1]", text.last_rate);
  const std::int64_t words = num_words();
  // Without branches: a vector at a time.
  bool in_range = true;
  for (const std::int32_t id : text.ids) in_range &= id >= -1 && id < words;
  if (!in_range) {
    const auto bad = std::ranges::find_if(text.ids, [&](std::int32_t id) { return id < -1 || id >= words; });
    throw InvalidValue(concat("ids[", bad - text.ids.begin(), "] = ", *bad, ": expected a word in [0, ", words,
                              "), or -1 at the end of a paragraph"));
  }
  return cpu::train_skip_gram({.vectors = vectors,
                               .outputs = outputs,
                               .dim = dim,
                               .options = &options_,
                               .samples = samples_,
                               .positions = block_positions(std::max(text.first_rate, text.last_rate)),
                               .repeats = block_repeats(std::max(text.first_rate, text.last_rate)),
                               .num_words = words,
                               .words = words_.data(),
                               .negatives = unigram_.distribution(),
                               .text = text,
                               .threads = static_cast<int>(threads)});
}

}  // namespace fastnce
