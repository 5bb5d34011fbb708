// Streams of the C interface: where they live, and what their functions call.
#include <memory>
#include <new>

#include "stream.h"

using namespace sdie::line;

// At the end of the block that all its memory is in.
struct sdie_stream {
  sdie_stream(const StreamSetup& setup, unsigned char* memory) : line(setup, memory) {}
  Stream line;
  sdie::Block systems;  // the block, or
  sdie_release release = nullptr;
  void* allocator = nullptr;
  void* block = nullptr;
  size_t bytes = 0;
};

namespace {

sdie_stream& known(sdie_stream* stream) { return checked("stream", stream); }
const sdie_stream& known(const sdie_stream* stream) { return checked("stream", stream); }

sdie_stream* make(const StreamSetup& setup) {
  const sdie_config& frame = setup.frame;
  const size_t bytes = setup.bytes() + sizeof(sdie_stream);
  const auto make_in = [&](void* block) {
    auto* const memory = static_cast<unsigned char*>(block);
    return new (memory + setup.bytes()) sdie_stream(setup, memory);
  };
  if (!frame.allocate) {
    sdie::Block block(bytes);
    sdie_stream* const stream = make_in(block.data());
    stream->systems = std::move(block);
    return stream;
  }
  const auto give_back = [&](void* block) { frame.release(frame.allocator, block, bytes); };
  std::unique_ptr<void, decltype(give_back)> block(frame.allocate(frame.allocator, bytes), give_back);
  if (!block) refuse(SDIE_MEMORY, "allocate: received NULL for " + std::to_string(bytes) + " bytes");
  if (reinterpret_cast<std::uintptr_t>(block.get()) % 64 != 0)
    refuse("allocate", "a misaligned block", "one that is aligned to 64 bytes");
  sdie_stream* const stream = make_in(block.get());
  stream->release = frame.release;
  stream->allocator = frame.allocator;
  stream->block = block.release();
  stream->bytes = bytes;
  return stream;
}

}  // namespace

sdie_status sdie_stream_create(const sdie_stream_config* config, sdie_stream** stream) {
  return guarded([&] {
    checked("stream", stream) = nullptr;
    *stream = make(StreamSetup(checked("config", config)));
    return SDIE_OK;
  });
}

int32_t sdie_stream_latency(const sdie_stream* stream) { return stream ? stream->line.latency() : 0; }

int32_t sdie_stream_context(const sdie_stream* stream) { return stream ? stream->line.context() : 0; }

sdie_status sdie_stream_push(sdie_stream* stream, const void* src, int64_t src_stride, int64_t count, int64_t* taken) {
  return guarded([&] { return known(stream).line.push(src, src_stride, count, taken); });
}

sdie_status sdie_stream_pull(sdie_stream* stream, void* dst, int64_t dst_stride, int64_t count, int64_t* got) {
  return guarded([&] { return known(stream).line.pull(dst, dst_stride, count, got); });
}

sdie_status sdie_stream_finish(sdie_stream* stream) {
  return guarded([&] { return known(stream).line.finish(); });
}

sdie_status sdie_stream_learn(sdie_stream* stream, const void* src, int64_t src_stride, int64_t lines) {
  return guarded([&] { return known(stream).line.learn(src, src_stride, lines); });
}

sdie_status sdie_stream_set_weights(sdie_stream* stream, const float* weights, int32_t rounds, int32_t filters) {
  return guarded([&] {
    known(stream).line.plan().set_weights(weights, rounds, filters);
    return SDIE_OK;
  });
}

sdie_status sdie_stream_stats(const sdie_stream* stream, sdie_stats* stats) {
  return guarded([&] {
    const sdie_stats now = known(stream).line.plan().stats();
    give_struct("stats", stats, &now, sizeof now, sizeof now);
    return SDIE_OK;
  });
}

sdie_status sdie_stream_destroy(sdie_stream* stream) {
  if (!stream) return SDIE_OK;
  return guarded([&] {
    if (!known(stream).line.close()) return keep(SDIE_BUSY, "the stream is running in another thread");
    const sdie::Block systems = std::move(stream->systems);
    const sdie_release release = stream->release;
    void *const allocator = stream->allocator, *const block = stream->block;
    const size_t bytes = stream->bytes;
    stream->~sdie_stream();
    if (release) release(allocator, block, bytes);
    return sdie_status{SDIE_OK};
  });
}
