#include "web.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace linetest {

sdie_stream_config web_of(const sdie_config& frame, int strip, int context) {
  sdie_stream_config config;
  expect(sdie_stream_config_init(&config, sizeof config) == SDIE_OK, "sdie_stream_config_init");
  config.frame = &frame;
  config.strip = strip;
  config.context = context;
  return config;
}

Stream::Stream(const sdie_stream_config& config)
    : in_(sdie_line_bytes(config.frame->input, config.frame->width)),
      out_(sdie_line_bytes(config.frame->output ? config.frame->output : config.frame->input, config.frame->width)) {
  if (sdie_stream_create(&config, &stream_) == SDIE_OK) return;
  char words[512];
  sdie_message(words, sizeof words);
  std::fprintf(stderr, "a stream was refused: %s\n", words);
  std::exit(2);
}

void Stream::pull(Bytes& to, std::int64_t at_once) const {
  Bytes lines(out_ * static_cast<std::size_t>(at_once));
  for (std::int64_t got = 0; sdie_stream_pull(stream_, lines.data(), 0, at_once, &got) == SDIE_OK;)
    to.insert(to.end(), lines.begin(), lines.begin() + got * static_cast<std::ptrdiff_t>(out_));
}

Bytes Stream::enhanced(const Bytes& web, std::int64_t push_at_once, std::int64_t pull_at_once) const {
  Bytes to;
  const auto lines = static_cast<std::int64_t>(web.size() / in_);
  for (std::int64_t done = 0, taken = 0; done < lines; done += taken) {
    const std::int64_t count = std::min(push_at_once, lines - done);
    const sdie_status status =
        sdie_stream_push(stream_, web.data() + static_cast<std::size_t>(done) * in_, 0, count, &taken);
    expect(status == (taken < count ? SDIE_FULL : SDIE_OK), "the status of a push");
    pull(to, pull_at_once);
  }
  sdie_status status;
  while ((status = sdie_stream_finish(stream_)) == SDIE_FULL) pull(to, pull_at_once);
  expect(status == SDIE_OK, "finish");
  pull(to, pull_at_once);
  return to;
}

Bytes web(int width, int lines, sdie_format format, std::uint32_t seed) {
  Bytes bytes = texture(sdie_line_bytes(format, width) * static_cast<std::size_t>(lines), seed);
  if (format == SDIE_FLOAT32)
    for (std::size_t k = 0; k + 4 <= bytes.size(); k += 4) {
      const float value = static_cast<float>(bytes[k]) / 255.0f;
      std::memcpy(&bytes[k], &value, 4);
    }
  return bytes;
}

Bytes whole(sdie_config frame, const Bytes& lines) {
  frame.height = static_cast<std::int32_t>(lines.size() / sdie_line_bytes(frame.input, frame.width));
  return enhanced(frame, lines);
}

std::string at(std::initializer_list<int> numbers) {
  std::string text;
  for (const int n : numbers) text.append(1, ' ').append(std::to_string(n));
  return text;
}

void only(sdie_config& config, std::initializer_list<int> filters, int rounds) {
  std::memset(config.weights, 0, sizeof config.weights);
  config.rounds = rounds;
  for (int t = 0; t < rounds; ++t)
    for (const int k : filters) config.weights[t][k] = static_cast<float>(1 + (t + k) % 3);
}

std::vector<float> floats(const Bytes& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0.0 : 1e9;
  for (std::size_t k = 0; most < 1e9 && k < a.size(); ++k)
    most = std::max(most, std::abs(static_cast<double>(a[k]) - static_cast<double>(b[k])));
  return most;
}

}  // namespace linetest
