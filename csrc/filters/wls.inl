// Smoothing by weighted least squares, of the whole picture before the walk.

struct Wls : Filter {
  static constexpr const char* kName = "wls";
  static constexpr bool kSpare = true;
  enum class Solver { exact, fast };
  enum class Domain { intensity, lightness };
  float lambda, alpha;
  Solver solver;
  float tol;
  Domain domain;
  constexpr void declare(auto&& visit) {
    visit(lambda, "lambda", above(0.0, 100.0, 1.0));
    visit(alpha, "alpha", within(0.2, 2.0, 1.2));
    visit(solver, "solver", one_of("exact", "fast"));
    visit(tol, "tol", within(1e-6, 0.1, 1.0 / 510));
    visit(domain, "domain", one_of("intensity", "lightness"));
  }
  Plane u, ay;                // the result; the weights down, those across being in Frame::spare
  TileState* tiles;           // of the exact solver
  unsigned char* tile;        // what it needs for one
  float* lines;               // rows or columns being solved
  float* logs;

  void lay_out(int h, int w, Arena& shared, Arena& own) {
    u = take_plane(shared, h, w);
    ay = take_plane(shared, h, w);
    lines = own.take<float>(wls_fast_scratch(h, w));
    logs = own.take<float>(WlsWeights::scratch(w));
    if (solver == Solver::fast) return;
    tiles = shared.take<TileState>(WlsTiles::count(h, w, lambda));
    Arena needed;
    MultigridMemory().lay_out(tile_side(lambda, h), tile_side(lambda, w), needed);
    tile = own.take<unsigned char>(needed.used());
  }

  int reach(bool) const { return kEveryRow; }

  void prepare(const Frame& frame) {
    const int h = frame.h, w = frame.w;
    const Team& team = frame.team;
    const Plane& ax = frame.spare;
    const bool lab = domain == Domain::lightness;
    const auto source = [&](int y, int x) {
      const vf v = load(frame.state.row(y) + x);
      return lab ? lightness(v) : v;
    };
    const auto [y0, y1] = team.share(h, kBand);
    const Plane& g = lab ? u : frame.state;
    WlsWeights weights{g, ax, ay, h, w, lab ? kWlsSmall / 100.0f : kWlsSmall, Power(alpha),
                       logs, logs + round_up(w, VL) + 16};
    if (lab) {
      for (int y = y0; y < y1; ++y)
        for (int x = 0; x < round_up(w, 16); x += VL) store(u.row(y) + x, source(y, x));
      team.sync();
      weights.make(y0, y1);
      team.sync();
    }
    wls_fast(g, u, ax, ay, lambda, h, w, lines, team, [&](int from, int to) {
      if (!lab) weights.make(from, to);
    });
    if (solver == Solver::exact) {
      const WlsTiles solver_of_tiles{u, ax, ay, lambda, tol, h, w, {h, tile_side(lambda, h)}, {w, tile_side(lambda, w)},
                                     tiles};
      const WlsInfo done = solver_of_tiles.run(team, source, tile);
      if (frame.info && team.rank() == 0) *frame.info = done;
    }
    if (lab) {
      for (int y = y0; y < y1; ++y)
        for (int x = 0; x < round_up(w, 16); x += VL)
          store(u.row(y) + x, from_lightness(vmax(load(u.row(y) + x), vf{})));
      team.sync();
    }
  }

  void row(const Frame&, const Row& r, float weight) {
    const float* from = u.row(r.y);
    for (int x = r.x0; x < r.x1; x += VL) add_to(r.acc, x, load(from + x) * weight);
  }
};
