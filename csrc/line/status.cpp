#include "status.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>
#include <system_error>

#include "../dispatch.h"

namespace sdie::line {
namespace {

constexpr std::size_t kWords = 512;
thread_local char words_kept[kWords];

}  // namespace

std::string number(double n) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%g", n);
  return digits;
}

void refuse(sdie_status status, const std::string& words) { throw Refusal{status, words}; }

void refuse(const std::string& what, const std::string& received, const std::string& accepted) {
  refuse(SDIE_INVALID, what + ": received " + received + "; accepted: " + accepted);
}

sdie_status keep(sdie_status status, const char* words) noexcept {
  const std::size_t length = std::min(std::strlen(words), kWords - 1);
  std::memcpy(words_kept, words, length);
  words_kept[length] = '\0';
  return status;
}

sdie_status caught() noexcept {
  try {
    throw;
  } catch (const Refusal& refusal) {
    return keep(refusal.status, refusal.words.c_str());
  } catch (const std::invalid_argument& error) {
    return keep(SDIE_INVALID, error.what());
  } catch (const std::bad_alloc&) {
    return keep(SDIE_MEMORY, "the memory does not suffice");
  } catch (const std::system_error& error) {
    return keep(SDIE_SYSTEM, error.what());
  } catch (const std::exception& error) {
    return keep(SDIE_INTERNAL, error.what());
  } catch (...) {
    return keep(SDIE_INTERNAL, "an unknown fault");
  }
}

void check_pointer(const char* name, const void* pointer, std::size_t alignment) {
  if (!pointer) refuse(name, "NULL", "a pointer");
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignment != 0)
    refuse(name, "a misaligned pointer", "one that is aligned to " + std::to_string(alignment) + " bytes");
}

namespace {

std::size_t size_of(const char* name, const void* theirs, std::size_t first) {
  check_pointer(name, theirs, alignof(std::size_t));
  std::size_t size;
  std::memcpy(&size, theirs, sizeof size);
  if (size < first || size > std::size_t{1} << 20)
    refuse(SDIE_STRUCT, std::string(name) + ".size: received " + std::to_string(size) +
                            "; accepted: the struct's size, " + std::to_string(first) + " or more");
  return size;
}

}  // namespace

void take_struct(const char* name, const void* theirs, void* own, std::size_t own_size, std::size_t first) {
  const std::size_t size = size_of(name, theirs, first);
  const auto* bytes = static_cast<const unsigned char*>(theirs);
  for (std::size_t k = own_size; k < size; ++k)
    if (bytes[k] != 0)
      refuse(SDIE_STRUCT, std::string(name) + ": received a setting at byte " + std::to_string(k) +
                              ", from a newer header; accepted: those of interface " +
                              std::to_string(SDIE_VERSION_MAJOR) + "." + std::to_string(SDIE_VERSION_MINOR));
  std::memcpy(own, theirs, std::min(size, own_size));
}

void give_struct(const char* name, void* theirs, const void* own, std::size_t own_size, std::size_t first) {
  const std::size_t size = size_of(name, theirs, first), most = std::min(size, own_size);
  std::memcpy(static_cast<char*>(theirs) + sizeof size, static_cast<const char*>(own) + sizeof size,
              most - sizeof size);
}

}  // namespace sdie::line

using namespace sdie::line;

int32_t sdie_version(void) { return SDIE_VERSION_MAJOR * 1000 + SDIE_VERSION_MINOR; }

const char* sdie_version_text(void) { return SDIE_RELEASE; }

const char* sdie_isa(void) {
  const char* isa = nullptr;
  guarded([&] {
    isa = sdie::kernels_for("").isa;
    return SDIE_OK;
  });
  return isa;
}

const char* sdie_status_text(sdie_status status) {
  switch (status) {
    case SDIE_OK:
      return "done";
    case SDIE_EMPTY:
      return "no line is finished yet";
    case SDIE_FULL:
      return "finished lines have to be pulled first";
    case SDIE_INVALID:
      return "an argument that cannot be used";
    case SDIE_MEMORY:
      return "the memory does not suffice";
    case SDIE_BUSY:
      return "another call is in the plan or stream";
    case SDIE_FILE:
      return "a file that is missing, damaged or no line recipe";
    case SDIE_STRUCT:
      return "a struct without its size, or from a newer header";
    case SDIE_SYSTEM:
      return "a thread could not be started, pinned or given its priority";
    case SDIE_FORKED:
      return "the plan's threads stayed in the process that forked this one";
    case SDIE_CPU:
      return "the processor runs none of the instruction sets that were built";
    case SDIE_INTERNAL:
      return "a fault of the library";
    default:
      return "an unknown status";
  }
}

size_t sdie_message(char* buffer, size_t size) {
  const std::size_t length = std::strlen(words_kept);
  if (buffer && size > 0) {
    const std::size_t most = std::min(length, size - 1);
    std::memcpy(buffer, words_kept, most);
    buffer[most] = '\0';
  }
  return length;
}

uint64_t sdie_clock(void) {
  return static_cast<uint64_t>(std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count());
}
