// A team of threads that runs one function in step: member k of n, with a barrier. A team of one costs
// nothing. Threads are made per call rather than pooled: that survives fork() and nested callers, and
// costs some 20 us a thread, which only calls of a millisecond and more pay (see enhance.cpp).
#pragma once
#include <algorithm>
#include <barrier>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace sdie {

class Team {
 public:
  Team(int rank, int size, std::barrier<>* barrier) : rank_(rank), size_(size), barrier_(barrier) {}
  int rank() const { return rank_; }
  int size() const { return size_; }
  void sync() const {
    if (size_ > 1) wait();
  }
  // This member's share of [0, n) in whole chunks: chunk borders do not depend on the team's size.
  std::pair<int, int> share(int n, int chunk = 1) const {
    const long long chunks = (n + chunk - 1) / chunk;
    const auto cut = [&](int k) { return static_cast<int>(std::min<long long>(n, chunks * k / size_ * chunk)); };
    return {cut(rank_), cut(rank_ + 1)};
  }

 private:
  // Not inline: the kernels are compiled for several instruction sets, and the standard library's barrier must
  // not end up in the program in the version of the newest.
  void wait() const;
  int rank_, size_;
  std::barrier<>* barrier_;
};

// Runs body(Team) on `size` threads, the calling one among them. An exception in any member must not
// leave the others at the barrier, so bodies allocate before they start to work in step.
template <class Body>
void run_team(int size, Body&& body) {
  if (size <= 1) {
    body(Team(0, 1, nullptr));
    return;
  }
  std::barrier<> barrier(size);
  std::exception_ptr error;
  std::mutex lock;
  const auto member = [&](int rank) {
    try {
      body(Team(rank, size, &barrier));
    } catch (...) {
      const std::lock_guard guard(lock);
      error = std::current_exception();
      barrier.arrive_and_drop();
    }
  };
  std::vector<std::thread> threads;
  threads.reserve(static_cast<std::size_t>(size - 1));
  for (int rank = 1; rank < size; ++rank) threads.emplace_back(member, rank);
  member(0);
  for (auto& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace sdie
