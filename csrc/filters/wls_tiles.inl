// Exact WLS of a large image, tile by tile, so that the solver works in the cache and its memory does not grow with the
// image: alternating Schwarz. A tile is solved with the image around it as it stands (Dirichlet), and only its core is
// kept: what is wrong around it fades towards the core, by the factor that smoothing by one pixel takes, once for each
// pixel of overlap. Tiles that touch have different colours, and those of one colour are solved side by side. Each is
// solved anew until what surrounds it stays as it was.

constexpr int kTile = 256;
constexpr int kOverlap = 16;
constexpr int kSegmentMean = 16;       // pixels along the surroundings whose mean change counts: rough errors fade at once
constexpr double kSurroundings = 0.25; // of the tolerance that it may reach
constexpr int kSweeps = 60;

// One axis cut into tiles: cores [cut(k), cut(k + 1)).
struct Cuts {
  int n, count;
  Cuts(int size, int tile) : n(size), count(size <= tile ? 1 : (size - 1) / (tile - 2 * kOverlap - 16) + 1) {}
  int cut(int k) const { return k == count ? n : static_cast<int>(static_cast<long long>(n) * k / count) / 16 * 16; }
  int from(int k) const { return std::max(0, cut(k) - kOverlap); }
  int to(int k) const { return std::min(n, cut(k + 1) + kOverlap); }
};

struct TileState {
  WlsInfo info;
  bool settled;
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
    for (int sweep = 0, again = tiles > 1 ? kSweeps : 1; again > 0; again = sweep < kSweeps && !settled() && tiles > 1) {
      for (int colour = 0; colour < 4; ++colour) {
        const int down = (rows.count + 1 - colour / 2) / 2, along = (columns.count + 1 - colour % 2) / 2;
        const auto [from, to] = team.share(down * along);
        for (int k = from; k < to; ++k)
          visit(k / along * 2 + colour / 2, k % along * 2 + colour % 2, sweep == 0, g, memory);
        team.sync();
      }
      ++sweep;
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
    state.settled = !first && same_around(state, y0, y1, x0, x1);
    if (state.settled) return;
    around(y0, y1, x0, x1, [&](int side, int k, float v) { state.around[side][k] = v; });
    Arena arena(memory);
    MultigridMemory m;
    m.lay_out(y1 - y0, x1 - x0, arena);
    take(m, y0, x0, g);
    const WlsInfo info = solve(m, lambda, tol);
    state.info = {info.iterations + (first ? 0 : state.info.iterations), info.estimate};
    for (int y = rows.cut(i); y < rows.cut(i + 1); ++y)
      std::copy(m.u.row(y - y0) + columns.cut(j) - x0, m.u.row(y - y0) + columns.cut(j + 1) - x0,
                u.row(y) + columns.cut(j));
  }

  // Copies a tile's system, and its residual as right-hand side. What ties it to the image around it becomes ground.
  template <class F>
  void take(MultigridMemory& m, int y0, int x0, F&& g) const {
    const Level& l = m.level[0];
    clear_all_guards(m);
    for (int y = y0 > 0 ? -1 : 0; y < (y0 + l.h < h ? l.h + 1 : l.h); ++y) {
      const float* from = u.row(y0 + y) + x0;
      std::copy(from - (x0 > 0), from + l.w + (x0 + l.w < w), m.u.row(y) - (x0 > 0));
    }
    for (int y = 0; y < l.h; y += VL)
      for (int x = 0; x < l.w; x += VL) {
        vf block[VL];
        for (int k = 0; k < VL; ++k) block[k] = load(ax.row(y0 + y + k) + x0 + x) * lambda;
        transpose(block);
        for (int k = 0; k < std::min(VL, l.h - y); ++k) store(l.e.row(y + k) + x, block[k]);
      }
    for (int y = y0 > 0 ? -1 : 0; y < l.h; ++y)
      for (int x = 0; x < l.w; x += VL) store(l.s.row(y) + x, load(ay.row(y0 + y) + x0 + x) * lambda);
    for (int y = 0; y < l.h; ++y) {
      float *e = l.e.row(y), *ground = l.ground.row(y);
      e[-1] = across(y0 + y, x0 - 1);
      std::fill(ground, ground + l.w, 1.0f);
      for (int x = 0; x < l.w; x += VL)
        store(l.r.row(y) + x, (g(y0 + y, x0 + x) - apply<false>(l, m.u, y, x)) * inside(x, l.w));
    }
    for (int y = 0; y < l.h; ++y) {
      float *e = l.e.row(y), *ground = l.ground.row(y);
      ground[0] += e[-1];
      ground[l.w - 1] += e[l.w - 1];
      e[-1] = 0.0f;
      std::fill(e + l.w - 1, e + round_up(l.w, VL), 0.0f);
    }
    for (const auto [edge, y] : {std::pair(-1, 0), std::pair(l.h - 1, l.h - 1)}) {
      float *s = l.s.row(edge), *ground = l.ground.row(y);
      for (int x = 0; x < l.w; ++x) ground[x] += s[x];
      std::fill(s, s + round_up(l.w, VL), 0.0f);
    }
    for (int y = 0; y < l.h; ++y) std::fill(l.s.row(y) + l.w, l.s.row(y) + round_up(l.w, VL), 0.0f);
  }

  float across(int y, int x) const {
    return x < 0 ? 0.0f : ax.row(y / VL * VL + x % VL)[x / VL * VL + y % VL] * lambda;
  }

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

  // Whether the surroundings of a tile are about as they were.
  bool same_around(const TileState& state, int y0, int y1, int x0, int x1) const {
    float sum[4][kTile / kSegmentMean] = {};
    around(y0, y1, x0, x1, [&](int side, int i, float v) { sum[side][i / kSegmentMean] += v - state.around[side][i]; });
    for (const auto& side : sum)
      for (const float change : side)
        if (std::fabs(change) > kSegmentMean * static_cast<float>(kSurroundings) * tol) return false;
    return true;
  }
};
