// One weighted round and T of them: what needs the whole image first, then one walk over it in which every filter adds
// its term to the same row, and the mixed result is written once.

struct Round {
  const Job& job;
  const int h = job.src.h, w = job.src.w;
  const View dst = whole_dst();
  Filters filters;
  bool used[kFilters] = {};  // in any round
  Plane state, spare;
  float* acc = nullptr;      // one row

  explicit Round(const Job& j) : job(j) {
    const double* value = job.params;
    each([&](auto& filter, int k) {
      filter.declare(Fill{value});
      for (int t = 0; t < job.rounds; ++t) used[k] |= job.weights[t * kFilters + k] > 0.0f;
    });
  }

  // Calls f(filter, its number) for all of them in order.
  template <class F>
  void each(F&& f) {
    std::apply([&](auto&... filter) {
      int k = 0;
      (f(filter, k++), ...);
    }, filters);
  }

  // As if there were rows above the strip's, too.
  View whole_dst() const {
    View view = job.dst;
    if (view.data && job.strip) view.data -= job.strip->top * view.sh;
    return view;
  }

  struct Rows {
    int from, to;
    std::pair<int, int> share(const Team& team) const {
      const auto [a, b] = team.share(to - from, kBand);
      return {from + a, from + b};
    }
  };

  // Rows of the state before round t that its and later rounds need to give the rows that are wanted.
  Rows needed(int t) {
    Rows rows = job.strip ? Rows{job.strip->top, job.strip->bottom} : Rows{0, h};
    for (int later = job.rounds - 1; later >= t; --later) {
      int reach = 0;
      each([&](auto& filter, int k) {
        if (job.weights[later * kFilters + k] > 0.0f)
          reach = std::max(reach, filter.reach(job.strip && job.strip->sums));
      });
      rows = {std::max(rows.from - reach, 0), reach < h - rows.to ? rows.to + reach : h};
    }
    return rows;
  }

  void lay_out(Arena& shared, Arena& own) {
    bool needs_spare = job.rounds > 1;
    each([&](auto& filter, int k) { needs_spare |= filter.kSpare && used[k]; });
    const int rows = round_up(h, 2 * VL);  // fast WLS reads whole tiles of the spare plane; the two change places
    state = take_plane(shared, rows, w);
    if (needs_spare) spare = take_plane(shared, rows, w);
    acc = own.take<float>(kRowFloats);
    each([&](auto& filter, int k) {
      if (used[k]) filter.lay_out(h, w, shared, own);
    });
  }

  // A function for each: in one, they would pass the size up to which compilers inline what is inside.
  template <class F>
  [[gnu::noinline]] static void add_row(F& filter, const Frame& frame, const Row& row, float weight) {
    filter.row(frame, row, weight);
  }

  // The walk over rows [y0, y1) and columns [x0, x1).
  [[gnu::noinline]] void mix_tile(const Frame& frame, const float* weight, bool last, int y0, int y1, int x0, int x1) {
    Row row{y0, y0, x0, std::min(round_up(x1, 16), round_up(w, 16)), nullptr};
    row.acc = row.own(acc);
    for (; row.y < y1; ++row.y) {
      each([&](auto& filter, int k) {
        if (k == 0 || weight[k] > 0.0f) add_row(filter, frame, row, weight[k]);
      });
      float* const to = last ? row.acc : spare.row(row.y);
      for (int x = x0; x < row.x1; x += VL) store(to + x, clamp01(load(row.acc + x)));
      if (last) write_row(row.y, x0, x1, to);
    }
  }

  void write_row(int y, int x0, int x1, const float* in) const {
    if (dst.data) store_row(job.src, dst, y, x0, x1, in);
  }

  bool goes_on(int t, const Team& team) const {
    if (!job.pace) return true;
    if (team.rank() == 0) job.pace->goes_on = job.pace->fits(*job.pace, t);
    team.sync();
    return job.pace->goes_on;
  }

  void run(const Team& team, WlsInfo* info) {
    const int strips = (w + kStrip - 1) / kStrip;
    const auto [first, end] = needed(0).share(team);
    for (int y = first; y < end; ++y) {
      if (job.src.data)
        load_row(job.src, y, state.row(y));
      else
        artificial_row(y, w, state.row(y));
      fill_halo(state.row(y), w);
    }
    team.sync();
    for (int t = 0; t < job.rounds; ++t) {
      if (!goes_on(t, team)) {
        const auto [y0, y1] = needed(job.rounds).share(team);
        for (int y = y0; y < y1; ++y) write_row(y, 0, w, state.row(y));
        return team.sync();
      }
      const float* weight = job.weights + t * kFilters;
      const bool last = t + 1 == job.rounds;
      const Rows rows = needed(t + 1);
      const Frame frame{h, w, state, spare, team, info, rows.to, job.strip, t};
      each([&](auto& filter, int k) {
        if (weight[k] > 0.0f) filter.prepare(frame);
      });
      const auto [b0, b1] = team.share((rows.to - rows.from + kBand - 1) / kBand * strips);
      for (int b = b0; b < b1; ++b) {
        const int top = rows.from + b / strips * kBand, left = b % strips * kStrip;
        mix_tile(frame, weight, last, top, std::min(rows.to, top + kBand), left, std::min(w, left + kStrip));
      }
      team.sync();
      if (last) break;
      const auto [y0, y1] = rows.share(team);
      for (int y = y0; y < y1; ++y) fill_halo(spare.row(y), w);
      team.sync();
      std::swap(state, spare);
    }
  }
};

inline int reach(const double* params, int filter, bool of_web) {
  Filters filters;
  int rows = 0;
  std::apply([&](auto&... each) {
    int k = 0;
    ((each.declare(Fill{params}), rows = k++ == filter ? each.reach(of_web) : rows), ...);
  }, filters);
  return rows;
}

inline std::size_t workspace(const Job& job, int team) {
  Arena shared, own;
  Round(job).lay_out(shared, own);
  return shared.used() + static_cast<std::size_t>(team) * own.used();
}

inline void process(const Job& job, void* base, const Team& team, WlsInfo* info) {
  const FlushDenormals flush;
  Round round(job);
  Arena shared, own;
  round.lay_out(shared, own);  // measures
  Arena ours(base), mine(static_cast<char*>(base) + shared.used() + static_cast<std::size_t>(team.rank()) * own.used());
  round.lay_out(ours, mine);
  round.run(team, info);
}
