// What to run, in words: rounds of weighted filters, and the parameters that are not the usual ones.
#pragma once
#include <string>
#include <vector>

#include "../kernels.h"

namespace sdie::selftest {

struct Recipe {
  // rounds: "bilateral=1" or "identity=2 wls=1; median=1", weights by name, rounds apart by semicolons.
  // settings: "bilateral_window=5 wls_solver=fast", a number or a choice by name; the rest is as in Python.
  // Throws std::invalid_argument for a name or a value that no filter has.
  Recipe(const Kernels& kernels, const std::string& rounds, const std::string& settings = "");

  // The value of a parameter by its name, "wls_lambda"; a choice by its position.
  double operator()(const std::string& parameter) const;
  bool is(const std::string& parameter, const std::string& choice) const;

  std::string text;
  std::vector<float> weights;  // rounds x filters, each row with sum 1
  int rounds = 0;
  Params params;
  const Kernels* names;  // whose filters and parameters these are
};

}  // namespace sdie::selftest
