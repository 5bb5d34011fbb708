// The three local filters, row by row. All read the state plane, whose rows carry a reflected halo.

// ---- bilateral ---------------------------------------------------------------------------------------

struct Taps {
  int count = 0, level = 0, down = 0;  // all; then those in the pixel's own row come first, and those below it next
  int dy[kMaxTaps], dx[kMaxTaps];
  float log_weight[kMaxTaps];  // log2 of the spatial weight
  float scale = 1.0f;          // intensities times this make the range exponent -d^2
  bool deep = false;           // some exponent may pass -120: clamp, so that no weight is denormal
};

inline Taps make_taps(const Params& p) {
  Taps taps;
  const int r = p.bilateral_window / 2;
  const double log2e = 1.4426950408889634;
  const double ss = p.bilateral_sigma_space, sr = p.bilateral_sigma_range;
  const auto add_row = [&](int dy) {
    for (int dx = -r; dx <= r; ++dx) {
      if (dx == 0 && dy == 0) continue;  // the centre weighs 1 and is added outside the loops
      if (p.bilateral_footprint == Footprint::disk && dx * dx + dy * dy > r * r) continue;
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

struct Pairs {
  float* now[kMaxPairs];           // weights of this row's pixels towards (dy, dx), by this row's columns
  const float* before[kMaxPairs];  // the same of the row dy above
};

// Computes the weights towards the rows below for the vector at column x, without using them. Only those with dy >=
// least are wanted, and of those, with side != 0, the ones whose dx has its sign.
template <bool deep>
inline void pair_weights(const Taps& taps, const float* const* rows, const Pairs& pairs, int x, int least, int side) {
  const vf centre = load(rows[kMaxRadius] + x);
  for (int i = 0; i < taps.down; ++i) {
    const int t = taps.level + i;
    if (taps.dy[t] < least || (side != 0 && taps.dx[t] * side <= 0)) continue;
    const vf d = load(rows[kMaxRadius + taps.dy[t]] + x + taps.dx[t]) - centre;
    store(pairs.now[i] + x, tap_weight<deep>(d, taps.log_weight[t]));
  }
}

// acc += weight * bilateral for the U vectors from column x on. rows[k] is row y + k - kMaxRadius, multiplied by
// taps.scale. pairs: null if the window is too large for them.
template <bool deep, int U>
inline void bilateral_block(const Taps& taps, const float* const* rows, const Pairs* pairs, int x, float weight,
                            float* acc) {
  vf centre[U], sum[U], norm[U];
  for (int k = 0; k < U; ++k) {
    centre[k] = load(rows[kMaxRadius] + x + k * VL);
    sum[k] = vf{};
    norm[k] = splat(1.0f);
  }
  const int direct = pairs ? taps.level : taps.count;
  for (int i = 0; i < direct; ++i) {
    const float* q = rows[kMaxRadius + taps.dy[i]] + x + taps.dx[i];
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
      const float* below = rows[kMaxRadius + taps.dy[t]] + x + taps.dx[t];
      const float* above = rows[kMaxRadius - taps.dy[t]] + x - taps.dx[t];
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
inline void bilateral_row(const Taps& taps, const float* const* rows, const Pairs* pairs, int x0, int x1, float weight,
                          float* acc) {
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

// Columns beyond a strip that a horizontal sum of radius R reads, in whole vectors.
template <int R>
constexpr int kMargin = round_up(R, VL);

// ---- sharpen -----------------------------------------------------------------------------------------

struct Gaussian {
  int radius = 0;
  float tap[kMaxRadius + 1];  // one side, centre first
};

inline Gaussian make_gaussian(const Params& p) {
  Gaussian g;
  g.radius = p.sharpen_window / 2;
  double sum = 0.0, tap[kMaxRadius + 1];
  for (int k = 0; k <= g.radius; ++k) {
    tap[k] = std::exp(-k * k / (2.0 * static_cast<double>(p.sharpen_radius) * p.sharpen_radius));
    sum += k == 0 ? tap[k] : 2.0 * tap[k];
  }
  for (int k = 0; k <= g.radius; ++k) g.tap[k] = static_cast<float>(tap[k] / sum);
  return g;
}

// acc += weight * sharpen for x in [x0, x1). rows[k] is row y + k - kMaxRadius. scratch: the blurred column
// sums, indexable from x0 - kHalo to x1 + kHalo.
template <int R>
inline void sharpen_row(const Gaussian& gauss, const Params& p, const float* const* rows, int x0, int x1,
                        float weight, float* scratch, float* acc) {
  const float* centre = rows[kMaxRadius];
  for (int x = x0 - kMargin<R>; x < x1 + kMargin<R>; x += VL) {
    vf s = load(centre + x) * gauss.tap[0];
    for (int k = 1; k <= R; ++k)
      s += (load(rows[kMaxRadius - k] + x) + load(rows[kMaxRadius + k] + x)) * gauss.tap[k];
    store(scratch + x, s);
  }
  const float gain = weight * p.sharpen_amount;
  const vf threshold = splat(p.sharpen_threshold);
  for (int x = x0; x < x1; x += VL) {
    vf s = load(scratch + x) * gauss.tap[0];
    for (int k = 1; k <= R; ++k) s += (load(scratch + x - k) + load(scratch + x + k)) * gauss.tap[k];
    const vf v = load(centre + x);
    vf high = v - s;
    high = vmax(high, -high) < threshold ? vf{} : high;
    store(acc + x, load(acc + x) + weight * v + gain * high);
  }
}

// ---- guided ------------------------------------------------------------------------------------------

// Sums over 2R + 1 rows in column order, then over 2R + 1 columns: plain sums, so that nothing drifts.

// The sums over 2R + 1 columns of vectors pushed from left to right. A push gives the sums that begin kLag vectors before
// the one pushed; runs of 2, 4 and 8 are made once and shared.
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

// Calls use(x, s, t) for vectors x in [x0, x1), s and t the sums of a and b over the columns x - R to x + R. Reads up to
// kHalo + VL columns past both ends.
template <int R, class F>
inline void sums_across(const float* a, const float* b, int x0, int x1, F&& use) {
  if constexpr (2 * R <= VL) {
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

// The linear coefficients of one row: a and b of out = mean(a) * I + mean(b), for x in [x0 - R, x1 + R).
// rows[k] is row y + k - kMaxRadius of the state.
template <int R>
inline void guided_coefficients(const float* const* rows, int x0, int x1, float eps, float* sum1,
                                float* sum2, float* a_row, float* b_row) {
  for (int x = x0 - kHalo; x < x1 + kHalo; x += VL) {
    vf s1{}, s2{};
    for (int k = -R; k <= R; ++k) {
      const vf v = load(rows[kMaxRadius + k] + x) - 0.5f;  // around the middle: less cancellation below
      s1 += v;
      s2 += v * v;
    }
    store(sum1 + x, s1);
    store(sum2 + x, s2);
  }
  constexpr float area = 1.0f / ((2 * R + 1) * (2 * R + 1));
  sums_across<R>(sum1, sum2, x0 - kMargin<R>, x1 + kMargin<R>, [&](int x, vf s, vf t) {
    const vf mean = s * area;
    const vf variance = vmax(t * area - mean * mean, vf{});
    const vf a = variance / (variance + eps);
    store(a_row + x, a);
    store(b_row + x, (1.0f - a) * (mean + 0.5f));
  });
}

// acc += weight * guided for x in [x0, x1). a, b: the coefficient rows y - R .. y + R.
template <int R>
inline void guided_row(const float* const* a, const float* const* b, const float* centre, int x0, int x1,
                       float weight, float* sum1, float* sum2, float* acc) {
  for (int x = x0 - kMargin<R>; x < x1 + kMargin<R>; x += VL) {
    vf s1 = load(a[0] + x), s2 = load(b[0] + x);
    for (int k = 1; k <= 2 * R; ++k) {
      s1 += load(a[k] + x);
      s2 += load(b[k] + x);
    }
    store(sum1 + x, s1);
    store(sum2 + x, s2);
  }
  const float scale = weight / ((2 * R + 1) * (2 * R + 1));
  sums_across<R>(sum1, sum2, x0, x1, [&](int x, vf a_sum, vf b_sum) {
    store(acc + x, load(acc + x) + scale * (a_sum * load(centre + x) + b_sum));
  });
}

// Calls f with the radius as a compile-time constant.
template <class F>
inline void with_radius(int radius, F&& f) {
  switch (radius) {
    case 1: return f(std::integral_constant<int, 1>{});
    case 2: return f(std::integral_constant<int, 2>{});
    case 3: return f(std::integral_constant<int, 3>{});
    case 4: return f(std::integral_constant<int, 4>{});
    case 5: return f(std::integral_constant<int, 5>{});
    case 6: return f(std::integral_constant<int, 6>{});
    case 7: return f(std::integral_constant<int, 7>{});
  }
}
