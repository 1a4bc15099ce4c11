// Work that runs beside a stream's.
#pragma once

#include "cuda/runtime/runtime.h"

namespace fastnce::cuda {

// It starts after what the main stream was given before; join() makes the main stream wait for it. So does the
// destructor: after an exception, too, what the main stream is given next may reuse the memory. Events alone order the
// two, so that a CUDA graph can capture them.
class SideStream {
 public:
  explicit SideStream(const Stream& main) : SideStream(main, runtime::take_side_stream(main)) {
    runtime::wait_for(side_, main_);
  }
  SideStream(const SideStream&) = delete;
  ~SideStream() {
    try {
      join();
    } catch (...) {  // the stream is broken, and the caller is about to hear of it
    }
    runtime::give_side_stream_back(side_);
  }

  const Stream& stream() const { return side_; }
  void join() {
    if (joined_) return;
    runtime::wait_for(main_, side_);
    joined_ = true;
  }

 private:
  // From here on the destructor gives the stream back.
  SideStream(const Stream& main, const Stream& side) : main_(main), side_(side) {}

  Stream main_;
  Stream side_;
  bool joined_ = false;
};

}  // namespace fastnce::cuda
