// Plans: rounds and deadlines, weights that change, memory and threads of the caller's, figures.
#include <atomic>
#include <cstring>
#include <string>
#include <thread>

#include "check.h"

using namespace linetest;

namespace {

constexpr int kWidth = 150, kHeight = 90;

sdie_report report_of(sdie_plan* plan, const std::vector<std::uint8_t>& frame, std::vector<std::uint8_t>& out,
                      std::uint64_t since = 0) {
  sdie_report report{};
  report.size = sizeof report;
  expect(sdie_plan_run_since(plan, frame.data(), 0, out.data(), 0, since, &report) == SDIE_OK, "a run was refused");
  return report;
}

sdie_stats stats_of(sdie_plan* plan) {
  sdie_stats stats{};
  stats.size = sizeof stats;
  expect(sdie_plan_stats(plan, &stats) == SDIE_OK, "stats were refused");
  return stats;
}

// However many rounds there is time for, what is written is the state after them.
void a_deadline_shortens() {
  sdie_config config = config_of(kWidth, kHeight);
  mixed(config, 5);
  const auto frame = texture(std::size_t{kWidth} * kHeight);
  std::vector<std::uint8_t> out(frame.size());
  std::uint64_t whole = 0;
  {
    config.deadline_ns = 60'000'000'000;
    config.warm_up = 2;
    const Plan plan(config);
    const sdie_report report = report_of(plan, frame, out);
    expect(report.rounds == 5 && report.wanted == 5 && report.reason == SDIE_ALL_ROUNDS && !report.late,
           "a minute does not suffice for five rounds");
    expect(report.next_ns > 0 && report.next_ns < report.latency_ns * 5, "what a round is expected to take");
    whole = report.busy_ns;
  }
  bool some[6] = {};
  for (int part = 0; part <= 20; ++part) {
    config.deadline_ns = part == 0 ? 1 : whole * static_cast<unsigned>(part) / 10;
    const Plan plan(config);
    for (int again = 0; again < 3; ++again) {
      std::fill(out.begin(), out.end(), std::uint8_t{0});
      const sdie_report report = report_of(plan, frame, out);
      expect(report.rounds >= 0 && report.rounds <= 5 && (report.reason == SDIE_NO_TIME) == (report.rounds < 5),
             "rounds and reason of a shortened frame");
      if (part == 0) expect(report.rounds == 0 && report.late, "a nanosecond suffices for a round");
      some[report.rounds] = true;
      sdie_config same = config;
      same.deadline_ns = 0;
      same.warm_up = 0;
      same.rounds = report.rounds;
      expect(out == (report.rounds == 0 ? frame : enhanced(same, frame)),
             "a frame of " + std::to_string(report.rounds) + " rounds differs from a recipe of so many");
    }
  }
  expect(some[0] && some[5] && (some[1] || some[2] || some[3] || some[4]), "no deadline shortened a frame in part");
}

void time_counts_from_the_start_that_is_given() {
  sdie_config config = config_of(kWidth, kHeight);
  config.deadline_ns = 5'000'000'000;
  const auto frame = texture(std::size_t{kWidth} * kHeight);
  std::vector<std::uint8_t> out(frame.size());
  const Plan plan(config);
  expect(!report_of(plan, frame, out).late, "an identity of 150 x 90 takes five seconds");
  const sdie_report late = report_of(plan, frame, out, sdie_clock() - 6'000'000'000);
  expect(late.late && late.rounds == 0 && late.latency_ns >= 6'000'000'000 && late.busy_ns < late.latency_ns,
         "a frame that waited for longer than its deadline is not late");
  report_of(plan, frame, out, sdie_clock() + 1'000'000'000);
  const sdie_stats stats = stats_of(plan);
  expect(stats.frames == 3 && stats.late == 1 && stats.shortened == 1 && stats.unenhanced == 1 && stats.rounds == 2 &&
             stats.refused == 0,
         "counters");
  expect(stats.max_ns == late.latency_ns && stats.p999_ns == stats.max_ns && stats.min_ns <= stats.p50_ns &&
             stats.p50_ns <= stats.p90_ns && stats.p90_ns <= stats.p99_ns && stats.mean_ns > 2e9,
         "figures of three frames");
  expect(sdie_plan_percentile(plan, 100.0) == stats.max_ns && sdie_plan_percentile(plan, 101.0) == 0, "percentiles");
  expect(sdie_plan_reset_stats(plan) == SDIE_OK && stats_of(plan).frames == 0 && stats_of(plan).max_ns == 0, "reset");
}

// A frame is of one recipe, whenever another comes.
void weights_change_between_frames() {
  sdie_config config = config_of(kWidth, kHeight);
  config.rounds = 3;
  for (int t = 0; t < 3; ++t) config.weights[t][SDIE_SHARPEN] = config.weights[t][SDIE_IDENTITY] = 1.0f;
  config.filters = 1u << SDIE_GAUSSIAN;
  const auto frame = texture(std::size_t{kWidth} * kHeight);
  float other[2][SDIE_GAUSSIAN + 1] = {};
  other[0][SDIE_GAUSSIAN] = other[1][SDIE_GAUSSIAN] = 2.0f;
  sdie_config second = config;
  second.rounds = 2;
  std::memset(second.weights, 0, sizeof second.weights);
  second.weights[0][SDIE_GAUSSIAN] = second.weights[1][SDIE_GAUSSIAN] = 1.0f;
  const auto a = enhanced(config, frame), b = enhanced(second, frame);
  expect(a != b, "the two recipes do the same");
  const Plan plan(config);
  std::atomic<bool> over{false};
  std::thread writer([&] {
    for (int k = 0; !over; ++k) {
      const bool first = k % 2;
      const sdie_status status = first ? sdie_plan_set_weights(plan, &config.weights[0][0], 3, SDIE_MAX_FILTERS)
                                       : sdie_plan_set_weights(plan, &other[0][0], 2, SDIE_GAUSSIAN + 1);
      if (status != SDIE_OK) expect(false, "weights were refused");
    }
  });
  std::vector<std::uint8_t> out(frame.size());
  int seen_a = 0, seen_b = 0;
  for (int k = 0; k < 3000 && (k < 300 || !seen_a || !seen_b); ++k) {
    const sdie_report report = report_of(plan, frame, out);
    seen_a += out == a && report.rounds == 3;
    seen_b += out == b && report.rounds == 2;
    if (seen_a + seen_b != k + 1) return over = true, writer.join(), expect(false, "a frame is of neither recipe");
  }
  over = true;
  writer.join();
  expect(seen_a > 0 && seen_b > 0, "weights that were set are not used");
}

struct Counted {
  int blocks = 0;
  std::size_t bytes = 0;
};

void memory_of_the_caller() {
  sdie_config config = config_of(kWidth, kHeight);
  mixed(config, 2);
  const auto frame = texture(std::size_t{kWidth} * kHeight);
  const auto wanted = enhanced(config, frame);
  std::size_t bytes = 0;
  expect(sdie_plan_workspace(&config, &bytes) == SDIE_OK && bytes > frame.size(), "workspace");
  std::vector<std::uint8_t> memory(bytes + 64 + 1, 0x5a), out(frame.size());
  std::uint8_t* const block = memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64);
  std::uint8_t* const behind = block + bytes;
  *behind = 77;
  for (int again = 0; again < 2; ++again) {
    sdie_plan* plan = nullptr;
    expect(sdie_plan_create_in(&config, block, bytes, &plan) == SDIE_OK, "a plan in a block");
    report_of(plan, frame, out);
    expect(out == wanted, "a plan in a block differs");
    expect(sdie_plan_destroy(plan) == SDIE_OK && *behind == 77, "a plan in a block wrote behind it");
  }
  Counted counted;
  config.allocator = &counted;
  config.allocate = [](void* counts, std::size_t n) -> void* {
    ++static_cast<Counted*>(counts)->blocks;
    static_cast<Counted*>(counts)->bytes += n;
    return std::aligned_alloc(64, (n + 63) / 64 * 64);
  };
  config.release = [](void* counts, void* given, std::size_t n) {
    --static_cast<Counted*>(counts)->blocks;
    static_cast<Counted*>(counts)->bytes -= n;
    std::free(given);
  };
  {
    const Plan plan(config);
    expect(counted.blocks == 1 && counted.bytes == bytes, "the allocator was not asked for the workspace");
    report_of(plan, frame, out);
    expect(out == wanted, "a plan of the allocator's memory differs");
  }
  expect(counted.blocks == 0 && counted.bytes == 0, "the allocator's memory was not given back");
}

// Threads of the plan's own, pinned ones, and a pool's give the same bytes.
void threads_of_the_caller() {
  sdie_config config = config_of(400, 300);
  mixed(config, 2);
  const auto frame = texture(400 * 300);
  const auto wanted = enhanced(config, frame);
  config.threads = 3;
  expect(enhanced(config, frame) == wanted, "three threads differ");
  const std::int32_t cpus[] = {0, 0};
  config.cpus = cpus;
  config.cpu_count = 2;
  expect(enhanced(config, frame) == wanted, "pinned threads differ");
  config.cpus = nullptr;
  config.cpu_count = 0;
  std::atomic<int> calls{0};
  config.pool = &calls;
  config.parallel = [](void* pool, std::int32_t members, sdie_body body, void* context) {
    std::vector<std::thread> threads;
    for (std::int32_t k = 0; k < members; ++k) threads.emplace_back([=] { body(context, k); });
    for (std::thread& thread : threads) thread.join();
    *static_cast<std::atomic<int>*>(pool) += members;
  };
  expect(enhanced(config, frame) == wanted && calls >= 3, "a pool's threads differ, or were not asked");
}

void recipes_are_read() {
  const std::string text = "sdie-fast-line 1\nname Steel A\nrecipe " + std::string(64, 'a') +
                           "\nround identity=0.5 bilateral=0.25 wls=0.25\nround sharpen=1\nset wls_solver fast\n"
                           "set bilateral_sigma_range 0.05\n";
  const auto signed_text = [](const std::string& content) {
    std::uint64_t hash = 14695981039346656037u;
    for (const char c : content) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    char line[32];
    std::snprintf(line, sizeof line, "check %016llx\n", static_cast<unsigned long long>(hash));
    return content + line;
  };
  const std::string good = signed_text(text);
  sdie_config config = config_of(kWidth, kHeight), by_hand = config;
  expect(sdie_config_parse(&config, good.data(), good.size()) == SDIE_OK, "a good file is refused");
  by_hand.rounds = 2;
  by_hand.weights[0][SDIE_IDENTITY] = 0.5f;
  by_hand.weights[0][SDIE_BILATERAL] = by_hand.weights[0][SDIE_WLS] = 0.25f;
  by_hand.weights[1][SDIE_SHARPEN] = 1.0f;
  expect(sdie_config_set(&by_hand, "wls_solver", "fast") == SDIE_OK, "wls_solver");
  expect(sdie_config_set(&by_hand, "bilateral_sigma_range", "5e-2") == SDIE_OK, "bilateral_sigma_range");
  std::memset(by_hand.recipe, 'a', 64);
  expect(std::memcmp(&config, &by_hand, sizeof config) == 0, "what a file says is not what was read");
  const sdie_config before = config;
  for (std::size_t k = 0; k < good.size(); ++k) {
    std::string damaged = good;
    damaged[k] ^= 4;
    expect(sdie_config_parse(&config, damaged.data(), damaged.size()) == SDIE_FILE,
           "damage at byte " + std::to_string(k));
    expect(sdie_config_parse(&config, good.data(), k) == SDIE_FILE, "a file cut at byte " + std::to_string(k));
  }
  for (const auto& [line, said] : {std::pair{"round hue=1\n", "line 8: received 'hue=1'"},
                                   {"round wls=1 wls=1\n", "each filter once"},
                                   {"round wls=nan\n", "FILTER=WEIGHT above 0"},
                                   {"round wls=inf\n", "received 'wls=inf'; accepted: FILTER=WEIGHT above 0"},
                                   {"round\n", "received ''; accepted: FILTER=WEIGHT above 0"},
                                   {"set wls_solver quick\n", "wls_solver: received 'quick'; accepted: exact, fast"},
                                   {"set median_window 4\n", "odd numbers"},
                                   {"set hue 1\n", "parameter: received 'hue'"},
                                   {"colour\n", "received 'colour'"}}) {
    const std::string bad = signed_text(text + line);
    refused(sdie_config_parse(&config, bad.data(), bad.size()), SDIE_FILE, said);
  }
  const std::string newer = signed_text("sdie-fast-line 2\nround wls=1\n"), none = signed_text("sdie-fast-line 1\n");
  refused(sdie_config_parse(&config, newer.data(), newer.size()), SDIE_FILE, "received version '2'; accepted: 1");
  refused(sdie_config_parse(&config, none.data(), none.size()), SDIE_FILE, "received no rounds");
  refused(sdie_config_load(&config, "no/such.line"), SDIE_FILE, "no/such.line: No such file");
  expect(std::memcmp(&config, &before, sizeof config) == 0, "a refused file changed the config");
}

}  // namespace

void plan_test() {
  a_deadline_shortens();
  time_counts_from_the_start_that_is_given();
  memory_of_the_caller();
  recipes_are_read();
}

void threads_test() {
  weights_change_between_frames();
  threads_of_the_caller();
}
