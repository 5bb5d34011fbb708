// The guided filter with the picture as its own guide. Sums over 2R + 1 rows are taken in column order, then over
// 2R + 1 columns: plain sums, so that nothing drifts.

// The linear coefficients of one row: a and b of out = mean(a) * I + mean(b), for x in [x0 - R, x1 + R).
template <int R>
inline void guided_coefficients(const Window& rows, int x0, int x1, float eps, float* sum1,
                                float* sum2, float* a_row, float* b_row) {
  for (int x = x0 - kHalo; x < x1 + kHalo; x += VL) {
    vf s1{}, s2{};
    for (int k = -R; k <= R; ++k) {
      const vf v = load(rows[k] + x) - 0.5f;  // around the middle: less cancellation below
      s1 += v;
      s2 += v * v;
    }
    store(sum1 + x, s1);
    store(sum2 + x, s2);
  }
  constexpr float area = 1.0f / ((2 * R + 1) * (2 * R + 1));
  sums_across<R>(sum1, sum2, x0 - kMargin<R>, x1 + kMargin<R>, [&](int x, vf s, vf t) {
    const vf mean = s * area;
    const vf variance = vmax(t * area - mean * mean, vf{});
    const vf a = variance / (variance + eps);
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
    visit(eps, "eps", within(1e-4, 10.0));
  }
  float *columns1, *columns2;        // sums down the columns of a row
  float *coefficients_a, *coefficients_b;  // rings
  int next;                          // row whose coefficients come next

  void lay_out(int, int, Arena&, Arena& own) {
    columns1 = own.take<float>(kRowFloats);
    columns2 = own.take<float>(kRowFloats);
    coefficients_a = own.take<float>(kRowFloats * kRing);
    coefficients_b = own.take<float>(kRowFloats * kRing);
  }

  void row(const Frame& frame, const Row& r, float weight) {
    if (r.y == r.top) next = std::max(0, r.top - window / 2);
    float *sum1 = r.own(columns1), *sum2 = r.own(columns2);
    with_radius(window / 2, [&](auto radius) {
      for (; next <= std::min(r.y + radius, frame.h - 1); ++next)
        guided_coefficients<radius>(window_at(frame, next, radius), r.x0, r.x1, eps, sum1, sum2,
                                    r.ring(coefficients_a, next), r.ring(coefficients_b, next));
      const float *a[2 * radius + 1], *b[2 * radius + 1];
      for (int k = -radius; k <= radius; ++k) {
        a[k + radius] = r.ring(coefficients_a, reflect(r.y + k, frame.h));
        b[k + radius] = r.ring(coefficients_b, reflect(r.y + k, frame.h));
      }
      guided_row<radius>(a, b, frame.state.row(r.y), r.x0, r.x1, weight, sum1, sum2, r.acc);
    });
  }
};
