// The weights of weighted least squares (Farbman et al. 2008) and its separable approximation: alternating
// tridiagonal solves along rows and columns (Min et al. 2014, fast global smoother).
//
// Every one of these systems is I + L with L a weighted path Laplacian. Elimination keeps q, the conductance
// from a node to ground through everything eliminated before it: a sum of positive terms, so that nothing
// cancels in float32 even where the weights reach 1e4.

constexpr float kWlsSmall = 1e-4f;  // both of the definition's small constants

// Edge weights 1 / (|ln p - ln q|^alpha + 1e-4) from the logarithms (base 2) of both ends, to 1e-5 of each.
inline vf edge_weight(vf log_p, vf log_q, vf alpha) {
  const vf d = log_p - log_q;
  const vf ln = vmax(d, -d) * 0.69314718f;
  const vf power = exp2_weight(alpha * log2_weight(vmax(ln, splat(1e-30f))));
  return recip((ln > 0.0f ? power : vf{}) + kWlsSmall);
}

// Weights of rows [y0, y1): ax(y, x) joins (y, x) and (y, x+1), ay(y, x) joins (y, x) and (y+1, x); zero where
// there is no such pixel. logs: two rows of scratch.
inline void wls_weights(const Plane& g, int h, int w, float offset, float alpha, const Plane& ax,
                        const Plane& ay, int y0, int y1, float* logs) {
  const int padded = round_up(w, VL);
  float* now = logs;
  float* next = logs + padded + 16;
  const vf power = splat(alpha);
  const auto log_row = [&](int y, float* out) {
    const float* in = g.row(y);
    for (int x = 0; x < padded; x += VL) store(out + x, log2v(vmax(load(in + x), vf{}) + offset));
  };
  if (y0 < y1) log_row(y0, now);
  for (int y = y0; y < y1; ++y) {
    float* h_row = ax.row(y);
    float* v_row = ay.row(y);
    for (int x = 0; x < padded; x += VL)
      store(h_row + x, edge_weight(load(now + x), load(now + x + 1), power));
    for (int x = w - 1; x < padded; ++x) h_row[x] = 0.0f;
    if (y + 1 < h) {
      log_row(y + 1, next);
      for (int x = 0; x < padded; x += VL)
        store(v_row + x, edge_weight(load(now + x), load(next + x), power));
      for (int x = w; x < padded; ++x) v_row[x] = 0.0f;
    } else {
      std::fill(v_row, v_row + padded, 0.0f);
    }
    std::swap(now, next);
  }
}

// One elimination step for VL independent systems.
struct Tridiagonal {
  vf a{}, e{}, d{};  // previous edge, its node's share of ground 1 - c, its right-hand side
  // Takes the edge to the next node and this node's value; gives c and d of u = d + c * u_next.
  inline void step(vf edge, vf f, vf& c, vf& out) {
    const vf q = a * e + 1.0f;
    const vf m = 1.0f / (q + edge);
    out = (a * d + f) * m;
    c = edge * m;
    e = q * m;
    a = edge;
    d = out;
  }
};

// These walks are too irregular for the hardware's prefetcher.
constexpr int kAhead = 32;  // columns; half as many rows
inline void prefetch(const float* p) { __builtin_prefetch(p); }

constexpr int kLines = 2 * VL;  // rows or columns solved together: enough chains to hide the latency

// Solves (I + lambda L_x) u = u for rows [y0, y0 + VL * G). scratch: 2 * VL * G * (round_up(w, VL) + VL) floats. The
// first solve turns ax's VL x VL tiles into their transposes, in which later ones read them as they are. Transposed
// tiles go through memory: more than one at a time would not fit in the registers.
template <int G>
inline void solve_rows(const Plane& u, const Plane& ax, bool first, float lambda, int h, int w, int y0,
                       float* scratch) {
  const int padded = round_up(w, VL);
  const vf scale = splat(lambda);
  Tridiagonal line[G];
  float* const tile = scratch;  // of column i: VL * G rows
  float* out = scratch + VL * VL * G;
  for (int x = 0; x < padded; x += VL) {
    for (int k = 0; k < G; ++k) {
      vf t[VL];
      for (int i = 0; i < VL; ++i) {
        const float* row = u.row(std::min(y0 + k * VL + i, h - 1)) + x;
        prefetch(row + kAhead);
        t[i] = load(row);
      }
      transpose(t);
      for (int i = 0; i < VL; ++i) store(tile + (i * G + k) * VL, t[i]);
      if (!first) continue;
      float* const edges = ax.row(y0 + k * VL) + x;
      for (int i = 0; i < VL; ++i) t[i] = load(edges + i * ax.stride);
      transpose(t);
      for (int i = 0; i < VL; ++i) store(edges + i * ax.stride, t[i]);
    }
    const float* edges = ax.row(y0) + x;
    for (int i = 0; i < VL; ++i, out += 2 * VL * G, edges += ax.stride)
      for (int k = 0; k < G; ++k) {
        const float* edge = edges + k * VL * ax.stride;
        prefetch(edge + kAhead);
        vf c, d;
        line[k].step(load(edge) * scale, load(tile + (i * G + k) * VL), c, d);
        store(out + (2 * k) * VL, c);
        store(out + (2 * k + 1) * VL, d);
      }
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
      const int rows = std::min(VL, h - (y0 + k * VL));
      for (int i = 0; i < rows; ++i) store(u.row(y0 + k * VL + i) + x, t[i]);
    }
  }
}

// Solves (I + lambda L_y) u = u for columns [x0, x0 + VL * G). scratch: 2 * VL * G * h floats.
template <int G>
inline void solve_columns(const Plane& u, const Plane& ay, float lambda, int h, int x0, float* scratch) {
  const vf scale = splat(lambda);
  Tridiagonal line[G];
  float* out = scratch;
  for (int y = 0; y < h; ++y, out += 2 * VL * G) {
    const float* f = u.row(y) + x0;
    const float* a = ay.row(y) + x0;
    for (int k = 0; k < G; ++k) {
      prefetch(f + kAhead / 2 * u.stride + k * VL);
      prefetch(a + kAhead / 2 * ay.stride + k * VL);
      vf c, d;
      line[k].step(load(a + k * VL) * scale, load(f + k * VL), c, d);
      store(out + (2 * k) * VL, c);
      store(out + (2 * k + 1) * VL, d);
    }
  }
  vf last[G] = {};
  for (int y = h - 1; y >= 0; --y) {
    out -= 2 * VL * G;
    float* f = u.row(y) + x0;
    for (int k = 0; k < G; ++k) {
      last[k] = load(out + (2 * k + 1) * VL) + load(out + (2 * k) * VL) * last[k];
      store(f + k * VL, last[k]);
    }
  }
}

inline std::size_t wls_fast_scratch(int h, int w) {
  return 2 * static_cast<std::size_t>(kLines) * static_cast<std::size_t>(std::max(round_up(w, VL) + VL, h)) +
         2 * static_cast<std::size_t>(round_up(w, VL) + 16);
}

constexpr int kWlsFastIterations = 3;

// u holds g on entry and the smoothed image on return. ax, ay: the weights.
inline void wls_fast(const Plane& u, const Plane& ax, const Plane& ay, float lambda, int h, int w,
                     float* scratch, const Team& team) {
  const int padded = round_up(w, VL);
  for (int t = 1; t <= kWlsFastIterations; ++t) {
    const float step = 1.5f * std::exp2(2.0f * static_cast<float>(kWlsFastIterations - t)) / 63.0f * lambda;
    const auto [y0, y1] = team.share(h, kLines);
    int y = y0;
    for (; y + VL < y1; y += kLines) solve_rows<kLines / VL>(u, ax, t == 1, step, h, w, y, scratch);
    for (; y < y1; y += VL) solve_rows<1>(u, ax, t == 1, step, h, w, y, scratch);
    team.sync();
    const auto [x0, x1] = team.share(padded, kLines);
    int x = x0;
    for (; x + kLines <= x1; x += kLines) solve_columns<kLines / VL>(u, ay, step, h, x, scratch);
    for (; x < x1; x += VL) solve_columns<1>(u, ay, step, h, x, scratch);
    team.sync();
  }
}
