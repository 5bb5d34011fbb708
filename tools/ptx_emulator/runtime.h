// What a translated kernel is made of: threads with stacks of their own, checked memory, PTX's arithmetic.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;
typedef float f32;
typedef double f64;
typedef int pred;

enum State { READY, AT_BARRIER, DONE };
enum Access { READ, WRITE, ATOMIC };

struct Block;

struct Thread {
    void* stack_pointer;
    char* stack;
    State state;
    int barrier;  // the line of the one it waits at
    u32 tx, ty, tz;
    int id;
    Block* block;
    u32* visits;  // how often it has begun each basic block, where that is counted
};

// Who touched a word of shared memory last, and in which stretch between barriers.
struct SharedWord {
    u32 written, read;  // stretches; 0: never
    s16 writer, reader;  // threads; SEVERAL: more than one
    bool by_atomic, initialised;
};

struct Block {
    u32 bx, by, bz;
    int id;
    std::vector<Thread> threads;
    char* shared;
    std::vector<SharedWord> words;
    u32 stretch;  // how many barriers it has passed, plus 1
    int alive;
    std::vector<u32> visits;  // of all threads
    u32 phase;  // the number of its stretch among those of all blocks
};

// What a translated kernel says of itself, and what runs it.
struct KernelInfo {
    const char* name;
    int shared_bytes;
    bool has_atomics;  // on global memory
    void (*thread)(void** arguments);
    int basic_blocks;    // that are counted; 0: none
    const float* costs;  // [basic_blocks][kinds]: instructions
    int kinds;
    const char* const* kind_names;
};
void run_kernel(const KernelInfo& kernel, void** arguments, const unsigned* grid, const unsigned* block);

extern Thread* current;
extern u32 grid_size[3], block_size[3];
constexpr size_t SHARED_ROOM = 65536, STACK = 1 << 18;

// counts.cpp, with EMULATOR_COUNT
extern bool counting;
void begin_counts(const KernelInfo& kernel, int ranges);
void count_phase(Block& block);
void count_access(int range, u64 offset, u64 range_bytes, int size, Access access);
void count_block(const KernelInfo& kernel, const Block& block);

void give_way();
void report(const char* what, int line, const void* address, int size);
void check_global(const void* address, int size, int line, Access access);
void check_shared(const void* address, int size, int line, Access access);

inline void check(u64 address, int size, int line, Access access) {
    const char* p = (const char*)address;
    if (p >= current->block->shared && p < current->block->shared + SHARED_ROOM)
        check_shared(p, size, line, access);
    else
        check_global(p, size, line, access);
}

inline void check_vector(u64 address, int size, int line) {
    if (address % size) report("misaligned vector", line, (void*)address, size);
}

template <class T> T read_memory(u64 address) {
    T value;
    memcpy(&value, (void*)address, sizeof value);
    return value;
}

template <class T> T load_any(u64 address, int line) {
    check(address, sizeof(T), line, READ);
    return read_memory<T>(address);
}

template <class T> T load_shared(u64 address, int line) {
    check_shared((void*)address, sizeof(T), line, READ);
    return read_memory<T>(address);
}

template <class T> void store_any(u64 address, T value, int line) {
    check(address, sizeof(T), line, WRITE);
    memcpy((void*)address, &value, sizeof value);
}

template <class T> void store_shared(u64 address, T value, int line) {
    check_shared((void*)address, sizeof(T), line, WRITE);
    memcpy((void*)address, &value, sizeof value);
}

// operation: add, exchange, max, min. Other threads may run after one on global memory.
template <class T> T atomic(u64 address, T value, int line, int operation, bool shared) {
    if (shared)
        check_shared((void*)address, sizeof(T), line, ATOMIC);
    else
        check(address, sizeof(T), line, ATOMIC);
    T before = read_memory<T>(address);
    T results[] = {T(before + value), value, before > value ? before : value, before < value ? before : value};
    memcpy((void*)address, &results[operation], sizeof value);
    if (!shared) give_way();
    return before;
}

inline void barrier(int line) {
    current->state = AT_BARRIER;
    current->barrier = line;
    give_way();
}

template <class To, class From> To bits(From value) {
    static_assert(sizeof(To) == sizeof(From), "of one size");
    To result;
    memcpy(&result, &value, sizeof result);
    return result;
}

// .ftz: denormal results are zero.
inline float flush(float x) { return std::fabs(x) < std::numeric_limits<float>::min() ? std::copysign(0.0f, x) : x; }

// A number wins against NaN; of integers std::isnan is false.
template <class T> T least(T a, T b) { return std::isnan((double)a) ? b : std::isnan((double)b) || a < b ? a : b; }
template <class T> T most(T a, T b) { return std::isnan((double)a) ? b : std::isnan((double)b) || a > b ? a : b; }
inline float saturate(float x) { return std::isnan(x) || x < 0 ? 0.0f : x > 1 ? 1.0f : x; }

// Out of range: the nearest there is; NaN: 0.
template <class T> T to_integer(double x) {
    typedef std::numeric_limits<T> Limits;
    if (std::isnan(x)) return 0;
    if (x <= (double)Limits::min()) return Limits::min();
    if (x >= (double)Limits::max()) return Limits::max();
    return (T)x;
}

template <class T> T quotient(T a, T b, int line) {
    if (b == 0) report("division by zero", line, nullptr, 0);
    return b == 0 ? 0 : T(a / b);
}

template <class T> T remainder(T a, T b, int line) {
    if (b == 0) report("division by zero", line, nullptr, 0);
    return b == 0 ? 0 : T(a % b);
}

template <class T> T shift_left(T value, u32 by) { return by >= sizeof(T) * 8 ? T(0) : T(u64(value) << by); }
template <class T> T shift_right(T value, u32 by) {
    const T beyond = std::numeric_limits<T>::is_signed && value < 0 ? T(-1) : T(0);
    return by >= sizeof(T) * 8 ? beyond : T(value >> by);
}

inline u32 mask(u32 length) { return length >= 32 ? ~0u : (1u << length) - 1; }
inline u32 insert_bits(u32 source, u32 into, u32 place, u32 length) {
    const u32 covered = mask(length) << place;
    return (into & ~covered) | ((source << place) & covered);
}
inline u32 extract_bits(u32 source, u32 place, u32 length) { return (source >> place) & mask(length); }

inline u32 permute(u32 low, u32 high, u32 selector) {
    const u64 both = (u64)high << 32 | low;
    u32 result = 0;
    for (int i = 0; i < 4; i++) {
        const u32 which = selector >> (4 * i) & 15;
        u32 byte = both >> (8 * (which & 7)) & 255;
        if (which & 8) byte = byte & 128 ? 255 : 0;  // its sign
        result |= byte << (8 * i);
    }
    return result;
}
