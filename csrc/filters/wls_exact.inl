// Exact WLS: conjugate gradients on (I + lambda L) u = g, preconditioned with one multigrid cycle per iteration.
//
// The quick phase uses a cycle that is not symmetric (rows before, columns after), so directions are conjugated as
// flexible CG does (Notay 2000); a cycle's correction then tells the error, and photographs are done in 8 to 15. Should
// one not be, and where lambda is large, the sure phase takes the symmetric cycle, with which CG converges whatever the
// image, and stops by the energy norm, which bounds the maximum norm since A >= I: what the last kWindow iterations
// have taken from it estimates what is left of it (Hestenes & Stiefel 1952, theorem 6:3; Strakos & Tichy 2002).

constexpr int kQuickIterations = 30;
constexpr float kQuickLambda = 4.0f;   // stronger smoothing goes to the sure phase at once
constexpr int kMaxIterations = 4000;   // a hundred times what the hardest image tried has taken
constexpr double kSafety = 0.2;        // quick phase: of the tolerance that the last correction may reach
constexpr int kWindow = 8;
constexpr double kSure = 0.5;          // sure phase: of the tolerance that the estimate may reach

inline double hsum(vf v) {
  double s = 0.0;
  for (int i = 0; i < VL; ++i) s += static_cast<double>(v[i]);
  return s;
}

// u holds g on entry and the solution on return; ax, ay the unscaled weights, which are scaled by lambda. tol: the
// largest error accepted, see above.
inline WlsInfo wls_exact(const Plane& u, const Plane& ax, const Plane& ay, float lambda, float tol, int h, int w,
                         MultigridMemory& m, float* scratch, const Team& team) {
  Level& top = m.level[0];
  top.e = ax;
  top.s = ay;
  const auto [y0, y1] = team.share(h);
  for (int y = y0; y < y1; ++y)
    for (int x = 0; x < w; x += VL) {
      store(ax.row(y) + x, load(ax.row(y) + x) * lambda);
      store(ay.row(y) + x, load(ay.row(y) + x) * lambda);
    }
  if (team.rank() == 0) {
    clear_all_guards(m);
    clear_guards(u, h, w);
  }
  team.sync();
  if (team.rank() == 0) find_clusters(ax, ay, lambda, h, w, m.p, *m.clusters);
  set_up(m, scratch, team);
  // From u = g: r = g - A g.
  for (int y = y0; y < y1; ++y)
    for (int x = 0; x < w; x += VL)
      store(top.r.row(y) + x, (load(u.row(y) + x) - apply<false>(top, u, y, x)) * inside(x, w));
  team.sync();

  const auto products = [&](bool direction) {
    for (int y = y0; y < y1; ++y) {
      vf zr{}, zaz{}, paz{}, most{};
      for (int x = 0; x < w; x += VL) {
        const vf z = load(top.z.row(y) + x), az = apply<false>(top, top.z, y, x) * inside(x, w);
        zr += z * load(top.r.row(y) + x);
        zaz += z * az;
        paz += load(m.p.row(y) + x) * az;
        most = vmax(most, vmax(z, -z));
      }
      m.products[y] = {hsum(zr), hsum(zaz), direction ? hsum(paz) : 0.0, static_cast<double>(hmax(most))};
    }
    team.sync();
    Products all;  // in the order of rows: the same for any team
    for (int y = 0; y < h; ++y) {
      all.zr += m.products[y].zr;
      all.zaz += m.products[y].zaz;
      all.paz += m.products[y].paz;
      all.most = std::max(all.most, m.products[y].most);
    }
    return all;
  };
  // p = z + beta p.
  const auto turn = [&](int y, float beta) {
    for (int x = 0; x < w; x += VL)
      store(m.p.row(y) + x, load(top.z.row(y) + x) + (beta != 0.0f ? load(m.p.row(y) + x) * beta : vf{}));
  };
  // u += alpha p, r -= alpha A p.
  const auto advance = [&](int y, float alpha) {
    for (int x = 0; x < w; x += VL) {
      const vf ap = apply<false>(top, m.p, y, x) * inside(x, w);
      store(u.row(y) + x, load(u.row(y) + x) + load(m.p.row(y) + x) * alpha);
      store(top.r.row(y) + x, load(top.r.row(y) + x) - ap * alpha);
    }
  };

  WlsInfo info;
  const int quick = lambda <= kQuickLambda ? kQuickIterations : 0;
  double zr_old = 1.0, pap = 1.0;
  double taken[kWindow] = {};  // from the squared energy norm of the error, by the last iterations
  for (;;) {
    const bool symmetric = info.iterations >= quick;
    cycle(m, 0, symmetric, scratch, team);
    correct_clusters(*m.clusters, top.r, top.z, team);
    const Products now = products(info.iterations > 0);
    bool done = now.most <= kSafety * static_cast<double>(tol);
    info.estimate = static_cast<float>(now.most);
    if (symmetric) {
      double energy = 0.0;
      for (const double t : taken) energy += t;
      info.estimate = static_cast<float>(std::sqrt(energy));
      done = info.iterations >= quick + kWindow && std::sqrt(energy) <= kSure * static_cast<double>(tol);
    }
    done |= info.iterations == kMaxIterations || now.zr <= 0.0;
    // The step along p = z + beta p has p.r = z.r, since the last one left nothing of r along the old p.
    const bool start = info.iterations == 0 || info.iterations == quick;
    const double beta = start ? 0.0 : symmetric ? now.zr / zr_old : -now.paz / pap;
    pap = now.zaz + beta * (2.0 * now.paz + beta * pap);
    const double alpha = pap > 0.0 ? now.zr / pap : 0.0;
    taken[info.iterations % kWindow] = alpha * now.zr;
    zr_old = now.zr;
    // Rows at the borders of a share first: the neighbours need them.
    if (y0 < y1) turn(y0, static_cast<float>(beta));
    if (y0 + 1 < y1) turn(y1 - 1, static_cast<float>(beta));
    team.sync();
    for (int y = y0; y < y1; ++y) {
      if (y + 2 < y1) turn(y + 1, static_cast<float>(beta));
      advance(y, static_cast<float>(alpha));
    }
    team.sync();
    ++info.iterations;
    if (done || pap <= 0.0) break;
  }
  return info;
}
