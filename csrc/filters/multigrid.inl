// Multigrid: set-up and the cycle.

// Up to kHalo zeros before and after each row, and a row of them above and below. What follows a row's end may reach
// into the guard of the next.
inline void clear_guards(const Plane& p, int h, int w) {
  for (const int y : {-1, h}) std::fill(p.row(y) - kHalo, p.row(y) + round_up(w, 16) + kHalo, 0.0f);
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < kHalo; x += VL) {
      store(p.row(y) - kHalo + x, vf{});
      store(p.row(y) + w + x, vf{});
      store(p.row(y) + round_up(w, 16) + x, vf{});
    }
}

inline void clear_all_guards(const MultigridMemory& m) {
  for (int k = 0; k < m.levels; ++k) {
    const Level& l = m.level[k];
    for (const Plane* p : {&l.z, &l.r, &l.e, &l.s, &l.ground}) clear_guards(*p, l.h, l.w);
    if (k > 0)
      for (const Plane* p : {&l.se, &l.sw}) clear_guards(*p, l.h, l.w);
    if (k + 1 < m.levels)
      for (const Plane* p : {&l.left, &l.upper, &l.corner[0], &l.corner[1], &l.corner[2], &l.corner[3]})
        clear_guards(*p, m.level[k + 1].h, m.level[k + 1].w);
  }
  for (const Plane* p : {&m.u, &m.p}) clear_guards(*p, m.level[0].h, m.level[0].w);
}

template <bool nine>
inline void coarsen(const Level& l, const Level& coarse) {
  set_sides<nine>(l, coarse);
  set_corners<nine>(l, coarse);
  for (int i = 0; i < coarse.h; ++i) {
    coarsen_row<nine>(l, coarse, i);
    coarse.sw.row(i)[0] = coarse.r.row(i)[0] = 0.0f;  // it writes what lies to the right of these
  }
  for (int i = 0; i < coarse.h; ++i) finish_row(coarse, i);
  for (int i = 0; i < coarse.h; ++i)
    for (int j = 0; j < coarse.w; j += VL)
      store(coarse.ground.row(i) + j,
            restrict_at(l, i, j, l.ground.row(2 * i - 1), l.ground.row(2 * i), l.ground.row(2 * i + 1)) *
                inside(j, coarse.w));
}

// Cholesky factor of the coarsest level's matrix, row-major, lower.
inline void factorise(const Level& l, float* f) {
  const int n = l.h * l.w;
  std::fill(f, f + kCoarsest * kCoarsest, 0.0f);
  const auto couple = [&](float c, int a, int b) {
    f[a * kCoarsest + a] += c;
    f[b * kCoarsest + b] += c;
    f[std::max(a, b) * kCoarsest + std::min(a, b)] -= c;
  };
  for (int y = 0; y < l.h; ++y)
    for (int x = 0; x < l.w; ++x) {
      const int a = y * l.w + x;
      f[a * kCoarsest + a] += l.ground.row(y)[x];
      if (x + 1 < l.w) couple(l.e.row(y)[x], a, a + 1);
      if (y + 1 >= l.h) continue;
      couple(l.s.row(y)[x], a, a + l.w);
      if (x + 1 < l.w) couple(l.se.row(y)[x], a, a + l.w + 1);
      if (x > 0) couple(l.sw.row(y)[x], a, a + l.w - 1);
    }
  for (int i = 0; i < n; ++i)
    for (int k = 0; k <= i; ++k) {
      float sum = f[i * kCoarsest + k];
      for (int m = 0; m < k; ++m) sum -= f[i * kCoarsest + m] * f[k * kCoarsest + m];
      f[i * kCoarsest + k] = i == k ? std::sqrt(std::max(sum, 1e-20f)) : sum / f[k * kCoarsest + k];
    }
}

inline void solve_coarsest(const Level& l, const float* f) {
  const int n = l.h * l.w;
  float v[kCoarsest];
  for (int i = 0; i < n; ++i) {
    float sum = l.r.row(i / l.w)[i % l.w];
    for (int k = 0; k < i; ++k) sum -= f[i * kCoarsest + k] * v[k];
    v[i] = sum / f[i * kCoarsest + i];
  }
  for (int i = n - 1; i >= 0; --i) {
    for (int k = i + 1; k < n; ++k) v[i] -= f[k * kCoarsest + i] * v[k];
    v[i] /= f[i * kCoarsest + i];
    l.z.row(i / l.w)[i % l.w] = v[i];
  }
}

inline void set_up(const MultigridMemory& m) {
  coarsen<false>(m.level[0], m.level[1]);
  for (int k = 1; k + 1 < m.levels; ++k) coarsen<true>(m.level[k], m.level[k + 1]);
  factorise(m.level[m.levels - 1], m.factor);
}

// coarse.r = P^T (r - A z).
template <bool nine>
inline void restrict_residual(const Level& l, const Level& coarse, float* scratch) {
  const int stride = residual_stride(l.w);
  const auto ring = [&](int y) { return scratch + (y + kResidualRows) % kResidualRows * stride + kHalo; };
  std::fill(scratch, scratch + kResidualRows * stride, 0.0f);
  const auto residual = [&](int y) {
    float* out = ring(y);
    if (y >= l.h) {
      std::fill(out, out + round_up(l.w, VL), 0.0f);
      return;
    }
    for (int x = 0; x < l.w; x += VL) store(out + x, load(l.r.row(y) + x) - apply<nine>(l, l.z, y, x));
  };
  for (int i = 0; i < coarse.h; ++i) {
    residual(2 * i);
    residual(2 * i + 1);
    for (int j = 0; j < coarse.w; j += VL)
      store(coarse.r.row(i) + j,
            restrict_at(l, i, j, ring(2 * i - 1), ring(2 * i), ring(2 * i + 1)) * inside(j, coarse.w));
  }
}

// The same right after fresh smoothing of the even and then the odd rows: these have no residual, and the even ones had
// none before the odd ones changed.
template <bool nine>
inline void restrict_even_rows(Level l, Level coarse, float* scratch) {
  float* const row = scratch + kHalo;
  std::fill(scratch, scratch + residual_stride(l.w), 0.0f);
  for (int i = 0; i < coarse.h; ++i) {
    for (int x = 0; x < l.w; x += VL) store(row + x, from_rows<nine>(l, 2 * i, x));
    for (int j = 0; j < coarse.w; j += VL)
      store(coarse.r.row(i) + j, restrict_row(l, i, j, row) * inside(j, coarse.w));
  }
}

template <bool nine, int parity, bool fresh>
inline void smooth_all_rows(const Level& l, float* scratch) {
  const int count = (l.h - parity + 1) / 2;
  int j = 0;
  for (; j + VL < count; j += kLines) smooth_rows<nine, parity, fresh, kLines / VL>(l, j, scratch);
  if (j < count) smooth_rows<nine, parity, fresh, 1>(l, j, scratch);
}

template <bool nine, int parity>
inline void smooth_all_columns(const Level& l, float* scratch) {
  const int count = (l.w - parity + 1) / 2;
  int j = 0;
  for (; j + VL < count; j += kLines) smooth_columns<nine, parity, kLines / VL>(l, j, scratch);
  if (j < count) smooth_columns<nine, parity, 1>(l, j, scratch);
}

// z = M r on level k and those below: M approximates A^-1. symmetric: M is symmetric, for plain conjugate gradients, at
// nearly twice the price; otherwise rows are smoothed before the coarse correction and columns after it.
inline void cycle(const MultigridMemory& m, int k, bool symmetric) {
  const Level& l = m.level[k];
  if (k + 1 == m.levels) return solve_coarsest(l, m.factor);
  const Level& coarse = m.level[k + 1];
  const auto step = [&](auto nine) {
    smooth_all_rows<nine, 0, true>(l, m.lines);
    smooth_all_rows<nine, 1, true>(l, m.lines);
    if (symmetric) {
      smooth_all_columns<nine, 0>(l, m.lines);
      smooth_all_columns<nine, 1>(l, m.lines);
      restrict_residual<nine>(l, coarse, m.lines);
    } else {
      restrict_even_rows<nine>(l, coarse, m.lines);
    }
    cycle(m, k + 1, symmetric);
    for (int i = 0; i < coarse.h; ++i) prolong_row(l, coarse, i);
    if (symmetric) {
      smooth_all_columns<nine, 1>(l, m.lines);
      smooth_all_columns<nine, 0>(l, m.lines);
      smooth_all_rows<nine, 1, false>(l, m.lines);
      smooth_all_rows<nine, 0, false>(l, m.lines);
    } else {
      smooth_all_columns<nine, 0>(l, m.lines);
      smooth_all_columns<nine, 1>(l, m.lines);
    }
  };
  if (k == 0)
    step(std::false_type{});
  else
    step(std::true_type{});
}
