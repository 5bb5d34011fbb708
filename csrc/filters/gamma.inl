// Gamma correction: intensities to the power of an exponent.

struct Gamma : Filter {
  static constexpr const char* kName = "gamma";
  float exponent;
  constexpr void declare(auto&& visit) {
    visit(exponent, "exponent", within(0.1, 10.0, 0.5));
  }

  void row(const Frame& frame, const Row& r, float weight) {
    const float* centre = frame.state.row(r.y);
    for (int x = r.x0; x < r.x1; x += VL) {
      const vf v = load(centre + x);
      add_to(r.acc, x, weight * (v > 0.0f ? pow_positive(v, exponent) : vf{}));
    }
  }
};
