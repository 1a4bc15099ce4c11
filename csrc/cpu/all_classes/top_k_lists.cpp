#include <algorithm>

#include "cpu/all_classes/sweep.h"

namespace fastnce::cpu {

template <class T>
T keep_best(ScoredClass<T>* candidates, std::int64_t count, std::int64_t k) {
  std::nth_element(candidates, candidates + k - 1, candidates + count, is_better<T>);
  return candidates[k - 1].score;
}

template float keep_best(ScoredClass<float>*, std::int64_t, std::int64_t);
template double keep_best(ScoredClass<double>*, std::int64_t, std::int64_t);

}  // namespace fastnce::cpu
