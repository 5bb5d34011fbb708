// The pixel formats of the C interface.
#pragma once
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
};

// nullptr for an unknown one.
const Format* find_format(sdie_format id);
// Refuses an unknown one.
const Format& format_of(const char* name, sdie_format id);

// One picture in the caller's memory.
Batch picture(const Format& format, const void* data, std::ptrdiff_t stride, int height, int width);

}  // namespace sdie::line
