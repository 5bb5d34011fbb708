// The spatiogram filter's values, from the bins' statistics. A bin's weight is exp2 of a quadratic in the pixel's
// place: each vector is the one before times a ratio that itself changes by a constant factor, along x and along y
// alike. So weights are followed from pixel to pixel, in blocks of kChunk columns and kChunkRows rows; bins that are
// too small in a block to be seen are left out there.

constexpr int kChunkVectors = 4;
constexpr int kChunk = kChunkVectors * VL;
constexpr int kChunkRows = 16;
constexpr int kChunks = kStrip / kChunk;
constexpr float kUnseen = -16.0f;  // log2 of a weight, relative to the largest, that is left out
constexpr float kFaint = -120.0f;  // and of one that starts as zero

// Where the recurrences of one bin stand in one chunk.
struct Front {
  vf p;        // weights at the chunk's first vector
  vf along_y;  // what p is multiplied with for the next row
  vf along_x;  // ratio of the second vector to the first
  int bin;     // among those that occur
};

// The bins that count in a chunk, in order: those before `low` lie below all its pixels, those from `high` on above.
struct Chunk {
  int low, high, used;
  float top;  // log2 of a weight that none passes: all are taken relative to it
  Front front[kMaxBins];
};

// Weights of a bin at VL points as exponents.
inline vf bin_exponent(const Bin& bin, vf x, float y) {
  const float dy = y - bin.my;
  const vf dx = x - bin.mx;
  return (bin.c - bin.d * dy * dy) - (dx * bin.a + 2.0f * bin.b * dy) * dx;
}

// An exponent that a bin's weights in a box do not pass, and their least.
inline float bin_range(const Bin& bin, float x0, float x1, float y0, float y1, float& least) {
  const float left = x0 - bin.mx, right = x1 - bin.mx, top = y0 - bin.my, bottom = y1 - bin.my;
  const float dx = std::max(std::max(left, -right), 0.0f), dy = std::max(std::max(top, -bottom), 0.0f);  // to the box
  const auto at = [&](float x, float y) { return (bin.a * x + 2.0f * bin.b * y) * x + bin.d * y * y; };
  least = bin.c - std::max(std::max(at(left, top), at(right, top)), std::max(at(left, bottom), at(right, bottom)));
  return bin.c - std::max(bin.ridge_x * dx * dx, bin.ridge_y * dy * dy);
}

// Starts a chunk of `width` columns from x on, for rows [y, end).
inline void start_chunk(const BinTable& table, const Plane& state, int x, int width, int y, int end, Chunk& chunk) {
  float most[kMaxBins];
  const float left = static_cast<float>(x), upper = static_cast<float>(y);
  // Some bin reaches `floor` everywhere.
  float floor = -std::numeric_limits<float>::max();
  chunk.top = floor;
  for (int k = 0; k < table.used; ++k) {
    float least;
    most[k] = bin_range(table.bin[k], left, left + static_cast<float>(width - 1), upper, static_cast<float>(end - 1),
                        least);
    chunk.top = std::max(chunk.top, most[k]);
    floor = std::max(floor, least);
  }
  vf low = splat(1.0f), high = vf{};
  for (int row = y; row < end; ++row)
    for (int k = 0; k < width; k += VL) {
      const vf g = load(state.row(row) + x + k);
      low = vmin(low, g);
      high = vmax(high, g);
    }
  const float bins = static_cast<float>(table.bins);
  const int first = static_cast<int>(hmin(low) * bins), last = static_cast<int>(hmax(high) * bins);
  chunk.low = chunk.high = chunk.used = 0;
  for (int k = 0; k < table.used; ++k) {
    if (most[k] < floor + kUnseen) continue;
    const Bin& bin = table.bin[k];
    Front& front = chunk.front[chunk.used++];
    front.bin = k;
    if (table.index[k] < first) chunk.low = chunk.used;
    if (table.index[k] <= last) chunk.high = chunk.used;
    if (bin.narrow) continue;
    const vf at = left + lanes(), e = bin_exponent(bin, at, upper);
    front.p = e > chunk.top + kFaint ? exp2v(e - chunk.top) : vf{};
    front.along_y = exp2v(bin_exponent(bin, at, upper + 1.0f) - e);
    front.along_x = exp2v(bin_exponent(bin, at + static_cast<float>(VL), upper) - e);
  }
}

// acc += weight * filter(g) for R vectors from column x of row y on; moves the fronts to the next row.
template <int R>
inline void follow_chunk(const BinTable& table, Chunk& chunk, const float* g, int x, int y, float weight, float* acc) {
  vf v[R], below[R], total[R];
  for (int k = 0; k < R; ++k) {
    v[k] = load(g + x + k * VL) * static_cast<float>(table.bins);
    total[k] = vf{};
  }
  // Calls use(k, p) for the weights p of the next bin at vector k, up to a bin's number.
  int next = 0;
  const auto follow_to = [&](int end, auto&& use) __attribute__((always_inline)) {
    for (; next < end; ++next) {
      Front& front = chunk.front[next];
      const Bin& bin = table.bin[front.bin];
      if (bin.narrow) {
        for (int k = 0; k < R; ++k) {
          const vf at = static_cast<float>(x + k * VL) + lanes();
          use(k, exp2_weight(bin_exponent(bin, at, static_cast<float>(y)) - chunk.top));
        }
        continue;
      }
      vf p = front.p, ratio = front.along_x;
      front.p = p * front.along_y;
      front.along_y *= bin.drift;
      front.along_x = ratio * bin.sway;
      for (int k = 0; k < R; ++k) {
        use(k, p);
        p *= ratio;
        ratio *= bin.growth;
      }
    }
  };
  follow_to(chunk.low, [&](int k, vf p) { total[k] += p; });
  for (int k = 0; k < R; ++k) below[k] = total[k];
  follow_to(chunk.high, [&](int k, vf p) {
    total[k] += p;
    below[k] += p * clamp01(v[k] - static_cast<float>(table.index[chunk.front[next].bin]));
  });
  follow_to(chunk.used, [&](int k, vf p) { total[k] += p; });
  for (int k = 0; k < R; ++k) add_to(acc, x + k * VL, below[k] * (weight * recip(vmax(total[k], splat(1e-37f)))));
}

// acc += weight * filter(state) for x in [x0, x1) of row y; rows must come in order and end before
// `end`. start: this one is the first, or some kChunkRows after it.
inline void spatiogram_row(const BinTable& table, const Plane& state, int end, int y, bool start, int x0, int x1,
                           float weight, Chunk* chunks, float* acc) {
  for (int x = x0; x < x1; x += kChunk) {
    Chunk& chunk = *chunks++;
    const int width = std::min(kChunk, x1 - x);
    if (start) start_chunk(table, state, x, width, y, std::min(y + kChunkRows, end), chunk);
    with_radius<1, kChunkVectors>(width / VL, [&](auto vectors) {
      follow_chunk<vectors>(table, chunk, state.row(y), x, y, weight, acc);
    });
  }
}
