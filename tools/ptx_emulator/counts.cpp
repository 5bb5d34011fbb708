// EMULATOR_COUNT: what kernels execute, in warp instructions, and the bytes of global memory that they move.
//
// A warp executes a basic block as often as the busiest of its 32 threads; what that costs is the translator's to say.
// Words that a block reads (or writes) several times between two of its barriers are moved once: that much a cache holds.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "runtime.h"

bool counting = getenv("EMULATOR_COUNT") != nullptr;

struct Counts {
    u64 launches = 0, blocks = 0, warps = 0, bytes[2] = {0, 0};  // read, written
    std::map<std::string, double> instructions;
};
static std::map<std::string, Counts> kernels;
static Counts* counts;

// The phase in which a word was read and written last.
struct Moved {
    u32 phase[2];
};
static std::vector<std::vector<Moved>> moved;
static u32 phases;

// The counts since the last call, a line for each kernel, as "name key=value key=value ..."; valid until the next.
extern "C" const char* emulated_counts() {
    static std::string text;
    text.clear();
    for (const auto& [name, k] : kernels) {
        char line[400];
        snprintf(line, sizeof line, " launches=%llu blocks=%llu warps=%llu read=%llu written=%llu", (unsigned long long)k.launches,
                 (unsigned long long)k.blocks, (unsigned long long)k.warps, (unsigned long long)k.bytes[READ],
                 (unsigned long long)k.bytes[WRITE]);
        text += name + line;
        for (const auto& [kind, instructions] : k.instructions) text += " " + kind + "=" + std::to_string((s64)instructions);
        text += "\n";
    }
    kernels.clear();
    return text.c_str();
}

void begin_counts(const KernelInfo& kernel, int ranges) {
    if (!counting) return;
    static const int told = atexit([] { fputs(emulated_counts(), stderr); });
    (void)told;
    counts = &kernels[kernel.name];
    counts->launches++;
    moved.assign(ranges, {});
}

void count_phase(Block& block) { block.phase = ++phases; }

void count_access(int range, u64 offset, u64 range_bytes, int size, Access access) {
    if (access == ATOMIC) return;
    std::vector<Moved>& words = moved[range];
    if (words.empty()) words.resize(range_bytes / 4 + 1);
    for (u64 k = offset / 4; k <= (offset + size - 1) / 4; k++) {
        u32& last = words[k].phase[access];
        if (last != current->block->phase) counts->bytes[access] += 4;
        last = current->block->phase;
    }
}

void count_block(const KernelInfo& kernel, const Block& block) {
    const size_t threads = block.threads.size(), basic_blocks = kernel.basic_blocks;
    counts->blocks++;
    for (size_t warp = 0; warp < threads; warp += 32) {
        counts->warps++;
        for (size_t k = 0; k < basic_blocks; k++) {
            u32 most = 0;
            for (size_t t = warp; t < warp + 32 && t < threads; t++) most = std::max(most, block.visits[t * basic_blocks + k]);
            for (int kind = 0; most && kind < kernel.kinds; kind++)
                if (const double each = kernel.costs[k * kernel.kinds + kind]) counts->instructions[kernel.kind_names[kind]] += most * each;
        }
    }
}
