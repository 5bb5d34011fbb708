// What the tests of the C interface share. They see nothing but the public header.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "../../include/sdie_fast.h"

namespace linetest {

// Notes what is wrong on stderr.
void expect(bool right, const std::string& what);
// The status, and words that contain `said`.
void refused(sdie_status got, sdie_status wanted, const std::string& said);

sdie_config config_of(int width, int height, sdie_format input = SDIE_MONO8, sdie_format output = 0);
// Gives every filter its weight in that many rounds, other weights in each.
void mixed(sdie_config& config, int rounds);

// A picture of texture and edges.
std::vector<std::uint8_t> texture(std::size_t bytes, std::uint32_t seed = 1);

class Plan {
 public:
  explicit Plan(const sdie_config& config);  // ends the program where it is refused
  ~Plan() { sdie_plan_destroy(plan_); }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;
  operator sdie_plan*() const { return plan_; }

 private:
  sdie_plan* plan_ = nullptr;
};

// What a plan of that config makes of a frame.
std::vector<std::uint8_t> enhanced(const sdie_config& config, const std::vector<std::uint8_t>& frame);

}  // namespace linetest
