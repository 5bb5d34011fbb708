// Multigrid: a level's operator, row by row, and the smoothers that solve along whole lines.

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

// Adds to z along rows 2 j + parity, j in [j0, j0 + VL * G), what makes the residual there zero. fresh: z is taken as
// zero, whatever it holds, and the rows of the other parity are set to that. scratch as for solve_rows.
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
inline void smooth_columns(const Level& l, int j0, float* scratch) {
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
