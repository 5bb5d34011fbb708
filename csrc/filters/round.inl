// One weighted round and T of them: the two global stages, then one walk over the image that computes the local
// filters from the same rows, adds every term and writes the mixed result once.

constexpr int kBand = 64;     // rows of a task; also the unit of statistics, so that sums do not depend on threads
constexpr int kRing = 16;     // rows kept of what a band derives: >= 2 * kMaxRadius + 1

// What one member of the team needs for itself.
struct Scratch {
  float *acc, *sum1, *sum2;   // one row each
  float *scaled, *a, *b;      // kRing rows each: the state times Taps::scale; the guided filter's coefficients
  float* wls;                 // rows or columns being solved
  Grid* grid;                 // of the spatiogram filter
  float* blended;             // of equalisation: a row of tables
  float* pairs;               // kMaxPairs rings of kPairRing rows
};

constexpr int kRowFloats = kStrip + 64 + 4 * kHalo + 16;  // whole blocks past the strip, halo and margin on both sides
constexpr int kRowStart = 2 * kHalo;
constexpr int kPairStride = kPairRing * kRowFloats + 3 * 16;  // odd lines: rings side by side share no cache set

struct Memory {
  Plane state, next, u, ax, ay;
  BinSums* sums = nullptr;      // per band
  BinTable* bins = nullptr;
  float* levels = nullptr;
  MultigridMemory multigrid;
  Scratch own;                  // this member's
};

struct Plan {
  const Job& job;
  int h, w;
  bool used[kFilters] = {};     // in any round
  Taps taps;
  bool pairs;                   // the bilateral filter keeps the weights of pairs
  Gaussian gauss;
  Levels levels;

  explicit Plan(const Job& j) : job(j), h(j.src.h), w(j.src.w) {
    const Params& p = *j.params;
    for (int t = 0; t < j.rounds; ++t)
      for (int f = 0; f < kFilters; ++f) used[f] |= j.weights[t * kFilters + f] > 0.0f;
    taps = make_taps(p);
    pairs = used[kBilateral] && p.bilateral_window / 2 <= kPairRadius;
    gauss = make_gaussian(p);
    if (p.spatiogram_method == Spatiogram::clahe) levels.tiles = p.spatiogram_tiles;
    set_tiles(levels, h, w);
  }
  int bands() const { return (h + kBand - 1) / kBand; }
};

inline Plane take_plane(Arena& arena, int h, int w) {
  Plane p;
  p.stride = round_up(w, 16) + 2 * kHalo + kOverrun;
  float* base = arena.take<float>(static_cast<std::size_t>(p.stride) * static_cast<std::size_t>(h + 2) + kHalo);
  p.base = base ? base + p.stride + kHalo : nullptr;  // a row to spare above and below
  return p;
}

inline void lay_out(const Plan& plan, int team, int rank, Arena& arena, Memory& m) {
  const Params& p = *plan.job.params;
  const int h = plan.h, w = plan.w;
  m.state = take_plane(arena, plan.used[kWls] ? round_up(h, 2 * VL) : h, w);  // changes places with ax
  if (plan.used[kWls]) {
    m.u = take_plane(arena, h, w);
    m.ax = take_plane(arena, round_up(h, 2 * VL), w);  // solve_rows reads whole tiles
    m.ay = take_plane(arena, h, w);
    m.next = m.ax;  // the weights are spent when the mixed result is written
    if (p.wls_solver == WlsSolver::exact) m.multigrid.lay_out(h, w, arena);
  } else if (plan.job.rounds > 1) {
    m.next = take_plane(arena, h, w);
  }
  if (plan.used[kSpatiogram]) {
    if (p.spatiogram_method == Spatiogram::spatiogram) {
      m.sums = arena.take<BinSums>(static_cast<std::size_t>(plan.bands()));
      m.bins = arena.take<BinTable>(1);
    } else {
      m.levels = arena.take<float>(static_cast<std::size_t>(plan.levels.tiles) *
                                   static_cast<std::size_t>(plan.levels.tiles) * kTable);
    }
  }
  for (int k = 0; k < team; ++k) {
    Scratch s;
    s.acc = arena.take<float>(kRowFloats);
    s.sum1 = arena.take<float>(kRowFloats);
    s.sum2 = arena.take<float>(kRowFloats);
    s.scaled = arena.take<float>(kRowFloats * kRing);
    s.a = arena.take<float>(kRowFloats * kRing);
    s.b = arena.take<float>(kRowFloats * kRing);
    s.wls = plan.used[kWls] ? arena.take<float>(std::max(wls_fast_scratch(h, w), multigrid_scratch(h, w))) : nullptr;
    s.pairs = plan.pairs ? arena.take<float>(kMaxPairs * kPairStride) : nullptr;
    const bool grid = plan.used[kSpatiogram] && p.spatiogram_method == Spatiogram::spatiogram;
    const bool tables = plan.used[kSpatiogram] && !grid;
    s.grid = grid ? arena.take<Grid>(1) : nullptr;
    s.blended = tables ? arena.take<float>(static_cast<std::size_t>(plan.levels.tiles) * kTable) : nullptr;
    if (k == rank) m.own = s;
  }
}

// The walk over rows [y0, y1) and columns [x0, x1).
inline void mix_tile(const Plan& plan, const Memory& m, const float* weight, const Plane& out, bool last,
                     int y0, int y1, int x0, int x1, const Scratch& s) {
  const Params& p = *plan.job.params;
  const int h = plan.h, w = plan.w;
  const int rb = p.bilateral_window / 2;
  const int rg = p.guided_window / 2;
  // Scratch rows are indexed by image column.
  const std::ptrdiff_t shift = kRowStart - x0;
  float* const acc = s.acc + shift;
  float* const sum1 = s.sum1 + shift;
  float* const sum2 = s.sum2 + shift;
  const auto ring = [&](float* base, int y) { return base + (y & (kRing - 1)) * kRowFloats + shift; };
  const auto state_rows = [&](int y, int radius, const float* (&rows)[2 * kMaxRadius + 1]) {
    for (int k = -radius; k <= radius; ++k) rows[kMaxRadius + k] = m.state.row(reflect(y + k, h));
  };
  const int x_end = std::min(round_up(x1, 16), round_up(w, 16));
  const float* rows[2 * kMaxRadius + 1];
  Pairs pairs;

  // Rows of the rings are made just before they are first needed, going down.
  int scaled_next = std::max(0, y0 - rb), coefficients_next = std::max(0, y0 - rg);
  for (int y = y0; y < y1; ++y) {
    const float* centre = m.state.row(y);
    for (int x = x0; x < x_end; x += VL) store(acc + x, load(centre + x) * weight[kIdentity]);

    if (weight[kWls] > 0.0f) {
      const float* u = m.u.row(y);
      for (int x = x0; x < x_end; x += VL) store(acc + x, load(acc + x) + load(u + x) * weight[kWls]);
    }
    if (weight[kBilateral] > 0.0f) {
      for (; scaled_next <= std::min(y + rb, h - 1); ++scaled_next) {
        const float* in = m.state.row(scaled_next);
        float* to = ring(s.scaled, scaled_next);
        for (int x = x0 - kHalo; x < x_end + kHalo; x += VL) store(to + x, load(in + x) * plan.taps.scale);
      }
      const auto prepare = [&](int at) {
        for (int k = -rb; k <= rb; ++k) rows[kMaxRadius + k] = ring(s.scaled, reflect(at + k, h));
        if (!plan.pairs) return;
        for (int i = 0; i < plan.taps.down; ++i) {
          float* own = s.pairs + i * kPairStride + shift;
          pairs.now[i] = own + (at & (kPairRing - 1)) * kRowFloats;
          pairs.before[i] = own + ((at - plan.taps.dy[plan.taps.level + i]) & (kPairRing - 1)) * kRowFloats;
        }
      };
      const auto with_depth = [&](auto&& f) {
        if (plan.taps.deep)
          f(std::true_type{});
        else
          f(std::false_type{});
      };
      if (y == y0 && plan.pairs) {
        // What the rows above the band would have left.
        for (int above = y0 - rb; above < y0; ++above) {
          prepare(above);
          with_depth([&](auto deep) {
            for (int x = x0 - round_up(kPairRadius, VL); x < x_end + kPairRadius; x += VL)
              pair_weights<deep>(plan.taps, rows, pairs, x, y0 - above, 0);
          });
        }
      }
      prepare(y);
      with_depth([&](auto deep) {
        bilateral_row<deep>(plan.taps, rows, plan.pairs ? &pairs : nullptr, x0, x_end, weight[kBilateral], acc);
      });
    }
    if (weight[kSharpen] > 0.0f) {
      with_radius(plan.gauss.radius, [&](auto r) {
        state_rows(y, r, rows);
        sharpen_row<r>(plan.gauss, p, rows, x0, x_end, weight[kSharpen], sum1, acc);
      });
    }
    if (weight[kGuided] > 0.0f) {
      with_radius(rg, [&](auto r) {
        for (; coefficients_next <= std::min(y + rg, h - 1); ++coefficients_next) {
          state_rows(coefficients_next, r, rows);
          guided_coefficients<r>(rows, x0, x_end, p.guided_eps, sum1, sum2, ring(s.a, coefficients_next),
                                 ring(s.b, coefficients_next));
        }
        const float *a[2 * r + 1], *b[2 * r + 1];
        for (int k = -r; k <= r; ++k) {
          a[k + r] = ring(s.a, reflect(y + k, h));
          b[k + r] = ring(s.b, reflect(y + k, h));
        }
        guided_row<r>(a, b, centre, x0, x_end, weight[kGuided], sum1, sum2, acc);
      });
    }
    if (weight[kSpatiogram] > 0.0f) {
      if (p.spatiogram_method == Spatiogram::spatiogram)
        spatiogram_row(*m.bins, centre, y, y0, x0, x_end, weight[kSpatiogram], *s.grid, acc);
      else
        levels_row(plan.levels, centre, y, x0, x_end, weight[kSpatiogram], s.blended, acc);
    }

    if (last) {
      for (int x = x0; x < x_end; x += VL) store(acc + x, clamp01(load(acc + x)));
      store_row(plan.job.src, plan.job.dst, y, x0, x1, acc);
    } else {
      float* to = out.row(y);
      for (int x = x0; x < x_end; x += VL) store(to + x, clamp01(load(acc + x)));
    }
  }
}

inline void smooth_wls(const Plan& plan, Memory& m, const Scratch& s, const Team& team, WlsInfo* info) {
  const Params& p = *plan.job.params;
  const int h = plan.h, w = plan.w;
  const bool lab = p.wls_domain == WlsDomain::lightness;
  const auto [y0, y1] = team.share(h, kBand);
  for (int y = y0; y < y1; ++y) {
    const float* in = m.state.row(y);
    float* to = m.u.row(y);
    for (int x = 0; x < round_up(w, 16); x += VL) store(to + x, lab ? lightness(load(in + x)) : load(in + x));
  }
  team.sync();
  const float offset = lab ? kWlsSmall / 100.0f : kWlsSmall;
  wls_weights(m.u, h, w, offset, p.wls_alpha, m.ax, m.ay, y0, y1, s.wls);
  team.sync();
  if (p.wls_solver == WlsSolver::fast) {
    wls_fast(m.u, m.ax, m.ay, p.wls_lambda, h, w, s.wls, team);
  } else {
    const WlsInfo done = wls_exact(m.u, m.ax, m.ay, p.wls_lambda, p.wls_tol, h, w, m.multigrid, s.wls, team);
    if (info && team.rank() == 0) *info = done;
  }
  if (lab) {
    for (int y = y0; y < y1; ++y) {
      float* u = m.u.row(y);
      for (int x = 0; x < round_up(w, 16); x += VL) store(u + x, from_lightness(vmax(load(u + x), vf{})));
    }
    team.sync();
  }
}

inline void prepare_spatiogram(const Plan& plan, Memory& m, const Team& team) {
  const Params& p = *plan.job.params;
  if (p.spatiogram_method != Spatiogram::spatiogram) {
    make_level_tables(m.state, plan.h, plan.w, p.spatiogram_clip_limit, p.spatiogram_method == Spatiogram::clahe,
                      plan.levels, team);
    return;
  }
  const auto [b0, b1] = team.share(plan.bands());
  for (int b = b0; b < b1; ++b) {
    m.sums[b] = BinSums{};
    gather_bins(m.state, plan.w, p.spatiogram_bins, b * kBand, std::min(plan.h, (b + 1) * kBand), m.sums[b]);
  }
  team.sync();
  if (team.rank() == 0) {
    for (int b = 1; b < plan.bands(); ++b)
      for (int i = 0; i <= p.spatiogram_bins; ++i)
        for (int k = 0; k < 2; ++k)
          for (int j = 0; j < kMoments; ++j) m.sums[0].sum[i][k][j] += m.sums[b].sum[i][k][j];
    finish_bins(m.sums[0], p.spatiogram_bins, *m.bins);
  }
  team.sync();
}

inline std::size_t workspace(const Job& job, int team) {
  const Plan plan(job);
  Arena arena;
  Memory memory;
  lay_out(plan, team, 0, arena, memory);
  return arena.used();
}

inline void process(const Job& job, void* base, const Team& team, WlsInfo* info) {
  Plan plan(job);
  Arena arena(base);
  Memory m;
  lay_out(plan, team.size(), team.rank(), arena, m);
  plan.levels.table = m.levels;
  const Scratch& s = m.own;
  const int h = plan.h, w = plan.w;
  const int strips = (w + kStrip - 1) / kStrip;
  const FlushDenormals flush;

  const auto [y0, y1] = team.share(h, kBand);
  for (int y = y0; y < y1; ++y) {
    load_row(job.src, y, m.state.row(y));
    fill_halo(m.state.row(y), w);
  }
  team.sync();
  for (int t = 0; t < job.rounds; ++t) {
    const float* weight = job.weights + t * kFilters;
    const bool last = t + 1 == job.rounds;
    if (weight[kSpatiogram] > 0.0f) prepare_spatiogram(plan, m, team);
    if (weight[kWls] > 0.0f) smooth_wls(plan, m, s, team, info);
    const auto [b0, b1] = team.share(plan.bands() * strips);
    for (int b = b0; b < b1; ++b) {
      const int top = b / strips * kBand, left = b % strips * kStrip;
      mix_tile(plan, m, weight, m.next, last, top, std::min(h, top + kBand), left, std::min(w, left + kStrip), s);
    }
    team.sync();
    if (last) break;
    for (int y = y0; y < y1; ++y) fill_halo(m.next.row(y), w);
    team.sync();
    std::swap(m.state, m.next);
    m.ax = m.next;  // where the weights of the next round go
  }
}
