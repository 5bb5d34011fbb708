// Pictures to try, and how they lie in memory.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../cache.h"
#include "oracle.h"
#include "recipe.h"

namespace sdie::selftest {

// Kinds of picture: what makes kernels go wrong. Intensities in [0, 1]; the same for the same seed on any machine.
enum class Scene { noise, scratches, flat, extremes, patches, halves };
constexpr Scene kScenes[] = {Scene::noise,    Scene::scratches, Scene::flat,
                             Scene::extremes, Scene::patches,   Scene::halves};
const char* name_of(Scene scene);
Plane draw(Scene scene, int h, int w, unsigned seed);

// How an image lies in its buffer: pixels `step` apart, `pad` elements between rows, the first after `offset` elements.
struct Layout {
  const char* name;
  int step = 1, pad = 0, offset = 0;
  bool upside_down = false, mirrored = false;
  bool planar = false;  // channels one plane after another
};
constexpr Layout kPlain{.name = "plain"};
constexpr Layout kLayouts[] = {
    kPlain,
    {.name = "misaligned, padded rows", .pad = 5, .offset = 3},
    {.name = "every second pixel, upside down", .step = 2, .pad = 1, .offset = 1, .upside_down = true},
    {.name = "mirrored, planar", .offset = 2, .mirrored = true, .planar = true},
};

// n images of h x w x c in a buffer of their own, whose bytes between pixels are kGuard.
class Image {
 public:
  Image(DType dtype, int n, int h, int w, int c, const Layout& layout);
  Image(const Image& other);
  Image& operator=(const Image&) = delete;
  Batch batch() const { return batch_; }
  float white() const { return batch_.dtype == DType::u8 ? 255.0f : batch_.dtype == DType::u16 ? 65535.0f : 1.0f; }
  double get(int n, int y, int x, int c) const;            // as stored
  void set(int n, int y, int x, int c, double intensity);  // scaled and rounded
  void fill(int n, int c, const Plane& plane);
  bool guards_are_whole() const;  // nothing was written between pixels
  bool same_bytes(const Image& other) const { return bytes_ == other.bytes_; }

 private:
  unsigned char* pixel(int n, int y, int x, int c) const;
  int item_;
  std::vector<unsigned char> bytes_;
  Batch batch_;
};

const char* name_of(DType dtype);

// The one call of the core's interface.
void run(const Image& src, Image& dst, const Recipe& recipe, bool per_channel, int threads, const Kernels& kernels);

}  // namespace sdie::selftest
