// Float planes in the workspace, conversion from and to the caller's pixels, and reflection.

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

constexpr float kRed = 0.299f, kGreen = 0.587f, kBlue = 0.114f;  // ITU-R BT.601

template <class T>
inline void load_row_as(const View& v, int y, float* out) {
  const unsigned char* p = v.data + y * v.sh;
  const float scale = 1.0f / v.white;
  const auto at = [&](std::ptrdiff_t offset) {
    return static_cast<float>(*reinterpret_cast<const T*>(p + offset));
  };
  if (v.c == 3) {
    const float r = kRed * scale, g = kGreen * scale, b = kBlue * scale;
    for (int x = 0; x < v.w; ++x)
      out[x] = r * at(x * v.sw) + g * at(x * v.sw + v.sc) + b * at(x * v.sw + 2 * v.sc);
  } else if (v.sw == static_cast<std::ptrdiff_t>(sizeof(T))) {
    const T* q = reinterpret_cast<const T*>(p);
    for (int x = 0; x < v.w; ++x) out[x] = static_cast<float>(q[x]) * scale;
  } else {
    for (int x = 0; x < v.w; ++x) out[x] = at(x * v.sw) * scale;
  }
}

// A texture with edges, for measuring.
inline void artificial_row(int y, int w, float* out) {
  for (int x = 0; x < w; ++x) {
    const std::uint32_t noise = (static_cast<std::uint32_t>(y * w + x) * 2654435761u) >> 24;
    out[x] = static_cast<float>((x / 90 + y / 70) % 3) * 0.25f + static_cast<float>(noise) * (0.25f / 256);
  }
}

// Row y of the caller's image as intensities in [0, 1] (luma, for colour).
inline void load_row(const View& v, int y, float* out) {
  switch (v.dtype) {
    case DType::u8: return load_row_as<std::uint8_t>(v, y, out);
    case DType::u16: return load_row_as<std::uint16_t>(v, y, out);
    case DType::f32: return load_row_as<float>(v, y, out);
    default: return;
  }
}

template <class T>
inline T quantise(float v, float white) {
  if constexpr (std::is_same_v<T, float>)
    return v;
  else
    return static_cast<T>(static_cast<std::int32_t>(v * white + 0.5f));
}

template <class T>
inline void store_row_as(const View& src, const View& dst, int y, int x0, int x1, const float* in) {
  unsigned char* p = dst.data + y * dst.sh;
  if (dst.c == 3) {
    const unsigned char* s = src.data + y * src.sh;
    const float scale = 1.0f / src.white;
    for (int x = x0; x < x1; ++x) {
      float rgb[3];
      for (int c = 0; c < 3; ++c)
        rgb[c] = static_cast<float>(*reinterpret_cast<const T*>(s + x * src.sw + c * src.sc)) * scale;
      const float change = in[x] - (kRed * rgb[0] + kGreen * rgb[1] + kBlue * rgb[2]);
      for (int c = 0; c < 3; ++c) {
        const float v = std::min(std::max(rgb[c] + change, 0.0f), 1.0f);
        *reinterpret_cast<T*>(p + x * dst.sw + c * dst.sc) = quantise<T>(v, dst.white);
      }
    }
  } else if (dst.sw == static_cast<std::ptrdiff_t>(sizeof(T))) {
    T* q = reinterpret_cast<T*>(p);
    for (int x = x0; x < x1; ++x) q[x] = quantise<T>(in[x], dst.white);
  } else {
    for (int x = x0; x < x1; ++x)
      *reinterpret_cast<T*>(p + x * dst.sw) = quantise<T>(in[x], dst.white);
  }
}

// Writes intensities in[x0 .. x1) of row y in the caller's type. Colour: the change of luma is added to the
// source's three channels, so that chroma is carried over.
inline void store_row(const View& src, const View& dst, int y, int x0, int x1, const float* in) {
  switch (dst.dtype) {
    case DType::u8: return store_row_as<std::uint8_t>(src, dst, y, x0, x1, in);
    case DType::u16: return store_row_as<std::uint16_t>(src, dst, y, x0, x1, in);
    case DType::f32: return store_row_as<float>(src, dst, y, x0, x1, in);
    default: return;
  }
}
