// A second, additive part of the preconditioner. Black-box interpolation follows couplings along rows and columns only:
// a few pixels of equal value that hang together around a corner, in dark surroundings (where one grey level is a large
// step of the logarithm), are seen by no level and no line, and conjugate gradients would need an iteration for each.
// Every such cluster gets an unknown of its own: its mean error is the sum of its residual over what ties it to ground
// and to its surroundings. Clusters in one row or column need none: a line smoother sees them.

constexpr float kStrong = 1000.0f;    // edge weight, before lambda, that ties pixels into a cluster: near-equal values
constexpr float kLoose = 256.0f;      // most of the other edges' weight per pixel of a cluster
constexpr int kClusterSize = 4096;

struct Clusters {
  int count = 0, capacity = 0;        // clusters; members that can be held
  std::int32_t* start = nullptr;      // first member of each, and the end
  std::int32_t* member = nullptr;     // y * stride + x
  float* inverse = nullptr;           // 1 / (ground and couplings of the whole)

  inline void lay_out(int h, int w, Arena& arena) {
    capacity = std::min(h * w, std::max(1 << 18, h * w / 8));  // of a large frame, that is plenty
    member = arena.take<std::int32_t>(static_cast<std::size_t>(capacity));
    start = arena.take<std::int32_t>(static_cast<std::size_t>(capacity / 2 + 2));
    inverse = arena.take<float>(static_cast<std::size_t>(capacity / 2 + 1));
  }
};

// Finds the clusters of the weights ax, ay, which are scaled by lambda. seen: a plane of scratch. All planes have one
// stride. When the members' space is full the rest goes without; the solution does not depend on it.
inline void find_clusters(const Plane& ax, const Plane& ay, const Plane& ground, float lambda, int h, int w,
                          const Plane& seen, Clusters& clusters) {
  const float strong = kStrong * lambda, loose = kLoose * lambda;
  for (int y = 0; y < h; ++y) std::fill(seen.row(y), seen.row(y) + w, 0.0f);
  clusters.count = 0;
  clusters.start[0] = 0;
  if (strong == 0.0f) return;  // lambda is below float32's range: to be as strong, edges need not be within the picture
  const std::ptrdiff_t stride = ax.stride;
  int used = 0;
  float mark = 0.0f;  // of the walk a pixel was seen on
  for (int y = 0; y < h; ++y) {
    for (int x0 = 0; x0 < w; x0 += VL) {
      // A pixel starts a cluster if an edge across and one down are strong, and the rest are loose.
      const float *across = ax.row(y) + x0, *down = ay.row(y) + x0;
      const vf right = load(across), left = load(across - 1), below = load(down), above = load(down - stride);
      vf rest{};
      for (const vf e : {right, left, below, above}) rest += e >= strong ? vf{} : e;
      const vi seed = (vmax(right, left) >= strong) & (vmax(below, above) >= strong) & (rest <= loose) &
                      (load(seen.row(y) + x0) == 0.0f);
      if (!any(seed)) continue;
      for (int k = 0; k < VL && x0 + k < w; ++k) {
        if (!seed[k] || seen.row(y)[x0 + k] != 0.0f) continue;
        const int limit = std::min(kClusterSize, clusters.capacity - used - 4);  // a step may add four
        if (limit < 3) return;
        std::int32_t* const queue = clusters.member + used;
        int size = 0;
        float outside = 0.0f, tied = 0.0f;
        bool part = false;  // of something too large, seen before
        mark += 1.0f;
        const auto visit = [&](float edge, std::ptrdiff_t offset) {
          if (edge < strong) {
            outside += edge;
            return;
          }
          float& at = seen.base[offset];
          part |= at != 0.0f && at != mark;
          if (at != 0.0f) return;
          at = mark;
          queue[size++] = static_cast<std::int32_t>(offset);
        };
        visit(strong, y * stride + x0 + k);
        for (int next = 0; next < size && size <= limit && !part; ++next) {
          const std::ptrdiff_t offset = queue[next];
          const float *e = ax.base + offset, *s = ay.base + offset;
          visit(e[0], offset + 1);
          visit(e[-1], offset - 1);
          visit(s[0], offset + stride);
          visit(s[-stride], offset - stride);
          tied += ground.base[offset];
        }
        if (part || size > limit || outside > loose * static_cast<float>(size)) continue;
        used += size;
        clusters.inverse[clusters.count++] = 1.0f / (outside + tied);
        clusters.start[clusters.count] = used;
      }
    }
  }
}

// z += sum over clusters of 1 (1^T r) / (1^T A 1).
inline void correct_clusters(const Clusters& clusters, const Plane& r, const Plane& z) {
  for (int c = 0; c < clusters.count; ++c) {
    const std::int32_t *from = clusters.member + clusters.start[c], *to = clusters.member + clusters.start[c + 1];
    float sum = 0.0f;
    for (const std::int32_t* m = from; m < to; ++m) sum += r.base[*m];
    sum *= clusters.inverse[c];
    for (const std::int32_t* m = from; m < to; ++m) z.base[*m] += sum;
  }
}
