// The bilateral filter: the window averaged by distance and by likeness.

constexpr double kLog2E = 1.4426950408889634;

// The range weight of two intensities times `scale` is exp2 of minus their squared difference.
struct RangeScale {
  float scale;
  bool deep;  // some exponent may pass -120: clamp, so that no weight is denormal
};

inline RangeScale range_scale(int radius, double sigma_space, double sigma_range) {
  const double range = kLog2E / (2.0 * sigma_range * sigma_range);  // the exponent of intensities 0 and 1
  const double most = range + kLog2E * radius * radius / (sigma_space * sigma_space);
  return {static_cast<float>(std::sqrt(range)), most > 120.0};
}

// log2 of the spatial weight at a squared distance.
inline float log_distance_weight(int squared, double sigma) {
  return static_cast<float>(std::max(-squared * kLog2E / (2.0 * sigma * sigma), -120.0));
}

template <bool deep>
inline vf tap_weight(vf d, vf log_weight) {
  vf e = log_weight - d * d;
  if constexpr (deep) e = vmax(e, splat(-120.0f));
  return exp2_weight_normal(e);
}

// ---- windows up to 2 * kPairRadius + 1: a pair of pixels has one weight, whichever of them is the centre ----------

constexpr int kPairRadius = 3;
constexpr int kPairRing = 4;
constexpr int kMaxPairs = kPairRadius * (2 * kPairRadius + 2);

// The window's pixels that come after its centre, row by row, those in the centre's own row first; the others mirror
// them. As constants: then every address is a register and a number.
template <int R, bool disk>
struct Taps {
  struct Tap {
    int dy, dx;
    constexpr int squared() const { return dy * dy + dx * dx; }
  };
  static constexpr bool has(int dy, int dx) { return !disk || dy * dy + dx * dx <= R * R; }
  static constexpr int count = [] {
    int n = 0;
    for (int dy = 0; dy <= R; ++dy)
      for (int dx = dy == 0 ? 1 : -R; dx <= R; ++dx) n += has(dy, dx);
    return n;
  }();
  static constexpr auto all = [] {
    std::array<Tap, count> taps{};
    int n = 0;
    for (int dy = 0; dy <= R; ++dy)
      for (int dx = dy == 0 ? 1 : -R; dx <= R; ++dx)
        if (has(dy, dx)) taps[static_cast<std::size_t>(n++)] = {dy, dx};
    return taps;
  }();
  static constexpr int level = R;  // those in the centre's row

  // Calls f(number, tap) for taps [from, count), both as types.
  template <int from = 0, int to = count, class F>
  [[gnu::always_inline]] static void each(F&& f) {
    if constexpr (from < to) {
      f(std::integral_constant<int, from>{});
      each<from + 1, to>(f);
    }
  }
};

// What a row of the image needs: scaled rows around it, and of every pair the weights of this row's pixels towards
// those after them, and of those in the rows above towards this row's.
struct PairRows {
  Window rows;
  float* kept[kPairRadius + 1];                             // by rows above; [0] is written
  float (*log_weight)[VL];                                  // by squared distance
  float* now(int tap) const { return kept[0] + tap * kRowFloats; }
};

// The weights of a tap for x in [x0, x1), in whole vectors.
template <bool deep, class Taps, int I>
inline void keep_weights(const PairRows& p, int x0, int x1) {
  constexpr auto tap = Taps::all[I];
  const float *centre = p.rows[0], *after = p.rows[tap.dy] + tap.dx;
  float* const to = p.now(I);
  const vf log_weight = load(p.log_weight[tap.squared()]);
  for (int x = x0; x < x1; x += VL) store(to + x, tap_weight<deep>(load(after + x) - load(centre + x), log_weight));
}

// acc += weight * bilateral for x in [x0, x1). The weights towards pixels of the row itself are there already. What the
// row needs comes by value: no store can change it then.
template <bool deep, class Taps>
inline void bilateral_pairs(PairRows p, int x0, int x1, float weight, float* acc) {
  for (int x = x0; x < x1; x += VL) {
    const vf centre = load(p.rows[0] + x);
    vf sum = centre, mirrored{}, norm = splat(1.0f);
    Taps::each([&](auto i) {
      constexpr auto tap = Taps::all[i];
      const vf after = load(p.rows[tap.dy] + tap.dx + x);
      vf w;
      if constexpr (tap.dy == 0) {
        w = load(p.now(i) + x);
      } else {
        w = tap_weight<deep>(after - centre, load(p.log_weight[tap.squared()]));
        store(p.now(i) + x, w);
      }
      const vf v = load(p.kept[tap.dy] + i * kRowFloats - tap.dx + x);
      norm += w + v;
      sum += w * after;
      mirrored += v * load(p.rows[-tap.dy] - tap.dx + x);
    });
    store(acc + x, load(acc + x) + (sum + mirrored) * (weight * recip(norm)));
  }
}

// ---- larger windows ------------------------------------------------------------------------------------------------

template <bool deep>
inline void bilateral_window(const Window& rows, int radius, bool disk, const float (*log_weight)[VL], int x0, int x1,
                             float weight, float* acc) {
  constexpr int U = 2;
  for (int x = x0; x < x1; x += U * VL) {
    vf centre[U], sum[U], norm[U];
    for (int k = 0; k < U; ++k) {
      centre[k] = load(rows[0] + x + k * VL);
      sum[k] = norm[k] = vf{};
    }
    for (int dy = -radius; dy <= radius; ++dy)
      for (int dx = -radius; dx <= radius; ++dx) {
        const int squared = dy * dy + dx * dx;
        if (disk && squared > radius * radius) continue;
        const vf at = load(log_weight[squared]);
        for (int k = 0; k < U; ++k) {
          const vf q = load(rows[dy] + dx + x + k * VL);
          const vf w = tap_weight<deep>(q - centre[k], at);
          norm[k] += w;
          sum[k] += w * q;
        }
      }
    for (int k = 0; k < U && x + k * VL < x1; ++k) add_to(acc, x + k * VL, sum[k] * (weight * recip(norm[k])));
  }
}

struct Bilateral : Filter {
  static constexpr const char* kName = "bilateral";
  enum class Footprint { square, disk };
  int window;
  float sigma_space, sigma_range;
  Footprint footprint;
  constexpr void declare(auto&& visit) {
    visit(window, "window", odd_window());
    visit(sigma_space, "sigma_space", within(0.1, 100.0, 1.5));
    visit(sigma_range, "sigma_range", within(0.005, 10.0, 0.1));
    visit(footprint, "footprint", one_of("square", "disk"));
  }
  RangeScale range{};
  float* scaled;                // a ring: the state times range.scale
  float* kept = nullptr;        // a ring: of each row the weights of every pair
  float (*log_weight)[VL];      // by squared distance
  int next;                     // row of the state to be scaled

  void lay_out(int, int, Arena&, Arena& own) {
    scaled = own.take<float>(kRowFloats * kRing);
    log_weight = own.take<float[VL]>(2 * kMaxRadius * kMaxRadius + 1);
    if (window / 2 <= kPairRadius) kept = own.take<float>(kPairRing * kMaxPairs * kRowFloats);
  }

  int reach(bool) const { return window / 2; }

  void prepare(const Frame&) {
    if (range.scale > 0.0f) return;
    range = range_scale(window / 2, sigma_space, sigma_range);
    for (int k = 0; k <= 2 * kMaxRadius * kMaxRadius; ++k)
      store(log_weight[k], splat(log_distance_weight(k, sigma_space)));
  }

  void row(const Frame& frame, const Row& r, float weight) {
    if (range.deep && kClampExponents)
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
      for (int x = r.x0 - kHalo; x < r.x1 + kHalo; x += VL) store(to + x, load(in + x) * range.scale);
    }
    weight /= range.scale;
    if (kept)
      return with_radius<1, kPairRadius>(radius, [&](auto R) {
        if (footprint == Footprint::disk)
          pairs_of<deep, Taps<R, true>>(frame, r, weight);
        else
          pairs_of<deep, Taps<R, false>>(frame, r, weight);
      });
    bilateral_window<deep>(rows_at(frame, r, r.y), radius, footprint == Footprint::disk, log_weight, r.x0, r.x1,
                           weight, r.acc);
  }

  template <bool deep, class Taps>
  void pairs_of(const Frame& frame, const Row& r, float weight) {
    constexpr int R = Taps::level, left = round_up(R, VL);
    if (r.y == r.top)  // what the rows above the tile would have left
      for (int above = R; above > 0; --above) {
        const PairRows p = pairs_at(frame, r, r.y - above);
        Taps::template each<Taps::level>([&](auto i) {
          if (Taps::all[i].dy >= above) keep_weights<deep, Taps, i>(p, r.x0 - left, r.x1 + R);
        });
      }
    const PairRows p = pairs_at(frame, r, r.y);
    for (int x = r.x0 - left; x < r.x1; x += VL)
      Taps::template each<0, Taps::level>([&](auto i) { keep_weights<deep, Taps, i>(p, x, x + VL); });
    // The row below will look past both ends; at the right there is often room enough.
    const bool more = std::min(r.x1, frame.w) + R > r.x1;
    Taps::template each<Taps::level>([&](auto i) {
      if constexpr (Taps::all[i].dx > 0) keep_weights<deep, Taps, i>(p, r.x0 - left, r.x0);
      if constexpr (Taps::all[i].dx < 0)
        if (more) keep_weights<deep, Taps, i>(p, r.x1, r.x1 + R);
    });
    bilateral_pairs<deep, Taps>(p, r.x0, r.x1, weight, r.acc);
  }

  Window rows_at(const Frame& frame, const Row& r, int y) const {
    Window rows;
    for (int k = -(window / 2); k <= window / 2; ++k) rows[k] = r.ring(scaled, reflect(y + k, frame.h));
    return rows;
  }

  PairRows pairs_at(const Frame& frame, const Row& r, int y) const {
    PairRows p{rows_at(frame, r, y), {}, log_weight};
    for (int k = 0; k <= kPairRadius; ++k)
      p.kept[k] = r.own(kept + ((y - k) & (kPairRing - 1)) * kMaxPairs * kRowFloats);
    return p;
  }
};
