// The weights of weighted least squares (Farbman et al. 2008) and its separable approximation: alternating
// tridiagonal solves along rows and columns (Min et al. 2014, fast global smoother).
//
// Every one of these systems is I + L with L a weighted path Laplacian. Elimination keeps q, the conductance
// from a node to ground through everything eliminated before it: a sum of positive terms, so that nothing
// cancels in float32 even where the weights reach 1e4.

constexpr float kWlsSmall = 1e-4f;  // both of the definition's small constants

// |d|^alpha to 2e-5 of it, for d = 0 and |d| in [2^-28, 16). The exponent's part is looked up, the mantissa's a
// polynomial.
struct Power {
  static constexpr int kDegree = 4, kExponents = 32;
  alignas(64) float whole[kExponents];  // by the last five bits of the exponent as it is stored
  alignas(32) float low[8], high[8];    // the same as a product, by the last three bits and the three before
  float factor[kDegree + 1];            // of m^alpha, m in [1, 2), by powers

  explicit Power(float alpha) {
    for (int i = 0; i < kExponents; ++i) whole[i] = std::exp2(alpha * static_cast<float>(i < 3 ? i + 1 : i - 31));
    for (int i = 0; i < 8; ++i) {
      low[i] = std::exp2(alpha * static_cast<float>(i));
      high[i] = std::exp2(alpha * static_cast<float>(i < 4 ? 8 * i + 1 : 8 * i - 63));
    }
    // The polynomial through the Chebyshev nodes, by divided differences.
    double node[kDegree + 1], value[kDegree + 1], sum[kDegree + 1] = {};
    for (int i = 0; i <= kDegree; ++i) {
      node[i] = 1.5 + 0.5 * std::cos(3.14159265358979 * (i + 0.5) / (kDegree + 1));
      value[i] = std::pow(node[i], static_cast<double>(alpha));
    }
    for (int k = 1; k <= kDegree; ++k)
      for (int i = kDegree; i >= k; --i) value[i] = (value[i] - value[i - 1]) / (node[i] - node[i - k]);
    for (int i = kDegree; i >= 0; --i) {
      for (int k = kDegree; k > 0; --k) sum[k] = sum[k - 1] - node[i] * sum[k];
      sum[0] = value[i] - node[i] * sum[0];
    }
    for (int k = 0; k <= kDegree; ++k) factor[k] = static_cast<float>(sum[k]);
  }

  // The power plus a small number.
  inline vf plus(vf d, float small) const {
    const vi bits = as_int(d);
#if defined(__AVX512F__) && defined(__AVX512DQ__)
    const vf m = _mm512_getmant_ps(d, _MM_MANT_NORM_1_2, _MM_MANT_SIGN_zero);
    const vf exponent = lookup<2>({load(whole), load(whole + VL)}, bits >> 23);
#else
    const vf m = as_float((bits & 0x7fffff) | 0x3f800000);
#if defined(__AVX2__)
    const vf exponent = lookup<1>({load(low)}, bits >> 23) * lookup<1>({load(high)}, bits >> 26);
#else
    const vf exponent = gather(whole, (bits >> 23) & (kExponents - 1));
#endif
#endif
    vf p = splat(factor[kDegree]);
    for (int k = kDegree - 1; k >= 0; --k) p = p * m + factor[k];
    return (d != 0.0f ? exponent : vf{}) * p + small;
  }
};

// Edge weights 1 / (|ln p - ln q|^alpha + 1e-4) from the logarithms of both ends, to 3e-5 of each.
inline vf edge_weight(vf log_p, vf log_q, const Power& power) { return recip(power.plus(log_p - log_q, kWlsSmall)); }

// The weights of one image, rows in order: ax(y, x) joins (y, x) and (y, x+1), ay(y, x) joins (y, x) and (y+1, x); zero
// where there is no such pixel.
struct WlsWeights {
  const Plane &g, &ax, &ay;
  int h, w;
  float offset;
  const Power edge_power;
  float *now, *next;  // logarithms of a row and the one below
  int ready = -1;     // the row that `now` is of

  static std::size_t scratch(int w) { return 2 * static_cast<std::size_t>(round_up(w, VL) + 16); }

  void log_row(int y, float* out) const {
    const float* in = g.row(y);
    for (int x = 0; x < round_up(w, VL); x += VL)
      store(out + x, log2v(vmax(load(in + x), vf{}) + offset) * 0.69314718f);
  }

  void make(int y0, int y1) {
    const Power power = edge_power;  // its own: no store can change it
    const int padded = round_up(w, VL);
    for (int y = y0; y < y1; ++y) {
      if (ready != y) log_row(y, now);
      float *across = ax.row(y), *down = ay.row(y);
      if (y + 1 < h) {
        log_row(y + 1, next);
        for (int x = 0; x < padded; x += VL) {
          const vf here = load(now + x);
          store(across + x, edge_weight(here, load(now + x + 1), power));
          store(down + x, edge_weight(here, load(next + x), power));
        }
        for (int x = w; x < padded; ++x) down[x] = 0.0f;
      } else {
        for (int x = 0; x < padded; x += VL)
          store(across + x, edge_weight(load(now + x), load(now + x + 1), power));
        std::fill(down, down + padded, 0.0f);
      }
      for (int x = w - 1; x < padded; ++x) across[x] = 0.0f;
      std::swap(now, next);
      ready = y + 1;
    }
  }
};

// Elimination along VL independent lines: a node is tied to ground and by an edge a to the next, and what was
// eliminated before it adds to its ground. That is q' = ground + a e, e = q / (q + a) from node to node, a chain of
// divisions. With q = n / d it is a chain of products instead, for which only the ratio counts: now and then both are
// scaled back.
struct Tridiagonal {
  vf n{}, d = splat(1.0f);  // of the q before
  vf a{}, f{};              // the edge from there; its right-hand side, times d
  // Takes this node's ground, edge and right-hand side; gives c and v of u = v + c * u_next.
  template <bool rescale>
  inline void step(vf ground, vf edge, vf right, vf& c, vf& v) {
    n = a * n + ground * d;
    const vf t = edge * d + n;  // d (q + a), the next d
    f = a * f + d * right;
    const vf r = recip(t);
    v = f * r;
    c = edge * d * r;
    d = t;
    a = edge;
    if constexpr (rescale) {
      n *= r;
      d = splat(1.0f);
      f = v;
    }
  }
};
constexpr int kRescale = 4;  // steps; in one the numbers grow to 1e6 times what they were at most

// Calls f(number, whether to rescale) for the steps from one scaling to the next.
template <class F>
inline void in_steps(F&& f) {
  f(0, std::false_type{});
  f(1, std::false_type{});
  f(2, std::false_type{});
  f(3, std::true_type{});
}

// These walks are too irregular for the hardware's prefetcher.
constexpr int kAhead = 32;  // columns; half as many rows
constexpr int kLine = 16;   // floats of a cache line
inline void prefetch(const float* p) { __builtin_prefetch(p); }

constexpr int kLines = 2 * VL;  // rows or columns solved together: enough chains to hide the latency

// Solves (I + lambda L_x) u = from for rows [y0, y0 + VL * G). scratch: 2 * VL * G * (round_up(w, VL) + VL) floats. The
// first solve turns ax's VL x VL tiles into their transposes, in which later ones read them as they are. Transposed
// tiles go through memory: more than one at a time would not fit in the registers.
template <int G>
inline void solve_rows(const Plane& from, const Plane& u, const Plane& ax, bool first, float lambda, int h, int w,
                       int y0, float* scratch) {
  const int padded = round_up(w, VL);
  const vf scale = splat(lambda), one = splat(1.0f);
  Tridiagonal line[G];
  const float* rows[VL * G];
  for (int i = 0; i < VL * G; ++i) rows[i] = from.row(std::min(y0 + i, h - 1));
  float* const first_edges = ax.row(y0);
  const std::ptrdiff_t to_next_edge = ax.stride;
  float* const tile = scratch;  // of column i: VL * G rows
  float* out = scratch + VL * VL * G;
  for (int x = 0; x < padded; x += VL) {
    for (int k = 0; k < G; ++k) {
      vf t[VL];
      for (int i = 0; i < VL; ++i) {
        const float* row = rows[k * VL + i] + x;
        if (x % kLine == 0) prefetch(row + kAhead);
        t[i] = load(row);
      }
      transpose(t);
      for (int i = 0; i < VL; ++i) store(tile + (i * G + k) * VL, t[i]);
      if (!first) continue;
      float* const edges = first_edges + k * VL * to_next_edge + x;
      for (int i = 0; i < VL; ++i) t[i] = load(edges + i * to_next_edge);
      transpose(t);
      for (int i = 0; i < VL; ++i) store(edges + i * to_next_edge, t[i]);
    }
    const float* edges = first_edges + x;
    for (int i = 0; i < VL; i += kRescale)
      in_steps([&](auto step, auto rescale) {
        for (int k = 0; k < G; ++k) {
          const float* edge = edges + k * VL * to_next_edge;
          if (x % kLine == 0) prefetch(edge + kAhead);
          vf c, d;
          line[k].template step<rescale>(one, load(edge) * scale, load(tile + ((i + step) * G + k) * VL), c, d);
          store(out + (2 * k) * VL, c);
          store(out + (2 * k + 1) * VL, d);
        }
        out += 2 * VL * G;
        edges += to_next_edge;
      });
  }
  vf last[G] = {};
  for (int x = padded - VL; x >= 0; x -= VL) {
    for (int i = VL - 1; i >= 0; --i) {
      out -= 2 * VL * G;
      for (int k = 0; k < G; ++k) {
        last[k] = load(out + (2 * k + 1) * VL) + load(out + (2 * k) * VL) * last[k];
        store(tile + (i * G + k) * VL, last[k]);
      }
    }
    for (int k = 0; k < G; ++k) {
      vf t[VL];
      for (int i = 0; i < VL; ++i) t[i] = load(tile + (i * G + k) * VL);
      transpose(t);
      const int count = std::min(VL, h - (y0 + k * VL));
      for (int i = 0; i < count; ++i) store(u.row(y0 + k * VL + i) + x, t[i]);
    }
  }
}

// Solves (I + lambda L_y) u = u for columns [x0, x0 + VL * G). scratch: 2 * VL * G * h floats.
template <int G>
inline void solve_columns(const Plane& u, const Plane& ay, float lambda, int h, int x0, float* scratch) {
  const vf scale = splat(lambda), one = splat(1.0f);
  Tridiagonal line[G];
  float* out = scratch;
  float* f = u.base + x0;
  const float* a = ay.base + x0;
  const std::ptrdiff_t to_next = u.stride, to_next_edge = ay.stride;
  const auto row = [&](auto rescale) {
    for (int k = 0; k < G; ++k) {
      if (k * VL % kLine == 0) {
        prefetch(f + kAhead / 2 * to_next + k * VL);
        prefetch(a + kAhead / 2 * to_next_edge + k * VL);
      }
      vf c, d;
      line[k].template step<rescale>(one, load(a + k * VL) * scale, load(f + k * VL), c, d);
      store(out + (2 * k) * VL, c);
      store(out + (2 * k + 1) * VL, d);
    }
    f += to_next;
    a += to_next_edge;
    out += 2 * VL * G;
  };
  int y = 0;
  for (; y + kRescale <= h; y += kRescale) in_steps([&](auto, auto rescale) { row(rescale); });
  for (; y < h; ++y) row(std::true_type{});
  vf last[G] = {};
  while (y-- > 0) {
    out -= 2 * VL * G;
    f -= to_next;
    for (int k = 0; k < G; ++k) {
      last[k] = load(out + (2 * k + 1) * VL) + load(out + (2 * k) * VL) * last[k];
      store(f + k * VL, last[k]);
    }
  }
}

inline std::size_t wls_fast_scratch(int h, int w) {
  return 2 * static_cast<std::size_t>(kLines) * static_cast<std::size_t>(std::max(round_up(w, VL) + VL, h));
}

constexpr int kWlsFastIterations = 3;

// u receives g smoothed; it may be g. prepare(y0, y1) is called before rows of the weights ax, ay are first used.
template <class F>
inline void wls_fast(const Plane& g, const Plane& u, const Plane& ax, const Plane& ay, float lambda, int h, int w,
                     float* scratch, const Team& team, F&& prepare) {
  const int padded = round_up(w, VL);
  for (int t = 1; t <= kWlsFastIterations; ++t) {
    const float step = 1.5f * std::exp2(2.0f * static_cast<float>(kWlsFastIterations - t)) / 63.0f * lambda;
    const Plane& from = t == 1 ? g : u;
    const auto [y0, y1] = team.share(h, kLines);
    for (int y = y0; y < y1; y += kLines) {
      if (t == 1) prepare(y, std::min(y + kLines, y1));
      if (y + VL < y1)
        solve_rows<kLines / VL>(from, u, ax, t == 1, step, h, w, y, scratch);
      else
        solve_rows<1>(from, u, ax, t == 1, step, h, w, y, scratch);
    }
    team.sync();
    const auto [x0, x1] = team.share(padded, kLines);
    int x = x0;
    for (; x + kLines <= x1; x += kLines) solve_columns<kLines / VL>(u, ay, step, h, x, scratch);
    for (; x < x1; x += VL) solve_columns<1>(u, ay, step, h, x, scratch);
    team.sync();
  }
}
