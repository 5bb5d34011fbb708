// After its creation, a plan or a stream allocates nothing, maps no memory, starts no thread and locks no mutex:
// counted in all threads but those that set weights, over a thousand frames.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <string>
#include <thread>

#include "check.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SDIE_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SDIE_SANITIZED
#endif
// Sanitizers take the place of these functions themselves; other C libraries have no second name for them.
#if defined(__GLIBC__) && !defined(SDIE_SANITIZED)
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cerrno>

namespace {

enum Call { kAllocation, kMapping, kThread, kLock, kCalls };
constexpr const char* kNames[kCalls] = {"allocations", "mappings", "threads", "locks"};

std::atomic<long> counts[kCalls];
thread_local bool excused = false;  // this thread is not counted

void count(Call call) {
  if (!excused) counts[call].fetch_add(1, std::memory_order_relaxed);
}

template <class F>
F next_of(F, const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}

}  // namespace

#pragma GCC visibility push(default)  // the library is to call these
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) noexcept { return count(kAllocation), __libc_malloc(size); }
void* calloc(std::size_t n, std::size_t size) noexcept { return count(kAllocation), __libc_calloc(n, size); }
void* realloc(void* p, std::size_t size) noexcept { return count(kAllocation), __libc_realloc(p, size); }
void* aligned_alloc(std::size_t to, std::size_t size) noexcept { return count(kAllocation), __libc_memalign(to, size); }
int posix_memalign(void** p, std::size_t to, std::size_t size) noexcept {
  count(kAllocation);
  *p = __libc_memalign(to, size);
  return *p ? 0 : ENOMEM;
}
void* mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) noexcept {
  static const auto real = next_of(&mmap, "mmap");
  return count(kMapping), real(at, size, protection, flags, file, offset);
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) noexcept {
  static const auto real = next_of(&pthread_create, "pthread_create");
  return count(kThread), real(thread, attributes, body, argument);
}
int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept {
  static const auto real = next_of(&pthread_mutex_lock, "pthread_mutex_lock");
  return count(kLock), real(mutex);
}
}
#pragma GCC visibility pop

using namespace linetest;

namespace {

constexpr int kFrames = 1000;

// That `act` calls nothing of what is counted.
void quiet(const std::string& what, const std::function<void()>& act) {
  long before[kCalls];
  for (int k = 0; k < kCalls; ++k) before[k] = counts[k];
  act();
  for (int k = 0; k < kCalls; ++k) {
    const long more = counts[k] - before[k];
    expect(more == 0, what + ": " + std::to_string(more) + " " + kNames[k] + " in " + std::to_string(kFrames));
  }
}

// Changes weights until it is destroyed, by the identity and the filter of the second round.
class Writer {
 public:
  explicit Writer(std::function<sdie_status(const float*)> set)
      : thread_([this, set = std::move(set)] {
          excused = true;
          float weights[2][SDIE_GAUSSIAN + 1] = {};
          for (int k = 0; !over_; ++k) {
            weights[0][SDIE_IDENTITY] = static_cast<float>(1 + k % 5);
            weights[1][SDIE_SHARPEN] = weights[0][SDIE_SHARPEN] = 1.0f;
            if (set(weights[0]) != SDIE_OK) failed_ = true;
            ++sets_;
            std::this_thread::sleep_for(std::chrono::microseconds(50));
          }
        }) {
    while (sets_ == 0) std::this_thread::yield();
  }
  ~Writer() {
    over_ = true;
    thread_.join();
    expect(!failed_, "weights were refused");
  }

 private:
  std::atomic<bool> over_{false}, failed_{false};
  std::atomic<long> sets_{0};
  std::thread thread_;
};

void frames(int width, int height, sdie_format input, sdie_format output, int threads, bool all_filters) {
  sdie_config config = config_of(width, height, input, output);
  if (all_filters) {
    mixed(config, 2);
  } else {
    config.rounds = 2;
    for (int t = 0; t < 2; ++t) config.weights[t][SDIE_IDENTITY] = config.weights[t][SDIE_SHARPEN] = 1.0f;
  }
  config.threads = threads;
  config.deadline_ns = 60'000'000'000;
  const auto frame = texture(sdie_line_bytes(input, width) * static_cast<std::size_t>(height));
  std::vector<std::uint8_t> out(sdie_line_bytes(output, width) * static_cast<std::size_t>(height));
  const std::string what = std::string(sdie_format_name(input)) + " to " + sdie_format_name(output) + " by " +
                           std::to_string(threads) + (threads > 1 ? " threads" : " thread");
  const long before[] = {counts[kAllocation], counts[kThread]};
  const Plan plan(config);
  expect(counts[kAllocation] > before[0] && counts[kThread] == before[1] + threads - 1, what + ": nothing is counted");
  const Writer writer([&](const float* weights) { return sdie_plan_set_weights(plan, weights, 2, SDIE_GAUSSIAN + 1); });
  sdie_report report{};
  report.size = sizeof report;
  sdie_stats stats{};
  stats.size = sizeof stats;
  bool right = true;
  quiet(what, [&] {
    for (int k = 0; k < kFrames; ++k) {
      right &= sdie_plan_run_since(plan, frame.data(), 0, out.data(), 0, sdie_clock(), &report) == SDIE_OK;
      right &= sdie_plan_stats(plan, &stats) == SDIE_OK && sdie_plan_percentile(plan, 99.0) > 0;
    }
  });
  expect(right && stats.frames == kFrames, what + ": a run was refused");
}

void strips(sdie_format format, int threads) {
  constexpr int kWidth = 300, kStrip = 16;
  sdie_config config = config_of(kWidth, 1, format);
  mixed(config, 2);
  config.threads = threads;
  sdie_stream_config web;
  expect(sdie_stream_config_init(&web, sizeof web) == SDIE_OK, "sdie_stream_config_init");
  web.frame = &config;
  web.strip = kStrip;
  web.context = 4;
  sdie_stream* stream = nullptr;
  expect(sdie_stream_create(&web, &stream) == SDIE_OK, "a stream was refused");
  const auto lines = texture(sdie_line_bytes(format, kWidth) * kStrip);
  std::vector<std::uint8_t> out(lines.size());
  const std::string what = std::string(sdie_format_name(format)) + " in strips";
  bool right = true;
  std::int64_t pulled = 0;
  {
    const Writer writer(
        [&](const float* weights) { return sdie_stream_set_weights(stream, weights, 2, SDIE_GAUSSIAN + 1); });
    quiet(what, [&] {
      for (int k = 0; k < kFrames; ++k) {
        std::int64_t taken = 0, got = 0;
        right &= sdie_stream_push(stream, lines.data(), 0, kStrip, &taken) == SDIE_OK && taken == kStrip;
        while (sdie_stream_pull(stream, out.data(), 0, kStrip, &got) == SDIE_OK) pulled += got;
      }
      right &= sdie_stream_finish(stream) == SDIE_OK;
    });
  }
  expect(right && pulled > std::int64_t{kStrip} * (kFrames - 2), what + ": lines are missing");
  expect(sdie_stream_destroy(stream) == SDIE_OK, "destroy");
}

}  // namespace

void quiet_test() {
  frames(64, 48, SDIE_MONO8, SDIE_MONO8, 1, true);
  frames(64, 48, SDIE_BGR8, SDIE_BGR8, 1, true);
  frames(61, 40, SDIE_MONO12P, SDIE_MONO10PACKED, 1, true);
  frames(300, 300, SDIE_MONO12PACKED, SDIE_MONO8, 2, false);
  frames(300, 300, SDIE_FLOAT32, SDIE_MONO10P, 2, false);
  strips(SDIE_MONO8, 1);
  strips(SDIE_MONO10P, 2);
}

#else

void quiet_test() {}

#endif
