// Images, and the parameters of filters as they come from Python: values, checked against what each filter declares.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sdie {

// How pixels lie in memory. u16 are also 10, 12 and 14 bits in words; the rest as GenICam's PFNC has them, for the
// line.
enum class DType { u8, u16, f32, mono10p, mono10packed, mono12p, mono12packed };

// Pixels of a picture.
struct Pixels {
  DType dtype = DType::u8;
  int c = 1;           // 1 or 3
  float white = 1.0f;  // the value that stands for intensity 1
  bool operator==(const Pixels&) const = default;
};

// A parameter as its filter declares it (filters/filter.inl).
struct Parameter {
  double low = 0.0, high = 0.0, usual = 0.0;
  bool above = false;  // low itself is not accepted
  bool odd = false;
  const char* choices[4] = {};  // ended by a null; none for a number; the first is the usual one
  const char* name = nullptr;
  const char* kind = nullptr;  // "integer", "real" or "choice"

  // Whether a number, of a choice its position, is one that it takes.
  bool accepts(double value) const {
    if (choices[0]) return value == 0.0 || (value > 0.0 && value < 4.0 && value == int(value) && choices[int(value)]);
    if (!(value >= low && value <= high) || (above && value == low)) return false;  // nor NaN
    if (kind[0] == 'i' && value != int(value)) return false;
    return !odd || int(value) % 2 != 0;
  }
};

struct FilterInfo {
  const char* name;
  int count = 0;
  Parameter parameters[6] = {};
};

// The parameters of every filter, one after another as declared; a choice is its position.
struct Params {
  std::vector<double> values;
};

// A batch of images in the caller's memory; strides are in bytes and may be negative or zero.
struct Batch {
  DType dtype;
  std::ptrdiff_t n, h, w, c;
  std::ptrdiff_t sn, sh, sw, sc;
  unsigned char* data;
};

// One grey plane or one interleaved colour image of a batch. c is 1 or 3.
struct View {
  DType dtype;
  int h, w, c;
  std::ptrdiff_t sh, sw, sc;
  unsigned char* data;
  float white;  // the value that stands for intensity 1
};

}  // namespace sdie
