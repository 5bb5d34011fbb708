// The picture as it is: the first of all filters, which begins a row's sum, so that no other need clear it.

struct Identity : Filter {
  static constexpr const char* kName = "identity";

  void row(const Frame& frame, const Row& r, float weight) {
    const float* centre = frame.state.row(r.y);
    for (int x = r.x0; x < r.x1; x += VL) store(r.acc + x, load(centre + x) * weight);
  }
};
