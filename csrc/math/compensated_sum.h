// A float64 sum whose error does not grow with the number of terms (Neumaier).
#pragma once

#include <cmath>

namespace fastnce::math {

class CompensatedSum {
 public:
  void add(double term) {
    const double sum = sum_ + term;
    lost_ += std::abs(sum_) >= std::abs(term) ? (sum_ - sum) + term : (term - sum) + sum_;
    sum_ = sum;
  }
  double total() const { return sum_ + lost_; }
  // total - this, without the rounding of this.
  double missing_to(double total) const { return (total - sum_) - lost_; }

 private:
  double sum_ = 0.0, lost_ = 0.0;
};

}  // namespace fastnce::math
