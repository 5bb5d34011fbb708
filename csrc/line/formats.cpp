#include "formats.h"

namespace sdie::line {
namespace {

constexpr Format kFormats[] = {
    {SDIE_MONO8, "Mono8", {DType::u8, 1, 255.0f}, 8},
    {SDIE_MONO10, "Mono10", {DType::u16, 1, 1023.0f}, 16},
    {SDIE_MONO10P, "Mono10p", {DType::mono10p, 1, 1023.0f}, 10},
    {SDIE_MONO10PACKED, "Mono10Packed", {DType::mono10packed, 1, 1023.0f}, 12},
    {SDIE_MONO12, "Mono12", {DType::u16, 1, 4095.0f}, 16},
    {SDIE_MONO12P, "Mono12p", {DType::mono12p, 1, 4095.0f}, 12},
    {SDIE_MONO12PACKED, "Mono12Packed", {DType::mono12packed, 1, 4095.0f}, 12},
    {SDIE_MONO14, "Mono14", {DType::u16, 1, 16383.0f}, 16},
    {SDIE_MONO16, "Mono16", {DType::u16, 1, 65535.0f}, 16},
    {SDIE_RGB8, "RGB8", {DType::u8, 3, 255.0f}, 24},
    {SDIE_BGR8, "BGR8", {DType::u8, 3, 255.0f}, 24, true},
    {SDIE_FLOAT32, "float32", {DType::f32, 1, 1.0f}, 32},
};

bool same_word(const char* a, const char* b) {
  const auto small = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  for (; *a && small(*a) == small(*b); ++a, ++b) {
  }
  return *a == *b;
}

}  // namespace

std::size_t Format::alignment() const { return pixels.dtype == DType::f32 ? 4 : pixels.dtype == DType::u16 ? 2 : 1; }

void Format::check_stride(const std::string& argument, std::int64_t stride, int width, std::int64_t lines) const {
  constexpr std::int64_t kMost = std::int64_t{1} << 32;
  const auto least = static_cast<std::int64_t>(line_bytes(width)), unit = static_cast<std::int64_t>(alignment());
  if (lines > 1 && (stride < -kMost || stride > kMost || (stride < least && -stride < least)))
    refuse(argument, std::to_string(stride) + " bytes",
           std::to_string(least) + " to 2^32 for a line of " + std::to_string(width) + " pixels " + name +
               ", or minus that from the bottom up");
  if (stride % unit != 0)
    refuse(argument, std::to_string(stride) + " bytes", "multiples of " + std::to_string(unit) + " for " + name);
}

const Format* find_format(sdie_format id) {
  for (const Format& format : kFormats)
    if (format.id == id) return &format;
  return nullptr;
}

const Format& format_of(const char* name, sdie_format id) {
  if (const Format* format = find_format(id)) return *format;
  std::string names;
  for (const Format& format : kFormats) names += (names.empty() ? "" : ", ") + std::string(format.name);
  refuse(name, "the unknown format " + std::to_string(id), names);
}

Batch picture(const Format& format, const void* data, std::ptrdiff_t stride, int height, int width) {
  auto* bytes = static_cast<unsigned char*>(const_cast<void*>(data));
  const std::ptrdiff_t pixel = format.bits / 8;  // of the packed ones nothing uses it
  return {format.pixels.dtype,
          1,
          height,
          width,
          format.pixels.c,
          0,
          stride,
          pixel,
          format.blue_first ? -1 : pixel / format.pixels.c,
          bytes && format.blue_first ? bytes + 2 : bytes};
}

}  // namespace sdie::line

using namespace sdie::line;

const char* sdie_format_name(sdie_format format) {
  const Format* const found = find_format(format);
  return found ? found->name : nullptr;
}

sdie_format sdie_format_named(const char* name) {
  if (!name) return 0;
  for (const Format& format : kFormats)
    if (same_word(format.name, name)) return format.id;
  return 0;
}

size_t sdie_line_bytes(sdie_format format, int32_t width) {
  const Format* const found = find_format(format);
  return found && width > 0 ? found->line_bytes(width) : 0;
}
