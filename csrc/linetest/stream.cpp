// Streams: the same as the whole web where filters are local, whatever is pushed and pulled at a time.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>

#include "web.h"

using namespace linetest;

namespace {

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

}  // namespace

void stream_test() {
  local_filters_are_those_of_the_whole_web();
  every_format_any_portions();
  webs_of_every_length();
  latency_is_what_is_said();
  lines_wait_until_they_are_pulled();
  threads_do_not_show();
  wls_is_near_the_whole_web();
}
