// Plans: they give what the kernels give, whatever lies in the memory; 1,000 runs allocate nothing and start no
// thread; what they are not made for is refused.
#include "../plan.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

#include "../dispatch.h"
#include "../line/pace.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SDIE_SANITIZED
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SDIE_SANITIZED
#endif
// Sanitizers take the place of these functions themselves; other C libraries have no second name for them.
#if defined(__GLIBC__) && !defined(SDIE_SANITIZED)
#define SDIE_COUNTS
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>

namespace {
std::atomic<long> allocations{0}, mappings{0}, threads_made{0};

template <class F>
F next_of(F, const char* name) {
  return reinterpret_cast<F>(dlsym(RTLD_NEXT, name));
}
}  // namespace

#pragma GCC visibility push(default)  // the standard library is to call these
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t size) noexcept { return ++allocations, __libc_malloc(size); }
void* calloc(std::size_t n, std::size_t size) noexcept { return ++allocations, __libc_calloc(n, size); }
void* realloc(void* p, std::size_t size) noexcept { return ++allocations, __libc_realloc(p, size); }
void* aligned_alloc(std::size_t to, std::size_t size) noexcept { return ++allocations, __libc_memalign(to, size); }
void* mmap(void* at, std::size_t size, int protection, int flags, int file, off_t offset) noexcept {
  static const auto real = next_of(&mmap, "mmap");
  return ++mappings, real(at, size, protection, flags, file, offset);
}
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*body)(void*), void* argument) noexcept {
  static const auto real = next_of(&pthread_create, "pthread_create");
  return ++threads_made, real(thread, attributes, body, argument);
}
}
#pragma GCC visibility pop
#endif

namespace sdie::selftest {
namespace {

bool passed;

constexpr int kGarbage = 0xFF;  // as bytes of float: NaN

void expect(bool right, const std::string& what) {
  if (right) return;
  std::printf("plan: %s\n", what.c_str());
  passed = false;
}

// Moderate values of every parameter; of several choices the one at that place.
Params moderate(const Kernels& kernels, int at) {
  Params params;
  for (int f = 0; f < kernels.count; ++f)
    for (int k = 0; k < kernels.filters[f].count; ++k) {
      const Parameter& p = kernels.filters[f].parameters[k];
      int choices = 0;
      while (choices < 4 && p.choices[choices]) ++choices;
      if (choices > 0)
        params.values.push_back(at % choices);
      else if (p.kind == std::string("integer"))
        params.values.push_back(std::clamp(p.odd ? 7.0 : 8.0, p.low, p.high));
      else
        params.values.push_back(std::max(p.low, p.high / 100));
    }
  return params;
}

// float32 images of a texture with edges, and room for results.
struct Images {
  int n, h, w;
  std::vector<float> source, result;
  Images(int images, int height, int width) : n(images), h(height), w(width) {
    std::uint32_t noise = 1;
    for (int k = 0; k < n * h * w; ++k) {
      noise = noise * 1664525 + 1013904223;
      const int x = k % w, y = k / w;
      source.push_back(static_cast<float>((x / 9 + y / 7) % 3) * 0.25f +
                       static_cast<float>(noise >> 8) * (0.25f / (1 << 24)));
    }
    result.assign(source.size(), -1.0f);
  }
  Batch batch(std::vector<float>& of) const {
    const std::ptrdiff_t item = sizeof(float);
    return {DType::f32, n, h, w, 1, item * h * w, item * w, item, item, reinterpret_cast<unsigned char*>(of.data())};
  }
  Batch src() { return batch(source); }
  Batch dst() { return batch(result); }
};

// Weights of n images, each of one round of some filters.
std::vector<float> rows(std::ptrdiff_t n, const Kernels& kernels, std::uint64_t filters) {
  std::vector<float> weights;
  int used = 0;
  for (int k = 0; k < kernels.count; ++k) used += static_cast<int>(filters >> k & 1);
  for (std::ptrdiff_t k = 0; k < n * kernels.count; ++k)
    weights.push_back(filters >> (k % kernels.count) & 1 ? 1.0f / static_cast<float>(used) : 0.0f);
  return weights;
}

// What the kernels give of one image in a workspace that was filled with a byte.
std::vector<float> by_kernels(const Kernels& kernels, const Images& images, const std::vector<float>& weights,
                              int rounds, const Params& params, int byte) {
  Images own = images;
  const auto view = [&](std::vector<float>& of) {
    const Batch b = own.batch(of);
    return View{b.dtype, own.h, own.w, 1, b.sh, b.sw, b.sc, b.data, 1.0f};
  };
  const Job job{view(own.source), view(own.result), weights.data(), rounds, params.values.data()};
  const Block memory(kernels.workspace(job, 1));
  std::memset(memory.data(), byte, memory.size());
  kernels.process(job, memory.data(), Team(0, 1, nullptr), nullptr);
  return own.result;
}

bool same(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::uint64_t all_of(const Kernels& kernels) { return (std::uint64_t{1} << kernels.count) - 1; }

Spec spec_of(const Images& images, const Kernels& kernels, int threads) {
  return {.kernels = &kernels,
          .h = images.h,
          .w = images.w,
          .src = {DType::f32},
          .dst = {DType::f32},
          .filters = all_of(kernels),
          .rounds = 2,
          .threads = threads};
}

// Every filter, and two rounds of all: nothing that was in the workspace shows.
void memory_does_not_show(const Kernels& kernels) {
  for (const auto& [h, w] : {std::pair{33, 47}, std::pair{130, 70}})
    for (int choice = 0; choice < 3; ++choice) {
      const Images images(1, h, w);
      const Params params = moderate(kernels, choice);
      for (int k = 0; k <= kernels.count; ++k) {
        const bool all = k == kernels.count;
        const auto weights = rows(2, kernels, all ? all_of(kernels) : std::uint64_t{1} << k);
        const auto clean = by_kernels(kernels, images, weights, 1 + all, params, 0x00);
        expect(same(clean, by_kernels(kernels, images, weights, 1 + all, params, kGarbage)),
               std::string(kernels.isa) + ": the workspace shows in " + (all ? "all" : kernels.filters[k].name) +
                   " at " + std::to_string(h) + " x " + std::to_string(w) + ", choice " + std::to_string(choice));
      }
    }
}

// A plan may be given the rows of a strip's window alone, of any number up to its own.
void fewer_rows_take_no_more_memory(const Kernels& kernels) {
  for (int choice = 0; choice < 3; ++choice)
    for (const double lambda : {1.0, 10.0}) {  // exact WLS in tiles and whole
      Params params = moderate(kernels, choice);
      std::size_t place = 0;
      for (int f = 0; f < kernels.count; ++f)
        for (int k = 0; k < kernels.filters[f].count; ++k, ++place)
          if (kernels.filters[f].parameters[k].name == std::string("lambda")) params.values[place] = lambda;
      const auto weights = rows(2, kernels, all_of(kernels));
      std::size_t before = 0;
      for (int h = 1; h <= 1200; ++h) {
        const View view{DType::f32, h, 300, 1, 0, 0, 0, nullptr, 1.0f};
        const std::size_t bytes = kernels.workspace(Job{view, view, weights.data(), 2, params.values.data()}, 2);
        expect(bytes >= before, "a row more takes less memory: " + std::to_string(h));
        before = bytes;
      }
    }
}

// Whole images, an image that is split, and both; runs that follow each other with other weights.
void plans_are_the_kernels(const Kernels& kernels) {
  const Params params = moderate(kernels, 0);
  for (const auto& [n, h, w] : {std::tuple{5, 40, 50}, std::tuple{3, 260, 260}}) {
    Images images(n, h, w), first(1, h, w);
    for (int threads = 1; threads <= 3; ++threads) {
      Plan plan(spec_of(images, kernels, threads), params);
      for (const std::uint64_t filters : {all_of(kernels), std::uint64_t{1}, std::uint64_t{6}}) {
        const auto weights = rows(n, kernels, filters);
        for (int k = 0; k < n; ++k)  // the same picture n times
          std::copy(first.source.begin(), first.source.end(), images.source.begin() + k * h * w);
        const double seconds = plan.run(images.src(), images.dst(), weights.data(), 1);
        const auto wanted = by_kernels(kernels, first, weights, 1, params, 0);
        bool right = seconds > 0.0;
        for (int k = 0; k < n; ++k)
          right &= std::equal(wanted.begin(), wanted.end(), images.result.begin() + k * h * w);
        expect(right, std::string(kernels.isa) + ": a plan of " + std::to_string(threads) + " threads differs at " +
                          std::to_string(h) + " x " + std::to_string(w));
      }
    }
  }
}

void runs_take_nothing(const Kernels& kernels) {
#if defined(SDIE_COUNTS)
  Images small(3, 24, 24), large(1, 256, 256);
  const Params params = moderate(kernels, 1);
  for (Images* images : {&small, &large}) {
    const long before[] = {allocations, mappings, threads_made};
    Plan plan(spec_of(*images, kernels, 2), params);
    expect(allocations > before[0] && mappings > before[1] && threads_made == before[2] + 1,
           "the counters do not count");
    // The larger image without filters: this asks for no arithmetic.
    const auto weights = rows(2 * images->n, kernels, images == &small ? all_of(kernels) : 1);
    const long made = threads_made, taken = allocations + mappings;
    for (int k = 0; k < 1000; ++k) plan.run(images->src(), images->dst(), weights.data(), k % 50 ? 1 : 2);
    const long more = allocations + mappings - taken, new_threads = threads_made - made;
    expect(more == 0, std::to_string(more) + " allocations in 1,000 runs");
    expect(new_threads == 0, std::to_string(new_threads) + " threads made in 1,000 runs");
  }
#else
  static_cast<void>(kernels);
#endif
}

template <class Error>
void refused(const std::string& said, const std::function<void()>& call) {
  try {
    call();
    expect(false, "not refused: " + said);
  } catch (const Error& error) {
    expect(std::string(error.what()).find(said) != std::string::npos, "'" + said + "' is not in: " + error.what());
  }
}

void bad_input_is_refused(const Kernels& kernels) {
  const Params params = moderate(kernels, 0);
  Images images(2, 20, 30), other(2, 30, 20);
  const Spec good = spec_of(images, kernels, 1);
  const auto spoilt = [&](const std::string& said, const std::function<void(Spec&)>& spoil) {
    Spec spec = good;
    spoil(spec);
    refused<std::invalid_argument>(said, [&] { Plan(spec, params); });
  };
  spoilt("size: received 0 x 30", [](Spec& s) { s.h = 0; });
  spoilt("channels: received 2; accepted: 1 or 3", [](Spec& s) { s.src.c = s.dst.c = 2; });
  spoilt("white_level", [](Spec& s) { s.src.white = 0.0f; });
  spoilt("filters", [](Spec& s) { s.filters = 0; });
  spoilt("rounds: received 0", [](Spec& s) { s.rounds = 0; });
  spoilt("images: received -1", [](Spec& s) { s.images = -1; });
  spoilt("threads: received 0; accepted: 1 to 1024", [](Spec& s) { s.threads = 0; });

  Spec first = good;
  first.filters = 1;
  first.images = 1;
  Plan plan(good, params), narrow(first, params);
  const auto weights = rows(6, kernels, all_of(kernels));
  const auto run = [&](Plan& with, Images& from, int rounds) {
    with.run(from.src(), images.dst(), weights.data(), rounds);
  };
  images.result.assign(images.result.size(), -1.0f);
  refused<std::invalid_argument>("src: received float32 (2, 30, 20, 1)", [&] { run(plan, other, 1); });
  refused<std::invalid_argument>("weights: received 3 rounds; accepted: 1 to 2", [&] { run(plan, images, 3); });
  refused<std::invalid_argument>("accepted: float32 (N <= 1, 20, 30, 1)", [&] { run(narrow, images, 1); });
  Images one(1, 20, 30);
  refused<std::invalid_argument>("weights: received one for",
                                 [&] { narrow.run(one.src(), one.dst(), weights.data(), 1); });
  expect(std::count(images.result.begin(), images.result.end(), -1.0f) == 2 * 20 * 30, "a refused call wrote");
}

// Rounds that were slow for a while are tried again, neither at once nor never.
void slow_rounds_are_tried_again() {
  line::RoundTimes times;
  for (int k = 0; k < 50; ++k) times.add(1, k < 40 ? 2e6 : 20e6);
  expect(times.most(1) > 10e6 && times.most(1) < 100e6 && times.most(2) == times.most(1), "what slow rounds take");
  const auto frames_until = [](line::RoundTimes of, double less) {
    int frames = 0;
    for (; frames < 10'000 && of.most(1) > less; ++frames) of.fade();
    return frames;
  };
  const int slow = frames_until(times, 5e6);
  expect(slow > 100 && slow < 1000, "slow rounds are tried again after " + std::to_string(slow) + " frames");
  line::RoundTimes spike;
  for (int k = 0; k < 50; ++k) spike.add(1, k == 49 ? 20e6 : 2e6);
  const int once = frames_until(spike, 5e6);
  expect(spike.most(1) > 10e6 && once > 3 && once < 50,
         "after one slow round, rounds are tried again after " + std::to_string(once) + " frames");
}

}  // namespace

bool plan_selftest() {
  passed = true;
  for (const Kernels* kernels : runnable_kernels()) {
    memory_does_not_show(*kernels);
    fewer_rows_take_no_more_memory(*kernels);
    plans_are_the_kernels(*kernels);
  }
  const Kernels& fastest = *runnable_kernels().back();
  runs_take_nothing(fastest);
  bad_input_is_refused(fastest);
  slow_rounds_are_tried_again();
  return passed;
}

}  // namespace sdie::selftest
