#include "enhance.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <new>

namespace sdie {

void Team::wait() const { barrier_->arrive_and_wait(); }

namespace {

// A zeroed block for one team. The calling thread keeps a block of up to kKept bytes between calls, because
// fresh pages cost a fifth of a small image's time.
class Workspace {
 public:
  explicit Workspace(std::size_t bytes, bool keep) {
    thread_local Block kept;
    if (keep && bytes <= kKept) {
      if (kept.size < bytes) kept = Block(bytes);
      data_ = kept.data.get();
    } else {
      own_ = Block(bytes);
      data_ = own_.data.get();
    }
  }
  void* data() const { return data_; }

 private:
  static constexpr std::size_t kKept = std::size_t{64} << 20;
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  struct Block {
    std::unique_ptr<void, Free> data;
    std::size_t size = 0;
    Block() = default;
    explicit Block(std::size_t bytes) : size(bytes) {
      const std::size_t rounded = (bytes + 63) / 64 * 64;
      data.reset(std::aligned_alloc(64, rounded));
      if (!data) throw std::bad_alloc();
      std::memset(data.get(), 0, rounded);
    }
  };
  Block own_;
  void* data_ = nullptr;
};

// Planes are counted image by image; with per_channel every channel is a grey plane of its own.
View plane_of(const Batch& b, std::ptrdiff_t index, bool per_channel, float white) {
  const std::ptrdiff_t image = per_channel ? index / b.c : index;
  const std::ptrdiff_t channel = per_channel ? index % b.c : 0;
  return {b.dtype,
          static_cast<int>(b.h),
          static_cast<int>(b.w),
          per_channel ? 1 : static_cast<int>(b.c),
          b.sh,
          b.sw,
          b.sc,
          b.data + image * b.sn + channel * b.sc,
          white};
}

// Below this many pixels a plane is not split: the barriers would cost more than the help.
constexpr std::ptrdiff_t kSplitPixels = 256 * 256;

}  // namespace

void enhance(const Batch& src, const Batch& dst, const float* weights, int rounds, const Params& params, float white,
             bool per_channel, int threads, const Kernels& kernels) {
  const std::ptrdiff_t per_image = per_channel ? src.c : 1;
  const std::ptrdiff_t planes = src.n * per_image;
  const auto job_of = [&](std::ptrdiff_t i) {
    return Job{plane_of(src, i, per_channel, white), plane_of(dst, i, per_channel, white),
               weights + i / per_image * rounds * kernels.count, rounds, params.values.data()};
  };
  if (planes == 0) return;
  // Images first, since they need no barriers: all of them if each is small or there are enough to keep every
  // thread busy to the end; the rest of the planes are split into bands, one after another.
  const bool small = src.h * src.w < kSplitPixels;
  const std::ptrdiff_t whole = threads == 1 || small ? planes : planes / threads * threads;
  if (whole > 0) {
    const int team = static_cast<int>(std::min<std::ptrdiff_t>(threads, whole));
    // Weights differ between images, and with them what is needed.
    std::size_t bytes = 0;
    for (std::ptrdiff_t i = 0; i < whole; ++i) bytes = std::max(bytes, kernels.workspace(job_of(i), 1));
    std::atomic<std::ptrdiff_t> next{0};
    run_team(team, [&](const Team& member) {
      const Workspace memory(bytes, member.rank() == 0);
      for (std::ptrdiff_t i; (i = next.fetch_add(1)) < whole;)
        kernels.process(job_of(i), memory.data(), Team(0, 1, nullptr), nullptr);
    });
  }
  for (std::ptrdiff_t i = whole; i < planes; ++i) {
    const Job job = job_of(i);
    const Workspace memory(kernels.workspace(job, threads), true);
    run_team(threads, [&](const Team& team) { kernels.process(job, memory.data(), team, nullptr); });
  }
}

WlsInfo wls_info(const Batch& src, const Params& params, const Kernels& kernels) {
  std::vector<float> weights;
  for (int k = 0; k < kernels.count; ++k)
    weights.push_back(kernels.filters[k].name == std::string("wls") ? 1.0f : 0.0f);
  std::vector<float> out(static_cast<std::size_t>(src.h * src.w));
  const View in = plane_of(src, 0, false, 1.0f);
  View to = in;
  to.data = reinterpret_cast<unsigned char*>(out.data());
  to.sw = sizeof(float);
  to.sh = src.w * to.sw;
  const Job job{in, to, weights.data(), 1, params.values.data()};
  const Workspace memory(kernels.workspace(job, 1), true);
  WlsInfo info;
  kernels.process(job, memory.data(), Team(0, 1, nullptr), &info);
  return info;
}

std::size_t workspace_bytes(int h, int w, const float* weights, int rounds, const Params& params,
                            const Kernels& kernels) {
  const View view{DType::u8, h, w, 1, w, 1, 1, nullptr, 255.0f};
  return kernels.workspace(Job{view, view, weights, rounds, params.values.data()}, 1);
}

}  // namespace sdie
