#undef _FORTIFY_SOURCE  // its longjmp() takes leaving a coroutine for an error
#include "block.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "fastnce/error.h"
#include "mutation.h"
#include "shared_memory.h"

namespace fastnce::cuda::emulated {

constinit thread_local Running running;

namespace {

constexpr std::size_t kStackBytes = 128 * 1024;

constexpr std::int64_t kMostAlongX = (std::int64_t{1} << 31) - 1, kMostAlongY = 65'535;

std::uint64_t seed_from_environment() {
  const char* const text = std::getenv("FASTNCE_EMULATED_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

std::uint64_t mixed(std::uint64_t word) {
  word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9u;
  word = (word ^ word >> 27) * 0x94D049BB133111EBu;
  return word ^ word >> 31;
}

// Visits 0 .. count - 1 in a random order: every `step`th, where step and count have no common divisor.
class RandomOrder {
 public:
  explicit RandomOrder(std::uint64_t count) : count_(count), at_(random_number() % count), step_(1) {
    if (count < 3) return;
    do step_ = 1 + random_number() % (count - 1);
    while (std::gcd(step_, count) != 1);
  }
  std::uint64_t next() { return at_ = (at_ + step_) % count_; }

 private:
  std::uint64_t count_, at_, step_;
};

// Where threads wait for each other.
struct Meeting {
  int arrived = 0;
  std::uint64_t generation = 0;
  Site site;  // where the first came from

  bool same_site(const Site& other) const {
    return site.line() == other.line() && site.column() == other.column() &&
           (site.file_name() == other.file_name() || std::strcmp(site.file_name(), other.file_name()) == 0);
  }
};

struct Warp : Meeting {
  void* brought[kWarpThreads] = {};
};

// Started by setcontext(), from then on left and entered by jumps, which make no system calls.
struct Fiber {
  Thread thread;
  ucontext_t start;
  jmp_buf where;
  bool started = false;
  bool done = true;
  const Meeting* waits_at = nullptr;
  std::uint64_t waits_in = 0;  // the generation

  bool can_run() const { return !done && (waits_at == nullptr || waits_at->generation != waits_in); }
};

class Multiprocessor {
 public:
  Multiprocessor() : fibers_(kMostThreads), brought_(kMostThreads) {
    void* const memory = mmap(nullptr, kMostThreads * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    stacks_ = static_cast<char*>(memory);
    shared_.reset(static_cast<unsigned char*>(std::aligned_alloc(128, (kMostShared + 127) / 128 * 128)));
  }

  std::int64_t run(const char* name, const std::int64_t (&blocks)[2], int threads, std::size_t shared_bytes,
                   void (*kernel)(const void*), const void* context) {
    name_ = name;
    kernel_ = kernel;
    context_ = context;
    threads_ = threads;
    random_ = mixed(seed_ + mixed(++launches_));
    running.shared = shared_.get();
    running.shared_bytes = shared_bytes;
    running.stacks = stacks_;
    running.stack_bytes = kMostThreads * kStackBytes;
    const std::int64_t count = blocks[0] * blocks[1];
    if (count == 0) return 0;
    const auto limited = most_blocks_.find(name);
    const std::int64_t wanted = limited == most_blocks_.end() ? count : std::min(count, limited->second);
    RandomOrder order(static_cast<std::uint64_t>(count));
    for (std::int64_t i = 0; i < wanted; ++i) {
      const auto block = static_cast<std::int64_t>(order.next());
      run_block({block % blocks[0], block / blocks[0]}, blocks[0]);
    }
    return wanted;
  }

  void run_at_most(const std::string& name, std::int64_t blocks) { most_blocks_[name] = blocks; }

  void sync(const Site& site) {
    arrive(whole_, site, "barrier");
    if (whole_.arrived == alive_) return open_barrier();
    wait(whole_);
  }

  void meet(void* own, Combine combine, bool orders_memory, const Site& site) {
    const int index = running.thread->index;
    Warp& warp = warps_[index / kWarpThreads];
    arrive(warp, site, "operation of the warp");
    warp.brought[index % kWarpThreads] = own;
    if (warp.arrived < kWarpThreads) return wait(warp);
    if (combine != nullptr) combine(warp.brought);
    if (orders_memory) ++running.warp_syncs[index / kWarpThreads];
    open(warp);
  }

  void meet_all(void* own, CombineBlock combine, const Site& site) {
    arrive(whole_, site, "operation of the block");
    brought_[static_cast<std::size_t>(running.thread->index)] = own;
    if (whole_.arrived < alive_) return wait(whole_);
    if (alive_ != threads_) fail("an operation of the whole block after some of its threads have ended");
    running.interval = ++intervals_;  // combine() comes after all accesses, and before those that follow
    combine(brought_.data(), threads_);
    open_barrier();
  }

  [[noreturn]] void fail(const std::string& what) {
    const Thread& thread = *running.thread;
    failure_ = concat("emulated CUDA, seed ", seed_, ": ", name_, ", block (", thread.block[0], ", ", thread.block[1],
                      "), thread ", thread.index, ": ", what);
    _longjmp(scheduler_, 1);
  }

  std::uint32_t random_number() {  // xorshift64*
    random_ ^= random_ >> 12;
    random_ ^= random_ << 25;
    random_ ^= random_ >> 27;
    return static_cast<std::uint32_t>(random_ * 0x2545F4914F6CDD1Du >> 32);
  }

  void set_seed(std::uint64_t seed) {
    seed_ = seed;
    launches_ = 0;
  }
  std::uint64_t seed() const { return seed_; }

 private:
  void run_block(const std::int64_t (&block)[2], std::int64_t grid_x) {
    alive_ = threads_;
    running.accesses = 0;
    whole_.arrived = 0;
    running.first_interval = running.interval = ++intervals_;
    begin_shared_memory();
    for (int i = 0; i < threads_; ++i) {
      Fiber& fiber = fibers_[i];
      fiber.thread = {.index = i, .block_threads = threads_, .block = {block[0], block[1]}, .grid_x = grid_x};
      fiber.done = false;
      fiber.waits_at = nullptr;
      if (!fiber.started) prepare(fiber, stacks_ + static_cast<std::size_t>(i) * kStackBytes);
    }
    for (Warp& warp : warps_) warp.arrived = 0;
    const int warps = threads_ / kWarpThreads;
    while (alive_ > 0) {
      bool progress = false;
      RandomOrder order(static_cast<std::uint64_t>(warps));
      for (int i = 0; i < warps; ++i) progress |= run_warp(static_cast<int>(order.next()));
      if (!progress)
        fail_outside(concat(alive_, " threads of a block wait for each other: ", alive_ - whole_.arrived,
                            " of them have not come to the barrier at line ", whole_.site.line()));
    }
  }

  static void prepare(Fiber& fiber, char* stack) {
    getcontext(&fiber.start);
    fiber.start.uc_stack = {stack, 0, kStackBytes};
    makecontext(&fiber.start, &Multiprocessor::enter, 0);
  }

  // As far as the warp gets. Whether it got anywhere.
  bool run_warp(int warp) {
    bool any = false;
    for (bool progress = true; progress; any |= progress) {
      progress = false;
      RandomOrder lanes(kWarpThreads);
      for (int i = 0; i < kWarpThreads; ++i) {
        Fiber& fiber = fibers_[static_cast<std::size_t>(warp) * kWarpThreads + lanes.next()];
        if (!fiber.can_run()) continue;
        progress = true;
        go_on(fiber);
        if (!failure_.empty()) give_up();
      }
    }
    return any;
  }

  [[gnu::noinline]] void go_on(Fiber& fiber) {
    fiber.waits_at = nullptr;
    current_ = &fiber;
    running.thread = &fiber.thread;
    if (_setjmp(scheduler_) != 0) {
      running.thread = nullptr;
      return;
    }
    if (fiber.started) _longjmp(fiber.where, 1);
    fiber.started = true;
    setcontext(&fiber.start);
  }

  // Threads that stopped half-way begin anew next time.
  [[noreturn]] void give_up() {
    for (Fiber& fiber : fibers_) fiber.started = fiber.started && fiber.done;
    throw DeviceError(std::exchange(failure_, {}));
  }
  [[noreturn]] void fail_outside(const std::string& what) {
    failure_ = concat("emulated CUDA, seed ", seed_, ": ", name_, ": ", what);
    give_up();
  }

  void arrive(Meeting& meeting, const Site& site, const char* what) {
    if (meeting.arrived == 0) {
      meeting.site = site;
    } else if (!meeting.same_site(site)) {
      emulated::fail(concat("threads came to a ", what, " at line ", site.line(), " of ", site.file_name(),
                            " while others wait at line ", meeting.site.line(), " of ", meeting.site.file_name()));
    }
    ++meeting.arrived;
  }
  static void open(Meeting& meeting) {
    meeting.arrived = 0;
    ++meeting.generation;
  }
  void open_barrier() {
    running.interval = ++intervals_;
    open(whole_);
  }
  void wait(const Meeting& meeting) {
    current_->waits_at = &meeting;
    current_->waits_in = meeting.generation;
    leave();
  }
  void leave() {
    if (_setjmp(current_->where) == 0) _longjmp(scheduler_, 1);
  }
  void end_thread() {
    current_->done = true;
    if (--alive_ > 0 && whole_.arrived == alive_) open_barrier();
    leave();
  }
  static void enter();

  struct Free {
    void operator()(unsigned char* memory) const { std::free(memory); }
  };

  std::vector<Fiber> fibers_;
  Warp warps_[kMostThreads / kWarpThreads];
  std::vector<void*> brought_;
  std::unique_ptr<unsigned char, Free> shared_;
  char* stacks_ = nullptr;
  const char* name_ = "";
  void (*kernel_)(const void*) = nullptr;
  const void* context_ = nullptr;
  int threads_ = 0, alive_ = 0;
  std::uint32_t intervals_ = 0;  // of all blocks, on whichever thread of the host
  Meeting whole_;
  jmp_buf scheduler_;
  Fiber* current_ = nullptr;
  std::string failure_;
  std::map<std::string, std::int64_t, std::less<>> most_blocks_;  // by the kernel's name
  std::uint64_t seed_ = seed_from_environment(), launches_ = 0, random_ = 1;
};

// One, and one kernel at a time on it (memory.h sees to that).
Multiprocessor& multiprocessor() {
  static Multiprocessor& one = *new Multiprocessor;
  return one;
}

void Multiprocessor::enter() {
  Multiprocessor& self = multiprocessor();
  for (;;) {  // a turn for each block
    self.kernel_(self.context_);
    self.end_thread();
  }
}

void require_within_limits(const std::int64_t (&blocks)[2], int threads, std::size_t shared_bytes) {
  const auto require = [](bool holds, const char* what, auto value) {
    if (!holds) throw DeviceError(concat("emulated CUDA: a launch with ", value, ' ', what));
  };
  require(threads > 0 && threads <= kMostThreads, "threads in a block", threads);
  require(threads % kWarpThreads == 0, "threads in a block, no whole warps", threads);
  require(shared_bytes <= kMostShared, "bytes of shared memory", shared_bytes);
  require(blocks[0] >= 0 && blocks[0] <= kMostAlongX, "blocks along x", blocks[0]);
  require(blocks[1] >= 0 && blocks[1] <= kMostAlongY, "blocks along y", blocks[1]);
}

}  // namespace

int thread_index() { return running.thread->index; }
int block_threads() { return running.thread->block_threads; }
std::int64_t block_x() { return running.thread->block[0]; }
std::int64_t block_y() { return running.thread->block[1]; }
std::int64_t grid_x() { return running.thread->grid_x; }
unsigned char* shared_memory() { return running.shared; }

void fail(const std::string& what) {
  if (running.thread == nullptr) throw DeviceError(concat("emulated CUDA: ", what));
  multiprocessor().fail(what);
}

void sync_block(const Site& site) {
  if (is_mutated(Mutation::kNoBarrier, site)) return;
  running.thread->last_barrier = site;
  if (is_applied(Mutation::kLateBarrier, site)) {
    running.thread->owes_barrier = true;
    return;
  }
  multiprocessor().sync(site);
}

void meet_warp(void* own, Combine combine, const Site& site) { multiprocessor().meet(own, combine, false, site); }
void meet_block(void* own, CombineBlock combine, const Site& site) { multiprocessor().meet_all(own, combine, site); }
void sync_warp(const Site& site) {
  if (is_mutated(Mutation::kNoWarpSync, site)) return;
  multiprocessor().meet(nullptr, nullptr, true, site);
}

std::uint32_t random_number() { return multiprocessor().random_number(); }
void set_seed(std::uint64_t seed) { multiprocessor().set_seed(seed); }
std::uint64_t seed() { return multiprocessor().seed(); }
void run_at_most(const std::string& name, std::int64_t blocks) { multiprocessor().run_at_most(name, blocks); }

std::int64_t run(const char* name, const std::int64_t (&blocks)[2], int threads, std::size_t shared_bytes,
                 void (*kernel)(const void*), const void* context) {
  require_within_limits(blocks, threads, shared_bytes);
  return multiprocessor().run(name, blocks, threads, shared_bytes, kernel, context);
}

}  // namespace fastnce::cuda::emulated
