// A caller's configuration, checked, as the core takes it.
#pragma once
#include <string>
#include <vector>

#include "../plan.h"
#include "formats.h"

namespace sdie::line {

constexpr std::size_t kFirstConfig = sizeof(sdie_config);  // of interface 1.0: fields that are added come after it

// The kernels in force; refuses a processor that is too old.
const Kernels& kernels_in_force();

// A copy of the caller's struct, usual values in what its header does not have.
sdie_config taken(const sdie_config* config);

// Weights as the core takes them: rounds x filters of the kernels, each row with sum 1.
std::vector<float> normalised(const float* weights, int rounds, int columns, const Kernels& kernels);

struct Setup {
  explicit Setup(const sdie_config& config);  // checks all of it
  const Format &input, &output;
  std::ptrdiff_t src_stride, dst_stride;
  std::vector<float> weights;
  Params params;
  Spec spec;
  Threads threads;
};

}  // namespace sdie::line
