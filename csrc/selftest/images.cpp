#include "images.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

namespace sdie::selftest {

namespace {

constexpr unsigned char kGuard = 0xA5;

// Uniform in [0, 1). The standard's distributions differ between libraries; its engines do not.
class Uniform {
 public:
  explicit Uniform(unsigned seed) : engine_(seed) {}
  double operator()() { return static_cast<double>(engine_()) / 4294967296.0; }
  int below(int n) { return static_cast<int>((*this)() * n); }

 private:
  std::mt19937 engine_;
};

}  // namespace

const char* name_of(Scene scene) {
  switch (scene) {
    case Scene::noise:
      return "noise";
    case Scene::scratches:
      return "scratches";
    case Scene::flat:
      return "flat";
    case Scene::extremes:
      return "extremes";
    case Scene::patches:
      return "patches";
    case Scene::halves:
      return "halves";
  }
  return "?";
}

const char* name_of(DType dtype) { return dtype == DType::u8 ? "uint8" : dtype == DType::u16 ? "uint16" : "float32"; }

Plane draw(Scene scene, int h, int w, unsigned seed) {
  Uniform random(seed);
  Plane g(h, w);
  const double slope = random(), phase = random(), level = random();
  const int cut = 1 + random.below(std::max(w - 1, 1));
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x) {
      double& v = g(y, x);
      switch (scene) {
        case Scene::noise:
          v = random();
          break;
        case Scene::scratches: {  // strip steel: texture along x, a gradient, thin bright and dark lines
          v = 0.4 + 0.1 * std::sin(x / 5.0 + 6.0 * phase) + 0.2 * x / w * slope + 0.08 * (random() - 0.5);
          const double across = std::fmod(x + y * slope, 29.0);
          if (across < 1.5) v = 0.95;
          if (across > 14.0 && across < 16.0) v = 0.03;
          break;
        }
        case Scene::flat:
          v = level;
          break;
        case Scene::extremes: {  // 1e-35 is a normal number whose square is none
          constexpr double values[] = {0.0, 1.0, 1e-7, 1e-35, 0.5};
          v = values[random.below(5)];
          break;
        }
        case Scene::patches:  // few levels: equal neighbours, which WLS couples 1e4-fold, beside steps
          v = random.below(4) / 3.0;
          break;
        case Scene::halves:
          v = (x < cut ? 0.3 : 0.7) + 0.02 * (random() - 0.5);
          break;
      }
    }
  return g;
}

Image::Image(DType dtype, int n, int h, int w, int c, const Layout& layout)
    : item_(dtype == DType::u8    ? 1
            : dtype == DType::u16 ? 2
                                  : 4) {
  const int between = layout.planar ? 1 : c;
  const std::ptrdiff_t row = static_cast<std::ptrdiff_t>(w) * layout.step * between + layout.pad;
  const std::ptrdiff_t plane = row * h, image = layout.planar ? plane * c : plane;
  bytes_.assign(static_cast<std::size_t>((image * n + layout.offset + layout.pad) * item_), kGuard);
  batch_ = {dtype,
            n,
            h,
            w,
            c,
            image * item_,
            row * item_,
            static_cast<std::ptrdiff_t>(layout.step) * between * item_,
            (layout.planar ? plane : 1) * item_,
            bytes_.data() + static_cast<std::ptrdiff_t>(layout.offset) * item_};
  if (layout.upside_down) {
    batch_.data += (h - 1) * batch_.sh;
    batch_.sh = -batch_.sh;
  }
  if (layout.mirrored) {
    batch_.data += (w - 1) * batch_.sw;
    batch_.sw = -batch_.sw;
  }
}

Image::Image(const Image& other) : item_(other.item_), bytes_(other.bytes_), batch_(other.batch_) {
  batch_.data = bytes_.data() + (other.batch_.data - other.bytes_.data());
}

unsigned char* Image::pixel(int n, int y, int x, int c) const {
  return batch_.data + n * batch_.sn + y * batch_.sh + x * batch_.sw + c * batch_.sc;
}

double Image::get(int n, int y, int x, int c) const {
  const unsigned char* at = pixel(n, y, x, c);
  if (batch_.dtype == DType::u8) return *at;
  if (batch_.dtype == DType::u16) {
    std::uint16_t v;
    std::memcpy(&v, at, sizeof v);
    return v;
  }
  float v;
  std::memcpy(&v, at, sizeof v);
  return static_cast<double>(v);
}

void Image::set(int n, int y, int x, int c, double intensity) {
  unsigned char* at = pixel(n, y, x, c);
  const double scaled = std::floor(intensity * static_cast<double>(white()) + 0.5);
  if (batch_.dtype == DType::u8) {
    *at = static_cast<unsigned char>(scaled);
  } else if (batch_.dtype == DType::u16) {
    const auto v = static_cast<std::uint16_t>(scaled);
    std::memcpy(at, &v, sizeof v);
  } else {
    const auto v = static_cast<float>(intensity);
    std::memcpy(at, &v, sizeof v);
  }
}

void Image::fill(int n, int c, const Plane& plane) {
  for (int y = 0; y < plane.h; ++y)
    for (int x = 0; x < plane.w; ++x) set(n, y, x, c, plane(y, x));
}

bool Image::guards_are_whole() const {
  std::vector<unsigned char> rest = bytes_;
  for (int n = 0; n < batch_.n; ++n)
    for (int y = 0; y < batch_.h; ++y)
      for (int x = 0; x < batch_.w; ++x)
        for (int c = 0; c < batch_.c; ++c)
          std::memset(rest.data() + (pixel(n, y, x, c) - bytes_.data()), kGuard, static_cast<std::size_t>(item_));
  return std::all_of(rest.begin(), rest.end(), [](unsigned char b) { return b == kGuard; });
}

void run(const Image& src, Image& dst, const Recipe& recipe, bool per_channel, int threads, const Kernels& kernels) {
  std::vector<float> weights;
  for (int n = 0; n < src.batch().n; ++n) weights.insert(weights.end(), recipe.weights.begin(), recipe.weights.end());
  enhance(src.batch(), dst.batch(), weights.data(), recipe.rounds, recipe.params, src.white(),
          per_channel && src.batch().c == 3, threads, kernels);
}

}  // namespace sdie::selftest
