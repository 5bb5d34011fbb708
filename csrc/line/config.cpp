#include "config.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "../dispatch.h"

namespace sdie::line {
namespace {

std::ptrdiff_t stride_of(const char* name, std::int64_t given, const Format& format, int width, int height) {
  if (given == 0) return static_cast<std::ptrdiff_t>(format.line_bytes(width));
  format.check_stride(name, given, width, height);
  return given;
}

Params parameters(const sdie_config& config, const Kernels& kernels) {
  Params params;
  for (int f = 0; f < kernels.count; ++f)
    for (int k = 0; k < kernels.filters[f].count; ++k) {
      const double value = config.parameters[params.values.size()];
      const Parameter& parameter = kernels.filters[f].parameters[k];
      if (!parameter.accepts(value))
        refuse(std::string("parameters: ") + kernels.filters[f].name + "_" + parameter.name, number(value),
               "what sdie_config_set accepts");
      params.values.push_back(value);
    }
  return params;
}

std::uint64_t filters_of(const sdie_config& config, const std::vector<float>& weights, const Kernels& kernels) {
  if (config.filters >> kernels.count != 0) refuse("filters", number(config.filters), "bits of the filters there are");
  return config.filters | filters_used(weights.data(), config.rounds, kernels);
}

Pixels pixels_of(const Format& format, float white) {
  Pixels pixels = format.pixels;
  if (white != 0.0f) pixels.white = white;
  return pixels;
}

Threads threads_of(const sdie_config& config) {
  Threads threads{.cpus = {}, .priority = config.priority, .pool = {config.parallel, config.pool}};
  if (config.cpu_count < 0 || config.cpu_count > 1024 || (config.cpu_count > 0) != (config.cpus != nullptr))
    refuse("cpu_count", number(config.cpu_count) + (config.cpus ? " of a list" : " without a list"),
           "as many as cpus has, or 0 and NULL");
  for (int k = 0; k < config.cpu_count; ++k) {
    if (config.cpus[k] < 0 || config.cpus[k] >= 1024)
      refuse("cpus", number(config.cpus[k]), "numbers of CPUs, 0 to 1023");
    threads.cpus.push_back(config.cpus[k]);
  }
  if (config.priority < 0 || config.priority > 99) refuse("priority", number(config.priority), "0 to 99");
  if (config.parallel && (config.cpu_count > 0 || config.priority > 0))
    refuse("parallel", "a pool beside cpus or a priority", "one of them: a pool's threads are the caller's");
  return threads;
}

const sdie_config& sized(const sdie_config& config) {
  if (config.width < 1 || config.height < 1 || config.width > (1 << 30) / config.height)
    refuse("size", number(config.width) + " x " + number(config.height) + " pixels", "1 to 2^30 pixels");
  return config;
}

}  // namespace

const Kernels& kernels_in_force() {
  if (runnable_kernels().empty())
    refuse(SDIE_CPU, "this processor is older than x86-64-v2 (SSE4.2), the least that is built");
  return kernels_for("");
}

sdie_config taken(const sdie_config* config) {
  sdie_config own;
  sdie_config_init(&own, sizeof own);
  take_struct("config", config, &own, sizeof own, kFirstConfig);
  return own;
}

std::vector<float> normalised(const float* weights, int rounds, int columns, const Kernels& kernels) {
  if (rounds < 1 || rounds > SDIE_MAX_ROUNDS) refuse("rounds", number(rounds), "1 to " + number(SDIE_MAX_ROUNDS));
  std::vector<float> rows(static_cast<std::size_t>(rounds * kernels.count));
  for (int t = 0; t < rounds; ++t) {
    const std::string round = "weights: round " + number(t + 1) + " of " + number(rounds);
    const float* const row = weights + static_cast<std::ptrdiff_t>(t) * columns;
    double sum = 0.0;
    for (int k = 0; k < columns; ++k) {
      if (!(row[k] >= 0.0f) || row[k] > std::numeric_limits<float>::max())
        refuse(round, number(row[k]), "finite numbers >= 0");
      if (k >= kernels.count && row[k] > 0.0f)
        refuse(round, "a weight for filter " + number(k), "0 to " + number(kernels.count - 1));
      sum += static_cast<double>(row[k]);
    }
    if (sum <= 0.0) refuse(round, "zeros alone", "a weight > 0 in each round");
    // Those that were scaled before stay as they are, to the bit: the rule of the Python library.
    double off = 0.0;
    for (int k = 0; k < columns; ++k)
      off = std::max(off, std::abs(static_cast<double>(row[k]) / sum - static_cast<double>(row[k])));
    for (int k = 0; k < std::min(columns, kernels.count); ++k)
      rows[static_cast<std::size_t>(t * kernels.count + k)] =
          off <= 0x1p-22 ? row[k] : static_cast<float>(static_cast<double>(row[k]) / sum);
  }
  return rows;
}

Setup::Setup(const sdie_config& c)
    : input(format_of("input", sized(c).input)),
      output(c.output == 0 ? input : format_of("output", c.output)),
      src_stride(stride_of("src_stride", c.src_stride, input, c.width, c.height)),
      dst_stride(stride_of("dst_stride", c.dst_stride, output, c.width, c.height)),
      weights(normalised(&c.weights[0][0], c.rounds, SDIE_MAX_FILTERS, kernels_in_force())),
      params(parameters(c, kernels_in_force())),
      threads(threads_of(c)) {
  if (!(c.white >= 0.0f) || c.white > input.pixels.white)
    refuse("white", number(c.white), "0 to " + number(input.pixels.white) + " for " + input.name);
  if (output.pixels.c == 3 && output.id != input.id)
    refuse("output", std::string(output.name) + " from " + input.name, "grey formats, or the input's own");
  if (c.warm_up < 0 || c.warm_up > 1000) refuse("warm_up", number(c.warm_up), "0 to 1000");
  if ((c.allocate == nullptr) != (c.release == nullptr)) refuse("allocate", "one without release", "both, or neither");
  const Kernels& kernels = kernels_in_force();
  spec = {.kernels = &kernels,
          .h = c.height,
          .w = c.width,
          .src = pixels_of(input, c.white),
          .dst = pixels_of(output, input.id == output.id ? c.white : 0.0f),
          .filters = filters_of(c, weights, kernels),
          .rounds = c.rounds,
          .images = 1,
          .threads = c.threads};
}

}  // namespace sdie::line

using namespace sdie::line;

sdie_status sdie_config_init(sdie_config* config, size_t size) {
  return guarded([&] {
    check_pointer("config", config, alignof(sdie_config));
    if (size < kFirstConfig || size > size_t{1} << 20)
      refuse(SDIE_STRUCT, "size: received " + number(size) + "; accepted: sizeof(sdie_config), " +
                              number(kFirstConfig) + " or more");
    std::memset(static_cast<void*>(config), 0, size);
    config->size = size;
    config->input = SDIE_MONO8;
    config->rounds = 1;
    config->weights[0][SDIE_IDENTITY] = 1.0f;
    config->threads = 1;
    config->warm_up = 2;
    const sdie::Kernels& kernels = kernels_in_force();
    double* value = config->parameters;
    for (int f = 0; f < kernels.count; ++f)
      for (int k = 0; k < kernels.filters[f].count; ++k) *value++ = kernels.filters[f].parameters[k].usual;
    return SDIE_OK;
  });
}
