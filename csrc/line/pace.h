// What rounds take, and whether one more fits.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>

namespace sdie::line {

// What something takes, from how long it took: the running mean and the running mean deviation, of which four are added
// (Jacobson 1988, who estimates the time a network answers in). Nanoseconds.
class Estimate {
 public:
  void add(double taken) {
    if (!known_) mean_ = taken;
    const double off = taken - mean_;
    mean_ += off / 8.0;
    deviation_ = known_ ? deviation_ + (std::abs(off) - deviation_) / 4.0 : taken / 8.0;
    known_ = true;
  }
  bool known() const { return known_; }
  double most() const { return mean_ + 4.0 * deviation_; }
  void fade() {
    mean_ *= 1.0 - 1.0 / 512.0;
    deviation_ *= 1.0 - 1.0 / 16.0;
  }

 private:
  double mean_ = 0.0, deviation_ = 0.0;
  bool known_ = false;
};

// Rounds take what their filters take: an estimate for each set of filters that was run, the oldest being replaced.
class RoundTimes {
 public:
  void add(std::uint64_t filters, double taken) {
    Entry* entry = find(filters);
    if (!entry) {
      entry = &entries_[used_ < kMost ? used_ : next_ % kMost];
      used_ = std::min(used_ + 1, kMost);
      ++next_;
      *entry = Entry{filters, {}};
    }
    entry->time.add(taken);
  }
  // Of filters that were never run together: the most that others take. 0 before the first round.
  double most(std::uint64_t filters) const {
    double most = 0.0;
    for (int k = 0; k < used_; ++k) {
      if (entries_[k].filters == filters) return entries_[k].time.most();
      most = std::max(most, entries_[k].time.most());
    }
    return most;
  }
  // After a frame that was cut short. What is never tried is never measured again: the margin fades quickly, since a
  // single slow frame makes it large, and the mean slowly.
  void fade() {
    for (int k = 0; k < used_; ++k) entries_[k].time.fade();
  }

 private:
  struct Entry {
    std::uint64_t filters;
    Estimate time;
  };
  Entry* find(std::uint64_t filters) {
    for (int k = 0; k < used_; ++k)
      if (entries_[k].filters == filters) return &entries_[k];
    return nullptr;
  }
  static constexpr int kMost = 64;
  Entry entries_[kMost] = {};
  int used_ = 0, next_ = 0;
};

}  // namespace sdie::line
