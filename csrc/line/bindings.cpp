// Plans and streams of the line in the Python module: the functions of include/sdie_fast.h over the buffers of NumPy's
// arrays, which are read and written where they lie.
#include "bindings.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../gil.h"
#include "lines.h"
#include "sdie_fast.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace sdie {
namespace {

using Weights = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// Passes what is no refusal, and raises the rest.
sdie_status checked(sdie_status status) {
  if (status >= SDIE_OK) return status;
  char why[1024] = "";
  const std::string words = sdie_message(why, sizeof why) > 0 ? why : sdie_status_text(status);
  switch (status) {
    case SDIE_INVALID:
    case SDIE_STRUCT:
      fail("InvalidArgumentError", words);
    case SDIE_FILE:
      fail("RecipeError", words);
    case SDIE_BUSY:
      fail("BusyError", words);
    case SDIE_CPU:
      fail("BackendUnavailableError", words);
    case SDIE_MEMORY:
      PyErr_SetString(PyExc_MemoryError, words.c_str());
      throw nb::python_error();
    default:
      fail("LineError", words);
  }
}

sdie_format format_named(const char* name, const std::string& given) {
  const sdie_format format = sdie_format_named(given.c_str());
  if (format) return format;
  std::string known;
  for (sdie_format k = 1; sdie_format_name(k); ++k) known += (k > 1 ? ", " : "") + std::string(sdie_format_name(k));
  fail("InvalidArgumentError", std::string(name) + ": received '" + given + "'; accepted: " + known);
}

struct Config {
  sdie_config c;
  std::vector<std::int32_t> cpus;
};

void make_config(Config* self, std::int32_t width, std::int32_t height, const std::string& input,
                 const std::optional<std::string>& output, float white, std::int32_t threads,
                 std::vector<std::int32_t> cpus, std::int32_t priority, std::uint64_t deadline_ns,
                 std::int32_t warm_up) {
  Config config{{}, std::move(cpus)};
  sdie_config& c = config.c;
  checked(sdie_config_init(&c, sizeof c));
  c.width = width;
  c.height = height;
  c.input = format_named("input", input);
  c.output = output ? format_named("output", *output) : 0;
  c.white = white;
  c.threads = threads;
  c.priority = priority;
  c.deadline_ns = deadline_ns;
  c.warm_up = warm_up;
  new (self) Config(std::move(config));
  if (!self->cpus.empty()) {
    self->c.cpus = self->cpus.data();
    self->c.cpu_count = static_cast<std::int32_t>(self->cpus.size());
  }
}

void set_recipe(Config& self, const Weights& weights, const nb::dict& parameters) {
  sdie_config& c = self.c;
  if (weights.shape(0) > SDIE_MAX_ROUNDS || weights.shape(1) > SDIE_MAX_FILTERS)
    fail("InvalidArgumentError", "weights: received " + std::to_string(weights.shape(0)) + " rounds; accepted: 1 to " +
                                     std::to_string(SDIE_MAX_ROUNDS));
  c.rounds = static_cast<std::int32_t>(weights.shape(0));
  std::memset(c.weights, 0, sizeof c.weights);
  for (std::size_t t = 0; t < weights.shape(0); ++t)
    std::copy_n(weights.data() + t * weights.shape(1), weights.shape(1), c.weights[t]);
  for (const auto [name, value] : parameters)
    checked(sdie_config_set(&c, nb::cast<std::string>(name).c_str(), nb::cast<std::string>(value).c_str()));
}

// A plan or a stream of the C library. Calls in it are counted under the GIL: what closes it then cannot meet one that
// has let the GIL go.
template <class T, sdie_status (*destroy)(T*)>
class Owner {
 public:
  Owner(const char* name, Row in, Row out) : in_(in), out_(out), name_(name) {}
  ~Owner() {
    if (!handle_) return;
    const WithoutGil release;
    destroy(handle_);
  }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  T* open() const {
    if (!handle_)
      fail("InvalidArgumentError", std::string(name_) + ": received one that was closed; accepted: an open one");
    return handle_;
  }
  // What f(handle) gives, without the GIL meanwhile.
  template <class F>
  sdie_status call(const F& f) {
    T* handle = open();
    sdie_status status;
    ++calls_;
    {
      const WithoutGil release;
      status = f(handle);
    }
    --calls_;
    return checked(status);
  }
  void close() {
    if (!handle_) return;
    if (calls_)
      fail("BusyError", std::string(name_) + ": another thread is in it; accepted: closing it after the call");
    T* handle = std::exchange(handle_, nullptr);  // so that nobody begins a call meanwhile
    sdie_status status;
    {
      const WithoutGil release;
      status = destroy(handle);
    }
    checked(status);
  }

 protected:
  T* handle_ = nullptr;
  const Row in_, out_;

 private:
  const char* name_;
  int calls_ = 0;
};

nb::tuple told(const sdie_stats& s) {
  return nb::make_tuple(s.frames, s.late, s.shortened, s.unenhanced, s.rounds, s.refused, s.min_ns, s.p50_ns, s.p90_ns,
                        s.p99_ns, s.p999_ns, s.max_ns, s.mean_ns);
}

sdie_format output_of(const Config& config) { return config.c.output ? config.c.output : config.c.input; }

class LinePlan : public Owner<sdie_plan, &sdie_plan_destroy> {
 public:
  explicit LinePlan(const Config& config)
      : Owner("plan", row_of(config.c.input, config.c.width), row_of(output_of(config), config.c.width)),
        height_(config.c.height) {
    sdie_status status;
    {
      const WithoutGil release;
      status = sdie_plan_create(&config.c, &handle_);
    }
    checked(status);
  }

  nb::tuple run(nb::handle frame, nb::handle out, std::optional<std::uint64_t> since_ns) {
    const Lines src("frame", frame, in_, height_, false), dst("out", out, out_, height_, true);
    sdie_report r = {};
    r.size = sizeof r;
    call([&](sdie_plan* plan) {
      return since_ns ? sdie_plan_run_since(plan, src.data(), src.stride(), dst.data(), dst.stride(), *since_ns, &r)
                      : sdie_plan_run(plan, src.data(), src.stride(), dst.data(), dst.stride(), &r);
    });
    return nb::make_tuple(r.rounds, r.wanted, r.reason, r.late != 0, r.latency_ns, r.busy_ns, r.next_ns);
  }
  void set_weights(const Weights& weights) {
    checked(sdie_plan_set_weights(open(), weights.data(), static_cast<std::int32_t>(weights.shape(0)),
                                  static_cast<std::int32_t>(weights.shape(1))));
  }
  nb::tuple stats() const {
    sdie_stats s = {};
    s.size = sizeof s;
    checked(sdie_plan_stats(open(), &s));
    return told(s);
  }
  std::uint64_t percentile(double percentile) const { return sdie_plan_percentile(open(), percentile); }
  void reset_stats() { checked(sdie_plan_reset_stats(open())); }

 private:
  const Py_ssize_t height_;
};

class LineStream : public Owner<sdie_stream, &sdie_stream_destroy> {
 public:
  LineStream(const Config& config, std::int32_t strip, std::int32_t context, std::int32_t statistics,
             std::int32_t half_life, std::int32_t capacity)
      : Owner("stream", row_of(config.c.input, config.c.width), row_of(output_of(config), config.c.width)) {
    sdie_stream_config c;
    checked(sdie_stream_config_init(&c, sizeof c));
    c.frame = &config.c;
    c.strip = strip;
    c.context = context;
    c.statistics = statistics;
    c.half_life = half_life;
    c.capacity = capacity;
    sdie_status status;
    {
      const WithoutGil release;
      status = sdie_stream_create(&c, &handle_);
    }
    checked(status);
  }

  std::int64_t push(nb::handle lines) {
    const Lines src("lines", lines, in_, -1, false);
    std::int64_t taken = 0;
    call([&](sdie_stream* s) { return sdie_stream_push(s, src.data(), src.stride(), src.count(), &taken); });
    return taken;
  }
  std::int64_t pull(nb::handle out) {
    const Lines dst("out", out, out_, -1, true);
    std::int64_t got = 0;
    call([&](sdie_stream* s) { return sdie_stream_pull(s, dst.data(), dst.stride(), dst.count(), &got); });
    return got;
  }
  bool finish() { return call(&sdie_stream_finish) == SDIE_OK; }
  void learn(nb::handle lines) {
    const Lines src("lines", lines, in_, -1, false);
    call([&](sdie_stream* s) { return sdie_stream_learn(s, src.data(), src.stride(), src.count()); });
  }
  void set_weights(const Weights& weights) {
    checked(sdie_stream_set_weights(open(), weights.data(), static_cast<std::int32_t>(weights.shape(0)),
                                    static_cast<std::int32_t>(weights.shape(1))));
  }
  nb::tuple stats() const {
    sdie_stats s = {};
    s.size = sizeof s;
    checked(sdie_stream_stats(open(), &s));
    return told(s);
  }
  std::int32_t latency() const { return sdie_stream_latency(open()); }
  std::int32_t context() const { return sdie_stream_context(open()); }
};

nb::tuple line_formats() {
  nb::list names;
  for (sdie_format k = 1; sdie_format_name(k); ++k) names.append(sdie_format_name(k));
  return nb::tuple(names);
}

nb::tuple line_layout(const std::string& format, std::int32_t width) {
  const Row row = row_of(format_named("format", format), width);
  if (row.width < 1)
    fail("InvalidArgumentError", "width: received " + std::to_string(width) + "; accepted: 1 and more");
  return nb::make_tuple(dtype_of(row),
                        row.channels ? nb::make_tuple(row.width, row.channels) : nb::make_tuple(row.width));
}

}  // namespace

void bind_line(nb::module_& m) {
  nb::class_<Config>(m, "LineConfig")
      .def("__init__", &make_config, nb::kw_only(), "width"_a, "height"_a, "input"_a, "output"_a.none(), "white"_a,
           "threads"_a, "cpus"_a, "priority"_a, "deadline_ns"_a, "warm_up"_a)
      .def(
          "load", [](Config& self, const std::string& path) { checked(sdie_config_load(&self.c, path.c_str())); },
          "path"_a)
      .def("set_recipe", &set_recipe, "weights"_a.noconvert(), "parameters"_a)
      .def("allow", [](Config& self, std::uint32_t filters) { self.c.filters = filters; }, "filters"_a);
  nb::class_<LinePlan>(m, "LinePlan")
      .def(nb::init<const Config&>(), "config"_a)
      .def("run", &LinePlan::run, "frame"_a.none(), "out"_a.none(), "since_ns"_a.none())
      .def("set_weights", &LinePlan::set_weights, "weights"_a.noconvert())
      .def("stats", &LinePlan::stats)
      .def("percentile", &LinePlan::percentile, "percentile"_a)
      .def("reset_stats", &LinePlan::reset_stats)
      .def("close", &LinePlan::close);
  nb::class_<LineStream>(m, "LineStream")
      .def(nb::init<const Config&, std::int32_t, std::int32_t, std::int32_t, std::int32_t, std::int32_t>(), "config"_a,
           "strip"_a, "context"_a, "statistics"_a, "half_life"_a, "capacity"_a)
      .def("push", &LineStream::push, "lines"_a.none())
      .def("pull", &LineStream::pull, "out"_a.none())
      .def("finish", &LineStream::finish)
      .def("learn", &LineStream::learn, "lines"_a.none())
      .def("set_weights", &LineStream::set_weights, "weights"_a.noconvert())
      .def("stats", &LineStream::stats)
      .def("close", &LineStream::close)
      .def_prop_ro("latency", &LineStream::latency)
      .def_prop_ro("context", &LineStream::context);
  m.def("line_formats", &line_formats);
  m.def("line_layout", &line_layout, "format"_a, "width"_a);
}

}  // namespace sdie
