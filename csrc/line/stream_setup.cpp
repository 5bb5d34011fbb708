// A stream's configuration: its checks, and how many lines of context a recipe needs.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "stream.h"

namespace sdie::line {
namespace {

constexpr std::size_t kFirst = sizeof(sdie_stream_config);  // of interface 1.0

std::size_t in_lines_of_cache(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

double parameter(const Setup& plan, int filter, const std::string& name) {
  const double* value = plan.params.values.data();
  for (int f = 0; f < filter; ++f) value += plan.spec.kernels->filters[f].count;
  const FilterInfo& info = plan.spec.kernels->filters[filter];
  for (int k = 0; k < info.count; ++k, ++value)
    if (info.parameters[k].name == name) return *value;
  refuse(SDIE_INTERNAL, "no parameter " + name);
}

// What keeps photographs within half a grey level of the whole web, by measurement (bench/stream.py), for rounds of WLS
// that sum to some weight. Smoothing adds up as one of the lambdas' sum does, until pictures are so smooth that later
// rounds reach further.
double context_of_wls(double lambda, double rounds) {
  return std::sqrt(lambda) * std::max(144.0 * std::sqrt(rounds), 72.0 * rounds);
}

int context_of(const Setup& plan, const sdie_config& frame, int statistics) {
  const Kernels& kernels = *plan.spec.kernels;
  int local = 0;
  for (int k = 0; k < kernels.count; ++k) {
    const int reach = kernels.reach(plan.params.values.data(), k, statistics != SDIE_OF_STRIP);
    if (plan.spec.filters >> k & 1 && reach < kEveryRow) local = std::max(local, reach);
  }
  const int lines = plan.spec.rounds * local;
  if (!(plan.spec.filters >> SDIE_WLS & 1)) return lines;
  double rounds = 0.0;
  for (int t = 0; t < plan.spec.rounds; ++t)
    rounds += frame.filters >> SDIE_WLS & 1
                  ? 1.0
                  : static_cast<double>(plan.weights[static_cast<std::size_t>(t * kernels.count + SDIE_WLS)]);
  const double wls = context_of_wls(parameter(plan, SDIE_WLS, "lambda"), rounds);
  return std::max(lines, static_cast<int>(std::ceil(wls / 16.0)) * 16);
}

sdie_stream_config own_of(const sdie_stream_config& config) {
  sdie_stream_config own;
  sdie_stream_config_init(&own, sizeof own);
  take_struct("config", &config, &own, sizeof own, kFirst);
  if (own.strip < 1) refuse("strip", number(own.strip), "1 line or more");
  if (own.context < -1) refuse("context", number(own.context), "-1, or 0 lines or more");
  if (own.statistics < SDIE_OF_STRIP || own.statistics > SDIE_FROZEN)
    refuse("statistics", number(own.statistics), "SDIE_OF_STRIP, SDIE_ROLLING, SDIE_FROZEN");
  if (own.half_life < 1) refuse("half_life", number(own.half_life), "1 line or more");
  if (own.capacity != 0 && own.capacity < own.strip)
    refuse("capacity", number(own.capacity), "0, or a strip's " + number(own.strip) + " lines or more");
  return own;
}

sdie_config frame_of(const sdie_stream_config& config) {
  check_pointer("frame", config.frame, alignof(sdie_config));
  sdie_config frame = taken(config.frame);
  frame.height = config.strip;  // the plan's is set when the context is known
  return frame;
}

void check_statistics(const Setup& plan, int statistics) {
  constexpr double kClahe = 1.0;  // by its place among the choices
  if (statistics != SDIE_OF_STRIP && plan.spec.filters >> SDIE_SPATIOGRAM & 1 &&
      parameter(plan, SDIE_SPATIOGRAM, "method") == kClahe)
    refuse("statistics", statistics == SDIE_ROLLING ? "SDIE_ROLLING" : "SDIE_FROZEN",
           "SDIE_OF_STRIP: clahe takes its tiles from the strip");
}

}  // namespace

StreamSetup::StreamSetup(const sdie_stream_config& given) : StreamSetup(own_of(given), frame_of(own_of(given))) {}

StreamSetup::StreamSetup(const sdie_stream_config& config, const sdie_config& of_strip)
    : frame(of_strip),
      plan(frame),
      strip(config.strip),
      context(config.context),
      statistics(config.statistics),
      half_life(config.half_life),
      capacity(config.capacity) {
  check_statistics(plan, statistics);
  if (context < 0) context = context_of(plan, frame, statistics);
  const std::int64_t height = strip + 2 * std::int64_t{context}, most = (1 << 30) / frame.width;
  if (capacity == 0) capacity = static_cast<int>(std::min<std::int64_t>(2 * std::int64_t{strip}, INT32_MAX));
  if (height > most)
    refuse("strip, context",
           number(strip) + " and twice " + number(context) + " lines of " + number(frame.width) + " pixels",
           "2^30 pixels at most");
  plan.spec.h = static_cast<int>(height);
  input_stride = in_lines_of_cache(plan.input.line_bytes(frame.width));
  output_stride = in_lines_of_cache(plan.output.line_bytes(frame.width));
  pixels = in_lines_of_cache(LinePlan::pixel_bytes(plan));
  window = input_stride * static_cast<std::size_t>(height);
  ready = output_stride * static_cast<std::size_t>(capacity);
  sums = in_lines_of_cache(sizeof(Sums) * static_cast<std::size_t>(plan.spec.rounds));
}

}  // namespace sdie::line

using namespace sdie::line;

sdie_status sdie_stream_config_init(sdie_stream_config* config, size_t size) {
  return guarded([&] {
    check_pointer("config", config, alignof(sdie_stream_config));
    if (size < kFirst || size > size_t{1} << 20)
      refuse(SDIE_STRUCT, "size: received " + number(size) + "; accepted: sizeof(sdie_stream_config), " +
                              number(kFirst) + " or more");
    std::memset(static_cast<void*>(config), 0, size);
    config->size = size;
    config->strip = 256;
    config->context = -1;
    config->statistics = SDIE_ROLLING;
    config->half_life = 4096;
    return SDIE_OK;
  });
}
