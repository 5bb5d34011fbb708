// The instruction sets that were compiled in and run here, and the one in force.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

namespace sdie {

// Runnable tables, slowest first.
const std::vector<const Kernels*>& runnable_kernels();

// The table named, or for "" the active one: SDIE_FAST_ISA if set, else the last runnable. Throws
// std::invalid_argument with the accepted names.
const Kernels& kernels_for(const std::string& isa);

}  // namespace sdie
