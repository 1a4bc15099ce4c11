// Kernels broken on purpose: each line with a barrier, a wait, a copy, a matrix load, a warp-wide operation or a row's
// offset, broken in each way that emulated_cuda/mutation.h knows, must be caught on every seed: by the emulated device,
// or by wrong results. Prints what caught each.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <regex>
#include <string>
#include <string_view>
#include <vector>

#include "block.h"
#include "device_memory.h"
#include "device_problem.h"
#include "device_update.h"
#include "fastnce/cuda.h"
#include "fastnce/error.h"
#include "fastnce/evaluate.h"
#include "fastnce/optimizer.h"
#include "fastnce/sampler.h"
#include "memory.h"
#include "mutation.h"
#include "problem.h"
#include "update_problem.h"
#include "work.h"

namespace fastnce {
namespace {

using cuda::emulated::Mutant;
using cuda::emulated::Mutation;

constexpr std::uint64_t kSeeds[] = {1, 2, 3, 4, 5};

const char* name_of(Mutation mutation) {
  switch (mutation) {
    case Mutation::kNone: return "none";
    case Mutation::kNoBarrier: return "no barrier";
    case Mutation::kLateBarrier: return "barrier behind the copies";
    case Mutation::kNoWarpSync: return "no sync_warp";
    case Mutation::kShortWait: return "wait for one group less";
    case Mutation::kWrongLane: return "wrong lane";
    case Mutation::kNextStage: return "next stage";
    case Mutation::kNarrowRow: return "row in 32 bits";
  }
  return "";
}

// A piece of work whose results are known. Says what is wrong with them, or nothing.
struct Probe {
  const char* name;
  std::function<std::string()> run;
};

// Rounds to float16; the bits.
std::vector<std::uint16_t> halves(std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (float& value : values) {
    const auto half = static_cast<_Float16>(value);
    bits.push_back(std::bit_cast<std::uint16_t>(half));
    value = static_cast<float>(half);
  }
  return bits;
}

struct Variant {
  LossFamily family = LossFamily::kLogistic;
  bool float16 = false;
  bool padded = false;
  bool lists = false;      // of labels, and of excluded classes
  bool groups = false;     // each of three examples, with candidates of its own
  bool far_apart = false;  // logits, by 512 or more, so that exponentials relative to all but the largest overflow
};

std::string solve_on_device(const Sizes& sizes, Precision precision, const Variant& variant = {}) {
  const bool float16 = variant.float16;
  Problem<float> p(sizes, 20);
  p.request.loss = {.family = variant.family, .remove_accidental_hits = true};
  if (variant.padded) p.pad(3);
  if (variant.groups) p.make_groups(sizes.batch / 3, 20);
  if (variant.lists) {
    p.make_lists();
    p.exclude(1, 40);
  }
  if (variant.far_apart) {
    for (float& x : p.inputs) x = std::nearbyint(x * 8);
    for (float& w : p.weights) w = std::nearbyint(w * 8) * 512;
    p.request.biases.shards = {};
    p.request.wanted.grad_biases = false;
    p.request.targets.expected_count = p.request.negatives.expected_count = nullptr;
  }
  std::optional<DeviceArray<std::uint16_t>> weights, inputs;
  if (float16) {
    weights.emplace(halves(p.weights));
    inputs.emplace(halves(p.inputs));
  }
  const Solution expected = solve(p);
  DeviceProblem device(p);
  device.request.precision = precision;
  const Shard shard{float16 ? weights->data() : nullptr, sizes.num_classes, sizes.dim};
  if (float16) {
    device.request.weights.shards = {&shard, 1};
    device.request.inputs = inputs->data();
    device.request.weights_dtype = device.request.inputs_dtype = DType::kFloat16;
    device.outputs.grad_weights_dtype = device.outputs.grad_inputs_dtype = DType::kFloat32;
  }
  device.run();
  const double allowed = tolerance(precision);
  if (device.ids != p.plan.ids) return "wrong row ids";
  if (!(relative_error(p.loss, expected.loss) <= allowed)) return "wrong losses";
  if (!(relative_error(p.grad_inputs, expected.grad_inputs) <= allowed)) return "wrong gradients of inputs";
  if (!(relative_error(p.grad_weights, expected.grad_weights) <= allowed)) return "wrong gradients of weights";
  if (variant.far_apart) return "";
  if (!(relative_error(p.grad_biases, expected.grad_biases) <= allowed)) return "wrong gradients of biases";
  return "";
}

std::string draw_on_device(const SamplerParams& params, std::int64_t groups = 1) {
  std::vector<std::int64_t> expected(static_cast<std::size_t>(groups * params.num_sampled));
  for (std::int64_t group = 0; group < groups; ++group) {
    SamplerParams set = params;
    set.call = static_cast<std::uint64_t>(group);
    sample_candidates(set, expected.data() + group * params.num_sampled);
  }
  const SampleRequest request{.sources = {&params, 1}, .batch = groups, .groups = groups, .true_classes = {}};
  const DeviceArray<std::int64_t> ids(expected.size());
  const std::size_t bytes = cuda::workspace_bytes(request);
  const DeviceArray<unsigned char> workspace(bytes);
  cuda::sample(request, nullptr, {ids.data()}, {workspace.data(), bytes}, {});
  return ids.values() == expected ? "" : "wrong classes";
}

// Labels in lists, some twice, with weights; classes that are excluded, labels among them.
std::string solve_all_classes_on_device(const Sizes& sizes, LossFamily family) {
  Problem<float> p(sizes, 20);
  p.make_lists();
  p.exclude(1, 40);
  p.weigh_labels();
  p.request.loss = {.family = family};
  p.request.negatives = {};
  p.request.targets.expected_count = nullptr;
  const std::size_t table = p.weights.size(), classes = p.biases.size();
  struct Results {
    std::vector<float> loss, inputs, weights, biases;
  } expected{p.loss, p.inputs, p.weights, p.biases};
  full_loss(p.request, {.loss = expected.loss.data(),
                        .grad_inputs = expected.inputs.data(),
                        .grad_weights = expected.weights.data(),
                        .grad_biases = expected.biases.data()});
  DeviceProblem device(p);
  device.request.negatives = {};
  const DeviceArray<float> loss(p.loss.size()), inputs(p.inputs.size()), weights(table), biases(classes);
  const cuda::LossPlan plan = cuda::plan_full_loss(device.request, 0);
  const DeviceArray<unsigned char> workspace(plan.workspace_bytes);
  cuda::run(
      plan,
      {.loss = loss.data(), .grad_inputs = inputs.data(), .grad_weights = weights.data(), .grad_biases = biases.data()},
      {workspace.data(), plan.workspace_bytes}, {});
  const auto differs = [](const DeviceArray<float>& got, const std::vector<float>& wanted) {
    float error = 0.0f, largest = 0.0f;
    const std::vector<float> values = got.values();
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const float own = std::abs(values[i] - wanted[i]);
      error = own <= error ? error : own;  // a NaN stays
      largest = std::max(largest, std::abs(wanted[i]));
    }
    return !(error <= 1e-5f * largest);
  };
  if (differs(loss, expected.loss)) return "wrong losses";
  if (differs(inputs, expected.inputs)) return "wrong gradients of inputs";
  if (differs(weights, expected.weights)) return "wrong gradients of weights";
  return differs(biases, expected.biases) ? "wrong gradients of biases" : "";
}

// Best classes and ranks where scores are exact, and many tie. `l2_bytes` says how many classes a block has.
std::string evaluate_on_device(const Sizes& sizes, std::int64_t k, std::int64_t l2_bytes) {
  struct Cache {
    explicit Cache(std::int64_t bytes) { cuda::emulated::limits.l2_bytes = bytes; }
    ~Cache() { cuda::emulated::limits.l2_bytes = before; }
    std::int64_t before = cuda::emulated::limits.l2_bytes;
  } const cache(l2_bytes);
  Problem<float> p(sizes);
  p.make_lists();
  p.exclude(1, 40);
  for (std::vector<float>* values : {&p.weights, &p.biases, &p.inputs}) {
    for (float& value : *values) value = std::nearbyint(value * 4);
  }
  const LossRequest& host = p.request;
  const auto places = static_cast<std::size_t>(sizes.batch * k);
  std::vector<float> scores(places);
  std::vector<std::int64_t> ids(places);
  std::vector<double> ranks(p.labels.size());
  top_k(host, k, host.exclude, scores.data(), ids.data());
  rank_of_labels(host, host.targets, host.exclude, ranks.data());

  const DeviceProblem device(p);
  const LossRequest& request = device.request;
  const DeviceArray<float> device_scores(places);
  const DeviceArray<std::int64_t> device_ids(places);
  const DeviceArray<double> device_ranks(ranks.size());
  const std::size_t bytes =
      std::max(cuda::top_k_workspace_bytes(request, k, request.exclude, 0),
               cuda::rank_of_labels_workspace_bytes(request, request.targets, request.exclude, 0));
  const DeviceArray<unsigned char> workspace(bytes);
  cuda::top_k(request, k, request.exclude, device_scores.data(), device_ids.data(), {workspace.data(), bytes}, {});
  cuda::rank_of_labels(request, request.targets, request.exclude, device_ranks.data(), {workspace.data(), bytes}, {});
  if (device_ids.values() != ids) return "wrong best classes";
  if (device_scores.values() != scores) return "wrong scores";
  return device_ranks.values() == ranks ? "" : "wrong ranks";
}

// Memory that is mapped, but not there until it is touched.
class SparseArray {
 public:
  explicit SparseArray(std::size_t floats) : bytes_(floats * sizeof(float)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) throw DeviceError("no address space for a sparse table");
    cuda::emulated::lend(data_, bytes_);
  }
  SparseArray(const SparseArray&) = delete;
  ~SparseArray() {
    cuda::emulated::take_back(data_);
    munmap(data_, bytes_);
  }
  float* data() const { return static_cast<float*>(data_); }

 private:
  std::size_t bytes_;
  void* data_;
};

// The rows of weights and inputs lie so far apart that the second is beyond 2^31 elements.
std::string read_rows_beyond_32_bits() {
  constexpr std::int64_t kStride = (std::int64_t{1} << 31) + 64;
  const SparseArray weights(2 * kStride + 64), inputs(2 * kStride + 64);
  Problem<float> p({.batch = 3, .num_true = 1, .num_sampled = 3, .dim = 5, .num_classes = 3}, 3);
  const Solution expected = solve(p);
  DeviceProblem device(p);
  for (std::int64_t row = 0; row < 3; ++row) {
    const auto put = [&](const SparseArray& to, const std::vector<float>& from) {
      std::memcpy(to.data() + row * kStride, from.data() + row * 5, 5 * sizeof(float));
    };
    put(weights, p.weights);
    put(inputs, p.inputs);
  }
  const Shard shard{weights.data(), 3, kStride};
  device.request.weights.shards = {&shard, 1};
  device.request.inputs = inputs.data();
  device.request.inputs_stride = kStride;
  device.run();
  if (!(relative_error(p.loss, expected.loss) <= tolerance(Precision::kHighest))) return "wrong losses";
  return relative_error(p.grad_weights, expected.grad_weights) <= tolerance(Precision::kHighest) ? "" : "wrong rows";
}

std::string update_on_device(const Rule& rule, std::int64_t dim) {
  UpdateProblem<float> p(rule, 30, dim, 50);
  const Updated<Real> weights = solve(p.optimizer, p.weights, p.ids, p.rows, p.num_classes);
  const Updated<Real> biases = solve(p.optimizer, p.biases, p.ids, p.bias_rows, p.num_classes);
  DeviceUpdate(p).run();
  if (!(largest_error(p.weights, weights) <= kStepTolerance<float>)) return "wrong rows of weights";
  return largest_error(p.biases, biases) <= kStepTolerance<float> ? "" : "wrong biases";
}

// An update by padding alone, which leaves all as it is.
std::string update_by_padding() {
  UpdateProblem<float> p(kRules[7], 30, 70, 50);
  const Updated<float> weights = p.weights, biases = p.biases;
  p.pad_all(3);
  DeviceUpdate(p).run();
  const bool same = largest_error(p.weights, weights) == 0.0 && largest_error(p.biases, biases) == 0.0;
  return same ? "" : "updated rows";
}

// The last row of an Adam's table and of its moments is beyond 2^31 elements; the first is not touched.
std::string update_rows_beyond_32_bits() {
  constexpr std::int64_t kDim = 4, kRows = (std::int64_t{1} << 30) + 1;
  const SparseArray weights(kRows * kDim), first(kRows * kDim), second(kRows * kDim);
  UpdateProblem<float> p(kRules[7], 1, kDim, 1);
  const Updated<Real> expected = solve(p.optimizer, p.weights, p.ids, p.rows, 1);
  DeviceUpdate device(p);
  const std::int64_t last = (kRows - 1) * kDim;
  std::memcpy(weights.data() + last, p.weights.table.data(), kDim * sizeof(float));
  std::memcpy(first.data() + last, p.weights.states[0].data(), kDim * sizeof(float));
  std::memcpy(second.data() + last, p.weights.states[1].data(), kDim * sizeof(float));
  const Shard shard{weights.data(), kRows, kDim};
  const DeviceArray<std::int64_t> ids(std::vector<std::int64_t>{kRows - 1});
  device.tables.weights.shards = {&shard, 1};
  device.tables.biases.shards = {};
  device.tables.num_classes = kRows;
  device.update.weights_states[0] = first.data();
  device.update.weights_states[1] = second.data();
  device.gradients.ids = ids.data();
  device.gradients.biases = nullptr;
  const std::size_t bytes = cuda::update_rows_workspace_bytes(device.tables, device.gradients, 0);
  const DeviceArray<unsigned char> workspace(bytes);
  cuda::update_rows(device.update, device.tables, device.gradients, {workspace.data(), bytes}, {});
  std::vector<float> row(kDim);
  const auto differs = [&](const SparseArray& array, const std::vector<Real>& wanted) {
    copy_to_host(row.data(), array.data() + last, kDim * sizeof(float));
    return !(largest_error(row, wanted) <= kStepTolerance<float>);
  };
  if (differs(weights, expected.table)) return "wrong row";
  return differs(first, expected.states[0]) || differs(second, expected.states[1]) ? "wrong moments" : "";
}

constexpr Variant kSoftmax{.family = LossFamily::kSoftmax};
constexpr Variant kFarApart{.family = LossFamily::kSoftmax, .far_apart = true};

std::vector<Probe> probes() {
  return {
      {"rows beyond 2^31", read_rows_beyond_32_bits},
      {"updated rows beyond 2^31", update_rows_beyond_32_bits},
      {"momentum", [] { return update_on_device(kRules[2], 9); }},
      {"row-wise Adagrad", [] { return update_on_device(kRules[5], 70); }},
      {"row-wise Adagrad, four columns", [] { return update_on_device(kRules[5], 136); }},
      {"padding alone", update_by_padding},
      {"unique classes",
       [] {
         return draw_on_device({.distribution = {.range_max = 3'000}, .num_sampled = 3'000, .seed = 5, .seed2 = 6});
       }},
      {"unique classes, uniform",
       [] {
         return draw_on_device(
             {.distribution = distribution_named("uniform", 3'000), .num_sampled = 3'000, .seed = 5, .seed2 = 6});
       }},
      {"unique classes, integers rejected",
       [] {
         return draw_on_device({.distribution = distribution_named("uniform", (std::int64_t{1} << 62) + 1),
                                .num_sampled = 2'000,
                                .seed = 5,
                                .seed2 = 6});
       }},
      {"sets", [] { return draw_on_device({.distribution = {.range_max = 300}, .num_sampled = 300, .seed = 5}, 3); }},
      {"sets with replacement, integers rejected",
       [] {
         return draw_on_device({.distribution = distribution_named("uniform", (std::int64_t{1} << 62) + 1),
                                .num_sampled = 700,
                                .unique = false,
                                .seed = 5},
                               3);
       }},
      {"more sets than run at once",
       [] { return draw_on_device({.distribution = {.range_max = 50}, .num_sampled = 3, .seed = 5}, 1'030); }},
      {"medium", [] { return solve_on_device({60, 2, 140, 70, 200}, Precision::kMedium); }},
      {"medium, float16", [] { return solve_on_device({60, 1, 40, 60, 200}, Precision::kMedium, {.float16 = true}); }},
      {"padded", [] { return solve_on_device({40, 3, 20, 10, 200}, Precision::kMedium, {.padded = true}); }},
      {"lists", [] { return solve_on_device({40, 3, 140, 10, 200}, Precision::kMedium, {.lists = true}); }},
      {"groups",
       [] { return solve_on_device({12, 3, 140, 10, 200}, Precision::kMedium, {.lists = true, .groups = true}); }},
      {"groups, softmax",
       [] {
         return solve_on_device({12, 1, 40, 10, 200}, Precision::kMedium,
                                {.family = LossFamily::kSoftmax, .groups = true});
       }},
      {"softmax", [] { return solve_on_device({60, 5, 140, 10, 200}, Precision::kMedium, kSoftmax); }},
      {"softmax, logits far apart",
       [] { return solve_on_device({40, 2, 140, 10, 200}, Precision::kMedium, kFarApart); }},
      {"softmax, highest", [] { return solve_on_device({40, 1, 60, 10, 200}, Precision::kHighest, kSoftmax); }},
      {"high", [] { return solve_on_device({40, 1, 60, 60, 200}, Precision::kHigh); }},
      {"highest", [] { return solve_on_device({40, 1, 140, 130, 200}, Precision::kHighest); }},
      {"all classes", [] { return solve_all_classes_on_device({40, 3, 0, 10, 200}, LossFamily::kLogistic); }},
      {"all classes, softmax", [] { return solve_all_classes_on_device({40, 3, 0, 10, 200}, LossFamily::kSoftmax); }},
      {"evaluation", [] { return evaluate_on_device({6, 3, 1, 10, 200}, 7, 200 << 10); }},
      {"evaluation, segments", [] { return evaluate_on_device({3, 1, 1, 5, 2'100}, 40, 3 << 20); }},
  };
}

// What a probe finds, or an empty text.
std::string caught_by(const Probe& probe) {
  try {
    const std::string wrong = probe.run();
    return wrong.empty() ? "" : wrong + " (" + probe.name + ")";
  } catch (const std::exception& error) {
    const std::string text = error.what();
    const std::size_t thread = text.find("thread ");
    return thread == std::string::npos ? text : text.substr(text.find(": ", thread) + 2);
  }
}

std::string source_line(const Mutant& mutant) {
  std::ifstream file(mutant.file);
  std::string line;
  for (unsigned i = 0; i < mutant.line; ++i) std::getline(file, line);
  line.erase(0, line.find_first_not_of(' '));
  return line;
}

// Mutants that change nothing that anybody could see, and why.
struct Survivor {
  Mutation mutation;
  std::string_view line;  // of the kernel
  const char* reason;
};
constexpr const char* kBounded =
    "below 2^31: at most 2^28 labels, and pairs of an example and a sample; of G and the sums per tile, a chunk is "
    "half the L2 cache or 128 rows";
constexpr const char* kTooLarge = "no test's planes, partial sums and gradients have 2^31 elements";
constexpr Survivor kSurvivors[] = {
    {Mutation::kNarrowRow, "num_true)", kBounded},        {Mutation::kNarrowRow, "per_example)", kBounded},
    {Mutation::kNarrowRow, "loss_pitch", kBounded},       {Mutation::kNarrowRow, "removed_pitch", kBounded},
    {Mutation::kNarrowRow, "num_sampled)", kBounded},     {Mutation::kNarrowRow, "args.batch)", kBounded},
    {Mutation::kNarrowRow, "bias_pitch", kBounded},       {Mutation::kNarrowRow, "args_.grad.", kBounded},
    {Mutation::kNarrowRow, "args.grad.pitch", kBounded},  {Mutation::kNarrowRow, "scale_pitch", kBounded},
    {Mutation::kNarrowRow, "args.pitch)", kBounded},      {Mutation::kNarrowRow, "planes.", kTooLarge},
    {Mutation::kNarrowRow, "operand", kTooLarge},         {Mutation::kNarrowRow, "args.input_p", kTooLarge},
    {Mutation::kNarrowRow, "(b, args.dim)", kTooLarge},   {Mutation::kNarrowRow, "Product::row()", kTooLarge},
    {Mutation::kNarrowRow, "args.part)", kTooLarge},      {Mutation::kNarrowRow, "block.pitch)", kBounded},
    {Mutation::kNarrowRow, "top.wanted)", kTooLarge},     {Mutation::kNarrowRow, "(row, k)", kTooLarge},
    {Mutation::kNarrowRow, "(row, args.dim)", kTooLarge},
};

const char* why_it_survives(const Mutant& mutant) {
  const std::string line = source_line(mutant);
  const auto* const found = std::ranges::find_if(kSurvivors, [&](const Survivor& survivor) {
    return survivor.mutation == mutant.mutation && line.find(survivor.line) != std::string::npos;
  });
  return found == std::end(kSurvivors) ? nullptr : found->reason;
}

struct Candidate {
  Mutant mutant;
  std::vector<const Probe*> probes;  // that come to its line
};

// Lines of the kernels that use a primitive which can be mutated, and that no probe comes to.
std::vector<std::string> lines_not_reached(const std::vector<Candidate>& candidates) {
  const std::regex use(
      R"(^(?!\s*//).*\b(sync_block|sync_warp|wait_for_copies<.*>|shuffle\w*|load_matrices\w*|multiply_add|copy_async|row_offset)\()");
  std::vector<std::string> missing;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(
           std::filesystem::path(candidates[0].mutant.file).parent_path().parent_path())) {
    if (entry.path().filename() == "device.cuh" || entry.path().filename() == "block_sort.cuh") continue;  // replaced
    std::ifstream file(entry.path());
    std::string text;
    for (unsigned line = 1; std::getline(file, text); ++line) {
      const auto is_here = [&](const Candidate& one) {
        return one.mutant.line == line && std::filesystem::path(one.mutant.file).filename() == entry.path().filename();
      };
      if (std::regex_search(text, use) && std::ranges::none_of(candidates, is_here)) {
        missing.push_back(entry.path().filename().string() + ":" + std::to_string(line) + ": " + text);
      }
    }
  }
  return missing;
}

// As many as FASTNCE_EMULATED_SEEDS says.
TEST(CudaMutants, AreNoLongerCaughtWithoutTheirMutation) {
  const char* const text = std::getenv("FASTNCE_EMULATED_SEEDS");
  const std::uint64_t seeds = text == nullptr ? 2 : std::strtoull(text, nullptr, 10);
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    cuda::emulated::set_seed(seed);
    for (const Probe& probe : probes()) EXPECT_EQ(caught_by(probe), "") << "seed " << seed;
  }
  cuda::emulated::set_seed(1);
}

TEST(CudaMutants, AreCaughtOnEverySeed) {
  const std::vector<Probe> all = probes();
  std::vector<Candidate> candidates;
  for (const Probe& probe : all) {
    std::string wrong;
    const std::vector<Mutant> mutants = cuda::emulated::mutants_of([&] { wrong = caught_by(probe); });
    ASSERT_EQ(wrong, "") << probe.name << " without a mutation";
    for (const Mutant& mutant : mutants) {
      auto found = std::ranges::find(candidates, mutant, &Candidate::mutant);
      if (found == candidates.end()) found = candidates.insert(found, {mutant, {}});
      found->probes.push_back(&probe);
    }
  }
  for (const std::string& line : lines_not_reached(candidates)) ADD_FAILURE() << "no probe comes to " << line;
  std::ranges::sort(candidates, {},
                    [](const Candidate& c) { return std::tuple(c.mutant.mutation, c.mutant.file, c.mutant.line); });
  for (const auto& [mutant, reaching] : candidates) {
    const char* const survives = why_it_survives(mutant);
    std::string first;
    int caught = 0;
    for (const std::uint64_t seed : kSeeds) {
      cuda::emulated::set_seed(seed);
      cuda::emulated::mutate(mutant);
      std::string how;
      for (const Probe* const probe : reaching) {
        how = caught_by(*probe);
        if (!how.empty() || survives != nullptr) break;
      }
      cuda::emulated::mutate({});
      caught += how.empty() ? 0 : 1;
      if (first.empty()) first = how;
      if (survives != nullptr) break;  // once is enough: no schedule changes that
    }
    const std::string where = mutant.file.substr(mutant.file.rfind('/') + 1) + ":" + std::to_string(mutant.line);
    std::printf("%-26s %-22s %d/5  %s\n    %s\n", name_of(mutant.mutation), where.c_str(), caught,
                survives != nullptr ? survives : first.c_str(), source_line(mutant).c_str());
    EXPECT_EQ(caught, survives == nullptr ? static_cast<int>(std::size(kSeeds)) : 0)
        << name_of(mutant.mutation) << " at " << where << ": " << source_line(mutant);
  }
  cuda::emulated::set_seed(1);
}

}  // namespace
}  // namespace fastnce
