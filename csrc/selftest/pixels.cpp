// Pixel formats: what the identity gives of each in each other one, bit for bit, by a reader that takes bit after bit
// from where the PFNC's text has it. Lines lie at every alignment between bytes that must not change, and right before
// memory that cannot be accessed.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../plan.h"
#include "recipe.h"

namespace sdie::selftest {
namespace {

bool passed;

void expect(bool right, const std::string& what) {
  if (right) return;
  std::printf("pixels: %s\n", what.c_str());
  passed = false;
}

struct Format {
  const char* name;
  DType dtype;
  int bits;
  int c = 1;
  bool reversed = false;
  double largest() const { return dtype == DType::f32 ? 1.0 : std::exp2(bits) - 1; }
};
constexpr Format kFormats[] = {
    {"Mono8", DType::u8, 8},
    {"Mono10", DType::u16, 10},
    {"Mono10p", DType::mono10p, 10},
    {"Mono10Packed", DType::mono10packed, 10},
    {"Mono12", DType::u16, 12},
    {"Mono12p", DType::mono12p, 12},
    {"Mono12Packed", DType::mono12packed, 12},
    {"Mono14", DType::u16, 14},
    {"Mono16", DType::u16, 16},
    {"float32", DType::f32, 32},
    {"RGB8", DType::u8, 8, 3},
    {"BGR8", DType::u8, 8, 3, true},
};

// Bytes of a word, 1 of a packed format.
constexpr std::size_t item_of(DType dtype) { return dtype == DType::u16 ? 2 : dtype == DType::f32 ? 4 : 1; }

// Byte and bit of bit `bit` of value k of a line.
std::pair<std::size_t, int> place(const Format& f, std::size_t k, int bit) {
  const std::size_t byte = k / 2 * 3;  // of a pair of packed values
  const int low = f.bits - 8;          // bits of each that are in the pair's middle byte
  switch (f.dtype) {
    case DType::mono10p:
    case DType::mono12p: {
      const std::size_t n = k * static_cast<std::size_t>(f.bits) + static_cast<std::size_t>(bit);
      return {n / 8, static_cast<int>(n % 8)};
    }
    case DType::mono10packed:
    case DType::mono12packed:
      if (bit < low) return {byte + 1, bit + (k % 2 ? 4 : 0)};
      return {k % 2 ? byte + 2 : byte, bit - low};
    default:
      return {k * item_of(f.dtype) + static_cast<std::size_t>(bit / 8), bit % 8};
  }
}

// Where value c of pixel x is among those of its line.
std::size_t index_of(const Format& f, int x, int c) {
  return static_cast<std::size_t>(x * f.c + (f.reversed ? f.c - 1 - c : c));
}

std::size_t line_bytes(const Format& f, int w) {
  std::size_t bytes = 0;
  for (std::size_t k = 0; k < static_cast<std::size_t>(w * f.c); ++k)
    for (int bit = 0; bit < static_cast<int>(f.dtype == DType::u16 ? 16 : f.bits); ++bit)
      bytes = std::max(bytes, place(f, k, bit).first + 1);
  return bytes;
}

std::uint32_t get(const Format& f, const unsigned char* line, std::size_t k) {
  std::uint32_t value = 0;
  for (int bit = 0; bit < (f.dtype == DType::u16 ? 16 : f.bits); ++bit) {
    const auto [byte, at] = place(f, k, bit);
    value |= static_cast<std::uint32_t>(line[byte] >> at & 1) << bit;
  }
  return value;
}

void set(const Format& f, unsigned char* line, std::size_t k, std::uint32_t value) {
  for (int bit = 0; bit < f.bits; ++bit) {
    const auto [byte, at] = place(f, k, bit);
    line[byte] = static_cast<unsigned char>(line[byte] | (value >> bit & 1) << at);
  }
}

// The intensity that value k of a line means.
double intensity(const Format& f, const unsigned char* line, std::size_t k, double white) {
  const std::uint32_t bits = get(f, line, k);
  const double v = f.dtype == DType::f32 ? static_cast<double>(std::bit_cast<float>(bits)) : bits;
  return v > 0.0 ? std::min(v / white, 1.0) : 0.0;  // NaN, too
}

// Memory that ends where access is denied.
class Pages {
 public:
  static constexpr std::size_t kRoom = std::size_t{1} << 16;
  Pages() {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    mapped_ = kRoom + page;
    void* const map = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) throw std::runtime_error("no memory for lines");
    data_ = static_cast<unsigned char*>(map);
    if (mprotect(data_ + kRoom, page, PROT_NONE) != 0) throw std::runtime_error("no page can be closed");
  }
  ~Pages() { munmap(data_, mapped_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  // A line that ends `gap` bytes before the end, among guards.
  unsigned char* place(std::size_t bytes, std::size_t gap) {
    std::memset(data_ + kRoom - bytes - gap - kGuards, kGuard, bytes + gap + kGuards);
    return data_ + kRoom - bytes - gap;
  }
  static bool guards_are_whole(const unsigned char* line, std::size_t bytes, std::size_t gap) {
    const auto whole = [](unsigned char b) { return b == kGuard; };
    return std::all_of(line - kGuards, line, whole) && std::all_of(line + bytes, line + bytes + gap, whole);
  }

 private:
  static constexpr unsigned char kGuard = 0xA5;
  static constexpr std::size_t kGuards = 128;
  unsigned char* data_ = nullptr;
  std::size_t mapped_ = 0;
};

View view_of(const Format& f, unsigned char* line, int w, double white) {
  const auto item = static_cast<std::ptrdiff_t>(item_of(f.dtype));
  return {f.dtype,
          1,
          w,
          f.c,
          0,
          item * f.c,
          f.reversed ? -item : item,
          line + (f.reversed ? 2 : 0),
          static_cast<float>(white)};
}

enum class Fill { random, ones, zeros };

void fill(const Format& f, unsigned char* line, std::size_t bytes, Fill how, std::mt19937& random) {
  for (std::size_t k = 0; k < bytes; ++k)
    line[k] = static_cast<unsigned char>(how == Fill::ones ? 0xff : how == Fill::zeros ? 0 : random());
  if (f.dtype != DType::f32 || how != Fill::random) return;  // whose ones are NaN
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
  constexpr float special[] = {-1.0f, -0.0f, 0.0f, 1.0f, 2.0f, kInfinity, -kInfinity, kNone, 1e-40f};
  for (std::size_t k = 0; k < bytes / sizeof(float); ++k) {
    const std::uint32_t r = static_cast<std::uint32_t>(random());
    const float v = r % 4 ? static_cast<float>(r >> 8) * (1.0f / (1 << 24)) : special[r / 4 % std::size(special)];
    std::memcpy(line + k * sizeof v, &v, sizeof v);
  }
}

class Check {
 public:
  explicit Check(const Kernels& kernels)
      : kernels_(kernels), recipe_(kernels, "identity=1"), memory_(std::size_t{1} << 20) {}

  // A line of one format into one of another.
  void line(const Format& from, const Format& to, int w, std::size_t gap, Fill how, double src_white = 0.0) {
    if (src_white == 0.0) src_white = from.largest();
    const double dst_white = &from == &to ? src_white : to.largest();
    const std::size_t src_bytes = line_bytes(from, w), dst_bytes = line_bytes(to, w);
    // Words lie where words may lie.
    const std::size_t src_gap = gap / item_of(from.dtype) * item_of(from.dtype);
    const std::size_t dst_gap = gap / item_of(to.dtype) * item_of(to.dtype);
    unsigned char* const src = src_.place(src_bytes, src_gap);
    unsigned char* const dst = dst_.place(dst_bytes, dst_gap);
    fill(from, src, src_bytes, how, random_);
    const std::vector<unsigned char> before(src, src + src_bytes);
    const Job job{view_of(from, src, w, src_white), view_of(to, dst, w, dst_white), recipe_.weights.data(), 1,
                  recipe_.params.values.data()};
    if (kernels_.workspace(job, 1) > memory_.size()) throw std::logic_error("the test's workspace is too small");
    kernels_.process(job, memory_.data(), Team(0, 1, nullptr), nullptr);

    const std::string what = std::string(kernels_.isa) + ": " + from.name + " to " + to.name + ", " +
                             std::to_string(w) + " pixels, " + std::to_string(gap) + " bytes before the end";
    expect(std::equal(before.begin(), before.end(), src), what + ": the source was written to");
    expect(Pages::guards_are_whole(dst, dst_bytes, dst_gap), what + ": written beside the line");
    std::vector<unsigned char> packed(dst_bytes, 0);
    for (int x = 0; x < w; ++x)
      for (int c = 0; c < to.c; ++c) {
        const std::size_t at = index_of(to, x, c);
        const std::uint32_t got = get(to, dst, at);
        set(to, packed.data(), at, got);
        if (!close(to, got, wanted(from, to, src, x, c, src_white) * dst_white))
          return expect(false, what + ": pixel " + std::to_string(x) + " is " + std::to_string(got) + ", not " +
                                   std::to_string(wanted(from, to, src, x, c, src_white) * dst_white));
      }
    expect(std::equal(packed.begin(), packed.end(), dst), what + ": bits that no pixel has are not 0");
  }

 private:
  static double wanted(const Format& from, const Format& to, const unsigned char* src, int x, int c, double white) {
    const auto channel = [&](int k) { return intensity(from, src, index_of(from, x, k), white); };
    if (from.c == 1) return channel(0);
    return to.c == 3 ? channel(c) : 0.299 * channel(0) + 0.587 * channel(1) + 0.114 * channel(2);
  }
  // Values of the same white are far from the border of rounding; others may lie on it.
  static bool close(const Format& f, std::uint32_t got, double value) {
    if (f.dtype == DType::f32) return std::abs(static_cast<double>(std::bit_cast<float>(got)) - value) < 2e-7;
    return got >= std::floor(value + 0.48) && got <= std::floor(value + 0.52);
  }

  const Kernels& kernels_;
  const Recipe recipe_;
  const Block memory_;
  Pages src_, dst_;
  std::mt19937 random_{7};
};

// Unpacking into words, packing of words, and both.
void packed_formats_at_every_alignment(const Kernels& kernels) {
  Check check(kernels);
  const auto all = [&](int w, std::size_t gap) {
    for (const Format& f : kFormats) {
      if (f.dtype < DType::mono10p) continue;
      const Format& words = f.bits == 10 ? kFormats[1] : kFormats[4];
      for (const Fill how : {Fill::random, Fill::ones}) {
        check.line(f, words, w, gap, how);
        check.line(words, f, w, gap, how);
        check.line(f, f, w, gap, how);
      }
    }
  };
  for (int w = 1; w <= 70; ++w)
    for (std::size_t gap = 0; gap < 64; ++gap) all(w, gap);
  for (const int tiles : {512, 1024, 2048})
    for (int w = tiles - 9; w <= tiles + 9; ++w)
      for (std::size_t gap = 0; gap < 64; gap += 21) all(w, gap);
}

void every_format_into_every_other(const Kernels& kernels) {
  Check check(kernels);
  for (const Format& from : kFormats)
    for (const Format& to : kFormats) {
      if (to.c > from.c) continue;
      for (const int w : {1, 2, 31, 70, 529})
        for (const Fill how : {Fill::random, Fill::ones, Fill::zeros}) {
          check.line(from, to, w, 0, how);
          check.line(from, to, w, 0, how, 0.75 * from.largest());
        }
    }
}

// Tiles of one line by different threads, lines apart and from the bottom; a plan gives what one thread gives.
void plans_in_packed_formats(const Kernels& kernels) {
  const Recipe recipe(kernels, "gaussian=1; identity=1 sharpen=1");
  constexpr int kHeight = 130, kWidth = 1027;
  for (const Format& f : kFormats) {
    if (f.dtype < DType::mono10p) continue;
    const auto line = static_cast<std::ptrdiff_t>(line_bytes(f, kWidth)), stride = line + 13;
    const auto white = static_cast<float>(f.largest());
    std::mt19937 random(3);
    std::vector<unsigned char> src(static_cast<std::size_t>(stride * kHeight)), one(src.size(), 0xA5), team = one;
    std::generate(src.begin(), src.end(), [&] { return static_cast<unsigned char>(random()); });
    const auto batch = [&](std::vector<unsigned char>& of) {
      return Batch{f.dtype, 1, kHeight, kWidth, 1, 0, -stride, 0, 0, of.data() + (kHeight - 1) * stride};
    };
    for (int threads = 1; threads <= 3; ++threads) {
      Plan plan({.kernels = &kernels,
                 .h = kHeight,
                 .w = kWidth,
                 .src = {f.dtype, 1, white},
                 .dst = {f.dtype, 1, white},
                 .filters = filters_used(recipe.weights.data(), recipe.rounds, kernels),
                 .rounds = recipe.rounds,
                 .images = 1,
                 .threads = threads},
                recipe.params);
      std::vector<unsigned char>& dst = threads == 1 ? one : team;
      plan.run(batch(src), batch(dst), recipe.weights.data(), recipe.rounds);
      bool whole = true;
      for (std::ptrdiff_t y = 0; y < kHeight; ++y)
        for (std::ptrdiff_t k = line; k < stride; ++k) whole &= dst[static_cast<std::size_t>(y * stride + k)] == 0xA5;
      const std::string what = std::string(kernels.isa) + ": " + f.name + " by " + std::to_string(threads) + " threads";
      expect(whole, what + ": written between lines");
      expect(threads == 1 || one == team, what + ": other bytes than by one");
    }
  }
}

// No filter sees what lies outside [0, 1]: a picture gives what it gives with its values brought back beforehand.
void values_outside_count_as_the_ends(const Kernels& kernels) {
  const Recipe recipe(kernels,
                      "identity=1 wls=1 bilateral=1 sharpen=1 guided=1 spatiogram=1 gamma=1 median=1 gaussian=1");
  constexpr int kHeight = 20, kWidth = 45;
  constexpr struct {
    Format format;
    std::uint32_t white;
  } cases[] = {{{"Mono8", DType::u8, 8}, 200},
               {{"Mono10", DType::u16, 16}, 1023},  // with bits above the ten
               {{"Mono10p", DType::mono10p, 10}, 700},
               {{"Mono12Packed", DType::mono12packed, 12}, 4000},
               {{"float32", DType::f32, 32}, 1},
               {{"RGB10", DType::u16, 16, 3}, 1023},
               {{"float32 in colour", DType::f32, 32, 3}, 1}};
  for (const auto& [f, white] : cases) {
    const std::size_t line = line_bytes(f, kWidth);
    std::vector<unsigned char> given(line * kHeight), back(given.size(), 0);
    std::mt19937 random(11);
    fill(f, given.data(), given.size(), Fill::random, random);
    for (std::size_t y = 0; y < kHeight; ++y)
      for (std::size_t k = 0; k < static_cast<std::size_t>(kWidth * f.c); ++k) {
        const unsigned char* const from = given.data() + y * line;
        const auto inside = static_cast<float>(intensity(f, from, k, 1.0));
        set(f, back.data() + y * line, k,
            f.dtype == DType::f32 ? std::bit_cast<std::uint32_t>(inside) : std::min(get(f, from, k), white));
      }
    const auto result = [&, &f = f, &white = white](std::vector<unsigned char>& src) {
      const auto item = static_cast<std::ptrdiff_t>(item_of(f.dtype)), stride = static_cast<std::ptrdiff_t>(line);
      std::vector<unsigned char> dst(src.size());
      const auto batch = [&](std::vector<unsigned char>& of) {
        return Batch{f.dtype, 1, kHeight, kWidth, f.c, 0, stride, item * f.c, item, of.data()};
      };
      const Pixels pixels{f.dtype, f.c, static_cast<float>(white)};
      Plan plan({.kernels = &kernels,
                 .h = kHeight,
                 .w = kWidth,
                 .src = pixels,
                 .dst = pixels,
                 .filters = filters_used(recipe.weights.data(), 1, kernels)},
                recipe.params);
      plan.run(batch(src), batch(dst), recipe.weights.data(), 1);
      return dst;
    };
    expect(result(given) == result(back),
           std::string(kernels.isa) + ": " + f.name + ": values outside [0, white] do not count as its ends");
  }
}

}  // namespace

bool pixels_selftest(const std::vector<const Kernels*>& chosen) {
  passed = true;
  for (const Kernels* kernels : chosen) {
    packed_formats_at_every_alignment(*kernels);
    every_format_into_every_other(*kernels);
    plans_in_packed_formats(*kernels);
    values_outside_count_as_the_ends(*kernels);
  }
  return passed;
}

}  // namespace sdie::selftest
