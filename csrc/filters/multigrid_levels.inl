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

// What one iteration needs to know of its correction z, the last direction p and the residual r, by rows.
struct Products {
  double zr = 0.0, zaz = 0.0, paz = 0.0, most = 0.0;  // z.r, z.Az, p.Az, the largest |z|
};

struct MultigridMemory {
  int levels = 0;
  Level level[kMaxLevels];
  Plane p;                          // direction
  float* factor = nullptr;          // Cholesky factor of the coarsest level, kCoarsest x kCoarsest
  Products* products = nullptr;     // one per row
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
  products = arena.take<Products>(static_cast<std::size_t>(h));
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
