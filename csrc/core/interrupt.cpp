#include "fastnce/interrupt.h"

#include "cpu/interrupt.h"

namespace fastnce {

InterruptScope::InterruptScope(bool (*requested)()) : outer_(cpu::exchange_interrupt_request(requested)) {}
InterruptScope::~InterruptScope() { cpu::exchange_interrupt_request(outer_); }

}  // namespace fastnce
