// Counts of latencies in the layout of HdrHistogram (Tene): buckets of 128 equal steps, each bucket twice as wide as
// the one before, so that every value is kept to 1 part in 128. One thread records, any thread reads; there is no lock.
#pragma once
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>

namespace sdie::line {

class Histogram {
 public:
  void record(std::uint64_t value) {
    count_[place(value)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
    if (value < least_.load(std::memory_order_relaxed)) least_.store(value, std::memory_order_relaxed);
    if (value > most_.load(std::memory_order_relaxed)) most_.store(value, std::memory_order_relaxed);
  }

  void reset() {
    for (auto& count : count_) count.store(0, std::memory_order_relaxed);
    sum_.store(0, std::memory_order_relaxed);
    least_.store(UINT64_MAX, std::memory_order_relaxed);
    most_.store(0, std::memory_order_relaxed);
  }

  std::uint64_t total() const {
    std::uint64_t total = 0;
    for (const auto& count : count_) total += count.load(std::memory_order_relaxed);
    return total;
  }

  // The least value that so many percent of those recorded do not pass, or what is up to 1/128 above it; 0 of none.
  std::uint64_t percentile(double percent) const {
    const std::uint64_t all = total(), most = most_.load(std::memory_order_relaxed);
    const double wanted = std::ceil(percent / 100.0 * static_cast<double>(all));
    std::uint64_t seen = 0;
    for (unsigned k = 0; k < kPlaces; ++k) {
      const std::uint64_t here = count_[k].load(std::memory_order_relaxed);
      seen += here;
      if (here > 0 && static_cast<double>(seen) >= wanted) return std::min(highest(k), most);
    }
    return most;
  }

  std::uint64_t least() const { return total() > 0 ? least_.load(std::memory_order_relaxed) : 0; }
  std::uint64_t most() const { return most_.load(std::memory_order_relaxed); }
  double mean() const {
    const std::uint64_t all = total();
    return all > 0 ? static_cast<double>(sum_.load(std::memory_order_relaxed)) / static_cast<double>(all) : 0.0;
  }

 private:
  static constexpr unsigned kSteps = 128, kLongest = 42;  // bits: 2^42 ns are 73 minutes; what is longer counts as that
  static constexpr unsigned kPlaces = (kLongest - 7 + 1) * kSteps;

  // Values below 256 have a place each; of the larger ones the first eight bits tell it.
  static unsigned place(std::uint64_t value) {
    value = std::min(value, (std::uint64_t{1} << kLongest) - 1);
    const unsigned shift = static_cast<unsigned>(std::bit_width(value | (2 * kSteps - 1))) - 8;
    return shift * kSteps + static_cast<unsigned>(value >> shift);
  }
  static std::uint64_t highest(unsigned place) {
    const unsigned shift = place < 2 * kSteps ? 0 : place / kSteps - 1;
    return ((std::uint64_t{place - shift * kSteps} + 1) << shift) - 1;
  }

  std::atomic<std::uint64_t> count_[kPlaces] = {};
  std::atomic<std::uint64_t> sum_{0}, least_{UINT64_MAX}, most_{0};
};

}  // namespace sdie::line
