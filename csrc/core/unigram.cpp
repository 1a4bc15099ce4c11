// Unigrams become weights of classes, from a list or from the text of a vocabulary file.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "cpu/runtime/interrupt.h"
#include "fastnce/distribution.h"
#include "fastnce/error.h"

namespace fastnce {

namespace {

// Between two polls for an interrupt: a word takes 100 ns.
constexpr std::int64_t kWordsAtOnce = std::int64_t{1} << 16;

// Goes through words in order and keeps the weights of those that belong to the shard.
class WeightList {
 public:
  explicit WeightList(const UnigramOptions& options) : options_(options) {
    if (options.num_shards < 1)
      throw InvalidValue(concat("num_shards = ", options.num_shards, ": expected at least 1"));
    if (options.shard < 0 || options.shard >= options.num_shards) {
      throw InvalidValue(concat("shard = ", options.shard, " is outside [0, num_shards = ", options.num_shards, ")"));
    }
    if (!std::isfinite(options.distortion)) {
      throw InvalidValue(concat("distortion = ", options.distortion, ": expected a finite number"));
    }
    if (options.num_reserved_ids < 0 || options.num_reserved_ids > kMostTabledClasses) {
      throw InvalidValue(
          concat("num_reserved_ids = ", options.num_reserved_ids, ": expected 0 to ", kMostTabledClasses));
    }
    const std::int64_t first = options.shard;
    const std::int64_t reserved =
        options.num_reserved_ids > first ? (options.num_reserved_ids - first - 1) / options.num_shards + 1 : 0;
    weights_.assign(static_cast<std::size_t>(reserved), 0.0f);
    word_ = reserved;  // TensorFlow's number, not num_reserved_ids
  }

  // Whether the next word is one of the shard; counts it.
  bool take() {
    if (word_ % kWordsAtOnce == 0) interruption_.check();
    return word_++ % options_.num_shards == options_.shard;
  }

  // Throws for what is no weight; `where` says where it stands.
  template <class Where>
  void add(float unigram, const Where& where) {
    if (!(unigram >= 0.0f) || std::isinf(unigram)) {
      throw InvalidValue(concat(where(), " = ", unigram, ": expected a finite number of at least 0"));
    }
    const float weight = std::pow(unigram, options_.distortion);
    if (!std::isfinite(weight)) {
      throw InvalidValue(concat(where(), " = ", unigram, " to the power of distortion = ", options_.distortion, " is ",
                                weight, ": expected a finite number"));
    }
    weights_.push_back(weight);
    any_ = true;
  }

  // Whether a word was added.
  bool any() const { return any_; }

  std::vector<float> finished() { return std::move(weights_); }

 private:
  const UnigramOptions& options_;
  std::vector<float> weights_;
  std::int64_t word_;
  bool any_ = false;
  cpu::Interruption interruption_;
};

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\n\v\f\r";
  const std::size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

// Reads all of `text` as a number, in the notation of C without hexadecimal fractions; false if it is none.
bool read_number(std::string_view text, float& value, std::errc& error) {
  auto format = std::chars_format::general;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    text.remove_prefix(2);
    if (text.find_first_not_of("0123456789abcdefABCDEF") != std::string_view::npos) return false;
    format = std::chars_format::hex;
  }
  const std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), value, format);
  error = result.ec;
  return result.ec != std::errc::invalid_argument && result.ptr == text.data() + text.size();
}

// What a number beyond the range of float is rounded to: 0 or infinity, by the power of ten of its first digit.
float beyond_range(std::string_view text) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float sign = text.starts_with('-') ? -1.0f : 1.0f;
  if (text.starts_with("0x") || text.starts_with("0X")) return kInfinity;  // a whole number
  const std::size_t e = text.find_first_of("eE");
  const std::string_view digits = text.substr(0, e);
  const auto point = static_cast<std::int64_t>(std::min(digits.find('.'), digits.size()));
  std::int64_t power = point - static_cast<std::int64_t>(digits.find_first_of("123456789"));
  if (e != std::string_view::npos) {
    std::string_view exponent = text.substr(e + 1);
    if (exponent.starts_with('+')) exponent.remove_prefix(1);
    constexpr std::int64_t kLarge = std::int64_t{1} << 62;
    std::int64_t value = exponent.starts_with('-') ? -kLarge : kLarge;
    std::from_chars(exponent.data(), exponent.data() + exponent.size(), value);  // stays if too large
    power += std::clamp(value, -kLarge, kLarge);
  }
  return sign * (power > 0 ? kInfinity : 0.0f);
}

// The unigram that a line holds, rounded once: the number after its last comma.
bool parse_unigram(std::string_view line, float& unigram) {
  std::string_view text = trimmed(line.substr(line.find_last_of(',') + 1));
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return false;
  }
  std::errc error{};
  if (!read_number(text, unigram, error)) return false;
  if (error == std::errc::result_out_of_range) unigram = beyond_range(text);
  return true;
}

// What a line says, for errors: its beginning, in ASCII.
std::string quoted(std::string_view line) {
  constexpr std::size_t kShown = 60;
  std::string text = "'";
  for (const char c : line.substr(0, kShown)) {
    if (c >= ' ' && c <= '~') {
      text += c;
    } else {
      constexpr char kDigits[] = "0123456789abcdef";
      const auto byte = static_cast<unsigned char>(c);
      text += {'\\', 'x', kDigits[byte / 16], kDigits[byte % 16]};
    }
  }
  return text + (line.size() > kShown ? "...'" : "'");
}

}  // namespace

std::vector<float> unigram_weights(std::span<const float> unigrams, std::string_view name,
                                   const UnigramOptions& options) {
  WeightList list(options);
  for (std::size_t i = 0; i < unigrams.size(); ++i) {
    if (list.take()) list.add(unigrams[i], [&] { return concat(name, "[", i, "]"); });
  }
  return list.finished();
}

std::vector<float> vocabulary_weights(std::string_view text, std::string_view name, const UnigramOptions& options) {
  WeightList list(options);
  std::string line;
  for (std::int64_t number = 1; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    line.assign(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    std::erase(line, '\r');
    if (line.empty() || !list.take()) continue;
    float unigram = 0.0f;
    const auto where = [&] { return concat(name, ", line ", number, ", ", quoted(line)); };
    if (!parse_unigram(line, unigram)) {
      throw InvalidValue(concat(where(), ": expected a number after the last comma"));
    }
    list.add(unigram, where);
  }
  if (!list.any()) {
    const std::string of_shard = options.num_shards > 1 ? concat(" of shard ", options.shard) : "";
    throw InvalidValue(concat(name, " has no words", of_shard, ": expected a number on at least one line"));
  }
  return list.finished();
}

}  // namespace fastnce
