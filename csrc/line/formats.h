// The pixel formats of the C interface.
#pragma once
#include <cstdint>
#include <string>

#include "../params.h"
#include "status.h"

namespace sdie::line {

struct Format {
  sdie_format id;
  const char* name;
  Pixels pixels;
  int bits;  // of a pixel
  bool blue_first = false;

  std::size_t line_bytes(int width) const {
    return (static_cast<std::size_t>(width) * static_cast<unsigned>(bits) + 7) / 8;
  }
  std::size_t alignment() const;
  // Refuses what cannot be the bytes from line to line: within a line, between its words, or past all memory.
  void check_stride(const std::string& argument, std::int64_t stride, int width, std::int64_t lines) const;
};

// nullptr for an unknown one.
const Format* find_format(sdie_format id);
// Refuses an unknown one.
const Format& format_of(const char* name, sdie_format id);

// One picture in the caller's memory.
Batch picture(const Format& format, const void* data, std::ptrdiff_t stride, int height, int width);

}  // namespace sdie::line
