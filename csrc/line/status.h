// What every function of the C interface shares: statuses, words, and no exception across the boundary.
#pragma once
#include <concepts>
#include <string>

#include "../../include/sdie_fast.h"

namespace sdie::line {

// A refusal on its way to the boundary.
struct Refusal {
  sdie_status status;
  std::string words;
};

// A number as words have it: 100, 0.005.
std::string number(std::integral auto n) { return std::to_string(n); }
std::string number(double n);

[[noreturn]] void refuse(sdie_status status, const std::string& words);
[[noreturn]] void refuse(const std::string& what, const std::string& received, const std::string& accepted);

// Keeps why this thread's call is refused; allocates nothing.
sdie_status keep(sdie_status status, const char* words) noexcept;

// The status of what is being thrown, its words kept.
sdie_status caught() noexcept;

// Runs what a function of the interface does: its status, or that of what it throws.
template <class F>
sdie_status guarded(F&& body) noexcept {
  try {
    return body();
  } catch (...) {
    return caught();
  }
}

// Refuses NULL, and a pointer that is misaligned for T.
void check_pointer(const char* name, const void* pointer, std::size_t alignment);
template <class T>
T& checked(const char* name, T* pointer) {
  check_pointer(name, pointer, alignof(T));
  return *pointer;
}

// Copies one of the caller's structs, which begin with their size, over `own`, which holds the usual values; first: its
// size in the interface's first version.
void take_struct(const char* name, const void* theirs, void* own, std::size_t own_size, std::size_t first);
// And back, as much as the caller's has room for.
void give_struct(const char* name, void* theirs, const void* own, std::size_t own_size, std::size_t first);

}  // namespace sdie::line
