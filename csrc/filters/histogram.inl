// Histogram equalisation over 256 levels, whole-image ("global") and contrast-limited by tiles ("clahe",
// Zuiderveld 1994 as OpenCV defines it). Counts are split between the two nearest levels and tables are read
// between levels, so that a float image changes continuously; at 8-bit intensities both are exact.

struct Levels {
  int tiles = 1;             // per side
  int tile_h = 0, tile_w = 0;
  float* table = nullptr;    // tiles * tiles tables of kLevels + 1 floats: the last repeats the one before
};

constexpr int kTable = kLevels + 1;

inline void count_pixel(float v, float* counts) {
  const float t = std::min(std::max(v, 0.0f), 1.0f) * (kLevels - 1);
  const int i = static_cast<int>(t);
  const float f = t - static_cast<float>(i);
  counts[i] += 1.0f - f;
  counts[i + 1] += f;  // level 256 exists in the table and stays empty: f = 0 at the top
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
    std::fill(table, table + kTable, 0.0f);
    const int y0 = t / n * levels.tile_h, x0 = t % n * levels.tile_w;
    // A float32 count is exact to 2^24: rows are gathered apart for images beyond that.
    std::vector<double> total(kTable, 0.0);
    for (int y = y0; y < y0 + levels.tile_h; ++y) {
      const float* row = g.row(reflect(y, h));
      for (int x = x0; x < x0 + levels.tile_w; ++x) count_pixel(row[reflect(x, w)], table);
      for (int i = 0; i < kTable; ++i) {
        total[static_cast<std::size_t>(i)] += table[i];
        table[i] = 0.0f;
      }
    }
    for (int i = 0; i < kTable; ++i) table[i] = static_cast<float>(total[static_cast<std::size_t>(i)]);
    const int area = levels.tile_h * levels.tile_w;
    if (clahe) clip_levels(table, clip_limit, area);
    accumulate_levels(table, static_cast<double>(area));
  }
  team.sync();
}

// acc += weight * equalised(g) for x in [x0, x1) of row y.
inline void levels_row(const Levels& levels, const float* g, int y, int x0, int x1, float weight, float* acc) {
  const int n = levels.tiles;
  const auto place = [n](float t, int& first, int& second) {
    const float low = std::floor(t);
    first = std::max(static_cast<int>(low), 0);
    second = std::min(static_cast<int>(low) + 1, n - 1);
    return t - low;
  };
  int ty0, ty1;
  const float fy = place((static_cast<float>(y)) / static_cast<float>(levels.tile_h) - 0.5f, ty0, ty1);
  const float* above = levels.table + static_cast<std::ptrdiff_t>(ty0) * n * kTable;
  const float* below = levels.table + static_cast<std::ptrdiff_t>(ty1) * n * kTable;
  const float step = 1.0f / static_cast<float>(levels.tile_w);
  for (int x = x0; x < x1; ++x) {
    int tx0, tx1;
    const float fx = place(static_cast<float>(x) * step - 0.5f, tx0, tx1);
    const float t = std::min(std::max(g[x], 0.0f), 1.0f) * (kLevels - 1);
    const int i = static_cast<int>(t);
    const float f = t - static_cast<float>(i);
    const auto read = [&](const float* tables, int tile) {
      const float* p = tables + static_cast<std::ptrdiff_t>(tile) * kTable + i;
      return p[0] + f * (p[1] - p[0]);
    };
    const float top = read(above, tx0) + fx * (read(above, tx1) - read(above, tx0));
    const float bottom = read(below, tx0) + fx * (read(below, tx1) - read(below, tx0));
    acc[x] += weight * (top + fy * (bottom - top));
  }
}
