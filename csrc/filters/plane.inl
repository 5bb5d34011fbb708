// Float planes in the workspace, and reflection.

constexpr int kMaxRadius = 7;  // window 15

constexpr int kHalo = 16;  // columns kept on both sides of a state plane: >= 2 * kMaxRadius, and a vector

constexpr int kStrip = 512;  // columns of a tile: its rows stay in the L1/L2 caches whatever the image's width

constexpr int kBand = 128;  // rows of a tile; also the unit of statistics, so that sums do not depend on threads

constexpr int round_up(int n, int to) { return (n + to - 1) / to * to; }

// A plane of h rows; row(y)[0 .. w) are the pixels. Rows start on a vector border; up to the next multiple of
// 16 columns may be read and written freely.
struct Plane {
  float* base = nullptr;
  std::ptrdiff_t stride = 0;
  float* row(int y) const { return base + y * stride; }
};

inline Plane take_plane(Arena& arena, int h, int w) {
  Plane p;
  p.stride = round_up(w, 16) + 2 * kHalo;
  float* base = arena.take<float>(static_cast<std::size_t>(p.stride) * static_cast<std::size_t>(h + 2) + kHalo);
  p.base = base ? base + p.stride + kHalo : nullptr;  // a row to spare above and below
  return p;
}

// Reflection that does not repeat the edge (BORDER_REFLECT_101), for any distance.
inline int reflect(int i, int n) {
  if (i >= 0 && i < n) return i;
  if (n == 1) return 0;
  const int period = 2 * (n - 1);
  i %= period;
  if (i < 0) i += period;
  return i < n ? i : period - i;
}

// Reflects the pixels of a row into its halo; what vectors may read after that gets some value of the row.
inline void fill_halo(float* row, int w) {
  if (w > kHalo) {
    for (int k = 1; k <= kHalo; ++k) row[-k] = row[k];
    for (int k = 0; k < kHalo; ++k) row[w + k] = row[w - 2 - k];
  } else {
    for (int k = 1; k <= kHalo; ++k) {
      row[-k] = row[reflect(-k, w)];
      row[w - 1 + k] = row[reflect(w - 1 + k, w)];
    }
  }
  std::fill(row + w + kHalo, row + round_up(w, 16) + kHalo, row[w - 1]);
}

// A texture with edges, for measuring.
inline void artificial_row(int y, int w, float* out) {
  for (int x = 0; x < w; ++x) {
    const std::uint32_t noise = (static_cast<std::uint32_t>(y * w + x) * 2654435761u) >> 24;
    out[x] = static_cast<float>((x / 90 + y / 70) % 3) * 0.25f + static_cast<float>(noise) * (0.25f / 256);
  }
}
