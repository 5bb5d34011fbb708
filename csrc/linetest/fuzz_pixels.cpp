// libFuzzer: bytes as lines of a packed format, against a reader that takes them apart bit by bit.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../../include/sdie_fast.h"

namespace {

struct Packed {
  sdie_format format, words;
  unsigned bits;
  bool middle;  // the low bits of two pixels in the middle one of three bytes
};
constexpr Packed kFormats[] = {{SDIE_MONO10P, SDIE_MONO10, 10, false},
                               {SDIE_MONO10PACKED, SDIE_MONO10, 10, true},
                               {SDIE_MONO12P, SDIE_MONO12, 12, false},
                               {SDIE_MONO12PACKED, SDIE_MONO12, 12, true}};

unsigned pixel(const Packed& f, const unsigned char* line, std::size_t x) {
  unsigned value = 0;
  for (unsigned bit = 0; bit < f.bits; ++bit) {
    const unsigned low = f.bits - 8;
    std::size_t at = x * f.bits + bit;
    if (f.middle && bit < low) at = (x / 2 * 3 + 1) * 8 + x % 2 * 4 + bit;
    if (f.middle && bit >= low) at = (x / 2 * 3 + x % 2 * 2) * 8 + bit - low;
    value |= (line[at / 8] >> at % 8 & 1u) << bit;
  }
  return value;
}

// The identity from one format into another.
std::vector<unsigned char> converted(const std::vector<unsigned char>& src, sdie_format input, sdie_format output,
                                     std::int32_t width, std::int32_t height) {
  sdie_config config;
  sdie_plan* plan = nullptr;
  if (sdie_config_init(&config, sizeof config) != SDIE_OK) std::abort();
  config.width = width;
  config.height = height;
  config.input = input;
  config.output = output;
  config.warm_up = 0;
  std::vector<unsigned char> dst(sdie_line_bytes(output, width) * static_cast<std::size_t>(height), 0xff);
  if (sdie_plan_create(&config, &plan) != SDIE_OK) std::abort();
  if (sdie_plan_run(plan, src.data(), 0, dst.data(), 0, nullptr) != SDIE_OK) std::abort();
  if (sdie_plan_destroy(plan) != SDIE_OK) std::abort();
  return dst;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  if (size < 4) return 0;
  const Packed& f = kFormats[data[0] % 4];
  const std::int32_t width = 1 + (data[1] | data[2] << 8) % 1100;
  const std::size_t line = sdie_line_bytes(f.format, width);
  const auto height = static_cast<std::int32_t>(std::size_t{1} + (size - 3) / line % 4);
  std::vector<unsigned char> src(line * static_cast<std::size_t>(height));
  for (std::size_t k = 0; k < src.size(); ++k) src[k] = data[3 + k % (size - 3)];
  const std::vector<unsigned char> words = converted(src, f.format, f.words, width, height);
  const std::vector<unsigned char> back = converted(words, f.words, f.format, width, height);
  for (std::size_t y = 0; y < static_cast<std::size_t>(height); ++y)
    for (std::size_t x = 0; x < static_cast<std::size_t>(width); ++x) {
      std::uint16_t word;
      std::memcpy(&word, words.data() + 2 * (y * static_cast<std::size_t>(width) + x), sizeof word);
      if (word != pixel(f, src.data() + y * line, x) || word != pixel(f, back.data() + y * line, x)) std::abort();
    }
  return 0;
}
