#include "stream.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

namespace sdie::line {
namespace {

// Strides of lines in the caller's memory.
std::ptrdiff_t checked_lines(const char* name, const Format& format, int width, const void* data, std::int64_t stride,
                             std::int64_t lines) {
  check_pointer(name, data, format.alignment());
  format.check_stride(std::string(name) + "_stride", stride, width, lines);
  return stride;
}

void check_count(const char* name, std::int64_t count, std::int64_t least) {
  if (count < least) refuse(name, number(count) + " lines", number(least) + " or more");
}

// Copies lines of so many bytes; those that lie side by side in both places at once.
void copy_lines(const void* from, std::ptrdiff_t from_stride, void* to, std::ptrdiff_t to_stride, std::size_t bytes,
                std::int64_t lines) {
  const auto* source = static_cast<const unsigned char*>(from);
  auto* target = static_cast<unsigned char*>(to);
  if (from_stride == to_stride && from_stride == static_cast<std::ptrdiff_t>(bytes)) {
    std::memcpy(target, source, bytes * static_cast<std::size_t>(lines));
    return;
  }
  for (std::int64_t k = 0; k < lines; ++k) std::memcpy(target + k * to_stride, source + k * from_stride, bytes);
}

}  // namespace

Stream::Stream(const StreamSetup& setup, unsigned char* memory)
    : plan_(setup.plan, setup.frame.deadline_ns, setup.frame.warm_up, Block(memory, setup.pixels)),
      input_(setup.plan.input),
      output_(setup.plan.output),
      width_(setup.plan.spec.w),
      strip_(setup.strip),
      context_(setup.context),
      statistics_(setup.statistics),
      half_life_(setup.half_life),
      capacity_(setup.capacity),
      rounds_(setup.plan.spec.rounds),
      src_stride_(setup.plan.src_stride),
      dst_stride_(setup.plan.dst_stride),
      input_stride_(static_cast<std::ptrdiff_t>(setup.input_stride)),
      output_stride_(static_cast<std::ptrdiff_t>(setup.output_stride)),
      needs_sums_(setup.statistics != SDIE_OF_STRIP && (setup.plan.spec.filters >> SDIE_SPATIOGRAM & 1)),
      window_(memory + setup.pixels),
      ready_(window_ + setup.window),
      sums_(reinterpret_cast<Sums*>(ready_ + setup.ready)),
      rehearsal_(setup.plan.weights.size()) {
  std::memset(window_, 0, setup.window + setup.ready + setup.sums);  // and the pages are there
}

// One call at a time, by its status; what is refused is counted.
template <class F>
sdie_status Stream::alone(F&& body) noexcept {
  if (busy_.exchange(true, std::memory_order_acquire)) {
    plan_.count_refused();
    return keep(SDIE_BUSY, "the stream is running in another thread; make a stream for each");
  }
  const sdie_status status = guarded(body);
  if (status < SDIE_OK) plan_.count_refused();
  busy_.store(false, std::memory_order_release);
  return status;
}

// Enhances the next lines of the window, for which there is room, and moves the window on.
void Stream::enhance(int lines, std::uint64_t since) {
  const int height = std::min(held_, above_ + lines + context_);
  if (first_ + waiting_ + lines > capacity_) {
    std::memmove(ready_, ready_ + first_ * output_stride_, static_cast<std::size_t>(waiting_ * output_stride_));
    first_ = 0;
  }
  const Strip strip{above_, above_ + lines, needs_sums_ ? sums_ : nullptr, statistics_ == SDIE_ROLLING ? 0 : rounds_,
                    std::exp2(-static_cast<double>(lines) / half_life_)};
  plan_.run_strip(picture(input_, window_, input_stride_, height, width_),
                  picture(output_, ready_ + (first_ + waiting_) * output_stride_, output_stride_, lines, width_), strip,
                  since);
  waiting_ += lines;
  const int kept = std::min(context_, above_ + lines), dropped = above_ + lines - kept;
  held_ -= dropped;
  above_ = kept;
  std::memmove(window_, window_ + dropped * input_stride_, static_cast<std::size_t>(held_ * input_stride_));
}

sdie_status Stream::push(const void* src, std::int64_t stride, std::int64_t count, std::int64_t* taken) noexcept {
  const std::uint64_t called = sdie_clock();
  return alone([&] {
    checked("taken", taken) = 0;
    check_count("count", count, 0);
    if (count == 0) return sdie_status{SDIE_OK};
    const std::ptrdiff_t from = checked_lines("src", input_, width_, src, stride ? stride : src_stride_, count);
    plan_.check_whole();
    if (ending_)
      refuse("src", "lines before the end of the web is enhanced",
             "them after a sdie_stream_finish that gives SDIE_OK");
    if (needs_sums_ && statistics_ == SDIE_FROZEN && !learned_)
      refuse("statistics", "SDIE_FROZEN without statistics", "lines after a call of sdie_stream_learn");
    while (*taken < count) {
      // The line that completes a strip stays outside until the strip has room.
      const int missing = above_ + strip_ + context_ - held_;
      const std::int64_t lines = std::min<std::int64_t>(count - *taken, room() < strip_ ? missing - 1 : missing);
      if (lines == 0) return keep(SDIE_FULL, "finished lines have to be pulled before a strip can be enhanced");
      copy_lines(static_cast<const unsigned char*>(src) + *taken * from, from, window_ + held_ * input_stride_,
                 input_stride_, input_.line_bytes(width_), lines);
      held_ += static_cast<int>(lines);
      *taken += lines;
      if (lines == missing) enhance(strip_, called);
    }
    return sdie_status{SDIE_OK};
  });
}

sdie_status Stream::pull(void* dst, std::int64_t stride, std::int64_t count, std::int64_t* got) noexcept {
  return alone([&] {
    checked("got", got) = 0;
    check_count("count", count, 0);
    if (waiting_ == 0) return keep(SDIE_EMPTY, "no line is finished yet");
    if (count == 0) return sdie_status{SDIE_OK};
    const int lines = static_cast<int>(std::min<std::int64_t>(count, waiting_));
    const std::ptrdiff_t to = checked_lines("dst", output_, width_, dst, stride ? stride : dst_stride_, count);
    copy_lines(ready_ + first_ * output_stride_, output_stride_, dst, to, output_.line_bytes(width_), lines);
    first_ += lines;
    waiting_ -= lines;
    if (waiting_ == 0) first_ = 0;
    *got = lines;
    return sdie_status{SDIE_OK};
  });
}

sdie_status Stream::finish() noexcept {
  const std::uint64_t called = sdie_clock();
  return alone([&] {
    plan_.check_whole();
    while (held_ > above_) {
      ending_ = true;
      const int lines = std::min(strip_, held_ - above_);
      if (room() < lines) return keep(SDIE_FULL, "finished lines have to be pulled before the last can be enhanced");
      enhance(lines, called);
    }
    held_ = above_ = 0;
    ending_ = false;
    if (statistics_ == SDIE_ROLLING) std::fill(sums_, sums_ + rounds_, Sums{});
    return sdie_status{SDIE_OK};
  });
}

// Round by round: the statistics of one come from lines that went through those before it with theirs.
sdie_status Stream::learn(const void* src, std::int64_t stride, std::int64_t lines) noexcept {
  return alone([&] {
    if (statistics_ != SDIE_FROZEN) refuse("statistics", "sdie_stream_learn without them", "SDIE_FROZEN");
    check_count("lines", lines, 1);
    const std::ptrdiff_t from = checked_lines("src", input_, width_, src, stride ? stride : src_stride_, lines);
    plan_.check_whole();
    const Recipes::Slot& recipe = plan_.recipe();
    const std::size_t columns = rehearsal_.size() / static_cast<std::size_t>(rounds_);
    for (int t = 0; needs_sums_ && t < rounds_; ++t) {
      // Later weights may have more rounds, or give the filter weight in others: each round has statistics.
      std::fill(rehearsal_.begin(), rehearsal_.end(), 0.0f);
      for (int k = 0; k < t; ++k) {
        const auto row = static_cast<std::size_t>(std::min(k, recipe.rounds - 1)) * columns;
        std::copy_n(recipe.weights.data() + row, columns, rehearsal_.data() + static_cast<std::size_t>(k) * columns);
      }
      rehearsal_[static_cast<std::size_t>(t) * columns + SDIE_SPATIOGRAM] = 1.0f;
      sums_[t] = Sums{};
      for (std::int64_t top = 0; top < lines; top += strip_) {
        const std::int64_t first = std::max<std::int64_t>(top - context_, 0), end = std::min(top + strip_, lines);
        const int height = static_cast<int>(std::min(end + context_, lines) - first);
        const Strip strip{static_cast<int>(top - first), static_cast<int>(end - first), sums_, t, 1.0};
        const auto* data = static_cast<const unsigned char*>(src) + first * from;
        plan_.learn_strip(picture(input_, data, from, height, width_), rehearsal_, t + 1, strip);
      }
    }
    learned_ = true;
    return sdie_status{SDIE_OK};
  });
}

}  // namespace sdie::line
