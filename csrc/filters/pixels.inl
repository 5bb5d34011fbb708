// Conversion from and to the caller's pixels. Nothing beside a line is read, and nothing beside a tile's is written.

constexpr float kRed = 0.299f, kGreen = 0.587f, kBlue = 0.114f;  // ITU-R BT.601

using Quad = std::array<int, 4>;  // a number for each of four pixels

// Where a packed format of GenICam's PFNC has the bits of four pixels. Two bytes make a word: some bits of the lower
// and some of the upper byte are the pixel's, each part times a power of two.
struct Packing {
  int bytes;          // of four pixels
  Quad lower, upper;  // which bytes of them
  Quad low, high;     // which bits of the word
  Quad low_times, high_times;
};
constexpr Quad kUpperByte = {0xff00, 0xff00, 0xff00, 0xff00};
constexpr Packing kMono10p = {.bytes = 5,
                              .lower = {0, 1, 2, 3},
                              .upper = {1, 2, 3, 4},
                              .low = {0xff, 0xfc, 0xf0, 0xc0},
                              .high = {0x300, 0xf00, 0x3f00, 0xff00},
                              .low_times = {1, 4, 16, 64},
                              .high_times = {1, 4, 16, 64}};
constexpr Packing kMono12p = {.bytes = 6,
                              .lower = {0, 1, 3, 4},
                              .upper = {1, 2, 4, 5},
                              .low = {0xff, 0xf0, 0xff, 0xf0},
                              .high = {0xf00, 0xff00, 0xf00, 0xff00},
                              .low_times = {1, 16, 1, 16},
                              .high_times = {1, 16, 1, 16}};
constexpr Packing kMono10Packed = {.bytes = 6,  // the low bits of two pixels in the middle one of three bytes
                                   .lower = {1, 1, 4, 4},
                                   .upper = {0, 2, 3, 5},
                                   .low = {0x03, 0x30, 0x03, 0x30},
                                   .high = kUpperByte,
                                   .low_times = {1, 16, 1, 16},
                                   .high_times = {64, 64, 64, 64}};
constexpr Packing kMono12Packed = {.bytes = 6,
                                   .lower = {1, 1, 4, 4},
                                   .upper = {0, 2, 3, 5},
                                   .low = {0x0f, 0xf0, 0x0f, 0xf0},
                                   .high = kUpperByte,
                                   .low_times = {1, 16, 1, 16},
                                   .high_times = {16, 16, 16, 16}};

typedef unsigned char Chars __attribute__((vector_size(VL * 4)));
typedef std::uint64_t Longs __attribute__((vector_size(VL * 4)));
typedef std::int32_t HalfInts __attribute__((vector_size(VL * 2)));

template <class Index, std::size_t... I>
inline Chars shuffle_chars(Chars v, Index index, std::index_sequence<I...>) {
  return __builtin_shufflevector(v, v, index(static_cast<int>(I))...);
}
template <class Index, std::size_t... I>
inline vi shuffle_half(HalfInts v, Index index, std::index_sequence<I...>) {
  return __builtin_shufflevector(v, v, index(static_cast<int>(I))...);
}

// A line of a packed format, a vector at a time. Four pixels are in each part of 16 bytes, inside of which processors
// shuffle bytes best; whole vectors that do not fit the line any more go through a copy.
template <const Packing& F>
struct Packed {
  static constexpr bool kJoined = F.low_times == F.high_times;  // a pixel's bits lie together
  static constexpr int kStep = VL / 4 * F.bytes;                // bytes of a vector's pixels
  static constexpr int kRead = 2 * VL;                          // bytes that unpacking them reads
  static constexpr int kWritten = kStep - F.bytes + 8;          // and packing them writes

  static constexpr std::ptrdiff_t bytes(std::ptrdiff_t pixels) { return (pixels * F.bytes + 3) / 4; }

  static vi repeated(const Quad& of) {
    vi v;
    for (int k = 0; k < VL; ++k) v[k] = of[static_cast<std::size_t>(k % 4)];
    return v;
  }

  // Where the words of a part begin in what was read, as a whole number of its four bytes.
  static constexpr int begin(int part) { return VL == 16 ? part * F.bytes / 4 : 0; }

  static vf unpack(const unsigned char* p, float scale) {
    HalfInts read;
    std::memcpy(&read, p, sizeof read);
    const vi spread = shuffle_half(
        read, [](int k) { return (begin(k / 4) + k % 4) % (VL / 2); }, std::make_index_sequence<VL>{});
    const vi words = reinterpret_cast<vi>(shuffle_chars(
        reinterpret_cast<Chars>(spread),
        [](int k) {
          const int part = k / 16;
          const Quad& half = k % 2 ? F.upper : F.lower;
          return 16 * part + part * F.bytes - 4 * begin(part) + half[static_cast<std::size_t>(k / 4 % 4)];
        },
        std::make_index_sequence<VL * 4>{}));
    // Dividing by powers of two is exact, and takes the multiplication that the scale takes anyway.
    const auto part = [&](vi bits, const Quad& times, float by) {
      return to_float(words & bits) * (by / to_float(repeated(times)));
    };
    if constexpr (kJoined) return part(repeated(F.low) | repeated(F.high), F.low_times, scale);
    return (part(repeated(F.low), F.low_times, 1.0f) + part(repeated(F.high), F.high_times, 1.0f)) * scale;
  }

  [[gnu::noinline]] static void load_line(const unsigned char* p, int w, float scale, float* out) {
    const unsigned char* const end = p + bytes(w);
    int x = 0;
    for (; end - p >= kRead; x += VL, p += kStep) store(out + x, unpack(p, scale));
    unsigned char rest[kStep + kRead] = {};
    std::memcpy(rest, p, static_cast<std::size_t>(end - p));
    for (p = rest; x < w; x += VL, p += kStep) store(out + x, unpack(p, scale));
  }

  // The nth byte of the words of four pixels that has bits of that packed byte. Byte 2, which is zero, where there is
  // none.
  static constexpr int source(int packed, int nth) {
    for (std::size_t k = 0; k < 4; ++k)
      for (int half = 0; half < 2; ++half)
        if (packed == (half ? F.upper : F.lower)[k] && nth-- == 0) return 4 * static_cast<int>(k) + half;
    return 2;
  }

  template <int Nth>
  static Chars sources(vi words) {
    return shuffle_chars(
        reinterpret_cast<Chars>(words), [](int k) { return k / 16 * 16 + source(k % 16, Nth); },
        std::make_index_sequence<VL * 4>{});
  }

  // The values of VL pixels; zeros after them.
  static void pack(vi v, unsigned char* p) {
    vi words;
    if constexpr (kJoined)
      words = v * repeated(F.low_times) & (repeated(F.low) | repeated(F.high));
    else
      words = (v * repeated(F.low_times) & repeated(F.low)) | (v * repeated(F.high_times) & repeated(F.high));
    const auto packed = reinterpret_cast<Longs>(sources<0>(words) | sources<1>(words));
    for (int part = 0; part < VL / 4; ++part) {
      const std::uint64_t four = packed[2 * part];
      std::memcpy(p + part * F.bytes, &four, sizeof four);  // the next begins before this one ends
    }
  }

  // Columns [x0, x1) of the line at p; x0 begins a byte.
  [[gnu::noinline]] static void store_line(unsigned char* p, int x0, int x1, float white, const float* in) {
    const auto values = [&](int x) { return to_int(load(in + x) * white + 0.5f); };
    unsigned char* const end = p + bytes(x1);
    int x = x0;
    for (p += bytes(x0); end - p >= kWritten; x += VL, p += kStep) pack(values(x), p);
    unsigned char rest[kStep + kWritten] = {};
    for (unsigned char* q = rest; x < x1; x += VL, q += kStep)
      pack(values(x) & (lanes() < static_cast<float>(x1 - x)), q);
    std::memcpy(p, rest, static_cast<std::size_t>(end - p));
  }
};

// The greatest value that a pixel can have.
inline float largest(DType dtype) {
  switch (dtype) {
    case DType::u8: return 255.0f;
    case DType::u16: return 65535.0f;
    case DType::mono10p:
    case DType::mono10packed: return 1023.0f;
    case DType::mono12p:
    case DType::mono12packed: return 4095.0f;
    case DType::f32: break;
  }
  return std::numeric_limits<float>::infinity();
}

// Whether pixels may lie outside [0, 1], from where they are brought back.
inline bool clips(const View& v) { return v.white < largest(v.dtype); }

// Pixel x of the line at p as an intensity in [0, 1], NaN as 0.
template <class T>
inline float intensity(const unsigned char* p, float scale, bool clip) {
  const float v = static_cast<float>(*reinterpret_cast<const T*>(p)) * scale;
  return clip ? std::min(v > 0.0f ? v : 0.0f, 1.0f) : v;
}

template <class T>
inline void load_line(const View& v, const unsigned char* p, float* out) {
  const float scale = 1.0f / v.white;
  if (v.c == 3) {
    const bool clip = clips(v);
    const auto at = [&](std::ptrdiff_t offset) { return intensity<T>(p + offset, scale, clip); };
    for (int x = 0; x < v.w; ++x)
      out[x] = kRed * at(x * v.sw) + kGreen * at(x * v.sw + v.sc) + kBlue * at(x * v.sw + 2 * v.sc);
  } else if (v.sw == static_cast<std::ptrdiff_t>(sizeof(T))) {
    const T* q = reinterpret_cast<const T*>(p);
    for (int x = 0; x < v.w; ++x) out[x] = static_cast<float>(q[x]) * scale;
  } else {
    for (int x = 0; x < v.w; ++x) out[x] = static_cast<float>(*reinterpret_cast<const T*>(p + x * v.sw)) * scale;
  }
}

// Row y of the caller's image as intensities in [0, 1] (luma, for colour). What is above white counts as white; NaN
// counts as 0.
inline void load_row(const View& v, int y, float* out) {
  const unsigned char* p = v.data + y * v.sh;
  const float scale = 1.0f / v.white;
  switch (v.dtype) {
    case DType::u8: load_line<std::uint8_t>(v, p, out); break;
    case DType::u16: load_line<std::uint16_t>(v, p, out); break;
    case DType::f32: load_line<float>(v, p, out); break;
    case DType::mono10p: Packed<kMono10p>::load_line(p, v.w, scale, out); break;
    case DType::mono10packed: Packed<kMono10Packed>::load_line(p, v.w, scale, out); break;
    case DType::mono12p: Packed<kMono12p>::load_line(p, v.w, scale, out); break;
    case DType::mono12packed: Packed<kMono12Packed>::load_line(p, v.w, scale, out); break;
  }
  if (clips(v) && v.c == 1)
    for (int x = 0; x < v.w; x += VL) store(out + x, clamp01(load(out + x)));
}

template <class T>
inline T quantise(float v, float white) {
  if constexpr (std::is_same_v<T, float>)
    return v * white;
  else
    return static_cast<T>(static_cast<std::int32_t>(v * white + 0.5f));
}

template <class T>
inline void store_line(const View& src, const View& dst, int y, int x0, int x1, const float* in) {
  unsigned char* p = dst.data + y * dst.sh;
  if (dst.c == 3) {
    const unsigned char* s = src.data + y * src.sh;
    const float scale = 1.0f / src.white;
    const bool clip = clips(src);
    for (int x = x0; x < x1; ++x) {
      float rgb[3];
      for (int c = 0; c < 3; ++c) rgb[c] = intensity<T>(s + x * src.sw + c * src.sc, scale, clip);
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

// Writes intensities in[x0 .. x1) of row y in the caller's type; x0 begins a tile. Colour: the change of luma is added
// to the source's three channels, so that chroma is carried over.
inline void store_row(const View& src, const View& dst, int y, int x0, int x1, const float* in) {
  unsigned char* p = dst.data + y * dst.sh;
  switch (dst.dtype) {
    case DType::u8: return store_line<std::uint8_t>(src, dst, y, x0, x1, in);
    case DType::u16: return store_line<std::uint16_t>(src, dst, y, x0, x1, in);
    case DType::f32: return store_line<float>(src, dst, y, x0, x1, in);
    case DType::mono10p: return Packed<kMono10p>::store_line(p, x0, x1, dst.white, in);
    case DType::mono10packed: return Packed<kMono10Packed>::store_line(p, x0, x1, dst.white, in);
    case DType::mono12p: return Packed<kMono12p>::store_line(p, x0, x1, dst.white, in);
    case DType::mono12packed: return Packed<kMono12Packed>::store_line(p, x0, x1, dst.white, in);
  }
}
