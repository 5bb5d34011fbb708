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

// Sums over lines of a web, for a filter that goes by statistics of the whole picture, which a web never is.
struct Sums {
  double value[780];
};

// What is wanted of a picture that is a window on a web.
struct Strip {
  int top, bottom;       // rows; dst has only these
  Sums* sums = nullptr;  // one for each round; none: statistics are those of the window
  int counting = 0;      // rounds from this one on multiply their sums by `fade` and add the strip's rows
  double fade = 1.0;
};

// The reach of a filter that needs every row of the picture.
constexpr int kEveryRow = 1 << 30;

struct Job {
  View src, dst;         // one grey plane or one colour image; dst does not overlap src
  const float* weights;  // rounds x filters, each row non-negative with sum 1
  int rounds;
  const double* params;  // Params::values
  Pace* pace = nullptr;  // where it stops, the state that was reached is written
  const Strip* strip = nullptr;
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
  // Rows above and below one that a filter needs; of_web: with sums in place of the window's statistics.
  int (*reach)(const double* params, int filter, bool of_web);
  // All rounds of one image. Where src has no data, of an artificial one; where dst has none, nothing is written. Every
  // member of the team calls it with the same workspace; what lies in it does not matter.
  void (*process)(const Job&, void* workspace, const Team&, WlsInfo*);
};

}  // namespace sdie
