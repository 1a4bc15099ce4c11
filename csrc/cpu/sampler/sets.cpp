// Sets of samples for groups of examples. Each is a pure function of its number, so threads share the sets; each walks
// through the draws of a set in order.
#include <algorithm>
#include <atomic>
#include <limits>
#include <span>
#include <vector>

#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/isa.h"
#include "cpu/runtime/parallel.h"
#include "cpu/sampler/class_set.h"
#include "cpu/sampler/draws.h"
#include "cpu/sampler/sampler.h"
#include "fastnce/error.h"
#include "math/compensated_sum.h"
#include "math/distribution/registry.h"

namespace fastnce::cpu {

namespace {

// Minimum work per thread: a draw takes some 10 ns, an excluded class about as much.
constexpr double kDrawsPerThread = 8192;
constexpr std::int64_t kDrawsAtOnce = std::int64_t{1} << 10;  // between two polls for an interrupt, if sets are small
constexpr std::int64_t kMostAtOnce = std::int64_t{1} << 14;   // draws of a set, which bounds its memory

// Whether the class is ever drawn. A class without weight stands in the alias table where rounding has left it over.
bool can_draw(const Distribution& distribution, std::int64_t id) {
  if (distribution.kind != math::kind_of<math::Unigram>()) return true;
  return distribution.unigram.weights[id] > 0.0f || distribution.unigram.alias_table[2 * id] > 0;
}

std::int64_t drawn_classes(const Distribution& distribution) {
  return distribution.kind == math::kind_of<math::Unigram>() ? distribution.unigram.reachable : distribution.range_max;
}

// Draws sets one after the other, in scratch that they share.
class SetSampler {
 public:
  SetSampler(const SamplerParams& params, Interruption& interruption)
      : params_(params),
        keeps_all_(!params.unique || params.distribution.kind == math::kind_of<math::All>()),
        interruption_(interruption) {}

  // The classes that the next set leaves out. Returns how many others can be drawn.
  std::int64_t exclude(std::span<const std::int64_t> ids) {
    excludes_ = !ids.empty();
    left_ = 1.0;
    std::int64_t others = drawn_classes(params_.distribution);
    if (!excludes_) return others;
    excluded_.clear(std::ssize(ids));
    probabilities_.resize(ids.size());
    exact_probabilities(params_.distribution, ids, probabilities_.data());
    math::CompensatedSum sum;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      if (!excluded_.insert(ids[i])) continue;
      sum.add(probabilities_[i]);
      others -= can_draw(params_.distribution, ids[i]) ? 1 : 0;
    }
    left_ = std::max(sum.missing_to(1.0), std::numeric_limits<double>::min());
    return others;
  }

  // The set of this call.
  DrawnSet draw(std::uint64_t call, std::int64_t* ids) {
    params_.call = call;
    Draws stream(params_, 1, interruption_);
    if (keeps_all_ && !excludes_) {
      stream.next(params_.num_sampled, ids);
      return {params_.num_sampled, left_};
    }
    if (!keeps_all_) seen_.clear(params_.num_sampled);
    std::int64_t found = 0, tries = 0;
    while (found < params_.num_sampled) {
      draws_.resize(static_cast<std::size_t>(next_batch(params_.num_sampled - found)));
      stream.next(std::ssize(draws_), draws_.data());
      for (const std::int64_t id : draws_) {
        if (found == params_.num_sampled) break;
        if (excludes_ && excluded_.contains(id)) continue;
        ++tries;
        if (keeps_all_ || seen_.insert(id)) ids[found++] = id;
      }
    }
    tries_per_find_ = static_cast<double>(tries) / static_cast<double>(found);
    return {tries, left_};
  }

 private:
  // By what the set before took, so that most sets are done after one batch with few draws left over.
  std::int64_t next_batch(std::int64_t missing) const {
    constexpr double kSlack = 4.0;
    constexpr double kLeast = 1.0 / static_cast<double>(kMostAtOnce);
    const double batch = (static_cast<double>(missing) * tries_per_find_ + kSlack) / std::max(left_, kLeast);
    return static_cast<std::int64_t>(std::min(batch, static_cast<double>(kMostAtOnce)));
  }

  SamplerParams params_;
  const bool keeps_all_;  // draws of classes that are not excluded
  Interruption& interruption_;
  double tries_per_find_ = 1.25;
  bool excludes_ = false;
  double left_ = 1.0;
  ClassSet excluded_, seen_;
  std::vector<double> probabilities_;
  std::vector<std::int64_t> draws_;
};

std::span<const std::int64_t> list_of(const ClassLists& lists, std::int64_t i) {
  return {lists.ids + lists.offsets[i], lists.ids + lists.offsets[i + 1]};
}

}  // namespace

void sample_sets(const SamplerParams& params, std::int64_t groups, const ClassLists& exclude, std::int64_t* ids,
                 std::int64_t stride, DrawnSet* sets) {
  const auto call_of = [&](std::int64_t g) {
    return params.call * static_cast<std::uint64_t>(groups) + static_cast<std::uint64_t>(g);
  };
  const bool excludes = exclude.offsets != nullptr;
  const double draws = static_cast<double>(groups) * static_cast<double>(params.num_sampled);
  const double excluded = excludes ? static_cast<double>(exclude.offsets[groups]) : 0.0;
  const int threads = threads_for(draws + excluded, kDrawsPerThread);
  if (!excludes && (groups == 1 || groups < threads)) {  // threads share each set
    SamplerParams one = params;
    for (std::int64_t g = 0; g < groups; ++g) {
      one.call = call_of(g);
      sets[g] = {.tries = cpu::sample_candidates(one, ids + g * stride)};
    }
    return;
  }
  const std::int64_t at_once = std::max<std::int64_t>(kDrawsAtOnce / params.num_sampled, 1);
  const std::int64_t needed = params.unique ? params.num_sampled : 1;
  std::atomic<std::int64_t> refused{groups};  // the first example whose list leaves too few classes
  current_isa();                              // may throw: not inside parallel()
  Interruption interruption;
  parallel(threads, [&](const Team& team) {
    SetSampler sampler(params, interruption);
    in_parts(team.share(groups), at_once, interruption, [&](Range part) {
      for (std::int64_t g = part.begin; g < part.end; ++g) {
        std::int64_t first = refused.load();
        if (g > first) return;
        if (excludes && sampler.exclude(list_of(exclude, g)) < needed) {
          while (g < first && !refused.compare_exchange_weak(first, g)) continue;
          return;
        }
        sets[g] = sampler.draw(call_of(g), ids + g * stride);
      }
    });
  });
  interruption.check();
  const std::int64_t example = refused.load();
  if (example == groups) return;
  const std::int64_t others = SetSampler(params, interruption).exclude(list_of(exclude, example));
  throw InvalidValue(concat("exclude: the list of example ", example, " leaves ", others,
                            " classes that can be drawn: expected at least ", params.unique ? "num_sampled = " : "",
                            needed, params.unique ? ", because samples are unique" : ""));
}

}  // namespace fastnce::cpu
