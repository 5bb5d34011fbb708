// Bad input: each is refused with a status and words that name what was received, and nothing is written.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <thread>

#include "check.h"

extern "C" int header_in_c(void);  // header.c

using namespace linetest;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
constexpr std::uint8_t kUntouched = 0x5a;

template <class T>
T* misaligned(T* pointer) {
  return reinterpret_cast<T*>(reinterpret_cast<std::uintptr_t>(pointer) + 1);
}

// A config that no function makes a plan of.
void refused_config(const sdie_config& config, const std::string& said, sdie_status status = SDIE_INVALID) {
  std::size_t bytes = 77;
  refused(sdie_plan_workspace(&config, &bytes), status, said);
  expect(bytes == 77, said + ": a refused call gave a size");
  sdie_plan* plan = reinterpret_cast<sdie_plan*>(&bytes);
  refused(sdie_plan_create(&config, &plan), status, said);
  expect(!plan, said + ": a refused call gave a plan");
  alignas(64) static std::uint8_t block[64];
  std::memset(block, kUntouched, sizeof block);
  plan = reinterpret_cast<sdie_plan*>(&bytes);
  refused(sdie_plan_create_in(&config, block, sizeof block, &plan), status, said);
  expect(!plan && block[0] == kUntouched, said + ": a refused call gave a plan or wrote to the block");
}

void configs() {
  const auto spoilt = [](const std::string& said, const std::function<void(sdie_config&)>& spoil) {
    sdie_config config = config_of(64, 48);
    spoil(config);
    refused_config(config, said);
  };
  using Config = sdie_config;
  spoilt("size: received 0 x 48 pixels; accepted: 1 to 2^30 pixels", [](Config& c) { c.width = 0; });
  spoilt("size: received 64 x -5", [](Config& c) { c.height = -5; });
  spoilt("size: received 32769 x 32768", [](Config& c) { c.width = 32769, c.height = 32768; });
  spoilt("size: received 2147483647 x 2147483647", [](Config& c) { c.width = c.height = INT32_MAX; });
  spoilt("input: received the unknown format 99; accepted: Mono8, Mono10", [](Config& c) { c.input = 99; });
  spoilt("input: received the unknown format 0", [](Config& c) { c.input = 0; });
  spoilt("output: received the unknown format -1", [](Config& c) { c.output = -1; });
  spoilt("output: received RGB8 from Mono8", [](Config& c) { c.output = SDIE_RGB8; });
  spoilt("output: received BGR8 from RGB8", [](Config& c) { c.input = SDIE_RGB8, c.output = SDIE_BGR8; });
  spoilt("src_stride: received 63 bytes; accepted: 64 to 2^32", [](Config& c) { c.src_stride = 63; });
  spoilt("dst_stride: received -63 bytes", [](Config& c) { c.dst_stride = -63; });
  spoilt("src_stride: received 129 bytes; accepted: multiples of 2",
         [](Config& c) { c.input = SDIE_MONO12, c.src_stride = 129; });
  spoilt("dst_stride: received 258 bytes; accepted: multiples of 4",
         [](Config& c) { c.output = SDIE_FLOAT32, c.dst_stride = 258; });
  for (const std::int64_t stride : {INT64_MIN, INT64_MAX, INT64_MAX / 47 + 1, -(INT64_MAX / 47 + 1)})
    spoilt("src_stride: received " + std::to_string(stride), [&](Config& c) { c.src_stride = stride; });
  spoilt("white: received nan", [](Config& c) { c.white = kNaN; });
  spoilt("white: received -1", [](Config& c) { c.white = -1.0f; });
  spoilt("white: received inf", [](Config& c) { c.white = kInfinity; });
  spoilt("white: received 256", [](Config& c) { c.white = 256.0f; });
  spoilt("white: received 1023.5", [](Config& c) { c.input = SDIE_MONO10P, c.white = 1023.5f; });
  spoilt("rounds: received 0; accepted: 1 to 32", [](Config& c) { c.rounds = 0; });
  spoilt("rounds: received 33", [](Config& c) { c.rounds = 33; });
  spoilt("weights: round 1 of 1: received nan", [](Config& c) { c.weights[0][SDIE_WLS] = kNaN; });
  spoilt("weights: round 2 of 2: received -0.5", [](Config& c) { c.rounds = 2, c.weights[1][SDIE_WLS] = -0.5f; });
  spoilt("weights: round 1 of 1: received inf", [](Config& c) { c.weights[0][0] = kInfinity; });
  spoilt("weights: round 2 of 2: received zeros alone", [](Config& c) { c.rounds = 2; });
  spoilt("weights: round 1 of 1: received a weight for filter 12", [](Config& c) { c.weights[0][12] = 1.0f; });
  spoilt("filters: received 1048576", [](Config& c) { c.filters = 1u << 20; });
  spoilt("parameters: wls_lambda: received nan", [](Config& c) {
    for (double& value : c.parameters) value = std::nan("");
  });
  spoilt("threads: received 0; accepted: 1 to 1024", [](Config& c) { c.threads = 0; });
  spoilt("threads: received 1025", [](Config& c) { c.threads = 1025; });
  static constexpr std::int32_t none[] = {-1}, beyond[] = {5000};
  spoilt("cpu_count: received 2 without a list", [](Config& c) { c.cpu_count = 2; });
  spoilt("cpu_count: received -1", [](Config& c) { c.cpu_count = -1, c.cpus = none; });
  spoilt("cpu_count: received 2000000000", [](Config& c) { c.cpu_count = 2000000000, c.cpus = none; });
  spoilt("cpus: received -1", [](Config& c) { c.cpu_count = 1, c.cpus = none; });
  spoilt("cpus: received 5000", [](Config& c) { c.cpu_count = 1, c.cpus = beyond; });
  spoilt("priority: received 100; accepted: 0 to 99", [](Config& c) { c.priority = 100; });
  spoilt("priority: received -1", [](Config& c) { c.priority = -1; });
  spoilt("parallel: received a pool beside cpus or a priority", [](Config& c) {
    c.priority = 5;
    c.parallel = [](void*, std::int32_t, sdie_body, void*) {};
  });
  spoilt("warm_up: received -1; accepted: 0 to 1000", [](Config& c) { c.warm_up = -1; });
  spoilt("allocate: received one without release",
         [](Config& c) { c.allocate = [](void*, std::size_t) -> void* { return nullptr; }; });
}

void structs() {
  sdie_config config = config_of(64, 48);
  refused(sdie_config_init(nullptr, sizeof config), SDIE_INVALID, "config: received NULL");
  refused(sdie_config_init(misaligned(&config), sizeof config), SDIE_INVALID, "config: received a misaligned pointer");
  refused(sdie_config_init(&config, 8), SDIE_STRUCT, "size: received 8");
  for (const std::size_t size : {std::size_t{0}, sizeof config - 1, SIZE_MAX}) {
    config.size = size;
    refused_config(config, "config.size: received " + std::to_string(size), SDIE_STRUCT);
    refused(sdie_config_set(&config, "wls_lambda", "1"), SDIE_STRUCT, "config.size: received " + std::to_string(size));
  }
  struct {
    sdie_config config;
    std::uint64_t more[4];
  } newer;
  expect(sdie_config_init(&newer.config, sizeof newer) == SDIE_OK && newer.more[3] == 0, "a newer header's init");
  newer.config.width = newer.config.height = 20;
  sdie_plan* plan = nullptr;
  expect(sdie_plan_create(&newer.config, &plan) == SDIE_OK, "a newer header that sets nothing new is refused");
  sdie_plan_destroy(plan);
  newer.more[2] = 1;
  refused_config(newer.config, "config: received a setting at byte " + std::to_string(sizeof(sdie_config) + 16),
                 SDIE_STRUCT);

  std::size_t bytes = 0;
  config = config_of(64, 48);
  refused(sdie_plan_create(nullptr, &plan), SDIE_INVALID, "config: received NULL");
  refused(sdie_plan_create(misaligned(&config), &plan), SDIE_INVALID, "config: received a misaligned pointer");
  refused(sdie_plan_create(&config, nullptr), SDIE_INVALID, "plan: received NULL");
  refused(sdie_plan_create(&config, misaligned(&plan)), SDIE_INVALID, "plan: received a misaligned pointer");
  refused(sdie_plan_workspace(&config, nullptr), SDIE_INVALID, "bytes: received NULL");
  refused(sdie_plan_workspace(&config, misaligned(&bytes)), SDIE_INVALID, "bytes: received a misaligned pointer");
  refused(sdie_config_set(&config, nullptr, "1"), SDIE_INVALID, "parameter: received NULL");
  refused(sdie_config_set(&config, "wls_lambda", nullptr), SDIE_INVALID, "value: received NULL");
  refused(sdie_config_set(&config, "", "1"), SDIE_INVALID, "parameter: received ''");
  refused(sdie_config_set(&config, "wls_lambda", "-1"), SDIE_INVALID, "wls_lambda: received '-1'");
  refused(sdie_config_set(&config, "wls_lambda", "nan"), SDIE_INVALID, "wls_lambda: received 'nan'");
  refused(sdie_config_parse(&config, nullptr, 5), SDIE_INVALID, "bytes: received NULL");
  refused(sdie_config_parse(&config, "x", SIZE_MAX), SDIE_FILE, "bytes; accepted: up to 65536");
  refused(sdie_config_parse(&config, "\x89PNG\r\n\x1a\n", 8), SDIE_FILE, "accepted: a file of `sdie-fast export-line`");
  refused(sdie_config_load(&config, nullptr), SDIE_INVALID, "path: received NULL");
  refused(sdie_config_load(&config, "/"), SDIE_FILE, "/: cannot be read");
  refused(sdie_config_load(&config, "/dev/zero"), SDIE_FILE, "/dev/zero: received");
  const sdie_config fresh = config_of(64, 48);
  expect(std::memcmp(&config, &fresh, sizeof config) == 0, "a refused call changed the config");
}

// Memory that is missing, too small or misaligned.
void memory() {
  sdie_config config = config_of(64, 48);
  sdie_plan* plan = nullptr;
  std::size_t bytes = 0;
  expect(sdie_plan_workspace(&config, &bytes) == SDIE_OK, "workspace");
  auto* const block = static_cast<std::uint8_t*>(std::aligned_alloc(64, bytes + 64));
  std::memset(block, kUntouched, bytes + 64);
  refused(sdie_plan_create_in(&config, nullptr, bytes, &plan), SDIE_INVALID, "block: received NULL");
  refused(sdie_plan_create_in(&config, block + 8, bytes, &plan), SDIE_INVALID, "block: received a misaligned block");
  refused(sdie_plan_create_in(&config, block, bytes - 1, &plan), SDIE_MEMORY,
          "bytes: received " + std::to_string(bytes - 1));
  expect(!plan && std::count(block, block + bytes + 64, kUntouched) == static_cast<std::ptrdiff_t>(bytes) + 64,
         "a refused call wrote to the block");
  config.allocate = [](void*, std::size_t) -> void* { return nullptr; };
  config.release = [](void* given, void* released, std::size_t) { *static_cast<void**>(given) = released; };
  void* back = nullptr;
  config.allocator = &back;
  refused(sdie_plan_create(&config, &plan), SDIE_MEMORY, "allocate: received NULL for " + std::to_string(bytes));
  expect(!plan && !back, "nothing was given, and something came back");
  config.allocate = [](void*, std::size_t) -> void* { return reinterpret_cast<void*>(0x1008); };
  refused(sdie_plan_create(&config, &plan), SDIE_INVALID, "block: received a misaligned block");
  expect(!plan && back == reinterpret_cast<void*>(0x1008), "the allocator's block did not come back");
  std::free(block);
  // More than there is.
  config = config_of(1 << 20, 1 << 10, SDIE_FLOAT32);
  config.rounds = 2;
  config.weights[1][SDIE_WLS] = 1.0f;
  rlimit before;
  getrlimit(RLIMIT_AS, &before);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const rlimit less{std::size_t{1} << 30, before.rlim_max};
  setrlimit(RLIMIT_AS, &less);
  void* const much = std::malloc(std::size_t{3} << 30);  // an emulator may not keep the limit
  std::free(much);
  if (!much) refused(sdie_plan_create(&config, &plan), SDIE_MEMORY, "memory does not suffice");
  setrlimit(RLIMIT_AS, &before);
#endif
}

// Runs that are refused.
void runs() {
  sdie_config config = config_of(64, 48, SDIE_MONO12, SDIE_FLOAT32);
  const Plan plan(config);
  std::vector<std::uint8_t> memory(128 * 48 + 256 * 48 + 64, kUntouched);
  std::uint8_t *const src = memory.data(), *const dst = src + 128 * 48;
  std::uint64_t refusals = 0;
  sdie_report report;
  std::memset(&report, kUntouched, sizeof report);
  const sdie_report blank = report;
  const auto no = [&](const std::string& said, const void* from, std::int64_t from_stride, void* to,
                      std::int64_t to_stride, std::size_t size = sizeof(sdie_report),
                      sdie_status status = SDIE_INVALID) {
    report.size = size;
    refused(sdie_plan_run(plan, from, from_stride, to, to_stride, &report), status, said);
    ++refusals;
    report.size = blank.size;
    expect(std::memcmp(&report, &blank, sizeof report) == 0, said + ": a refused run wrote the report");
    expect(std::count(memory.begin(), memory.end(), kUntouched) == static_cast<std::ptrdiff_t>(memory.size()),
           said + ": a refused run wrote pixels");
  };
  no("src: received NULL", nullptr, 0, dst, 0);
  no("dst: received NULL", src, 0, nullptr, 0);
  no("src: received a misaligned pointer; accepted: one that is aligned to 2 bytes", src + 1, 0, dst, 0);
  no("dst: received a misaligned pointer; accepted: one that is aligned to 4 bytes", src, 0, dst + 2, 0);
  no("src_stride: received 127 bytes; accepted: 128 to 2^32", src, 127, dst, 0);
  no("src_stride: received 129 bytes; accepted: multiples of 2", src, 129, dst, 0);
  no("dst_stride: received -252 bytes; accepted: 256 to 2^32", src, 0, dst, -252);
  for (const std::int64_t stride :
       {INT64_MIN, INT64_MAX - 3, INT64_MAX / 47 / 4 * 4 + 4, -(INT64_MAX / 47 / 4 * 4 + 4)})
    no("stride: received " + std::to_string(stride), src, stride, dst, stride);
  no("dst: received memory that overlaps src", src, 0, src, 0);
  no("dst: received memory that overlaps src", src, 0, dst - 4, 0);
  no("dst: received memory that overlaps src", src, 0, src + 256 * 47, -256);
  no("report.size: received 0", src, 0, dst, 0, 0, SDIE_STRUCT);
  no("report.size: received 18446744073709551615", src, 0, dst, 0, SIZE_MAX, SDIE_STRUCT);
  refused(sdie_plan_run(plan, src, 0, dst, 0, misaligned(&report)), SDIE_INVALID,
          "report: received a misaligned pointer");
  refused(sdie_plan_run(nullptr, src, 0, dst, 0, nullptr), SDIE_INVALID, "plan: received NULL");

  sdie_stats stats{};
  refused(sdie_plan_stats(plan, &stats), SDIE_STRUCT, "stats.size: received 0");
  refused(sdie_plan_stats(plan, nullptr), SDIE_INVALID, "stats: received NULL");
  refused(sdie_plan_stats(nullptr, &stats), SDIE_INVALID, "plan: received NULL");
  refused(sdie_plan_reset_stats(nullptr), SDIE_INVALID, "plan: received NULL");
  stats.size = sizeof stats;
  expect(sdie_plan_stats(plan, &stats) == SDIE_OK && stats.refused == refusals + 1 && stats.frames == 0,
         "the counter of refused runs");
  for (const double percent : {-1.0, 100.5, std::nan("")})
    expect(sdie_plan_percentile(plan, percent) == 0, "a percentile of no number");
  expect(sdie_plan_percentile(nullptr, 50.0) == 0, "a percentile of no plan");
  expect(sdie_plan_destroy(nullptr) == SDIE_OK, "NULL is no plan to destroy");
  config.deadline_ns = UINT64_MAX;  // which is never
  const Plan patient(config);
  report.size = sizeof report;
  expect(sdie_plan_run(patient, src, 0, dst, 0, &report) == SDIE_OK && report.rounds == 1 && !report.late,
         "a deadline of centuries");
  // Neighbours do not overlap.
  expect(sdie_plan_run(plan, src, 0, dst, 0, nullptr) == SDIE_OK, "a good run after all that is refused");
}

void weights() {
  sdie_config config = config_of(64, 48);
  config.rounds = 2;
  config.weights[1][SDIE_SHARPEN] = 1.0f;
  const auto frame = texture(64 * 48);
  std::vector<std::uint8_t> before(frame.size()), after(frame.size());
  const Plan plan(config);
  expect(sdie_plan_run(plan, frame.data(), 0, before.data(), 0, nullptr) == SDIE_OK, "a run was refused");
  float rows[3][9] = {{1.0f}, {1.0f}, {1.0f}};
  const auto no = [&](const std::string& said, const float* from, std::int32_t rounds, std::int32_t filters) {
    refused(sdie_plan_set_weights(plan, from, rounds, filters), SDIE_INVALID, said);
  };
  no("weights: received NULL", nullptr, 1, 9);
  no("weights: received a misaligned pointer", misaligned(&rows[0][0]), 1, 9);
  no("rounds: received 0; accepted: 1 to the config's 2", rows[0], 0, 9);
  no("rounds: received 3", rows[0], 3, 9);
  no("filters: received 0 columns; accepted: 1 to 16", rows[0], 1, 0);
  no("filters: received 17 columns", rows[0], 1, 17);
  rows[1][SDIE_MEDIAN] = 0.25f;
  no("weights: received one for median", rows[0], 2, 9);
  rows[1][SDIE_MEDIAN] = kNaN;
  no("weights: round 2 of 2: received nan", rows[0], 2, 9);
  rows[1][SDIE_MEDIAN] = rows[1][0] = 0.0f;
  no("weights: round 2 of 2: received zeros alone", rows[0], 2, 9);
  refused(sdie_plan_set_weights(nullptr, rows[0], 1, 9), SDIE_INVALID, "plan: received NULL");
  expect(sdie_plan_run(plan, frame.data(), 0, after.data(), 0, nullptr) == SDIE_OK && before == after,
         "refused weights changed the recipe");
}

// What another thread does while the plan runs.
struct Meanwhile {
  sdie_plan* plan = nullptr;
  std::function<void()> act;
};

void calls_in_flight() {
  Meanwhile meanwhile;
  sdie_config config = config_of(300, 300);
  config.threads = 2;
  config.pool = &meanwhile;
  config.parallel = [](void* pool, std::int32_t members, sdie_body body, void* context) {
    if (const auto& act = static_cast<Meanwhile*>(pool)->act) std::thread(act).join();
    std::vector<std::thread> threads;
    for (std::int32_t k = 1; k < members; ++k) threads.emplace_back([=] { body(context, k); });
    body(context, 0);
    for (std::thread& thread : threads) thread.join();
  };
  const auto frame = texture(300 * 300);
  std::vector<std::uint8_t> out(frame.size()), other(frame.size(), kUntouched);
  expect(sdie_plan_create(&config, &meanwhile.plan) == SDIE_OK, "a plan with a pool");
  int acted = 0;
  meanwhile.act = [&] {
    ++acted;
    refused(sdie_plan_run(meanwhile.plan, frame.data(), 0, other.data(), 0, nullptr), SDIE_BUSY,
            "the plan is running in another thread");
    refused(sdie_plan_destroy(meanwhile.plan), SDIE_BUSY, "the plan is running in another thread");
  };
  expect(sdie_plan_run(meanwhile.plan, frame.data(), 0, out.data(), 0, nullptr) == SDIE_OK && out == frame && acted > 0,
         "the run that was disturbed");
  expect(other[0] == kUntouched, "a second run wrote");
  meanwhile.act = nullptr;
  expect(sdie_plan_run(meanwhile.plan, frame.data(), 0, other.data(), 0, nullptr) == SDIE_OK && other == frame,
         "a run after one that was disturbed");
  expect(sdie_plan_destroy(meanwhile.plan) == SDIE_OK, "destroy after a run");
}

// In a process of its own, since what it does stays.
void forked(const char* what, const std::function<bool()>& right) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) _exit(right() ? 0 : 1);
  int status = -1;
  expect(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, what);
}

bool says(sdie_status got, sdie_status wanted, const char* said) {
  char words[512];
  sdie_message(words, sizeof words);
  if (got == wanted && std::strstr(words, said)) return true;
  std::fprintf(stderr, "status %d: '%s' is not in '%s'\n", got, said, words);
  return false;
}

void threads_of_the_system() {
  sdie_config config = config_of(300, 300);
  config.threads = 2;
  const std::int32_t cpus[] = {1023};
  config.cpus = cpus;
  config.cpu_count = 1;
  sdie_plan* plan = nullptr;
  refused(sdie_plan_create(&config, &plan), SDIE_SYSTEM, "cpus: CPU 1023");
  config.threads = 3;
  refused(sdie_plan_create(&config, &plan), SDIE_INVALID, "cpus: received 1; accepted: 2");
  expect(!plan, "a refused call gave a plan");
  config.cpus = nullptr;
  config.cpu_count = 0;
  config.threads = 2;
  forked("SCHED_FIFO without the right to it", [&] {
    sdie_config wish = config;
    wish.priority = 50;
    const rlimit none{0, 0};
    setrlimit(RLIMIT_RTPRIO, &none);
    if (geteuid() == 0 && setuid(65534) != 0) return true;
    sdie_plan* refused_plan = nullptr;
    return says(sdie_plan_create(&wish, &refused_plan), SDIE_SYSTEM, "priority: SCHED_FIFO 50 was refused") &&
           !refused_plan;
  });
  const auto frame = texture(300 * 300);
  std::vector<std::uint8_t> out(frame.size(), kUntouched);
  const Plan crew(config);
  forked("a plan in a process that was forked", [&] {
    return says(sdie_plan_run(crew, frame.data(), 0, out.data(), 0, nullptr), SDIE_FORKED,
                "make another plan after a fork") &&
           out[0] == kUntouched && sdie_plan_destroy(crew) == SDIE_OK;
  });
  expect(sdie_plan_run(crew, frame.data(), 0, out.data(), 0, nullptr) == SDIE_OK && out == frame,
         "the plan of the process that forked");
}

void words_and_formats() {
  refused(sdie_plan_reset_stats(nullptr), SDIE_INVALID, "plan");
  char words[8] = "abcdefg", whole[512];
  const std::size_t length = sdie_message(nullptr, 0);
  expect(length > sizeof words && sdie_message(words, sizeof words) == length && std::strlen(words) == 7,
         "words into a buffer that is too small");
  expect(
      sdie_message(whole, sizeof whole) == length && std::strlen(whole) == length && std::strncmp(words, whole, 7) == 0,
      "words into a buffer that suffices");
  words[0] = '?';
  expect(sdie_message(words, 0) == length && words[0] == '?', "words into no bytes");
  std::thread([] { expect(sdie_message(nullptr, 0) == 0, "another thread has this one's words"); }).join();
  expect(!sdie_format_name(0) && !sdie_format_name(99), "the name of an unknown format");
  expect(sdie_format_named(nullptr) == 0 && sdie_format_named("Mono") == 0 && sdie_format_named("Mono8 ") == 0,
         "a format of no name");
  expect(sdie_line_bytes(SDIE_MONO8, 0) == 0 && sdie_line_bytes(SDIE_MONO8, -1) == 0 && sdie_line_bytes(77, 5) == 0,
         "bytes of no line");
  expect(sdie_line_bytes(SDIE_MONO10P, INT32_MAX) == (std::size_t{INT32_MAX} * 10 + 7) / 8, "bytes of a long line");
  for (int format = SDIE_MONO8; format <= SDIE_FLOAT32; ++format)
    expect(sdie_format_name(format) && sdie_format_named(sdie_format_name(format)) == format, "names of formats");
  for (const sdie_status status : {-1000, INT32_MIN, 77})
    expect(std::strcmp(sdie_status_text(status), "an unknown status") == 0, "an unknown status");
}

}  // namespace

void misuse_test() {
  expect(header_in_c() == 0, "the header in C: " + std::to_string(header_in_c()));
  configs();
  structs();
  memory();
  runs();
  weights();
  calls_in_flight();
  threads_of_the_system();
  words_and_formats();
}
