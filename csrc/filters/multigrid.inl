// Multigrid: set-up and the cycle.

constexpr int kResidualRows = 3;
inline int residual_stride(int w) { return round_up(w, 16) + 4 * kHalo; }

inline std::size_t multigrid_scratch(int h, int w) {
  const auto lines = 2 * static_cast<std::size_t>(kLines) * static_cast<std::size_t>(std::max(round_up(w, VL), h));
  return std::max(lines, static_cast<std::size_t>(kResidualRows * residual_stride(w)));
}

inline void clear_guards(const Plane& p, int h, int w) {
  for (int y = -1; y <= h; ++y) {
    float* row = p.row(y);
    const int kept = y >= 0 && y < h ? w : 0;
    std::fill(row - kHalo, row, 0.0f);
    std::fill(row + kept, row + round_up(w, 16) + kHalo, 0.0f);
  }
}

inline void clear_all_guards(const MultigridMemory& m) {
  for (int k = 0; k < m.levels; ++k) {
    const Level& l = m.level[k];
    for (const Plane* p : {&l.e, &l.s, &l.z, &l.r}) clear_guards(*p, l.h, l.w);
    if (k > 0)
      for (const Plane* p : {&l.se, &l.sw, &l.ground}) clear_guards(*p, l.h, l.w);
    if (k + 1 < m.levels)
      for (const Plane* p : {&l.left, &l.upper, &l.corner[0], &l.corner[1], &l.corner[2], &l.corner[3]})
        clear_guards(*p, m.level[k + 1].h, m.level[k + 1].w);
  }
  clear_guards(m.p, m.level[0].h, m.level[0].w);
}

template <bool nine>
inline void coarsen(const Level& l, const Level& coarse, float* scratch, const Team& team) {
  const auto [i0, i1] = team.share(coarse.h);
  set_sides<nine>(l, coarse, i0, i1);
  team.sync();
  set_corners<nine>(l, coarse, i0, i1);
  team.sync();
  for (int i = i0; i < i1; ++i) coarsen_row<nine>(l, coarse, i);
  team.sync();
  for (int i = i0; i < i1; ++i) finish_row(coarse, i);
  float* ones = scratch + kHalo;  // ground of the finest level: 1 at every pixel, 0 around
  std::fill(scratch, scratch + residual_stride(l.w), 0.0f);
  std::fill(ones, ones + l.w, 1.0f);
  float* zeros = scratch + residual_stride(l.w) + kHalo;
  std::fill(zeros - kHalo, zeros - kHalo + residual_stride(l.w), 0.0f);
  const auto ground = [&](int y) -> const float* {
    if (y < 0 || y >= l.h) return zeros;
    return nine ? l.ground.row(y) : ones;
  };
  for (int i = i0; i < i1; ++i)
    for (int j = 0; j < coarse.w; j += VL)
      store(coarse.ground.row(i) + j, restrict_at(l, i, j, ground(2 * i - 1), ground(2 * i), ground(2 * i + 1)) *
                                          inside(j, coarse.w));
  team.sync();
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

inline void set_up(const MultigridMemory& m, float* scratch, const Team& team) {
  for (int k = 0; k + 1 < m.levels; ++k) {
    if (k == 0)
      coarsen<false>(m.level[k], m.level[k + 1], scratch, team);
    else
      coarsen<true>(m.level[k], m.level[k + 1], scratch, team);
  }
  if (team.rank() == 0) factorise(m.level[m.levels - 1], m.factor);
  team.sync();
}

// coarse.r = P^T (r - A z).
template <bool nine>
inline void restrict_residual(const Level& l, const Level& coarse, float* scratch, const Team& team) {
  const auto [i0, i1] = team.share(coarse.h, 16);
  const int stride = residual_stride(l.w);
  const auto ring = [&](int y) { return scratch + (y + kResidualRows) % kResidualRows * stride + kHalo; };
  std::fill(scratch, scratch + kResidualRows * stride, 0.0f);
  const auto residual = [&](int y) {
    float* out = ring(y);
    if (y < 0 || y >= l.h) {
      std::fill(out, out + round_up(l.w, VL), 0.0f);
      return;
    }
    for (int x = 0; x < l.w; x += VL) store(out + x, load(l.r.row(y) + x) - apply<nine>(l, l.z, y, x));
  };
  if (i0 < i1) residual(2 * i0 - 1);
  for (int i = i0; i < i1; ++i) {
    residual(2 * i);
    residual(2 * i + 1);
    for (int j = 0; j < coarse.w; j += VL)
      store(coarse.r.row(i) + j,
            restrict_at(l, i, j, ring(2 * i - 1), ring(2 * i), ring(2 * i + 1)) * inside(j, coarse.w));
  }
  team.sync();
}

// The same right after fresh smoothing of the even and then the odd rows: these have no residual, and the even ones had
// none before the odd ones changed.
template <bool nine>
inline void restrict_even_rows(const Level& l, const Level& coarse, float* scratch, const Team& team) {
  float* const row = scratch + kHalo;
  std::fill(scratch, scratch + residual_stride(l.w), 0.0f);
  const auto [i0, i1] = team.share(coarse.h, 16);
  for (int i = i0; i < i1; ++i) {
    for (int x = 0; x < l.w; x += VL) store(row + x, from_rows<nine>(l, 2 * i, x));
    for (int j = 0; j < coarse.w; j += VL)
      store(coarse.r.row(i) + j, restrict_row(l, i, j, row) * inside(j, coarse.w));
  }
  team.sync();
}

template <bool nine, int parity, bool fresh>
inline void smooth_all_rows(const Level& l, float* scratch, const Team& team) {
  const auto [j0, j1] = team.share((l.h - parity + 1) / 2, kLines);
  int j = j0;
  for (; j + VL < j1; j += kLines) smooth_rows<nine, parity, fresh, kLines / VL>(l, j, scratch);
  if (j < j1) smooth_rows<nine, parity, fresh, 1>(l, j, scratch);
  team.sync();
}

template <bool nine, int parity>
inline void smooth_all_columns(const Level& l, float* scratch, const Team& team) {
  const auto [j0, j1] = team.share((l.w - parity + 1) / 2, kLines);
  int j = j0;
  for (; j + VL < j1; j += kLines) smooth_columns<nine, parity, kLines / VL>(l, j, scratch);
  if (j < j1) smooth_columns<nine, parity, 1>(l, j, scratch);
  team.sync();
}

// z = M r on level k and those below: M approximates A^-1. symmetric: M is symmetric, for plain conjugate gradients, at
// nearly twice the price; otherwise rows are smoothed before the coarse correction and columns after it.
inline void cycle(const MultigridMemory& m, int k, bool symmetric, float* scratch, const Team& team) {
  const Level& l = m.level[k];
  if (k + 1 == m.levels) {
    if (team.rank() == 0) solve_coarsest(l, m.factor);
    team.sync();
    return;
  }
  const Level& coarse = m.level[k + 1];
  const auto step = [&](auto nine) {
    smooth_all_rows<nine, 0, true>(l, scratch, team);
    smooth_all_rows<nine, 1, true>(l, scratch, team);
    if (symmetric) {
      smooth_all_columns<nine, 0>(l, scratch, team);
      smooth_all_columns<nine, 1>(l, scratch, team);
      restrict_residual<nine>(l, coarse, scratch, team);
    } else {
      restrict_even_rows<nine>(l, coarse, scratch, team);
    }
    cycle(m, k + 1, symmetric, scratch, team);
    const auto [i0, i1] = team.share(coarse.h);
    for (int i = i0; i < i1; ++i) prolong_row(l, coarse, i);
    team.sync();
    if (symmetric) {
      smooth_all_columns<nine, 1>(l, scratch, team);
      smooth_all_columns<nine, 0>(l, scratch, team);
      smooth_all_rows<nine, 1, false>(l, scratch, team);
      smooth_all_rows<nine, 0, false>(l, scratch, team);
    } else {
      smooth_all_columns<nine, 0>(l, scratch, team);
      smooth_all_columns<nine, 1>(l, scratch, team);
    }
  };
  if (k == 0)
    step(std::false_type{});
  else
    step(std::true_type{});
}
