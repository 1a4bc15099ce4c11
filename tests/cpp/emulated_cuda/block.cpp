#include "block.h"

#include <setjmp.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>

namespace fastnce::cuda::emulated {

namespace {

constexpr std::size_t kStackBytes = 128 * 1024;

struct Meeting {
  int arrived = 0;
  std::uint64_t generation = 0;
};

struct Warp : Meeting {
  void* brought[kWarpThreads] = {};
};

// Started by setcontext(), from then on left and entered by jumps: those make no system calls.
struct Fiber {
  Thread thread;
  ucontext_t start;
  jmp_buf where;
  bool started = false;
  std::unique_ptr<char[]> stack;
  bool done = false;
  const Meeting* waits_at = nullptr;
  std::uint64_t waits_in = 0;  // the generation

  bool can_run() const { return !done && (waits_at == nullptr || waits_at->generation != waits_in); }
};

class Block {
 public:
  Block(int threads, std::size_t shared_bytes) : fibers_(threads), warps_((threads + 31) / 32), order_(threads) {
    constexpr std::size_t kAlignment = 128;
    shared_.reset(static_cast<unsigned char*>(
        std::aligned_alloc(kAlignment, (shared_bytes + kAlignment) / kAlignment * kAlignment)));
    shared_bytes_ = shared_bytes;
    for (Fiber& fiber : fibers_) fiber.stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
    std::iota(order_.begin(), order_.end(), 0);
  }

  void run(const std::int64_t (&block)[2], std::int64_t grid_x, const std::function<void()>& kernel,
           std::mt19937& random) {
    std::memset(shared_.get(), 0xFF, shared_bytes_);
    kernel_ = &kernel;
    alive_ = static_cast<int>(fibers_.size());
    for (int i = 0; i < alive_; ++i) {
      Fiber& fiber = fibers_[i];
      fiber.thread = {i, alive_, {block[0], block[1]}, grid_x, shared_.get(), {{}}};
      fiber.done = false;
      fiber.started = false;
      fiber.waits_at = nullptr;
      getcontext(&fiber.start);
      fiber.start.uc_stack = {fiber.stack.get(), 0, kStackBytes};
      makecontext(&fiber.start, &Block::enter, 0);
    }
    Block* const outer = running_;
    running_ = this;
    while (alive_ > 0) {
      for (std::size_t i = order_.size(); i > 1; --i) std::swap(order_[i - 1], order_[random() % i]);
      bool progress = false;
      for (const int i : order_) {
        if (!fibers_[i].can_run()) continue;
        progress = true;
        current_ = &fibers_[i];
        go_on(*current_);
      }
      if (!progress) {
        std::fprintf(stderr, "emulated CUDA: %d threads of a block wait for each other\n", alive_);
        std::abort();
      }
    }
    running_ = outer;
  }

  static Block& running() { return *running_; }
  Fiber& current() { return *current_; }

  void sync() {
    if (++whole_.arrived == alive_) {
      open(whole_);
    } else {
      wait(whole_);
    }
  }

  void meet(void* own, const Combine& combine) {
    Warp& warp = warps_[current_->thread.index / kWarpThreads];
    warp.brought[current_->thread.index % kWarpThreads] = own;
    if (++warp.arrived == kWarpThreads) {
      combine(warp.brought);
      open(warp);
    } else {
      wait(warp);
    }
  }

 private:
  [[gnu::noinline]] void go_on(Fiber& fiber) {
    fiber.waits_at = nullptr;
    if (_setjmp(scheduler_) != 0) return;
    if (fiber.started) _longjmp(fiber.where, 1);
    fiber.started = true;
    setcontext(&fiber.start);
  }
  static void open(Meeting& meeting) {
    meeting.arrived = 0;
    ++meeting.generation;
  }
  void wait(const Meeting& meeting) {
    current_->waits_at = &meeting;
    current_->waits_in = meeting.generation;
    if (_setjmp(current_->where) == 0) _longjmp(scheduler_, 1);
  }
  static void enter() {
    Block& block = running();
    (*block.kernel_)();
    block.current_->done = true;
    if (--block.alive_ > 0 && block.whole_.arrived == block.alive_) open(block.whole_);
    _longjmp(block.scheduler_, 1);
  }

  struct Free {
    void operator()(unsigned char* memory) const { std::free(memory); }
  };

  static thread_local Block* running_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  std::vector<int> order_;
  std::unique_ptr<unsigned char, Free> shared_;
  std::size_t shared_bytes_;
  const std::function<void()>* kernel_ = nullptr;
  Meeting whole_;
  jmp_buf scheduler_;
  Fiber* current_ = nullptr;
  int alive_ = 0;
};

thread_local Block* Block::running_ = nullptr;

}  // namespace

Thread& current() { return Block::running().current().thread; }
void sync_block() { Block::running().sync(); }
void meet_warp(void* own, const Combine& combine) { Block::running().meet(own, combine); }

void run(const std::int64_t (&blocks)[2], int threads, std::size_t shared_bytes, const std::function<void()>& kernel) {
  Block block(threads, shared_bytes);
  std::mt19937 random(static_cast<unsigned>(blocks[0] * 31 + threads));
  for (std::int64_t y = 0; y < blocks[1]; ++y) {
    for (std::int64_t x = 0; x < blocks[0]; ++x) block.run({x, y}, blocks[0], kernel, random);
  }
}

}  // namespace fastnce::cuda::emulated
