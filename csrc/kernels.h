// What each instruction set's build offers; dispatch.cpp picks one table at start.
#pragma once
#include <cstddef>

#include "params.h"
#include "team.h"

namespace sdie {

// Asked by one member of a team before each round: whether there is time for it.
struct Pace {
  bool (*fits)(Pace&, int round);
  bool goes_on = true;  // the answer, which the team shares
  int rounds = 0;       // that were done
};

struct Job {
  View src, dst;         // one grey plane or one colour image; dst does not overlap src
  const float* weights;  // rounds x filters, each row non-negative with sum 1
  int rounds;
  const double* params;  // Params::values
  Pace* pace = nullptr;  // where it stops, the state that was reached is written
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
  // All rounds of one image. Where src has no data, of an artificial one; where dst has none, nothing is written. Every
  // member of the team calls it with the same workspace; what lies in it does not matter.
  void (*process)(const Job&, void* workspace, const Team&, WlsInfo*);
};

}  // namespace sdie
