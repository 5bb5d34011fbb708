// Unsharp masking.

struct Sharpen : Blurring {
  static constexpr const char* kName = "sharpen";
  float amount, radius, threshold;  // radius: the Gaussian's sigma
  constexpr void declare(auto&& visit) {
    visit(window, "window", odd_window());
    visit(amount, "amount", within(0.0, 10.0, 0.8));
    visit(radius, "radius", within(0.1, 100.0, 1.5));
    visit(threshold, "threshold", within(0.0, 1.0, 0.0));
  }

  void row(const Frame& frame, const Row& r, float weight) {
    const float* centre = frame.state.row(r.y);
    const float gain = weight * amount;
    const vf least = splat(threshold);
    blur(frame, r, radius, [&](int x, vf s) {
      const vf v = load(centre + x);
      vf high = v - s;
      high = vmax(high, -high) < least ? vf{} : high;
      store(r.acc + x, load(r.acc + x) + weight * v + gain * high);
    });
  }
};
