// The core's self-test: no Python, nothing but the compiled kernels and their definitions. `sdie_selftest --help`.
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "../dispatch.h"
#include "check.h"

namespace sdie::selftest {
bool plan_selftest();                                              // plan.cpp
bool pixels_selftest(const std::vector<const Kernels*>& kernels);  // pixels.cpp
}  // namespace sdie::selftest

namespace {

constexpr const char* kHelp =
    "usage: sdie_selftest [--isa NAME] [--list] [--plans]\n"
    "Compares every kernel with its definition, by every instruction set that runs here.\n"
    "  --isa NAME  by this one only\n"
    "  --list      name those that run here\n"
    "  --plans     the tests of plans alone\n"
    "The exit status is 0 when all agree, 1 when something is wrong, 2 for arguments that are not understood.\n";

int run(int argc, char** argv) {
  using namespace sdie;
  std::vector<const Kernels*> chosen = runnable_kernels();
  bool plans_alone = false;
  for (int k = 1; k < argc; ++k) {
    const std::string word = argv[k];
    if (word == "--help") return std::fputs(kHelp, stdout), 0;
    if (word == "--list") {
      for (const Kernels* kernels : runnable_kernels()) std::puts(kernels->isa);
      return 0;
    }
    if (word == "--plans") {
      plans_alone = true;
      continue;
    }
    if (word != "--isa" || k + 1 == argc) {
      std::fprintf(stderr, "'%s' is not understood, or lacks a value\n%s", argv[k], kHelp);
      return 2;
    }
    chosen = {&kernels_for(argv[++k])};
  }
  if (chosen.empty()) throw std::runtime_error("this processor runs none of the instruction sets that were built");
  // A further test: its source in CMakeLists.txt, and a line here.
  bool right = true;
  right &= selftest::plan_selftest();
  right &= plans_alone || selftest::kernels_selftest(chosen);
  right &= plans_alone || selftest::pixels_selftest(chosen);
  for (const Kernels* kernels : chosen) std::printf("%s\n", kernels->isa);
  std::puts(right ? "all agree" : "WRONG");
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sdie_selftest: %s\n", error.what());
    return 2;
  }
}
