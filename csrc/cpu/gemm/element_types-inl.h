// Conversion between float16 or bfloat16 in memory and float32 in registers. Compiled once per instruction set; the
// rules are in simd-inl.h.
//
// Both directions are integer arithmetic on whole vectors, the same code for every instruction set: a few operations
// per vector, hidden behind the loads.

typedef std::uint32_t UInts __attribute__((vector_size(kVectorBytes)));
typedef std::uint16_t Halves __attribute__((vector_size(kVectorBytes / 2)));

constexpr std::uint32_t kInfinityBits = 0x7f800000u;

template <DType kDType>
[[gnu::always_inline]] inline Vec<float> widened_vector(Halves halves) {
  const UInts bits = __builtin_convertvector(halves, UInts);
  if constexpr (kDType == DType::kBFloat16) {
    return __builtin_bit_cast(Vec<float>, bits << 16);
  } else {
    // A subnormal number counts multiples of 2^-24. No step is subnormal in float32: a thread may be set to take those
    // for zero.
    const UInts magnitude = (bits & 0x7fff) << 13;
    const Vec<float> subnormal = __builtin_convertvector((VecBits<float>)(bits & 0x3ff), Vec<float>) * 0x1p-24f;
    const UInts finite = magnitude < (1u << 23) ? __builtin_bit_cast(UInts, subnormal) : magnitude + (112u << 23);
    const UInts value = magnitude >= (0x7c00u << 13) ? magnitude | kInfinityBits : finite;
    return __builtin_bit_cast(Vec<float>, value | ((bits & 0x8000) << 16));
  }
}

// Rounds to nearest, ties to even.
template <DType kDType>
[[gnu::always_inline]] inline Halves narrowed_vector(Vec<float> values) {
  const UInts bits = __builtin_bit_cast(UInts, values);
  const UInts magnitude = bits & 0x7fffffffu;
  UInts rounded;
  if constexpr (kDType == DType::kBFloat16) {
    const UInts nearest = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    rounded = magnitude > kInfinityBits ? (bits >> 16) | 0x40u : nearest;
  } else {
    // Normal numbers: rebias, round away the 13 bits that go. Below 2^-14: the sum with 1/2 is rounded to a multiple of
    // 2^-24, whose count is in its low bits. From 65520 on: infinity.
    const UInts normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
    const UInts subnormal = __builtin_bit_cast(UInts, __builtin_bit_cast(Vec<float>, magnitude) + 0.5f) - 0x3f000000u;
    rounded = magnitude < (113u << 23) ? subnormal : normal;
    rounded = magnitude >= 0x477ff000u ? UInts{} + 0x7c00u : rounded;
    rounded = magnitude > kInfinityBits ? ((magnitude >> 13) & 0x3ff) | 0x7e00u : rounded;
    rounded |= (bits >> 16) & 0x8000u;
  }
  return __builtin_convertvector(rounded, Halves);
}

template <DType kDType>
void widen_as(const void* from, std::int64_t count, float* to) {
  const auto* bits = static_cast<const std::uint16_t*>(from);
  std::int64_t i = 0;
  for (; i + kLanes<float> <= count; i += kLanes<float>) {
    Halves halves;
    __builtin_memcpy(&halves, bits + i, sizeof halves);
    store(to + i, widened_vector<kDType>(halves));
  }
  Halves rest{};
  for (std::int64_t j = 0; i + j < count; ++j) rest[j] = bits[i + j];
  const Vec<float> values = widened_vector<kDType>(rest);
  for (std::int64_t j = 0; i + j < count; ++j) to[i + j] = values[j];
}

template <DType kDType>
void narrow_as(const float* from, std::int64_t count, void* to) {
  auto* bits = static_cast<std::uint16_t*>(to);
  std::int64_t i = 0;
  for (; i + kLanes<float> <= count; i += kLanes<float>) {
    const Halves halves = narrowed_vector<kDType>(load(from + i));
    __builtin_memcpy(bits + i, &halves, sizeof halves);
  }
  const Halves rest = narrowed_vector<kDType>(load_first(from + i, count - i));
  for (std::int64_t j = 0; i + j < count; ++j) bits[i + j] = rest[j];
}

template <class T>
bool is_stored_as(DType dtype) {
  return element_bytes(dtype) == static_cast<std::int64_t>(sizeof(T));
}

// Only float32 has narrower types beside it.
template <class T>
void widen(const void* from, DType dtype, std::int64_t count, T* to) {
  if constexpr (sizeof(T) == sizeof(float)) {
    (dtype == DType::kBFloat16 ? widen_as<DType::kBFloat16> : widen_as<DType::kFloat16>)(from, count, to);
  }
}

template <class T>
void narrow(const T* from, DType dtype, std::int64_t count, void* to) {
  if constexpr (sizeof(T) == sizeof(float)) {
    (dtype == DType::kBFloat16 ? narrow_as<DType::kBFloat16> : narrow_as<DType::kFloat16>)(from, count, to);
  }
}
