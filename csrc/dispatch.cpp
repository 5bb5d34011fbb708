#include "dispatch.h"

#include <cstdlib>
#include <stdexcept>

namespace sdie {

#if defined(SDIE_X86_64)
namespace x86_64_v2 {
extern const Kernels kernels;
}
namespace x86_64_v3 {
extern const Kernels kernels;
}
namespace x86_64_v4 {
extern const Kernels kernels;
}
#else
namespace baseline {
extern const Kernels kernels;
}
#endif

const std::vector<const Kernels*>& runnable_kernels() {
  static const std::vector<const Kernels*> all = [] {
    std::vector<const Kernels*> found;
#if defined(SDIE_X86_64)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("popcnt")) {
      found.push_back(&x86_64_v2::kernels);
      if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) {
        found.push_back(&x86_64_v3::kernels);
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
            __builtin_cpu_supports("avx512cd"))
          found.push_back(&x86_64_v4::kernels);
      }
    }
#else
    found.push_back(&baseline::kernels);
#endif
    return found;
  }();
  return all;
}

static const Kernels& find(const std::string& isa, const char* what) {
  std::string names;
  for (const Kernels* k : runnable_kernels()) {
    if (isa == k->isa) return *k;
    names += names.empty() ? "" : ", ";
    names += k->isa;
  }
  throw std::invalid_argument(std::string(what) + " is '" + isa + "'; this build on this processor runs: " + names);
}

const Kernels& kernels_for(const std::string& isa) {
  if (!isa.empty()) return find(isa, "isa");
  static const Kernels& active = []() -> const Kernels& {
    if (runnable_kernels().empty())
      throw std::invalid_argument("this processor is older than x86-64-v2 (SSE4.2), the least that is built");
    const char* wish = std::getenv("SDIE_FAST_ISA");
    return wish && *wish ? find(wish, "SDIE_FAST_ISA") : *runnable_kernels().back();
  }();
  return active;
}

}  // namespace sdie
