// Statistics over a web, against their definition in its slow form.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "web.h"

using namespace linetest;

namespace {

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

// Of rounds that differ: later ones learn from what earlier ones give, whatever the strips. A web that is one strip
// goes by itself, as does reference material by what was learned of it.
void learning_goes_round_by_round() {
  const Bytes reference = bytes_of(drifting(kWide, 500));
  std::vector<float> elsewhere = drifting(kWide, 90);
  for (float& value : elsewhere) value *= value;
  for (const char* method : {"spatiogram", "global"}) {
    sdie_config frame = spatiogram_config();
    expect(sdie_config_set(&frame, "spatiogram_method", method) == SDIE_OK, "spatiogram_method");
    frame.rounds = 4;
    for (int t = 0; t < 4; ++t) {
      frame.weights[t][SDIE_GUIDED] = static_cast<float>(t);
      frame.weights[t][SDIE_SPATIOGRAM] = 1.0f;
    }
    const std::vector<float> wanted = floats(Stream(web_of(frame, 500)).enhanced(reference, 60, 60));
    for (const int strip : {500, 37}) {
      sdie_stream_config config = web_of(frame, strip);
      config.statistics = SDIE_FROZEN;
      const Stream stream(config);
      expect(sdie_stream_learn(stream, elsewhere.data(), 0, 90) == SDIE_OK, "learning from something else");
      expect(sdie_stream_learn(stream, reference.data(), 0, 500) == SDIE_OK, "learning anew");
      expect(largest_difference(floats(stream.enhanced(reference, 60, 60)), wanted) < 1e-3,
             std::string(method) + ": what was learned is not what the reference goes by");
      // Learned with two rounds, used with four.
      expect(sdie_stream_set_weights(stream, frame.weights[0], 2, SDIE_MAX_FILTERS) == SDIE_OK, "two rounds");
      expect(sdie_stream_learn(stream, reference.data(), 0, 500) == SDIE_OK, "learning with two rounds");
      expect(sdie_stream_set_weights(stream, frame.weights[0], 4, SDIE_MAX_FILTERS) == SDIE_OK, "four rounds");
      const std::vector<float> more = floats(stream.enhanced(reference, 60, 60));
      expect(*std::min_element(more.begin(), more.end()) < 0.3f && *std::max_element(more.begin(), more.end()) > 0.7f,
             std::string(method) + ": a round without statistics");
    }
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

}  // namespace

void statistics_test() {
  rolling_sums_fade();
  frozen_sums_are_those_learned();
  learning_goes_round_by_round();
  counts_of_levels_roll();
  statistics_of_a_strip();
  seams_do_not_show();
}
