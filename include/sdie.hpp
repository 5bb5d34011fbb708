// libsdie_fast for C++17: owners of the handles of sdie_fast.h, which tells all that is not told here.
//
//   sdie::Config config;
//   config.load("steel.line");
//   config.width = 2048, config.height = 1024;
//   config.threads = 2, config.deadline_ns = 20'000'000;
//   sdie::Plan plan(config);
//   while (...) sdie_report done = plan.run(frame, out);
//
// A refused call throws sdie::Error, which allocates; a call that succeeds allocates no more than the C function does.
// Where no exception may be thrown, give `plan.get()` to the C functions.
#ifndef SDIE_HPP
#define SDIE_HPP

#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "sdie_fast.h"

namespace sdie {

// A refused call: the words of sdie_message, such as "width: received 0; accepted: 1 to 2^30 pixels".
class Error : public std::runtime_error {
 public:
  // To be made by the thread whose call was refused, before its next call.
  explicit Error(sdie_status status) : std::runtime_error(words(status)), status_(status) {}
  sdie_status status() const noexcept { return status_; }

 private:
  static std::string words(sdie_status status) {
    std::string text(sdie_message(nullptr, 0), '\0');
    sdie_message(text.data(), text.size() + 1);
    return text.empty() ? sdie_status_text(status) : text;
  }
  sdie_status status_;
};

// Throws for a status below zero; gives back the others: SDIE_OK, SDIE_EMPTY, SDIE_FULL.
inline sdie_status check(sdie_status status) {
  if (status < 0) throw Error(status);
  return status;
}

// What plans and streams are made from: the fields of sdie_config, with their usual values. It is copied as a whole;
// what its pointers lead to (`cpus`, `pool`, `allocator`) stays the caller's.
struct Config : sdie_config {
  Config() { check(sdie_config_init(this, sizeof(sdie_config))); }

  // Rounds, weights and parameters from a file of `sdie-fast export-line`, or from its bytes.
  Config& load(const std::string& path) {
    check(sdie_config_load(this, path.c_str()));
    return *this;
  }
  Config& parse(const void* bytes, std::size_t count) {
    check(sdie_config_parse(this, bytes, count));
    return *this;
  }

  // set("wls_solver", "fast"), set("bilateral_sigma_range", 0.1).
  Config& set(const char* parameter, const char* value) {
    check(sdie_config_set(this, parameter, value));
    return *this;
  }
  template <typename Number, typename = std::enable_if_t<std::is_arithmetic_v<Number>>>
  Config& set(const char* parameter, Number value) {
    char text[32] = {};
    std::to_chars(text, text + sizeof text - 1, static_cast<double>(value));  // a point in any locale
    return set(parameter, text);
  }
};

// Rounds of filters for frames of one size. Move-only; it must not be destroyed while a thread is in `run`.
class Plan {
 public:
  explicit Plan(const sdie_config& config) {
    sdie_plan* plan = nullptr;
    check(sdie_plan_create(&config, &plan));
    plan_.reset(plan);
  }
  // In a block of `workspace(config)` bytes, aligned to 64, which outlives the plan.
  Plan(const sdie_config& config, void* block, std::size_t bytes) {
    sdie_plan* plan = nullptr;
    check(sdie_plan_create_in(&config, block, bytes, &plan));
    plan_.reset(plan);
  }
  static std::size_t workspace(const sdie_config& config) {
    std::size_t bytes = 0;
    check(sdie_plan_workspace(&config, &bytes));
    return bytes;
  }

  // One frame, whose lines lie as configured, or `stride` bytes apart.
  sdie_report run(const void* src, void* dst) { return run(src, 0, dst, 0); }
  sdie_report run(const void* src, std::int64_t src_stride, void* dst, std::int64_t dst_stride) {
    sdie_report report{};
    report.size = sizeof report;
    check(sdie_plan_run(get(), src, src_stride, dst, dst_stride, &report));
    return report;
  }
  // One frame that started at `since_ns` of sdie_clock: deadline and latency count from there.
  sdie_report run_since(const void* src, void* dst, std::uint64_t since_ns) {
    return run_since(src, 0, dst, 0, since_ns);
  }
  sdie_report run_since(const void* src, std::int64_t src_stride, void* dst, std::int64_t dst_stride,
                        std::uint64_t since_ns) {
    sdie_report report{};
    report.size = sizeof report;
    check(sdie_plan_run_since(get(), src, src_stride, dst, dst_stride, since_ns, &report));
    return report;
  }

  // From any thread, also while another runs the plan: weights are `rounds` rows of `filters` columns.
  void set_weights(const float* weights, std::int32_t rounds, std::int32_t filters) {
    check(sdie_plan_set_weights(get(), weights, rounds, filters));
  }
  sdie_stats stats() const {
    sdie_stats stats{};
    stats.size = sizeof stats;
    check(sdie_plan_stats(get(), &stats));
    return stats;
  }
  // Nanoseconds that this share of the frames, in percent, took at most.
  std::uint64_t percentile(double percentile) const { return sdie_plan_percentile(get(), percentile); }
  void reset_stats() { check(sdie_plan_reset_stats(get())); }

  sdie_plan* get() const noexcept { return plan_.get(); }

 private:
  struct Destroy {
    void operator()(sdie_plan* plan) const noexcept { sdie_plan_destroy(plan); }
  };
  std::unique_ptr<sdie_plan, Destroy> plan_;
};

// Endless material of one width: lines in, finished lines out. Move-only.
class Stream {
 public:
  explicit Stream(const sdie_stream_config& config) {
    sdie_stream* stream = nullptr;
    check(sdie_stream_create(&config, &stream));
    stream_.reset(stream);
  }
  // The usual values for a frame, which has to live until the stream is made.
  static sdie_stream_config usual(const sdie_config& frame) {
    sdie_stream_config config;
    check(sdie_stream_config_init(&config, sizeof config));
    config.frame = &frame;
    return config;
  }
  explicit Stream(const sdie_config& frame) : Stream(usual(frame)) {}

  // Lines that were taken: fewer than `count` where finished ones have to be pulled first.
  std::int64_t push(const void* src, std::int64_t count, std::int64_t src_stride = 0) {
    std::int64_t taken = 0;
    check(sdie_stream_push(get(), src, src_stride, count, &taken));
    return taken;
  }
  // Lines that were written: 0 where none is finished.
  std::int64_t pull(void* dst, std::int64_t count, std::int64_t dst_stride = 0) {
    std::int64_t got = 0;
    check(sdie_stream_pull(get(), dst, dst_stride, count, &got));
    return got;
  }
  // The web ends here. False: pull, and call it again.
  bool finish() { return check(sdie_stream_finish(get())) == SDIE_OK; }
  void learn(const void* src, std::int64_t lines, std::int64_t src_stride = 0) {
    check(sdie_stream_learn(get(), src, src_stride, lines));
  }
  void set_weights(const float* weights, std::int32_t rounds, std::int32_t filters) {
    check(sdie_stream_set_weights(get(), weights, rounds, filters));
  }

  std::int32_t latency() const { return sdie_stream_latency(get()); }
  std::int32_t context() const { return sdie_stream_context(get()); }
  sdie_stats stats() const {
    sdie_stats stats{};
    stats.size = sizeof stats;
    check(sdie_stream_stats(get(), &stats));
    return stats;
  }

  sdie_stream* get() const noexcept { return stream_.get(); }

 private:
  struct Destroy {
    void operator()(sdie_stream* stream) const noexcept { sdie_stream_destroy(stream); }
  };
  std::unique_ptr<sdie_stream, Destroy> stream_;
};

}  // namespace sdie
#endif
