// The bilateral filter: the window averaged by distance and by likeness.

constexpr int kMaxTaps = (2 * kMaxRadius + 1) * (2 * kMaxRadius + 1);

struct Taps {
  int count = 0, level = 0, down = 0;  // all; then those in the pixel's own row come first, and those below it next
  int dy[kMaxTaps], dx[kMaxTaps];
  float log_weight[kMaxTaps];  // log2 of the spatial weight
  float scale = 1.0f;          // intensities times this make the range exponent -d^2
  bool deep = false;           // some exponent may pass -120: clamp, so that no weight is denormal
};

inline Taps make_taps(int r, bool disk, double ss, double sr) {
  Taps taps;
  const double log2e = 1.4426950408889634;
  const auto add_row = [&](int dy) {
    for (int dx = -r; dx <= r; ++dx) {
      if (dx == 0 && dy == 0) continue;  // the centre weighs 1 and is added outside the loops
      if (disk && dx * dx + dy * dy > r * r) continue;
      taps.dy[taps.count] = dy;
      taps.dx[taps.count] = dx;
      taps.log_weight[taps.count++] =
          static_cast<float>(std::max(-(dx * dx + dy * dy) * log2e / (2.0 * ss * ss), -120.0));
    }
  };
  add_row(0);
  taps.level = taps.count;
  for (int dy = 1; dy <= r; ++dy) add_row(dy);
  taps.down = taps.count - taps.level;
  for (int dy = 1; dy <= r; ++dy) add_row(-dy);
  taps.scale = static_cast<float>(std::sqrt(log2e / (2.0 * sr * sr)));
  taps.deep = log2e * (1.0 / (2.0 * sr * sr) + r * r / (ss * ss)) > 120.0;
  return taps;
}

template <bool deep>
inline vf tap_weight(vf d, float log_weight) {
  vf e = log_weight - d * d;
  if constexpr (deep) e = vmax(e, splat(-120.0f));
  const vf n = round_whole(e);
  return scale_by_exp2(exp2_fraction_weight(e - n), n);
}

// A pair of pixels has one weight, whichever of them is the centre. For windows up to 2 * kPairRadius + 1 the weights
// towards the rows below are kept, and the row below takes them from there: a ring of kPairRing rows for each.
constexpr int kPairRadius = 3;
constexpr int kPairRing = 4;
constexpr int kMaxPairs = kPairRadius * (2 * kPairRadius + 1);
constexpr int kPairStride = kPairRing * kRowFloats + 3 * 16;  // odd lines: rings side by side share no cache set

struct Pairs {
  float* now[kMaxPairs];           // weights of this row's pixels towards (dy, dx), by this row's columns
  const float* before[kMaxPairs];  // the same of the row dy above
};

// Computes the weights towards the rows below for the vector at column x, without using them. Only those with dy >=
// least are wanted, and of those, with side != 0, the ones whose dx has its sign.
template <bool deep>
inline void pair_weights(const Taps& taps, const Window& rows, const Pairs& pairs, int x, int least, int side) {
  const vf centre = load(rows[0] + x);
  for (int i = 0; i < taps.down; ++i) {
    const int t = taps.level + i;
    if (taps.dy[t] < least || (side != 0 && taps.dx[t] * side <= 0)) continue;
    const vf d = load(rows[taps.dy[t]] + x + taps.dx[t]) - centre;
    store(pairs.now[i] + x, tap_weight<deep>(d, taps.log_weight[t]));
  }
}

// acc += weight * bilateral for the U vectors from column x on. rows are multiplied by taps.scale.
// pairs: null if the window is too large for them.
template <bool deep, int U>
[[gnu::always_inline]] inline void bilateral_block(const Taps& taps, const Window& rows, const Pairs* pairs, int x,
                                                   float weight, float* acc) {
  vf centre[U], sum[U], norm[U];
  for (int k = 0; k < U; ++k) {
    centre[k] = load(rows[0] + x + k * VL);
    sum[k] = vf{};
    norm[k] = splat(1.0f);
  }
  const int direct = pairs ? taps.level : taps.count;
  for (int i = 0; i < direct; ++i) {
    const float* q = rows[taps.dy[i]] + x + taps.dx[i];
    for (int k = 0; k < U; ++k) {
      const vf d = load(q + k * VL) - centre[k];
      const vf t = tap_weight<deep>(d, taps.log_weight[i]);
      norm[k] += t;
      sum[k] += t * d;
    }
  }
  if (pairs) {
    for (int i = 0; i < taps.down; ++i) {
      const int t = taps.level + i;
      const float* below = rows[taps.dy[t]] + x + taps.dx[t];
      const float* above = rows[-taps.dy[t]] + x - taps.dx[t];
      const float* kept = pairs->before[i] + x - taps.dx[t];
      for (int k = 0; k < U; ++k) {
        const vf d = load(below + k * VL) - centre[k];
        const vf w = tap_weight<deep>(d, taps.log_weight[t]);
        store(pairs->now[i] + x + k * VL, w);
        const vf v = load(kept + k * VL);
        norm[k] += w + v;
        sum[k] += w * d;
        sum[k] += v * (load(above + k * VL) - centre[k]);
      }
    }
  }
  // The sum of differences from the centre keeps more digits than the sum of intensities.
  const float back = weight / taps.scale;
  for (int k = 0; k < U; ++k)
    store(acc + x + k * VL, load(acc + x + k * VL) + back * (centre[k] + sum[k] / norm[k]));
}

// The same for x in [x0, x1).
template <bool deep>
[[gnu::always_inline]] inline void bilateral_row(const Taps& taps, const Window& rows, const Pairs* pairs, int x0,
                                                 int x1, float weight, float* acc) {
  if (pairs) {
    // The row below will look up to kPairRadius columns past both ends.
    for (int x = x0 - round_up(kPairRadius, VL); x < x0; x += VL) pair_weights<deep>(taps, rows, *pairs, x, 1, 1);
    for (int x = x1; x < x1 + kPairRadius; x += VL) pair_weights<deep>(taps, rows, *pairs, x, 1, -1);
  }
  int x = x0;
  for (; x + 4 * VL <= x1; x += 4 * VL) bilateral_block<deep, 4>(taps, rows, pairs, x, weight, acc);
  if (x + 2 * VL <= x1) {
    bilateral_block<deep, 2>(taps, rows, pairs, x, weight, acc);
    x += 2 * VL;
  }
  for (; x < x1; x += VL) bilateral_block<deep, 1>(taps, rows, pairs, x, weight, acc);
}

struct Bilateral : Filter {
  static constexpr const char* kName = "bilateral";
  enum class Footprint { square, disk };
  int window;
  float sigma_space, sigma_range;
  Footprint footprint;
  constexpr void declare(auto&& visit) {
    visit(window, "window", odd_window());
    visit(sigma_space, "sigma_space", within(0.1, 100.0));
    visit(sigma_range, "sigma_range", within(0.005, 10.0));
    visit(footprint, "footprint", one_of("square", "disk"));
  }
  Taps taps;
  float* scaled;           // a ring: the state times Taps::scale
  float* kept = nullptr;   // kMaxPairs rings of kPairRing rows: the weights of pairs, in small windows
  int next;                // row of the state to be scaled

  void lay_out(int, int, Arena&, Arena& own) {
    scaled = own.take<float>(kRowFloats * kRing);
    if (window / 2 <= kPairRadius) kept = own.take<float>(kMaxPairs * kPairStride);
  }

  void prepare(const Frame&) {
    if (taps.count == 0) taps = make_taps(window / 2, footprint == Footprint::disk, sigma_space, sigma_range);
  }

  void row(const Frame& frame, const Row& r, float weight) {
    if (taps.deep)
      row_of<true>(frame, r, weight);
    else
      row_of<false>(frame, r, weight);
  }

 private:
  template <bool deep>
  void row_of(const Frame& frame, const Row& r, float weight) {
    const int radius = window / 2;
    if (r.y == r.top) next = std::max(0, r.top - radius);
    for (; next <= std::min(r.y + radius, frame.h - 1); ++next) {
      const float* in = frame.state.row(next);
      float* to = r.ring(scaled, next);
      for (int x = r.x0 - kHalo; x < r.x1 + kHalo; x += VL) store(to + x, load(in + x) * taps.scale);
    }
    Window rows;
    Pairs pairs;
    const auto turn_to = [&](int y) {
      for (int k = -radius; k <= radius; ++k) rows[k] = r.ring(scaled, reflect(y + k, frame.h));
      if (!kept) return;
      for (int i = 0; i < taps.down; ++i) {
        float* own = r.own(kept + i * kPairStride);
        pairs.now[i] = own + (y & (kPairRing - 1)) * kRowFloats;
        pairs.before[i] = own + ((y - taps.dy[taps.level + i]) & (kPairRing - 1)) * kRowFloats;
      }
    };
    if (r.y == r.top && kept) {
      // What the rows above the tile would have left.
      for (int above = r.y - radius; above < r.y; ++above) {
        turn_to(above);
        for (int x = r.x0 - round_up(kPairRadius, VL); x < r.x1 + kPairRadius; x += VL)
          pair_weights<deep>(taps, rows, pairs, x, r.y - above, 0);
      }
    }
    turn_to(r.y);
    bilateral_row<deep>(taps, rows, kept ? &pairs : nullptr, r.x0, r.x1, weight, r.acc);
  }
};
