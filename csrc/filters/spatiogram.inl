// The spatiogram filter (Birchfield & Rangarajan 2005 define the spatiogram; its use as an equalising filter is
// this project's, see reference.py): statistics of the whole image first, then a value per pixel.

constexpr int kSegment = 256;   // columns whose moments are gathered in float32 around their own middle
constexpr int kStatRows = 4;    // rows gathered together, each in a table of its own
constexpr int kMoments = 6;     // n, y-weighted and squared sums in float64: n, x, y, xx, xy, yy

// Sums per pair of neighbouring bins: index i holds the pixels whose lower bin is i - 1; [0] all of them, [1]
// weighted by their share of the upper bin.
struct BinSums {
  double sum[kMaxBins + 1][2][kMoments];
};

// A bin as the filter needs it: log2 of n * N(x; m, S) is c - (a dx^2 + 2 b dx dy + d dy^2).
struct Bin {
  float mx, my, a, b, d, c;
  bool narrow;     // changes too fast for the recurrence below
};

struct BinTable {
  int bins = 0;    // of the histogram
  int used = 0;    // occupied ones, in order
  int index[kMaxBins];
  Bin bin[kMaxBins];
};

// Adds rows [y0, y1) of g to sums.
inline void gather_bins(const Plane& g, int w, int bins, int y0, int y1, BinSums& sums) {
  // Eight floats a pixel: 1, f, x, xf, xx, xxf, and two unused, so that a bin is one vector.
  typedef float v8 __attribute__((vector_size(32)));
  alignas(64) static thread_local float position[kSegment][8];
  for (int i = 0; i < kSegment; ++i) {
    const float x = static_cast<float>(i - kSegment / 2);
    const float p[8] = {1.0f, 1.0f, x, x, x * x, x * x, 0.0f, 0.0f};
    std::copy(p, p + 8, position[i]);
  }
  alignas(64) v8 table[kStatRows][kMaxBins + 1];
  alignas(64) float fraction[kStatRows][kSegment];
  alignas(64) std::int32_t index[kStatRows][kSegment];
  const float top = static_cast<float>(bins);
  for (int x0 = 0; x0 < w; x0 += kSegment) {
    const int width = std::min(kSegment, w - x0);
    const double middle = x0 + kSegment / 2;
    for (int y = y0; y < y1; y += kStatRows) {
      const int rows = std::min(kStatRows, y1 - y);
      for (int r = 0; r < rows; ++r) {
        const float* in = g.row(y + r) + x0;
        for (int x = 0; x < width; x += VL) {
          const vf t = load(in + x) * top + 0.5f;  // lower bin + 1, and the share of the upper one
          const vi i = to_int(vmin(vmax(t, vf{}), splat(top)));
          *reinterpret_cast<vi*>(index[r] + x) = i;
          store(fraction[r] + x, t - to_float(i));
        }
        std::fill(table[r], table[r] + bins + 1, v8{});
      }
      const auto add = [&](int r, int x) {
        const float f = fraction[r][x];
        const v8 share = {1.0f, f, 1.0f, f, 1.0f, f, 1.0f, f};
        v8& bin = table[r][index[r][x]];
        bin = bin + *reinterpret_cast<const v8*>(position[x]) * share;
      };
      if (rows == kStatRows) {
        for (int x = 0; x < width; ++x) {
          add(0, x);
          add(1, x);
          add(2, x);
          add(3, x);
        }
      } else {
        for (int r = 0; r < rows; ++r)
          for (int x = 0; x < width; ++x) add(r, x);
      }
      // Float32 holds these four rows exactly enough; the image's sums are kept in float64.
      for (int i = 0; i <= bins; ++i) {
        v8 m0{}, m1{}, m2{};
        for (int r = 0; r < rows; ++r) {
          const float dy = static_cast<float>(r);
          m0 += table[r][i];
          m1 += table[r][i] * dy;
          m2 += table[r][i] * (dy * dy);
        }
        if (m0[0] == 0.0f) continue;
        for (int k = 0; k < 2; ++k) {
          const double n = m0[k], x = m0[2 + k], xx = m0[4 + k], ny = m1[k], xy = m1[2 + k], nyy = m2[k];
          double* s = sums.sum[i][k];
          s[0] += n;
          s[1] += x + n * middle;
          s[2] += ny + n * y;
          s[3] += xx + (2.0 * x + n * middle) * middle;
          s[4] += xy + middle * ny + y * (x + n * middle);
          s[5] += nyy + (2.0 * ny + n * y) * y;
        }
      }
    }
  }
}

constexpr float kNarrow = 20.0f;  // pixels of standard deviation under which a bin is evaluated directly

inline void finish_bins(const BinSums& sums, int bins, BinTable& table) {
  table.bins = bins;
  table.used = 0;
  double logs[kMaxBins];
  double top = -1e300;
  for (int b = 0; b < bins; ++b) {
    double m[kMoments];
    for (int j = 0; j < kMoments; ++j) {
      // Lower share of the pixels between b and b + 1, upper share of those between b - 1 and b; the outermost
      // half bins give all they have to the first and the last bin.
      m[j] = sums.sum[b + 1][0][j] - sums.sum[b + 1][1][j] + sums.sum[b][1][j];
      if (b == 0) m[j] += sums.sum[0][0][j] - sums.sum[0][1][j];
      if (b == bins - 1) m[j] += sums.sum[bins][1][j];
    }
    if (m[0] < 1e-6) continue;
    const double mx = m[1] / m[0], my = m[2] / m[0];
    const double sxx = std::max(m[3] / m[0] - mx * mx, 0.0) + 1.0;
    const double syy = std::max(m[5] / m[0] - my * my, 0.0) + 1.0;
    const double bound = std::sqrt((sxx - 1.0) * (syy - 1.0));
    const double sxy = std::clamp(m[4] / m[0] - mx * my, -bound, bound);
    const double det = sxx * syy - sxy * sxy;
    const double k = 0.5 / (det * std::log(2.0));
    Bin& bin = table.bin[table.used];
    bin.mx = static_cast<float>(mx);
    bin.my = static_cast<float>(my);
    bin.a = static_cast<float>(k * syy);
    bin.b = static_cast<float>(-k * sxy);
    bin.d = static_cast<float>(k * sxx);
    logs[table.used] = std::log2(m[0]) - 0.5 * std::log2(det);
    top = std::max(top, logs[table.used]);
    const double mean = 0.5 * (sxx + syy);
    const double least = mean - std::sqrt(std::max(mean * mean - det, 0.0));
    bin.narrow = least < kNarrow * kNarrow;
    table.index[table.used++] = b;
  }
  // Relative to the largest peak: a common factor cancels in P(b|x).
  for (int i = 0; i < table.used; ++i) table.bin[i].c = static_cast<float>(logs[i] - top);
}

// acc += weight * filter(g) for the kRun vectors from column x of row y on: one exp2 starts a bin, two products
// carry it from vector to vector.
template <int kRun>
inline void spatiogram_block(const BinTable& table, const float* g, int y, int x, float weight, float* acc) {
  const float scale = static_cast<float>(table.bins);
  const vf lane = lanes();
  const vf floor_exponent = splat(-120.0f);
  vf v[kRun], below[kRun], total[kRun];
  vf low = splat(scale), high = vf{};
  for (int k = 0; k < kRun; ++k) {
    v[k] = load(g + x + k * VL) * scale;
    low = vmin(low, v[k]);
    high = vmax(high, v[k]);
    below[k] = total[k] = vf{};
  }
  const int first = static_cast<int>(hmin(low)), last = static_cast<int>(hmax(high));
  for (int i = 0; i < table.used; ++i) {
    const Bin& bin = table.bin[i];
    const float dy = static_cast<float>(y) - bin.my;
    const float slope = 2.0f * bin.b * dy, level = bin.c - bin.d * dy * dy;
    const vf dx = (static_cast<float>(x) - bin.mx) + lane;
    vf p[kRun];
    if (bin.narrow) {
      for (int k = 0; k < kRun; ++k) {
        const vf d = dx + static_cast<float>(k * VL);
        p[k] = exp2v(vmax(level - (d * bin.a + slope) * d, floor_exponent));
      }
    } else {
      // The exponent is a quadratic in x: one step of VL pixels multiplies by a ratio that itself grows
      // by a constant factor.
      const vf e0 = level - (dx * bin.a + slope) * dx;
      const vf d1 = dx + static_cast<float>(VL);
      const vf e1 = level - (d1 * bin.a + slope) * d1;
      vf ratio = exp2v(e1 - e0);
      const vf growth = exp2v(splat(-2.0f * bin.a * VL * VL));
      p[0] = exp2v(vmax(e0, floor_exponent));
      for (int k = 1; k < kRun; ++k) {
        p[k] = p[k - 1] * ratio;
        ratio *= growth;
      }
    }
    const int b = table.index[i];
    if (b > last) {
      for (int k = 0; k < kRun; ++k) total[k] += p[k];
    } else if (b < first) {
      for (int k = 0; k < kRun; ++k) {
        total[k] += p[k];
        below[k] += p[k];
      }
    } else {
      for (int k = 0; k < kRun; ++k) {
        total[k] += p[k];
        below[k] += p[k] * clamp01(v[k] - static_cast<float>(b));
      }
    }
  }
  for (int k = 0; k < kRun; ++k)
    store(acc + x + k * VL, load(acc + x + k * VL) + below[k] * (weight / total[k]));
}

// The same for x in [x0, x1).
inline void spatiogram_row(const BinTable& table, const float* g, int y, int x0, int x1, float weight,
                           float* acc) {
  int x = x0;
  for (; x + 4 * VL <= x1; x += 4 * VL) spatiogram_block<4>(table, g, y, x, weight, acc);
  for (; x < x1; x += VL) spatiogram_block<1>(table, g, y, x, weight, acc);
}
