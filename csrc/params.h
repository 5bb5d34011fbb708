// What a caller asks for, already validated in Python: plain values, no defaults decided here twice.
#pragma once
#include <cstddef>
#include <cstdint>

namespace sdie {

enum class WlsSolver { exact, fast };
enum class WlsDomain { intensity, lightness };
enum class Footprint { square, disk };
enum class Spatiogram { spatiogram, clahe, global };
enum class DType { u8, u16, f32 };

constexpr int kMaxRadius = 7;  // window 15
constexpr int kMaxBins = 64;   // spatiogram bins
constexpr int kLevels = 256;   // histogram equalisation works on 256 levels
constexpr int kMaxTaps = (2 * kMaxRadius + 1) * (2 * kMaxRadius + 1);

enum Filter { kIdentity, kWls, kBilateral, kSharpen, kGuided, kSpatiogram, kFilters };

struct Params {
  int bilateral_window = 7, sharpen_window = 7, guided_window = 7;
  float wls_lambda = 1.0f, wls_alpha = 1.2f, wls_tol = 1.0f / 510.0f;
  WlsSolver wls_solver = WlsSolver::exact;
  WlsDomain wls_domain = WlsDomain::intensity;
  float bilateral_sigma_space = 1.5f, bilateral_sigma_range = 0.1f;
  Footprint bilateral_footprint = Footprint::square;
  float sharpen_amount = 0.8f, sharpen_radius = 1.5f, sharpen_threshold = 0.0f;
  float guided_eps = 0.01f;
  Spatiogram spatiogram_method = Spatiogram::spatiogram;
  int spatiogram_bins = 32, spatiogram_tiles = 5;
  float spatiogram_clip_limit = 1.0f;
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
