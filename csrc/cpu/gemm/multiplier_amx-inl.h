// The AMX micro-kernel: products of bfloat16 pairs in tile registers. Compiled once per instruction set; the rules are
// in simd-inl.h. Include after split-inl.h. The tile instructions come from <immintrin.h> or, in tests, from an
// emulator.
//
// Registers 0 to 3 hold a 32 x 32 square of C, 4 and 5 two blocks of A, 6 and 7 two of B. A multiplication takes 16
// cycles and a load 8, so the unit must never wait for operands. The products of parts are ordered so that all but the
// first need one new pair of blocks: 1/2 (one product), 1/3 (three) or 7/24 (six) of a load per multiplication, besides
// loading or storing C once per call.

class AmxMultiplier {
 public:
  // Configures the calling thread's tile registers, all 16 rows of 64 bytes.
  AmxMultiplier() {
    struct alignas(64) {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("" ::"r"(&config) : "memory");  // the compiler does not know that the next line reads it
    _tile_loadconfig(&config);
  }
  ~AmxMultiplier() { _tile_release(); }
  AmxMultiplier(const AmxMultiplier&) = delete;

  template <int kParts, Write kWrite>
  static void multiply_square(const Bf16* a, const Bf16* b, std::int64_t depth_chunks, float* c) {
    constexpr std::int64_t kRowBytes = kSquare * static_cast<std::int64_t>(sizeof(float));
    const std::int64_t next_side = depth_chunks * kParts * kBlock;
    asm volatile("" ::: "memory");  // nor that tile loads read what was packed
    if constexpr (kWrite == Write::kAdd) {
      _tile_loadd(0, c, kRowBytes);
      _tile_loadd(1, c + kSide, kRowBytes);
      _tile_loadd(2, c + kSide * kSquare, kRowBytes);
      _tile_loadd(3, c + kSide * kSquare + kSide, kRowBytes);
    } else {
      _tile_zero(0);
      _tile_zero(1);
      _tile_zero(2);
      _tile_zero(3);
    }
    for (std::int64_t k = 0; k < depth_chunks; ++k, a += kParts * kBlock, b += kParts * kBlock) {
      if constexpr (kParts == 1) {
        load_a(a, next_side);
        load_b(b, next_side);
        multiply_blocks();
      } else if constexpr (kParts == 2) {
        load_a(a + kBlock, next_side);
        load_b(b, next_side);
        multiply_blocks();
        load_a(a, next_side);
        multiply_blocks();
        load_b(b + kBlock, next_side);
        multiply_blocks();
      } else {
        load_a(a + 2 * kBlock, next_side);
        load_b(b, next_side);
        multiply_blocks();
        load_a(a + kBlock, next_side);
        multiply_blocks();
        load_b(b + kBlock, next_side);
        multiply_blocks();
        load_a(a, next_side);
        multiply_blocks();
        load_b(b + 2 * kBlock, next_side);
        multiply_blocks();
        load_b(b, next_side);
        multiply_blocks();
      }
    }
    _tile_stored(0, c, kRowBytes);
    _tile_stored(1, c + kSide, kRowBytes);
    _tile_stored(2, c + kSide * kSquare, kRowBytes);
    _tile_stored(3, c + kSide * kSquare + kSide, kRowBytes);
  }

 private:
  static constexpr std::int64_t kBlockRowBytes = 64;

  [[gnu::always_inline]] static void load_a(const Bf16* a, std::int64_t next_side) {
    _tile_loadd(4, a, kBlockRowBytes);
    _tile_loadd(5, a + next_side, kBlockRowBytes);
  }

  [[gnu::always_inline]] static void load_b(const Bf16* b, std::int64_t next_side) {
    _tile_loadd(6, b, kBlockRowBytes);
    _tile_loadd(7, b + next_side, kBlockRowBytes);
  }

  [[gnu::always_inline]] static void multiply_blocks() {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
};
