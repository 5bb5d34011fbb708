// Convolution with a Gaussian cut to a window: the blurred picture of `sharpen`.

struct Gaussian : Blurring {
  static constexpr const char* kName = "gaussian";
  float sigma;
  constexpr void declare(auto&& visit) {
    visit(window, "window", odd_window());
    visit(sigma, "sigma", within(0.1, 100.0, 1.5));
  }

  void row(const Frame& frame, const Row& r, float weight) {
    blur(frame, r, sigma, [&](int x, vf s) { add_to(r.acc, x, weight * s); });
  }
};
