#include "warp.h"

#include <bit>
#include <cstring>

#include "fastnce/error.h"
#include "memory.h"
#include "mutation.h"
#include "shared_memory.h"

namespace fastnce::cuda::emulated {

namespace {

// Of a mutation. Sums over 2, 4, 8 or 16 lanes would not notice every other lane; this one belongs to another sum.
int other_lane(int lane) { return (lane + 5) % kWarpThreads; }

int own_lane() { return running.thread->index % kWarpThreads; }

struct Exchanged {
  void* value;
  int bytes;
  int from;
};

struct Loaded {
  const unsigned char* row;
  std::uint32_t* matrix;
  bool transposed;
  int lane;  // whose part it gets
};

struct Product {
  float* c;
  const std::uint32_t* a;
  std::uint32_t b[2];
  Format format;
  int lane;  // whose part of A it gives
};

float as_float(std::uint16_t bits, Format format) {
  return format == Format::kFloat16 ? static_cast<float>(std::bit_cast<_Float16>(bits))
                                    : std::bit_cast<float>(std::uint32_t{bits} << 16);
}

void multiply(void* const (&all)[kWarpThreads]) {
  float a[16][16], b[16][8], c[16][8];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const Product& own = *static_cast<Product*>(all[lane]);
    const std::uint32_t* const from_a = static_cast<Product*>(all[own.lane])->a;
    const int g = lane / 4;
    const int t = 2 * (lane % 4);
    for (int half = 0; half < 2; ++half) {
      const auto part = [&](std::uint32_t pair) {
        return as_float(static_cast<std::uint16_t>(half == 0 ? pair : pair >> 16), own.format);
      };
      a[g][t + half] = part(from_a[0]);
      a[g + 8][t + half] = part(from_a[1]);
      a[g][t + 8 + half] = part(from_a[2]);
      a[g + 8][t + 8 + half] = part(from_a[3]);
      b[t + half][g] = part(own.b[0]);
      b[t + 8 + half][g] = part(own.b[1]);
      c[g][t + half] = own.c[half];
      c[g + 8][t + half] = own.c[2 + half];
    }
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) c[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    float* const to = static_cast<Product*>(all[lane])->c;
    for (int e = 0; e < 4; ++e) to[e] = c[lane / 4 + 8 * (e / 2)][2 * (lane % 4) + e % 2];
  }
}

void distribute(void* const (&all)[kWarpThreads]) {
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const Loaded& own = *static_cast<Loaded*>(all[lane]);
    for (int index = 0; index < 4; ++index) {
      const auto element = [&](int r, int c) {
        std::uint16_t value;
        std::memcpy(&value, static_cast<Loaded*>(all[8 * index + r])->row + 2 * c, sizeof value);
        return std::uint32_t{value};
      };
      const int line = own.lane / 4;
      const int pair = 2 * (own.lane % 4);
      own.matrix[index] = own.transposed ? element(pair, line) | element(pair + 1, line) << 16
                                         : element(line, pair) | element(line, pair + 1) << 16;
    }
  }
}

}  // namespace

void exchange(void* value, int bytes, int from, const Site& site) {
  if (is_mutated(Mutation::kWrongLane, site)) from = other_lane(from);
  if (from < 0 || from >= kWarpThreads) fail(concat("a shuffle from lane ", from));
  Exchanged own{value, bytes, from};
  const auto combine = [](void* const(&all)[kWarpThreads]) {
    std::uint64_t values[kWarpThreads];
    for (int lane = 0; lane < kWarpThreads; ++lane) {
      const Exchanged& one = *static_cast<Exchanged*>(all[lane]);
      std::memcpy(&values[lane], one.value, static_cast<std::size_t>(one.bytes));
    }
    for (void* const lane : all) {
      const Exchanged& one = *static_cast<Exchanged*>(lane);
      std::memcpy(one.value, &values[one.from], static_cast<std::size_t>(one.bytes));
    }
  };
  meet_warp(&own, combine, site);
}

void load_matrices(std::uint32_t (&matrix)[4], std::uint32_t row, bool transposed, const Site& site) {
  if (is_mutated(Mutation::kNextStage, site) && stage_bytes() > 0) {
    row = static_cast<std::uint32_t>((row + stage_bytes()) % running.shared_bytes);
  }
  require_aligned(running.shared + row, 16);
  access_shared(row, 16, Access::kRead);
  const int lane = is_mutated(Mutation::kWrongLane, site) ? other_lane(own_lane()) : own_lane();
  Loaded own{running.shared + row, matrix, transposed, lane};
  meet_warp(&own, distribute, site);
}

void multiply_add(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, Format format,
                  const Site& site) {
  const int lane = is_mutated(Mutation::kWrongLane, site) ? other_lane(own_lane()) : own_lane();
  Product own{c, a, {b0, b1}, format, lane};
  meet_warp(&own, multiply, site);
}

}  // namespace fastnce::cuda::emulated
