#include "check.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace sdie::selftest {

namespace {

std::string described(const Recipe& recipe, const Image& image, const std::string& what) {
  const Batch b = image.batch();
  return recipe.text + ", " + std::to_string(b.h) + " x " + std::to_string(b.w) + (b.c == 3 ? " x 3 " : " ") +
         name_of(b.dtype) + ", " + what;
}

// The intensities that an image holds.
Plane plane_of(const Image& image, int n, int c) {
  const Batch b = image.batch();
  Plane g(static_cast<int>(b.h), static_cast<int>(b.w));
  for (int y = 0; y < g.h; ++y)
    for (int x = 0; x < g.w; ++x) g(y, x) = image.get(n, y, x, c) / static_cast<double>(image.white());
  return g;
}

}  // namespace

void Checker::fail(const std::string& line) {
  ++failures_;
  std::fprintf(stderr, "%s\n", line.c_str());
}

void Checker::compare(const Image& src, const std::vector<Plane>& wanted, const Recipe& recipe, bool per_channel,
                      double tolerance, const Layout& layout, const std::string& what) {
  const Batch b = src.batch();
  const Image before = src;  // its own copy of the bytes
  const auto white = static_cast<double>(src.white());
  // What is stored is a rounded multiple; and float32 carries products with 65535 to some hundredths.
  const double accepted = white > 1.0 ? 0.5 + white * tolerance : tolerance;
  for (const Kernels* kernels : kernels_) {
    const std::string name = std::string(kernels->isa) + ": " + described(recipe, src, what + ", " + layout.name);
    Image dst(b.dtype, static_cast<int>(b.n), static_cast<int>(b.h), static_cast<int>(b.w), static_cast<int>(b.c),
              layout);
    run(src, dst, recipe, per_channel, 1, *kernels);
    ++calls_;
    double worst = -1.0, got = 0.0, should = 0.0;
    int at[3] = {};
    for (int n = 0; n < b.n; ++n)
      for (int c = 0; c < b.c; ++c)
        for (int y = 0; y < b.h; ++y)
          for (int x = 0; x < b.w; ++x) {
            const double value = dst.get(n, y, x, c);
            const double right = wanted[static_cast<std::size_t>(n * b.c + c)](y, x) * white;
            const double miss = std::isnan(value) ? INFINITY : std::abs(value - right);
            if (miss <= worst) continue;
            worst = miss, got = value, should = right;
            at[0] = y, at[1] = x, at[2] = c;
          }
    if (worst > accepted) {
      char numbers[160];
      std::snprintf(numbers, sizeof numbers, ": pixel (%d, %d) channel %d is %.9g, should be %.9g within %.3g", at[0],
                    at[1], at[2], got, should, accepted);
      fail(name + numbers);
    }
    if (!dst.guards_are_whole()) fail(name + ": written beside the output");
    if (!src.same_bytes(before)) fail(name + ": the input was written to");
  }
}

void Checker::grey(const Case& c) {
  const Recipe recipe(*kernels_[0], c.rounds, c.settings);
  const Plane picture = draw(c.scene, c.size.h, c.size.w, static_cast<unsigned>(1000 * c.size.h + c.size.w));
  for (const DType dtype : c.dtypes) {
    std::vector<Plane> wanted;
    for (const Layout& layout : kLayouts) {
      Image src(dtype, 1, c.size.h, c.size.w, 1, layout);
      src.fill(0, 0, picture);
      if (wanted.empty()) wanted.push_back(enhance_plane(plane_of(src, 0, 0), recipe));
      compare(src, wanted, recipe, false, c.tolerance, layout, name_of(c.scene));
      if (!c.every_layout) break;
    }
  }
}

void Checker::colour(const char* rounds, const std::string& settings, DType dtype, bool per_channel, double tolerance) {
  const Recipe recipe(*kernels_[0], rounds, settings);
  for (const Layout& layout : kLayouts) {
    Image src(dtype, 1, 21, 35, 3, layout);
    for (int c = 0; c < 3; ++c)
      src.fill(0, c, draw(c == 1 ? Scene::noise : Scene::scratches, 21, 35, 100u + unsigned(c)));
    std::vector<Plane> wanted;
    for (int c = 0; c < 3; ++c) wanted.push_back(plane_of(src, 0, c));
    if (per_channel) {
      for (Plane& channel : wanted) channel = enhance_plane(channel, recipe);
    } else {
      Plane luma = wanted[0];
      for (std::size_t i = 0; i < luma.values.size(); ++i)  // ITU-R BT.601
        luma.values[i] = 0.299 * wanted[0].values[i] + 0.587 * wanted[1].values[i] + 0.114 * wanted[2].values[i];
      const Plane enhanced = enhance_plane(luma, recipe);
      for (Plane& channel : wanted)
        for (std::size_t i = 0; i < luma.values.size(); ++i)
          channel.values[i] = std::clamp(channel.values[i] + enhanced.values[i] - luma.values[i], 0.0, 1.0);
    }
    compare(src, wanted, recipe, per_channel, tolerance, layout, per_channel ? "each channel" : "luma");
  }
}

void Checker::teams(const char* rounds, const std::string& settings, int images, Size size, double tolerance) {
  const Recipe recipe(*kernels_[0], rounds, settings);
  Image src(DType::f32, images, size.h, size.w, 1, kPlain);
  std::vector<Plane> wanted;
  for (int n = 0; n < images; ++n) {
    src.fill(n, 0, draw(n % 2 ? Scene::noise : Scene::scratches, size.h, size.w, 200u + unsigned(n)));
    if (tolerance > 0.0) wanted.push_back(enhance_plane(plane_of(src, n, 0), recipe));
  }
  if (tolerance > 0.0) compare(src, wanted, recipe, false, tolerance, kPlain, "batch");
  for (const Kernels* kernels : kernels_) {
    Image alone(DType::f32, images, size.h, size.w, 1, kPlain), dst = alone;
    run(src, alone, recipe, false, 1, *kernels);
    for (int threads = 2; threads <= 3; ++threads) {
      run(src, dst, recipe, false, threads, *kernels);
      ++calls_;
      if (!dst.same_bytes(alone))
        fail(std::string(kernels->isa) + ": " + described(recipe, src, std::to_string(images) + " images") +
             ": other bytes by " + std::to_string(threads) + " threads than by one");
    }
  }
}

}  // namespace sdie::selftest
