// What the filters of a square window share: its rows, its radius as a constant, Gaussian and plain sums.

// Rows y - R to y + R of a window around row y, by their distance from it.
struct Window {
  const float* row[2 * kMaxRadius + 1];
  const float*& operator[](int k) { return row[kMaxRadius + k]; }
  const float* operator[](int k) const { return row[kMaxRadius + k]; }
};

inline Window window_at(const Frame& frame, int y, int radius) {
  Window rows;
  for (int k = -radius; k <= radius; ++k) rows[k] = frame.state.row(reflect(y + k, frame.h));
  return rows;
}

// Calls f with the radius as a compile-time constant.
template <int R = 1, int most = kMaxRadius, class F>
inline void with_radius(int radius, F&& f) {
  if (radius == R) return f(std::integral_constant<int, R>{});
  if constexpr (R < most) with_radius<R + 1, most>(radius, f);
}

// Columns beyond a strip that a horizontal sum of radius R reads, in whole vectors.
template <int R>
constexpr int kMargin = round_up(R, VL);

// ---- Gaussian sums -------------------------------------------------------------------------------------

struct GaussianTaps {
  int radius = 0;
  float tap[kMaxRadius + 1];  // one side, centre first
};

// The Gaussian sampled at the window's taps and scaled to sum 1.
inline GaussianTaps gaussian_taps(int window, double sigma) {
  GaussianTaps g;
  g.radius = window / 2;
  double sum = 0.0, tap[kMaxRadius + 1];
  for (int k = 0; k <= g.radius; ++k) {
    tap[k] = std::exp(-k * k / (2.0 * sigma * sigma));
    sum += k == 0 ? tap[k] : 2.0 * tap[k];
  }
  for (int k = 0; k <= g.radius; ++k) g.tap[k] = static_cast<float>(tap[k] / sum);
  return g;
}

// A filter that blurs by a Gaussian.
struct Blurring : Filter {
  int window;
  GaussianTaps taps;
  float* columns;  // sums down the columns of a row

  void lay_out(int, int, Arena&, Arena& own) { columns = own.take<float>(kRowFloats); }

  int reach(bool) const { return window / 2; }

  // Calls use(x, s) for the vectors of a row, s being blurred.
  template <class F>
  void blur(const Frame& frame, const Row& r, double sigma, F&& use) {
    if (taps.radius == 0) taps = gaussian_taps(window, sigma);
    const GaussianTaps own = taps;  // no store can change it
    const auto& tap = own.tap;
    float* const sums = r.own(columns);
    with_radius(taps.radius, [&](auto R) {
      const Window rows = window_at(frame, r.y, R);
      for (int x = r.x0 - kMargin<R>; x < r.x1 + kMargin<R>; x += VL) {
        vf s = load(rows[0] + x) * tap[0];
        for (int k = 1; k <= R; ++k) s += (load(rows[-k] + x) + load(rows[k] + x)) * tap[k];
        store(sums + x, s);
      }
      for (int x = r.x0; x < r.x1; x += VL) {
        vf s = load(sums + x) * tap[0];
        for (int k = 1; k <= R; ++k) s += (load(sums + x - k) + load(sums + x + k)) * tap[k];
        use(x, s);
      }
    });
  }
};

// ---- plain sums ----------------------------------------------------------------------------------------

// The sums over 2R + 1 columns of vectors pushed from left to right. A push gives the sums that begin kLag vectors
// before the one pushed; runs of 2, 4 and 8 are made once and shared.
template <int R>
class SlidingSum {
  static constexpr int W = 2 * R + 1;
  vf v_[4]{}, two_[3]{}, four_[2]{};  // newest last

 public:
  static constexpr int kLag = W >= 8 ? 3 : W >= 4 ? 2 : 1;
  inline vf push(vf next) {
    v_[0] = v_[1], v_[1] = v_[2], v_[2] = v_[3], v_[3] = next;
    two_[0] = two_[1], two_[1] = two_[2], two_[2] = v_[2] + shift<1>(v_[2], v_[3]);
    if constexpr (W < 4) {
      return two_[2] + shift<2>(v_[2], v_[3]);
    } else {
      four_[0] = four_[1], four_[1] = two_[1] + shift<2>(two_[1], two_[2]);
      if constexpr (W < 8) {
        vf sum = four_[1];
        if constexpr (W & 2) sum += shift<4>(two_[1], two_[2]);
        return sum + shift<W - 1>(v_[1], v_[2]);
      } else {
        vf sum = four_[0] + shift<4>(four_[0], four_[1]);
        if constexpr (W & 4) sum += shift<8>(four_[0], four_[1]);
        if constexpr (W & 2) sum += shift<W - 3>(two_[0], two_[1]);
        return sum + shift<W - 1>(v_[0], v_[1]);
      }
    }
  }
};

// Calls use(x, s, t) for vectors x in [x0, x1), s and t the sums of a and b over the columns x - R to x + R. Reads up
// to kHalo + VL columns past both ends.
template <int R, class F>
inline void sums_across(const float* a, const float* b, int x0, int x1, F&& use) {
  if constexpr (2 * R <= VL && VL == 16) {  // shorter vectors cross fewer cache lines, and are as well loaded anew
    using Sum = SlidingSum<R>;
    Sum s, t;
    int x = x0 - R;
    for (int k = 0; k < Sum::kLag; ++k, x += VL) {
      s.push(load(a + x));
      t.push(load(b + x));
    }
    for (int to = x0; to < x1; to += VL, x += VL) use(to, s.push(load(a + x)), t.push(load(b + x)));
  } else {
    for (int x = x0; x < x1; x += VL) {
      vf s = load(a + x), t = load(b + x);
      for (int k = 1; k <= R; ++k) {
        s += load(a + x - k) + load(a + x + k);
        t += load(b + x - k) + load(b + x + k);
      }
      use(x, s, t);
    }
  }
}

