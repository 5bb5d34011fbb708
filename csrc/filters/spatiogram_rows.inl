// The spatiogram filter's values, from the bins' statistics. Two ways, chosen by chunks of columns in rows of cells:
//
// - where the cumulative P(.|x) is smooth, it is computed at the corners, the middles of the sides and the middle of
//   cells of kCellW x kCellH pixels, and interpolated by the biquadratic polynomial through these nine points;
// - elsewhere every bin's weight is followed from pixel to pixel: it is exp2 of a quadratic, so each vector is the
//   one before times a ratio that itself changes by a constant factor, along x and along y alike.
//
// A cell is smooth enough if plain bilinear interpolation between its corners would miss the other five points by no
// more than kGridMiss. The biquadratic one, whose error falls with the third power of the cell's size, is then closer
// by a factor of ten or more (P(.|x) is made of logistic curves; the tests measure it). No bin may reach the cell that
// is sharp enough to hide between the points.

constexpr int kCellW = 16, kCellH = 8;
constexpr int kChunk = 4 * kCellW;                   // columns that share one way
constexpr int kChunks = kStrip / kChunk;
constexpr int kSkip = 3;
constexpr int kGridBins = 32;                        // more bins than this are always followed exactly
constexpr int kPoints = kStrip / kCellW + 16;        // grid points of a row, padded to vectors
constexpr float kGridMiss = 3.0f / 510.0f;
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

// One strip's grid around the current row of cells: rows above, amid and under it, in that order by `place`.
struct Grid {
  GridRow row[3];
  GridTable table[3][2][kPoints];  // by row, at and between grid points
  int place[3];
  bool fresh;      // the row above is still to be computed
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

inline void grid_tables(const float (*cdf)[kPoints], int points, GridTable* tables) {
  for (int i = 0; i < points; i += VL) {
    vf last{};
    for (int b = 0; b < kGridBins; b += VL) {
      vf below[VL], p[VL];
      for (int k = 0; k < VL; ++k) {
        const vf sum = load(cdf[b + k] + i);
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

// Computes the grid's row number k (0 above, 1 amid, 2 under) at image row y.
inline void grid_row(const BinTable& table, int x0, int points, int y, Grid& grid, int k) {
  const float fx = static_cast<float>(x0), fy = static_cast<float>(y);
  GridRow& row = grid.row[grid.place[k]];
  GridTable(&tables)[2][kPoints] = grid.table[grid.place[k]];
  grid_points(table, fx, points, fy, row.at);
  grid_points(table, fx + kCellW / 2, points, fy, row.between);
  grid_tables(row.at, points, tables[0]);
  grid_tables(row.between, points, tables[1]);
}

// Marks the chunks in which bilinear interpolation misses the values at some cell's middle or sides by too much.
inline void mark_misses(Grid& grid, int points) {
  const GridRow &upper = grid.row[grid.place[0]], &middle = grid.row[grid.place[1]], &lower = grid.row[grid.place[2]];
  for (int i = 0; i < points; i += VL) {
    vf worst{};
    for (int b = 0; b < kGridBins; ++b) {
      const float *u = upper.at[b] + i, *l = lower.at[b] + i, *m = middle.at[b] + i;
      const vf ul = load(u), ur = load(u + 1), ll = load(l), lr = load(l + 1);
      const vf top = (ul + ur) * 0.5f, bottom = (ll + lr) * 0.5f;
      const auto grow = [&](vf d) { worst = vmax(worst, vmax(d, -d)); };
      grow(load(upper.between[b] + i) - top);
      grow(load(lower.between[b] + i) - bottom);
      grow(load(m) - (ul + ll) * 0.5f);
      grow(load(m + 1) - (ur + lr) * 0.5f);
      grow(load(middle.between[b] + i) - (top + bottom) * 0.5f);
    }
    // Also for a NaN, which an underflow of every bin would give.
    for (int k = 0; k < VL && i + k < points; ++k)
      if (!(worst[k] <= kGridMiss)) grid.exact[(i + k) * kCellW / kChunk] = true;
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
      for (int k = 0; k < 3; ++k) grid.place[k] = k;
      grid_row(table, x0, cells + 1, y, grid, 0);
    } else {
      std::swap(grid.place[0], grid.place[2]);
    }
    grid_row(table, x0, cells + 1, y + kCellH / 2, grid, 1);
    grid_row(table, x0, cells + 1, y + kCellH, grid, 2);
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

// Weights of the values at 0, 1/2 and 1 in the quadratic through them, at t.
template <class T>
inline void quadratic(T t, T (&w)[3]) {
  w[0] = (1.0f - t) * (1.0f - 2.0f * t);
  w[1] = 4.0f * t * (1.0f - t);
  w[2] = t * (2.0f * t - 1.0f);
}

// A grid column's table at one row of pixels, from the three rows of the grid.
inline void blend_table(const Grid& grid, int between, int n, const float (&down)[3], GridTable& out) {
  const GridTable *u = &grid.table[grid.place[0]][between][n], *m = &grid.table[grid.place[1]][between][n],
                  *l = &grid.table[grid.place[2]][between][n];
  for (int b = 0; b < kGridBins; b += VL) {
    store(out.below + b, load(u->below + b) * down[0] + load(m->below + b) * down[1] + load(l->below + b) * down[2]);
    store(out.p + b, load(u->p + b) * down[0] + load(m->p + b) * down[1] + load(l->p + b) * down[2]);
  }
}

// acc += weight * filter(g) for x in [x0, x1), at most a chunk, interpolated. n: the first cell's number; row: of the
// cell.
[[gnu::always_inline]] inline void interpolate_chunk(const BinTable& table, const Grid& grid, int n, int row,
                                                     const float* g, int x0, int x1, float weight, float* acc) {
  const float scale = static_cast<float>(table.bins);
  float down[3];
  quadratic(static_cast<float>(row) / kCellH, down);
  GridTable side[2], middle;  // the right side of a cell is the left one of the next
  blend_table(grid, 0, n, down, side[0]);
  for (int x = x0, k = 0; x < x1; x += kCellW, ++k) {
    const GridTable& left = side[k & 1];
    GridTable& right = side[~k & 1];
    blend_table(grid, 1, n + k, down, middle);
    blend_table(grid, 0, n + k + 1, down, right);
    for (int j = 0; j < kCellW; j += VL) {
      const vf v = load(g + x + j) * scale;
      const vi i = to_int(vmin(vmax(v, vf{}), splat(scale - 1.0f)));
      const vf f = v - to_float(i);
      vf across[3];
      quadratic<vf>((lanes() + static_cast<float>(j)) * (1.0f / kCellW), across);
      const auto read = [&](const GridTable& t) { return lookup32(t.below, i) + f * lookup32(t.p, i); };
      const vf value = across[0] * read(left) + across[1] * read(middle) + across[2] * read(right);
      store(acc + x + j, load(acc + x + j) + weight * value);
    }
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
      interpolate_chunk(table, grid, (x - x0) / kCellW, row, g, x, std::min(x + kChunk, x1), weight, acc);
    }
  }
}
