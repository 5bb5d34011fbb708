#include "plan.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "crew.h"

#if defined(__unix__) || defined(__APPLE__)
#define SDIE_POSIX
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace sdie {

void Team::wait() const { barrier_->wait(); }

namespace {

constexpr std::size_t kPage = 4096, kHugePage = std::size_t{2} << 20;
constexpr int kMaxThreads = 1024;

std::size_t round_to(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

int process() {
#if defined(SDIE_POSIX)
  return getpid();
#else
  return 0;
#endif
}

[[noreturn]] void refuse(const std::string& what, const std::string& received, const std::string& accepted) {
  throw std::invalid_argument(what + ": received " + received + "; accepted: " + accepted);
}

std::string name_of(DType dtype) {
  constexpr const char* names[] = {"uint8", "uint16", "float32", "Mono10p", "Mono10Packed", "Mono12p", "Mono12Packed"};
  return names[static_cast<int>(dtype)];
}

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

std::ptrdiff_t planes_an_image(const Spec& s) { return s.per_channel ? s.src.c : 1; }

bool is_small(const Spec& s) { return static_cast<std::ptrdiff_t>(s.h) * s.w < Plan::kSplitPixels; }

const Spec& checked(const Spec& s) {
  const auto number = [](auto n) { return std::to_string(n); };
  if (s.h < 1 || s.w < 1 || s.h > (1 << 30) / s.w)
    refuse("size", number(s.h) + " x " + number(s.w) + " pixels", "1 to 2^30 pixels");
  for (const Pixels& pixels : {s.src, s.dst}) {
    if (pixels.c != 1 && pixels.c != 3) refuse("channels", number(pixels.c), "1 or 3");
    if (!(pixels.white > 0.0f) || pixels.white > std::numeric_limits<float>::max())
      refuse("white_level", number(pixels.white), "a number > 0");
  }
  if (s.dst != s.src && (s.dst.c == 3 || s.per_channel))
    refuse("dst",
           name_of(s.dst.dtype) + " in colour from " + name_of(s.src.dtype) + " of " + number(s.src.c) +
               (s.src.c == 1 ? " channel" : " channels"),
           "grey pixels, or those of src");
  if (s.filters == 0 || s.filters >> s.kernels->count != 0) refuse("filters", "none", "one or more filters");
  if (s.rounds < 1) refuse("rounds", number(s.rounds), "1 or more");
  if (s.images < 0) refuse("images", number(s.images), "0 (any number) or more");
  if (s.threads < 1 || s.threads > kMaxThreads) refuse("threads", number(s.threads), "1 to " + number(kMaxThreads));
  return s;
}

// Threads that can have work: a small plane is one thread's.
int crew_of(const Spec& s) {
  const std::ptrdiff_t planes = s.images * planes_an_image(s);
  return is_small(s) && planes > 0 ? static_cast<int>(std::min<std::ptrdiff_t>(s.threads, planes)) : s.threads;
}

// Bytes that one plane takes on a team, whatever the weights are: the more filters, the more memory.
std::size_t bytes_on(const Spec& s, const Params& params, int team) {
  const auto count = static_cast<std::size_t>(s.kernels->count);
  std::vector<float> weights(static_cast<std::size_t>(s.rounds) * count);
  for (std::size_t k = 0; k < weights.size(); ++k) weights[k] = s.filters >> k % count & 1 ? 1.0f : 0.0f;
  const View view{s.src.dtype, s.h, s.w, s.per_channel ? 1 : s.src.c, 0, 0, 0, nullptr, s.src.white};
  return s.kernels->workspace(Job{view, view, weights.data(), s.rounds, params.values.data()}, team);
}

std::size_t bytes_of(const Spec& s, const Params& params, int threads, std::size_t step) {
  const std::ptrdiff_t planes = s.images * planes_an_image(s);
  const bool whole = is_small(s) || planes == 0 || planes >= threads;  // else every plane is split
  const std::size_t apart = whole ? step * static_cast<std::size_t>(threads - 1) + bytes_on(s, params, 1) : 0;
  return is_small(s) ? apart : std::max(apart, bytes_on(s, params, threads));
}

}  // namespace

std::vector<int> cpus_for(int threads) {
  std::vector<int> cpus;
#if defined(__linux__)
  cpu_set_t mask;
  // By the process's number: the calling thread may have been pinned to a CPU of its own.
  if (sched_getaffinity(getpid(), sizeof mask, &mask) != 0)
    throw std::system_error(errno, std::generic_category(), "pin: the affinity mask cannot be read");
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  if (static_cast<int>(cpus.size()) < threads)
    refuse("pin", std::to_string(threads) + " threads",
           "at most one for each of the process's " + std::to_string(cpus.size()) + " CPUs");
#else
  if (threads > 0) refuse("pin", "true", "false, on other systems than Linux");
#endif
  return {cpus.begin() + 1, cpus.end()};
}

std::uint64_t filters_used(const float* weights, std::ptrdiff_t rows, const Kernels& kernels) {
  std::uint64_t used = 0;
  for (std::ptrdiff_t row = 0; row < rows; ++row)
    for (int k = 0; k < kernels.count; ++k) used |= std::uint64_t{weights[row * kernels.count + k] > 0.0f} << k;
  return used;
}

// AddressSanitizer sees what leaves an allocation, but not what leaves a mapping.
#if defined(SDIE_POSIX) && !defined(__SANITIZE_ADDRESS__)
Block::Block(std::size_t bytes) {
  // Huge pages lie on their own borders. One is fetched several times as fast as the small ones of a quarter of it.
  const std::size_t border = bytes >= kHugePage / 4 ? kHugePage : 0;
  size_ = round_to(bytes, border ? kHugePage : kPage);
  mapped_ = size_ + border;
  map_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map_ == MAP_FAILED) throw std::bad_alloc();
  const auto address = reinterpret_cast<std::uintptr_t>(map_);
  data_ = static_cast<unsigned char*>(map_) + (border ? round_to(address, border) - address : 0);
#if defined(MADV_HUGEPAGE)
  if (border) madvise(data_, size_, MADV_HUGEPAGE);  // a wish
#endif
}
Block::~Block() {
  if (map_) munmap(map_, mapped_);
}
#else
Block::Block(std::size_t bytes) : map_(::operator new(bytes, std::align_val_t{64})), size_(bytes) {
  data_ = static_cast<unsigned char*>(map_);
}
Block::~Block() { ::operator delete(map_, std::align_val_t{64}); }
#endif

void Crew::start(const Threads& how) {
  if (pool_.run) return;
  threads_.reserve(static_cast<std::size_t>(size_ - 1));
#if defined(SDIE_POSIX)
  // The process's signals are for the threads that know of them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  struct Restore {
    const sigset_t& mask;
    ~Restore() { pthread_sigmask(SIG_SETMASK, &mask, nullptr); }
  } restore{before};
#endif
  for (int rank = 1; rank < size_; ++rank) {
    threads_.emplace_back([this, rank] { work(rank); });
#if defined(__linux__)
    const auto check = [](int error, const std::string& what) {
      if (error) throw std::system_error(error, std::generic_category(), what);
    };
    if (how.priority > 0) {
      const sched_param priority{.sched_priority = how.priority};
      check(pthread_setschedparam(threads_.back().native_handle(), SCHED_FIFO, &priority),
            "priority: SCHED_FIFO " + std::to_string(how.priority) + " was refused (CAP_SYS_NICE, or ulimit -r)");
    }
    if (how.cpus.empty()) continue;
    const int cpu = how.cpus[static_cast<std::size_t>(rank - 1)];
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpu, &mask);
    check(pthread_setaffinity_np(threads_.back().native_handle(), sizeof mask, &mask),
          "cpus: CPU " + std::to_string(cpu));
#else
    static_cast<void>(how);
#endif
  }
}

Plan::Plan(const Spec& spec, const Params& params, Block spare, const Threads& threads)
    : spec_(checked(spec)),
      params_(params),
      maker_(process()),
      threads_(crew_of(spec)),
      step_(round_to(bytes_on(spec, params, 1), kPage)),
      used_(bytes_of(spec, params, threads_, step_)),
      crew_(new Crew(threads_, threads.pool)) {
  const std::size_t cpus = threads.cpus.size();
  if (cpus > 0 && cpus < static_cast<std::size_t>(threads_ - 1))
    refuse("cpus", std::to_string(cpus), std::to_string(threads_ - 1) + ", one for each thread but the caller's");
  if (spare.lent() && spare.size() < used_) throw std::bad_alloc();
  crew_->start(threads);
  const bool suits = spare.size() >= used_ && spare.size() / 2 <= round_to(used_, kHugePage);
  memory_ = suits || spare.lent() ? std::move(spare) : Block(used_);
  if (suits && !memory_.lent()) return;
  // Each touches its part first, which makes the pages its own: that of an image it will have for itself, and about
  // as much of one that is split.
  crew_->run([&](const Team& member) {
    const std::size_t share = used_ / kPage;
    const auto cut = [&](int k) { return share * static_cast<std::size_t>(k) / static_cast<std::size_t>(threads_); };
    for (std::size_t page = cut(member.rank()); page < cut(member.rank() + 1); ++page)
      *static_cast<volatile unsigned char*>(memory_.data() + page * kPage) = 0;
  });
}

Plan::~Plan() {
  // After a fork the threads are not there to be joined; what the crew holds of them is left.
  if (maker_ != process()) static_cast<void>(crew_.release());
}

bool Plan::serves(const Spec& s, const Params& params) const {
  return spec_.h == s.h && spec_.w == s.w && spec_.src == s.src && spec_.dst == s.dst && spec_.kernels == s.kernels &&
         spec_.per_channel == s.per_channel && spec_.threads == s.threads && (s.filters & ~spec_.filters) == 0 &&
         spec_.rounds >= s.rounds && (spec_.images == 0 || (s.images > 0 && s.images <= spec_.images)) &&
         params_.values == params.values;
}

void Plan::check(const Batch& src, const Batch& dst, const float* weights, int rounds, const Strip* strip) const {
  const auto fits = [&](const char* name, const Batch& b, const Pixels& pixels, std::ptrdiff_t height) {
    const auto number = [](auto n) { return std::to_string(n); };
    const auto shape = [&](const std::string& n, auto h, auto w, auto c) {
      return " (" + n + ", " + number(h) + ", " + number(w) + ", " + number(c) + ")";
    };
    if (b.dtype != pixels.dtype || b.h != height || b.w != spec_.w || b.c != pixels.c || b.n != src.n ||
        (spec_.images > 0 && b.n > spec_.images))
      refuse(name, name_of(b.dtype) + shape(number(b.n), b.h, b.w, b.c),
             name_of(pixels.dtype) +
                 shape(spec_.images > 0 ? "N <= " + number(spec_.images) : "N", height, spec_.w, pixels.c) +
                 ", as many images of src as of dst");
  };
  if (strip && (src.n != 1 || src.h < 1 || src.h > spec_.h || strip->top < 0 || strip->top >= strip->bottom ||
                strip->bottom > src.h))
    refuse(
        "strip",
        "rows " + std::to_string(strip->top) + " to " + std::to_string(strip->bottom) + " of " + std::to_string(src.h),
        "some rows of one image of at most " + std::to_string(spec_.h));
  fits("src", src, spec_.src, strip ? src.h : spec_.h);
  fits("dst", dst, spec_.dst, strip ? strip->bottom - strip->top : spec_.h);
  if (rounds < 1 || rounds > spec_.rounds)
    refuse("weights", std::to_string(rounds) + " rounds", "1 to " + std::to_string(spec_.rounds));
  const std::uint64_t beyond = filters_used(weights, src.n * rounds, *spec_.kernels) & ~spec_.filters;
  for (int k = 0; k < spec_.kernels->count; ++k)
    if (beyond >> k & 1)
      refuse("weights", std::string("one for ") + spec_.kernels->filters[k].name, "those of the plan's filters");
}

bool Plan::whole() const { return threads_ == 1 || crew_->pooled() || maker_ == process(); }

std::size_t Plan::memory(const Spec& spec, const Params& params) {
  const int threads = crew_of(checked(spec));
  return bytes_of(spec, params, threads, round_to(bytes_on(spec, params, 1), kPage));
}

double Plan::run(const Batch& src, const Batch& dst, const float* weights, int rounds, WlsInfo* info, Pace* pace,
                 const Strip* strip) {
  const auto start = std::chrono::steady_clock::now();
  if (!whole())
    throw std::runtime_error("the plan's threads are in the process that made it; make another plan after a fork");
  check(src, dst, weights, rounds, strip);
  if (busy_.exchange(true, std::memory_order_acquire))
    throw std::runtime_error("the plan is running in another thread; make a plan for each");
  const Kernels& kernels = *spec_.kernels;
  const std::ptrdiff_t an_image = planes_an_image(spec_), planes = src.n * an_image;
  const auto job_of = [&](std::ptrdiff_t i) {
    return Job{plane_of(src, i, spec_.per_channel, spec_.src.white),
               plane_of(dst, i, spec_.per_channel, spec_.dst.white),
               weights + i / an_image * rounds * kernels.count,
               rounds,
               params_.values.data(),
               pace,
               strip};
  };
  // Images first, since they need no barriers: all of them if each is small or there are enough to keep every
  // thread busy to the end; the rest of the planes are split into bands, one after another.
  const std::ptrdiff_t whole = threads_ == 1 || is_small(spec_) ? planes : planes / threads_ * threads_;
  std::atomic<std::ptrdiff_t> next{0};
  const auto take = [&](const Team& member) {
    unsigned char* const memory = memory_.data() + step_ * static_cast<std::size_t>(member.rank());
    for (std::ptrdiff_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < whole;)
      kernels.process(job_of(i), memory, Team(0, 1, nullptr), info);
  };
  if (whole == 1)
    take(Team(0, 1, nullptr));
  else if (whole > 1)
    crew_->run(take);
  for (std::ptrdiff_t i = whole; i < planes; ++i)
    crew_->run([&](const Team& team) { kernels.process(job_of(i), memory_.data(), team, nullptr); });
  busy_.store(false, std::memory_order_release);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::size_t Plan::workspace(const Spec& spec, const Params& params) { return bytes_on(checked(spec), params, 1); }

WlsInfo wls_info(const Batch& src, const Params& params, const Kernels& kernels) {
  std::vector<float> weights;
  for (int k = 0; k < kernels.count; ++k)
    weights.push_back(kernels.filters[k].name == std::string("wls") ? 1.0f : 0.0f);
  Plan plan({.kernels = &kernels,
             .h = static_cast<int>(src.h),
             .w = static_cast<int>(src.w),
             .src = {DType::f32},
             .dst = {DType::f32},
             .filters = filters_used(weights.data(), 1, kernels)},
            params);
  std::vector<float> out(static_cast<std::size_t>(src.h * src.w));
  const std::ptrdiff_t item = sizeof(float);
  const Batch to{
      DType::f32, 1, src.h, src.w, 1, 0, src.w * item, item, item, reinterpret_cast<unsigned char*>(out.data())};
  WlsInfo info;
  plan.run(src, to, weights.data(), 1, &info);
  return info;
}

}  // namespace sdie
