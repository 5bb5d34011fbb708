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
    visit(lambda, "lambda", above(0.0, 100.0));
    visit(alpha, "alpha", within(0.2, 2.0));
    visit(solver, "solver", one_of("exact", "fast"));
    visit(tol, "tol", within(1e-6, 0.1));
    visit(domain, "domain", one_of("intensity", "lightness"));
  }
  Plane u, ay;                // the result; the weights down, those across being in Frame::spare
  MultigridMemory multigrid;  // of the exact solver
  float* lines;               // rows or columns being solved
  float* logs;

  void lay_out(int h, int w, Arena& shared, Arena& own) {
    u = take_plane(shared, h, w);
    ay = take_plane(shared, h, w);
    if (solver == Solver::exact) multigrid.lay_out(h, w, shared);
    lines = own.take<float>(std::max(wls_fast_scratch(h, w), multigrid_scratch(h, w)));
    logs = own.take<float>(WlsWeights::scratch(w));
  }

  void prepare(const Frame& frame) {
    const int h = frame.h, w = frame.w;
    const Team& team = frame.team;
    const Plane& ax = frame.spare;
    const bool lab = domain == Domain::lightness;
    const auto [y0, y1] = team.share(h, kBand);
    if (lab || solver == Solver::exact) {
      for (int y = y0; y < y1; ++y) {
        const float* in = frame.state.row(y);
        float* to = u.row(y);
        for (int x = 0; x < round_up(w, 16); x += VL) store(to + x, lab ? lightness(load(in + x)) : load(in + x));
      }
      team.sync();
    }
    const Plane& g = lab ? u : frame.state;
    WlsWeights weights{g, ax, ay, h, w, lab ? kWlsSmall / 100.0f : kWlsSmall, Power(alpha),
                       logs, logs + round_up(w, VL) + 16};
    if (lab || solver == Solver::exact) {
      weights.make(y0, y1);
      team.sync();
    }
    if (solver == Solver::fast) {
      wls_fast(g, u, ax, ay, lambda, h, w, lines, team, [&](int from, int to) {
        if (!lab) weights.make(from, to);
      });
    } else {
      const WlsInfo done = wls_exact(u, ax, ay, lambda, tol, h, w, multigrid, lines, team);
      if (frame.info && team.rank() == 0) *frame.info = done;
    }
    if (lab) {
      for (int y = y0; y < y1; ++y) {
        float* to = u.row(y);
        for (int x = 0; x < round_up(w, 16); x += VL) store(to + x, from_lightness(vmax(load(to + x), vf{})));
      }
      team.sync();
    }
  }

  void row(const Frame&, const Row& r, float weight) {
    const float* from = u.row(r.y);
    for (int x = r.x0; x < r.x1; x += VL) add_to(r.acc, x, load(from + x) * weight);
  }
};
