// The spatiogram filter's values, from the bins' statistics. Two ways, chosen cell by cell:
//
// - where the cumulative P(.|x) is smooth, it is computed on a grid of kCellW x kCellH pixels and interpolated
//   bilinearly. A cell qualifies if interpolation agrees with the exact values at its middle and at the middles of
//   its sides, to kGridError, and if no bin so sharp that it could hide between those points reaches it;
// - elsewhere every bin's weight is followed from pixel to pixel: it is exp2 of a quadratic, so each vector is the
//   one before times a ratio that itself changes by a constant factor, along x and along y alike.

constexpr int kCellW = 16, kCellH = 8;
constexpr int kChunk = 4 * kCellW;                   // columns that share one way
constexpr int kChunks = kStrip / kChunk;
constexpr int kSkip = 3;
constexpr int kGridBins = 32;                        // more bins than this are always followed exactly
constexpr int kPoints = kStrip / kCellW + 16;        // grid points of a row, padded to vectors
constexpr float kGridError = 0.4f / 510.0f;         // of the filter's tolerance of 1/510, the part for interpolation
constexpr float kFaint = -120.0f;  // log2 of a weight, relative to the largest bin's peak, that starts as zero
constexpr float kReach = -36.0f;   // the same where a narrow bin ends
constexpr float kSeen = -12.0f;    // and where a sharp one no longer forbids interpolation

// Where the recurrences of one bin stand in one chunk.
struct Front {
  vf p;        // weights at the chunk's first vector
  vf along_y;  // what p is multiplied with for the next row
  vf along_x;  // ratio of the second vector to the first
};

// Cumulative sums over the bins at the grid points of one row and at the points half-way to the next.
struct GridRow {
  float at[kGridBins][kPoints], between[kGridBins][kPoints];
};

// What pixels look up at one grid point: the cumulative sum below each bin, and the bin's own P.
struct GridTable {
  float below[kGridBins], p[kGridBins];
};

// One strip's grid around the current row of cells.
struct Grid {
  GridRow row[3];  // two that change places, and the one in the middle between them
  GridTable table[2][kPoints];
  GridRow *upper, *lower, *middle;
  GridTable *above, *under;
  bool fresh;      // upper and above are still to be computed
  int skip;        // rows of cells left for which the grid is not tried, because it failed everywhere
  bool exact[kChunks];
  Front fronts[kChunks][kMaxBins];
};

// Weights of a bin at VL points as exponents.
inline vf bin_exponent(const Bin& bin, vf x, float y) {
  const float dy = y - bin.my;
  const vf dx = x - bin.mx;
  return (bin.c - bin.d * dy * dy) - (dx * bin.a + 2.0f * bin.b * dy) * dx;
}

// The columns [low, high] that a bin reaches in row y with an exponent above `least`; false if none.
inline bool bin_reach(const Bin& bin, float y, float least, float& low, float& high) {
  // A row's cut through the bin is a Gaussian in x of known middle and peak.
  const float dy = y - bin.my;
  const float peak = bin.c - (bin.d - bin.b * bin.b / bin.a) * dy * dy;
  if (peak < least) return false;
  const float middle = bin.mx - bin.b / bin.a * dy, half = std::sqrt((peak - least) / bin.a);
  low = middle - half;
  high = middle + half;
  return true;
}

// cdf[b][i] = sum over bins below and including b of P at (x0 + i * kCellW, y).
inline void grid_points(const BinTable& table, float x0, int points, float y, float (*cdf)[kPoints]) {
  for (int i = 0; i < points; i += VL) {
    const vf x = (x0 + static_cast<float>(i * kCellW)) + lanes() * static_cast<float>(kCellW);
    vf sum{};
    int next = 0;
    for (int k = 0; k < table.used; ++k) {
      for (; next < table.index[k]; ++next) store(cdf[next] + i, sum);
      sum += exp2_weight(bin_exponent(table.bin[k], x, y));
    }
    for (; next < kGridBins; ++next) store(cdf[next] + i, sum);
    const vf norm = 1.0f / sum;
    for (int b = 0; b < kGridBins; ++b) store(cdf[b] + i, load(cdf[b] + i) * norm);
  }
}

inline void grid_row(const BinTable& table, int x0, int points, int y, GridRow& row) {
  const float fx = static_cast<float>(x0), fy = static_cast<float>(y);
  grid_points(table, fx, points, fy, row.at);
  grid_points(table, fx + kCellW / 2, points, fy, row.between);
}

inline void grid_tables(const GridRow& row, int points, GridTable* tables) {
  for (int i = 0; i < points; i += VL) {
    vf last{};
    for (int b = 0; b < kGridBins; b += VL) {
      vf below[VL], p[VL];
      for (int k = 0; k < VL; ++k) {
        const vf sum = load(row.at[b + k] + i);
        below[k] = last;
        p[k] = sum - last;
        last = sum;
      }
      transpose(below);
      transpose(p);
      for (int k = 0; k < VL; ++k) {
        store(tables[i + k].below + b, below[k]);
        store(tables[i + k].p + b, p[k]);
      }
    }
  }
}

// Marks the chunks in which interpolation misses the values at some cell's middle or sides by too much.
inline void mark_misses(Grid& grid, int points) {
  for (int i = 0; i < points; i += VL) {
    vf worst{};
    for (int b = 0; b < kGridBins; ++b) {
      const float *u = grid.upper->at[b] + i, *l = grid.lower->at[b] + i, *m = grid.middle->at[b] + i;
      const vf ul = load(u), ur = load(u + 1), ll = load(l), lr = load(l + 1);
      const vf top = (ul + ur) * 0.5f, bottom = (ll + lr) * 0.5f;
      const auto grow = [&](vf d) { worst = vmax(worst, vmax(d, -d)); };
      grow(load(grid.upper->between[b] + i) - top);
      grow(load(grid.lower->between[b] + i) - bottom);
      grow(load(m) - (ul + ll) * 0.5f);
      grow(load(m + 1) - (ur + lr) * 0.5f);
      grow(load(grid.middle->between[b] + i) - (top + bottom) * 0.5f);
    }
    // Also for a NaN, which an underflow of every bin would give.
    for (int k = 0; k < VL && i + k < points; ++k)
      if (!(worst[k] <= kGridError)) grid.exact[(i + k) * kCellW / kChunk] = true;
  }
}

// Marks the chunks that a sharp bin reaches in rows y to y + kCellH.
inline void mark_sharp(const BinTable& table, int x0, int chunks, int y, Grid& grid) {
  for (int k = 0; k < table.used; ++k) {
    if (!table.bin[k].sharp) continue;
    for (int r = 0; r <= kCellH; ++r) {
      float low, high;
      if (!bin_reach(table.bin[k], static_cast<float>(y + r), kSeen, low, high)) continue;
      const float from = std::max((low - static_cast<float>(x0)) / kChunk, 0.0f);
      const float to = std::min((high - static_cast<float>(x0)) / kChunk, static_cast<float>(chunks) - 0.5f);
      for (int c = static_cast<int>(from); static_cast<float>(c) <= to; ++c) grid.exact[c] = true;
    }
  }
}

// Starts the cells whose first row is y, for columns [x0, x1).
inline void start_cells(const BinTable& table, int x0, int x1, int y, Grid& grid) {
  const int chunks = (x1 - x0 + kChunk - 1) / kChunk;
  const int cells = chunks * kChunk / kCellW;
  const bool try_grid = table.bins <= kGridBins && grid.skip == 0;
  std::fill(grid.exact, grid.exact + chunks, !try_grid);
  if (!try_grid) {
    grid.fresh = true;
    --grid.skip;
  } else {
    if (grid.fresh) {
      grid.upper = &grid.row[0];
      grid.lower = &grid.row[1];
      grid.middle = &grid.row[2];
      grid.above = grid.table[0];
      grid.under = grid.table[1];
      grid_row(table, x0, cells + 1, y, *grid.upper);
      grid_tables(*grid.upper, cells + 1, grid.above);
    } else {
      std::swap(grid.upper, grid.lower);
      std::swap(grid.above, grid.under);
    }
    grid_row(table, x0, cells + 1, y + kCellH / 2, *grid.middle);
    grid_row(table, x0, cells + 1, y + kCellH, *grid.lower);
    grid_tables(*grid.lower, cells + 1, grid.under);
    grid.fresh = false;
    mark_misses(grid, cells);
    mark_sharp(table, x0, chunks, y, grid);
    if (std::all_of(grid.exact, grid.exact + chunks, [](bool e) { return e; })) grid.skip = kSkip;
  }
  for (int c = 0; c < chunks; ++c) {
    if (!grid.exact[c]) continue;
    const vf x = static_cast<float>(x0 + c * kChunk) + lanes();
    const float fy = static_cast<float>(y);
    for (int k = 0; k < table.used; ++k) {
      const Bin& bin = table.bin[k];
      if (bin.narrow) continue;
      Front& front = grid.fronts[c][k];
      const vf e = bin_exponent(bin, x, fy);
      front.p = e > kFaint ? exp2v(e) : vf{};
      front.along_y = exp2v(bin_exponent(bin, x, fy + 1.0f) - e);
      front.along_x = exp2v(bin_exponent(bin, x + static_cast<float>(VL), fy) - e);
    }
  }
}

// acc += weight * filter(g) for the chunk from column x of row y on, every bin followed; moves the fronts to the
// next row.
inline void follow_chunk(const BinTable& table, Front* fronts, const float* g, int x, int y, float weight,
                         float* acc) {
  constexpr int R = kChunk / VL;
  const float scale = static_cast<float>(table.bins);
  vf v[R], below[R], total[R];
  vf low = splat(scale), high = vf{};
  for (int k = 0; k < R; ++k) {
    v[k] = load(g + x + k * VL) * scale;
    low = vmin(low, v[k]);
    high = vmax(high, v[k]);
    below[k] = total[k] = vf{};
  }
  const int first = static_cast<int>(hmin(low)), last = static_cast<int>(hmax(high));
  for (int i = 0; i < table.used; ++i) {
    const Bin& bin = table.bin[i];
    vf p[R];
    if (bin.narrow) {
      float from, to;
      if (!bin_reach(bin, static_cast<float>(y), kReach, from, to)) continue;
      if (to < static_cast<float>(x) || from > static_cast<float>(x + kChunk)) continue;
      for (int k = 0; k < R; ++k)
        p[k] = exp2_weight(bin_exponent(bin, static_cast<float>(x + k * VL) + lanes(), static_cast<float>(y)));
    } else {
      Front& front = fronts[i];
      vf w = front.p, ratio = front.along_x;
      front.p = w * front.along_y;
      front.along_y *= bin.drift;
      front.along_x = ratio * bin.sway;
      for (int k = 0; k < R; ++k) {
        p[k] = w;
        w *= ratio;
        ratio *= bin.growth;
      }
    }
    const int b = table.index[i];
    if (b > last) {
      for (int k = 0; k < R; ++k) total[k] += p[k];
    } else if (b < first) {
      for (int k = 0; k < R; ++k) {
        total[k] += p[k];
        below[k] += p[k];
      }
    } else {
      for (int k = 0; k < R; ++k) {
        total[k] += p[k];
        below[k] += p[k] * clamp01(v[k] - static_cast<float>(b));
      }
    }
  }
  for (int k = 0; k < R; ++k)
    store(acc + x + k * VL, load(acc + x + k * VL) + below[k] * (weight / total[k]));
}

// acc += weight * filter(g) for one cell's columns from x on, interpolated between its four grid points, cell and
// cell + 1 of the rows above and under it; down: the row's place between those, 0 to 1.
inline void interpolate_cell(const BinTable& table, const GridTable* above, const GridTable* under, float down,
                             const float* g, int x, float weight, float* acc) {
  const float scale = static_cast<float>(table.bins);
  GridTable side[2];
  for (int k = 0; k < 2; ++k)
    for (int b = 0; b < kGridBins; b += VL) {
      const auto mix = [&](const float* from, const float* to) {
        const vf v = load(from + b);
        return v + (load(to + b) - v) * down;
      };
      store(side[k].below + b, mix(above[k].below, under[k].below));
      store(side[k].p + b, mix(above[k].p, under[k].p));
    }
  for (int k = 0; k < kCellW; k += VL) {
    const vf v = load(g + x + k) * scale;
    const vi i = to_int(vmin(vmax(v, vf{}), splat(scale - 1.0f)));
    const vf f = v - to_float(i);
    const vf l = lookup32(side[0].below, i) + f * lookup32(side[0].p, i);
    const vf r = lookup32(side[1].below, i) + f * lookup32(side[1].p, i);
    const vf across = (lanes() + static_cast<float>(k)) * (1.0f / kCellW);
    store(acc + x + k, load(acc + x + k) + weight * (l + across * (r - l)));
  }
}

// acc += weight * filter(g) for x in [x0, x1) of row y; rows must come in order from the tile's first, `top`.
inline void spatiogram_row(const BinTable& table, const float* g, int y, int top, int x0, int x1, float weight,
                           Grid& grid, float* acc) {
  const int row = (y - top) % kCellH;
  if (y == top) {
    grid.fresh = true;
    grid.skip = 0;
  }
  if (row == 0) start_cells(table, x0, x1, y, grid);
  for (int x = x0, c = 0; x < x1; x += kChunk, ++c) {
    if (grid.exact[c]) {
      follow_chunk(table, grid.fronts[c], g, x, y, weight, acc);
    } else {
      for (int k = 0; k < kChunk && x + k < x1; k += kCellW) {
        const int n = (x + k - x0) / kCellW;
        interpolate_cell(table, grid.above + n, grid.under + n, static_cast<float>(row) / kCellH, g, x + k, weight,
                         acc);
      }
    }
  }
}
