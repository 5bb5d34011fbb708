#include "cache.h"

#include <algorithm>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace sdie {
namespace {

// Callers take a plan away to use it and bring it back, so that the lock is held only for a look at a short list.
class Cache {
 public:
  // Never destroyed: at the process's end other threads may still be in `enhance`.
  static Cache& instance() {
    static Cache& cache = *new Cache;
    return cache;
  }

  // Takes out a plan that serves or, where there is none and no room for another, the one unused for longest: whether
  // it serves.
  bool take(const Spec& spec, const Params& params, std::unique_ptr<Plan>& plan, std::size_t& clears) {
    const std::lock_guard guard(lock_);
    clears = clears_;
    for (std::size_t k = kept_.size(); k-- > 0;)
      if (kept_[k]->serves(spec, params)) return plan = out(k), true;
    if (kept_.size() == plans_) plan = out(0);
    return false;
  }

  // Keeps a plan as the one used last, if there is room and it is not too large by itself. What it returns is to be
  // freed, by the caller since threads are waited for: that plan, or the one unused for longest, to make room.
  std::unique_ptr<Plan> give(std::unique_ptr<Plan>& plan, std::size_t clears) {
    const std::lock_guard guard(lock_);
    if (clears != clears_ || plan->bytes() > kBytes) return std::move(plan);
    if (kept_.size() < plans_ && bytes_ + plan->bytes() <= kBytes) {
      bytes_ += plan->bytes();
      kept_.push_back(std::move(plan));
      return nullptr;
    }
    return out(0);
  }

  void clear() {
    std::vector<std::unique_ptr<Plan>> gone;  // freed when the lock is open
    gone.reserve(plans_);
    const std::lock_guard guard(lock_);
    ++clears_;
    bytes_ = 0;
    gone.swap(kept_);
  }

  CacheInfo info() {
    const std::lock_guard guard(lock_);
    return {kept_.size(), bytes_};
  }

 private:
  Cache() {
    kept_.reserve(plans_);
#if defined(__unix__) || defined(__APPLE__)
    // A child has the memory of its parent's plans but not their threads: it begins with none.
    pthread_atfork([] { instance().lock_.lock(); }, [] { instance().lock_.unlock(); },
                   [] {
                     instance().lock_.unlock();
                     instance().clear();
                   });
#endif
  }

  std::unique_ptr<Plan> out(std::size_t k) {
    std::unique_ptr<Plan> plan = std::move(kept_[k]);
    kept_.erase(kept_.begin() + static_cast<std::ptrdiff_t>(k));
    bytes_ -= plan->bytes();
    return plan;
  }

  static constexpr std::size_t kBytes = std::size_t{512} << 20;
  const std::size_t plans_ = std::max(8u, std::thread::hardware_concurrency());  // a busy thread has one of its own
  std::mutex lock_;
  std::vector<std::unique_ptr<Plan>> kept_;  // the one used last is the last
  std::size_t bytes_ = 0, clears_ = 0;
};

// A plan for one call.
class Loan {
 public:
  Loan(const Spec& spec, const Params& params) {
    if (cache_.take(spec, params, plan_, clears_)) return;
    // Pictures of many sizes: the memory goes from plan to plan.
    Block spare = plan_ ? plan_->release() : Block();
    plan_.reset();
    try {
      plan_ = std::make_unique<Plan>(spec, params, std::move(spare));
    } catch (const std::bad_alloc&) {  // what is kept may be what is missing
      cache_.clear();
      plan_ = std::make_unique<Plan>(spec, params);
    }
  }
  ~Loan() {
    while (plan_) cache_.give(plan_, clears_);
  }
  Plan* operator->() const { return plan_.get(); }

 private:
  Cache& cache_ = Cache::instance();
  std::size_t clears_ = 0;
  std::unique_ptr<Plan> plan_;
};

}  // namespace

void enhance(const Batch& src, const Batch& dst, const float* weights, int rounds, const Params& params, float white,
             bool per_channel, int threads, const Kernels& kernels) {
  const std::ptrdiff_t planes = src.n * (per_channel ? src.c : 1);
  if (planes == 0) return;
  Spec spec{.kernels = &kernels,
            .h = static_cast<int>(src.h),
            .w = static_cast<int>(src.w),
            .src = {src.dtype, static_cast<int>(src.c), white},
            .dst = {src.dtype, static_cast<int>(src.c), white},
            .per_channel = per_channel,
            .filters = filters_used(weights, src.n * rounds, kernels),
            .rounds = rounds,
            .threads = threads};
  // One plan for all numbers of images that make the same use of threads.
  if (src.h * src.w < Plan::kSplitPixels)
    spec.threads = static_cast<int>(std::min<std::ptrdiff_t>(threads, planes));
  else if (planes < threads)
    spec.images = (threads - 1) / (planes / src.n);
  Loan(spec, params)->run(src, dst, weights, rounds);
}

void clear_cache() { Cache::instance().clear(); }

CacheInfo cache_info() { return Cache::instance().info(); }

}  // namespace sdie
