// Streams: the same as the whole web where filters are local, whatever is pushed and pulled at a time; statistics over
// a web against a slow definition; latency, memory, and what is refused.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <map>
#include <thread>

#include "check.h"

using namespace linetest;

namespace {

using Bytes = std::vector<std::uint8_t>;

sdie_stream_config web_of(const sdie_config& frame, int strip, int context = -1) {
  sdie_stream_config config;
  expect(sdie_stream_config_init(&config, sizeof config) == SDIE_OK, "sdie_stream_config_init");
  config.frame = &frame;
  config.strip = strip;
  config.context = context;
  return config;
}

class Stream {
 public:
  explicit Stream(const sdie_stream_config& config)
      : in_(sdie_line_bytes(config.frame->input, config.frame->width)),
        out_(sdie_line_bytes(config.frame->output ? config.frame->output : config.frame->input, config.frame->width)) {
    if (sdie_stream_create(&config, &stream_) == SDIE_OK) return;
    char words[512];
    sdie_message(words, sizeof words);
    std::fprintf(stderr, "a stream was refused: %s\n", words);
    std::exit(2);
  }
  ~Stream() { sdie_stream_destroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator sdie_stream*() const { return stream_; }

  // Pulls all that is there, a few lines at a time.
  void pull(Bytes& to, std::int64_t at_once) const {
    Bytes lines(out_ * static_cast<std::size_t>(at_once));
    for (std::int64_t got = 0; sdie_stream_pull(stream_, lines.data(), 0, at_once, &got) == SDIE_OK;)
      to.insert(to.end(), lines.begin(), lines.begin() + got * static_cast<std::ptrdiff_t>(out_));
  }
  // Pushes all lines of a web and ends it.
  Bytes enhanced(const Bytes& web, std::int64_t push_at_once, std::int64_t pull_at_once) const {
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

 private:
  sdie_stream* stream_ = nullptr;
  std::size_t in_, out_;
};

Bytes web(int width, int lines, sdie_format format = SDIE_MONO8, std::uint32_t seed = 1) {
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

const std::map<int, int> kReach = {{SDIE_IDENTITY, 0}, {SDIE_BILATERAL, 3}, {SDIE_SHARPEN, 3}, {SDIE_GUIDED, 6},
                                   {SDIE_GAMMA, 0},    {SDIE_MEDIAN, 3},    {SDIE_GAUSSIAN, 3}};

// To the bit, in float32; and not with a line of context less.
void local_filters_are_those_of_the_whole_web() {
  for (const int width : {21, 530}) {
    const Bytes lines = web(width, 290);
    for (const auto& [filter, reach] : kReach)
      for (int rounds = 1; rounds <= (width < 100 ? 5 : 2); ++rounds)
        for (const int strip : {1, 15, 16, 17, 130}) {
          sdie_config frame = config_of(width, 1, SDIE_MONO8, SDIE_FLOAT32);
          only(frame, {filter}, rounds);
          const Stream stream(web_of(frame, strip));
          const std::string where = "filter, rounds, strip, width" + at({filter, rounds, strip, width});
          expect(sdie_stream_context(stream) == rounds * reach, "the context of " + where);
          const Bytes wanted = whole(frame, lines);
          expect(stream.enhanced(lines, 1000, 1000) == wanted, "another web: " + where);
          if (reach == 0 || rounds > 1) continue;  // what comes from further away is soon less than a bit
          const Stream less(web_of(frame, strip, rounds * reach - 1));
          expect(less.enhanced(lines, 1000, 1000) != wanted, "a smaller context would do: " + where);
        }
    for (int rounds = 1; rounds <= 5; ++rounds) {
      sdie_config frame = config_of(width, 1, SDIE_MONO8, SDIE_FLOAT32);
      only(frame, {SDIE_IDENTITY, SDIE_BILATERAL, SDIE_SHARPEN, SDIE_GUIDED, SDIE_GAMMA, SDIE_MEDIAN}, rounds);
      frame.threads = 2;
      const Stream stream(web_of(frame, 64));
      expect(sdie_stream_context(stream) == 6 * rounds, "the context of a mix");
      expect(stream.enhanced(lines, 1000, 1000) == whole(frame, lines), "a mix on another web" + at({rounds, width}));
    }
  }
  // Filters that later weights may use count, and windows of other sizes.
  sdie_config frame = config_of(40, 1);
  frame.rounds = 3;
  frame.weights[1][SDIE_IDENTITY] = frame.weights[2][SDIE_IDENTITY] = 1.0f;
  frame.filters = 1u << SDIE_MEDIAN;
  expect(sdie_config_set(&frame, "median_window", "11") == SDIE_OK, "median_window");
  const Stream stream(web_of(frame, 8));
  expect(sdie_stream_context(stream) == 15, "the context of filters to come");
  float median[3][SDIE_MEDIAN + 1] = {};
  for (auto& row : median) row[SDIE_MEDIAN] = 1.0f;
  expect(sdie_stream_set_weights(stream, &median[0][0], 3, SDIE_MEDIAN + 1) == SDIE_OK, "weights of a stream");
  only(frame, {SDIE_MEDIAN}, 3);
  const Bytes lines = web(40, 100);
  expect(stream.enhanced(lines, 9, 9) == whole(frame, lines), "weights that were set are not used");
}

void every_format_any_portions() {
  for (int format = SDIE_MONO8; format <= SDIE_FLOAT32; ++format)
    for (const int width : {1, 31, 64}) {
      sdie_config frame = config_of(width, 1, format);
      only(frame, {SDIE_IDENTITY, SDIE_SHARPEN}, 2);
      const Bytes lines = web(width, 75, format);
      const Bytes wanted = whole(frame, lines);
      sdie_stream_config config = web_of(frame, 16);
      config.capacity = 17;
      const Stream stream(config);
      for (const int pushed : {1, 7, 1000})
        for (const int pulled : {1, 5, 1000})
          expect(stream.enhanced(lines, pushed, pulled) == wanted,
                 std::string(sdie_format_name(format)) + " differs at width, push, pull" + at({width, pushed, pulled}));
    }
  sdie_config frame = config_of(33, 1, SDIE_RGB8, SDIE_MONO8);
  only(frame, {SDIE_GUIDED}, 1);
  const Bytes colour = web(33, 50, SDIE_RGB8);
  expect(Stream(web_of(frame, 16)).enhanced(colour, 4, 4) == whole(frame, colour), "luma of a web in colour");
}

// Webs that end anywhere, one after another in one stream; lines that are far apart in memory, or in the other order.
void webs_of_every_length() {
  sdie_config frame = config_of(19, 1);
  only(frame, {SDIE_IDENTITY, SDIE_GAUSSIAN}, 2);
  const Stream stream(web_of(frame, 12));
  for (int lines = 1; lines <= 60; ++lines) {
    const Bytes some = web(19, lines, SDIE_MONO8, static_cast<std::uint32_t>(lines));
    expect(stream.enhanced(some, 1000, 1000) == whole(frame, some), "a web of lines" + at({lines}));
  }
  expect(sdie_stream_finish(stream) == SDIE_OK, "a web of no lines");
  const Bytes lines = web(19, 40);
  Bytes apart(40 * 64, 0xee), out(50 * 32, 0xdd);
  for (int y = 0; y < 40; ++y) std::copy_n(lines.begin() + y * 19, 19, apart.end() - 64 * (y + 1));
  std::int64_t taken = 0, got = 0;
  expect(sdie_stream_push(stream, apart.data() + 39 * 64, -64, 40, &taken) == SDIE_OK && taken == 40, "lines upwards");
  expect(sdie_stream_pull(stream, out.data(), 32, 24, &got) == SDIE_OK && got == 24, "lines apart");
  expect(sdie_stream_finish(stream) == SDIE_OK, "finish");
  expect(sdie_stream_pull(stream, out.data() + 24 * 32, 32, 26, &got) == SDIE_OK && got == 16, "the last lines");
  const Bytes wanted = whole(frame, lines);
  for (int y = 0; y < 40; ++y)
    expect(std::equal(wanted.begin() + y * 19, wanted.begin() + y * 19 + 19, out.begin() + y * 32) &&
               out[static_cast<std::size_t>(y * 32 + 19)] == 0xdd,
           "a line in its place");
}

// Line by line: none comes later than is said, and the first of each strip as late as is said.
void latency_is_what_is_said() {
  for (const auto& [strip, context] : {std::pair{1, 0}, {1, 5}, {10, 0}, {10, 3}, {10, 25}}) {
    const sdie_config frame = config_of(4, 1);
    const Stream stream(web_of(frame, strip, context));
    const int latency = sdie_stream_latency(stream);
    expect(latency == strip + context - 1, "the latency that is said");
    int pulled = 0, most = 0;
    const Bytes line(4);
    for (int pushed = 1; pushed <= 200; ++pushed) {
      std::int64_t taken = 0;
      expect(sdie_stream_push(stream, line.data(), 0, 1, &taken) == SDIE_OK && taken == 1, "a line");
      Bytes out;
      stream.pull(out, 1);
      if (!out.empty()) most = std::max(most, pushed - 1 - pulled);
      pulled += static_cast<int>(out.size() / 4);
      expect(pushed - pulled <= latency, "a line is late");
    }
    expect(most == latency, "no line is as late as is said");
  }
}

void lines_wait_until_they_are_pulled() {
  sdie_config frame = config_of(5, 1);
  sdie_stream_config config = web_of(frame, 4, 1);
  config.capacity = 6;
  const Stream stream(config);
  const Bytes lines = web(5, 14);
  Bytes out(14 * 5);
  std::int64_t taken = 0, got = 0;
  expect(sdie_stream_pull(stream, out.data(), 0, 1, &got) == SDIE_EMPTY && got == 0, "lines before there are any");
  refused(sdie_stream_push(stream, lines.data(), 0, 14, &taken), SDIE_FULL, "finished lines have to be pulled");
  expect(taken == 8, "lines that a full stream takes");
  refused(sdie_stream_push(stream, lines.data(), 0, 1, &taken), SDIE_FULL, "finished lines have to be pulled");
  refused(sdie_stream_finish(stream), SDIE_FULL, "finished lines have to be pulled");
  refused(sdie_stream_push(stream, lines.data(), 0, 1, &taken), SDIE_INVALID, "sdie_stream_finish");
  expect(sdie_stream_pull(stream, out.data(), 0, 3, &got) == SDIE_OK && got == 3, "three of four lines");
  expect(sdie_stream_finish(stream) == SDIE_OK, "a web that ends after lines were pulled");
  expect(sdie_stream_pull(stream, out.data() + 15, 0, 100, &got) == SDIE_OK && got == 5, "the lines that were left");
  expect(std::equal(lines.begin(), lines.begin() + 40, out.begin()), "lines that waited");
}

// ---- statistics ------------------------------------------------------------------------------------------------

// The spatiogram over a web by its definition: bins of a weight, a mean and a variance across, each pixel shared by the
// two bins whose middles it lies between.
struct SlowSums {
  int bins;
  std::vector<double> n, x, xx;
  explicit SlowSums(int count) : bins(count), n(static_cast<std::size_t>(count)), x(n), xx(n) {}

  void add(const float* line, int width) {
    for (int k = 0; k < width; ++k) {
      const double t = static_cast<double>(line[k]) * bins - 0.5;
      const int low = static_cast<int>(std::floor(t));
      for (const auto& [bin, share] : {std::pair{low, low + 1 - t}, std::pair{low + 1, t - low}}) {
        const auto b = static_cast<std::size_t>(std::clamp(bin, 0, bins - 1));
        n[b] += share;
        x[b] += share * k;
        xx[b] += share * k * k;
      }
    }
  }
  void fade(double by) {
    for (auto* sums : {&n, &x, &xx})
      for (double& sum : *sums) sum *= by;
  }
  double value(float intensity, int column) const {
    double below = 0.0, all = 0.0;
    for (int b = 0; b < bins; ++b) {
      const auto at = static_cast<std::size_t>(b);
      if (n[at] < 1e-6) continue;
      const double mean = x[at] / n[at], variance = std::max(xx[at] / n[at] - mean * mean, 0.0) + 1.0;
      const double p = n[at] / std::sqrt(variance) * std::exp(-0.5 * (column - mean) * (column - mean) / variance);
      all += p;
      below += p * std::clamp(static_cast<double>(intensity) * bins - b, 0.0, 1.0);
    }
    return below / all;
  }
};

std::vector<float> floats(const Bytes& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

Bytes bytes_of(const std::vector<float>& values) {
  Bytes out(values.size() * 4);
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

// Whose left half is darker than its right one, and which brightens along the web.
std::vector<float> drifting(int width, int lines) {
  const Bytes noise = texture(static_cast<std::size_t>(width * lines), 7);
  std::vector<float> out(noise.size());
  for (int y = 0; y < lines; ++y)
    for (int x = 0; x < width; ++x) {
      const float base = 0.2f + 0.3f * static_cast<float>(x) / static_cast<float>(width) +
                         0.3f * static_cast<float>(y) / static_cast<float>(lines);
      const auto k = static_cast<std::size_t>(y * width + x);
      out[k] = base + 0.1f * static_cast<float>(noise[k] % 32) / 32.0f;
    }
  return out;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double most = a.size() == b.size() ? 0.0 : 1e9;
  for (std::size_t k = 0; most < 1e9 && k < a.size(); ++k)
    most = std::max(most, std::abs(static_cast<double>(a[k]) - static_cast<double>(b[k])));
  return most;
}

constexpr int kBins = 16, kWide = 300;

sdie_config spatiogram_config() {
  sdie_config frame = config_of(kWide, 1, SDIE_FLOAT32);
  only(frame, {SDIE_SPATIOGRAM}, 1);
  expect(sdie_config_set(&frame, "spatiogram_bins", "16") == SDIE_OK, "spatiogram_bins");
  return frame;
}

void rolling_sums_fade() {
  const int lines = 700, strip = 50, half_life = 80;
  const std::vector<float> given = drifting(kWide, lines);
  std::vector<float> wanted(given.size());
  SlowSums sums(kBins);
  for (int top = 0; top < lines; top += strip) {
    const SlowSums before = sums;
    sums.fade(std::exp2(-static_cast<double>(strip) / half_life));
    for (int y = top; y < top + strip; ++y) sums.add(&given[static_cast<std::size_t>(y * kWide)], kWide);
    for (int y = top; y < top + strip; ++y)
      for (int x = 0; x < kWide; ++x) {
        const auto k = static_cast<std::size_t>(y * kWide + x);
        const double newer = top == 0 ? 1.0 : (y + 1.0 - top) / strip;
        wanted[k] = static_cast<float>(newer * sums.value(given[k], x) +
                                       (newer < 1.0 ? (1.0 - newer) * before.value(given[k], x) : 0.0));
      }
  }
  sdie_config frame = spatiogram_config();
  for (const int context : {0, 3}) {
    sdie_stream_config config = web_of(frame, strip, context);
    config.half_life = half_life;
    const Stream stream(config);
    for (int again = 0; again < 2; ++again)  // another web begins without what was seen of the first
      expect(largest_difference(floats(stream.enhanced(bytes_of(given), 60, 60)), wanted) < 2e-4,
             "rolling statistics are not their definition's");
  }
}

void frozen_sums_are_those_learned() {
  const std::vector<float> reference = drifting(kWide, 333), given = drifting(kWide, 150);
  SlowSums sums(kBins);
  for (int y = 0; y < 333; ++y) sums.add(&reference[static_cast<std::size_t>(y * kWide)], kWide);
  std::vector<float> wanted;
  for (std::size_t k = 0; k < given.size(); ++k)
    wanted.push_back(static_cast<float>(sums.value(given[k], static_cast<int>(k) % kWide)));
  sdie_config frame = spatiogram_config();
  for (const int strip : {1, 40, 200}) {
    sdie_stream_config config = web_of(frame, strip);
    config.statistics = SDIE_FROZEN;
    const Stream stream(config);
    std::int64_t taken = 0;
    refused(sdie_stream_push(stream, given.data(), 0, 1, &taken), SDIE_INVALID, "sdie_stream_learn");
    for (int again = 0; again < 2; ++again)  // learning anew does not add
      expect(sdie_stream_learn(stream, reference.data(), 0, 333) == SDIE_OK, "learning");
    expect(largest_difference(floats(stream.enhanced(bytes_of(given), 60, 60)), wanted) < 2e-4,
           "frozen statistics are not those of the reference");
  }
}

// With a round before and one after: later rounds learn from what earlier ones give, and the strips do not matter.
void learning_goes_round_by_round() {
  const std::vector<float> reference = drifting(kWide, 500), given = drifting(kWide, 120);
  std::vector<float> first;
  for (const char* method : {"spatiogram", "global"})
    for (const int strip : {500, 37}) {
      sdie_config frame = spatiogram_config();
      expect(sdie_config_set(&frame, "spatiogram_method", method) == SDIE_OK, "spatiogram_method");
      frame.rounds = 4;
      for (int t = 0; t < 4; ++t) frame.weights[t][SDIE_GUIDED] = frame.weights[t][SDIE_SPATIOGRAM] = 1.0f;
      sdie_stream_config config = web_of(frame, strip);
      config.statistics = SDIE_FROZEN;
      const Stream stream(config);
      float rows[2][SDIE_SPATIOGRAM + 1] = {};
      for (auto& row : rows) row[SDIE_GUIDED] = row[SDIE_SPATIOGRAM] = 1.0f;
      // Learned with two rounds, used with four.
      expect(sdie_stream_set_weights(stream, rows[0], 2, SDIE_SPATIOGRAM + 1) == SDIE_OK, "two rounds");
      expect(sdie_stream_learn(stream, reference.data(), 0, 500) == SDIE_OK, "learning");
      expect(sdie_stream_set_weights(stream, &frame.weights[0][0], 4, SDIE_MAX_FILTERS) == SDIE_OK, "four rounds");
      const std::vector<float> out = floats(stream.enhanced(bytes_of(given), 60, 60));
      if (strip == 500) first = out;
      expect(largest_difference(out, first) < 1e-3, std::string(method) + ": the strip shows in frozen statistics");
      if (method != std::string("spatiogram") || strip != 500) continue;
      sdie_config whole_web = frame;
      whole_web.height = 120;
      expect(largest_difference(out, floats(enhanced(whole_web, bytes_of(given)))) > 0.02,
             "frozen statistics are the picture's own");
    }
}

void counts_of_levels_roll() {
  const int lines = 400, strip = 100;
  Bytes given = web(kWide, lines), wanted;
  sdie_config frame = config_of(kWide, 1);
  only(frame, {SDIE_SPATIOGRAM}, 1);
  expect(sdie_config_set(&frame, "spatiogram_method", "global") == SDIE_OK, "spatiogram_method");
  double counts[256] = {}, level[256] = {}, before[256];
  for (int top = 0; top < lines; top += strip) {
    std::copy(level, level + 256, before);
    for (double& count : counts) count *= std::exp2(-100.0 / 70.0);
    std::for_each(given.begin() + top * kWide, given.begin() + (top + strip) * kWide,
                  [&](std::uint8_t v) { ++counts[v]; });
    double all = 0.0, sum = 0.0;
    for (const double count : counts) all += count;
    for (int v = 0; v < 256; ++v) level[v] = (sum += counts[v]) / all;
    for (int k = top * kWide; k < (top + strip) * kWide; ++k) {
      const std::uint8_t v = given[static_cast<std::size_t>(k)];
      const double newer = top == 0 ? 1.0 : (k / kWide + 1.0 - top) / strip;
      wanted.push_back(static_cast<std::uint8_t>(std::lround(255.0 * (newer * level[v] + (1.0 - newer) * before[v]))));
    }
  }
  sdie_stream_config config = web_of(frame, strip, 2);
  config.half_life = 70;
  const Bytes out = Stream(config).enhanced(given, 30, 30);
  int most = out.size() == wanted.size() ? 0 : 999;
  for (std::size_t k = 0; most < 999 && k < out.size(); ++k) most = std::max(most, std::abs(out[k] - wanted[k]));
  expect(most <= 1, "rolling counts are not their definition's");
}

// A picture of its own: what a plan makes of the strip, or of the strip with its context.
void statistics_of_a_strip() {
  for (const char* method : {"spatiogram", "clahe", "global"}) {
    sdie_config frame = config_of(90, 40);
    only(frame, {SDIE_SPATIOGRAM, SDIE_IDENTITY}, 2);
    expect(sdie_config_set(&frame, "spatiogram_method", method) == SDIE_OK, "spatiogram_method");
    const Bytes lines = web(90, 120);
    Bytes wanted;
    for (int top = 0; top < 120; top += 40) {
      const Bytes strip = enhanced(frame, Bytes(lines.begin() + top * 90, lines.begin() + (top + 40) * 90));
      wanted.insert(wanted.end(), strip.begin(), strip.end());
    }
    sdie_stream_config config = web_of(frame, 40, 0);
    config.statistics = SDIE_OF_STRIP;
    expect(Stream(config).enhanced(lines, 7, 7) == wanted, std::string(method) + " of strips");
    config.context = 40;  // then the middle one is of the whole, but for rounding
    const Bytes middle = Stream(config).enhanced(lines, 7, 7), all = whole(frame, lines);
    expect(std::equal(middle.begin() + 40 * 90, middle.begin() + 80 * 90, all.begin() + 40 * 90,
                      [](int a, int b) { return std::abs(a - b) <= 1; }),
           std::string(method) + " of a strip with its context");
  }
}

// The mean step from a line to the next, across seams and elsewhere.
void seams_do_not_show() {
  const int lines = 3000, strip = 100;
  std::vector<float> given = drifting(kWide, lines);
  sdie_config frame = spatiogram_config();
  only(frame, {SDIE_SPATIOGRAM, SDIE_IDENTITY, SDIE_SHARPEN}, 3);
  sdie_stream_config config = web_of(frame, strip);
  config.half_life = 1000;
  const std::vector<float> out = floats(Stream(config).enhanced(bytes_of(given), 500, 500));
  double seams = 0.0, elsewhere = 0.0;
  int counted = 0, others = 0;
  for (int y = 1; y < lines; ++y) {
    double step = 0.0;
    for (int x = 0; x < kWide; ++x) {
      const auto k = static_cast<std::size_t>(y * kWide + x);
      step += static_cast<double>(std::abs(out[k] - out[k - kWide]));
    }
    (y % strip == 0 ? seams : elsewhere) += step;
    ++(y % strip == 0 ? counted : others);
  }
  const double ratio = (seams / counted) / (elsewhere / others);
  expect(ratio < 1.02, "seams are steeper than the rest: " + std::to_string(ratio));
}

void threads_do_not_show() {
  sdie_config frame = config_of(700, 1);
  mixed(frame, 2);
  expect(sdie_config_set(&frame, "wls_solver", "fast") == SDIE_OK, "wls_solver");
  const Bytes lines = web(700, 500);
  const Bytes wanted = Stream(web_of(frame, 150)).enhanced(lines, 1000, 1000);
  frame.threads = 3;
  expect(Stream(web_of(frame, 150)).enhanced(lines, 1000, 1000) == wanted, "threads show in a stream");
}

void wls_is_near_the_whole_web() {
  for (const char* solver : {"fast", "exact"}) {
    sdie_config frame = config_of(150, 1, SDIE_MONO8, SDIE_FLOAT32);
    only(frame, {SDIE_WLS, SDIE_GUIDED}, 2);
    expect(sdie_config_set(&frame, "wls_solver", solver) == SDIE_OK &&
               sdie_config_set(&frame, "wls_lambda", "0.5") == SDIE_OK &&
               sdie_config_set(&frame, "wls_tol", "1e-4") == SDIE_OK,
           "parameters of wls");
    const Bytes lines = web(150, 900);
    const std::vector<float> wanted = floats(whole(frame, lines));
    const auto off = [&](int context) {
      return largest_difference(floats(Stream(web_of(frame, 64, context)).enhanced(lines, 1000, 1000)), wanted);
    };
    expect(off(-1) < 0.5 / 255.0, std::string(solver) + " wls is off by " + std::to_string(255.0 * off(-1)));
    expect(off(0) > 0.5 / 255.0, std::string(solver) + " wls needs no context");
  }
}

// ---- what runs for a year ------------------------------------------------------------------------------------------

long resident_pages() {
  long all = 0, resident = 0;
  if (std::FILE* file = std::fopen("/proc/self/statm", "r")) {
    if (std::fscanf(file, "%ld %ld", &all, &resident) != 2) resident = 0;
    std::fclose(file);
  }
  return resident;
}

void ten_million_lines() {
  sdie_config frame = config_of(16, 1);
  only(frame, {SDIE_IDENTITY, SDIE_GAMMA}, 1);
  const Stream stream(web_of(frame, 256));
  const Bytes lines = web(16, 250);
  Bytes out(16 * 512);
  std::uint64_t pulled = 0;
  long before = 0;
  bool right = true;
  for (int k = 0; k < 40'000; ++k) {
    std::int64_t taken = 0, got = 0;
    right &= sdie_stream_push(stream, lines.data(), 0, 250, &taken) == SDIE_OK && taken == 250;
    if (sdie_stream_pull(stream, out.data(), 0, 512, &got) == SDIE_OK) pulled += static_cast<std::uint64_t>(got);
    if (k == 100) before = resident_pages();
  }
  expect(right && pulled == 10'000'000 / 256 * 256, "ten million lines came out as " + std::to_string(pulled));
  expect(resident_pages() - before <= 16, "memory grew by pages: " + std::to_string(resident_pages() - before));
}

void a_deadline_is_each_strips() {
  sdie_config frame = config_of(64, 1);
  only(frame, {SDIE_GAUSSIAN}, 3);
  const Bytes lines = web(64, 100);
  sdie_stats stats{};
  stats.size = sizeof stats;
  for (const bool short_of_time : {true, false}) {
    frame.deadline_ns = short_of_time ? 1 : 60'000'000'000;
    const Stream stream(web_of(frame, 32));
    const Bytes out = stream.enhanced(lines, 1000, 1000);
    expect(out == (short_of_time ? lines : whole(frame, lines)), "what a deadline leaves");
    std::int64_t taken = 0;
    sdie_stream_push(stream, nullptr, 0, 1, &taken);
    expect(sdie_stream_stats(stream, &stats) == SDIE_OK && stats.frames == 4 && stats.refused == 1 &&
               stats.shortened == (short_of_time ? 4 : 0) && stats.late == (short_of_time ? 4 : 0) && stats.min_ns > 0,
           "figures of a stream");
  }
}

struct Counted {
  int blocks = 0, asked = 0;
};

void memory_comes_from_the_allocator() {
  Counted counted;
  sdie_config frame = config_of(64, 1);
  only(frame, {SDIE_GUIDED, SDIE_SPATIOGRAM}, 2);
  frame.allocator = &counted;
  frame.allocate = [](void* counts, std::size_t n) -> void* {
    ++static_cast<Counted*>(counts)->asked;
    ++static_cast<Counted*>(counts)->blocks;
    void* const block = std::aligned_alloc(64, (n + 63) / 64 * 64);
    if (block) std::memset(block, 0xff, n);
    return block;
  };
  frame.release = [](void* counts, void* block, std::size_t) {
    --static_cast<Counted*>(counts)->blocks;
    std::free(block);
  };
  const Bytes lines = web(64, 100);
  Bytes out;
  {
    const Stream stream(web_of(frame, 32));
    expect(counted.asked == 1, "a stream asks for one block");
    out = stream.enhanced(lines, 9, 9);
    expect(counted.asked == 1, "a stream asks for more");
  }
  expect(counted.blocks == 0, "a block was not given back");
  frame.allocate = nullptr;
  frame.release = nullptr;
  expect(Stream(web_of(frame, 32)).enhanced(lines, 9, 9) == out, "an allocator's memory shows");
  frame.allocate = [](void*, std::size_t) -> void* { return nullptr; };
  frame.release = [](void*, void*, std::size_t) {};
  const sdie_stream_config config = web_of(frame, 32);
  sdie_stream* stream = nullptr;
  refused(sdie_stream_create(&config, &stream), SDIE_MEMORY, "received NULL");
}

struct Gate {
  std::atomic<bool> inside{false}, open{false};
};

// While a call waits in the caller's thread pool.
void one_call_at_a_time() {
  Gate gate;
  sdie_config frame = config_of(1024, 1);
  only(frame, {SDIE_BILATERAL}, 1);
  frame.threads = 2;
  frame.pool = &gate;
  frame.parallel = [](void* pool, std::int32_t members, sdie_body body, void* context) {
    Gate& own = *static_cast<Gate*>(pool);
    own.inside = true;
    while (!own.open) std::this_thread::yield();
    std::vector<std::thread> threads;
    for (std::int32_t k = 0; k < members; ++k) threads.emplace_back([=] { body(context, k); });
    for (std::thread& thread : threads) thread.join();
  };
  sdie_stream_config config = web_of(frame, 128);
  config.statistics = SDIE_FROZEN;
  gate.open = true;  // for the memory's first touch
  const Stream stream(config);
  gate.inside = gate.open = false;
  const Bytes lines = web(1024, 150);
  std::thread other([&] {
    std::int64_t taken = 0;
    expect(sdie_stream_push(stream, lines.data(), 0, 150, &taken) == SDIE_OK, "a push beside other calls");
  });
  while (!gate.inside) std::this_thread::yield();
  Bytes out(1024);
  std::int64_t count = 0;
  refused(sdie_stream_push(stream, lines.data(), 0, 1, &count), SDIE_BUSY, "another thread");
  refused(sdie_stream_pull(stream, out.data(), 0, 1, &count), SDIE_BUSY, "another thread");
  refused(sdie_stream_finish(stream), SDIE_BUSY, "another thread");
  refused(sdie_stream_learn(stream, lines.data(), 0, 1), SDIE_BUSY, "another thread");
  refused(sdie_stream_destroy(stream), SDIE_BUSY, "another thread");
  sdie_stats stats{};
  stats.size = sizeof stats;
  expect(sdie_stream_stats(stream, &stats) == SDIE_OK && stats.refused == 4, "figures while it runs");
  gate.open = true;
  other.join();
  expect(sdie_stream_pull(stream, out.data(), 0, 1, &count) == SDIE_OK, "a call after another has ended");
}

void misuse_is_refused() {
  sdie_config frame = config_of(64, 1);
  only(frame, {SDIE_SPATIOGRAM}, 1);
  const sdie_stream_config good = web_of(frame, 32);
  sdie_stream* made = nullptr;
  const auto spoilt = [&](sdie_status status, const char* said, const std::function<void(sdie_stream_config&)>& spoil) {
    sdie_stream_config config = good;
    spoil(config);
    refused(sdie_stream_create(&config, &made), status, said);
    expect(!made, "a stream of a bad configuration");
  };
  spoilt(SDIE_INVALID, "strip: received 0", [](auto& c) { c.strip = 0; });
  spoilt(SDIE_INVALID, "context: received -2", [](auto& c) { c.context = -2; });
  spoilt(SDIE_INVALID, "statistics: received 3", [](auto& c) { c.statistics = 3; });
  spoilt(SDIE_INVALID, "half_life: received 0", [](auto& c) { c.half_life = 0; });
  spoilt(SDIE_INVALID, "capacity: received 31; accepted: 0, or a strip's 32", [](auto& c) { c.capacity = 31; });
  spoilt(SDIE_INVALID, "capacity: received -1", [](auto& c) { c.capacity = -1; });
  spoilt(SDIE_INVALID, "frame: received NULL", [](auto& c) { c.frame = nullptr; });
  spoilt(SDIE_INVALID, "2^30 pixels", [](auto& c) { c.context = INT32_MAX; });
  spoilt(SDIE_INVALID, "2^30 pixels", [](auto& c) { c.strip = INT32_MAX; });
  spoilt(SDIE_STRUCT, "config.size", [](auto& c) { c.size = 8; });
  frame.width = 0;
  spoilt(SDIE_INVALID, "size: received 0", [](auto&) {});
  frame.width = 64;
  expect(sdie_config_set(&frame, "spatiogram_method", "clahe") == SDIE_OK, "spatiogram_method");
  spoilt(SDIE_INVALID, "SDIE_ROLLING; accepted: SDIE_OF_STRIP: clahe takes its tiles", [](auto&) {});
  spoilt(SDIE_INVALID, "SDIE_FROZEN; accepted: SDIE_OF_STRIP", [](auto& c) { c.statistics = SDIE_FROZEN; });
  frame.weights[0][SDIE_SPATIOGRAM] = 0.0f;
  frame.weights[0][SDIE_IDENTITY] = 1.0f;
  expect(sdie_stream_create(&good, &made) == SDIE_OK && sdie_stream_destroy(made) == SDIE_OK,
         "a method that no round uses is of no account");
  expect(sdie_config_set(&frame, "spatiogram_method", "spatiogram") == SDIE_OK, "spatiogram_method");
  only(frame, {SDIE_SPATIOGRAM}, 1);
  refused(sdie_stream_create(nullptr, &made), SDIE_INVALID, "config: received NULL");
  refused(sdie_stream_create(&good, nullptr), SDIE_INVALID, "stream: received NULL");
  refused(sdie_stream_config_init(nullptr, sizeof good), SDIE_INVALID, "config: received NULL");
  sdie_stream_config short_one;
  refused(sdie_stream_config_init(&short_one, 8), SDIE_STRUCT, "size: received 8");

  const Stream stream(good);
  Bytes lines = web(64, 10);
  std::int64_t count = 7;
  refused(sdie_stream_push(nullptr, lines.data(), 0, 1, &count), SDIE_INVALID, "stream: received NULL");
  refused(sdie_stream_push(stream, nullptr, 0, 1, &count), SDIE_INVALID, "src: received NULL");
  refused(sdie_stream_push(stream, lines.data(), 0, 1, nullptr), SDIE_INVALID, "taken: received NULL");
  refused(sdie_stream_push(stream, lines.data(), 0, -1, &count), SDIE_INVALID, "count: received -1");
  refused(sdie_stream_push(stream, lines.data(), 63, 2, &count), SDIE_INVALID, "src_stride: received 63");
  expect(sdie_stream_push(stream, nullptr, 0, 0, &count) == SDIE_OK && count == 0, "a push of no lines");
  refused(sdie_stream_pull(stream, lines.data(), 0, -1, &count), SDIE_INVALID, "count: received -1");
  refused(sdie_stream_pull(stream, lines.data(), 0, 1, nullptr), SDIE_INVALID, "got: received NULL");
  refused(sdie_stream_learn(stream, lines.data(), 0, 10), SDIE_INVALID, "SDIE_FROZEN");
  refused(sdie_stream_finish(nullptr), SDIE_INVALID, "stream: received NULL");
  for (int k = 0; k < 4; ++k) sdie_stream_push(stream, lines.data(), 0, 10, &count);
  refused(sdie_stream_pull(stream, nullptr, 0, 1, &count), SDIE_INVALID, "dst: received NULL");
  refused(sdie_stream_pull(stream, lines.data(), 10, 2, &count), SDIE_INVALID, "dst_stride: received 10");
  float row[SDIE_MAX_FILTERS] = {};
  row[SDIE_MEDIAN] = 1.0f;
  refused(sdie_stream_set_weights(stream, row, 1, SDIE_MAX_FILTERS), SDIE_INVALID, "one for median");
  refused(sdie_stream_stats(stream, nullptr), SDIE_INVALID, "stats: received NULL");
  sdie_stream_config config = good;
  config.statistics = SDIE_FROZEN;
  const Stream frozen(config);
  refused(sdie_stream_learn(frozen, lines.data(), 0, 0), SDIE_INVALID, "lines: received 0");
  refused(sdie_stream_learn(frozen, lines.data(), 1, 2), SDIE_INVALID, "src_stride: received 1");
  refused(sdie_stream_learn(frozen, nullptr, 0, 2), SDIE_INVALID, "src: received NULL");
  expect(sdie_stream_latency(nullptr) == 0 && sdie_stream_context(nullptr) == 0, "figures of no stream");
  expect(sdie_stream_destroy(nullptr) == SDIE_OK, "no stream to destroy");
}

}  // namespace

void stream_test() {
  local_filters_are_those_of_the_whole_web();
  every_format_any_portions();
  webs_of_every_length();
  latency_is_what_is_said();
  lines_wait_until_they_are_pulled();
  rolling_sums_fade();
  frozen_sums_are_those_learned();
  learning_goes_round_by_round();
  counts_of_levels_roll();
  statistics_of_a_strip();
  seams_do_not_show();
  threads_do_not_show();
  wls_is_near_the_whole_web();
  ten_million_lines();
  a_deadline_is_each_strips();
  memory_comes_from_the_allocator();
  one_call_at_a_time();
  misuse_is_refused();
}
