// The Python module's table of contents. Arguments are checked in sdie_fast/_validate.py; here they are only typed.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <stdexcept>

#include "dispatch.h"
#include "enhance.h"

namespace nb = nanobind;
using namespace nb::literals;
using namespace sdie;

namespace {

using Source = nb::ndarray<nb::ro, nb::ndim<4>, nb::device::cpu>;
using Target = nb::ndarray<nb::ndim<4>, nb::device::cpu>;
using Weights = nb::ndarray<const float, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Image = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;

DType dtype_of(const nb::dlpack::dtype& d) {
  if (d == nb::dtype<std::uint8_t>()) return DType::u8;
  if (d == nb::dtype<std::uint16_t>()) return DType::u16;
  if (d == nb::dtype<float>()) return DType::f32;
  throw nb::type_error("images must be uint8, uint16 or float32");
}

template <class Array>
Batch batch_of(const Array& a) {
  const auto item = static_cast<std::ptrdiff_t>(a.itemsize());
  const auto size = [&](std::size_t k) { return static_cast<std::ptrdiff_t>(a.shape(k)); };
  return {dtype_of(a.dtype()),
          size(0),
          size(1),
          size(2),
          size(3),
          a.stride(0) * item,
          a.stride(1) * item,
          a.stride(2) * item,
          a.stride(3) * item,
          static_cast<unsigned char*>(const_cast<void*>(static_cast<const void*>(a.data())))};
}

Batch batch_of_image(const Image& a) {
  const std::ptrdiff_t item = sizeof(float);
  return {DType::f32,
          1,
          static_cast<std::ptrdiff_t>(a.shape(0)),
          static_cast<std::ptrdiff_t>(a.shape(1)),
          1,
          0,
          a.stride(0) * item,
          a.stride(1) * item,
          item,
          reinterpret_cast<unsigned char*>(const_cast<float*>(a.data()))};
}

template <class E>
E choice(const std::string& value, const char* name, const std::map<std::string, E>& choices) {
  const auto found = choices.find(value);
  if (found == choices.end()) throw nb::value_error((std::string(name) + ": unknown value '" + value + "'").c_str());
  return found->second;
}

void make_params(Params* p, int bilateral_window, int sharpen_window, int guided_window, float wls_lambda,
                 float wls_alpha, const std::string& wls_solver, float wls_tol, const std::string& wls_domain,
                 float bilateral_sigma_space, float bilateral_sigma_range, const std::string& bilateral_footprint,
                 float sharpen_amount, float sharpen_radius, float sharpen_threshold, float guided_eps,
                 const std::string& spatiogram_method, int spatiogram_bins, float spatiogram_clip_limit,
                 int spatiogram_tiles) {
  const auto window = [](int w) {
    if (w < 3 || w > 2 * kMaxRadius + 1 || w % 2 == 0) throw nb::value_error("windows must be odd, 3 to 15");
    return w;
  };
  if (spatiogram_bins < 2 || spatiogram_bins > kMaxBins) throw nb::value_error("spatiogram_bins must be 2 to 64");
  if (spatiogram_tiles < 1 || spatiogram_tiles > 64) throw nb::value_error("spatiogram_tiles must be 1 to 64");
  new (p) Params{
      window(bilateral_window),
      window(sharpen_window),
      window(guided_window),
      wls_lambda,
      wls_alpha,
      wls_tol,
      choice<WlsSolver>(wls_solver, "wls_solver", {{"exact", WlsSolver::exact}, {"fast", WlsSolver::fast}}),
      choice<WlsDomain>(wls_domain, "wls_domain",
                        {{"intensity", WlsDomain::intensity}, {"lightness", WlsDomain::lightness}}),
      bilateral_sigma_space,
      bilateral_sigma_range,
      choice<Footprint>(bilateral_footprint, "bilateral_footprint",
                        {{"square", Footprint::square}, {"disk", Footprint::disk}}),
      sharpen_amount,
      sharpen_radius,
      sharpen_threshold,
      guided_eps,
      choice<Spatiogram>(
          spatiogram_method, "spatiogram_method",
          {{"spatiogram", Spatiogram::spatiogram}, {"clahe", Spatiogram::clahe}, {"global", Spatiogram::global}}),
      spatiogram_bins,
      spatiogram_tiles,
      spatiogram_clip_limit};
}

void enhance_arrays(const Source& src, const Target& dst, const Weights& weights, const Params& params,
                    float white_level, bool per_channel, int threads, const std::string& isa) {
  const Batch in = batch_of(src), out = batch_of(dst);
  if (in.dtype != out.dtype || in.n != out.n || in.h != out.h || in.w != out.w || in.c != out.c)
    throw nb::value_error("src and dst must have one shape and dtype");
  if (in.c != 1 && in.c != 3) throw nb::value_error("the last axis must hold 1 or 3 channels");
  if (static_cast<std::ptrdiff_t>(weights.shape(0)) != in.n || weights.shape(1) < 1 || weights.shape(2) != kFilters)
    throw nb::value_error("weights must have shape (N, T, 6)");
  if (in.h < 1 || in.w < 1 || in.h > (1 << 30) / in.w) throw nb::value_error("an image must have 1 to 2^30 pixels");
  const Kernels& kernels = kernels_for(isa);
  const int rounds = static_cast<int>(weights.shape(1));
  nb::gil_scoped_release release;
  enhance(in, out, weights.data(), rounds, params, white_level, per_channel && in.c == 3, std::max(threads, 1),
          kernels);
}

nb::dict wls_info_of(const Image& image, const Params& params, const std::string& isa) {
  WlsInfo info;
  {
    const Kernels& kernels = kernels_for(isa);
    nb::gil_scoped_release release;
    info = wls_info(batch_of_image(image), params, kernels);
  }
  nb::dict d;
  d["iterations"] = info.iterations;
  d["residual"] = info.estimate;
  return d;
}

std::size_t workspace_bytes_of(int h, int w, const Params& params, const Weights& weights) {
  return workspace_bytes(h, w, weights.data(), static_cast<int>(weights.shape(1)), params, kernels_for(""));
}

std::vector<std::string> isas() {
  std::vector<std::string> names;
  for (const Kernels* k : runnable_kernels()) names.emplace_back(k->isa);
  return names;
}

nb::dict build_info() {
  nb::dict d;
  d["compiler"] = SDIE_COMPILER;
  d["build_type"] = SDIE_BUILD_TYPE;
  d["version"] = SDIE_VERSION;
  std::string all;
  for (const Kernels* k : runnable_kernels())
    all += (all.empty() ? "" : ", ") + std::string(k->isa) + " (" + std::to_string(k->lanes) + " lanes)";
  d["isas"] = all;
  return d;
}

}  // namespace

NB_MODULE(_core, m) {
  kernels_for("");  // a bad SDIE_FAST_ISA is told at import
  nb::class_<Params>(m, "Params")
      .def("__init__", &make_params, nb::kw_only(), "bilateral_window"_a, "sharpen_window"_a, "guided_window"_a,
           "wls_lambda"_a, "wls_alpha"_a, "wls_solver"_a, "wls_tol"_a, "wls_domain"_a, "bilateral_sigma_space"_a,
           "bilateral_sigma_range"_a, "bilateral_footprint"_a, "sharpen_amount"_a, "sharpen_radius"_a,
           "sharpen_threshold"_a, "guided_eps"_a, "spatiogram_method"_a, "spatiogram_bins"_a, "spatiogram_clip_limit"_a,
           "spatiogram_tiles"_a);
  m.def("enhance", &enhance_arrays, "src"_a.noconvert(), "dst"_a.noconvert(), "weights"_a.noconvert(), "params"_a,
        "white_level"_a, "per_channel"_a, "threads"_a, "isa"_a = "");
  m.def("wls_info", &wls_info_of, "image"_a.noconvert(), "params"_a, "isa"_a = "");
  m.def("workspace_bytes", &workspace_bytes_of, "height"_a, "width"_a, "params"_a, "weights"_a.noconvert());
  m.def("isas", &isas);
  m.def("active_isa", [] { return std::string(kernels_for("").isa); });
  m.def("build_info", &build_info);
}
