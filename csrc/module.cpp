// The Python module's table of contents. Arguments are checked in sdie_fast/_validate.py; here they are only typed.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <utility>

#include "cache.h"
#include "dispatch.h"
#include "gil.h"
#include "line/bindings.h"

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

DType dtype_named(const std::string& name) {
  if (name == "uint8") return DType::u8;
  if (name == "uint16") return DType::u16;
  if (name == "float32") return DType::f32;
  throw nb::value_error(("dtype: received '" + name + "'; accepted: uint8, uint16, float32").c_str());
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

// Whether a value is one that the parameter accepts; then it is `number`, a choice by its position.
bool accepts(const Parameter& parameter, nb::handle given, double& number) {
  std::string word;
  if (nb::try_cast(given, word)) {
    for (int k = 0; k < 4 && parameter.choices[k]; ++k)
      if (word == parameter.choices[k]) return number = k, true;
    return false;
  }
  if (parameter.choices[0] || !nb::try_cast(given, number)) return false;
  return parameter.accepts(number);
}

nb::object described(const Parameter& p, const std::string& name) {
  nb::list choices;
  for (int k = 0; k < 4 && p.choices[k]; ++k) choices.append(p.choices[k]);
  nb::object usual = choices.size() > 0 ? choices[0] : nb::cast(p.usual);
  return nb::make_tuple(name, p.kind, p.low, p.high, nb::tuple(choices), p.above, p.odd, usual);
}

// Calls f(parameter, its name among all) for the parameters of every filter, in the order of Params::values.
template <class F>
void each_parameter(F&& f) {
  const Kernels& kernels = kernels_for("");
  for (const FilterInfo* filter = kernels.filters; filter != kernels.filters + kernels.count; ++filter)
    for (int k = 0; k < filter->count; ++k)
      f(filter->parameters[k], std::string(filter->name) + "_" + filter->parameters[k].name);
}

void make_params(Params* self, const nb::dict& given) {
  Params params;
  each_parameter([&](const Parameter& parameter, const std::string& name) {
    const nb::object value = given.attr("get")(name);
    params.values.push_back(0.0);
    if (!given.contains(name) || !accepts(parameter, value, params.values.back()))
      throw nb::value_error(nb::str("{}: received {}; accepted (name, kind, range, choices, above, odd, usual): {}")
                                .format(name, value, described(parameter, name))
                                .c_str());
  });
  if (given.size() != params.values.size()) {
    nb::set unknown(given);
    each_parameter([&](const Parameter&, const std::string& name) { unknown.discard(name); });
    throw nb::value_error(nb::str("no filter has these parameters: {}").format(unknown).c_str());
  }
  new (self) Params(std::move(params));
}

nb::list parameters() {
  nb::list all;
  each_parameter([&](const Parameter& parameter, const std::string& name) { all.append(described(parameter, name)); });
  return all;
}

nb::tuple filters() {
  nb::list names;
  const Kernels& kernels = kernels_for("");
  for (int k = 0; k < kernels.count; ++k) names.append(kernels.filters[k].name);
  return nb::tuple(names);
}

void check_weights(const Weights& weights, const Batch& src, const Kernels& kernels) {
  const auto n = static_cast<std::size_t>(src.n), count = static_cast<std::size_t>(kernels.count);
  if (weights.shape(0) != n || weights.shape(1) < 1 || weights.shape(2) != count)
    throw nb::value_error(nb::str("weights: received shape ({}, {}, {}); accepted: ({}, T, {}), T >= 1")
                              .format(weights.shape(0), weights.shape(1), weights.shape(2), n, count)
                              .c_str());
}

void enhance_arrays(const Source& src, const Target& dst, const Weights& weights, const Params& params,
                    float white_level, bool per_channel, int threads, const std::string& isa) {
  const Kernels& kernels = kernels_for(isa);
  const Batch in = batch_of(src), out = batch_of(dst);
  check_weights(weights, in, kernels);
  const WithoutGil release;
  enhance(in, out, weights.data(), static_cast<int>(weights.shape(1)), params, white_level, per_channel && in.c == 3,
          std::max(threads, 1), kernels);
}

std::uint64_t bits_of(const std::vector<std::string>& names, const Kernels& kernels) {
  std::uint64_t bits = 0;
  for (const std::string& name : names) {
    int k = 0;
    while (k < kernels.count && name != kernels.filters[k].name) ++k;
    if (k == kernels.count)
      throw nb::value_error(nb::str("filters: received the unknown filter '{}'; accepted: {}")
                                .format(name, nb::str(", ").attr("join")(filters()))
                                .c_str());
    bits |= std::uint64_t{1} << k;
  }
  return bits;
}

void make_plan(Plan* self, const std::string& dtype, int height, int width, int channels, float white_level,
               const Params& params, const std::vector<std::string>& filters, int rounds, std::ptrdiff_t images,
               bool per_channel, int threads, bool pin, const std::string& isa) {
  const Kernels& kernels = kernels_for(isa);
  const Pixels pixels{dtype_named(dtype), channels, white_level};
  Spec spec{.kernels = &kernels,
            .h = height,
            .w = width,
            .src = pixels,
            .dst = pixels,
            .per_channel = per_channel && channels == 3,
            .filters = bits_of(filters, kernels),
            .rounds = rounds,
            .images = images,
            .threads = threads};
  const WithoutGil release;
  new (self) Plan(spec, params, Block(), {.cpus = pin ? cpus_for(threads) : std::vector<int>()});
}

double run_plan(Plan& plan, const Source& src, const Target& dst, const Weights& weights) {
  const Batch in = batch_of(src), out = batch_of(dst);
  check_weights(weights, in, *plan.spec().kernels);
  const WithoutGil release;
  return plan.run(in, out, weights.data(), static_cast<int>(weights.shape(1)));
}

nb::dict wls_info_of(const Image& image, const Params& params, const std::string& isa) {
  WlsInfo info;
  {
    const Kernels& kernels = kernels_for(isa);
    const WithoutGil release;
    info = wls_info(batch_of_image(image), params, kernels);
  }
  nb::dict d;
  d["iterations"] = info.iterations;
  d["residual"] = info.estimate;
  return d;
}

std::size_t workspace_bytes(int h, int w, const Params& params, const Weights& weights) {
  const Kernels& kernels = kernels_for("");
  const int rounds = static_cast<int>(weights.shape(1));
  return Plan::workspace(
      {.kernels = &kernels, .h = h, .w = w, .filters = filters_used(weights.data(), rounds, kernels), .rounds = rounds},
      params);
}

nb::dict cache_info_dict() {
  const CacheInfo info = cache_info();
  nb::dict d;
  d["plans"] = info.plans;
  d["bytes"] = info.bytes;
  return d;
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
  nb::class_<Params>(m, "Params").def("__init__", &make_params, "values"_a);
  m.def("filters", &filters);
  m.def("parameters", &parameters);
  m.def("enhance", &enhance_arrays, "src"_a.noconvert(), "dst"_a.noconvert(), "weights"_a.noconvert(), "params"_a,
        "white_level"_a, "per_channel"_a, "threads"_a, "isa"_a = "");
  nb::class_<Plan>(m, "Plan")
      .def("__init__", &make_plan, "dtype"_a, "height"_a, "width"_a, "channels"_a, "white_level"_a, "params"_a,
           nb::kw_only(), "filters"_a, "rounds"_a = 1, "images"_a = 0, "per_channel"_a = false, "threads"_a = 1,
           "pin"_a = false, "isa"_a = "")
      .def("run", &run_plan, "src"_a.noconvert(), "dst"_a.noconvert(), "weights"_a.noconvert())
      .def_prop_ro("bytes", &Plan::bytes)
      .def_prop_ro("threads", &Plan::threads);
  bind_line(m);
  m.def("clear_cache", &clear_cache, nb::call_guard<WithoutGil>());
  m.def("cache_info", &cache_info_dict);
  m.def("wls_info", &wls_info_of, "image"_a.noconvert(), "params"_a, "isa"_a = "");
  m.def("workspace_bytes", &workspace_bytes, "height"_a, "width"_a, "params"_a, "weights"_a.noconvert());
  m.def("isas", &isas);
  m.def("active_isa", [] { return std::string(kernels_for("").isa); });
  m.def("build_info", &build_info);
}
