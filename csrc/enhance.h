// Batches: how images and threads are matched, and where their memory comes from.
#pragma once
#include <string>

#include "kernels.h"

namespace sdie {

// weights: n x rounds x filters, normalised. Throws std::bad_alloc before anything is written when memory for
// the first images cannot be had.
void enhance(const Batch& src, const Batch& dst, const float* weights, int rounds, const Params& params, float white,
             bool per_channel, int threads, const Kernels& kernels);

// What the exact WLS solver did on one grey float32 image.
WlsInfo wls_info(const Batch& src, const Params& params, const Kernels& kernels);

std::size_t workspace_bytes(int h, int w, const float* weights, int rounds, const Params& params,
                            const Kernels& kernels);

}  // namespace sdie
