// What the tests of streams share.
#pragma once
#include <cmath>
#include <initializer_list>

#include "check.h"

namespace linetest {

using Bytes = std::vector<std::uint8_t>;

sdie_stream_config web_of(const sdie_config& frame, int strip, int context = -1);

class Stream {
 public:
  explicit Stream(const sdie_stream_config& config);  // ends the program where it is refused
  ~Stream() { sdie_stream_destroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator sdie_stream*() const { return stream_; }

  // Pulls all that is there, a few lines at a time.
  void pull(Bytes& to, std::int64_t at_once) const;
  // Pushes all lines of a web and ends it.
  Bytes enhanced(const Bytes& web, std::int64_t push_at_once, std::int64_t pull_at_once) const;

 private:
  sdie_stream* stream_ = nullptr;
  std::size_t in_, out_;
};

// Lines of texture.
Bytes web(int width, int lines, sdie_format format = SDIE_MONO8, std::uint32_t seed = 1);
// What a plan makes of them in one picture.
Bytes whole(sdie_config frame, const Bytes& lines);
// Gives these filters weight, other weights in each round.
void only(sdie_config& config, std::initializer_list<int> filters, int rounds);
// " 1 2 3"
std::string at(std::initializer_list<int> numbers);

std::vector<float> floats(const Bytes& bytes);
double largest_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace linetest
