// Convolution with a Gaussian cut to a window: the blurred picture of `sharpen`.

struct Gaussian : Filter {
  static constexpr const char* kName = "gaussian";
  struct Params {
    int window;
    float sigma;
    template <class Visit>
    constexpr void declare(Visit&& visit) {
      visit(window, "window", odd_window());
      visit(sigma, "sigma", within(0.1, 100.0));
    }
  };
  Params p;
  GaussianTaps taps;
  float* columns;  // sums down the columns of a row

  void lay_out(int, int, Arena&, Arena& own) { columns = own.take<float>(kRowFloats); }

  void prepare(const Frame&) {
    if (taps.radius == 0) taps = gaussian_taps(p.window, p.sigma);
  }

  void row(const Frame& frame, const Row& r, float weight) {
    with_radius(taps.radius, [&](auto radius) {
      const Window rows = window_at(frame, r.y, radius);
      blur<radius>(taps, rows, r.x0, r.x1, r.own(columns), [&](int x, vf s) { add_to(r.acc, x, weight * s); });
    });
  }
};
