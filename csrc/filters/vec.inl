// Short vectors of the instruction set in force, written with the compilers' vector extension (GCC, Clang):
// the same source gives 4, 8 or 16 lanes, and the fast exp/log that every filter shares.

#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int VL = 16;
#elif defined(__AVX2__)
constexpr int VL = 8;
#else
constexpr int VL = 4;
#endif

typedef float vf __attribute__((vector_size(VL * 4)));
typedef std::int32_t vi __attribute__((vector_size(VL * 4)));
typedef float vf_u __attribute__((vector_size(VL * 4), aligned(4), may_alias));

inline vf load(const float* p) { return *reinterpret_cast<const vf_u*>(p); }
inline void store(float* p, vf v) { *reinterpret_cast<vf_u*>(p) = v; }
inline vf splat(float x) { return x - vf{}; }

#if defined(__AVX512F__) && defined(__AVX512DQ__)
inline vf vmin(vf a, vf b) { return _mm512_min_ps(a, b); }
inline vf vmax(vf a, vf b) { return _mm512_max_ps(a, b); }
#elif defined(__AVX2__)
inline vf vmin(vf a, vf b) { return _mm256_min_ps(a, b); }
inline vf vmax(vf a, vf b) { return _mm256_max_ps(a, b); }
#elif defined(__SSE2__)
inline vf vmin(vf a, vf b) { return _mm_min_ps(a, b); }
inline vf vmax(vf a, vf b) { return _mm_max_ps(a, b); }
#else
inline vf vmin(vf a, vf b) { return a < b ? a : b; }
inline vf vmax(vf a, vf b) { return a > b ? a : b; }
#endif
inline vf clamp01(vf v) { return vmin(vmax(v, vf{}), splat(1.0f)); }
inline vf as_float(vi v) { return reinterpret_cast<vf>(v); }
inline vi as_int(vf v) { return reinterpret_cast<vi>(v); }
inline vf to_float(vi v) { return __builtin_convertvector(v, vf); }
inline vi to_int(vf v) { return __builtin_convertvector(v, vi); }  // truncates

// While it lives, this thread takes denormal numbers as zero: products of small weights may fall that low, and some
// processors spend a hundred cycles on each.
class FlushDenormals {
#if defined(__SSE2__)
  unsigned saved_ = _mm_getcsr();

 public:
  FlushDenormals() { _mm_setcsr(saved_ | 0x8040u); }  // flush to zero, denormals are zero
  ~FlushDenormals() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
  std::uint64_t saved_;

 public:
  FlushDenormals() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(saved_ | (1u << 24)));
  }
  ~FlushDenormals() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }
#else
 public:
  FlushDenormals() {}
  ~FlushDenormals() {}
#endif
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;
};

inline vf lanes() {  // 0, 1, 2, ...
  vf v;
  for (int i = 0; i < VL; ++i) v[i] = static_cast<float>(i);
  return v;
}

// Whether any lane of a comparison's result holds.
inline bool any(vi v) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_test_epi32_mask(reinterpret_cast<__m512i>(v), reinterpret_cast<__m512i>(v)) != 0;
#elif defined(__AVX2__)
  return _mm256_movemask_epi8(reinterpret_cast<__m256i>(v)) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_epi8(reinterpret_cast<__m128i>(v)) != 0;
#else
  std::int32_t sum = 0;
  for (int i = 0; i < VL; ++i) sum |= v[i];
  return sum != 0;
#endif
}

inline float hmax(vf v) {
  float m = v[0];
  for (int i = 1; i < VL; ++i) m = std::max(m, v[i]);
  return m;
}

inline float hmin(vf v) {
  float m = v[0];
  for (int i = 1; i < VL; ++i) m = std::min(m, v[i]);
  return m;
}

// 1/x to 2 ulp or so for normal x: the hardware's estimate and one Newton step.
inline vf recip(vf x) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  const vf e = _mm512_rcp14_ps(x);
#elif defined(__AVX2__)
  const vf e = _mm256_rcp_ps(x);
#elif defined(__SSE2__)
  const vf e = _mm_rcp_ps(x);
#else
  return 1.0f / x;
#endif
#if defined(__SSE2__)
  return e + e * (1.0f - x * e);
#endif
}

// 2^f for f in [-1/2, 1/2], relative error below 1e-7 (degree 5, minimax with p(0) = 1).
inline vf exp2_fraction(vf f) {
  vf p = splat(1.326471512e-3f);
  p = p * f + 9.671512775e-3f;
  p = p * f + 5.550733773e-2f;
  p = p * f + 2.402224208e-1f;
  p = p * f + 6.931469776e-1f;
  return p * f + 1.0f;
}

// Splits y into n + f with n whole and |f| <= 1/2, for |y| < 2^22.
inline vf round_whole(vf y) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_roundscale_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__AVX2__)
  return _mm256_round_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__SSE4_1__)
  return _mm_round_ps(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  const vf magic = splat(12582912.0f);  // 1.5 * 2^23: adding it leaves no fraction bits
  return (y + magic) - magic;           // kept as written: the build does not reassociate
#endif
}

// p * 2^n for whole n; the caller keeps the result a normal number.
inline vf scale_by_exp2(vf p, vf n) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_scalef_ps(p, n);
#else
  return as_float(as_int(p) + (to_int(n) << 23));
#endif
}

// 2^y for y in [-126, 127], relative error below 3e-7. Lower y are clamped, so that nothing is denormal.
inline vf exp2v(vf y) {
  y = vmax(y, splat(-126.0f));
  const vf n = round_whole(y);
  return scale_by_exp2(exp2_fraction(y - n), n);
}

// The same to 3e-6, for y in [-126, 127]: enough for a weight that is normalised by the sum of its like.
#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr bool kClampExponents = false;  // lower y give zero
#else
constexpr bool kClampExponents = true;
#endif
inline vf exp2_weight_normal(vf y) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  const vf f = _mm512_reduce_ps(y, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // in [0, 1)
  vf p = splat(1.353416800e-2f);
  p = p * f + 5.201146108e-2f;
  p = p * f + 2.414427561e-1f;
  p = p * f + 6.930038348e-1f;
  return _mm512_scalef_ps(p * f + 1.000002593f, y);  // which takes the whole part of y
#else
  const vf t = y + 12582912.0f;  // 1.5 * 2^23: adding it leaves the whole part in the lowest bits
  const vf f = y - (t - 12582912.0f);
  vf p = splat(9.570101968e-3f);
  p = p * f + 5.591786076e-2f;
  p = p * f + 2.402474483e-1f;
  p = p * f + 6.931218147e-1f;
  p = p * f + 9.999992614e-1f;
  return as_float(as_int(p) + (as_int(t) << 23));
#endif
}

// The same for lower y, too, which are clamped.
inline vf exp2_weight(vf y) { return exp2_weight_normal(vmax(y, splat(-126.0f))); }

inline vf vabs(vf v) { return as_float(as_int(v) & 0x7fffffff); }

// Splits positive normal x into 2^e * (1 + t), 1 + t in [3/4, 3/2). Of zero e is -127 or -infinity.
inline vf split_log(vf x, vf& t) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  t = _mm512_getmant_ps(x, _MM_MANT_NORM_p75_1p5, _MM_MANT_SIGN_src) - 1.0f;
  return _mm512_getexp_ps(x * 1.33333337f);
#else
  const vi bits = as_int(x);
  const vi exponent = (bits - 0x3f400000) >> 23;
  t = as_float(bits - (exponent << 23)) - 1.0f;
  return to_float(exponent);
#endif
}

// log2 of a positive normal number: absolute error below 5e-8 plus the rounding of the result (minimax, degree 8).
inline vf log2v(vf x) {
  vf t;
  const vf e = split_log(x, t);
  vf p = splat(-9.087904246e-2f);
  p = p * t + 2.012806279e-1f;
  p = p * t - 2.519420645e-1f;
  p = p * t + 2.908062195e-1f;
  p = p * t - 3.602610410e-1f;
  p = p * t + 4.808019343e-1f;
  p = p * t - 7.213521192e-1f;
  p = p * t + 1.442695901f;
  return p * t + e;
}

// table[i] for any indices.
inline vf gather(const float* table, vi i) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_i32gather_ps(reinterpret_cast<__m512i>(i), table, 4);
#elif defined(__AVX2__)
  return _mm256_i32gather_ps(table, reinterpret_cast<__m256i>(i), 4);
#else
  vf v;
  for (int k = 0; k < VL; ++k) v[k] = table[i[k]];
  return v;
#endif
}

// Element i of the N * VL that the table holds.
template <int N>
inline vf lookup(const vf (&table)[N], vi i) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  const __m512i at = reinterpret_cast<__m512i>(i);
  if constexpr (N == 1) return _mm512_permutexvar_ps(at, table[0]);
  if constexpr (N == 2) return _mm512_permutex2var_ps(table[0], at, table[1]);
#elif defined(__AVX2__)
  if constexpr (N <= 2) {
    const __m256i at = reinterpret_cast<__m256i>(i);  // of which the lowest three bits count
    const vf first = _mm256_permutevar8x32_ps(table[0], at);
    if constexpr (N == 1) return first;
    return i < VL ? first : static_cast<vf>(_mm256_permutevar8x32_ps(table[N - 1], at));
  }
#endif
  return gather(reinterpret_cast<const float*>(table), i);
}

// Lane i of the result is lane index(i) of a followed by b.
template <class Index, std::size_t... I>
inline vf shuffle_by(vf a, vf b, Index index, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, index(static_cast<int>(I))...);
}
inline vf shuffle(vf a, vf b, auto index) { return shuffle_by(a, b, index, std::make_index_sequence<VL>{}); }

// Elements a0 b0 a1 b1 ... of the lower (upper) halves of a and b; the even (odd) elements of a, then of b.
inline vf interleave_low(vf a, vf b) { return shuffle(a, b, [](int i) { return i / 2 + i % 2 * VL; }); }
inline vf interleave_high(vf a, vf b) { return shuffle(a, b, [](int i) { return (i + VL) / 2 + i % 2 * VL; }); }
inline vf take_even(vf a, vf b) { return shuffle(a, b, [](int i) { return 2 * i; }); }
inline vf take_odd(vf a, vf b) { return shuffle(a, b, [](int i) { return 2 * i + 1; }); }

// Elements K to K + VL - 1 of a followed by b: what lies K to the right of a, without a load that crosses cache lines.
template <int K>
inline vf shift(vf a, vf b) {
  static_assert(K >= 0 && K <= VL);
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  if constexpr (K > 0 && K < VL)  // which the compiler would make a permutation
    return reinterpret_cast<vf>(_mm512_alignr_epi32(reinterpret_cast<__m512i>(b), reinterpret_cast<__m512i>(a), K));
#endif
  return shuffle(a, b, [](int i) { return i + K; });
}

// Transposes a VL x VL block.
inline void transpose(vf (&r)[VL]) {
  if constexpr (VL == 8) {
    // Inside the two halves of the vectors as long as possible: instructions that cross between them come dear.
    constexpr auto low = [](int i) { return i / 4 * 4 + i % 4 / 2 + i % 2 * VL; };
    constexpr auto high = [](int i) { return i / 4 * 4 + i % 4 / 2 + 2 + i % 2 * VL; };
    constexpr auto first = [](int i) { return i / 4 * 4 + i % 2 + i % 4 / 2 * VL; };
    constexpr auto second = [](int i) { return i / 4 * 4 + i % 2 + 2 + i % 4 / 2 * VL; };
    vf t[VL], s[VL];
    for (int i = 0; i < VL; i += 2) {
      t[i] = shuffle(r[i], r[i + 1], low);
      t[i + 1] = shuffle(r[i], r[i + 1], high);
    }
    for (int i = 0; i < VL; i += 4)
      for (int k = 0; k < 2; ++k) {
        s[i + 2 * k] = shuffle(t[i + k], t[i + 2 + k], first);
        s[i + 2 * k + 1] = shuffle(t[i + k], t[i + 2 + k], second);
      }
    for (int i = 0; i < 4; ++i) {
      r[i] = shuffle(s[i], s[i + 4], [](int k) { return k < 4 ? k : k - 4 + VL; });
      r[i + 4] = shuffle(s[i], s[i + 4], [](int k) { return k < 4 ? k + 4 : k + VL; });
    }
    return;
  }
  // Each round of interleaving rotates the bits of (row, column) by one place.
  for (int round = 1; round < VL; round *= 2) {
    vf t[VL];
    for (int i = 0; i < VL / 2; ++i) {
      t[2 * i] = interleave_low(r[i], r[i + VL / 2]);
      t[2 * i + 1] = interleave_high(r[i], r[i + VL / 2]);
    }
    for (int i = 0; i < VL; ++i) r[i] = t[i];
  }
}
