// A team of threads that runs one function in step: member k of n, with a barrier. A team of one costs nothing.
#pragma once
#include <algorithm>
#include <utility>

namespace sdie {

class Barrier;  // crew.h

class Team {
 public:
  Team(int rank, int size, Barrier* barrier) : rank_(rank), size_(size), barrier_(barrier) {}
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
  // Not inline: the kernels are compiled for several instruction sets, and the standard library's atomics must
  // not end up in the program in the version of the newest.
  void wait() const;
  int rank_, size_;
  Barrier* barrier_;
};

}  // namespace sdie
