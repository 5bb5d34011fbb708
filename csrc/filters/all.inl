// Everything that is compiled once per instruction set. The including file defines SDIE_ISA (a namespace) and
// SDIE_ISA_NAME.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "../arena.h"
#include "../kernels.h"

namespace sdie::SDIE_ISA {

// clang-format off: each builds on those before it
#include "vec.inl"
#include "plane.inl"
#include "pixels.inl"
#include "filter.inl"
#include "window.inl"
#include "identity.inl"
#include "wls_fast.inl"
#include "clusters.inl"
#include "multigrid_levels.inl"
#include "multigrid_lines.inl"
#include "multigrid_coarsen.inl"
#include "multigrid.inl"
#include "wls_exact.inl"
#include "wls_tiles.inl"
#include "lightness.inl"
#include "wls.inl"
#include "bilateral.inl"
#include "sharpen.inl"
#include "guided.inl"
#include "spatiogram_bins.inl"
#include "spatiogram_rows.inl"
#include "histogram.inl"
#include "spatiogram.inl"
#include "gamma.inl"
#include "median.inl"
#include "gaussian.inl"

// The filters, in the order of weights: that of Python's table.
using Filters = std::tuple<Identity, Wls, Bilateral, Sharpen, Guided, Spatiogram, Gamma, Median, Gaussian>;
constexpr int kFilters = std::tuple_size_v<Filters>;

#include "round.inl"
// clang-format on

template <class>
struct Described;
template <class... F>
struct Described<std::tuple<F...>> {
  static constexpr FilterInfo info[] = {describe<F>()...};
};

extern const Kernels kernels;
const Kernels kernels = {SDIE_ISA_NAME, VL, Described<Filters>::info, kFilters, workspace, reach, process};

}  // namespace sdie::SDIE_ISA
