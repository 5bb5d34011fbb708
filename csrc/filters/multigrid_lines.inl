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
  }
  return sum + c * load(l.ground.row(y) + x);
}

template <bool nine>
inline vf apply(const Level& l, const Plane& z, int y, int x) {
  const float* here = z.row(y);
  return apply<nine>(l, here - z.stride, here, here + z.stride, y, x);
}

// What the rows above and below bring to row y: the couplings times their z.
template <bool nine>
inline vf from_rows(const Level& l, int y, int x) {
  const float *s = l.s.row(y) + x, *su = s - l.s.stride;
  const float *above = l.z.row(y - 1) + x, *below = l.z.row(y + 1) + x;
  vf sum = load(s) * load(below) + load(su) * load(above);
  if constexpr (nine) {
    const float *se = l.se.row(y) + x, *sw = l.sw.row(y) + x, *seu = se - l.se.stride, *swu = sw - l.sw.stride;
    sum += load(se) * load(below + 1) + load(sw) * load(below - 1) + load(seu - 1) * load(above - 1) +
           load(swu + 1) * load(above + 1);
  }
  return sum;
}

// Everything that a pixel is coupled to but its neighbours in the row.
template <bool nine>
inline vf row_ground(const Level& l, int y, int x) {
  const float *s = l.s.row(y) + x, *su = s - l.s.stride;
  vf g = load(s) + load(su);
  if constexpr (nine) {
    const float *se = l.se.row(y) + x, *sw = l.sw.row(y) + x;
    g += load(se) + load(sw) + load(se - l.se.stride - 1) + load(sw - l.sw.stride + 1);
  }
  return g + load(l.ground.row(y) + x);
}

// Every pixel has a ground of 1 and more. Columns past the image, to which nothing is coupled, get this one.
inline vf least_ground() { return splat(0.5f); }

// Adds to z along rows 2 j + parity, j in [j0, j0 + VL * G), what makes the residual there zero. (A change of z, since
// z itself is not known to enough digits where couplings are 1e4 times what ties it to ground.) fresh: z is taken as
// zero there, and for parity 0 everywhere, whatever it holds. scratch as for solve_rows. The level comes by value: no
// store can change it then.
template <bool nine, int parity, bool fresh, int G>
inline void smooth_rows(Level l, int j0, float* scratch) {
  const int padded = round_up(l.w, VL);
  const int count = (l.h - parity + 1) / 2;
  const auto row_of = [&](int j) { return 2 * std::min(j, count - 1) + parity; };
  Tridiagonal line[G];
  float* out = scratch;
  for (int x = 0; x < padded; x += VL) {
    vf f[G][VL], a[G][VL], q[G][VL];
    for (int k = 0; k < G; ++k) {
      for (int i = 0; i < VL; ++i) {
        const int y = row_of(j0 + k * VL + i);
        f[k][i] = load(l.r.row(y) + x);
        if constexpr (!fresh) f[k][i] -= apply<nine>(l, l.z, y, x);
        if constexpr (fresh && parity == 1) f[k][i] += from_rows<nine>(l, y, x);
        a[k][i] = load(l.e.row(y) + x);
        q[k][i] = row_ground<nine>(l, y, x);
      }
      transpose(f[k]);
      transpose(a[k]);
      transpose(q[k]);
    }
    for (int i = 0; i < VL; i += kRescale)
      in_steps([&](auto step, auto rescale) {
        for (int k = 0; k < G; ++k) {
          vf c, d;
          line[k].template step<rescale>(vmax(q[k][i + step], least_ground()), a[k][i + step], f[k][i + step], c, d);
          store(out + (2 * k) * VL, c);
          store(out + (2 * k + 1) * VL, d);
        }
        out += 2 * VL * G;
      });
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
        float* z = l.z.row(row_of(j0 + k * VL + i)) + x;
        store(z, fresh ? f[k][i] : load(z) + f[k][i]);
      }
    }
  }
}

// The even elements of the 2 * VL from p on.
inline vf every_other(const float* p) { return take_even(load(p), load(p + VL)); }

// The same along columns 2 j + parity.
template <bool nine, int parity, int G>
inline void smooth_columns(Level l, int j0, float* scratch) {
  // Of a column: its z and those to the left and right, in the row above and here; the couplings to the row above; what
  // comes from it.
  struct Column {
    vf z{}, left{}, right{}, left_up{}, right_up{}, up{}, up_left{}, up_right{};
  } column[G];
  const auto x_of = [j0](int k) { return 2 * (j0 + k * VL) + parity; };
  for (int k = 0; k < G; ++k) {
    const float* z = l.z.row(0) + x_of(k);
    column[k].z = every_other(z);
    column[k].left = every_other(z - 1);
    column[k].right = every_other(z + 1);
  }
  Tridiagonal line[G];
  float* out = scratch;
  int y = 0;
  const auto row = [&](auto rescale) __attribute__((always_inline)) {
    for (int k = 0; k < G; ++k) {
      Column& own = column[k];
      const int x = x_of(k);
      const vf e_left = every_other(l.e.row(y) + x - 1), e_right = every_other(l.e.row(y) + x);
      const vf s = every_other(l.s.row(y) + x);
      const float* under = l.z.row(y + 1) + x;
      const vf below = every_other(under), below_left = every_other(under - 1), below_right = every_other(under + 1);
      const vf down = (below - own.z) * s;
      vf f = every_other(l.r.row(y) + x) + (own.left - own.z) * e_left + (own.right - own.z) * e_right;
      vf ground = e_left + e_right;
      const vf tied = every_other(l.ground.row(y) + x);
      if constexpr (nine) {
        const vf sw = every_other(l.sw.row(y) + x), se = every_other(l.se.row(y) + x);
        f += (below_left - own.z) * sw + (below_right - own.z) * se + (own.left_up - own.z) * own.up_left +
             (own.right_up - own.z) * own.up_right;
        ground += (sw + se) + (own.up_left + own.up_right);
        own.left_up = own.left;
        own.right_up = own.right;
        own.up_left = every_other(l.se.row(y) + x - 1);
        own.up_right = every_other(l.sw.row(y) + x + 1);
      }
      f += (down - own.up) - own.z * tied;
      own.up = down;
      own.z = below;
      own.left = below_left;
      own.right = below_right;
      vf c, d;
      line[k].template step<rescale>(vmax(ground + tied, least_ground()), s, f, c, d);
      store(out + 2 * k * VL, c);
      store(out + (2 * k + 1) * VL, d);
    }
    ++y;
    out += 2 * VL * G;
  };
  while (y + kRescale <= l.h) in_steps([&](auto, auto rescale) __attribute__((always_inline)) { row(rescale); });
  while (y < l.h) row(std::true_type{});
  vf last[G] = {};
  while (y-- > 0) {
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
