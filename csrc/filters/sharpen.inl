// Unsharp masking.

struct Sharpen : Filter {
  static constexpr const char* kName = "sharpen";
  struct Params {
    int window;
    float amount, radius, threshold;  // radius: the Gaussian's sigma
    template <class Visit>
    constexpr void declare(Visit&& visit) {
      visit(window, "window", odd_window());
      visit(amount, "amount", within(0.0, 10.0));
      visit(radius, "radius", within(0.1, 100.0));
      visit(threshold, "threshold", within(0.0, 1.0));
    }
  };
  Params p;
  GaussianTaps taps;
  float* columns;  // sums down the columns of a row

  void lay_out(int, int, Arena&, Arena& own) { columns = own.take<float>(kRowFloats); }

  void prepare(const Frame&) {
    if (taps.radius == 0) taps = gaussian_taps(p.window, p.radius);
  }

  void row(const Frame& frame, const Row& r, float weight) {
    const float gain = weight * p.amount;
    const vf threshold = splat(p.threshold);
    with_radius(taps.radius, [&](auto radius) {
      const Window rows = window_at(frame, r.y, radius);
      blur<radius>(taps, rows, r.x0, r.x1, r.own(columns), [&](int x, vf s) {
        const vf v = load(rows[0] + x);
        vf high = v - s;
        high = vmax(high, -high) < threshold ? vf{} : high;
        store(r.acc + x, load(r.acc + x) + weight * v + gain * high);
      });
    });
  }
};
