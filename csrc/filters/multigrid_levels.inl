// A multigrid cycle for (I + L) z = r, L the weighted graph Laplacian of a pixel grid: the preconditioner of the exact
// WLS solver. Every other row and column is kept on the next level; interpolation follows the couplings (Alcouffe,
// Brandt, Dendy, Painter 1981; Dendy's black box multigrid), since weights jump by four orders of magnitude from
// one pixel to the next, and whole lines are smoothed at a time, rows before the coarse correction and columns after
// it, since point smoothers leave strongly coupled pairs of pixels as they are. Lines go in two colours (zebra): the
// even ones, then the odd ones with what the even ones have become.

constexpr int kCoarsest = 64;         // unknowns that are solved directly
constexpr int kMaxLevels = 24;

// couplings of a pixel to its right, lower, lower right and lower left neighbour (zero where there is none), and to
// ground. The finest level has only e and s.
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
  Plane u, p;                       // the solution of the whole system, and the direction it moves in
  float* factor = nullptr;          // Cholesky factor of the coarsest level, kCoarsest x kCoarsest
  float* lines = nullptr;           // rows or columns being solved
  Clusters clusters;
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

inline int residual_stride(int w) { return round_up(w, 16) + 4 * kHalo; }
constexpr int kResidualRows = 3;

inline void MultigridMemory::lay_out(int h, int w, Arena& arena) {
  u = take_guarded(arena, h, w);
  p = take_guarded(arena, h, w);
  factor = arena.take<float>(kCoarsest * kCoarsest);
  lines = arena.take<float>(std::max(2 * static_cast<std::size_t>(kLines) *
                                         static_cast<std::size_t>(std::max(round_up(w, VL), h)),
                                     static_cast<std::size_t>(kResidualRows * residual_stride(w))));
  clusters.lay_out(h, w, arena);
  levels = 0;
  for (;;) {
    Level& l = level[levels++];
    l = Level{};
    l.h = h;
    l.w = w;
    for (Plane* plane : {&l.z, &l.r, &l.e, &l.s, &l.ground}) *plane = take_guarded(arena, h, w);
    if (levels > 1)
      for (Plane* plane : {&l.se, &l.sw}) *plane = take_guarded(arena, h, w);
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
