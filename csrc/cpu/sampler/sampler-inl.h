// The inner loops of sampling. Compiled once per instruction set; the rules are in simd-inl.h.

// Every rounding is explicit (math/exp.h), so all instruction sets draw the same ids.
void log_uniform_draws(std::uint64_t key, math::PhiloxCounter start, std::uint64_t first, std::int64_t count,
                       double log_range, std::int64_t range_max, std::int64_t* ids) {
  for (std::int64_t i = 0; i < count;) {
    const std::uint64_t draw = first + static_cast<std::uint64_t>(i);
    const math::PhiloxBlock block = math::philox4x32(key, math::advanced(start, draw / 2));
    for (int half = static_cast<int>(draw % 2); half < 2 && i < count; ++half, ++i) {
      const std::uint32_t* const words = half == 0 ? block.word : block.word + 2;
      ids[i] = math::log_uniform_id(math::uniform_double(words[0], words[1]), log_range, range_max);
    }
  }
}

typedef float HalfOfFloats __attribute__((vector_size(kVectorBytes / 2)));

// Counts are rounded once, from float64: instruction sets differ where that decides.
void log_uniform_counts(const std::int64_t* ids, std::int64_t count, double log_range, std::int64_t num_sampled,
                        std::int64_t tries, float* counts) {
  constexpr std::int64_t kStep = kLanes<double>;
  for (std::int64_t i = 0; i < count; i += kStep) {
    const bool whole = count - i >= kStep;
    VecBits<double> id{};
    if (whole) {
      __builtin_memcpy(&id, ids + i, sizeof id);
    } else {
      for (std::int64_t j = 0; i + j < count; ++j) id[j] = ids[i + j];
    }
    const Vec<double> probability = math::log_uniform_probability(__builtin_convertvector(id, Vec<double>), log_range);
    const Vec<double> expected = math::expected_count<Vec<double>, VecBits<double>>(probability, num_sampled, tries);
    const auto rounded = __builtin_convertvector(expected, HalfOfFloats);
    if (whole) {
      __builtin_memcpy(counts + i, &rounded, sizeof rounded);
    } else {
      for (std::int64_t j = 0; i + j < count; ++j) counts[i + j] = rounded[j];
    }
  }
}

void expected_counts(const float* probabilities, std::int64_t count, double left, std::int64_t num_sampled,
                     std::int64_t tries, float* counts) {
  constexpr std::int64_t kStep = kLanes<double>;
  constexpr double kMostInVectors = 0.75;  // where their logarithm ends
  const auto rare = static_cast<float>(kMostInVectors * 0.999 * left);
  bool any_rare = false;
  for (std::int64_t i = 0; i < count; ++i) any_rare |= probabilities[i] > rare;
  for (std::int64_t i = 0; i < count; i += kStep) {
    const std::int64_t size = count - i < kStep ? count - i : kStep;
    HalfOfFloats narrow{};
    if (size == kStep) {
      __builtin_memcpy(&narrow, probabilities + i, sizeof narrow);
    } else {
      for (std::int64_t j = 0; j < size; ++j) narrow[j] = probabilities[i + j];
    }
    Vec<double> p = __builtin_convertvector(narrow, Vec<double>);
    // `left`, a sum of rounded numbers, may be 0 or less where next to nothing is left.
    if (left != 1.0) p = p < left ? math::rounded_to_float32(p / left) : 1.0 + (p - p);
    const Vec<double> expected = math::expected_count<Vec<double>, VecBits<double>>(p, num_sampled, tries);
    auto rounded = __builtin_convertvector(expected, HalfOfFloats);
    for (std::int64_t j = 0; any_rare && j < kStep; ++j) {
      if (p[j] <= kMostInVectors) continue;
      rounded[j] = static_cast<float>(math::expected_count_of_any(p[j], num_sampled, tries));
    }
    if (size == kStep) {
      __builtin_memcpy(counts + i, &rounded, sizeof rounded);
    } else {
      for (std::int64_t j = 0; j < size; ++j) counts[i + j] = rounded[j];
    }
  }
}
