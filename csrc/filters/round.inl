// One weighted round and T of them: what needs the whole image first, then one walk over it in which every filter adds
// its term to the same row, and the mixed result is written once.

struct Round {
  const Job& job;
  const int h = job.src.h, w = job.src.w;
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
    if (job.dst.data) store_row(job.src, job.dst, y, x0, x1, in);
  }

  bool goes_on(int t, const Team& team) const {
    if (!job.pace) return true;
    if (team.rank() == 0) job.pace->goes_on = job.pace->fits(*job.pace, t);
    team.sync();
    return job.pace->goes_on;
  }

  void run(const Team& team, WlsInfo* info) {
    const int strips = (w + kStrip - 1) / kStrip, bands = (h + kBand - 1) / kBand;
    const auto [y0, y1] = team.share(h, kBand);
    for (int y = y0; y < y1; ++y) {
      if (job.src.data)
        load_row(job.src, y, state.row(y));
      else
        artificial_row(y, w, state.row(y));
      fill_halo(state.row(y), w);
    }
    team.sync();
    for (int t = 0; t < job.rounds; ++t) {
      if (!goes_on(t, team)) {
        for (int y = y0; y < y1; ++y) write_row(y, 0, w, state.row(y));
        return team.sync();
      }
      const float* weight = job.weights + t * kFilters;
      const bool last = t + 1 == job.rounds;
      const Frame frame{h, w, state, spare, team, info};
      each([&](auto& filter, int k) {
        if (weight[k] > 0.0f) filter.prepare(frame);
      });
      const auto [b0, b1] = team.share(bands * strips);
      for (int b = b0; b < b1; ++b) {
        const int top = b / strips * kBand, left = b % strips * kStrip;
        mix_tile(frame, weight, last, top, std::min(h, top + kBand), left, std::min(w, left + kStrip));
      }
      team.sync();
      if (last) break;
      for (int y = y0; y < y1; ++y) fill_halo(spare.row(y), w);
      team.sync();
      std::swap(state, spare);
    }
  }
};

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
