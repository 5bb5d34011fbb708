// Histogram equalisation over 256 levels, whole-image ("global") and contrast-limited by tiles ("clahe",
// Zuiderveld 1994 as OpenCV defines it for 8-bit images; its 16-bit CLAHE has 65,536 levels). Counts are split between
// the two nearest levels and tables are read between levels, so that 16-bit and float images change continuously; at
// 8-bit intensities both are exact.

constexpr int kLevels = 256;
constexpr int kTable = kLevels + 1;

struct Levels {
  int tiles = 1;             // per side
  int tile_h = 0, tile_w = 0;
  float* table = nullptr;    // tiles * tiles tables of kLevels + 1 floats: the last repeats the one before
};

constexpr int kCounters = 4;               // neighbours are often equal, and would wait for each other in one
constexpr int kCounterPixels = 1 << 16;    // after which float32 counts go to float64
constexpr int kCountBlock = 64;            // columns

// The level below an intensity, and how far the intensity is from it towards the next.
inline vi level_of(vf v, vf& part) {
  const vf t = clamp01(v) * (kLevels - 1);
  const vi level = to_int(t);
  part = t - to_float(level);
  return level;
}

// Counts the pixels of rows [y0, y1) and columns [left, end) by level; what lies outside the image is reflected.
inline void count_levels(const Plane& g, int h, int w, int y0, int y1, int left, int end, double* total) {
  alignas(64) float counts[kCounters][kTable] = {};
  alignas(64) float part[kCountBlock], padding[kCountBlock] = {};
  alignas(64) std::int32_t level[kCountBlock];
  const auto flush = [&] {
    for (int i = 0; i < kTable; ++i)
      for (int k = 0; k < kCounters; ++k) {
        total[i] += counts[k][i];
        counts[k][i] = 0.0f;
      }
  };
  int pending = 0;
  for (int y = y0; y < y1; ++y) {
    const float* row = g.row(reflect(y, h));
    for (int x0 = left; x0 < end; x0 += kCountBlock) {
      const int width = std::min(kCountBlock, end - x0);
      const float* in = row + x0;
      if (x0 + width > w) {
        for (int x = 0; x < width; ++x) padding[x] = row[reflect(x0 + x, w)];
        in = padding;
      }
      for (int x = 0; x < width; x += VL) {
        vf f;
        *reinterpret_cast<vi*>(level + x) = level_of(load(in + x), f);
        store(part + x, f);
      }
      for (int x = 0; x < width; ++x) {
        float* at = counts[x % kCounters] + level[x];
        at[0] += 1.0f - part[x];
        at[1] += part[x];  // level 256 exists in the table and stays empty: no part at the top
      }
    }
    pending += end - left;
    if (pending >= kCounterPixels) {
      flush();
      pending = 0;
    }
  }
  flush();
}

// Turns counts into a table of outputs in [0, 1].
inline void accumulate_levels(float* table, double total) {
  double sum = 0.0;
  for (int i = 0; i < kLevels; ++i) {
    sum += table[i];
    table[i] = static_cast<float>(sum / total);
  }
  table[kLevels] = table[kLevels - 1];
}

inline void clip_levels(float* counts, float clip_limit, int area) {
  const float clip = static_cast<float>(
      std::max(1, static_cast<int>(static_cast<double>(clip_limit) * area / kLevels)));
  double excess = 0.0;
  for (int i = 0; i < kLevels; ++i) {
    excess += std::max(counts[i] - clip, 0.0f);
    counts[i] = std::min(counts[i], clip);
  }
  // The excess goes back as OpenCV does it: evenly, the remainder one by one. Between whole counts, which only images
  // between 8-bit levels have, linear: so that a rounding error of the image is not one of a whole count.
  const int whole = static_cast<int>(excess);
  const float part = static_cast<float>(excess - whole);
  const auto give = [counts](int count, float share) {
    const float each = share * static_cast<float>(count / kLevels);
    for (int i = 0; i < kLevels; ++i) counts[i] += each;
    int remainder = count % kLevels;
    const int step = kLevels / std::max(remainder, 1);
    for (int i = 0; i < kLevels && remainder > 0; i += step, --remainder) counts[i] += share;
  };
  give(whole, 1.0f - part);
  give(whole + 1, part);
}

// As OpenCV: an image that the tiles do not divide is padded at the bottom and at the right, both sides by
// tiles - size % tiles.
inline void set_tiles(Levels& levels, int h, int w) {
  const int n = levels.tiles;
  const bool even = h % n == 0 && w % n == 0;
  levels.tile_h = even ? h / n : (h + n - h % n) / n;
  levels.tile_w = even ? w / n : (w + n - w % n) / n;
}

inline void make_level_tables(const Plane& g, int h, int w, float clip_limit, bool clahe, const Levels& levels,
                              const Team& team) {
  const int n = levels.tiles;
  const auto [t0, t1] = team.share(n * n);
  for (int t = t0; t < t1; ++t) {
    float* table = levels.table + static_cast<std::ptrdiff_t>(t) * kTable;
    double total[kTable] = {};
    const int ty = t / n, tx = t % n;
    count_levels(g, h, w, ty * levels.tile_h, (ty + 1) * levels.tile_h, tx * levels.tile_w, (tx + 1) * levels.tile_w,
                 total);
    for (int i = 0; i < kTable; ++i) table[i] = static_cast<float>(total[i]);
    const int area = levels.tile_h * levels.tile_w;
    if (clahe) clip_levels(table, clip_limit, area);
    accumulate_levels(table, static_cast<double>(area));
  }
  team.sync();
}

// The tables of a web, by the counts before and after a strip: where `counts`, total = fade * total + the counts of
// rows [y0, y1). Both are the same where nothing was counted before.
inline void level_tables_of_web(const Plane& g, int y0, int y1, int w, bool counts, double fade, double* total,
                                float* tables) {
  const auto make = [&](float* table) {
    double area = 0.0;
    for (int i = 0; i < kTable; ++i) area += total[i];
    for (int i = 0; i < kTable; ++i) table[i] = static_cast<float>(total[i]);
    if (area > 0.0) accumulate_levels(table, area);
    return area > 0.0;
  };
  const bool before = make(tables);
  if (counts) {
    for (int i = 0; i < kTable; ++i) total[i] *= fade;
    count_levels(g, y1, w, y0, y1, 0, w, total);
  }
  make(tables + kTable);
  if (!before) std::copy(tables + kTable, tables + 2 * kTable, tables);
}

// The tiles on both sides of place t (in tiles, their middles being whole numbers), and how far t is from the first.
inline vf between_tiles(vf t, int n, vi& first, vi& second) {
  const vi low = to_int(t + 1.0f) - 1;  // rounds down, as t >= -1/2
  const vi top = (vi{} + n) - 1;
  first = low < 0 ? vi{} : low > top ? top : low;
  second = low + 1 > top ? top : low + 1;
  return t - to_float(low);
}

// The tables of row y: between those of the tiles above and below it.
inline void blend_tiles(const Levels& levels, int y, float* blended) {
  const int n = levels.tiles;
  vi above, below;
  const vf fy = between_tiles(splat(static_cast<float>(y) / static_cast<float>(levels.tile_h) - 0.5f), n, above, below);
  const float* upper = levels.table + static_cast<std::ptrdiff_t>(above[0]) * n * kTable;
  const float* lower = levels.table + static_cast<std::ptrdiff_t>(below[0]) * n * kTable;
  for (int i = 0; i < n * kTable; ++i) blended[i] = upper[i] + fy[0] * (lower[i] - upper[i]);
}

// Of a web: between the two tables that level_tables_of_web makes.
inline void blend_web(const Levels& levels, float newer, float* blended) {
  const float *from = levels.table, *to = levels.table + kTable;
  for (int i = 0; i < kTable; ++i) blended[i] = from[i] + newer * (to[i] - from[i]);
}

// acc += weight * equalised(g) for x in [x0, x1), whole vectors, by a row of tables.
inline void levels_row(const Levels& levels, const float* g, int x0, int x1, float weight, const float* blended,
                       float* acc) {
  const int n = levels.tiles;
  const float step = 1.0f / static_cast<float>(levels.tile_w);
  for (int x = x0; x < x1; x += VL) {
    vi left, right;
    vf f;
    const vi level = level_of(load(g + x), f);
    const auto read = [&](vi tile) {
      const vi at = tile * kTable + level;
      const vf v = gather(blended, at);
      return v + f * (gather(blended + 1, at) - v);
    };
    vf value = splat(0.0f);
    if (n == 1) {
      value = read(vi{});
    } else {
      const vf fx = between_tiles((static_cast<float>(x) + lanes()) * step - 0.5f, n, left, right);
      const vf v = read(left);
      value = v + fx * (read(right) - v);
    }
    store(acc + x, load(acc + x) + weight * value);
  }
}
