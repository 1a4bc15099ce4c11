// Groups of examples with samples of their own: each is as if it were computed alone.
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "fastnce/config.h"
#include "problem.h"

namespace fastnce {
namespace {

const Loss kFamilies[] = {{}, {.family = LossFamily::kSoftmax}};

struct Groups {
  std::int64_t count, size, num_sampled, dim;
};

// Samples are those of all groups, one after the other.
template <class T>
struct Grouped : Problem<T> {
  explicit Grouped(const Groups& g, std::int64_t num_classes = 300)
      : Problem<T>({g.count * g.size, 2, g.count * g.num_sampled, g.dim, num_classes}), groups(g) {
    this->request.negatives.groups = g.count;
    this->request.negatives.count = g.num_sampled;
  }

  // Losses and gradients of inputs, group by group, and rows of weights and biases by class.
  void run_alone(std::vector<T>& loss, std::vector<T>& grad_inputs, Sums& grad_weights, Sums& grad_biases) const {
    loss.resize(this->loss.size());
    grad_inputs.resize(this->grad_inputs.size());
    const Sizes& s = this->sizes;
    for (std::int64_t g = 0; g < groups.count; ++g) {
      const std::int64_t first = g * groups.size, z = g * groups.num_sampled;
      LossRequest request = this->request;
      request.batch = groups.size;
      request.negatives = {.count = groups.num_sampled,
                           .ids = this->sampled.data() + z,
                           .expected_count = this->sampled_count.data() + z};
      request.targets.ids = this->labels.data() + first * s.num_true;
      request.targets.expected_count = this->true_count.data() + first * s.num_true;
      request.inputs = this->inputs.data() + first * s.dim;
      request.grad_loss = this->grad_loss.data() + first;
      if (request.exclude.offsets != nullptr) request.exclude.offsets += first;
      // Lists start at 0.
      std::vector<std::int64_t> offsets;
      for (std::int64_t b = 0; b <= groups.size && request.exclude.offsets != nullptr; ++b) {
        offsets.push_back(request.exclude.offsets[b] - request.exclude.offsets[0]);
      }
      if (!offsets.empty()) request.exclude = {request.exclude.ids + request.exclude.offsets[0], offsets.data()};
      const LossPlan plan = fastnce::plan(request);
      const auto ids = plan.row_ids();
      std::vector<T> weights(ids.size() * static_cast<std::size_t>(s.dim)), biases(ids.size());
      fastnce::run(plan, {.loss = loss.data() + first,
                          .grad_inputs = grad_inputs.data() + first * s.dim,
                          .grad_weights = weights.data(),
                          .grad_biases = biases.data()});
      for (std::size_t r = 0; r < ids.size(); ++r) {
        const std::int64_t row = std::ranges::lower_bound(this->plan.ids, ids[r]) - this->plan.ids.begin();
        grad_biases.add(row, biases[r]);
        for (std::int64_t d = 0; d < s.dim; ++d) {
          grad_weights.add(row * s.dim + d, weights[r * static_cast<std::size_t>(s.dim) + d]);
        }
      }
    }
  }

  void expect_as_alone(double tolerance) {
    SCOPED_TRACE(::testing::Message() << "G = " << groups.count << ", B / G = " << groups.size
                                      << ", S = " << groups.num_sampled << ", D = " << groups.dim);
    this->run();
    std::vector<T> loss, grad_inputs;
    Sums grad_weights(this->grad_weights.size()), grad_biases(this->grad_biases.size());
    run_alone(loss, grad_inputs, grad_weights, grad_biases);
    const auto sums = [](const std::vector<T>& values) {
      Sums of(values.size());
      for (std::size_t i = 0; i < values.size(); ++i) of.add(static_cast<std::int64_t>(i), values[i]);
      return of;
    };
    EXPECT_LE(relative_error(this->loss, sums(loss)), tolerance);
    EXPECT_LE(relative_error(this->grad_inputs, sums(grad_inputs)), tolerance);
    EXPECT_LE(relative_error(this->grad_weights, grad_weights), tolerance);
    EXPECT_LE(relative_error(this->grad_biases, grad_biases), tolerance);
  }

  Groups groups;
};

const Groups kGroups[] = {{30, 1, 20, 17}, {6, 7, 70, 64}, {5, 8, 33, 40}, {4, 9, 260, 8}, {3, 140, 40, 70}};

TEST(Groups, AreAsIfEachWereAloneAtEveryPrecision) {
  for (const Groups& groups : kGroups) {
    for (const Loss& loss : kFamilies) {
      Grouped<double> exact(groups);
      exact.request.loss = loss;
      exact.expect_as_alone(1e-14);
      for (const Precision precision : kLevels) {
        Grouped<float> p(groups);
        p.request.loss = loss;
        p.request.precision = precision;
        p.expect_as_alone(2 * tolerance(precision));
      }
    }
  }
}

// Two classes with one key are one where samples are removed; excluded lists hold keys.
TEST(Groups, RemoveSamplesByTheirKeys) {
  for (const Groups& groups : kGroups) {
    for (const std::int64_t listed : {0, 2, 90}) {
      for (const Loss& loss : kFamilies) {
        Grouped<double> p(groups);
        std::vector<std::int64_t> keys, excluded, offsets{0};
        for (std::int64_t k = 0; k < p.sizes.num_classes; ++k) keys.push_back(k % 50 * 1'000'000'007 - 5);
        for (std::int64_t b = 0; b < p.sizes.batch; ++b) {
          for (std::int64_t i = 0; i < listed * (b % 3); ++i) excluded.push_back((b + 7 * i) % 90 * 1'000'000'007 - 5);
          offsets.push_back(std::ssize(excluded));
        }
        p.request.loss = loss;
        p.request.loss.remove_accidental_hits = true;
        p.request.class_keys = keys.data();
        if (listed > 0) p.request.exclude = {excluded.data(), offsets.data()};
        p.expect_as_alone(1e-14);
        const std::vector<double> with_keys = p.loss;
        p.request.class_keys = nullptr;
        p.request.exclude = {};
        p.run();
        EXPECT_NE(p.loss, with_keys);
      }
    }
  }
}

TEST(Groups, ComputeWhatIsAskedAndTouchNothingElse) {
  for (const Groups& groups : {Groups{30, 1, 20, 17}, Groups{3, 12, 20, 17}}) {
    for (const Loss& loss : kFamilies) {
      Grouped<float> all(groups);
      all.request.loss = loss;
      all.run();
      for (int wanted = 1; wanted < 16; ++wanted) {
        Grouped<float> p(groups);
        const auto poison = p.loss[0];
        p.request.loss = loss;
        p.request.wanted = {(wanted & 1) != 0, (wanted & 2) != 0, (wanted & 4) != 0, (wanted & 8) != 0};
        p.run();
        const auto expect = [&](bool asked, const auto& got, const auto& full) {
          for (std::size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], asked ? full[i] : poison) << wanted;
        };
        expect(wanted & 1, p.loss, all.loss);
        expect(wanted & 2, p.grad_inputs, all.grad_inputs);
        expect(wanted & 4, p.grad_weights, all.grad_weights);
        expect(wanted & 8, p.grad_biases, all.grad_biases);
      }
    }
  }
}

TEST(Groups, GiveTheSameBitsOnAnyNumberOfThreads) {
  const int before = num_threads();
  for (const Groups& groups : {Groups{200, 1, 100, 33}, Groups{3, 140, 100, 70}}) {
    for (const Loss& loss : kFamilies) {
      std::vector<std::vector<float>> weights, biases, losses;
      for (const int threads : {1, 2, 5}) {
        set_num_threads(threads);
        Grouped<float> p(groups);
        p.request.loss = loss;
        p.run();
        weights.push_back(p.grad_weights), biases.push_back(p.grad_biases), losses.push_back(p.loss);
      }
      for (std::size_t i = 1; i < weights.size(); ++i) {
        EXPECT_EQ(weights[i], weights[0]);
        EXPECT_EQ(biases[i], biases[0]);
        EXPECT_EQ(losses[i], losses[0]);
      }
    }
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace fastnce
