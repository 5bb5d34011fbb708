#include "plan.h"

#include <algorithm>
#include <cstdlib>

namespace sdie::line {
namespace {

// The bytes of a picture's lines.
struct Span {
  std::uintptr_t first, end;
  Span(const void* data, std::ptrdiff_t stride, int height, std::size_t line) {
    const std::ptrdiff_t last = stride * (height - 1);
    first = reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(std::min<std::ptrdiff_t>(last, 0));
    end =
        reinterpret_cast<std::uintptr_t>(data) + static_cast<std::uintptr_t>(std::max<std::ptrdiff_t>(last, 0)) + line;
  }
  bool meets(const Span& other) const { return first < other.end && other.first < end; }
};

}  // namespace

LinePlan::LinePlan(const Setup& setup, std::uint64_t deadline_ns, int warm_up, Block block)
    : input_(setup.input),
      output_(setup.output),
      src_stride_(setup.src_stride),
      dst_stride_(setup.dst_stride),
      deadline_(deadline_ns),
      plan_(setup.spec, setup.params, std::move(block), setup.threads),
      recipes_(setup.weights, setup.spec.rounds) {
  const auto warm = [&](const Recipes::Slot& recipe) {
    Course course{};
    run_checked(picture(input_, nullptr, src_stride_, setup.spec.h, setup.spec.w),
                picture(output_, nullptr, dst_stride_, setup.spec.h, setup.spec.w), course, recipe);
  };
  if (warm_up == 0) return;
  // All filters that may come, for what later weights may ask for.
  Recipes::Slot all{{}, 1};
  const float share = 1.0f / static_cast<float>(std::popcount(setup.spec.filters));
  for (int k = 0; k < setup.spec.kernels->count; ++k) all.weights.push_back(setup.spec.filters >> k & 1 ? share : 0.0f);
  warm(all);
  for (int k = 0; k < warm_up; ++k) warm(recipes_.read());
}

std::uint64_t LinePlan::filters_at(const Recipes::Slot& recipe, int round) const {
  const Kernels& kernels = *plan_.spec().kernels;
  return filters_used(recipe.weights.data() + static_cast<std::ptrdiff_t>(round) * kernels.count, 1, kernels);
}

// Takes note of what went before: the loading, or a round.
void LinePlan::timed(Course& course, std::uint64_t now) {
  const auto taken = static_cast<double>(now - course.last);
  if (course.rounds < 0)
    edge_.add(taken);
  else
    times_.add(filters_at(*course.recipe, course.rounds), taken);
  ++course.rounds;
  course.last = now;
}

bool LinePlan::fits(Pace& pace, int round) {
  Course& course = static_cast<Course&>(pace);
  LinePlan& plan = *course.plan;
  const std::uint64_t now = sdie_clock();
  plan.timed(course, now);
  course.next = plan.times_.most(plan.filters_at(*course.recipe, round));
  return course.due == 0 ||
         static_cast<double>(now) + course.next + plan.edge_.most() <= static_cast<double>(course.due);
}

void LinePlan::run_checked(const Batch& src, const Batch& dst, Course& course, const Recipes::Slot& recipe,
                           const Strip* strip) {
  course.fits = &fits;
  course.plan = this;
  course.recipe = &recipe;
  course.rounds = -1;
  course.last = sdie_clock();
  plan_.run(src, dst, recipe.weights.data(), recipe.rounds, nullptr, &course, strip);
  const std::uint64_t now = sdie_clock();
  if (course.goes_on)
    timed(course, now);
  else {
    edge_.add(static_cast<double>(now - course.last));
    times_.fade();
  }
  course.last = now;
}

// One that began then, into the figures; whether it is late.
bool LinePlan::run_frame(const Batch& src, const Batch& dst, Course& course, std::uint64_t began, const Strip* strip) {
  course.due = deadline_ ? began + std::min(deadline_, UINT64_MAX - began) : 0;
  run_checked(src, dst, course, recipes_.read(), strip);
  const std::uint64_t latency = course.last - began;
  const bool late = deadline_ && latency > deadline_;
  latency_.record(latency);
  late_.fetch_add(late, std::memory_order_relaxed);
  shortened_.fetch_add(!course.goes_on, std::memory_order_relaxed);
  unenhanced_.fetch_add(course.rounds == 0, std::memory_order_relaxed);
  rounds_.fetch_add(static_cast<std::uint64_t>(course.rounds), std::memory_order_relaxed);
  return late;
}

void LinePlan::run_strip(const Batch& src, const Batch& dst, const Strip& strip, std::uint64_t since) {
  Course course{};
  run_frame(src, dst, course, since, &strip);
}

void LinePlan::learn_strip(const Batch& src, const std::vector<float>& weights, int rounds, const Strip& strip) {
  plan_.run(src, picture(output_, nullptr, dst_stride_, strip.bottom - strip.top, plan_.spec().w), weights.data(),
            rounds, nullptr, nullptr, &strip);
}

void LinePlan::check_whole() const {
  if (!plan_.whole())
    refuse(SDIE_FORKED, "the plan's threads are in the process that made it; make another plan after a fork");
}

void LinePlan::check_picture(const char* name, const Format& format, const void* data, std::ptrdiff_t stride) const {
  check_pointer(name, data, format.alignment());
  format.check_stride(std::string(name) + "_stride", stride, plan_.spec().w, plan_.spec().h);
}

sdie_status LinePlan::run(const void* src, std::int64_t src_stride, void* dst, std::int64_t dst_stride,
                          std::uint64_t since, sdie_report* report) noexcept {
  Course course{};
  const std::uint64_t called = sdie_clock();
  if (busy_.exchange(true, std::memory_order_acquire)) {
    refused_.fetch_add(1, std::memory_order_relaxed);
    return keep(SDIE_BUSY, "the plan is running in another thread; make a plan for each");
  }
  const sdie_status status = guarded([&] {
    const std::ptrdiff_t from = src_stride ? src_stride : src_stride_, to = dst_stride ? dst_stride : dst_stride_;
    check_picture("src", input_, src, from);
    check_picture("dst", output_, dst, to);
    const int h = plan_.spec().h, w = plan_.spec().w;
    const Span read(src, from, h, input_.line_bytes(w)), written(dst, to, h, output_.line_bytes(w));
    if (read.meets(written)) refuse("dst", "memory that overlaps src", "a buffer of its own");
    check_whole();
    sdie_report given{};
    if (report) give_struct("report", report, &given, sizeof given, sizeof given);
    const std::uint64_t began = since > 0 ? std::min(since, called) : called;
    const bool late = run_frame(picture(input_, src, from, h, w), picture(output_, dst, to, h, w), course, began);
    if (report) {
      given.rounds = course.rounds;
      given.wanted = course.recipe->rounds;
      given.reason = course.goes_on ? SDIE_ALL_ROUNDS : SDIE_NO_TIME;
      given.late = late;
      given.latency_ns = course.last - began;
      given.busy_ns = course.last - called;
      given.next_ns = static_cast<std::uint64_t>(course.next);
      give_struct("report", report, &given, sizeof given, sizeof given);
    }
    return SDIE_OK;
  });
  if (status != SDIE_OK) refused_.fetch_add(1, std::memory_order_relaxed);
  busy_.store(false, std::memory_order_release);
  return status;
}

void LinePlan::set_weights(const float* weights, int rounds, int columns) {
  const Spec& spec = plan_.spec();
  check_pointer("weights", weights, alignof(float));
  if (columns < 1 || columns > SDIE_MAX_FILTERS)
    refuse("filters", std::to_string(columns) + " columns", "1 to " + std::to_string(SDIE_MAX_FILTERS));
  if (rounds < 1 || rounds > spec.rounds)
    refuse("rounds", std::to_string(rounds), "1 to the config's " + std::to_string(spec.rounds));
  const std::vector<float> rows = normalised(weights, rounds, columns, *spec.kernels);
  const std::uint64_t beyond = filters_used(rows.data(), rounds, *spec.kernels) & ~spec.filters;
  for (int k = 0; k < spec.kernels->count; ++k)
    if (beyond >> k & 1)
      refuse("weights", std::string("one for ") + spec.kernels->filters[k].name,
             "filters that have weight in the config, or a bit in its `filters`");
  recipes_.write(rows, rounds);
}

sdie_stats LinePlan::stats() const {
  const auto count = [](const std::atomic<std::uint64_t>& n) { return n.load(std::memory_order_relaxed); };
  return {.size = sizeof(sdie_stats),
          .frames = latency_.total(),
          .late = count(late_),
          .shortened = count(shortened_),
          .unenhanced = count(unenhanced_),
          .rounds = count(rounds_),
          .refused = count(refused_),
          .min_ns = latency_.least(),
          .p50_ns = latency_.percentile(50.0),
          .p90_ns = latency_.percentile(90.0),
          .p99_ns = latency_.percentile(99.0),
          .p999_ns = latency_.percentile(99.9),
          .max_ns = latency_.most(),
          .mean_ns = latency_.mean()};
}

void LinePlan::reset_stats() {
  latency_.reset();
  for (auto* count : {&late_, &shortened_, &unenhanced_, &rounds_, &refused_})
    count->store(0, std::memory_order_relaxed);
}

}  // namespace sdie::line
