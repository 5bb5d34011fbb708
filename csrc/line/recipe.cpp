// Recipes in C: parameters by name, and the files of `sdie-fast export-line`. Such a file is lines of ASCII:
//   sdie-fast-line 1
//   name Steel A
//   recipe <SHA-256 of the recipe, in hexadecimal>
//   round identity=0.5 bilateral=0.5        one for each round
//   set bilateral_sigma_range 0.1
//   check <FNV-1a of all bytes before this line, 16 hexadecimal digits>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>

#include "config.h"

namespace sdie::line {
namespace {

constexpr std::size_t kMostBytes = 1 << 16;

// Received words in a message: what can be printed, and not too much of it.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : text.substr(0, 60)) out += c >= ' ' && c <= '~' ? c : '?';
  return out + (text.size() > 60 ? "...'" : "'");
}

// The first word of a line, which is taken away from it.
std::string_view word_of(std::string_view& line) {
  const std::size_t end = std::min(line.find(' '), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(end + 1, line.size()));
  return word;
}

// Digits that are a number and nothing else, whatever the locale.
template <class T>
std::optional<T> number_of(std::string_view digits) {
  T value;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  return error == std::errc() && end == digits.data() + digits.size() ? std::optional(value) : std::nullopt;
}

void set_parameter(sdie_config& config, std::string_view wanted, std::string_view value) {
  const Kernels& kernels = kernels_in_force();
  double* place = config.parameters;
  for (int f = 0; f < kernels.count; ++f)
    for (int k = 0; k < kernels.filters[f].count; ++k, ++place) {
      const Parameter& parameter = kernels.filters[f].parameters[k];
      const std::string name = std::string(kernels.filters[f].name) + "_" + parameter.name;
      if (name != wanted) continue;
      std::optional<double> read;
      std::string words;
      for (int c = 0; c < 4 && parameter.choices[c]; ++c) {
        if (value == parameter.choices[c]) read = c;
        words += (c ? ", " : "") + std::string(parameter.choices[c]);
      }
      if (!parameter.choices[0]) {
        read = number_of<double>(value);
        words = std::string(parameter.odd                              ? "odd numbers "
                            : parameter.kind == std::string("integer") ? "whole numbers "
                                                                       : "numbers ") +
                (parameter.above ? "above " : "from ") + number(parameter.low) + ", up to " + number(parameter.high);
      }
      if (!read || !parameter.accepts(*read)) refuse(name, quoted(value), words);
      *place = *read;
      return;
    }
  refuse("parameter", quoted(wanted), "a filter's parameter, such as wls_lambda");
}

void read_round(sdie_config& config, std::string_view line) {
  const Kernels& kernels = kernels_in_force();
  if (config.rounds == SDIE_MAX_ROUNDS)
    refuse(SDIE_FILE, "received more than " + std::to_string(SDIE_MAX_ROUNDS) + " rounds");
  float* const row = config.weights[config.rounds++];
  std::fill(row, row + SDIE_MAX_FILTERS, 0.0f);
  do {
    const std::string_view item = word_of(line);
    const std::size_t sign = std::min(item.find('='), item.size());
    int k = 0;
    while (k < kernels.count && item.substr(0, sign) != kernels.filters[k].name) ++k;
    const std::optional<float> weight = number_of<float>(item.substr(std::min(sign + 1, item.size())));
    if (k == kernels.count || !weight || !(*weight > 0.0f) || std::isinf(*weight) || row[k] > 0.0f)
      refuse(SDIE_FILE, "received " + quoted(item) + "; accepted: FILTER=WEIGHT above 0, each filter once");
    row[k] = *weight;
  } while (!line.empty());
}

bool is_digest(std::string_view word) {
  return word.size() == 64 && word.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

// What stands before the line of the check, if the check is right.
std::string_view intact(std::string_view text) {
  const std::size_t at = text.rfind("\ncheck ");
  if (text.substr(0, 15) != "sdie-fast-line ")
    refuse(SDIE_FILE, "received " + quoted(text.substr(0, 15)) + "; accepted: a file of `sdie-fast export-line`");
  if (at == std::string_view::npos) refuse(SDIE_FILE, "received no line `check`: the file was cut short");
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text.substr(0, at + 1)) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  char digits[32];
  std::snprintf(digits, sizeof digits, "%016llx\n", static_cast<unsigned long long>(hash));
  if (text.substr(at + 7) != digits)
    refuse(SDIE_FILE,
           "check: received a checksum that is not the content's: the file was damaged or edited by hand; "
           "export it again");
  return text.substr(0, at + 1);
}

void parse(sdie_config& config, std::string_view text) {
  std::string_view rest = intact(text);
  sdie_config read = config;
  read.rounds = 0;
  for (int number = 1; !rest.empty(); ++number) {
    std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    const std::string where = "line " + std::to_string(number) + ": ";
    const std::string_view whole = line, key = word_of(line);
    try {
      if (number == 1) {
        if (line != "1") refuse(SDIE_FILE, "received version " + quoted(line) + "; accepted: 1");
      } else if (key == "round") {
        read_round(read, line);
      } else if (key == "set") {
        const std::string_view name = word_of(line);
        set_parameter(read, name, line);
      } else if (key == "recipe" && is_digest(line)) {
        read.recipe[line.copy(read.recipe, sizeof read.recipe - 1)] = '\0';
      } else if (key != "name") {
        refuse(SDIE_FILE, "received " + quoted(whole) + "; accepted: name, recipe, round, set, check");
      }
    } catch (const Refusal& refusal) {
      refuse(SDIE_FILE, where + refusal.words);
    }
  }
  if (read.rounds == 0) refuse(SDIE_FILE, "received no rounds; accepted: 1 to " + std::to_string(SDIE_MAX_ROUNDS));
  // Only what a recipe holds, since the caller's struct may be of another header.
  config.rounds = read.rounds;
  std::memcpy(config.weights, read.weights, sizeof read.weights);
  std::memcpy(config.parameters, read.parameters, sizeof read.parameters);
  std::memcpy(config.recipe, read.recipe, sizeof read.recipe);
}

sdie_config& known(sdie_config* config) {
  sdie_config own = taken(config);  // refuses what is no config
  static_cast<void>(own);
  return *config;
}

}  // namespace
}  // namespace sdie::line

using namespace sdie::line;

sdie_status sdie_config_set(sdie_config* config, const char* parameter, const char* value) {
  return guarded([&] {
    set_parameter(known(config), &checked("parameter", parameter), &checked("value", value));
    return SDIE_OK;
  });
}

sdie_status sdie_config_parse(sdie_config* config, const void* bytes, size_t count) {
  return guarded([&] {
    if (count > kMostBytes) refuse(SDIE_FILE, "received " + std::to_string(count) + " bytes; accepted: up to 65536");
    parse(known(config), {&checked("bytes", static_cast<const char*>(bytes)), count});
    return SDIE_OK;
  });
}

sdie_status sdie_config_load(sdie_config* config, const char* path) {
  return guarded([&] {
    const std::string name = &checked("path", path);
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), &std::fclose);
    std::string text(kMostBytes, '\0');
    if (!file) refuse(SDIE_FILE, name + ": " + std::strerror(errno));
    text.resize(std::fread(text.data(), 1, text.size(), file.get()));
    if (std::ferror(file.get())) refuse(SDIE_FILE, name + ": cannot be read: " + std::strerror(errno));
    try {
      parse(known(config), text);
    } catch (const Refusal& refusal) {
      refuse(refusal.status, name + ": " + refusal.words);
    }
    return SDIE_OK;
  });
}
