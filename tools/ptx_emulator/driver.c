/* An emulated CUDA driver: one device whose memory is the host's and whose kernels are those that translate.py compiled.
 *
 * Everything runs at once, in the order of the calls, so that streams and events order nothing; what is asked for is checked
 * where it can be: copies stay within allocations, launches within a GPU's limits, a stream that is being captured
 * records kernels and copies instead of running them. Declarations are our own, of what Numba, cuda-core and cuda-bindings call. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef unsigned long long u64;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_IMAGE = 200, INVALID_CONTEXT = 201, NOT_FOUND = 500,
       LAUNCH_FAILED = 719, NOT_SUPPORTED = 801, CAPTURE_UNSUPPORTED = 900 };
static const size_t MEMORY = 1ull << 31; /* little, so that tests that fill it do not fill the host's */

#define LOG(...)                               \
    do {                                       \
        if (logging()) {                       \
            fprintf(stderr, "[driver] ");      \
            fprintf(stderr, __VA_ARGS__);      \
            fprintf(stderr, "%s\n", captured ? " (during capture)" : ""); \
        }                                      \
    } while (0)
static int logging(void) {
    static int asked = -1;
    if (asked < 0) asked = getenv("EMULATOR_LOG") != NULL;
    return asked;
}

/* What a stream that is being captured records. */
typedef void (*Launch)(void** arguments, const unsigned* grid, const unsigned* block);
typedef struct Node {
    Launch launch; /* NULL: a copy */
    void** arguments;
    unsigned grid[3], block[3];
    void* to;
    const void* from;
    size_t size;
    struct Node* next;
} Node;
typedef struct {
    Node *first, *last;
} Graph;
static Graph* captured;
static void* captured_stream;

static Node* record(void) {
    Node* node = calloc(1, sizeof *node);
    if (captured->last) captured->last->next = node;
    else captured->first = node;
    return captured->last = node;
}

/* Device, context. */
static __thread void* context;
static __thread void* context_stack[64];
static __thread int contexts;
static void* const PRIMARY = (void*)0xC0DE;

Result cuInit(unsigned flags) { (void)flags; return OK; }
Result cuDriverGetVersion(int* version) { *version = 13000; return OK; }
Result cuDeviceGetCount(int* count) { *count = 1; return OK; }
Result cuDeviceGet(int* device, int ordinal) { *device = ordinal; return OK; }
Result cuDeviceGetName(char* name, int length, int device) { (void)device; snprintf(name, length, "emulated GPU"); return OK; }
Result cuDeviceGetUuid(void* uuid, int device) { (void)device; memset(uuid, 7, 16); return OK; }
Result cuDeviceTotalMem(size_t* bytes, int device) { (void)device; *bytes = MEMORY; return OK; }
Result cuDeviceGetAttribute(int* value, int attribute, int device) {
    (void)device;
    switch (attribute) {
        case 1: *value = 1024; break; /* threads of a block */
        case 16: /* multiprocessors */
            *value = getenv("EMULATOR_MULTIPROCESSORS") ? atoi(getenv("EMULATOR_MULTIPROCESSORS")) : 3;
            break;
        case 75: *value = 9; break;   /* compute capability */
        case 76: *value = 0; break;
        default: *value = 1;
    }
    return OK;
}
Result cuCtxGetCurrent(void** found) { *found = context; return OK; }
Result cuCtxSetCurrent(void* wanted) { context = wanted; return OK; }
Result cuCtxPushCurrent(void* wanted) { context_stack[contexts++] = context; context = wanted; return OK; }
Result cuCtxPopCurrent(void** popped) {
    *popped = context;
    context = contexts ? context_stack[--contexts] : NULL;
    return OK;
}
Result cuCtxGetDevice(int* device) { *device = 0; return context ? OK : INVALID_CONTEXT; }
Result cuCtxSynchronize(void) { return OK; }
Result cuCtxGetApiVersion(void* which, unsigned* version) { (void)which; *version = 13000; return OK; }
Result cuDevicePrimaryCtxRetain(void** found, int device) { (void)device; *found = PRIMARY; return OK; }
Result cuDevicePrimaryCtxRelease(int device) { (void)device; return OK; }
Result cuDevicePrimaryCtxGetState(int device, unsigned* flags, int* active) { (void)device; *flags = 0; *active = 1; return OK; }
Result cuCtxGetStreamPriorityRange(int* least, int* greatest) { *least = 0; *greatest = -5; return OK; }

/* Memory. What is allocated is filled with NaN. */
typedef struct {
    char* begin;
    size_t size;
} Allocation;
static Allocation allocations[1 << 16];
static int allocated;
static size_t used;

int emulated_ranges(char** begin, char** end, int most) {
    int k = 0;
    for (; k < allocated && k < most; k++) {
        begin[k] = allocations[k].begin;
        end[k] = allocations[k].begin + allocations[k].size;
    }
    return k;
}
static int is_device(const void* p, size_t size) {
    for (int k = 0; k < allocated; k++)
        if ((char*)p >= allocations[k].begin && (char*)p + size <= allocations[k].begin + allocations[k].size) return 1;
    return 0;
}
Result cuMemGetInfo(size_t* available, size_t* total) { *total = MEMORY; *available = MEMORY - used; return OK; }
Result cuMemAlloc(u64* pointer, size_t size) {
    void* memory = NULL;
    LOG("cuMemAlloc %zu", size);
    if (used + size > MEMORY || posix_memalign(&memory, 512, size + 64)) return OUT_OF_MEMORY;
    memset(memory, 0xFF, size < (1u << 28) ? size + 64 : 64); /* larger ones are only there to fill memory */
    allocations[allocated++] = (Allocation){memory, size};
    used += size;
    *pointer = (u64)memory;
    return OK;
}
Result cuMemFree(u64 pointer) {
    LOG("cuMemFree");
    for (int k = 0; k < allocated; k++)
        if ((u64)allocations[k].begin == pointer) {
            used -= allocations[k].size;
            free(allocations[k].begin);
            allocations[k] = allocations[--allocated];
            return OK;
        }
    fprintf(stderr, "[emulator] freed what was not allocated\n");
    return INVALID_VALUE;
}
Result cuMemHostAlloc(void** pointer, size_t size, unsigned flags) {
    (void)flags;
    LOG("cuMemHostAlloc %zu", size);
    return posix_memalign(pointer, 512, size ? size : 1) ? OUT_OF_MEMORY : OK;
}
Result cuMemFreeHost(void* pointer) { free(pointer); return OK; }
Result cuMemHostGetDevicePointer(u64* device, void* host, unsigned flags) { (void)flags; *device = (u64)host; return OK; }

static Result copy(const char* call, void* to, const void* from, size_t size, void* stream, int to_device, int from_device) {
    LOG("%s %zu, stream %p", call, size, stream);
    if ((to_device && !is_device(to, size)) || (from_device && !is_device(from, size))) {
        fprintf(stderr, "[emulator] %s: out of bounds\n", call);
        return INVALID_VALUE;
    }
    if (captured && stream == captured_stream) {
        Node* node = record();
        node->to = to;
        node->from = from;
        node->size = size;
    } else {
        memmove(to, from, size);
    }
    return OK;
}
Result cuMemcpyHtoD(u64 to, const void* from, size_t size) { return copy("cuMemcpyHtoD", (void*)to, from, size, NULL, 1, 0); }
Result cuMemcpyDtoH(void* to, u64 from, size_t size) { return copy("cuMemcpyDtoH", to, (void*)from, size, NULL, 0, 1); }
Result cuMemcpyDtoD(u64 to, u64 from, size_t size) { return copy("cuMemcpyDtoD", (void*)to, (void*)from, size, NULL, 1, 1); }
Result cuMemcpyHtoDAsync(u64 to, const void* from, size_t size, void* stream) {
    return copy("cuMemcpyHtoDAsync", (void*)to, from, size, stream, 1, 0);
}
Result cuMemcpyDtoHAsync(void* to, u64 from, size_t size, void* stream) {
    return copy("cuMemcpyDtoHAsync", to, (void*)from, size, stream, 0, 1);
}
Result cuMemcpyDtoDAsync(u64 to, u64 from, size_t size, void* stream) {
    return copy("cuMemcpyDtoDAsync", (void*)to, (void*)from, size, stream, 1, 1);
}
Result cuMemsetD8(u64 to, unsigned char value, size_t size) { memset((void*)to, value, size); return OK; }
Result cuMemsetD8Async(u64 to, unsigned char value, size_t size, void* stream) { (void)stream; return cuMemsetD8(to, value, size); }

enum { MEMORY_TYPE = 2, IS_MANAGED = 8, DEVICE_ORDINAL = 9, DEVICE_MEMORY = 2 };
Result cuPointerGetAttribute(void* out, int attribute, u64 pointer) {
    if (attribute != DEVICE_ORDINAL) {
        *(u64*)out = pointer;
        return OK;
    }
    *(int*)out = 0;
    return is_device((void*)pointer, 1) ? OK : INVALID_VALUE;
}
Result cuPointerGetAttributes(unsigned count, int* attributes, void** out, u64 pointer) {
    for (unsigned k = 0; k < count; k++) {
        if (attributes[k] == MEMORY_TYPE) *(unsigned*)out[k] = is_device((void*)pointer, 1) ? DEVICE_MEMORY : 0;
        else if (attributes[k] == DEVICE_ORDINAL || attributes[k] == IS_MANAGED) *(int*)out[k] = 0;
        else *(u64*)out[k] = 0;
    }
    return OK;
}
Result cuMemGetAddressRange(u64* begin, size_t* size, u64 pointer) { *begin = pointer; *size = 1; return OK; }

/* Streams and events: handles alone. */
static u64 last_handle = 0x1000;
Result cuStreamCreate(void** stream, unsigned flags) { (void)flags; *stream = (void*)(last_handle += 16); LOG("cuStreamCreate %p", *stream); return OK; }
Result cuStreamCreateWithPriority(void** stream, unsigned flags, int priority) { (void)priority; return cuStreamCreate(stream, flags); }
Result cuStreamDestroy(void* stream) { (void)stream; return OK; }
Result cuStreamSynchronize(void* stream) { LOG("cuStreamSynchronize %p", stream); return OK; }
Result cuStreamWaitEvent(void* stream, void* event, unsigned flags) { (void)flags; LOG("cuStreamWaitEvent %p, event %p", stream, event); return OK; }
Result cuStreamGetCtx(void* stream, void** found) { (void)stream; *found = PRIMARY; return OK; }
Result cuStreamGetFlags(void* stream, unsigned* flags) { (void)stream; *flags = 0; return OK; }
Result cuStreamIsCapturing(void* stream, int* status) { *status = captured && stream == captured_stream; return OK; }
Result cuEventCreate(void** event, unsigned flags) { (void)flags; *event = (void*)(last_handle += 16); return OK; }
Result cuEventRecord(void* event, void* stream) { LOG("cuEventRecord %p, stream %p", event, stream); return OK; }
Result cuEventQuery(void* event) { (void)event; return OK; }
Result cuEventSynchronize(void* event) { LOG("cuEventSynchronize %p", event); return OK; }
Result cuEventDestroy(void* event) { (void)event; return OK; }
Result cuEventElapsedTime(float* ms, void* start, void* end) { (void)start, (void)end; *ms = 1; return OK; }
Result cuGetErrorName(int code, const char** name) { *name = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "EMULATED_ERROR"; return OK; }
Result cuGetErrorString(int code, const char** text) { (void)code; *text = "an error of the emulated driver"; return OK; }

/* Kernels: a library's "cubin" is the path of a shared object, behind a mark. */
static const char MARK[] = "EMULATED:";
typedef struct {
    Launch launch; /* NULL in a library that no kernel is in */
    const int* parameter_sizes;
    char name[256];
} Kernel;
Result cuLibraryLoadData(void** library, const void* code, int* a, void** b, unsigned c, int* d, void** e, unsigned f) {
    (void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
    LOG("cuLibraryLoadData");
    Kernel* kernel = calloc(1, sizeof *kernel);
    *library = kernel;
    if (memcmp(code, MARK, sizeof MARK - 1)) return OK;
    void* loaded = dlopen((const char*)code + sizeof MARK - 1, RTLD_NOW | RTLD_LOCAL);
    if (!loaded) {
        fprintf(stderr, "[emulator] %s\n", dlerror());
        return INVALID_IMAGE;
    }
    kernel->launch = (Launch)dlsym(loaded, "launch_kernel");
    kernel->parameter_sizes = dlsym(loaded, "parameter_sizes");
    return OK;
}
Result cuLibraryUnload(void* library) { (void)library; return OK; }
Result cuLibraryGetKernel(void** found, void* library, const char* name) {
    Kernel* kernel = *found = library;
    snprintf(kernel->name, sizeof kernel->name, "%s", name);
    return OK;
}
Result cuLibraryGetGlobal(u64* p, size_t* n, void* library, const char* name) { (void)p, (void)n, (void)library, (void)name; return NOT_FOUND; }
Result cuKernelGetFunction(void** function, void* kernel) { *function = kernel; return OK; }
Result cuKernelSetAttribute(int which, int value, void* kernel, int device) { (void)which, (void)value, (void)kernel, (void)device; return OK; }
Result cuFuncGetAttribute(int* value, int which, void* function) { (void)function; *value = which == 0 ? 1024 : 64; return OK; }
Result cuKernelGetAttribute(int* value, int which, void* kernel, int device) { (void)device; return cuFuncGetAttribute(value, which, kernel); }
Result cuKernelGetParamInfo(void* kernel, size_t k, size_t* offset, size_t* size) { (void)kernel, (void)k, (void)offset, (void)size; return INVALID_VALUE; }
Result cuFuncGetModule(void** module, void* function) { *module = function; return OK; }
Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void* function, int threads, size_t shared) {
    (void)function, (void)threads, (void)shared;
    *blocks = 4;
    return OK;
}

typedef struct {
    unsigned grid[3], block[3], shared_bytes;
    void* stream;
    void* attributes;
    unsigned attribute_count;
} LaunchConfig;
static int is_launchable(const LaunchConfig* c) {
    for (int k = 0; k < 3; k++)
        if (!c->grid[k] || !c->block[k] || c->grid[k] > (k ? 65535u : 2147483647u)) return 0;
    return c->block[2] <= 64 && c->block[0] * c->block[1] * c->block[2] <= 1024;
}
/* What the runtime has found, such as an access out of bounds: the launch at hand fails, and with it its test. */
int emulated_findings;
static Result outcome(void) {
    static int known;
    if (emulated_findings == known) return OK;
    known = emulated_findings;
    return LAUNCH_FAILED;
}
Result cuLaunchKernelEx(const LaunchConfig* c, void* function, void** arguments, void** extra) {
    (void)extra;
    Kernel* kernel = function;
    LOG("launch %.60s, grid %u %u %u, block %u %u %u, stream %p", kernel->name, c->grid[0], c->grid[1], c->grid[2], c->block[0],
        c->block[1], c->block[2], c->stream);
    if (!is_launchable(c)) {
        fprintf(stderr, "[emulator] no GPU takes this launch: %s, grid %u %u %u, block %u %u %u\n", kernel->name, c->grid[0],
                c->grid[1], c->grid[2], c->block[0], c->block[1], c->block[2]);
        return INVALID_VALUE;
    }
    if (!kernel->launch) return OK;
    if (captured && c->stream == captured_stream) {
        Node* node = record();
        const int count = kernel->parameter_sizes[0];
        node->launch = kernel->launch;
        memcpy(node->grid, c->grid, sizeof node->grid);
        memcpy(node->block, c->block, sizeof node->block);
        node->arguments = calloc(count, sizeof(void*));
        for (int k = 0; k < count; k++) {
            const size_t size = kernel->parameter_sizes[k + 1];
            node->arguments[k] = memcpy(malloc(size), arguments[k], size);
        }
        return OK;
    }
    static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&one_at_a_time);
    kernel->launch(arguments, c->grid, c->block);
    pthread_mutex_unlock(&one_at_a_time);
    return outcome();
}

/* Graphs. */
Result cuStreamBeginCapture(void* stream, int mode) {
    LOG("cuStreamBeginCapture %p, mode %d", stream, mode);
    if (stream == NULL || stream == (void*)1) return CAPTURE_UNSUPPORTED; /* the default streams */
    captured = calloc(1, sizeof(Graph));
    captured_stream = stream;
    return OK;
}
Result cuStreamEndCapture(void* stream, void** graph) {
    (void)stream;
    *graph = captured;
    captured = NULL;
    captured_stream = NULL;
    return OK;
}
Result cuGraphInstantiate(void** executable, void* graph, u64 flags) { (void)flags; *executable = graph; return OK; }
Result cuGraphInstantiateWithFlags(void** executable, void* graph, u64 flags) { return cuGraphInstantiate(executable, graph, flags); }
Result cuGraphDestroy(void* graph) { (void)graph; return OK; }
Result cuGraphExecDestroy(void* executable) { (void)executable; LOG("cuGraphExecDestroy"); return OK; }
Result cuGraphLaunch(void* executable, void* stream) {
    LOG("cuGraphLaunch, stream %p", stream);
    for (Node* node = ((Graph*)executable)->first; node; node = node->next) {
        if (node->launch) node->launch(node->arguments, node->grid, node->block);
        else memmove(node->to, node->from, node->size);
    }
    return outcome();
}

/* How the packages find all this: by name; versions (_v2, _ptsz) are those above. */
static Result unsupported(void) {
    fprintf(stderr, "[emulator] a function of the driver was called that is not emulated\n");
    return NOT_SUPPORTED;
}
static void* find(const char* name) {
    void* self = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    return dlsym(self, name);
}
Result cuGetProcAddress_v2(const char* name, void** found, int version, u64 flags, int* status) {
    (void)version, (void)flags;
    *found = find(name);
    if (status) *status = *found ? 0 : 1;
    if (!*found) {
        LOG("%s is not emulated", name);
        *found = (void*)unsupported;
    }
    return OK;
}
Result cuGetProcAddress(const char* name, void** found, int version, u64 flags, int* status) {
    return cuGetProcAddress_v2(name, found, version, flags, status);
}
