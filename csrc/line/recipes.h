// Weights that one thread uses while another changes them: three slots, of which the reader has one, the writers one,
// and the third is exchanged. Neither waits for the other; what was written last is read next.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

namespace sdie::line {

class Recipes {
 public:
  struct Slot {
    std::vector<float> weights;  // rounds x filters
    int rounds = 0;
  };

  Recipes(const std::vector<float>& weights, int rounds) {
    for (Slot& slot : slots_) slot = {weights, rounds};
  }

  // At most as many as at first.
  void write(const std::vector<float>& weights, int rounds) {
    const std::lock_guard guard(writers_);
    Slot& slot = slots_[written_];
    std::copy(weights.begin(), weights.end(), slot.weights.begin());
    slot.rounds = rounds;
    written_ = shared_.exchange(written_ | kFresh, std::memory_order_acq_rel) & ~kFresh;
  }

  // Stays as it is until the next call.
  const Slot& read() {
    if (shared_.load(std::memory_order_relaxed) & kFresh)
      read_ = shared_.exchange(read_, std::memory_order_acq_rel) & ~kFresh;
    return slots_[read_];
  }

 private:
  static constexpr unsigned kFresh = 4;
  Slot slots_[3];
  unsigned read_ = 0, written_ = 1;
  std::atomic<unsigned> shared_{2};
  std::mutex writers_;
};

}  // namespace sdie::line
