// The guided filter with the picture as its own guide. Sums over 2R + 1 rows are taken in column order, then over
// 2R + 1 columns: plain sums, so that nothing drifts.

// Sums of rows y and y + 1, which the windows of several rows share: of the intensities around the middle, for less
// cancellation, and of their squares.
inline void guided_pair(const float* upper, const float* lower, int x0, int x1, float* sum1, float* sum2) {
  for (int x = x0 - kHalo; x < x1 + kHalo; x += VL) {
    const vf a = load(upper + x) - 0.5f, b = load(lower + x) - 0.5f;
    store(sum1 + x, a + b);
    store(sum2 + x, a * a + b * b);
  }
}

// The linear coefficients of one row: a and b of out = mean(a) * I + mean(b), for x in [x0 - R, x1 + R). pair1, pair2:
// R sums of two rows; last: the row that is left.
template <int R>
inline void guided_coefficients(const float* const* pair1, const float* const* pair2, const float* last, int x0, int x1,
                                float eps, float* sum1, float* sum2, float* a_row, float* b_row) {
  for (int x = x0 - kHalo; x < x1 + kHalo; x += VL) {
    const vf v = load(last + x) - 0.5f;
    vf s1 = v, s2 = v * v;
    for (int k = 0; k < R; ++k) {
      s1 += load(pair1[k] + x);
      s2 += load(pair2[k] + x);
    }
    store(sum1 + x, s1);
    store(sum2 + x, s2);
  }
  constexpr float area = 1.0f / ((2 * R + 1) * (2 * R + 1));
  sums_across<R>(sum1, sum2, x0 - kMargin<R>, x1 + kMargin<R>, [&](int x, vf s, vf t) {
    const vf mean = s * area;
    const vf variance = vmax(t * area - mean * mean, vf{});
    const vf a = variance * recip(variance + eps);
    store(a_row + x, a);
    store(b_row + x, (1.0f - a) * (mean + 0.5f));
  });
}

// acc += weight * guided for x in [x0, x1). a, b: the coefficient rows y - R .. y + R.
template <int R>
inline void guided_row(const float* const* a, const float* const* b, const float* centre, int x0, int x1,
                       float weight, float* sum1, float* sum2, float* acc) {
  for (int x = x0 - kMargin<R>; x < x1 + kMargin<R>; x += VL) {
    vf s1 = load(a[0] + x), s2 = load(b[0] + x);
    for (int k = 1; k <= 2 * R; ++k) {
      s1 += load(a[k] + x);
      s2 += load(b[k] + x);
    }
    store(sum1 + x, s1);
    store(sum2 + x, s2);
  }
  const float scale = weight / ((2 * R + 1) * (2 * R + 1));
  sums_across<R>(sum1, sum2, x0, x1, [&](int x, vf a_sum, vf b_sum) {
    store(acc + x, load(acc + x) + scale * (a_sum * load(centre + x) + b_sum));
  });
}

struct Guided : Filter {
  static constexpr const char* kName = "guided";
  int window;
  float eps;
  constexpr void declare(auto&& visit) {
    visit(window, "window", odd_window());
    visit(eps, "eps", within(1e-4, 10.0, 0.01));
  }
  float *columns1, *columns2;        // sums down the columns of a row
  float *pairs1, *pairs2;            // rings: sums of a row and the next
  float *coefficients_a, *coefficients_b;  // rings
  int next, next_pair;               // rows whose coefficients and pairs come next

  void lay_out(int, int, Arena&, Arena& own) {
    columns1 = own.take<float>(kRowFloats);
    columns2 = own.take<float>(kRowFloats);
    pairs1 = own.take<float>(kRowFloats * kRing);
    pairs2 = own.take<float>(kRowFloats * kRing);
    coefficients_a = own.take<float>(kRowFloats * kRing);
    coefficients_b = own.take<float>(kRowFloats * kRing);
  }

  int reach(bool) const { return window / 2 * 2; }

  void row(const Frame& frame, const Row& r, float weight) {
    const int radius = window / 2;
    if (r.y == r.top) {
      next = std::max(0, r.top - radius);
      next_pair = std::max(0, r.top - 2 * radius);
    }
    float *sum1 = r.own(columns1), *sum2 = r.own(columns2);
    with_radius(radius, [&](auto R) {
      const float *a[2 * R + 1], *b[2 * R + 1];
      for (; next <= std::min(r.y + R, frame.h - 1); ++next) {
        for (; next_pair <= std::min(next + R - 1, std::max(frame.h - 2, 0)); ++next_pair)
          guided_pair(frame.state.row(next_pair), frame.state.row(reflect(next_pair + 1, frame.h)), r.x0, r.x1,
                      r.ring(pairs1, next_pair), r.ring(pairs2, next_pair));
        for (int k = 0; k < R; ++k) {
          const int y = next - R + 2 * k;  // and y + 1: reflected, they are still side by side
          const int upper = std::min(reflect(y, frame.h), reflect(y + 1, frame.h));
          a[k] = r.ring(pairs1, upper);
          b[k] = r.ring(pairs2, upper);
        }
        guided_coefficients<R>(a, b, frame.state.row(reflect(next + R, frame.h)), r.x0, r.x1, eps, sum1, sum2,
                               r.ring(coefficients_a, next), r.ring(coefficients_b, next));
      }
      for (int k = -R; k <= R; ++k) {
        a[k + R] = r.ring(coefficients_a, reflect(r.y + k, frame.h));
        b[k + R] = r.ring(coefficients_b, reflect(r.y + k, frame.h));
      }
      guided_row<R>(a, b, frame.state.row(r.y), r.x0, r.x1, weight, sum1, sum2, r.acc);
    });
  }
};
