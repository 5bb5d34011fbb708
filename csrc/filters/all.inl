// Everything that is compiled once per instruction set. The including file defines SDIE_ISA (a namespace) and
// SDIE_ISA_NAME.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "../arena.h"
#include "../kernels.h"

namespace sdie::SDIE_ISA {

// clang-format off: each builds on those before it
#include "vec.inl"
#include "plane.inl"
#include "wls_fast.inl"
#include "clusters.inl"
#include "multigrid_levels.inl"
#include "multigrid_lines.inl"
#include "multigrid_coarsen.inl"
#include "multigrid.inl"
#include "wls_exact.inl"
#include "lightness.inl"
#include "spatiogram.inl"
#include "spatiogram_rows.inl"
#include "histogram.inl"
#include "local.inl"
#include "round.inl"
// clang-format on

extern const Kernels kernels;
const Kernels kernels = {SDIE_ISA_NAME, VL, workspace, process};

}  // namespace sdie::SDIE_ISA
