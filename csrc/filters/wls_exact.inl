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

// Runs f(y) -> {a, b, c} sums over row y, adds them in the order of rows: the same for any team.
template <class F>
inline void sum_rows(int h, double* sums, const Team& team, double (&out)[3], F&& f) {
  const auto [y0, y1] = team.share(h);
  for (int y = y0; y < y1; ++y) f(y, sums + 3 * static_cast<std::ptrdiff_t>(y));
  team.sync();
  for (double& v : out) v = 0.0;
  for (int y = 0; y < h; ++y)
    for (int k = 0; k < 3; ++k) out[k] += sums[3 * static_cast<std::ptrdiff_t>(y) + k];
  team.sync();
}

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
  if (team.rank() == 0) find_clusters(ax, ay, lambda, h, w, m.ap, top.z.stride, *m.clusters);
  set_up(m, scratch, team);
  // From u = g: r = g - A g.
  for (int y = y0; y < y1; ++y)
    for (int x = 0; x < w; x += VL)
      store(top.r.row(y) + x, (load(u.row(y) + x) - apply<false>(top, u, y, x)) * inside(x, w));
  team.sync();

  WlsInfo info;
  const int quick = lambda <= kQuickLambda ? kQuickIterations : 0;
  double alpha = 0.0, rz_old = 1.0;
  double taken[kWindow] = {};  // from the squared energy norm of the error, by the last iterations
  double sums[3];
  for (;;) {
    const bool symmetric = info.iterations >= quick;
    cycle(m, 0, symmetric, scratch, team);
    correct_clusters(*m.clusters, top.r, top.z, team);
    // z.r, z.(A p) of the last direction, and the largest correction, kept as a sum of one row each.
    sum_rows(h, m.sums, team, sums, [&](int y, double* s) {
      vf zr{}, zap{}, most{};
      for (int x = 0; x < w; x += VL) {
        const vf z = load(top.z.row(y) + x);
        zr += z * load(top.r.row(y) + x);
        zap += z * load(m.ap.row(y) + x);
        most = vmax(most, vmax(z, -z));
      }
      s[0] = hsum(zr);
      s[1] = info.iterations > 0 ? hsum(zap) : 0.0;
      s[2] = static_cast<double>(hmax(most));
    });
    double most = 0.0;
    for (int y = 0; y < h; ++y) most = std::max(most, m.sums[3 * static_cast<std::ptrdiff_t>(y) + 2]);
    team.sync();
    bool done = most <= kSafety * static_cast<double>(tol);
    info.estimate = static_cast<float>(most);
    if (symmetric) {
      double energy = 0.0;
      for (const double t : taken) energy += t;
      info.estimate = static_cast<float>(std::sqrt(energy));
      done = info.iterations >= quick + kWindow && std::sqrt(energy) <= kSure * static_cast<double>(tol);
    }
    const double rz = sums[0];
    const bool start = info.iterations == 0 || info.iterations == quick;
    const float beta = start ? 0.0f : static_cast<float>(symmetric ? rz / rz_old : -alpha * sums[1] / rz_old);
    done |= info.iterations == kMaxIterations || rz <= 0.0;
    for (int y = y0; y < y1; ++y)
      for (int x = 0; x < w; x += VL) {
        const vf p = load(top.z.row(y) + x) + (beta != 0.0f ? load(m.p.row(y) + x) * beta : vf{});
        store(m.p.row(y) + x, p);
      }
    team.sync();
    sum_rows(h, m.sums, team, sums, [&](int y, double* s) {
      vf pap{}, pr{};
      for (int x = 0; x < w; x += VL) {
        const vf p = load(m.p.row(y) + x), ap = apply<false>(top, m.p, y, x) * inside(x, w);
        store(m.ap.row(y) + x, ap);
        pap += p * ap;
        pr += p * load(top.r.row(y) + x);
      }
      s[0] = hsum(pap);
      s[1] = hsum(pr);
      s[2] = 0.0;
    });
    alpha = sums[0] > 0.0 ? sums[1] / sums[0] : 0.0;
    const float step = static_cast<float>(alpha);
    for (int y = y0; y < y1; ++y)
      for (int x = 0; x < w; x += VL) {
        store(u.row(y) + x, load(u.row(y) + x) + load(m.p.row(y) + x) * step);
        store(top.r.row(y) + x, load(top.r.row(y) + x) - load(m.ap.row(y) + x) * step);
      }
    team.sync();
    taken[info.iterations % kWindow] = alpha * sums[1];
    ++info.iterations;
    rz_old = rz;
    if (done) break;
  }
  return info;
}
