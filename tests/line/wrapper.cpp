// Every function of sdie.hpp, against the C functions' promises.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <sdie.hpp>
#include <type_traits>
#include <utility>
#include <vector>

namespace {

bool counting = false;
int allocations = 0;

void expect(bool right, const char* what, int line) {
  if (right) return;
  std::fprintf(stderr, "line %d: %s\n", line, what);
  std::exit(1);
}
#define EXPECT(condition) expect(condition, #condition, __LINE__)

template <class Call>
sdie::Error refused(Call call) {
  try {
    call();
  } catch (const sdie::Error& error) {
    return error;
  }
  std::fprintf(stderr, "a call that should be refused was not\n");
  std::exit(1);
}

static_assert(!std::is_copy_constructible_v<sdie::Plan> && std::is_nothrow_move_constructible_v<sdie::Plan>);
static_assert(!std::is_copy_constructible_v<sdie::Stream> && std::is_nothrow_move_assignable_v<sdie::Stream>);
static_assert(std::is_copy_constructible_v<sdie::Config>);

constexpr int kWidth = 90, kHeight = 60;

sdie::Config config() {
  sdie::Config config;
  config.width = kWidth, config.height = kHeight;
  config.rounds = 2;
  for (int k = 0; k < 2; ++k) config.weights[k][SDIE_IDENTITY] = config.weights[k][SDIE_SHARPEN] = 0.5f;
  return config;
}

std::vector<unsigned char> frame() {
  std::vector<unsigned char> frame(kWidth * kHeight);
  for (std::size_t k = 0; k < frame.size(); ++k) frame[k] = static_cast<unsigned char>(k * k % 251);
  return frame;
}

void plans() {
  const std::vector<unsigned char> src = frame();
  std::vector<unsigned char> dst(src.size()), again(src.size());
  sdie::Plan first(config());
  sdie::Plan plan(std::move(first));
  EXPECT(!first.get() && plan.get());

  counting = true;
  sdie_report report = plan.run(src.data(), dst.data());
  plan.run(src.data(), kWidth, again.data(), kWidth);
  counting = false;
  EXPECT(allocations == 0);
  EXPECT(report.rounds == 2 && report.wanted == 2 && report.reason == SDIE_ALL_ROUNDS && !report.late);
  EXPECT(dst == again && dst != src);

  // A frame that started a second ago; and one with its lines from the bottom.
  report = plan.run_since(src.data(), again.data(), sdie_clock() - 1000000000);
  EXPECT(report.latency_ns >= 1000000000 && report.busy_ns < report.latency_ns && again == dst);
  plan.run_since(&src[kWidth * (kHeight - 1)], -kWidth, &again[kWidth * (kHeight - 1)], -kWidth, sdie_clock());
  EXPECT(again == dst);

  EXPECT(plan.stats().frames == 4 && plan.percentile(100) >= 1000000000);
  plan.reset_stats();
  EXPECT(plan.stats().frames == 0 && plan.percentile(100) == 0);

  const float identity[] = {1.0f};
  plan.set_weights(identity, 1, 1);
  EXPECT(plan.run(src.data(), dst.data()).rounds == 1 && dst == src);

  sdie::Plan other(config());
  other = std::move(plan);
  EXPECT(other.stats().frames == 1);
}

void plan_in_a_block() {
  const std::size_t bytes = sdie::Plan::workspace(config());
  void* block = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  {
    sdie::Plan inside(config(), block, bytes), outside(config());
    const std::vector<unsigned char> src = frame();
    std::vector<unsigned char> dst(src.size()), again(src.size());
    inside.run(src.data(), dst.data());
    outside.run(src.data(), again.data());
    EXPECT(dst == again);
  }
  EXPECT(refused([&] { sdie::Plan(config(), block, bytes / 2); }).status() == SDIE_MEMORY);
  std::free(block);
}

void refusals() {
  sdie::Config none = config();
  none.width = 0;
  const sdie::Error error = refused([&] { sdie::Plan plan(none); });
  EXPECT(error.status() == SDIE_INVALID);
  EXPECT(std::string(error.what()).find("received 0 x 60") != std::string::npos);
  EXPECT(refused([&] { none.load("/none"); }).status() == SDIE_FILE);
  EXPECT(refused([&] { none.parse("x", 1); }).status() == SDIE_FILE);
  EXPECT(refused([&] { none.set("sharpen_amount", "much"); }).status() == SDIE_INVALID);
  EXPECT(refused([&] { sdie::Plan(config()).run(nullptr, nullptr); }).status() == SDIE_INVALID);
}

// Numbers reach the library to the last digit, in any of C++'s types.
void parameters() {
  sdie::Config words = config(), numbers = config();
  words.set("sharpen_amount", "0.3333333333333333").set("sharpen_radius", "2").set("wls_solver", "fast");
  numbers.set("sharpen_amount", 1.0 / 3.0).set("sharpen_radius", 2).set("wls_solver", "fast");
  for (int k = 0; k < SDIE_MAX_PARAMETERS; ++k) EXPECT(words.parameters[k] == numbers.parameters[k]);
}

void streams() {
  const std::vector<unsigned char> src = frame();
  std::vector<unsigned char> dst(src.size()), whole(src.size());
  sdie::Plan(config()).run(src.data(), whole.data());

  const sdie::Config settings = config();
  sdie_stream_config streamed = sdie::Stream::usual(settings);
  streamed.strip = 16;
  sdie::Stream made(streamed), stream(std::move(made));
  EXPECT(stream.latency() == 16 + stream.context() - 1);
  std::int64_t pushed = 0, pulled = 0;
  EXPECT(stream.pull(dst.data(), 1) == 0);
  while (pushed < kHeight) {
    pushed += stream.push(&src[static_cast<std::size_t>(pushed * kWidth)], kHeight - pushed);
    pulled += stream.pull(&dst[static_cast<std::size_t>(pulled * kWidth)], kHeight - pulled);
  }
  while (!stream.finish()) pulled += stream.pull(&dst[static_cast<std::size_t>(pulled * kWidth)], kHeight - pulled);
  pulled += stream.pull(&dst[static_cast<std::size_t>(pulled * kWidth)], kHeight - pulled);
  EXPECT(pulled == kHeight && dst == whole);
  EXPECT(stream.stats().frames > 0);

  const float identity[] = {1.0f};
  stream.set_weights(identity, 1, 1);
  sdie::Config equalised = config();
  equalised.weights[0][SDIE_SPATIOGRAM] = 0.5f;
  streamed = sdie::Stream::usual(equalised);
  streamed.statistics = SDIE_FROZEN;
  sdie::Stream frozen(streamed);
  frozen.learn(src.data(), kHeight);
  frozen.push(src.data(), kHeight);
  EXPECT(frozen.finish() && frozen.pull(dst.data(), kHeight) == kHeight && dst != whole);
  EXPECT(sdie::Stream(settings).latency() > 0);
  EXPECT(refused([&] { stream.push(nullptr, 1); }).status() == SDIE_INVALID);
}

}  // namespace

// The wrapper's own allocations; those of the library are in it, and are looked for by its own tests.
void* operator new(std::size_t bytes) {
  allocations += counting;
  if (void* block = std::malloc(bytes)) return block;
  throw std::bad_alloc();
}
void operator delete(void* block) noexcept { std::free(block); }
void operator delete(void* block, std::size_t) noexcept { std::free(block); }

int main() {
  plans();
  plan_in_a_block();
  refusals();
  parameters();
  streams();
  std::puts("done");
}
