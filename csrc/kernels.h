// What each instruction set's build offers; dispatch.cpp picks one table at start.
#pragma once
#include <cstddef>

#include "params.h"
#include "team.h"

namespace sdie {

struct Job {
  View src, dst;         // one grey plane or one colour image; dst does not overlap src
  const float* weights;  // rounds x filters, each row non-negative with sum 1
  int rounds;
  const double* params;  // Params::values
};

struct WlsInfo {
  int iterations = 0;     // multigrid cycles
  float estimate = 0.0f;  // of the largest error, in intensity
};

struct Kernels {
  const char* isa;
  int lanes;
  const FilterInfo* filters;  // in the order of weights; the same for every instruction set
  int count;
  // Bytes that `process` needs for a job on a team of the given size.
  std::size_t (*workspace)(const Job&, int team);
  // All rounds of one image. Every member of the team calls it with the same workspace; what lies in it does not
  // matter.
  void (*process)(const Job&, void* workspace, const Team&, WlsInfo*);
};

}  // namespace sdie
