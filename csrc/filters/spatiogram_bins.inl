// The spatiogram filter (Birchfield & Rangarajan 2005 define the spatiogram; its use as an equalising filter is
// this project's, see reference.py): statistics of the whole image first, then a value per pixel.

constexpr int kMaxBins = 64;
constexpr int kSegment = 256;   // columns whose moments are gathered in float32 around their own middle
constexpr int kStatRows = 8;    // rows gathered together, each in a table of its own
constexpr int kStatBlock = 16;  // rows after which float32 sums go to float64
constexpr int kMoments = 6;     // n, x, y, xx, xy, yy

// Sums per pair of neighbouring bins: index i holds the pixels whose lower bin is i - 1; [0] all of them, [1]
// weighted by their share of the upper bin.
struct BinSums {
  double sum[kMaxBins + 1][2][kMoments];
};

// A bin as the filter needs it: log2 of n * N(x; m, S) is c - (a dx^2 + 2 b dx dy + d dy^2).
struct Bin {
  float mx, my, a, b, d, c;
  float growth, drift, sway;  // factors of the recurrences: along x twice, along y twice, and once each
  float ridge_x, ridge_y;     // the largest exponent at a given dx is c - ridge_x dx^2, and so for dy
  bool narrow;                // changes too fast for the recurrences
};

struct BinTable {
  int bins = 0;    // of the histogram
  int used = 0;    // occupied ones, in order
  int index[kMaxBins];
  Bin bin[kMaxBins];
};

// 1, 1, x, x, xx, xx, 0, 0 for every column of a segment, x from its middle.
struct Positions {
  alignas(32) float at[kSegment][8];
  constexpr Positions() : at() {
    for (int i = 0; i < kSegment; ++i) {
      const float x = static_cast<float>(i - kSegment / 2);
      at[i][0] = at[i][1] = 1.0f;
      at[i][2] = at[i][3] = x;
      at[i][4] = at[i][5] = x * x;
    }
  }
};
constexpr Positions kPositions;

static_assert(sizeof(BinSums) <= sizeof(Sums));

// Adds rows [y0, y1) of g to sums.
inline void gather_bins(const Plane& g, int w, int bins, int y0, int y1, BinSums& sums) {
  // Eight floats a pixel: 1, f, x, xf, xx, xxf, and two unused, so that a bin is one vector.
  typedef float v8 __attribute__((vector_size(32), may_alias));
  alignas(64) v8 table[kStatRows][kMaxBins + 1];
  alignas(64) v8 block[kMaxBins + 1][3];  // sums over the rows of a block, times 1, dy and dy^2
  alignas(64) float share[kStatRows][2 * kSegment];  // 1 and f of every pixel
  alignas(64) std::int32_t index[kStatRows][kSegment];
  const float top = static_cast<float>(bins);
  for (int x0 = 0; x0 < w; x0 += kSegment) {
    const int width = std::min(kSegment, w - x0);
    const double middle = x0 + kSegment / 2;
    for (int yb = y0; yb < y1; yb += kStatBlock) {
      const int end = std::min(yb + kStatBlock, y1);
      for (int i = 0; i <= bins; ++i) block[i][0] = block[i][1] = block[i][2] = v8{};
      for (int y = yb; y < end; y += kStatRows) {
        const int rows = std::min(kStatRows, end - y);
        for (int r = 0; r < rows; ++r) {
          const float* in = g.row(y + r) + x0;
          for (int x = 0; x < width; x += VL) {
            const vf t = load(in + x) * top + 0.5f;  // lower bin + 1, and the share of the upper one
            const vi i = to_int(vmin(vmax(t, vf{}), splat(top)));
            *reinterpret_cast<vi*>(index[r] + x) = i * 8;  // in floats
            const vf f = t - to_float(i);
            store(share[r] + 2 * x, interleave_low(splat(1.0f), f));
            store(share[r] + 2 * x + VL, interleave_high(splat(1.0f), f));
          }
        }
        for (int r = 0; r < kStatRows; ++r) std::fill(table[r], table[r] + bins + 1, v8{});
        const auto add = [&](int r, int x) {
          double pair;  // 1 and f as one, to be repeated
          std::memcpy(&pair, share[r] + 2 * x, sizeof pair);
          typedef double v4 __attribute__((vector_size(32)));
          v8& bin = *reinterpret_cast<v8*>(reinterpret_cast<float*>(table[r]) + index[r][x]);
          bin = bin + *reinterpret_cast<const v8*>(kPositions.at[x]) * reinterpret_cast<v8>(v4{pair, pair, pair, pair});
        };
        if (rows == kStatRows) {
          // Rows in turn: neighbours in a row tend to fall in one bin, and would wait for each other.
          for (int x = 0; x < width; ++x) {
            for (int r = 0; r < kStatRows; ++r) add(r, x);
          }
        } else {
          for (int r = 0; r < rows; ++r)
            for (int x = 0; x < width; ++x) add(r, x);
        }
        const float dy = static_cast<float>(y - yb);
        for (int i = 0; i <= bins; ++i)
          for (int r = 0; r < kStatRows; ++r) {
            const v8 m = table[r][i];
            const float d = dy + static_cast<float>(r);
            block[i][0] += m;
            block[i][1] += m * d;
            block[i][2] += m * (d * d);
          }
      }
      for (int i = 0; i <= bins; ++i) {
        const v8 m0 = block[i][0], m1 = block[i][1], m2 = block[i][2];
        if (m0[0] == 0.0f) continue;
        for (int k = 0; k < 2; ++k) {
          const double n = m0[k], x = m0[2 + k], xx = m0[4 + k], ny = m1[k], xy = m1[2 + k], nyy = m2[k];
          double* s = sums.sum[i][k];
          s[0] += n;
          s[1] += x + n * middle;
          s[2] += ny + n * yb;
          s[3] += xx + (2.0 * x + n * middle) * middle;
          s[4] += xy + middle * ny + yb * (x + n * middle);
          s[5] += nyy + (2.0 * ny + n * yb) * yb;
        }
      }
    }
  }
}

constexpr double kNarrow = 7.5;  // a standard deviation in pixels, along a bin's shorter axis

// of_web: the variance along the web is infinite. It is the same for all bins then, and cancels in P(b|x), as does
// what else depends on y.
inline void finish_bins(const BinSums& sums, int bins, bool of_web, BinTable& table) {
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
    const double syy = of_web ? 1.0 : std::max(m[5] / m[0] - my * my, 0.0) + 1.0;
    const double bound = std::sqrt((sxx - 1.0) * (syy - 1.0));
    const double sxy = std::clamp(m[4] / m[0] - mx * my, -bound, bound);
    const double det = sxx * syy - sxy * sxy;
    const double k = 0.5 / (det * std::log(2.0));
    const double along = of_web ? 0.0 : sxx;
    Bin& bin = table.bin[table.used];
    bin.mx = static_cast<float>(mx);
    bin.my = static_cast<float>(my);
    bin.a = static_cast<float>(k * syy);
    bin.b = static_cast<float>(-k * sxy);
    bin.d = static_cast<float>(k * along);
    logs[table.used] = std::log2(m[0]) - 0.5 * std::log2(det);
    top = std::max(top, logs[table.used]);
    const double mean = 0.5 * (sxx + syy);
    const double least = of_web ? sxx : mean - std::sqrt(std::max(mean * mean - det, 0.0));
    bin.narrow = least < kNarrow * kNarrow;
    bin.ridge_x = static_cast<float>(0.5 / (sxx * std::log(2.0)));
    bin.ridge_y = static_cast<float>(of_web ? 0.0 : 0.5 / (syy * std::log(2.0)));
    bin.growth = static_cast<float>(std::exp2(-2.0 * k * syy * VL * VL));
    bin.drift = static_cast<float>(std::exp2(-2.0 * k * along));
    bin.sway = static_cast<float>(std::exp2(2.0 * k * sxy * VL));
    table.index[table.used++] = b;
  }
  // Relative to the largest peak: a common factor cancels in P(b|x).
  for (int i = 0; i < table.used; ++i) table.bin[i].c = static_cast<float>(logs[i] - top);
}
