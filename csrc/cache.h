// Enhancing by plans that are kept between calls.
#pragma once
#include <cstddef>

#include "plan.h"

namespace sdie {

// Enhances src into dst by a kept plan, or a new one. weights: src.n x rounds x filters, normalised. Any number of
// threads may call it: a plan has one caller at a time. Throws as Plan does, before anything is written.
void enhance(const Batch& src, const Batch& dst, const float* weights, int rounds, const Params& params, float white,
             bool per_channel, int threads, const Kernels& kernels);

// Frees the plans that are kept, and those in use as soon as their callers are through.
void clear_cache();

struct CacheInfo {
  std::size_t plans, bytes;  // kept, not counting those in use
};
CacheInfo cache_info();

}  // namespace sdie
