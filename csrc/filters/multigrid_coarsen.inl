// Multigrid: interpolation that follows the couplings, the Galerkin operator, restriction and prolongation.

// 1 for the columns that exist of VL from x on, 0 for the others.
inline vf inside(int x, int w) {
  return lanes() + static_cast<float>(x) < static_cast<float>(w) ? splat(1.0f) : vf{};
}

// The same for the odd columns 2 j + 1 from j on.
inline vf inside_odd(int j, int w) { return inside(j, w / 2); }

inline vf first_lane_zero() { return vmin(lanes(), splat(1.0f)); }

// The share of `part` in both; negative couplings, which coarse levels may have, count as none. alone: 1 in lanes that
// have nothing on the other side.
inline vf share_of(vf part, vf other, vf alone) {
  part = vmax(part, vf{});
  const vf sum = part + vmax(other, vf{});
  const vf share = sum > 0.0f ? part / vmax(sum, splat(1e-30f)) : splat(0.5f);
  return alone > 0.0f ? splat(1.0f) : share;
}

template <bool nine>
inline void set_sides(const Level& l, const Level& coarse) {
  for (int i = 0; i < coarse.h; ++i)
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
inline void set_corners(const Level& l, const Level& coarse) {
  const auto positive = [](vf v) { return vmax(v, vf{}); };
  for (int i = 0; i < coarse.h; ++i)
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
// cell's four corners adds a (P_m - P_n)(P_m - P_n)^T. A cell is a kept pixel and what lies between it and the kept
// ones to its right and below, and owns all couplings there but those on its right and lower side. What it gives its
// upper and left side and its diagonals is stored where it belongs; the lower and the right side wait in coarse.z and
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

// VL coarse values of P^T f, where f is zero but in fine row 2 i, given here.
inline vf restrict_row(const Level& l, int i, int j, const float* here) {
  const int x = 2 * j;
  const float* left = l.left.row(i) + j;
  vf even, odd, before, unused;
  split(here + x, even, odd);
  split(here + x - 2, unused, before);
  return even + load(left) * odd + (1.0f - load(left - 1)) * before;
}

// The same where f has rows above, here and below of fine row 2 i.
inline vf restrict_at(const Level& l, int i, int j, const float* above, const float* here, const float* below) {
  const int x = 2 * j;
  const float *upper = l.upper.row(i) + j, *upper_up = upper - l.upper.stride;
  vf even, odd, before, unused;
  vf sum = restrict_row(l, i, j, here);
  split(below + x, even, odd);
  split(below + x - 2, unused, before);
  sum += load(upper) * even + load(l.corner[0].row(i) + j) * odd + load(l.corner[1].row(i) + j - 1) * before;
  split(above + x, even, odd);
  split(above + x - 2, unused, before);
  return sum + (1.0f - load(upper_up)) * even + load(l.corner[2].row(i - 1) + j) * odd +
         load(l.corner[3].row(i - 1) + j - 1) * before;
}

// z += P e: e is the next level's z.
inline void prolong_row(Level l, Level coarse, int i) {
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
