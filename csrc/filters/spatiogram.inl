// Equalisation by statistics of the whole picture: spatially weighted, by tiles, or global.

struct Spatiogram : Filter {
  static constexpr const char* kName = "spatiogram";
  enum class Method { spatiogram, clahe, global };
  Method method;
  int bins;
  float clip_limit;
  int tiles;
  constexpr void declare(auto&& visit) {
    visit(method, "method", one_of("spatiogram", "clahe", "global"));
    visit(bins, "bins", within(2, kMaxBins, 32));
    visit(clip_limit, "clip_limit", above(0.0, 100.0, 1.0));
    visit(tiles, "tiles", within(1, 64, 5));
  }
  BinSums* sums;   // of each band
  BinTable* table;
  Chunk* chunks;   // of a row
  Levels levels;   // of the other methods
  float* blended;  // a row of tables

  void lay_out(int h, int w, Arena& shared, Arena& own) {
    if (method == Method::spatiogram) {
      sums = shared.take<BinSums>(static_cast<std::size_t>(bands(h)));
      table = shared.take<BinTable>(1);
      chunks = own.take<Chunk>(kChunks);
    } else {
      levels.tiles = method == Method::clahe ? tiles : 1;
      set_tiles(levels, h, w);
      const auto row_of_tables = static_cast<std::size_t>(levels.tiles) * kTable;
      levels.table = shared.take<float>(static_cast<std::size_t>(levels.tiles) * row_of_tables);
      blended = own.take<float>(row_of_tables);
    }
  }

  int reach(bool of_web) const { return of_web && method != Method::clahe ? 0 : kEveryRow; }

  void prepare(const Frame& frame) {
    const Team& team = frame.team;
    const Strip* const web = frame.strip && frame.strip->sums ? frame.strip : nullptr;
    const bool counts = !web || frame.round >= web->counting;
    const int from = web ? web->top : 0, to = web ? web->bottom : frame.h;
    double* const total = web ? web->sums[frame.round].value : nullptr;
    if (method == Method::clahe || (method == Method::global && !web))
      return make_level_tables(frame.state, frame.h, frame.w, clip_limit, method == Method::clahe, levels, team);
    if (method == Method::global) {
      if (team.rank() == 0)
        level_table_of_web(frame.state, from, to, frame.w, counts, web->fade, total, levels.table);
      return team.sync();
    }
    if (counts) {
      const auto [b0, b1] = team.share(bands(to - from));
      for (int b = b0; b < b1; ++b) {
        sums[b] = BinSums{};
        gather_bins(frame.state, frame.w, bins, from + b * kBand, std::min(to, from + (b + 1) * kBand), sums[b]);
      }
      team.sync();
    }
    if (team.rank() == 0) {
      double* const first = &sums[0].sum[0][0][0];
      for (int b = 1; counts && b < bands(to - from); ++b) add_sums(&sums[b].sum[0][0][0], 1.0, first);
      if (web && counts) add_sums(first, web->fade, total);
      if (web) std::copy(total, total + count(), first);
      finish_bins(sums[0], bins, web != nullptr, *table);
    }
    team.sync();
  }

  void row(const Frame& frame, const Row& r, float weight) {
    if (method == Method::spatiogram)
      spatiogram_row(*table, frame.state, frame.end, r.y, r.top, r.x0, r.x1, weight, chunks, r.acc);
    else
      levels_row(levels, frame.state.row(r.y), r.y, r.x0, r.x1, weight, blended, r.acc);
  }

 private:
  static int bands(int h) { return (h + kBand - 1) / kBand; }
  int count() const { return (bins + 1) * 2 * kMoments; }
  // to = fade * to + from
  void add_sums(const double* from, double fade, double* to) const {
    for (int i = 0; i < count(); ++i) to[i] = fade * to[i] + from[i];
  }
};
