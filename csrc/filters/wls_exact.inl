// Exact WLS: conjugate gradients on (I + lambda L) u = g, preconditioned with one multigrid cycle per iteration. It
// starts from the fast solution, which leaves little but what the cycles are best at.
//
// The quick phase uses a cycle that is not symmetric (rows before, columns after), so directions are conjugated as
// flexible CG does (Notay 2000). Steps then shrink about geometrically, which tells what is left: the slower of the last
// two decreases is believed, since one small step may be luck. Photographs are done in 3 to 8. Should one not be, and
// where lambda is large, the sure phase takes the symmetric cycle, with which CG converges whatever the image, and stops
// by the energy norm, which bounds the maximum norm since A >= I: what the last kWindow iterations have taken from it
// estimates what is left of it (Hestenes & Stiefel 1952, theorem 6:3; Strakos & Tichy 2002).

constexpr int kQuickIterations = 30;
constexpr float kQuickLambda = 4.0f;   // stronger smoothing goes to the sure phase at once
constexpr int kMaxIterations = 4000;   // a hundred times what the hardest image tried has taken
constexpr double kSafety = 0.35;       // quick phase: of the tolerance that the steps to come may reach
constexpr double kSlowest = 0.9;       // from one step to the next, as far as is believed
constexpr int kWindow = 8;
constexpr double kSure = 0.5;          // sure phase: of the tolerance that the estimate may reach

inline double hsum(vf v) {
  double s = 0.0;
  for (int i = 0; i < VL; ++i) s += static_cast<double>(v[i]);
  return s;
}

// What one iteration needs to know of its correction z, the last direction p and the residual r.
struct Products {
  double zr = 0.0, zaz = 0.0, paz = 0.0;  // z.r, z.Az, p.Az
};

inline Products products(const MultigridMemory& m, bool direction) {
  const Level top = m.level[0];  // its own, here and below: no store can change it
  const Plane p = m.p;
  Products all;
  for (int y = 0; y < top.h; ++y) {
    vf zr{}, zaz{}, paz{};
    for (int x = 0; x < top.w; x += VL) {
      const vf z = load(top.z.row(y) + x), az = apply<false>(top, top.z, y, x) * inside(x, top.w);
      zr += z * load(top.r.row(y) + x);
      zaz += z * az;
      paz += load(p.row(y) + x) * az;
    }
    all.zr += hsum(zr);
    all.zaz += hsum(zaz);
    if (direction) all.paz += hsum(paz);
  }
  return all;
}

// p = z + beta p, u += alpha p, r -= alpha A p. Returns the largest |p|.
inline float advance(const MultigridMemory& m, float beta, float alpha) {
  const Level top = m.level[0];
  const Plane p = m.p, u = m.u;
  const auto turn = [&](int y) {
    for (int x = 0; x < top.w; x += VL)
      store(p.row(y) + x, load(top.z.row(y) + x) + (beta != 0.0f ? load(p.row(y) + x) * beta : vf{}));
  };
  vf most{};
  turn(0);
  for (int y = 0; y < top.h; ++y) {
    if (y + 1 < top.h) turn(y + 1);
    for (int x = 0; x < top.w; x += VL) {
      const vf ap = apply<false>(top, p, y, x) * inside(x, top.w);
      most = vmax(most, vabs(load(p.row(y) + x)));
      store(u.row(y) + x, load(u.row(y) + x) + load(p.row(y) + x) * alpha);
      store(top.r.row(y) + x, load(top.r.row(y) + x) - ap * alpha);
    }
  }
  return hmax(most);
}

// Solves A x = r for m's finest level, whose r is the residual of m.u, and adds x to m.u. tol: the largest error
// accepted, see above. e and s of the finest level are the weights times lambda. again: u is a solution for slightly
// other surroundings.
inline WlsInfo solve(MultigridMemory& m, float lambda, float tol, bool again) {
  Level& top = m.level[0];
  set_up(m);
  m.clusters.count = 0;
  if (!again) find_clusters(top.e, top.s, top.ground, lambda, top.h, top.w, top.z, m.clusters);
  WlsInfo info;
  const int quick = lambda <= kQuickLambda ? kQuickIterations : 0;
  double zr_old = 1.0, pap = 1.0;
  double before = again ? 0.0 : 1.0;  // the step before; 0: the first may be the last
  double decreased = 0.0;             // by that step, from the one before it
  double taken[kWindow] = {};  // from the squared energy norm of the error, by the last iterations
  for (;;) {
    const bool symmetric = info.iterations >= quick;
    cycle(m, 0, symmetric);
    correct_clusters(m.clusters, top.r, top.z);
    const Products now = products(m, info.iterations > 0);
    bool done = info.iterations == kMaxIterations || now.zr <= 0.0;
    // The step along p = z + beta p has p.r = z.r, since the last one left nothing of r along the old p.
    const bool start = info.iterations == 0 || info.iterations == quick;
    const double beta = start ? 0.0 : symmetric ? now.zr / zr_old : -now.paz / pap;
    pap = now.zaz + beta * (2.0 * now.paz + beta * pap);
    const double alpha = pap > 0.0 ? now.zr / pap : 0.0;
    taken[info.iterations % kWindow] = alpha * now.zr;
    zr_old = now.zr;
    const double step = alpha * static_cast<double>(advance(m, static_cast<float>(beta), static_cast<float>(alpha)));
    ++info.iterations;
    if (symmetric) {
      double energy = 0.0;
      for (const double t : taken) energy += t;
      info.estimate = static_cast<float>(std::sqrt(energy));
      done |= info.iterations >= quick + kWindow && std::sqrt(energy) <= kSure * static_cast<double>(tol);
    } else {
      const double decrease = before > 0.0 ? std::min(step / before, kSlowest) : 0.0;
      const double slower = std::max(decrease, decreased);
      const double rest = step * std::max(1.0, slower / (1.0 - slower));
      info.estimate = static_cast<float>(rest);
      done |= rest <= kSafety * static_cast<double>(tol);
      before = step;
      decreased = decrease;
    }
    if (done || pap <= 0.0) return info;
  }
}
