// Kernel arguments of a pass over all classes: the scores of a strip of examples against the classes of one thread,
// tile by tile, never a [B, V] matrix.
#pragma once

#include <cstdint>

#include "cpu/all_classes/progress.h"
#include "cpu/gemm/tile_shape.h"
#include "cpu/loss/loss_task.h"
#include "cpu/runtime/interrupt.h"
#include "cpu/runtime/parallel.h"

namespace fastnce::cpu {

// Ids in lists, one for each example, ascending where it matters. Repeats are harmless.
struct IdLists {
  const std::int64_t* offsets = nullptr;  // [examples + 1]; null: no lists
  const std::int64_t* ids = nullptr;
};

// Examples count within the strip.
template <class T>
struct Sweep {
  PlaneShape plane;  // the sizes of tiles: the longest strip and the most classes of a thread
  TableView weights;
  TableView biases;
  Range classes;          // of this thread
  std::int64_t examples;  // of the strip
  const T* const* x_rows;
  T* packed_x;           // [tiles of examples, x_elements], of all threads
  IdLists excluded;      // classes that an example leaves out, ascending
  std::int64_t* cursor;  // [examples]: this thread's place in each list
  Interruption* interruption;
  SweepProgress* progress;  // of the calling thread; null in the others
};

// True classes of a strip's examples, as in TargetsView.
struct StripLabels {
  const std::int64_t* offsets;  // [examples + 1]
  const std::int64_t* ids;      // of the entries from offsets[0] on
};

template <class T>
struct ScoredClass {
  T score;  // not NaN
  std::int64_t id;
};

// Falling scores, ties by ascending id.
template <class T>
bool is_better(const ScoredClass<T>& a, const ScoredClass<T>& b) {
  return a.score > b.score || (a.score == b.score && a.id < b.id);
}

// The k best classes that a thread has met so far are among the candidates of an example, in no order. `least` is the
// k-th best score, or lower.
template <class T>
struct TopKLists {
  std::int64_t k, capacity;    // k < capacity
  ScoredClass<T>* candidates;  // [examples, capacity]
  std::int64_t* counts;        // [examples]
  T* least;                    // [examples]
};

// Moves the k best of `count` > k candidates to the front, in no order, and returns the k-th best score.
template <class T>
T keep_best(ScoredClass<T>* candidates, std::int64_t count, std::int64_t k);

template <class T>
struct RankCounts {
  StripLabels labels;
  const T* scores;       // of the entries
  std::int64_t* counts;  // of the entries: 2 for each class that scores higher, 1 for each that scores the same
};

// Where one thread leaves gradients; null: not wanted.
template <class T>
struct ClassGradients {
  void* weights;  // [V, D]
  DType weights_dtype;
  void* biases;  // [V]
  DType biases_dtype;
  bool first_strip;  // sets the rows of tables, else adds to them
  T* dx;             // [examples, D], this thread's own
  // What the true classes add to dL/dlogit; classes ascend in each example.
  StripLabels labels;
  const T* label_grads;  // of the entries from labels.offsets[0] on
  std::int64_t* cursor;  // [examples]: this thread's place among the labels of each
};

}  // namespace fastnce::cpu
