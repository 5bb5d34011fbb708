// A line in C++17: one thread grabs while another enhances, and the filters run in the program's own thread pool.
//
//   line [RECIPE.line [WIDTH HEIGHT FRAMES [OUT.raw]]]
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <sdie.hpp>
#include <string>
#include <thread>
#include <vector>

namespace {

// The least pool that serves sdie_config::parallel: every member of a call runs at once, on a thread of its own. A pool
// of yours does, if it gives that promise; where it runs tasks one after another, leave `parallel` NULL.
class Pool {
 public:
  explicit Pool(std::int32_t members) {
    for (std::int32_t k = 1; k < members; ++k) threads_.emplace_back([this, k] { serve(k); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      over_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Of type sdie_parallel. The calling thread is member 0.
  static void run(void* pool, std::int32_t members, sdie_body body, void* context) {
    static_cast<Pool*>(pool)->run(members, body, context);
  }

 private:
  void run(std::int32_t members, sdie_body body, void* context) {
    {
      const std::lock_guard lock(mutex_);
      body_ = body, context_ = context, members_ = members, busy_ = members - 1;
      ++call_;
    }
    wake_.notify_all();
    body(context, 0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

  void serve(std::int32_t member) {
    std::unique_lock lock(mutex_);
    for (std::uint64_t seen = 0;;) {
      wake_.wait(lock, [&] { return over_ || call_ != seen; });
      if (over_) return;
      seen = call_;
      if (member >= members_) continue;
      lock.unlock();
      body_(context_, member);
      lock.lock();
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  sdie_body body_ = nullptr;
  void* context_ = nullptr;
  std::int32_t members_ = 0, busy_ = 0;
  std::uint64_t call_ = 0;
  bool over_ = false;
  std::vector<std::thread> threads_;
};

struct Frame {
  std::vector<std::uint8_t> pixels;
  std::uint64_t since = 0;  // when its last line was there
};

// Two frames: while one is enhanced, the camera fills the other. NULL: it is over.
class DoubleBuffer {
 public:
  explicit DoubleBuffer(std::size_t bytes) {
    for (Frame& frame : frames_) frame.pixels.resize(bytes);
  }
  Frame* to_fill() {
    return next(filled_, [this] { return filled_ - used_ < 2; });
  }
  Frame* to_use() {
    return next(used_, [this] { return used_ < filled_; });
  }
  void filled() {
    change([this] { ++filled_; });
  }
  void used() {
    change([this] { ++used_; });
  }
  void end() {
    change([this] { over_ = true; });
  }

 private:
  template <class Ready>
  Frame* next(const std::uint64_t& number, Ready ready) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return over_ || ready(); });
    return ready() ? &frames_[number % 2] : nullptr;
  }
  template <class Change>
  void change(Change change) {
    {
      const std::lock_guard lock(mutex_);
      change();
    }
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  Frame frames_[2];
  std::uint64_t filled_ = 0, used_ = 0;
  bool over_ = false;
};

// In place of a camera: a surface with a scratch that moves.
void draw(Frame& frame, const sdie::Config& config, int number) {
  std::uint8_t* pixel = frame.pixels.data();
  for (int y = 0; y < config.height; ++y)
    for (int x = 0; x < config.width; ++x) {
      const int noise = (x * 73 + y * 151 + number * 37) % 23;
      const int scratch = (x + y + 8 * number) % 211 < 3 ? 40 : 0;
      *pixel++ = static_cast<std::uint8_t>(110 + noise - scratch);
    }
  frame.since = sdie_clock();
}

void line(int argc, char** argv) {
  sdie::Config config;
  config.width = argc > 2 ? std::atoi(argv[2]) : 1024;
  config.height = argc > 3 ? std::atoi(argv[3]) : 1024;
  const int frames = argc > 4 ? std::atoi(argv[4]) : 100;
  if (argc > 1) {
    config.load(argv[1]);
  } else {  // two rounds, set in code
    config.rounds = 2;
    for (int k = 0; k < config.rounds; ++k) {
      config.weights[k][SDIE_IDENTITY] = 0.4f;
      config.weights[k][SDIE_BILATERAL] = 0.3f;
      config.weights[k][SDIE_SHARPEN] = 0.3f;
    }
    config.set("bilateral_sigma_range", 0.1);
  }
  config.threads = 2;
  Pool pool(config.threads);
  config.parallel = &Pool::run;
  config.pool = &pool;
  sdie::Plan plan(config);

  const std::size_t bytes = sdie_line_bytes(config.input, config.width) * static_cast<std::size_t>(config.height);
  std::vector<std::uint8_t> out(bytes);
  std::ofstream file;
  if (argc > 5) {
    file.exceptions(std::ios::failbit | std::ios::badbit);
    file.open(argv[5], std::ios::binary);
  }

  DoubleBuffer buffer(bytes);
  std::thread grab([&] {
    for (int number = 0; number < frames; ++number) {
      Frame* frame = buffer.to_fill();
      if (!frame) return;
      draw(*frame, config, number);
      buffer.filled();
    }
    buffer.end();
  });
  try {
    while (Frame* frame = buffer.to_use()) {
      // The frame started when it was grabbed: where it waited for the one before, the figures say so.
      const sdie_report report = plan.run_since(frame->pixels.data(), out.data(), frame->since);
      buffer.used();
      if (report.late) std::printf("late: %.2f ms\n", static_cast<double>(report.latency_ns) * 1e-6);
      if (file.is_open()) file.write(reinterpret_cast<const char*>(out.data()), static_cast<std::streamsize>(bytes));
    }
  } catch (...) {
    buffer.end();
    grab.join();
    throw;
  }
  grab.join();

  const sdie_stats stats = plan.stats();
  std::printf("%llu frames, %llu late; p50 %.3f ms, p99 %.3f ms, max %.3f ms\n",
              static_cast<unsigned long long>(stats.frames), static_cast<unsigned long long>(stats.late),
              static_cast<double>(stats.p50_ns) * 1e-6, static_cast<double>(stats.p99_ns) * 1e-6,
              static_cast<double>(stats.max_ns) * 1e-6);
}

}  // namespace

int main(int argc, char** argv) try {
  line(argc, argv);
} catch (const std::exception& error) {  // sdie::Error among them, with the library's words
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
