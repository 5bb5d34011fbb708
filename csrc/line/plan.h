// A plan of the C interface: one of the core, with what a line needs around it.
#pragma once
#include <atomic>

#include "config.h"
#include "histogram.h"
#include "pace.h"
#include "recipes.h"

namespace sdie::line {

class LinePlan {
 public:
  // block: the caller's memory for the pixels, of pixel_bytes, or none for the system's.
  LinePlan(const Setup& setup, std::uint64_t deadline_ns, int warm_up, Block block);

  static std::size_t pixel_bytes(const Setup& setup) { return Plan::memory(setup.spec, setup.params); }

  sdie_status run(const void* src, std::int64_t src_stride, void* dst, std::int64_t dst_stride, std::uint64_t since,
                  sdie_report* report) noexcept;
  // The same for the strip of a window on a web, both in the memory of a stream that has checked them.
  void run_strip(const Batch& src, const Batch& dst, const Strip& strip, std::uint64_t since);
  // Takes the statistics of a strip before the last of some rounds, and leaves it.
  void learn_strip(const Batch& src, const std::vector<float>& weights, int rounds, const Strip& strip);
  void set_weights(const float* weights, int rounds, int columns);
  const Recipes::Slot& recipe() { return recipes_.read(); }  // within a call
  void check_whole() const;
  void count_refused() { refused_.fetch_add(1, std::memory_order_relaxed); }
  sdie_stats stats() const;
  const Histogram& latency() const { return latency_; }
  void reset_stats();

  // Takes the place of a call for good; false while one is running.
  bool close() { return !busy_.exchange(true, std::memory_order_acquire); }

 private:
  // What one run knows while the core asks it about rounds.
  struct Course : Pace {
    LinePlan* plan;
    const Recipes::Slot* recipe;
    std::uint64_t due, last;  // when it should be over, or 0; the last time that it was asked
    double next = 0.0;        // expected of the round that was asked about last
  };
  static bool fits(Pace& pace, int round);
  void timed(Course& course, std::uint64_t now);

  std::uint64_t filters_at(const Recipes::Slot& recipe, int round) const;
  void check_picture(const char* name, const Format& format, const void* data, std::ptrdiff_t stride) const;
  void run_checked(const Batch& src, const Batch& dst, Course& course, const Recipes::Slot& recipe,
                   const Strip* strip = nullptr);
  bool run_frame(const Batch& src, const Batch& dst, Course& course, std::uint64_t began, const Strip* strip = nullptr);

  const Format &input_, &output_;
  const std::ptrdiff_t src_stride_, dst_stride_;
  const std::uint64_t deadline_;
  Plan plan_;
  Recipes recipes_;
  RoundTimes times_;
  Estimate edge_;  // loading a picture, which takes about as long as writing it where a frame is cut short
  Histogram latency_;
  std::atomic<std::uint64_t> late_{0}, shortened_{0}, unenhanced_{0}, rounds_{0}, refused_{0};
  std::atomic<bool> busy_{false};
};

}  // namespace sdie::line
