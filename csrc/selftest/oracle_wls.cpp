// Weighted least squares (Farbman et al. 2008), solved directly, and its separable approximation (Min et al. 2014).
#include <algorithm>
#include <cmath>

#include "oracle.h"

namespace sdie::selftest {

namespace {

constexpr double kSmall = 1e-4;

double to_lightness(double v) {  // CIE 1976 L*, 0 to 100, of a grey sRGB intensity
  const double linear = v <= 0.04045 ? v / 12.92 : std::pow((v + 0.055) / 1.055, 2.4);
  return linear <= 216.0 / 24389.0 ? linear * 24389.0 / 27.0 : 116.0 * std::cbrt(linear) - 16.0;
}

double from_lightness(double l) {
  const double linear = l <= 8.0 ? l * 27.0 / 24389.0 : std::pow((l + 16.0) / 116.0, 3.0);
  return linear <= 0.0031308 ? linear * 12.92 : 1.055 * std::pow(linear, 1.0 / 2.4) - 0.055;
}

// Weight of the edge between neighbours of values p and q.
double edge(double p, double q, double alpha) {
  return 1.0 / (std::pow(std::abs(std::log(p + kSmall) - std::log(q + kSmall)), alpha) + kSmall);
}

Plane transposed(const Plane& g) {
  Plane out(g.w, g.h);
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) out(x, y) = g(y, x);
  return out;
}

// (I + lambda L) u = g for the whole picture by a banded Cholesky factorisation, pixels in row order.
Plane solve_exactly(const Plane& g, double alpha, double lambda) {
  if (g.w > g.h) return transposed(solve_exactly(transposed(g), alpha, lambda));  // the band is a row long
  const int n = g.h * g.w, band = g.w;
  // factor(i, band - d) holds the lower triangle's entry (i, i - d).
  Plane factor(n, band + 1);
  for (int i = 0; i < n; ++i) factor(i, band) = 1.0;
  const auto join = [&](int i, int j, double a) {  // i < j
    factor(i, band) += a;
    factor(j, band) += a;
    factor(j, band - (j - i)) -= a;
  };
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) {
      const int i = y * g.w + x;
      if (x + 1 < g.w) join(i, i + 1, lambda * edge(g(y, x), g(y, x + 1), alpha));
      if (y + 1 < g.h) join(i, i + g.w, lambda * edge(g(y, x), g(y + 1, x), alpha));
    }
  for (int i = 0; i < n; ++i)
    for (int j = std::max(0, i - band); j <= i; ++j) {
      double sum = factor(i, band - (i - j));
      for (int k = std::max(0, i - band); k < j; ++k) sum -= factor(i, band - (i - k)) * factor(j, band - (j - k));
      factor(i, band - (i - j)) = i == j ? std::sqrt(sum) : sum / factor(j, band);
    }
  Plane u = g;
  std::vector<double>& v = u.values;
  const auto at = [&](int i) -> double& { return v[static_cast<std::size_t>(i)]; };
  for (int i = 0; i < n; ++i) {
    for (int k = std::max(0, i - band); k < i; ++k) at(i) -= factor(i, band - (i - k)) * at(k);
    at(i) /= factor(i, band);
  }
  for (int i = n - 1; i >= 0; --i) {
    for (int k = i + 1; k <= std::min(n - 1, i + band); ++k) at(i) -= factor(k, band - (k - i)) * at(k);
    at(i) /= factor(i, band);
  }
  return u;
}

// (I + lambda L_x) v = u along every row; the edges are those of g. Elimination and substitution (Thomas).
Plane solve_rows(const Plane& u, const Plane& g, double alpha, double lambda) {
  Plane out = u;
  std::vector<double> next(static_cast<std::size_t>(g.w));
  for (int y = 0; y < g.h; ++y) {
    double before = 0.0, pivot = 0.0;
    for (int x = 0; x < g.w; ++x) {
      const double after = x + 1 < g.w ? lambda * edge(g(y, x), g(y, x + 1), alpha) : 0.0;
      pivot = 1.0 + before + after;
      double right = u(y, x);
      if (x > 0) {
        pivot -= before * next[static_cast<std::size_t>(x - 1)];
        right += before * out(y, x - 1);
      }
      next[static_cast<std::size_t>(x)] = after / pivot;
      out(y, x) = right / pivot;
      before = after;
    }
    for (int x = g.w - 2; x >= 0; --x) out(y, x) += next[static_cast<std::size_t>(x)] * out(y, x + 1);
  }
  return out;
}

Plane solve_fast(const Plane& g, double alpha, double lambda) {
  const Plane turned = transposed(g);
  Plane u = g;
  for (int t = 1; t <= 3; ++t) {
    const double step = 1.5 * std::pow(4.0, 3 - t) / (std::pow(4.0, 3) - 1.0) * lambda;
    u = solve_rows(u, g, alpha, step);
    u = transposed(solve_rows(transposed(u), turned, alpha, step));
  }
  return u;
}

}  // namespace

Plane wls(const Plane& g, const Recipe& recipe) {
  const bool lightness = recipe.is("wls_domain", "lightness");
  const double alpha = recipe("wls_alpha"), lambda = recipe("wls_lambda");
  Plane u = g;
  if (lightness)
    for (double& v : u.values) v = to_lightness(v);
  u = recipe.is("wls_solver", "exact") ? solve_exactly(u, alpha, lambda) : solve_fast(u, alpha, lambda);
  if (lightness)
    for (double& v : u.values) v = from_lightness(v);
  return u;
}

}  // namespace sdie::selftest
