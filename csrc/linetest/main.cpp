// Tests of libsdie_fast by its C interface: `sdie_line_test [NAME ...]`, all of them without a name.
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "check.h"

void plan_test();
void threads_test();
void misuse_test();
void quiet_test();
void statistics_test();
void stream_test();
void stream_use_test();

namespace {

const struct {
  const char* name;
  void (*run)();
} kTests[] = {
    {"plan", plan_test},     {"threads", threads_test},       {"misuse", misuse_test},        {"quiet", quiet_test},
    {"stream", stream_test}, {"statistics", statistics_test}, {"stream_use", stream_use_test}};

int wrong = 0;

}  // namespace

namespace linetest {

void expect(bool right, const std::string& what) {
  if (right) return;
  std::fprintf(stderr, "WRONG: %s\n", what.c_str());
  ++wrong;
}

void refused(sdie_status got, sdie_status wanted, const std::string& said) {
  char words[512];
  sdie_message(words, sizeof words);
  expect(got == wanted,
         said + ": status " + std::to_string(got) + " and not " + std::to_string(wanted) + " (" + words + ")");
  expect(std::string(words).find(said) != std::string::npos, "'" + said + "' is not in '" + words + "'");
}

sdie_config config_of(int width, int height, sdie_format input, sdie_format output) {
  sdie_config config;
  expect(sdie_config_init(&config, sizeof config) == SDIE_OK, "sdie_config_init");
  config.width = width;
  config.height = height;
  config.input = input;
  config.output = output;
  config.warm_up = 0;
  return config;
}

void mixed(sdie_config& config, int rounds) {
  config.rounds = rounds;
  expect(sdie_config_set(&config, "wls_solver", "fast") == SDIE_OK, "wls_solver");
  for (int t = 0; t < rounds; ++t)
    for (int k = SDIE_IDENTITY; k <= SDIE_GAUSSIAN; ++k) config.weights[t][k] = static_cast<float>(1 + (t + k) % 3);
}

std::vector<std::uint8_t> texture(std::size_t bytes, std::uint32_t seed) {
  std::vector<std::uint8_t> out(bytes);
  for (std::size_t k = 0; k < bytes; ++k) {
    seed = seed * 1664525 + 1013904223;
    out[k] = static_cast<std::uint8_t>(k / 37 % 5 * 40 + (seed >> 27));
  }
  return out;
}

Plan::Plan(const sdie_config& config) {
  if (sdie_plan_create(&config, &plan_) == SDIE_OK) return;
  char words[512];
  sdie_message(words, sizeof words);
  std::fprintf(stderr, "a plan was refused: %s\n", words);
  std::exit(2);
}

std::vector<std::uint8_t> enhanced(const sdie_config& config, const std::vector<std::uint8_t>& frame) {
  const sdie_format output = config.output ? config.output : config.input;
  std::vector<std::uint8_t> out(sdie_line_bytes(output, config.width) * static_cast<std::size_t>(config.height));
  const Plan plan(config);
  expect(sdie_plan_run(plan, frame.data(), 0, out.data(), 0, nullptr) == SDIE_OK, "a run was refused");
  return out;
}

}  // namespace linetest

int main(int argc, char** argv) {
  for (const auto& test : kTests) {
    const bool wanted = argc == 1 || std::any_of(argv + 1, argv + argc,
                                                 [&](const char* name) { return std::string(name) == test.name; });
    if (!wanted) continue;
    const int before = wrong;
    test.run();
    std::printf("%s: %s\n", test.name, wrong == before ? "right" : "WRONG");
  }
  return wrong > 0;
}
