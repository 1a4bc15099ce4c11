// Vectors of the width of one instruction set, through GCC's vector extension: arithmetic, comparison and selection are
// the language's operators, so the kernels read as scalar code.
//
// Each file of isa_builds/ includes the -inl.h files inside its own namespace and compiles them with its own
// instruction-set flags. They must not define anything that the linker could share between those files (it might keep
// the AVX-512 copy for all): no std:: templates, no inline functions outside the namespace; only members of it and
// always-inlined functions.

template <class T>
struct SimdTypes;

template <>
struct SimdTypes<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t Bits __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(float)), may_alias));
};

template <>
struct SimdTypes<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef std::int64_t Bits __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(double)), may_alias));
};

template <class T>
using Vec = typename SimdTypes<T>::Vector;
template <class T>
using VecBits = typename SimdTypes<T>::Bits;

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
[[gnu::always_inline]] inline Vec<T> load(const T* from) {
  return *reinterpret_cast<const typename SimdTypes<T>::Unaligned*>(from);
}

template <class T>
[[gnu::always_inline]] inline void store(T* to, Vec<T> value) {
  *reinterpret_cast<typename SimdTypes<T>::Unaligned*>(to) = value;
}

// x - 0 is x for every x, signed zeros included, so that this is a plain broadcast; 0 + x would be an addition.
template <class T>
[[gnu::always_inline]] inline Vec<T> broadcast(T value) {
  return value - Vec<T>{};
}

// The first `count` < kLanes elements; the other lanes are 0.
template <class T>
[[gnu::always_inline]] inline Vec<T> load_first(const T* from, std::int64_t count) {
  T lanes[kLanes<T>] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = from[i];
  return load(lanes);
}

// The same for a `count` that is kLanes nearly always.
template <class T>
[[gnu::always_inline]] inline Vec<T> load_present(const T* from, std::int64_t count) {
  return count >= kLanes<T> ? load(from) : load_first(from, count);
}

// Adds to each lane the one whose number differs in the bit `kDistance`.
template <class T, int kDistance, int... I>
[[gnu::always_inline]] inline Vec<T> plus_swapped(Vec<T> value, std::integer_sequence<int, I...>) {
  return value + __builtin_shufflevector(value, value, (I ^ kDistance)...);
}

template <class T, int kDistance = kLanes<T> / 2>
[[gnu::always_inline]] inline T sum_of_lanes(Vec<T> value) {
  if constexpr (kDistance == 0) {
    return value[0];
  } else {
    using Lanes = std::make_integer_sequence<int, kLanes<T>>;
    return sum_of_lanes<T, kDistance / 2>(plus_swapped<T, kDistance>(value, Lanes{}));
  }
}

// All ones in the lanes [0, count), zeros in the others.
template <class T>
[[gnu::always_inline]] inline VecBits<T> first_lanes(std::int64_t count) {
  VecBits<T> lane;
  for (int i = 0; i < kLanes<T>; ++i) lane[i] = i;
  return lane < (VecBits<T>{} + static_cast<decltype(lane[0] + 0)>(count));
}

// Interleaves the low (High = false) or high halves of a and b: a0 b0 a1 b1 ...
template <class T, bool High, int... I>
[[gnu::always_inline]] inline Vec<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, I...>) {
  constexpr int kStart = High ? kLanes<T> / 2 : 0;
  return __builtin_shufflevector(a, b, (kStart + I / 2 + (I % 2 ? kLanes<T> : 0))...);
}

// Transposes a kLanes x kLanes block in place: interleaving row i with row i + kLanes/2 is a perfect shuffle of the
// elements, and log2(kLanes) of them transpose.
template <class T>
[[gnu::always_inline]] inline void transpose(Vec<T> (&rows)[kLanes<T>]) {
  constexpr int kHalf = kLanes<T> / 2;
  using Lanes = std::make_integer_sequence<int, kLanes<T>>;
#pragma GCC unroll 4
  for (int stage = 1; stage < kLanes<T>; stage *= 2) {
    Vec<T> shuffled[kLanes<T>];
#pragma GCC unroll 8
    for (int i = 0; i < kHalf; ++i) {
      shuffled[2 * i] = interleave<T, false>(rows[i], rows[i + kHalf], Lanes{});
      shuffled[2 * i + 1] = interleave<T, true>(rows[i], rows[i + kHalf], Lanes{});
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) rows[i] = shuffled[i];
  }
}

// The sum over the lanes of each of kLanes vectors, that of vector i in lane i: three operations for each, where one by
// one it takes two for each doubling of the lanes. Interleaving as in transpose(), and adding the two halves.
template <class T>
[[gnu::always_inline]] inline Vec<T> sums_of_rows(Vec<T> (&rows)[kLanes<T>]) {
  using Lanes = std::make_integer_sequence<int, kLanes<T>>;
#pragma GCC unroll 4
  for (int half = kLanes<T> / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) {
      rows[i] = interleave<T, false>(rows[i], rows[i + half], Lanes{}) +
                interleave<T, true>(rows[i], rows[i + half], Lanes{});
    }
  }
  return rows[0];
}
