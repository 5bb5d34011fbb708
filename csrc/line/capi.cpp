// Plans of the C interface: where they live, and what their functions call.
#include <memory>
#include <new>

#include "plan.h"

namespace sdie::line {
namespace {

constexpr std::size_t kAlignment = 64;

std::size_t round_up(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace
}  // namespace sdie::line

using namespace sdie::line;

// Where the caller gives memory, the pixels come first and this object after them.
struct sdie_plan {
  sdie_plan(const Setup& setup, const sdie_config& config, sdie::Block pixels)
      : line(setup, config.deadline_ns, config.warm_up, std::move(pixels)) {}

  LinePlan line;
  // What destroy gives back: nothing of the caller's own block, a block of the allocator's, or the object.
  enum class Home { callers, allocators, systems } home = Home::systems;
  sdie_release release = nullptr;
  void* allocator = nullptr;
  void* block = nullptr;
  size_t bytes = 0;
};

namespace {

size_t bytes_for(const Setup& setup) { return round_up(LinePlan::pixel_bytes(setup)) + round_up(sizeof(sdie_plan)); }

sdie_plan* make_in(const Setup& setup, const sdie_config& config, void* block) {
  const size_t pixels = round_up(LinePlan::pixel_bytes(setup));
  return new (static_cast<char*>(block) + pixels) sdie_plan(setup, config, sdie::Block(block, pixels));
}

void check_block(const void* block) {
  if (reinterpret_cast<std::uintptr_t>(block) % kAlignment != 0)
    refuse("block", "a misaligned block", "one that is aligned to 64 bytes");
}

sdie_plan* make(const sdie_config& config) {
  const Setup setup(config);
  if (!config.allocate) return new sdie_plan(setup, config, sdie::Block());
  const size_t bytes = bytes_for(setup);
  const auto give_back = [&](void* block) { config.release(config.allocator, block, bytes); };
  std::unique_ptr<void, decltype(give_back)> block(config.allocate(config.allocator, bytes), give_back);
  if (!block) refuse(SDIE_MEMORY, "allocate: received NULL for " + std::to_string(bytes) + " bytes");
  check_block(block.get());
  sdie_plan* const plan = make_in(setup, config, block.get());
  plan->home = sdie_plan::Home::allocators;
  plan->release = config.release;
  plan->allocator = config.allocator;
  plan->block = block.release();
  plan->bytes = bytes;
  return plan;
}

const sdie_plan& known(const sdie_plan* plan) { return checked("plan", plan); }
sdie_plan& known(sdie_plan* plan) { return checked("plan", plan); }

}  // namespace

sdie_status sdie_plan_create(const sdie_config* config, sdie_plan** plan) {
  return guarded([&] {
    checked("plan", plan) = nullptr;
    *plan = make(taken(config));
    return SDIE_OK;
  });
}

sdie_status sdie_plan_workspace(const sdie_config* config, size_t* bytes) {
  return guarded([&] {
    checked("bytes", bytes) = bytes_for(Setup(taken(config)));
    return SDIE_OK;
  });
}

sdie_status sdie_plan_create_in(const sdie_config* config, void* block, size_t bytes, sdie_plan** plan) {
  return guarded([&] {
    checked("plan", plan) = nullptr;
    check_pointer("block", block, 1);
    check_block(block);
    const sdie_config own = taken(config);
    const Setup setup(own);
    if (bytes < bytes_for(setup))
      refuse(SDIE_MEMORY, "bytes: received " + std::to_string(bytes) + "; accepted: what sdie_plan_workspace gives, " +
                              std::to_string(bytes_for(setup)) + " or more");
    *plan = make_in(setup, own, block);
    (*plan)->home = sdie_plan::Home::callers;
    return SDIE_OK;
  });
}

sdie_status sdie_plan_run(sdie_plan* plan, const void* src, int64_t src_stride, void* dst, int64_t dst_stride,
                          sdie_report* report) {
  return sdie_plan_run_since(plan, src, src_stride, dst, dst_stride, 0, report);
}

sdie_status sdie_plan_run_since(sdie_plan* plan, const void* src, int64_t src_stride, void* dst, int64_t dst_stride,
                                uint64_t since_ns, sdie_report* report) {
  return guarded([&] { return known(plan).line.run(src, src_stride, dst, dst_stride, since_ns, report); });
}

sdie_status sdie_plan_set_weights(sdie_plan* plan, const float* weights, int32_t rounds, int32_t filters) {
  return guarded([&] {
    known(plan).line.set_weights(weights, rounds, filters);
    return SDIE_OK;
  });
}

sdie_status sdie_plan_stats(const sdie_plan* plan, sdie_stats* stats) {
  return guarded([&] {
    const sdie_stats now = known(plan).line.stats();
    give_struct("stats", stats, &now, sizeof now, sizeof now);
    return SDIE_OK;
  });
}

uint64_t sdie_plan_percentile(const sdie_plan* plan, double percentile) {
  return plan && percentile >= 0.0 && percentile <= 100.0 ? plan->line.latency().percentile(percentile) : 0;
}

sdie_status sdie_plan_reset_stats(sdie_plan* plan) {
  return guarded([&] {
    known(plan).line.reset_stats();
    return SDIE_OK;
  });
}

sdie_status sdie_plan_destroy(sdie_plan* plan) {
  if (!plan) return SDIE_OK;
  return guarded([&] {
    if (!known(plan).line.close()) return keep(SDIE_BUSY, "the plan is running in another thread");
    const sdie_release release = plan->release;
    void *const allocator = plan->allocator, *const block = plan->block;
    const size_t bytes = plan->bytes;
    const sdie_plan::Home home = plan->home;
    if (home == sdie_plan::Home::systems) {
      delete plan;
    } else {
      plan->~sdie_plan();
      if (home == sdie_plan::Home::allocators) release(allocator, block, bytes);
    }
    return sdie_status{SDIE_OK};
  });
}
