// Equalisation: by spatiogram, by tiles (CLAHE) and as a whole.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "oracle.h"

namespace sdie::selftest {

namespace {

constexpr double kEmptyMass = 1e-6;  // a bin with less counts as empty
constexpr int kLevels = 256;         // of "clahe" and "global"

// An intensity bin: how much lies in it, where, and the inverse of how it is spread.
struct Bin {
  double mass = 0.0, x = 0.0, y = 0.0;
  double xx = 0.0, xy = 0.0, yy = 0.0, log_determinant = 0.0;
};

// Share of an intensity in bin b: linear between the neighbouring bins' centres.
double share(double v, int b, int bins) {
  const double t = v * bins - 0.5, lower = std::floor(t);
  double s = 0.0;
  if (std::clamp(lower, 0.0, bins - 1.0) == b) s += 1.0 - (t - lower);
  if (std::clamp(lower + 1.0, 0.0, bins - 1.0) == b) s += t - lower;
  return s;
}

Bin gather(const Plane& g, int b, int bins) {
  Bin bin;
  const auto each = [&](auto&& f) {
    for (int y = 0; y < g.h; ++y)
      for (int x = 0; x < g.w; ++x)
        if (const double s = share(g(y, x), b, bins); s > 0.0) f(x, y, s);
  };
  each([&](int x, int y, double s) {
    bin.mass += s;
    bin.x += s * x;
    bin.y += s * y;
  });
  if (bin.mass < kEmptyMass) return {};
  bin.x /= bin.mass;
  bin.y /= bin.mass;
  double xx = 0.0, xy = 0.0, yy = 0.0;
  each([&](int x, int y, double s) {
    xx += s * (x - bin.x) * (x - bin.x);
    xy += s * (x - bin.x) * (y - bin.y);
    yy += s * (y - bin.y) * (y - bin.y);
  });
  xx = xx / bin.mass + 1.0;  // one pixel squared, so that a single pixel has a spread too
  yy = yy / bin.mass + 1.0;
  xy /= bin.mass;
  const double determinant = xx * yy - xy * xy;
  bin.xx = yy / determinant;
  bin.xy = -xy / determinant;
  bin.yy = xx / determinant;
  bin.log_determinant = std::log(determinant);
  return bin;
}

Plane equalise_by_place(const Plane& g, int bins) {
  std::vector<Bin> all;
  for (int b = 0; b < bins; ++b) all.push_back(gather(g, b, bins));
  Plane out(g.h, g.w);
  std::vector<double> p(all.size());
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) {
      double most = -std::numeric_limits<double>::infinity(), sum = 0.0, below = 0.0;
      for (std::size_t b = 0; b < all.size(); ++b) {
        const Bin& bin = all[b];
        const double dx = x - bin.x, dy = y - bin.y;
        const double distance = bin.xx * dx * dx + 2.0 * bin.xy * dx * dy + bin.yy * dy * dy;
        p[b] = std::log(bin.mass) - 0.5 * (distance + bin.log_determinant);  // -inf for an empty one
        most = std::max(most, p[b]);
      }
      for (double& v : p) sum += v = std::exp(v - most);  // the largest is 1: nothing is divided by 0
      const double level = g(y, x) * bins;
      const auto k = static_cast<std::size_t>(std::min<int>(static_cast<int>(level), bins - 1));
      for (std::size_t b = 0; b < k; ++b) below += p[b];
      out(y, x) = (below + p[k] * (level - static_cast<double>(k))) / sum;
    }
  return out;
}

using Counts = std::array<double, kLevels>;

// Where an intensity lies between two levels.
struct Between {
  std::size_t low, high;
  double share;
};
Between levels_of(double v) {
  const double t = std::clamp(v, 0.0, 1.0) * (kLevels - 1);
  const auto low = static_cast<std::size_t>(t);
  return {low, std::min<std::size_t>(low + 1, kLevels - 1), t - std::floor(t)};
}

double read(const Counts& table, double v) {
  const Between at = levels_of(v);
  return table[at.low] + at.share * (table[at.high] - table[at.low]);
}

// Histogram of a rectangle of the reflected picture, each pixel split between the two nearest levels.
Counts count_levels(const Plane& g, int y0, int x0, int h, int w) {
  Counts counts{};
  for (int y = y0; y < y0 + h; ++y)
    for (int x = x0; x < x0 + w; ++x) {
      const Between at = levels_of(g.reflected(y, x));
      counts[at.low] += 1.0 - at.share;
      counts[at.high] += at.share;
    }
  return counts;
}

// Adds `share` of so many clipped counts: evenly, the remainder one by one, as OpenCV does.
void spread(int count, double share, Counts& to) {
  for (double& c : to) c += share * (count / kLevels);
  const int remainder = count % kLevels, step = remainder ? kLevels / remainder : 0;
  for (int k = 0; k < remainder; ++k) to[static_cast<std::size_t>(k * step)] += share;
}

Counts cumulated(const Counts& counts, double over) {
  Counts table{};
  double sum = 0.0;
  for (std::size_t k = 0; k < counts.size(); ++k) table[k] = (sum += counts[k]) / over;
  return table;
}

Plane equalise_tiles(const Plane& g, int tiles, double clip_limit) {
  const bool whole = g.h % tiles == 0 && g.w % tiles == 0;
  const int th = g.h / tiles + !whole, tw = g.w / tiles + !whole;
  const double clip = std::max(1.0, std::floor(clip_limit * th * tw / kLevels));
  std::vector<Counts> table;
  for (int i = 0; i < tiles; ++i)
    for (int j = 0; j < tiles; ++j) {
      Counts counts = count_levels(g, i * th, j * tw, th, tw);
      double excess = 0.0;
      for (double& c : counts) {
        excess += std::max(c - clip, 0.0);
        c = std::min(c, clip);
      }
      const int low = static_cast<int>(excess);
      spread(low, 1.0 - (excess - low), counts);
      spread(low + 1, excess - low, counts);
      table.push_back(cumulated(counts, th * tw));
    }
  Plane out(g.h, g.w);
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) {
      const double ty = static_cast<double>(y) / th - 0.5, tx = static_cast<double>(x) / tw - 0.5;
      const int i = static_cast<int>(std::floor(ty)), j = static_cast<int>(std::floor(tx));
      const double fy = ty - i, fx = tx - j;
      const auto tile = [&](int row, int column) {
        const int at = std::clamp(row, 0, tiles - 1) * tiles + std::clamp(column, 0, tiles - 1);
        return read(table[static_cast<std::size_t>(at)], g(y, x));
      };
      out(y, x) = (1.0 - fy) * ((1.0 - fx) * tile(i, j) + fx * tile(i, j + 1)) +
                  fy * ((1.0 - fx) * tile(i + 1, j) + fx * tile(i + 1, j + 1));
    }
  return out;
}

Plane equalise_as_a_whole(const Plane& g) {
  const Counts table = cumulated(count_levels(g, 0, 0, g.h, g.w), g.h * g.w);
  Plane out = g;
  for (double& v : out.values) v = read(table, v);
  return out;
}

}  // namespace

Plane spatiogram(const Plane& g, const Recipe& recipe) {
  if (recipe.is("spatiogram_method", "spatiogram"))
    return equalise_by_place(g, static_cast<int>(recipe("spatiogram_bins")));
  if (recipe.is("spatiogram_method", "clahe"))
    return equalise_tiles(g, static_cast<int>(recipe("spatiogram_tiles")), recipe("spatiogram_clip_limit"));
  return equalise_as_a_whole(g);
}

}  // namespace sdie::selftest
