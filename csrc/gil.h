// The interpreter's lock let go, for the parts of the Python module.
#pragma once
#include <nanobind/nanobind.h>

#include <chrono>
#include <thread>

namespace sdie {

// Lets other Python threads run while it lives. Where the interpreter ends meanwhile, CPython (before 3.14) ends a
// daemon thread that asks for the lock again by unwinding its stack, which C++ does not survive: such a thread sleeps
// instead.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace sdie
