// A plan holds what an enhancement needs: its memory and its threads. It is made once and run many times.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels.h"

namespace sdie {

class Crew;

// What a plan is made from, besides the filters' parameters.
struct Spec {
  const Kernels* kernels;
  int h, w;
  Pixels src = {}, dst = {};  // of one kind where they are in colour; colour to grey gives luma
  bool per_channel = false;   // every channel is a grey plane of its own; the same of both
  std::uint64_t filters = 0;  // bit k: filter k may have weight
  int rounds = 1;             // at most
  std::ptrdiff_t images = 0;  // at most so many a call; 0 for any number
  int threads = 1;            // at most, the caller's among them
};

// Calls body(context, member) for each member of [0, members) at once, and returns when all have returned.
using Body = void (*)(void* context, std::int32_t member);
struct Pool {
  void (*run)(void* pool, std::int32_t members, Body body, void* context) = nullptr;
  void* pool = nullptr;
};

// Where a plan's threads come from and run; what it says is for those besides the caller's.
struct Threads {
  std::vector<int> cpus = {};  // one for each, or none: wherever the system likes
  int priority = 0;            // of SCHED_FIFO; 0 for that of the caller
  Pool pool = {};              // in place of threads of the plan's own
};

// CPUs of the process's affinity mask, for as many threads besides the caller's, whose is the first. Throws as Plan.
std::vector<int> cpus_for(int threads);

// Bits of the filters to which some of `rows` rows of weights give any.
std::uint64_t filters_used(const float* weights, std::ptrdiff_t rows, const Kernels& kernels);

// Memory of the system, in huge pages where it is large and the system gives them. It is not touched.
class Block {
 public:
  Block() = default;
  explicit Block(std::size_t bytes);  // at least; throws std::bad_alloc
  // Memory of the caller's, which outlives it.
  Block(void* data, std::size_t bytes) : data_(static_cast<unsigned char*>(data)), size_(bytes) {}
  Block(Block&& other) noexcept { *this = std::move(other); }
  Block& operator=(Block&& other) noexcept {
    std::swap(map_, other.map_);
    std::swap(mapped_, other.mapped_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Block();
  unsigned char* data() const { return data_; }
  bool lent() const { return data_ && !map_; }
  std::size_t size() const { return size_; }

 private:
  void* map_ = nullptr;
  std::size_t mapped_ = 0;
  unsigned char* data_ = nullptr;
  std::size_t size_ = 0;
};

class Plan {
 public:
  // Takes all memory and starts all threads. Throws std::invalid_argument, std::bad_alloc, std::system_error.
  // `spare` is taken in place of new memory where its size suits, and has to suffice where it is the caller's.
  Plan(const Spec& spec, const Params& params, Block spare = Block(), const Threads& threads = {});
  ~Plan();
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // Enhances src into dst, which does not overlap it, and returns the seconds it took. Nothing is allocated, no thread
  // is started and no lock is taken. weights: images x rounds x filters, normalised. Throws, before anything is
  // written, std::invalid_argument for a call that the plan is not made for, and std::runtime_error where another
  // thread runs it, or where its threads stayed behind in the process that forked this one. With a strip, src is one
  // image that may have fewer rows than the plan, and dst has the strip's.
  double run(const Batch& src, const Batch& dst, const float* weights, int rounds, WlsInfo* info = nullptr,
             Pace* pace = nullptr, const Strip* strip = nullptr);

  // Whether it can do what a plan of that kind could, in the same way.
  bool serves(const Spec& wanted, const Params& params) const;

  // Gives the memory away; nothing is left to do for the plan but to end.
  Block release() { return std::move(memory_); }

  std::size_t bytes() const { return memory_.size(); }
  int threads() const { return threads_; }
  const Spec& spec() const { return spec_; }

  // Below this many pixels a plane is not split: the barriers would cost more than the help.
  static constexpr std::ptrdiff_t kSplitPixels = 256 * 256;

  // Whether its threads are in this process, which it had not been forked into.
  bool whole() const;

  // Bytes of memory that a plan takes.
  static std::size_t memory(const Spec& spec, const Params& params);

  // Bytes of working memory for one image on one thread.
  static std::size_t workspace(const Spec& spec, const Params& params);

 private:
  void check(const Batch& src, const Batch& dst, const float* weights, int rounds, const Strip* strip) const;

  const Spec spec_;
  const Params params_;
  const int maker_;         // the process
  const int threads_;       // of the crew
  const std::size_t step_;  // bytes from one member's memory to the next
  const std::size_t used_;  // bytes
  Block memory_;            // one after another for each member, or all of it for an image that is split
  std::unique_ptr<Crew> crew_;
  std::atomic<bool> busy_{false};
};

// What the exact WLS solver did on one grey float32 image.
WlsInfo wls_info(const Batch& src, const Params& params, const Kernels& kernels);

}  // namespace sdie
