// Configuration: what this build and this machine offer, and the settings.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "fastnce/types.h"

namespace fastnce {

std::string_view version();
std::string_view compiler();

// The CPU instruction sets that this build holds and this machine can run; the one preferred is the last.
std::vector<std::string_view> isa_available();

// The one in use: the one preferred, or what the environment variable FASTNCE_ISA names. Throws InvalidValue when that
// is none of those available.
std::string_view isa_in_use();

// "highest", "high" or "medium". precision_from() throws InvalidValue for any other name, calling it `argument`.
std::string_view precision_name(Precision precision);
Precision precision_from(std::string_view name, std::string_view argument);

// The precision of calls that name none: kHighest, or what the environment variable FASTNCE_PRECISION names, unless set
// here. Throws InvalidValue when the variable names no precision.
Precision default_precision();
void set_default_precision(Precision precision);

// The largest number of threads that a call on the CPU uses: OMP_NUM_THREADS or the number of processors, unless set
// here; 1 in a forked child, where OpenMP's threads do not exist, and in a build without OpenMP. Setting it throws
// InvalidValue outside [1, 4096]. A call uses fewer threads where its work does not pay for more.
int num_threads();
void set_num_threads(std::int64_t threads);

}  // namespace fastnce
