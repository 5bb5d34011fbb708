// The filters by their definitions, in double and one pixel after another: what the kernels are held against. Kept
// scalar and plain; sdie_fast/filters/*.py has the formulas and their sources. Intensities are in [0, 1].
#pragma once
#include <vector>

#include "recipe.h"

namespace sdie::selftest {

struct Plane {
  int h, w;
  std::vector<double> values;
  Plane(int height, int width)
      : h(height), w(width), values(static_cast<std::size_t>(h) * static_cast<std::size_t>(w)) {}
  double& operator()(int y, int x) { return values[index(y, x)]; }
  double operator()(int y, int x) const { return values[index(y, x)]; }
  // With the border reflected, the edge pixel not repeated.
  double reflected(int y, int x) const;

 private:
  std::size_t index(int y, int x) const {
    return static_cast<std::size_t>(y) * static_cast<std::size_t>(w) + static_cast<std::size_t>(x);
  }
};

// Position of i among n pixels whose border is reflected.
int reflect(int i, int n);

Plane bilateral(const Plane& g, const Recipe& recipe);
Plane sharpen(const Plane& g, const Recipe& recipe);
Plane guided(const Plane& g, const Recipe& recipe);
Plane gamma(const Plane& g, const Recipe& recipe);
Plane median(const Plane& g, const Recipe& recipe);
Plane gaussian(const Plane& g, const Recipe& recipe);
Plane wls(const Plane& g, const Recipe& recipe);         // oracle_wls.cpp
Plane spatiogram(const Plane& g, const Recipe& recipe);  // oracle_spatiogram.cpp

// All rounds of one plane: the weighted sum of the filters, clipped to [0, 1], each from the one before.
Plane enhance_plane(Plane g, const Recipe& recipe);

}  // namespace sdie::selftest
