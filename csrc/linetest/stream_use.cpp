// Streams in use: memory, deadlines, two threads, and what is refused.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>

#include "web.h"

using namespace linetest;

namespace {

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
  expect(resident_pages() - before <= 256, "memory grew by pages: " + std::to_string(resident_pages() - before));
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

void stream_use_test() {
  ten_million_lines();
  a_deadline_is_each_strips();
  memory_comes_from_the_allocator();
  one_call_at_a_time();
  misuse_is_refused();
}
