// Runs the blocks and threads of a translated kernel in random order, and watches what they do to memory.
//
// Every thread has a stack; one runs until it comes to a barrier, an atomic on global memory or its end. Blocks of kernels
// without such atomics run one after the other; of others as many side by side as EMULATOR_RESIDENT says, since
// they may wait for each other.
#include "runtime.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <set>
#include <tuple>

Thread* current;
u32 grid_size[3], block_size[3];

// Saves this stack's pointer in *from and goes on with the other one, where it was left.
extern "C" void switch_stacks(void** from, void* to);
asm(R"(
.globl switch_stacks
switch_stacks:
 pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
 movq %rsp, (%rdi)
 movq %rsi, %rsp
 popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
 ret
)");

static const s16 SEVERAL = -2;  // threads, or blocks
static void* scheduler;
static const KernelInfo* kernel;
static void** arguments;
static u32 random_state = 12345;

// Allocations of the driver, and of each word of them who touched it last.
struct GlobalWord {
    u32 write_stretch = 0, read_stretch = 0;
    s32 writer_block = -1, reader_block = -1;
    s16 writer = -1, reader = -1;
    u32 write_turn = 0, read_turn = 0;  // of the team, where blocks form teams
};
static const int MOST_RANGES = 65536;
static char *range_begin[MOST_RANGES], *range_end[MOST_RANGES];
static int ranges, last_range;
static std::vector<std::vector<GlobalWord>> global_words;
static bool races;

// Teams of blocks wait for each other by a barrier of their own: a bit of the first word of a team's row in their table
// changes with each of its turns.
static const int TEAM_BYTES = 384;
static const u32 TURNED = 1u << 30;
static char* teams;
static u64 blocks_of_team;
struct TeamTurn {
    u32 seen = 0, turn = 0;
};
static std::vector<TeamTurn> team_turns;

static u32 turn_of(s64 team) {
    u32 phase;
    memcpy(&phase, teams + team * TEAM_BYTES, 4);
    if (team_turns.size() <= (size_t)team) team_turns.resize(team + 1);
    TeamTurn& own = team_turns[team];
    if ((phase ^ own.seen) & TURNED) own.turn++;
    own.seen = phase;
    return own.turn;
}

static u32 random_number() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    return random_state ^= random_state << 5;
}

static long setting(const char* name, long otherwise) {
    const char* value = getenv(name);
    return value ? atol(value) : otherwise;
}

void give_way() { switch_stacks(&current->stack_pointer, scheduler); }

static void* driver() { return dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD); }

// Each kind of finding is told once for a line of a kernel.
void report(const char* what, int line, const void* address, int size) {
    static std::set<std::tuple<const char*, const char*, int>> told;
    if (!told.insert({what, kernel->name, line}).second) return;
    ++*(int*)dlsym(driver(), "emulated_findings");
    const Block* b = current->block;
    fprintf(stderr, "[emulator] %s: kernel %.90s, PTX line %d, address %p, %d bytes, block (%u,%u,%u), thread (%u,%u)\n",
            what, kernel->name, line, address, size, b->bx, b->by, b->bz, current->tx, current->ty);
}

static void out_of_bounds(const char* what, int line, const void* address, int size) {
    report(what, line, address, size);
    fflush(stderr);
    if (!getenv("EMULATOR_GO")) _exit(77);
}

static void check_race(GlobalWord& word, int line, Access access) {
    const Block* block = current->block;
    u32 turn = 0;
    s64 team = -1;
    if (teams) {
        team = block->id / (s64)blocks_of_team;
        turn = turn_of(team);
    }
    const auto of_this_turn = [&](u32 other_turn, s32 other_block) {
        return other_turn == turn && (other_block == SEVERAL || other_block / (s64)blocks_of_team == team);
    };
    if (word.writer_block >= 0) {
        const bool write = access == WRITE;
        if (word.writer_block == block->id) {
            if (word.write_stretch == block->stretch && word.writer != current->id)
                report(write ? "race, global: two threads write" : "race, global: read beside a write", line, 0, 4);
        } else if (!teams) {
            report(write ? "race, global: two blocks write" : "race, global: read of what another block writes", line, 0, 4);
        } else if (of_this_turn(word.write_turn, word.writer_block)) {
            report(write ? "race, team: two blocks write" : "race, team: read beside a write", line, 0, 4);
        }
    }
    if (access == READ) {
        const bool same = word.reader_block == block->id && word.read_stretch == block->stretch && word.read_turn == turn;
        const bool kept = !teams || word.read_turn == turn;
        if (same) {
            if (word.reader != current->id) word.reader = SEVERAL;
        } else if (word.reader_block != -1 && word.reader_block != block->id && kept) {
            word.reader_block = SEVERAL;
        } else {
            word.reader_block = block->id;
            word.reader = current->id;
        }
        word.read_stretch = block->stretch;
        word.read_turn = turn;
        return;
    }
    if (word.reader_block == block->id) {
        if (word.read_stretch == block->stretch && word.reader != current->id && (!teams || word.read_turn == turn))
            report("race, global: write beside a read", line, 0, 4);
    } else if (word.reader_block != -1) {
        if (!teams)
            report("race, global: write of what another block reads", line, 0, 4);
        else if (of_this_turn(word.read_turn, word.reader_block))
            report("race, team: write beside a read", line, 0, 4);
    }
    word.writer_block = block->id;
    word.writer = current->id;
    word.write_stretch = block->stretch;
    word.write_turn = turn;
}

void check_global(const void* address, int size, int line, Access access) {
    const char* p = (const char*)address;
    if (p >= current->stack && p < current->stack + STACK) return;  // local memory
    if ((u64)p % size) report("misaligned", line, p, size);
    const auto within = [&](int k) { return p >= range_begin[k] && p + size <= range_end[k]; };
    int found = last_range < ranges && within(last_range) ? last_range : -1;
    for (int k = 0; k < ranges && found < 0; k++)
        if (within(k)) found = k;
    if (found < 0) {
        out_of_bounds(access == READ ? "read out of bounds" : "write out of bounds", line, p, size);
        return;
    }
    last_range = found;
    if (counting) count_access(found, p - range_begin[found], range_end[found] - range_begin[found], size, access);
    if (!races || access == ATOMIC || size < 4) return;  // bytes of a word may have different writers
    if (global_words[found].empty()) global_words[found].resize((range_end[found] - range_begin[found]) / 4 + 4);
    for (int word = 0; word < size / 4; word++)
        check_race(global_words[found][(p - range_begin[found]) / 4 + word], line, access);
}

void check_shared(const void* address, int size, int line, Access access) {
    Block* block = current->block;
    const char* p = (const char*)address;
    const s64 offset = p - block->shared;
    if ((u64)p % size) report("misaligned, shared", line, (void*)offset, size);
    if (offset < 0 || offset + size > kernel->shared_bytes) {
        out_of_bounds("out of bounds, shared", line, (void*)offset, size);
        return;
    }
    const s16 me = current->id;
    for (int k = 0; k < (size + 3) / 4; k++) {
        SharedWord& word = block->words[offset / 4 + k];
        if (access != WRITE && !word.initialised) report("shared memory read before it is written", line, (void*)offset, size);
        const bool other_wrote = word.written == block->stretch && word.writer != me;
        if (access == READ) {
            if (other_wrote) report("race, shared: read beside a write", line, (void*)offset, size);
            if (word.read != block->stretch) {
                word.read = block->stretch;
                word.reader = me;
            } else if (word.reader != me) {
                word.reader = SEVERAL;
            }
            continue;
        }
        if (other_wrote && !(access == ATOMIC && word.by_atomic))
            report("race, shared: two threads write", line, (void*)offset, size);
        if (word.read == block->stretch && word.reader != me)
            report("race, shared: write beside a read", line, (void*)offset, size);
        word.written = block->stretch;
        word.writer = me;
        word.by_atomic = access == ATOMIC;
        word.initialised = true;
    }
}

static void run_thread() {
    kernel->thread(arguments);
    current->state = DONE;
    give_way();
    abort();  // nothing gives a thread that is done its turn
}

static std::vector<char*> free_stacks, free_shared;

static char* memory(std::vector<char*>& free_ones, size_t size, int flags) {
    if (free_ones.empty()) return (char*)mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    char* found = free_ones.back();
    free_ones.pop_back();
    return found;
}

static Block* make_block(u64 id) {
    Block* block = new Block;
    block->bx = id % grid_size[0];
    block->by = id / grid_size[0] % grid_size[1];
    block->bz = id / (grid_size[0] * (u64)grid_size[1]);
    block->id = id;
    block->stretch = 1;
    block->alive = block_size[0] * block_size[1] * block_size[2];
    block->threads.resize(block->alive);
    block->visits.resize((size_t)block->alive * kernel->basic_blocks);
    count_phase(*block);
    block->shared = memory(free_shared, SHARED_ROOM, MAP_32BIT);  // addresses of shared memory may be of 32 bits
    memset(block->shared, 0xFF, SHARED_ROOM);
    block->words.assign(kernel->shared_bytes / 4 + 4, SharedWord{0, 0, -1, -1, false, false});
    for (int i = 0; i < block->alive; i++) {
        Thread& t = block->threads[i];
        t.block = block;
        t.id = i;
        t.tx = i % block_size[0];
        t.ty = i / block_size[0] % block_size[1];
        t.tz = i / (block_size[0] * block_size[1]);
        t.state = READY;
        t.visits = block->visits.data() + (size_t)i * kernel->basic_blocks;
        t.stack = memory(free_stacks, STACK, MAP_NORESERVE);
        // What `switch_stacks` takes off the stack: six registers and where to return.
        void** top = (void**)(t.stack + STACK - 64);
        *--top = nullptr;
        *--top = (void*)run_thread;
        for (int k = 0; k < 6; k++) *--top = nullptr;
        t.stack_pointer = top;
    }
    return block;
}

static void release(Block* block) {
    if (counting) count_block(*kernel, *block);
    free_shared.push_back(block->shared);
    delete block;
}

// Lets every thread that can run do so, beginning anywhere, in either direction; then opens the barrier if all are there.
static void step(Block* block) {
    const int n = block->threads.size(), first = random_number() % n, direction = random_number() & 1 ? 1 : n - 1;
    for (int k = 0; k < n; k++) {
        Thread& t = block->threads[(first + (s64)k * direction) % n];
        if (t.state != READY) continue;
        current = &t;
        switch_stacks(&scheduler, t.stack_pointer);
        if (t.state == DONE) {
            block->alive--;
            free_stacks.push_back(t.stack);
        }
    }
    Thread* waiting = nullptr;
    for (auto& t : block->threads) {
        if (t.state == READY) return;
        if (t.state != AT_BARRIER) continue;
        current = &t;
        if (waiting && waiting->barrier != t.barrier) report("two barriers at once", t.barrier, nullptr, 0);
        waiting = &t;
    }
    if (!waiting) return;
    if (block->alive < n) report("a barrier after some threads have ended", waiting->barrier, nullptr, 0);
    block->stretch++;
    count_phase(*block);
    for (auto& t : block->threads)
        if (t.state == AT_BARRIER) t.state = READY;
}

static void look_up_ranges() {
    typedef int (*Ranges)(char**, char**, int);
    ranges = ((Ranges)dlsym(driver(), "emulated_ranges"))(range_begin, range_end, MOST_RANGES);
    last_range = 0;
    races = getenv("EMULATOR_RACE") != nullptr;
    if (races) global_words.assign(ranges, {});
}

static void look_up_teams() {
    char name[200] = "wls_exact5solve";
    int table = 58, blocks = 63;
    if (const char* given = getenv("EMULATOR_TEAM")) sscanf(given, "%199[^:]:%d:%d", name, &table, &blocks);
    teams = nullptr;
    team_turns.clear();
    if (strstr(kernel->name, name)) {
        teams = *(char**)arguments[table];
        blocks_of_team = *(u64*)arguments[blocks];
    }
}

void run_kernel(const KernelInfo& which, void** given, const unsigned* grid, const unsigned* block) {
    kernel = &which;
    memcpy(grid_size, grid, sizeof grid_size);
    memcpy(block_size, block, sizeof block_size);
    arguments = given;
    if (getenv("EMULATOR_SEED")) random_state = setting("EMULATOR_SEED", 0) * 2654435761u + 1;
    look_up_ranges();
    look_up_teams();
    begin_counts(which, ranges);
    const u64 total = (u64)grid_size[0] * grid_size[1] * grid_size[2];
    const size_t limit = kernel->has_atomics ? setting("EMULATOR_RESIDENT", 12) : 1;
    const long late = setting("EMULATOR_LATE", 0);
    std::vector<Block*> resident;
    long steps = 0;
    for (u64 next = 0; next < total || !resident.empty();) {
        while (next < total && resident.size() < limit && (!late || resident.empty() || steps > late)) {
            resident.push_back(make_block(next++));
            if (late) steps = 0;
        }
        const size_t which = random_number() % resident.size();
        step(resident[which]);
        steps++;
        if (resident[which]->alive == 0) {
            release(resident[which]);
            resident[which] = resident.back();
            resident.pop_back();
        }
    }
    current = nullptr;
}
