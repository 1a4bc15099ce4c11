#include "fastnce/interrupt.h"

#include "cpu/runtime/interrupt.h"

namespace fastnce {

InterruptScope::InterruptScope(bool (*requested)(), std::chrono::milliseconds interval)
    : outer_(cpu::interrupt_request.requested), outer_interval_(cpu::interrupt_request.interval) {
  cpu::interrupt_request = {requested, interval};
}

InterruptScope::~InterruptScope() { cpu::interrupt_request = {outer_, outer_interval_}; }

}  // namespace fastnce
