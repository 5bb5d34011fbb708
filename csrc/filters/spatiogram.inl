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
  BinTable* table; // of the picture; of a web with the strip, and before it
  Chunk* chunks;   // of a row, for each of the two
  Levels levels;   // of the other methods
  float* blended;  // a row of tables

  void lay_out(int h, int w, Arena& shared, Arena& own) {
    if (method == Method::spatiogram) {
      sums = shared.take<BinSums>(static_cast<std::size_t>(bands(h)));
      table = shared.take<BinTable>(2);
      chunks = own.take<Chunk>(2 * kChunks);
    } else {
      levels.tiles = method == Method::clahe ? tiles : 1;
      set_tiles(levels, h, w);
      const auto row_of_tables = static_cast<std::size_t>(levels.tiles) * kTable;
      levels.table = shared.take<float>(static_cast<std::size_t>(levels.tiles + 1) * row_of_tables);
      blended = own.take<float>(row_of_tables);
    }
  }

  int reach(bool of_web) const { return of_web && method != Method::clahe ? 0 : kEveryRow; }

  void prepare(const Frame& frame) {
    const Team& team = frame.team;
    const Strip* const web = web_of(frame);
    const bool counts = !web || frame.round >= web->counting;
    const int from = web ? web->top : 0, to = web ? web->bottom : frame.h;
    double* const total = web ? web->sums[frame.round].value : nullptr;
    if (method == Method::clahe || (method == Method::global && !web))
      return make_level_tables(frame.state, frame.h, frame.w, clip_limit, method == Method::clahe, levels, team);
    if (method == Method::global) {
      if (team.rank() == 0)
        level_tables_of_web(frame.state, from, to, frame.w, counts, web->fade, total, levels.table);
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
      for (int b = 1; counts && b < bands(to - from); ++b) add(sums[b].sum[0][0], 1.0, sums[0].sum[0][0]);
      if (web) {
        BinSums of_web;
        table[1].used = 0;
        if (counts) {
          std::copy(total, total + count(), of_web.sum[0][0]);
          finish_bins(of_web, bins, true, table[1]);
          add(sums[0].sum[0][0], web->fade, total);
        }
        std::copy(total, total + count(), of_web.sum[0][0]);
        finish_bins(of_web, bins, true, table[0]);
      } else {
        finish_bins(sums[0], bins, false, table[0]);
      }
    }
    team.sync();
  }

  void row(const Frame& frame, const Row& r, float weight) {
    const float newer = share_of_strip(frame, r.y);
    if (method != Method::spatiogram) {
      if (web_of(frame))
        blend_web(levels, newer, blended);
      else
        blend_tiles(levels, r.y, blended);
      return levels_row(levels, frame.state.row(r.y), r.x0, r.x1, weight, blended, r.acc);
    }
    const bool blends = web_of(frame) && table[1].used > 0;
    const bool start = (r.y - r.top) % kChunkRows == 0;
    if (!blends || newer > 0.0f)
      spatiogram_row(table[0], frame.state, frame.end, r.y, start || (blends && r.y == frame.strip->top), r.x0, r.x1,
                     blends ? weight * newer : weight, chunks, r.acc);
    if (blends && newer < 1.0f)
      spatiogram_row(table[1], frame.state, frame.end, r.y, start, r.x0, r.x1, weight * (1.0f - newer),
                     chunks + kChunks, r.acc);
  }

 private:
  static int bands(int h) { return (h + kBand - 1) / kBand; }
  static const Strip* web_of(const Frame& frame) { return frame.strip && frame.strip->sums ? frame.strip : nullptr; }

  // Along a strip the statistics go from those before it to those with it: no seam shows.
  static float share_of_strip(const Frame& frame, int y) {
    if (!web_of(frame)) return 1.0f;
    const auto lines = static_cast<float>(frame.strip->bottom - frame.strip->top);
    return std::clamp(static_cast<float>(y + 1 - frame.strip->top) / lines, 0.0f, 1.0f);
  }

  int count() const { return (bins + 1) * 2 * kMoments; }
  // to = fade * to + from
  void add(const double* from, double fade, double* to) const {
    for (int i = 0; i < count(); ++i) to[i] = fade * to[i] + from[i];
  }
};
