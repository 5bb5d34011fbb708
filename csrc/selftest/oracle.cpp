#include "oracle.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace sdie::selftest {

int reflect(int i, int n) {
  if (n == 1) return 0;
  while (i < 0 || i >= n) i = i < 0 ? -i : 2 * (n - 1) - i;
  return i;
}

double Plane::reflected(int y, int x) const { return (*this)(reflect(y, h), reflect(x, w)); }

namespace {

int radius_of(const Recipe& recipe, const char* window) { return static_cast<int>(recipe(window)) / 2; }

Plane blur(const Plane& g, int r, double sigma) {
  std::vector<double> tap;
  double sum = 0.0;
  for (int k = -r; k <= r; ++k) tap.push_back(std::exp(-k * k / (2.0 * sigma * sigma)));
  for (const double t : tap) sum += t;
  const auto weight = [&](int k) { return tap[static_cast<std::size_t>(k + r)] / sum; };
  Plane out(g.h, g.w);
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x)
      for (int dy = -r; dy <= r; ++dy)
        for (int dx = -r; dx <= r; ++dx) out(y, x) += weight(dy) * weight(dx) * g.reflected(y + dy, x + dx);
  return out;
}

Plane box(const Plane& g, int r) {
  Plane out(g.h, g.w);
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) {
      for (int dy = -r; dy <= r; ++dy)
        for (int dx = -r; dx <= r; ++dx) out(y, x) += g.reflected(y + dy, x + dx);
      out(y, x) /= (2 * r + 1) * (2 * r + 1);
    }
  return out;
}

}  // namespace

Plane bilateral(const Plane& g, const Recipe& recipe) {
  const int r = radius_of(recipe, "bilateral_window");
  const bool disk = recipe.is("bilateral_footprint", "disk");
  const double space = recipe("bilateral_sigma_space"), range = recipe("bilateral_sigma_range");
  Plane out(g.h, g.w);
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) {
      double total = 0.0, norm = 0.0;
      for (int dy = -r; dy <= r; ++dy)
        for (int dx = -r; dx <= r; ++dx) {
          const int distance = dy * dy + dx * dx;
          if (disk && distance > r * r) continue;
          const double q = g.reflected(y + dy, x + dx), d = q - g(y, x);
          const double weight = std::exp(-distance / (2.0 * space * space) - d * d / (2.0 * range * range));
          total += weight * q;
          norm += weight;
        }
      out(y, x) = total / norm;
    }
  return out;
}

Plane sharpen(const Plane& g, const Recipe& recipe) {
  Plane out = blur(g, radius_of(recipe, "sharpen_window"), recipe("sharpen_radius"));
  const double amount = recipe("sharpen_amount"), threshold = recipe("sharpen_threshold");
  for (std::size_t i = 0; i < g.values.size(); ++i) {
    const double high = g.values[i] - out.values[i];
    out.values[i] = g.values[i] + (std::abs(high) < threshold ? 0.0 : amount * high);
  }
  return out;
}

Plane guided(const Plane& g, const Recipe& recipe) {
  const int r = radius_of(recipe, "guided_window");
  const double eps = recipe("guided_eps");
  Plane squares = g;
  for (double& v : squares.values) v *= v;
  const Plane mean = box(g, r), mean_square = box(squares, r);
  Plane a(g.h, g.w), b(g.h, g.w);
  for (std::size_t i = 0; i < g.values.size(); ++i) {
    const double m = mean.values[i], variance = mean_square.values[i] - m * m;
    a.values[i] = variance / (variance + eps);
    b.values[i] = (1.0 - a.values[i]) * m;
  }
  const Plane mean_a = box(a, r), mean_b = box(b, r);
  Plane out(g.h, g.w);
  for (std::size_t i = 0; i < g.values.size(); ++i) out.values[i] = mean_a.values[i] * g.values[i] + mean_b.values[i];
  return out;
}

Plane gamma(const Plane& g, const Recipe& recipe) {
  Plane out = g;
  for (double& v : out.values) v = std::pow(v, recipe("gamma_exponent"));
  return out;
}

Plane median(const Plane& g, const Recipe& recipe) {
  const int r = radius_of(recipe, "median_window");
  Plane out(g.h, g.w);
  std::vector<double> taps;
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) {
      taps.clear();
      for (int dy = -r; dy <= r; ++dy)
        for (int dx = -r; dx <= r; ++dx) taps.push_back(g.reflected(y + dy, x + dx));
      const auto middle = taps.begin() + static_cast<std::ptrdiff_t>(taps.size() / 2);
      std::nth_element(taps.begin(), middle, taps.end());
      out(y, x) = *middle;
    }
  return out;
}

Plane gaussian(const Plane& g, const Recipe& recipe) {
  return blur(g, radius_of(recipe, "gaussian_window"), recipe("gaussian_sigma"));
}

namespace {

Plane identity(const Plane& g, const Recipe&) { return g; }

struct Definition {
  const char* filter;
  Plane (*apply)(const Plane&, const Recipe&);
};
constexpr Definition kDefinitions[] = {{"identity", identity}, {"wls", wls},       {"bilateral", bilateral},
                                       {"sharpen", sharpen},   {"guided", guided}, {"spatiogram", spatiogram},
                                       {"gamma", gamma},       {"median", median}, {"gaussian", gaussian}};

Plane apply(const std::string& filter, const Plane& g, const Recipe& recipe) {
  for (const Definition& d : kDefinitions)
    if (filter == d.filter) return d.apply(g, recipe);
  throw std::invalid_argument("the self-test has no definition of the filter " + filter);
}

}  // namespace

Plane enhance_plane(Plane g, const Recipe& recipe) {
  const int filters = recipe.names->count;
  for (int t = 0; t < recipe.rounds; ++t) {
    Plane mixed(g.h, g.w);
    for (int k = 0; k < filters; ++k) {
      const auto weight = static_cast<double>(recipe.weights[static_cast<std::size_t>(t * filters + k)]);
      if (weight == 0.0) continue;
      const Plane result = apply(recipe.names->filters[k].name, g, recipe);
      for (std::size_t i = 0; i < g.values.size(); ++i) mixed.values[i] += weight * result.values[i];
    }
    for (std::size_t i = 0; i < g.values.size(); ++i) g.values[i] = std::clamp(mixed.values[i], 0.0, 1.0);
  }
  return g;
}

}  // namespace sdie::selftest
