// libFuzzer: bytes as a config of small sizes, of which a plan is made, run and destroyed where it is accepted.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "../../include/sdie_fast.h"

namespace {

// Values out of the input, and zeros after its end.
class Source {
 public:
  Source(const unsigned char* data, std::size_t size) : at_(data), end_(data + size) {}
  unsigned byte() { return at_ < end_ ? *at_++ : 0; }
  // One of few that are usual, or whatever the bytes say.
  template <class T>
  void draw(T& value, std::initializer_list<T> usual) {
    const unsigned choice = byte();
    if (choice < 250) {
      value = usual.begin()[choice % usual.size()];
      return;
    }
    unsigned char bytes[sizeof(T)];
    for (unsigned char& b : bytes) b = static_cast<unsigned char>(byte());
    std::memcpy(&value, bytes, sizeof value);
  }

 private:
  const unsigned char *at_, *end_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  Source source(data, size);
  sdie_config config;
  if (sdie_config_init(&config, sizeof config) != SDIE_OK) std::abort();
  config.width = static_cast<std::int32_t>(source.byte() % 80) - 1;
  config.height = static_cast<std::int32_t>(source.byte() % 40) - 1;
  config.input = static_cast<sdie_format>(source.byte() % 14);
  config.output = static_cast<sdie_format>(source.byte() % 14);
  source.draw<std::int64_t>(config.src_stride, {0, 0, 0, 100, 640, -640});
  source.draw<std::int64_t>(config.dst_stride, {0, 0, 0, 100, 640, -640});
  source.draw<float>(config.white, {0.0f, 0.0f, 200.0f, 1000.0f, 1.0f});
  source.draw<std::int32_t>(config.rounds, {1, 1, 2, 3});
  for (int t = 0; t < std::clamp(config.rounds, 1, 3); ++t)
    for (int k = 0; k <= SDIE_GAUSSIAN; ++k) source.draw<float>(config.weights[t][k], {0.0f, 0.0f, 1.0f, 0.3f});
  // Numbers of the parameters' own kind: others are refused at once.
  for (int k = 0; k < 24; ++k)
    if (source.byte() > 200) source.draw<double>(config.parameters[k], {0.0, 1.0, 3.0, 5.0, 0.1, 0.5, 8.0, 100.0});
  source.draw<std::uint32_t>(config.filters, {0, 0, 1, 0x1ff});
  source.draw<std::int32_t>(config.threads, {1, 1, 2});
  if (config.threads > 4) config.threads = 4;
  source.draw<std::uint64_t>(config.deadline_ns, {0, 1, 100'000, 1'000'000'000});
  source.draw<std::int32_t>(config.warm_up, {0, 0, 1});
  if (config.warm_up > 2) config.warm_up = 2;
  sdie_plan* plan = nullptr;
  if (sdie_plan_create(&config, &plan) != SDIE_OK) {
    if (plan || sdie_message(nullptr, 0) == 0) std::abort();
    return 0;
  }
  // Of the bytes that the lines take and no more: what is read or written beside them is seen.
  const auto lines = [&](sdie_format format) {
    return sdie_line_bytes(format, config.width) * static_cast<std::size_t>(config.height);
  };
  const auto tight = static_cast<std::int64_t>(sdie_line_bytes(config.input, config.width));
  const sdie_format output = config.output ? config.output : config.input;
  const auto tight_out = static_cast<std::int64_t>(sdie_line_bytes(output, config.width));
  std::vector<unsigned char> src(lines(config.input)), dst(lines(output));
  for (unsigned char& b : src) b = static_cast<unsigned char>(source.byte());
  sdie_report report{};
  report.size = sizeof report;
  for (int k = 0; k < 2; ++k)
    if (sdie_plan_run(plan, src.data(), tight, dst.data(), tight_out, &report) != SDIE_OK || report.rounds < 0 ||
        report.rounds > report.wanted)
      std::abort();
  if (sdie_plan_destroy(plan) != SDIE_OK) std::abort();
  return 0;
}
