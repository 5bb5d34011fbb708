// libFuzzer: bytes as a file of `sdie-fast export-line`, with and without a check that is right.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "../../include/sdie_fast.h"

namespace {

void parse(const std::string& text) {
  sdie_config config, before;
  if (sdie_config_init(&config, sizeof config) != SDIE_OK) std::abort();
  std::memcpy(&before, &config, sizeof config);
  const sdie_status status = sdie_config_parse(&config, text.data(), text.size());
  if (status != SDIE_OK) {
    if (status != SDIE_FILE || sdie_message(nullptr, 0) == 0) std::abort();
    if (std::memcmp(&config, &before, sizeof config) != 0) std::abort();
    return;
  }
  // What was read is a recipe that a plan takes.
  config.width = config.height = 8;
  std::size_t bytes;
  if (sdie_plan_workspace(&config, &bytes) != SDIE_OK) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  parse(text);
  std::string content = "sdie-fast-line 1\n" + text + (text.ends_with('\n') ? "" : "\n");
  unsigned long long hash = 0xcbf29ce484222325;
  for (const char c : content) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  char check[32];
  std::snprintf(check, sizeof check, "check %016llx\n", hash);
  parse(content + check);
  return 0;
}
