// Exact WLS of a large image, tile by tile, so that the solver works in the cache and its memory does not grow with the
// image: alternating Schwarz. A tile is solved with the pixels around it held as they stand (Dirichlet), and only its
// core is kept: what is wrong around it fades towards the core. Tiles that touch have different colours, and those of
// one colour are solved side by side. Each is solved anew until what surrounds it stays as it was.

constexpr int kTile = 256;
constexpr int kOverlap = 16;
constexpr float kSurroundings = 0.5f;  // of the tolerance that what surrounds a tile may still change in its core
constexpr float kSlowestFade = 0.95f;  // as far as is believed
constexpr float kLargeChange = 4.0f;   // of the tolerance: how one above it fades tells nothing of the last ones
constexpr float kSlowFade = 0.85f;     // which then fade as the level of an even region does across the overlap
constexpr int kSweeps = 60;
constexpr float kHeld = 1e6f;          // ground of the pixels around a tile, times lambda

// One axis cut into tiles: cores [cut(k), cut(k + 1)).
struct Cuts {
  int n, count;
  Cuts(int size, int tile) : n(size), count(size <= tile ? 1 : (size - 1) / (tile - 2 * kOverlap - 18) + 1) {}
  int cut(int k) const { return k == count ? n : static_cast<int>(static_cast<long long>(n) * k / count) / 16 * 16; }
  int from(int k) const { return std::max(0, cut(k) - kOverlap); }
  int to(int k) const { return std::min(n, cut(k + 1) + kOverlap); }
};

struct TileState {
  WlsInfo info;
  bool settled;
  float change;            // around the tile, before it was solved
  float fade;              // of that change, the share that reached its core
  float around[4][kTile];  // the image above, below, left and right of it when it was solved
};

// Strong smoothing reaches too far for tiles: then the image is one.
inline int tile_side(float lambda, int size) { return lambda <= kQuickLambda ? std::min(kTile, size) : size; }

struct WlsTiles {
  const Plane &u, &ax, &ay;  // the image; its weights, those across in transposed blocks of VL x VL (solve_rows)
  float lambda, tol;
  int h, w;
  Cuts rows, columns;
  TileState* states;

  static std::size_t count(int h, int w, float lambda) {
    return static_cast<std::size_t>(Cuts(h, tile_side(lambda, h)).count) *
           static_cast<std::size_t>(Cuts(w, tile_side(lambda, w)).count);
  }

  // Solves all tiles until none changes; every member of the team calls it. g(y, x): the right-hand side at VL pixels.
  // memory: the member's, for one tile.
  template <class F>
  WlsInfo run(const Team& team, F&& g, void* memory) const {
    const int tiles = rows.count * columns.count;
    for (int sweep = 0; sweep < kSweeps; ++sweep) {
      for (int colour = 0; colour < 4; ++colour) {
        const int down = (rows.count + 1 - colour / 2) / 2, along = (columns.count + 1 - colour % 2) / 2;
        const auto [from, to] = team.share(down * along);
        for (int k = from; k < to; ++k)
          visit(k / along * 2 + colour / 2, k % along * 2 + colour % 2, sweep == 0, g, memory);
        team.sync();
      }
      const bool done = tiles == 1 || settled();
      team.sync();  // all have read it before some tile changes
      if (done) break;
    }
    WlsInfo all;
    for (int k = 0; k < tiles; ++k) {
      all.iterations = std::max(all.iterations, states[k].info.iterations);
      all.estimate = std::max(all.estimate, states[k].info.estimate);
    }
    return all;
  }

 private:
  bool settled() const {
    return std::all_of(states, states + rows.count * columns.count, [](const TileState& s) { return s.settled; });
  }

  template <class F>
  void visit(int i, int j, bool first, F&& g, void* memory) const {
    TileState& state = states[i * columns.count + j];
    const int y0 = rows.from(i), y1 = rows.to(i), x0 = columns.from(j), x1 = columns.to(j);
    if (first) state.fade = kSlowFade;  // until it is known
    float change = 0.0f;
    around(y0, y1, x0, x1, [&](int side, int k, float v) {
      if (!first) change = std::max(change, std::fabs(v - state.around[side][k]));
    });
    // The changes to come are a geometric series.
    const float fade = first ? 1.0f : slowest_fade(i, j);
    state.settled = !first && change * fade <= kSurroundings * tol * (1.0f - fade);
    if (state.settled) return;
    around(y0, y1, x0, x1, [&](int side, int k, float v) { state.around[side][k] = v; });
    const int top = y0 > 0, left = x0 > 0;  // rows and columns that are held, before the tile
    Arena arena(memory);
    MultigridMemory m;
    m.lay_out(top + y1 - y0 + (y1 < h), left + x1 - x0 + (x1 < w), arena);
    take(m, y0, y1, x0, x1, g);
    const WlsInfo info = solve(m, lambda, tol, !first);
    state.info = {info.iterations + (first ? 0 : state.info.iterations), info.estimate};
    float reached = 0.0f;
    for (int y = rows.cut(i); y < rows.cut(i + 1); ++y) {
      const float* from = m.u.row(y - y0 + top) + left - x0;
      float* const to = u.row(y);
      for (int x = columns.cut(j); x < columns.cut(j + 1); ++x) {
        reached = std::max(reached, std::fabs(from[x] - to[x]));
        to[x] = from[x];
      }
    }
    state.change = change;
    if (!first) state.fade = std::min(reached / change, kSlowestFade);
  }

  // How slowly what is still wrong around a tile fades. The level of an even region that several tiles share is what
  // fades slowly; a tile around which much changed the last time saw how the rest did, and its neighbours may know
  // better. (They are of other colours: none of them is being solved.)
  float slowest_fade(int i, int j) const {
    const TileState& own = states[i * columns.count + j];
    float fade = own.change > kLargeChange * tol ? kSlowFade : 0.0f;
    for (int y = std::max(i - 1, 0); y < std::min(i + 2, rows.count); ++y)
      for (int x = std::max(j - 1, 0); x < std::min(j + 2, columns.count); ++x)
        fade = std::max(fade, states[y * columns.count + x].fade);
    return fade;
  }

  // Copies the system of a tile and what is held around it, and its residual as right-hand side.
  template <class F>
  void take(MultigridMemory& m, int y0, int y1, int x0, int x1, F&& g) const {
    const Level& l = m.level[0];
    const int top = y0 > 0, left = x0 > 0, th = y1 - y0, tw = x1 - x0;
    clear_all_guards(m);
    for (int y = 0; y < l.h; ++y) {
      std::copy(u.row(y0 - top + y) + x0 - left, u.row(y0 - top + y) + x0 - left + l.w, m.u.row(y));
      const bool held = y < top || y >= top + th;
      float *e = l.e.row(y), *s = l.s.row(y), *ground = l.ground.row(y), *r = l.r.row(y);
      std::fill(ground, ground + l.w, held ? kHeld * lambda : 1.0f);
      ground[0] = left ? kHeld * lambda : ground[0];
      ground[l.w - 1] = x1 < w ? kHeld * lambda : ground[l.w - 1];
      std::fill(s, s + round_up(l.w, VL), 0.0f);
      std::fill(e, e + round_up(l.w, VL), 0.0f);
      std::fill(r, r + round_up(l.w, VL), 0.0f);
      if (!held && left) e[0] = ax_at(y0 + y - top, x0 - 1) * lambda;
      // Towards the row below, if it or this one is not held.
      if (y + 1 < l.h)
        for (int x = 0; x < tw; ++x) s[left + x] = ay.row(y0 - top + y)[x0 + x] * lambda;
    }
    for (int y = 0; y < th; y += VL)
      for (int x = 0; x < tw; x += VL) {
        vf block[VL];
        for (int k = 0; k < VL; ++k) block[k] = load(ax.row(y0 + y + k) + x0 + x) * lambda;
        transpose(block);
        for (int k = 0; k < std::min(VL, th - y); ++k) store(l.e.row(top + y + k) + left + x, block[k]);
      }
    for (int y = 0; y < th; ++y) {
      float* e = l.e.row(top + y);
      std::fill(e + l.w - 1, e + round_up(l.w, VL) + VL, 0.0f);  // nothing is tied to what lies beyond
    }
    for (int y = top; y < top + th; ++y) {
      float* r = l.r.row(y);
      for (int x = 0; x < tw; x += VL)
        store(r + left + x, g(y0 + y - top, x0 + x) - apply<false>(l, m.u, y, left + x));
      std::fill(r + left + tw, r + round_up(l.w, VL) + VL, 0.0f);
    }
  }

  float ax_at(int y, int x) const { return ax.row(y / VL * VL + x % VL)[x / VL * VL + y % VL]; }

  // Calls f(side, i, value) for the pixels around a tile.
  template <class F>
  void around(int y0, int y1, int x0, int x1, F&& f) const {
    for (int x = x0; x < x1; ++x) {
      if (y0 > 0) f(0, x - x0, u.row(y0 - 1)[x]);
      if (y1 < h) f(1, x - x0, u.row(y1)[x]);
    }
    for (int y = y0; y < y1; ++y) {
      if (x0 > 0) f(2, y - y0, u.row(y)[x0 - 1]);
      if (x1 < w) f(3, y - y0, u.row(y)[x1]);
    }
  }
};
