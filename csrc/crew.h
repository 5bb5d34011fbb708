// The threads of a plan: started once, asleep between calls, in step during one. Nothing here allocates or locks
// after `start`.
#pragma once
#include <atomic>
#include <cstdint>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "plan.h"
#include "team.h"

namespace sdie {

// Waits until the value is another than `old`. It spins for some microseconds, about as long as the waits between
// the stages of a round, and then sleeps: an idle thread costs no CPU.
inline void wait_while(const std::atomic<std::uint32_t>& value, std::uint32_t old) {
  for (int k = 0; k < 200; ++k) {
    if (value.load(std::memory_order_acquire) != old) return;
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
  }
  value.wait(old, std::memory_order_acquire);
}

class Barrier {
 public:
  explicit Barrier(int size) : size_(static_cast<std::uint32_t>(size)) {}
  void wait() {
    const std::uint32_t turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
      turn_.notify_all();
    } else {
      wait_while(turn_, turn);
    }
  }

 private:
  const std::uint32_t size_;
  alignas(64) std::atomic<std::uint32_t> arrived_{0};
  alignas(64) std::atomic<std::uint32_t> turn_{0};
};

class Crew {
 public:
  // The calling thread is one of them, so that a crew of one has no thread of its own.
  explicit Crew(int size, Pool pool = {}) : size_(size), pool_(pool), barrier_(size) {}
  ~Crew() {
    body_ = nullptr;
    wake();
    for (std::thread& thread : threads_) thread.join();
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Starts the other threads; with `cpus`, member k runs on cpus[k - 1] alone. The calling thread, member 0, stays as
  // it is. Throws std::system_error.
  void start(const Threads& how);

  bool pooled() const { return pool_.run != nullptr; }

  // Runs body(Team) in every member and returns when all are through. It must not throw.
  template <class Body>
  void run(const Body& body) {
    if (size_ == 1) return body(Team(0, 1, nullptr));
    if (pool_.run) {
      const auto call = std::pair(this, &body);
      return pool_.run(pool_.pool, size_, &in_pool<std::remove_const_t<decltype(call)>>,
                       const_cast<void*>(static_cast<const void*>(&call)));
    }
    body_ = [](const void* context, const Team& team) { (*static_cast<const Body*>(context))(team); };
    context_ = &body;
    wake();
    body(Team(0, size_, &barrier_));
    barrier_.wait();
  }

 private:
  template <class Call>
  static void in_pool(void* context, std::int32_t member) {
    const auto& [crew, body] = *static_cast<const Call*>(context);
    (*body)(Team(member, crew->size_, &crew->barrier_));
  }
  void wake() {
    call_.fetch_add(1, std::memory_order_release);
    call_.notify_all();
  }
  void work(int rank) {
    for (std::uint32_t seen = 0;; ++seen) {
      wait_while(call_, seen);
      if (!body_) return;
      body_(context_, Team(rank, size_, &barrier_));
      barrier_.wait();
    }
  }

  const int size_;
  const Pool pool_;
  Barrier barrier_;
  void (*body_)(const void*, const Team&) = nullptr;
  const void* context_ = nullptr;
  alignas(64) std::atomic<std::uint32_t> call_{0};
  std::vector<std::thread> threads_;
};

}  // namespace sdie
