// Paced frames for as long as asked, at a share of what the machine can do:
//   soak SECONDS [--share 0.8] [--size 2048x1024] [--threads 2] [--recipe FILE]
// Frames of Mono12p come in at even times into a ring of four and go out as Mono8. While no frame is there the caller
// reads the clock without a pause: where the clock jumps, the machine was away, and a frame would have waited as well.
// A line a minute on stderr; one of JSON on stdout at the end, and exit status 1 where a frame was lost.
#include <sdie_fast.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

constexpr int kRing = 4;                 // frames that wait before one is lost
constexpr std::uint64_t kAway = 20'000;  // ns; a shorter pause is no pause
constexpr std::uint64_t kMinute = 60'000'000'000;

void need(sdie_status status) {
  if (status == SDIE_OK) return;
  char words[512];
  sdie_message(words, sizeof words);
  std::fprintf(stderr, "soak: %s\n", words);
  std::exit(2);
}

long resident_kib() {
  long pages = 0, resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &pages, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident * 4;
}

// How long the machine was away, while nothing else was asked of it.
struct Away {
  std::uint64_t watched = 0, total = 0, longest = 0;
  void until(std::uint64_t due) {
    for (std::uint64_t now = sdie_clock(), next; now < due; now = next) {
      next = sdie_clock();
      watched += next - now;
      if (next - now < kAway) continue;
      total += next - now;
      longest = std::max(longest, next - now);
    }
  }
  double share() const { return watched ? static_cast<double>(total) / static_cast<double>(watched) : 0.0; }
};

sdie_stats stats_of(sdie_plan* plan) {
  sdie_stats stats{};
  stats.size = sizeof stats;
  need(sdie_plan_stats(plan, &stats));
  return stats;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2)
    return std::fprintf(stderr, "usage: soak SECONDS [--share S] [--size WxH] [--threads N] [--recipe FILE]\n"), 2;
  double share = 0.8;
  sdie_config config;
  need(sdie_config_init(&config, sizeof config));
  config.width = 2048;
  config.height = 1024;
  config.threads = 2;
  config.input = SDIE_MONO12P;
  config.output = SDIE_MONO8;
  for (int k = SDIE_IDENTITY; k <= SDIE_SPATIOGRAM; ++k) config.weights[0][k] = 1.0f;
  need(sdie_config_set(&config, "wls_solver", "fast"));
  need(sdie_config_set(&config, "bilateral_footprint", "disk"));
  for (int k = 2; k + 1 < argc; k += 2) {
    const std::string name = argv[k];
    if (name == "--share")
      share = std::atof(argv[k + 1]);
    else if (name == "--size" && std::sscanf(argv[k + 1], "%dx%d", &config.width, &config.height) == 2)
      continue;
    else if (name == "--threads")
      config.threads = std::atoi(argv[k + 1]);
    else if (name == "--recipe")
      need(sdie_config_load(&config, argv[k + 1]));
    else
      return std::fprintf(stderr, "soak: '%s' is not understood\n", argv[k]), 2;
  }

  const std::size_t line = sdie_line_bytes(config.input, config.width), h = static_cast<std::size_t>(config.height);
  std::vector<std::vector<unsigned char>> frames(kRing, std::vector<unsigned char>(line * h));
  unsigned noise = 1;
  for (auto& frame : frames)
    for (std::size_t k = 0; k < frame.size(); ++k) {
      noise = noise * 1664525u + 1013904223u;
      frame[k] = static_cast<unsigned char>(k / 97 % 5 * 40 + (noise >> 27));
    }
  std::vector<unsigned char> out(static_cast<std::size_t>(config.width) * h);

  sdie_plan* plan = nullptr;
  need(sdie_plan_create(&config, &plan));
  const std::uint64_t trial = sdie_clock() + 5'000'000'000;
  for (int k = 0; sdie_clock() < trial; ++k)
    need(sdie_plan_run(plan, frames[k % kRing].data(), 0, out.data(), 0, nullptr));
  const double alone = stats_of(plan).mean_ns;
  need(sdie_plan_destroy(plan));
  const auto period = static_cast<std::uint64_t>(alone / share);
  config.deadline_ns = 2 * period;
  need(sdie_plan_create(&config, &plan));
  std::fprintf(stderr, "a frame takes %.3f ms; one comes every %.3f ms\n", alone * 1e-6,
               static_cast<double>(period) * 1e-6);

  Away away;
  const std::uint64_t start = sdie_clock() + 100'000'000;
  const auto count = static_cast<std::uint64_t>(std::atof(argv[1]) * 1e9 / static_cast<double>(period));
  std::uint64_t lost = 0, minute = start + kMinute;
  long first = 0, last = 0;
  for (std::uint64_t k = 0; k < count; ++k) {
    const std::uint64_t due = start + k * period;
    away.until(due);
    if (sdie_clock() - due > kRing * period) {  // its place in the ring is taken by a newer one
      ++lost;
      continue;
    }
    need(sdie_plan_run_since(plan, frames[k % kRing].data(), 0, out.data(), 0, due, nullptr));
    if (sdie_clock() < minute) continue;
    minute += kMinute;
    last = resident_kib();
    if (first == 0) first = last;
    const sdie_stats now = stats_of(plan);
    std::fprintf(stderr,
                 "%.0f min: %llu frames, p50 %.3f ms, p99.9 %.3f ms, max %.3f ms, late %llu, lost %llu, %ld KiB\n",
                 static_cast<double>(sdie_clock() - start) / 6e10, static_cast<unsigned long long>(now.frames),
                 static_cast<double>(now.p50_ns) * 1e-6, static_cast<double>(now.p999_ns) * 1e-6,
                 static_cast<double>(now.max_ns) * 1e-6, static_cast<unsigned long long>(now.late),
                 static_cast<unsigned long long>(lost), last);
  }
  const sdie_stats all = stats_of(plan);
  std::printf(
      "{\"seconds\": %.0f, \"share\": %.2f, \"width\": %d, \"height\": %d, \"threads\": %d, \"alone\": %.6f, "
      "\"period\": %.6f, \"frames\": %llu, \"lost\": %llu, \"late\": %llu, \"shortened\": %llu, \"p50\": %.6f, "
      "\"p99\": %.6f, \"p999\": %.6f, \"max\": %.6f, \"first_kib\": %ld, \"last_kib\": %ld, \"away_share\": %.6f, "
      "\"away_longest\": %.6f}\n",
      static_cast<double>(sdie_clock() - start) * 1e-9, share, config.width, config.height, config.threads,
      alone * 1e-9, static_cast<double>(period) * 1e-9, static_cast<unsigned long long>(all.frames),
      static_cast<unsigned long long>(lost), static_cast<unsigned long long>(all.late),
      static_cast<unsigned long long>(all.shortened), static_cast<double>(all.p50_ns) * 1e-9,
      static_cast<double>(all.p99_ns) * 1e-9, static_cast<double>(all.p999_ns) * 1e-9,
      static_cast<double>(all.max_ns) * 1e-9, first, last, away.share(), static_cast<double>(away.longest) * 1e-9);
  need(sdie_plan_destroy(plan));
  return lost > 0;
}
