// A stream of the C interface: the window on a web that a plan enhances, and the lines that wait to be pulled.
#pragma once
#include <atomic>

#include "plan.h"

namespace sdie::line {

// A caller's configuration, checked, and where in one block of memory everything goes.
struct StreamSetup {
  explicit StreamSetup(const sdie_stream_config& config);

  sdie_config frame;
  Setup plan;
  int strip, context, statistics, half_life, capacity;
  std::size_t input_stride, output_stride;  // of the stream's own lines
  std::size_t pixels, window, ready, sums;  // bytes, in whole cache lines
  std::size_t bytes() const { return pixels + window + ready + sums; }

 private:
  StreamSetup(const sdie_stream_config& config, const sdie_config& of_strip);
};

class Stream {
 public:
  // memory: of setup.bytes(), aligned to 64 bytes, which outlives it.
  Stream(const StreamSetup& setup, unsigned char* memory);

  sdie_status push(const void* src, std::int64_t stride, std::int64_t count, std::int64_t* taken) noexcept;
  sdie_status pull(void* dst, std::int64_t stride, std::int64_t count, std::int64_t* got) noexcept;
  sdie_status finish() noexcept;
  sdie_status learn(const void* src, std::int64_t stride, std::int64_t lines) noexcept;

  LinePlan& plan() { return plan_; }
  const LinePlan& plan() const { return plan_; }
  int context() const { return context_; }
  int latency() const { return strip_ + context_ - 1; }
  // Takes the place of a call for good; false while one is running.
  bool close() { return !busy_.exchange(true, std::memory_order_acquire); }

 private:
  template <class F>
  sdie_status alone(F&& body) noexcept;
  void enhance(int lines, std::uint64_t since);
  int room() const { return capacity_ - waiting_; }

  LinePlan plan_;
  const Format &input_, &output_;
  const int width_, strip_, context_, statistics_, half_life_, capacity_, rounds_;
  const std::ptrdiff_t src_stride_, dst_stride_, input_stride_, output_stride_;
  const bool needs_sums_;         // the spatiogram may have weight, and its statistics are not the strip's
  unsigned char* const window_;   // lines of the web in the input's format: some above the next strip, and from it on
  unsigned char* const ready_;    // lines in the output's format
  Sums* const sums_;              // of each round
  std::vector<float> rehearsal_;  // weights of `learn`
  int held_ = 0, above_ = 0;      // lines in the window; those of them that are above the next strip
  int first_ = 0, waiting_ = 0;   // of the lines that are ready
  bool ending_ = false;           // a web whose end is known waits for room
  bool learned_ = false;
  std::atomic<bool> busy_{false};
};

}  // namespace sdie::line
