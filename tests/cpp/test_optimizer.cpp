// Updates of rows by an optimizer: each kind is its formula, whatever the layout of the tables and the number of
// threads; a step of a loss is its gradients and an update of their rows; what is refused or interrupted writes
// nothing.
#include "fastnce/optimizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "fastnce/config.h"
#include "fastnce/error.h"
#include "fastnce/interrupt.h"
#include "fastnce/loss.h"
#include "problem.h"
#include "update_problem.h"

namespace fastnce {
namespace {

template <class T>
bool same(const Updated<T>& a, const Updated<T>& b) {
  return a.table == b.table && std::ranges::equal(a.states, b.states);
}

template <class T>
class OptimizerTest : public ::testing::Test {};
using ElementTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(OptimizerTest, ElementTypes);

// Ids that occur several times and in any order are added up; ids that ascend are taken as they are.
TYPED_TEST(OptimizerTest, EachKindIsItsFormula) {
  for (const Rule& rule : kRules) {
    for (const std::int64_t dim : {1, 3, 16, 33, 70}) {
      for (const bool ascending : {false, true}) {
        SCOPED_TRACE(::testing::Message() << rule.kind << ", D = " << dim << (ascending ? ", ascending" : ""));
        UpdateProblem<TypeParam> p(rule, 40, dim, 30);
        if (ascending) {
          for (std::size_t i = 0; i < p.ids.size(); ++i) p.ids[i] = static_cast<std::int64_t>(i + i / 3);
        }
        const auto weights = solve(p.optimizer, p.weights, p.ids, p.rows, p.num_classes);
        const auto biases = solve(p.optimizer, p.biases, p.ids, p.bias_rows, p.num_classes);
        p.run();
        EXPECT_LE(largest_error(p.weights, weights), kStepTolerance<TypeParam>);
        EXPECT_LE(largest_error(p.biases, biases), kStepTolerance<TypeParam>);
      }
    }
  }
}

TYPED_TEST(OptimizerTest, WhatIsNotTouchedStaysAsItIs) {
  for (const Rule& rule : kRules) {
    SCOPED_TRACE(rule.kind);
    UpdateProblem<TypeParam> p(rule, 100, 5, 20);
    const Updated<TypeParam> weights = p.weights, biases = p.biases;
    p.run();
    const auto expect_same = [&](const std::vector<TypeParam>& before, const std::vector<TypeParam>& after) {
      const auto width = std::ssize(before) / p.num_classes;
      for (std::int64_t i = 0; i < std::ssize(before); ++i) {
        const bool touched = std::ranges::find(p.ids, i / width) != p.ids.end();
        EXPECT_TRUE(touched || after[i] == before[i]) << i;
      }
    };
    for (const auto& [before, after] : {std::pair(&weights, &p.weights), std::pair(&biases, &p.biases)}) {
      expect_same(before->table, after->table);
      for (int i = 0; i < kMostStates; ++i) expect_same(before->states[i], after->states[i]);
    }
    // Without gradients of biases, biases stay; without those of weights, weights do.
    const Updated<TypeParam> weights_once = p.weights, biases_once = p.biases;
    GradientRows rows = p.gradients();
    rows.biases = nullptr;
    update_rows(p.update(), p.tables(), rows);
    EXPECT_TRUE(same(p.biases, biases_once));
    EXPECT_FALSE(same(p.weights, weights_once));
    const Updated<TypeParam> weights_twice = p.weights;
    rows = p.gradients();
    rows.weights = nullptr;
    update_rows(p.update(), p.tables(), rows);
    EXPECT_TRUE(same(p.weights, weights_twice));
    EXPECT_FALSE(same(p.biases, biases_once));
  }
}

TYPED_TEST(OptimizerTest, PaddingUpdatesNoRow) {
  for (const Rule& rule : kRules) {
    SCOPED_TRACE(rule.kind);
    UpdateProblem<TypeParam> p(rule, 20, 5, 9), before(rule, 20, 5, 9), without(rule, 20, 5, 9);
    p.pad_all(4);
    p.run();
    EXPECT_TRUE(same(p.weights, before.weights) && same(p.biases, before.biases));
    // Of the last class that has a gradient.
    UpdateProblem<TypeParam> beside(rule, 20, 5, 9);
    beside.padded = true;
    beside.ids.resize(12, beside.ids.back());
    beside.rows.resize(12 * 5);
    beside.bias_rows.resize(12);
    beside.run();
    without.run();
    EXPECT_TRUE(same(beside.weights, without.weights) && same(beside.biases, without.biases));
    // One number makes it a gradient.
    p.bias_rows[8] = TypeParam{1};
    p.run();
    EXPECT_FALSE(same(p.biases, before.biases));
  }
}

// Shards, rows far apart and rows backwards, gradients with gaps: the same numbers, to the bit.
TYPED_TEST(OptimizerTest, TheLayoutOfTheTablesDoesNotShow) {
  constexpr std::int64_t kClasses = 23, kDim = 6, kShards = 5, kGap = 3;
  for (const Rule& rule : kRules) {
    const UpdateProblem<TypeParam> given(rule, kClasses, kDim, 40);
    for (const Partition partition : {Partition::kDiv, Partition::kMod}) {
      for (const bool backwards : {false, true}) {  // then ids ascend
        SCOPED_TRACE(::testing::Message() << rule.kind << (backwards ? ", backwards" : ""));
        UpdateProblem<TypeParam> whole(rule, kClasses, kDim, 40), p(rule, kClasses, kDim, 40);
        for (UpdateProblem<TypeParam>* const one : {&whole, &p}) {
          if (!backwards) continue;
          one->ids.resize(20);
          std::iota(one->ids.begin(), one->ids.end(), 1);
        }
        whole.run();
        const auto laid_out = [&](const std::vector<TypeParam>& table, std::int64_t columns,
                                  std::vector<std::vector<TypeParam>>& memory) {
          std::vector<Shard> shards;
          const std::int64_t stride = columns + kGap;
          for (std::int64_t s = 0; s < kShards; ++s) {
            const std::int64_t rows = shard_rows(s, kClasses, kShards);
            std::vector<TypeParam>& own = memory.emplace_back(rows * stride, TypeParam(7));
            TypeParam* const first = own.data() + (backwards ? (rows - 1) * stride : 0);
            shards.push_back({first, rows, backwards ? -stride : stride});
          }
          for (std::int64_t id = 0; id < kClasses; ++id) {
            const ShardAddress at = locate_row(id, kClasses, kShards, partition);
            const Shard& shard = shards[at.shard];
            std::copy_n(table.data() + id * columns, columns,
                        static_cast<TypeParam*>(const_cast<void*>(shard.data)) + at.row * shard.row_stride);
          }
          return shards;
        };
        const auto collected = [&](const std::vector<Shard>& shards, std::int64_t columns) {
          std::vector<TypeParam> table;
          for (std::int64_t id = 0; id < kClasses; ++id) {
            const ShardAddress at = locate_row(id, kClasses, kShards, partition);
            const auto* row =
                static_cast<const TypeParam*>(shards[at.shard].data) + at.row * shards[at.shard].row_stride;
            table.insert(table.end(), row, row + columns);
            for (std::int64_t d = columns; d < columns + kGap && at.row + 1 < shards[at.shard].rows; ++d) {
              EXPECT_EQ(row[d], TypeParam(7));
            }
          }
          return table;
        };
        std::vector<std::vector<TypeParam>> weights_memory, biases_memory;
        const std::vector<Shard> weights = laid_out(given.weights.table, kDim, weights_memory);
        const std::vector<Shard> biases = laid_out(given.biases.table, 1, biases_memory);
        Scoring tables = p.tables();
        tables.weights = {weights, partition};
        tables.biases = {biases, partition};
        std::vector<TypeParam> spread;
        for (std::size_t i = 0; i < p.ids.size(); ++i) {
          spread.insert(spread.end(), p.rows.begin() + i * kDim, p.rows.begin() + (i + 1) * kDim);
          spread.insert(spread.end(), kGap, std::numeric_limits<TypeParam>::quiet_NaN());
        }
        GradientRows rows = p.gradients();
        rows.weights = spread.data();
        rows.weights_stride = kDim + kGap;
        update_rows(p.update(), tables, rows);
        EXPECT_EQ(collected(weights, kDim), whole.weights.table);
        EXPECT_EQ(collected(biases, 1), whole.biases.table);
        EXPECT_TRUE(std::ranges::equal(p.weights.states, whole.weights.states));
        EXPECT_TRUE(std::ranges::equal(p.biases.states, whole.biases.states));
      }
    }
  }
}

struct Threads {
  explicit Threads(int count) { set_num_threads(count); }
  ~Threads() { set_num_threads(before); }
  int before = num_threads();
};

TYPED_TEST(OptimizerTest, TheNumberOfThreadsDoesNotShow) {
  for (const Rule& rule : kRules) {
    UpdateProblem<TypeParam> one(rule, 700, 300, 2'500);
    {
      const Threads threads(1);
      one.run();
    }
    for (const int count : {2, 3, 7}) {
      const Threads threads(count);
      UpdateProblem<TypeParam> p(rule, 700, 300, 2'500);
      p.run();
      EXPECT_TRUE(same(p.weights, one.weights)) << rule.kind << ", " << count << " threads";
      EXPECT_TRUE(same(p.biases, one.biases)) << rule.kind << ", " << count << " threads";
    }
  }
}

// The tables and states of a Problem, updated by a rule.
template <class T>
struct Trained {
  Trained(const Rule& rule, Problem<T>& problem)
      : p(problem), step(rule, problem.sizes.num_classes, problem.sizes.dim, 0) {
    step.weights.table = p.weights;
    step.biases.table = p.biases;
    request = p.request;
    request.weights.shards = {&step.weight_shard, 1};
    request.biases.shards = {&step.bias_shard, 1};
    update = step.update();
  }

  void in_one_call() {
    LossOutputs outputs = p.outputs;
    outputs.grad_weights = outputs.grad_biases = nullptr;
    outputs.update = &update;
    run(plan(request), outputs);
  }
  void in_two_calls() {
    LossOutputs outputs = p.outputs;
    outputs.grad_weights = p.grad_weights.data();  // groups have more rows
    outputs.grad_biases = p.grad_biases.data();
    run(plan(request), outputs);
    update_rows(update, request,
                {.count = std::ssize(p.plan.ids),
                 .ids = p.plan.ids.data(),
                 .weights = p.grad_weights.data(),
                 .weights_stride = p.sizes.dim,
                 .biases = p.grad_biases.data()});
  }

  Problem<T>& p;
  UpdateProblem<T> step;
  LossRequest request;
  RowUpdate update;
};

using Change = std::function<void(Problem<float>&)>;
const std::pair<const char*, Change> kProblems[] = {
    {"plain", [](Problem<float>&) {}},
    {"softmax", [](Problem<float>& p) { p.request.loss.family = LossFamily::kSoftmax; }},
    {"padding and hits",
     [](Problem<float>& p) {
       p.request.loss.remove_accidental_hits = true;
       p.pad(3);
     }},
    {"softmax of lists",
     [](Problem<float>& p) {
       p.request.loss.family = LossFamily::kSoftmax;
       p.make_lists();
     }},
    {"groups", [](Problem<float>& p) { p.make_groups(6, 50); }},
    {"softmax of groups",
     [](Problem<float>& p) {
       p.request.loss.family = LossFamily::kSoftmax;
       p.make_groups(3, 50);
     }},
    {"temperature", [](Problem<float>& p) { p.request.temperature = 0.5; }},
};

TEST(OptimizerOfALoss, AStepIsLossGradientsAndUpdate) {
  for (const auto& [name, change] : kProblems) {
    for (const Rule& rule : kRules) {
      for (const int count : {1, 3}) {
        SCOPED_TRACE(::testing::Message() << name << ", " << rule.kind << ", " << count << " threads");
        const Threads threads(count);
        const Sizes sizes{.batch = 48, .num_true = 2, .num_sampled = 150, .dim = 37, .num_classes = 200};
        Problem<float> ours(sizes, 120), theirs(sizes, 120);
        change(ours);
        change(theirs);
        Trained<float> one(rule, ours), two(rule, theirs);
        for (int i = 0; i < 2; ++i) {
          one.in_one_call();
          two.in_two_calls();
        }
        EXPECT_LE(largest_error(ours.loss, theirs.loss), kStepTolerance<float>);
        EXPECT_LE(largest_error(ours.grad_inputs, theirs.grad_inputs), kStepTolerance<float>);
        EXPECT_LE(largest_error(one.step.weights, two.step.weights), kStepTolerance<float>);
        EXPECT_LE(largest_error(one.step.biases, two.step.biases), kStepTolerance<float>);
      }
    }
  }
}

int asks = 0, last_ask = 0;
bool stop_at_the_last() { return ++asks == last_ask; }

// However late the interrupt comes: a call that throws has written nothing to the tables, any other all of its step.
template <class Call, class Changed, class Whole>
void expect_all_or_nothing(const Call& call, const Changed& changed, const Whole& whole) {
  int interrupted = 0;
  for (last_ask = 1;; ++last_ask) {
    asks = 0;
    try {
      const InterruptScope scope(&stop_at_the_last, std::chrono::milliseconds{0});
      call();
    } catch (const Interrupted&) {
      ++interrupted;
      ASSERT_FALSE(changed()) << "interrupted at ask " << last_ask;
      continue;
    }
    ASSERT_LT(asks, last_ask) << "was told to stop, and went on";
    ASSERT_TRUE(whole());
    break;
  }
  EXPECT_GE(interrupted, 1);
}

TEST(OptimizerOfALoss, AnInterruptedStepHasWrittenNothing) {
  for (const int count : {1, 2}) {
    const Threads threads(count);
    for (const auto& [name, change] : kProblems) {
      SCOPED_TRACE(::testing::Message() << name << ", " << count << " threads");
      const Sizes sizes{.batch = 48, .num_true = 2, .num_sampled = 600, .dim = 37, .num_classes = 200};
      Problem<float> ours(sizes, 120), theirs(sizes, 120);
      change(ours);
      change(theirs);
      Trained<float> one(kRules[2], ours), other(kRules[2], theirs);
      const Updated<float> weights = one.step.weights, biases = one.step.biases;
      other.in_one_call();
      expect_all_or_nothing([&] { one.in_one_call(); },
                            [&] { return !same(one.step.weights, weights) || !same(one.step.biases, biases); },
                            [&] {
                              return largest_error(one.step.weights, other.step.weights) <= kStepTolerance<float> &&
                                     largest_error(one.step.biases, other.step.biases) <= kStepTolerance<float>;
                            });
    }
  }
}

TEST(OptimizerOfRows, AnInterruptedUpdateHasWrittenNothing) {
  UpdateProblem<float> p(kRules[2], 300, 9, 900), whole(kRules[2], 300, 9, 900);
  const Updated<float> weights = p.weights, biases = p.biases;
  whole.run();
  expect_all_or_nothing([&] { p.run(); }, [&] { return !same(p.weights, weights) || !same(p.biases, biases); },
                        [&] { return same(p.weights, whole.weights) && same(p.biases, whole.biases); });
}

// `call` must throw InvalidValue whose text has `expected` in it, and change neither tables nor states.
void expect_refused(UpdateProblem<float>& p, const std::string& expected, const std::function<void()>& call) {
  const Updated<float> weights = p.weights, biases = p.biases;
  try {
    call();
    ADD_FAILURE() << "expected: " << expected;
  } catch (const InvalidValue& error) {
    EXPECT_NE(std::string(error.what()).find(expected), std::string::npos) << error.what();
  }
  EXPECT_TRUE(same(p.weights, weights) && same(p.biases, biases)) << expected;
}

TEST(OptimizerOfRows, NumbersOutOfRangeAreRefused) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  UpdateProblem<float> p(kRules[7], 10, 4, 5);
  const auto refused = [&](const std::string& expected, const std::function<void(Optimizer&)>& change) {
    const Optimizer before = p.optimizer;
    change(p.optimizer);
    expect_refused(p, expected, [&] { p.run(); });
    p.optimizer = before;
  };
  refused("lr = -1: expected a finite number, at least 0", [](Optimizer& o) { o.learning_rate = -1; });
  refused("lr = nan", [&](Optimizer& o) { o.learning_rate = kNan; });
  refused("momentum = -0.1", [](Optimizer& o) { o.momentum = -0.1; });
  refused("betas[0] = 1: expected a number in [0, 1)", [](Optimizer& o) { o.beta1 = 1; });
  refused("betas[1] = -0.5: expected a number in [0, 1)", [](Optimizer& o) { o.beta2 = -0.5; });
  refused("eps = inf", [](Optimizer& o) { o.eps = std::numeric_limits<double>::infinity(); });
  refused("weight_decay = -1", [](Optimizer& o) { o.weight_decay = -1; });
  refused("step = 0: expected at least 1", [](Optimizer& o) { o.step = 0; });
  EXPECT_NO_THROW(p.run());
}

TEST(OptimizerOfRows, ArraysThatDoNotFitAreRefused) {
  UpdateProblem<float> p(kRules[7], 10, 4, 5);
  const auto refused = [&](const std::string& expected,
                           const std::function<void(RowUpdate&, Scoring&, GradientRows&)>& change) {
    RowUpdate update = p.update();
    Scoring tables = p.tables();
    GradientRows rows = p.gradients();
    change(update, tables, rows);
    expect_refused(p, expected, [&] { update_rows(update, tables, rows); });
  };
  const std::vector<std::int64_t> outside = {1, 2, 10, 3, 4};
  refused("ids[2] = 10 is outside", [&](auto&, auto&, GradientRows& rows) { rows.ids = outside.data(); });
  refused("weights_states", [](RowUpdate& update, auto&, auto&) { update.weights_states[1] = nullptr; });
  refused("biases_states", [](RowUpdate& update, auto&, auto&) { update.biases_states[0] = nullptr; });
  Shard shard = p.weight_shard;
  shard.row_stride = 3;
  refused("weights has rows 3 elements apart: expected at least 4",
          [&](auto&, Scoring& tables, auto&) { tables.weights.shards = {&shard, 1}; });
  Shard bias_shard = p.bias_shard;
  bias_shard.row_stride = 0;
  refused("biases has rows 0 elements apart: expected at least 1",
          [&](auto&, Scoring& tables, auto&) { tables.biases.shards = {&bias_shard, 1}; });
}

TEST(OptimizerOfRows, RowsThatShareMemoryAreRefused) {
  UpdateProblem<float> p(kRules[7], 10, 4, 5);
  const auto refused = [&](const std::string& expected, const std::vector<Shard>& weights, const Shard& biases) {
    Scoring tables = p.tables();
    tables.weights.shards = weights;
    tables.biases.shards = {&biases, 1};
    expect_refused(p, expected, [&] { update_rows(p.update(), tables, p.gradients()); });
  };
  float* const table = p.weights.table.data();
  refused("weights has shards that share memory", {{table, 5, 4}, {table, 5, 4}}, p.bias_shard);
  refused("weights has shards that share memory", {{table, 5, 4}, {table + 19, 5, 4}}, p.bias_shard);
  refused("weights has shards that share memory", {{table, 5, 8}, {table + 3, 5, 8}}, p.bias_shard);
  refused("weights has shards that share memory", {{table + 5, 5, 8}, {table + 8, 5, 8}}, p.bias_shard);
  std::vector<Shard> single;
  for (std::int64_t id = 0; id < 10; ++id) single.push_back({table + 4 * id - id / 9, 1, 0});
  refused("weights has shards that share memory", single, p.bias_shard);
  refused("biases shares memory with weights", {p.weight_shard}, {table + 3, 10, 1});
}

// Shards and biases may be columns of one array.
TEST(OptimizerOfRows, RowsThatLieBetweenOthersAreUpdated) {
  for (const Rule& rule : kRules) {
    UpdateProblem<float> apart(rule, 10, 4, 25), p(rule, 10, 4, 25);
    apart.run();
    std::vector<float> array(5 * 10);  // a row: two rows of weights, of one shard each, and two biases
    for (std::int64_t id = 0; id < 10; ++id) {
      float* const row = array.data() + id % 5 * 10;
      std::copy_n(p.weights.table.begin() + id * 4, 4, row + id / 5 * 4);
      row[8 + id / 5] = p.biases.table[id];
    }
    const std::vector<Shard> weights = {{array.data(), 5, 10}, {array.data() + 4, 5, 10}};
    const std::vector<Shard> biases = {{array.data() + 8, 5, 10}, {array.data() + 9, 5, 10}};
    Scoring tables = p.tables();
    tables.weights.shards = weights;
    tables.biases.shards = biases;
    update_rows(p.update(), tables, p.gradients());
    for (std::int64_t id = 0; id < 10; ++id) {
      const float* const row = array.data() + id % 5 * 10;
      EXPECT_TRUE(std::equal(row + id / 5 * 4, row + id / 5 * 4 + 4, apart.weights.table.begin() + id * 4));
      EXPECT_EQ(row[8 + id / 5], apart.biases.table[id]);
    }
  }
}

TEST(OptimizerOfRows, GradientsInTheMemoryOfWhatIsUpdatedAreRefused) {
  UpdateProblem<float> p(kRules[7], 10, 4, 5);
  const auto refused = [&](const std::string& expected, const std::function<void(GradientRows&)>& change) {
    GradientRows rows = p.gradients();
    change(rows);
    expect_refused(p, expected, [&] { update_rows(p.update(), p.tables(), rows); });
  };
  refused("rows shares memory with weights", [&](GradientRows& rows) { rows.weights = p.weights.table.data() + 20; });
  refused("rows shares memory with a state of weights",
          [&](GradientRows& rows) { rows.weights = p.weights.states[1].data(); });
  refused("bias_rows shares memory with biases", [&](GradientRows& rows) { rows.biases = p.biases.table.data() + 5; });
  refused("bias_rows shares memory with a state of biases",
          [&](GradientRows& rows) { rows.biases = p.biases.states[0].data(); });
}

TEST(OptimizerOfRows, ANameThatNoKindHasIsRefused) {
  EXPECT_THROW(optimizer_named("adamw"), InvalidValue);
  for (const Rule& rule : kRules) EXPECT_NO_THROW(optimizer_named(rule.kind));
}

TEST(OptimizerOfALoss, InputsInTheMemoryOfATableAreRefused) {
  const Sizes sizes{.batch = 3, .num_true = 1, .num_sampled = 5, .dim = 4, .num_classes = 20};
  Problem<float> problem(sizes);
  Trained<float> trained(kRules[0], problem);
  trained.request.inputs = trained.step.weights.table.data() + 5;
  expect_refused(trained.step, "inputs shares memory with weights", [&] { trained.in_one_call(); });
  trained.request.inputs = trained.step.biases.table.data() + 2;
  expect_refused(trained.step, "inputs shares memory with biases", [&] { trained.in_one_call(); });
}

}  // namespace
}  // namespace fastnce
