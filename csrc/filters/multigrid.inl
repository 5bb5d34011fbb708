// A multigrid cycle for (I + L) z = r, L the weighted graph Laplacian of a pixel grid: the preconditioner of the exact
// WLS solver. Every other row and column is kept on the next level; interpolation follows the couplings (Alcouffe,
// Brandt, Dendy, Painter 1981; Dendy's black box multigrid), since weights jump by four orders of magnitude from
// one pixel to the next, and whole lines are smoothed at a time, rows before the coarse correction and columns after
// it, since point smoothers leave strongly coupled pairs of pixels as they are. Lines go in two colours (zebra): the
// even ones, then the odd ones with what the even ones have become.

constexpr int kCoarsest = 64;         // unknowns that are solved directly
constexpr int kMaxLevels = 24;

// couplings of a pixel to its right, lower, lower right and lower left neighbour (zero where there is none), and to
// ground. The finest level has only e and s, and ground 1 everywhere.
struct Level {
  int h = 0, w = 0;
  Plane e, s, se, sw, ground;
  Plane z, r;                       // solution and right-hand side
  // Interpolation to this level from the next: the left share of a pixel between two kept ones in a row, the upper
  // share between two in a column, and the four shares (upper left, upper right, lower left, lower right) of a pixel
  // amid four.
  Plane left, upper, corner[4];
};

struct MultigridMemory {
  int levels = 0;
  Level level[kMaxLevels];
  Plane p, ap;                      // direction and its image
  float* factor = nullptr;          // Cholesky factor of the coarsest level, kCoarsest x kCoarsest
  double* sums = nullptr;           // three per row
  Clusters* clusters = nullptr;
  inline void lay_out(int h, int w, Arena& arena);
};

// A plane with a row of zeros above and below, and zeros to the left and right of every row.
inline Plane take_guarded(Arena& arena, int h, int w) {
  Plane p;
  p.stride = round_up(w, 16) + 2 * kHalo;
  float* base = arena.take<float>(static_cast<std::size_t>(p.stride) * static_cast<std::size_t>(h + 2) + kHalo);
  p.base = base ? base + p.stride + kHalo : nullptr;
  return p;
}

inline void MultigridMemory::lay_out(int h, int w, Arena& arena) {
  p = take_guarded(arena, h, w);
  ap = take_guarded(arena, h, w);
  sums = arena.take<double>(3 * static_cast<std::size_t>(h));
  factor = arena.take<float>(kCoarsest * kCoarsest);
  clusters = arena.take<Clusters>(1);
  Clusters own;
  own.lay_out(h, w, arena);
  if (clusters) *clusters = own;
  levels = 0;
  for (;;) {
    Level& l = level[levels++];
    l = Level{};
    l.h = h;
    l.w = w;
    l.z = take_guarded(arena, h, w);
    l.r = take_guarded(arena, h, w);
    if (levels > 1)
      for (Plane* plane : {&l.e, &l.s, &l.se, &l.sw, &l.ground}) *plane = take_guarded(arena, h, w);
    if (h * w <= kCoarsest && levels > 1) break;
    h = (h + 1) / 2;
    w = (w + 1) / 2;
    for (Plane* plane : {&l.left, &l.upper, &l.corner[0], &l.corner[1], &l.corner[2], &l.corner[3]})
      *plane = take_guarded(arena, h, w);
  }
}

// Even and odd elements of 2 * VL consecutive ones.
inline void split(const float* p, vf& even, vf& odd) {
  const vf a = load(p), b = load(p + VL);
  even = take_even(a, b);
  odd = take_odd(a, b);
}

// ---- rows of the operator ----------------------------------------------------------------------------

// Row y of A z at VL pixels from x on, as fluxes: differences first, so that nothing large cancels. nine: the level
// has diagonal couplings.
template <bool nine>
inline vf apply(const Level& l, const float* above, const float* here, const float* below, int y, int x) {
  const vf c = load(here + x);
  const float *e = l.e.row(y) + x, *s = l.s.row(y) + x, *su = s - l.s.stride;
  vf sum = (c - load(here + x + 1)) * load(e) + (c - load(here + x - 1)) * load(e - 1) +
           (c - load(below + x)) * load(s) + (c - load(above + x)) * load(su);
  if constexpr (nine) {
    const float *se = l.se.row(y) + x, *sw = l.sw.row(y) + x, *seu = se - l.se.stride, *swu = sw - l.sw.stride;
    sum += (c - load(below + x + 1)) * load(se) + (c - load(below + x - 1)) * load(sw) +
           (c - load(above + x - 1)) * load(seu - 1) + (c - load(above + x + 1)) * load(swu + 1);
    return sum + c * load(l.ground.row(y) + x);
  }
  return sum + c;
}

template <bool nine>
inline vf apply(const Level& l, const Plane& z, int y, int x) {
  const float* here = z.row(y);
  return apply<nine>(l, here - z.stride, here, here + z.stride, y, x);
}

// Everything that a pixel is coupled to but its neighbours in the row (rows = true) or in the column.
template <bool nine, bool rows>
inline vf line_ground(const Level& l, int y, int x) {
  const float *e = l.e.row(y) + x, *s = l.s.row(y) + x, *su = s - l.s.stride;
  vf g = rows ? load(s) + load(su) : load(e) + load(e - 1);
  if constexpr (nine) {
    const float *se = l.se.row(y) + x, *sw = l.sw.row(y) + x;
    g += load(se) + load(sw) + load(se - l.se.stride - 1) + load(sw - l.sw.stride + 1);
    return g + load(l.ground.row(y) + x);
  }
  return g + 1.0f;
}

// One elimination step along VL lines at once; see Tridiagonal.
struct LineStep {
  vf a{}, e{}, d{};
  inline void step(vf ground, vf edge, vf f, vf& c, vf& out) {
    const vf q = a * e + ground;
    const vf m = 1.0f / (q + edge);
    out = (a * d + f) * m;
    c = edge * m;
    e = q * m;
    a = edge;
    d = out;
  }
};

// Adds to z along rows 2 j + parity, j in [j0, j0 + VL * G), what makes the residual there zero. fresh: z is taken as zero,
// whatever it holds, and the rows of the other parity are set to that. scratch as for solve_rows.
template <bool nine, int parity, bool fresh, int G>
inline void smooth_rows(const Level& l, int j0, float* scratch) {
  const int padded = round_up(l.w, VL);
  const int count = (l.h - parity + 1) / 2;
  const auto row_of = [&](int j) { return 2 * std::min(j, count - 1) + parity; };
  LineStep line[G];
  float* out = scratch;
  for (int x = 0; x < padded; x += VL) {
    vf f[G][VL], a[G][VL], q[G][VL];
    for (int k = 0; k < G; ++k) {
      for (int i = 0; i < VL; ++i) {
        const int y = row_of(j0 + k * VL + i);
        f[k][i] = load(l.r.row(y) + x);
        if constexpr (!fresh) f[k][i] -= apply<nine>(l, l.z, y, x);
        a[k][i] = load(l.e.row(y) + x);
        q[k][i] = line_ground<nine, true>(l, y, x);
      }
      transpose(f[k]);
      transpose(a[k]);
      transpose(q[k]);
    }
    for (int i = 0; i < VL; ++i, out += 2 * VL * G)
      for (int k = 0; k < G; ++k) {
        vf c, d;
        // Columns past the image: nothing is coupled to them, and some ground keeps the division harmless.
        line[k].step(vmax(q[k][i], splat(1e-30f)), a[k][i], f[k][i], c, d);
        store(out + (2 * k) * VL, c);
        store(out + (2 * k + 1) * VL, d);
      }
  }
  vf last[G] = {};
  for (int x = padded - VL; x >= 0; x -= VL) {
    vf f[G][VL];
    for (int i = VL - 1; i >= 0; --i) {
      out -= 2 * VL * G;
      for (int k = 0; k < G; ++k) {
        last[k] = load(out + (2 * k + 1) * VL) + load(out + (2 * k) * VL) * last[k];
        f[k][i] = last[k];
      }
    }
    for (int k = 0; k < G; ++k) {
      transpose(f[k]);
      const int rows = std::min(VL, count - (j0 + k * VL));
      for (int i = 0; i < rows; ++i) {
        const int y = row_of(j0 + k * VL + i);
        store(l.z.row(y) + x, fresh ? f[k][i] : load(l.z.row(y) + x) + f[k][i]);
        if (fresh && y + 1 < l.h) store(l.z.row(y + 1) + x, vf{});
      }
    }
  }
}

// Adds to z along columns 2 j + parity, j in [j0, j0 + VL * G), what makes the residual there zero.
template <bool nine, int parity, int G>
__attribute__((noinline)) inline void smooth_columns(const Level& l, int j0, float* scratch) {
  const auto pick = [](vf a, vf b) { return parity == 0 ? take_even(a, b) : take_odd(a, b); };
  LineStep line[G];
  float* out = scratch;
  for (int y = 0; y < l.h; ++y, out += 2 * VL * G)
    for (int k = 0; k < G; ++k) {
      const int x = 2 * (j0 + k * VL);
      const float* r = l.r.row(y) + x;
      const float* s = l.s.row(y) + x;
      const vf f = pick(load(r) - apply<nine>(l, l.z, y, x), load(r + VL) - apply<nine>(l, l.z, y, x + VL));
      const vf ground = pick(line_ground<nine, false>(l, y, x), line_ground<nine, false>(l, y, x + VL));
      vf c, d;
      line[k].step(vmax(ground, splat(1e-30f)), pick(load(s), load(s + VL)), f, c, d);
      store(out + 2 * k * VL, c);
      store(out + (2 * k + 1) * VL, d);
    }
  vf last[G] = {};
  for (int y = l.h - 1; y >= 0; --y) {
    out -= 2 * VL * G;
    for (int k = 0; k < G; ++k) {
      float* z = l.z.row(y) + 2 * (j0 + k * VL);
      last[k] = load(out + (2 * k + 1) * VL) + load(out + 2 * k * VL) * last[k];
      const vf none{};
      const vf low = parity == 0 ? interleave_low(last[k], none) : interleave_low(none, last[k]);
      const vf high = parity == 0 ? interleave_high(last[k], none) : interleave_high(none, last[k]);
      store(z, load(z) + low);
      store(z + VL, load(z + VL) + high);
    }
  }
}

// ---- between levels ----------------------------------------------------------------------------------

// 1 for the columns that exist of VL from x on, 0 for the others.
inline vf inside(int x, int w) {
  return lanes() + static_cast<float>(x) < static_cast<float>(w) ? splat(1.0f) : vf{};
}

// The same for the odd columns 2 j + 1 from j on.
inline vf inside_odd(int j, int w) { return inside(j, w / 2); }

inline vf first_lane_zero() { return vmin(lanes(), splat(1.0f)); }

// The share of `part` in both; negative couplings, which coarse levels may have, count as none. alone: lanes (1) in which
// there is nothing on the other side.
inline vf share_of(vf part, vf other, vf alone) {
  part = vmax(part, vf{});
  const vf sum = part + vmax(other, vf{});
  const vf share = sum > 0.0f ? part / vmax(sum, splat(1e-30f)) : splat(0.5f);
  return alone > 0.0f ? splat(1.0f) : share;
}

// Interpolation weights at the coarse rows [i0, i1).
template <bool nine>
inline void set_sides(const Level& l, const Level& coarse, int i0, int i1) {
  for (int i = i0; i < i1; ++i)
    for (int j = 0; j < coarse.w; j += VL) {
      const int y = 2 * i, x = 2 * j;
      const bool row_below = y + 1 < l.h;
      vf el, er, unused, s, sd;
      split(l.e.row(y) + x, el, er);  // from the kept pixel to the right, and on from there
      if constexpr (nine) {
        // The couplings across are laid onto the row: towards the left and the right kept pixel.
        const float *se = l.se.row(y) + x, *sw = l.sw.row(y) + x;
        vf a, b;
        split(se - l.se.stride, a, b);
        el += a;                                  // from the row above, left
        split(sw, a, b);
        el += b;                                  // to the row below, left
        er += [&] { split(se, a, b); return b; }();
        split(sw - l.sw.stride + 2, a, b);
        er += a;                                  // from the row above, right
      }
      store(l.left.row(i) + j, share_of(el, er, 1.0f - inside(j + 1, coarse.w)) * inside(j, coarse.w));
      split(l.s.row(y) + x, s, unused);
      sd = vf{};
      if (row_below) split(l.s.row(y + 1) + x, sd, unused);
      if constexpr (nine) {
        vf a, b;
        split(l.sw.row(y) + x, a, b);             // right of the kept pixel: b is (y, x + 1) -> (y + 1, x)
        s += b;
        split(l.se.row(y) + x - 2, a, b);         // left of it: (y, x - 1) -> (y + 1, x)
        s += b;
        if (row_below) {
          split(l.se.row(y + 1) + x, a, b);
          sd += a;
          split(l.sw.row(y + 1) + x, a, b);
          sd += a;
        }
      }
      store(l.upper.row(i) + j, share_of(s, sd, splat(i + 1 < coarse.h ? 0.0f : 1.0f)) * inside(j, coarse.w));
    }
}

template <bool nine>
inline void set_corners(const Level& l, const Level& coarse, int i0, int i1) {
  const auto positive = [](vf v) { return vmax(v, vf{}); };
  for (int i = i0; i < i1; ++i)
    for (int j = 0; j < coarse.w; j += VL) {
      const int y = 2 * i, x = 2 * j;
      if (y + 1 >= l.h) {
        for (const Plane& corner : l.corner) store(corner.row(i) + j, vf{});
        continue;
      }
      vf el, er, unused, su, sd;
      split(l.e.row(y + 1) + x, el, er);
      split(l.s.row(y) + x, unused, su);
      split(l.s.row(y + 1) + x, unused, sd);
      el = positive(el);
      er = positive(er);
      su = positive(su);
      sd = positive(sd);
      const vf left = load(l.left.row(i) + j), left_below = load(l.left.row(i + 1) + j);
      const vf upper = load(l.upper.row(i) + j), upper_right = load(l.upper.row(i) + j + 1);
      const vf right = 1.0f - left, right_below = 1.0f - left_below;
      vf w[4] = {el * upper + su * left, er * upper_right + su * right, el * (1.0f - upper) + sd * left_below,
                 er * (1.0f - upper_right) + sd * right_below};
      if constexpr (nine) {
        vf a, b;
        split(l.se.row(y) + x, a, b);
        w[0] += positive(a);
        split(l.sw.row(y) + x + 2, a, b);
        w[1] += positive(a);
        split(l.sw.row(y + 1) + x, a, b);
        w[2] += positive(b);
        split(l.se.row(y + 1) + x, a, b);
        w[3] += positive(b);
      }
      const vf sum = (w[0] + w[1]) + (w[2] + w[3]);
      w[0] = sum > 0.0f ? w[0] : splat(1.0f);
      const vf scale = inside_odd(j, l.w) / (sum > 0.0f ? sum : splat(1.0f));
      for (int k = 0; k < 4; ++k) store(l.corner[k].row(i) + j, w[k] * scale);
    }
}

// The Galerkin operator P^T A P, cell by cell: a coupling a between pixels m and n whose values are P_m and P_n of the
// cell's four corners adds a (P_m - P_n)(P_m - P_n)^T. A cell is a kept pixel and what lies between it and the kept ones
// to its right and below, and owns all couplings there but those on its right and lower side. What it gives its upper
// and left side and its diagonals is stored where it belongs; the lower and the right side wait in coarse.z and
// coarse.r, which are free during the set-up, for finish_row.
template <bool nine>
inline void coarsen_row(const Level& l, const Level& coarse, int i) {
  const int y = 2 * i;
  const bool below = y + 1 < l.h;
  const vf one = splat(1.0f), none{};
  for (int j = 0; j < coarse.w; j += VL) {
    const int x = 2 * j;
    const vf left = load(l.left.row(i) + j), left_below = load(l.left.row(i + 1) + j);
    const vf upper = load(l.upper.row(i) + j), upper_right = load(l.upper.row(i) + j + 1);
    vf corner[4];
    for (int k = 0; k < 4; ++k) corner[k] = load(l.corner[k].row(i) + j);
    // The cell's nine pixels, row by row, in terms of its corners.
    const vf P[9][4] = {{one, none, none, none},
                        {left, one - left, none, none},
                        {none, one, none, none},
                        {upper, none, one - upper, none},
                        {corner[0], corner[1], corner[2], corner[3]},
                        {none, upper_right, none, one - upper_right},
                        {none, none, one, none},
                        {none, none, left_below, one - left_below},
                        {none, none, none, one}};
    vf c01{}, c02{}, c03{}, c12{}, c13{}, c23{};  // couplings between corners: minus the matrix entries
    const auto add = [&](vf a, int m, int n) __attribute__((always_inline)) {
      vf d[4];
      for (int k = 0; k < 4; ++k) d[k] = P[m][k] - P[n][k];
      c01 -= a * d[0] * d[1];
      c02 -= a * d[0] * d[2];
      c03 -= a * d[0] * d[3];
      c12 -= a * d[1] * d[2];
      c13 -= a * d[1] * d[3];
      c23 -= a * d[2] * d[3];
    };
    vf a, b;
    split(l.e.row(y) + x, a, b);
    add(a, 0, 1);
    add(b, 1, 2);
    split(l.s.row(y) + x, a, b);
    add(a, 0, 3);
    add(b, 1, 4);
    if (below) {
      split(l.e.row(y + 1) + x, a, b);
      add(a, 3, 4);
      add(b, 4, 5);
      split(l.s.row(y + 1) + x, a, b);
      add(a, 3, 6);
      add(b, 4, 7);
    }
    if constexpr (nine) {
      split(l.se.row(y) + x, a, b);
      add(a, 0, 4);
      add(b, 1, 5);
      split(l.sw.row(y) + x, a, b);
      add(b, 1, 3);
      split(l.sw.row(y) + x + 2, a, b);
      add(a, 2, 4);
      if (below) {
        split(l.se.row(y + 1) + x, a, b);
        add(a, 3, 7);
        add(b, 4, 8);
        split(l.sw.row(y + 1) + x, a, b);
        add(b, 4, 6);
        split(l.sw.row(y + 1) + x + 2, a, b);
        add(a, 5, 7);
      }
    }
    const vf here = inside(j, coarse.w), right = inside(j + 1, coarse.w);
    const vf under = i + 1 < coarse.h ? one : none;
    store(coarse.e.row(i) + j, c01 * right);
    store(coarse.s.row(i) + j, c02 * here * under);
    store(coarse.se.row(i) + j, c03 * right * under);
    store(coarse.sw.row(i) + j + 1, c12 * right * under);
    store(coarse.z.row(i) + j, c23 * right * under);
    store(coarse.r.row(i) + j + 1, c13 * right * under);
  }
}

// Adds to row i of the coarse couplings what the cells above and to the left hold for it.
inline void finish_row(const Level& coarse, int i) {
  for (int j = 0; j < coarse.w; j += VL) {
    if (i > 0) store(coarse.e.row(i) + j, load(coarse.e.row(i) + j) + load(coarse.z.row(i - 1) + j));
    const vf keep = j > 0 ? splat(1.0f) : first_lane_zero();
    store(coarse.s.row(i) + j, load(coarse.s.row(i) + j) + load(coarse.r.row(i) + j) * keep);
    store(coarse.sw.row(i) + j, load(coarse.sw.row(i) + j) * keep);
  }
}

// VL coarse values of P^T f, where f has rows above, here and below of fine row 2i.
inline vf restrict_at(const Level& l, int i, int j, const float* above, const float* here, const float* below) {
  const int x = 2 * j;
  const float *left = l.left.row(i) + j, *upper = l.upper.row(i) + j, *upper_up = upper - l.upper.stride;
  vf even, odd, before, unused;
  split(here + x, even, odd);
  split(here + x - 2, unused, before);
  vf sum = even + load(left) * odd + (1.0f - load(left - 1)) * before;
  split(below + x, even, odd);
  split(below + x - 2, unused, before);
  sum += load(upper) * even + load(l.corner[0].row(i) + j) * odd + load(l.corner[1].row(i) + j - 1) * before;
  split(above + x, even, odd);
  split(above + x - 2, unused, before);
  return sum + (1.0f - load(upper_up)) * even + load(l.corner[2].row(i - 1) + j) * odd +
         load(l.corner[3].row(i - 1) + j - 1) * before;
}

// z += P e: e is the next level's z.
inline void prolong_row(const Level& l, const Level& coarse, int i) {
  const int y = 2 * i;
  const auto add = [](float* z, vf even, vf odd) {
    store(z, load(z) + interleave_low(even, odd));
    store(z + VL, load(z + VL) + interleave_high(even, odd));
  };
  const float *here = coarse.z.row(i), *below = here + coarse.z.stride;
  for (int j = 0; j < coarse.w; j += VL) {
    const vf ul = load(here + j), ur = load(here + j + 1), ll = load(below + j), lr = load(below + j + 1);
    const vf left = load(l.left.row(i) + j);
    add(l.z.row(y) + 2 * j, ul, (left * ul + (1.0f - left) * ur) * inside_odd(j, l.w));
    if (y + 1 >= l.h) continue;
    const vf upper = load(l.upper.row(i) + j);
    add(l.z.row(y + 1) + 2 * j, (upper * ul + (1.0f - upper) * ll) * inside(j, coarse.w),
        load(l.corner[0].row(i) + j) * ul + load(l.corner[1].row(i) + j) * ur + load(l.corner[2].row(i) + j) * ll +
            load(l.corner[3].row(i) + j) * lr);
  }
}

// ---- set-up and cycle --------------------------------------------------------------------------------

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
  clear_guards(m.ap, m.level[0].h, m.level[0].w);
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
    smooth_all_rows<nine, 1, false>(l, scratch, team);
    if (symmetric) {
      smooth_all_columns<nine, 0>(l, scratch, team);
      smooth_all_columns<nine, 1>(l, scratch, team);
    }
    restrict_residual<nine>(l, coarse, scratch, team);
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
