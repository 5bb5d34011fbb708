// What bench/instructions.py counts under callgrind: one call of the core for each filter and for rounds.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>
#include <vector>

#include "../cache.h"
#include "../dispatch.h"
#include "images.h"

// The function whose instructions are counted, by its name. A call of its own, however compilers inline.
extern "C" [[gnu::noinline, gnu::visibility("default")]] void sdie_counted(const sdie::Batch& src,
                                                                           const sdie::Batch& dst, float white,
                                                                           const sdie::selftest::Recipe& recipe,
                                                                           const sdie::Kernels& kernels) {
  sdie::enhance(src, dst, recipe.weights.data(), recipe.rounds, recipe.params, white, false, 1, kernels);
  asm volatile("" ::: "memory");  // nor turns the call above into a jump
}

namespace {

using namespace sdie;
using namespace sdie::selftest;

int count(int argc, char** argv) {
  if (argc != 5) {
    std::fputs("usage: sdie_count ISA PICTURE HEIGHT WIDTH   (PICTURE: a file of 8-bit pixels)\n", stderr);
    return 2;
  }
  const Kernels& kernels = kernels_for(argv[1]);
  const int h = std::atoi(argv[3]), w = std::atoi(argv[4]);
  std::ifstream file(argv[2], std::ios::binary);
  const std::vector<char> pixels{std::istreambuf_iterator<char>(file), {}};
  if (h < 1 || w < 1 || pixels.size() != static_cast<std::size_t>(h) * static_cast<std::size_t>(w)) {
    std::fprintf(stderr, "%s has %zu bytes, %s x %s needs another number\n", argv[2], pixels.size(), argv[3], argv[4]);
    return 2;
  }
  Image src(DType::u8, 1, h, w, 1, kPlain), dst = src;
  for (int y = 0; y < h; ++y)
    for (int x = 0; x < w; ++x)
      src.set(0, y, x, 0, static_cast<unsigned char>(pixels[static_cast<std::size_t>(y * w + x)]) / 255.0);

  const std::string fast = "wls_solver=fast bilateral_footprint=disk", exact = "bilateral_footprint=disk";
  const std::string round = "identity=1 wls=1 bilateral=1 sharpen=1 guided=1 spatiogram=1";
  const auto of = [&](const std::string& name, const Recipe& recipe, const Batch& from, const Batch& to, float white) {
    // The first call has memory to fetch.
    enhance(from, to, recipe.weights.data(), recipe.rounds, recipe.params, white, false, 1, kernels);
    sdie_counted(from, to, white, recipe, kernels);
    std::puts(name.c_str());
  };
  const auto one = [&](const std::string& name, const std::string& weights, const std::string& settings) {
    of(name, Recipe(kernels, weights, settings), src.batch(), dst.batch(), src.white());
  };
  std::puts(SDIE_COMPILER);
  for (int k = 0; k < kernels.count; ++k) {
    const std::string name = kernels.filters[k].name;
    one(name, name + "=1", fast);
  }
  one("round", round, fast);
  one("wls (exact)", "wls=1", exact);
  one("round (exact wls)", round, exact);

  // What converting pixels takes besides; which they are does not matter.
  const Recipe identity(kernels, "identity=1");
  for (const auto& [name, dtype, white, line] : {std::tuple{"Mono10p", DType::mono10p, 1023.0f, (10 * w + 7) / 8},
                                                 {"Mono10Packed", DType::mono10packed, 1023.0f, (12 * w + 7) / 8},
                                                 {"Mono12", DType::u16, 4095.0f, 2 * w},
                                                 {"Mono12p", DType::mono12p, 4095.0f, (12 * w + 7) / 8},
                                                 {"Mono12Packed", DType::mono12packed, 4095.0f, (12 * w + 7) / 8},
                                                 {"float32", DType::f32, 1.0f, 4 * w}}) {
    std::vector<unsigned char> from(static_cast<std::size_t>(line * h), 0x11), to(from.size());
    const auto batch = [&, &dtype = dtype, &line = line](std::vector<unsigned char>& bytes) {
      return Batch{dtype, 1, h, w, 1, 0, line, line / w, 0, bytes.data()};
    };
    of(std::string("identity (") + name + ")", identity, batch(from), batch(to), white);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return count(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sdie_count: %s\n", error.what());
    return 2;
  }
}
