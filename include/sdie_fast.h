/* libsdie_fast: weighted rounds of filters for inspection lines, in C99.
 *
 *   sdie_config config;
 *   sdie_config_init(&config, sizeof config);
 *   sdie_config_load(&config, "steel.line");          // made by `sdie-fast export-line`
 *   config.width = 2048; config.height = 1024;
 *   config.input = SDIE_MONO12P; config.output = SDIE_MONO8;
 *   config.threads = 2; config.deadline_ns = 20000000;
 *   sdie_plan* plan;
 *   if (sdie_plan_create(&config, &plan) != SDIE_OK) { char why[256]; sdie_message(why, sizeof why); ... }
 *   while (...) sdie_plan_run(plan, frame, 0, out, 0, NULL);
 *   sdie_plan_destroy(plan);
 *
 * Every function but the plainest getters returns a status. No C++ exception leaves the library, and it never aborts.
 * A refused call changes nothing but the thread's message and the plan's counter `refused`.
 *
 * Threads: plans and streams are independent of each other. One of them serves one call at a time; a second call is
 * refused with SDIE_BUSY. The functions that say so may be called while another thread runs the plan.
 *
 * Numbers: sizes of pictures are in pixels, strides in bytes, times in nanoseconds of `sdie_clock`. */
#ifndef SDIE_FAST_H
#define SDIE_FAST_H

#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#if defined(SDIE_BUILDING)
#define SDIE_API __attribute__((visibility("default")))
#else
#define SDIE_API
#endif

/* ---- version, status, words ----------------------------------------------------------------------------------- */

#define SDIE_VERSION_MAJOR 1 /* of this interface: a library of another major version has another soname */
#define SDIE_VERSION_MINOR 0 /* grows with every addition */

/* The library's interface as major * 1000 + minor, and its release as text ("0.1.0"). */
SDIE_API int32_t sdie_version(void);
SDIE_API const char* sdie_version_text(void);

/* The instruction set in force: "x86-64-v3", "neon". NULL where the processor is too old. The environment variable
 * SDIE_FAST_ISA chooses another. */
SDIE_API const char* sdie_isa(void);

typedef int32_t sdie_status;
enum {
  SDIE_OK = 0,
  SDIE_EMPTY = 1,    /* sdie_stream_pull: no line is finished yet */
  SDIE_FULL = 2,     /* sdie_stream_push: finished lines have to be pulled first */
  SDIE_INVALID = -1, /* an argument that cannot be used */
  SDIE_MEMORY = -2,  /* the system, the allocator or the caller's block has too little */
  SDIE_BUSY = -3,    /* another call is in the plan or stream */
  SDIE_FILE = -4,    /* a file that is missing, damaged or no line recipe */
  SDIE_STRUCT = -5,  /* a struct without its size, or from a newer header with something set that is not known here */
  SDIE_SYSTEM = -6,  /* a thread could not be started, pinned or given its priority */
  SDIE_FORKED = -7,  /* the plan's threads stayed in the process that forked this one */
  SDIE_CPU = -8,     /* the processor runs none of the instruction sets that were built */
  SDIE_INTERNAL = -9 /* a fault of the library */
};

/* A status in a few words: "an argument that cannot be used". Never NULL. */
SDIE_API const char* sdie_status_text(sdie_status status);

/* Why the last call of this thread that was refused was refused: "strip: received 0; accepted: 1 line or more". Look
 * only after a refusal: calls that succeed leave the words. Copies at most size - 1 bytes and a zero, and returns the
 * length of the whole text; buffer may be NULL. */
SDIE_API size_t sdie_message(char* buffer, size_t size);

/* Nanoseconds of the monotonic clock (CLOCK_MONOTONIC on Linux), which deadlines and `since_ns` are counted in. */
SDIE_API uint64_t sdie_clock(void);

/* ---- pixel formats -------------------------------------------------------------------------------------------- */

/* The names and layouts of GenICam's Pixel Format Naming Convention 2.x. Words are little-endian; a line begins on a
 * byte. */
typedef int32_t sdie_format;
enum {
  SDIE_MONO8 = 1,
  SDIE_MONO10 = 2,       /* 16-bit words, the value in the low bits; larger values count as 1023 */
  SDIE_MONO10P = 3,      /* 4 pixels in 5 bytes, least significant bit first */
  SDIE_MONO10PACKED = 4, /* 2 pixels in 3 bytes (GigE Vision), the low bits of both in the middle byte */
  SDIE_MONO12 = 5,
  SDIE_MONO12P = 6, /* 2 pixels in 3 bytes, least significant bit first */
  SDIE_MONO12PACKED = 7,
  SDIE_MONO14 = 8,
  SDIE_MONO16 = 9,
  SDIE_RGB8 = 10, /* filters act on luma (ITU-R BT.601), and chroma is carried over */
  SDIE_BGR8 = 11,
  SDIE_FLOAT32 = 12 /* intensities in [0, 1]; what lies outside is clipped, NaN counts as 0 */
};

/* "Mono10p". NULL for an unknown format. */
SDIE_API const char* sdie_format_name(sdie_format format);
/* The format of that name, whatever the case of its letters; 0 for an unknown one. */
SDIE_API sdie_format sdie_format_named(const char* name);
/* Bytes of a line without padding. 0 for an unknown format or a width below 1. */
SDIE_API size_t sdie_line_bytes(sdie_format format, int32_t width);

/* ---- configuration -------------------------------------------------------------------------------------------- */

/* The filters, in the order of weights. */
enum {
  SDIE_IDENTITY,
  SDIE_WLS,
  SDIE_BILATERAL,
  SDIE_SHARPEN,
  SDIE_GUIDED,
  SDIE_SPATIOGRAM,
  SDIE_GAMMA,
  SDIE_MEDIAN,
  SDIE_GAUSSIAN
};
#define SDIE_MAX_FILTERS 16
#define SDIE_MAX_ROUNDS 32
#define SDIE_MAX_PARAMETERS 64

/* Runs body(context, member) for every member in [0, members) and returns when all have returned. The members have to
 * run at the same time, each on a thread of its own: they wait for each other. */
typedef void (*sdie_body)(void* context, int32_t member);
typedef void (*sdie_parallel)(void* pool, int32_t members, sdie_body body, void* context);

/* Memory for plans and streams, aligned to 64 bytes; NULL where there is none. Called by create and destroy alone. */
typedef void* (*sdie_allocate)(void* allocator, size_t bytes);
typedef void (*sdie_release)(void* allocator, void* block, size_t bytes);

typedef struct sdie_config {
  size_t size; /* of the struct in the caller's header; set by sdie_config_init, as is all else */

  /* The frame. */
  int32_t width, height; /* pixels; at most 2^30 in all */
  sdie_format input;     /* SDIE_MONO8 */
  sdie_format output;    /* 0: as the input. Colour needs colour as input; colour to grey gives luma */
  int64_t src_stride;    /* bytes from line to line, where a call passes 0; 0: lines without padding */
  int64_t dst_stride;
  float white; /* the input's value for full white, at most the format's largest (1023 for Mono10); 0: that */

  /* What is done: rounds x filters. Each row is scaled to sum 1. init sets one round of the identity. */
  int32_t rounds; /* 1 to SDIE_MAX_ROUNDS */
  float weights[SDIE_MAX_ROUNDS][SDIE_MAX_FILTERS];
  double parameters[SDIE_MAX_PARAMETERS]; /* by sdie_config_set; init sets the library's usual values */
  uint32_t filters; /* bit k: sdie_plan_set_weights may give weight to filter k, besides those with weight above */

  /* How. */
  int32_t threads;     /* the caller's among them, at most; init sets 1. Small frames take one */
  const int32_t* cpus; /* one for each thread but the caller's, or NULL: member k runs on cpus[k - 1] alone */
  int32_t cpu_count;
  int32_t priority;       /* 1 to 99: SCHED_FIFO for the plan's threads, not for the caller's; 0: as the caller */
  sdie_parallel parallel; /* the caller's thread pool in place of threads of the plan's own, or NULL */
  void* pool;
  sdie_allocate allocate; /* both, or NULL for the system's memory */
  sdie_release release;
  void* allocator;
  uint64_t deadline_ns; /* from the frame's start to the end of its call; 0: none */
  int32_t warm_up;      /* runs on an artificial picture at creation, which measure the rounds; init sets 2 */

  char recipe[68]; /* SHA-256 of the recipe that was loaded, in hexadecimal; "" for none */
} sdie_config;

/* Sets everything to its usual value. size: sizeof(sdie_config) where the caller is compiled. */
SDIE_API sdie_status sdie_config_init(sdie_config* config, size_t size);

/* Sets a parameter of a filter by its name in the Python library ("wls_solver", "bilateral_sigma_range") to a number
 * or a choice in words ("0.1", "fast"). */
SDIE_API sdie_status sdie_config_set(sdie_config* config, const char* parameter, const char* value);

/* Takes rounds, weights and parameters from a file of `sdie-fast export-line`; the rest stays. */
SDIE_API sdie_status sdie_config_load(sdie_config* config, const char* path);
/* The same from such a file's bytes. */
SDIE_API sdie_status sdie_config_parse(sdie_config* config, const void* bytes, size_t count);

/* ---- plans ---------------------------------------------------------------------------------------------------- */

typedef struct sdie_plan sdie_plan;

/* Takes all memory, starts all threads, and runs `warm_up` times. The config may be freed afterwards. Where it is
 * refused, *plan is NULL. */
SDIE_API sdie_status sdie_plan_create(const sdie_config* config, sdie_plan** plan);

/* Bytes that the plan needs: its object and its pixels. Stacks and the handles of threads are not in it. */
SDIE_API sdie_status sdie_plan_workspace(const sdie_config* config, size_t* bytes);
/* As sdie_plan_create, in the caller's block, aligned to 64 bytes, which outlives the plan. */
SDIE_API sdie_status sdie_plan_create_in(const sdie_config* config, void* block, size_t bytes, sdie_plan** plan);

/* Why a frame has fewer rounds than its recipe. */
enum {
  SDIE_ALL_ROUNDS = 0,
  SDIE_NO_TIME = 1 /* the next round would not have ended before the deadline */
};

typedef struct sdie_report {
  size_t size;    /* sizeof(sdie_report), set by the caller */
  int32_t rounds; /* done, of those wanted */
  int32_t wanted;
  int32_t reason;      /* SDIE_ALL_ROUNDS or SDIE_NO_TIME */
  int32_t late;        /* 1: the call ended after the deadline */
  uint64_t latency_ns; /* from the frame's start to the end of the call */
  uint64_t busy_ns;    /* from the call to its end */
  uint64_t next_ns;    /* what the plan expects of one round more */
} sdie_report;

/* Enhances one frame. src and dst do not overlap; lines are src_stride and dst_stride bytes apart (negative: from the
 * bottom; 0: as configured). dst is always written: before each round the plan compares what is left of the deadline
 * with what such rounds have taken, and stops where it would not suffice. Where not even the first fits, the status is
 * still SDIE_OK and dst is src in the output's format: look at the report. report may be NULL.
 * It allocates nothing and takes no lock. */
SDIE_API sdie_status sdie_plan_run(sdie_plan* plan, const void* src, int64_t src_stride, void* dst, int64_t dst_stride,
                                   sdie_report* report);
/* The same for a frame that started at since_ns: when it was due, or when its last line was exposed. Deadline and
 * latency count from there. 0, or a time in the future, means: from the call. Where frames wait for each other, the
 * wait is then in the figures. */
SDIE_API sdie_status sdie_plan_run_since(sdie_plan* plan, const void* src, int64_t src_stride, void* dst,
                                         int64_t dst_stride, uint64_t since_ns, sdie_report* report);

/* Changes the recipe between two frames, from any thread, also while the plan runs. weights: rounds rows of `filters`
 * columns; at most the config's rounds, and filters of the config. It allocates, in the calling thread alone. */
SDIE_API sdie_status sdie_plan_set_weights(sdie_plan* plan, const float* weights, int32_t rounds, int32_t filters);

typedef struct sdie_stats {
  size_t size;     /* sizeof(sdie_stats), set by the caller */
  uint64_t frames; /* that were written */
  uint64_t late;   /* of them, after the deadline */
  uint64_t shortened;
  uint64_t unenhanced; /* of the shortened, without any round: the output is the input */
  uint64_t rounds;     /* done, in all frames */
  uint64_t refused;    /* calls */
  /* Latency. Percentiles come from a histogram and are at most 0.8% too high; the two ends and the mean are exact. */
  uint64_t min_ns, p50_ns, p90_ns, p99_ns, p999_ns, max_ns;
  double mean_ns;
} sdie_stats;

/* From any thread, also while the plan runs. */
SDIE_API sdie_status sdie_plan_stats(const sdie_plan* plan, sdie_stats* stats);
/* Any percentile in [0, 100] of the latency in nanoseconds; 0 without frames. */
SDIE_API uint64_t sdie_plan_percentile(const sdie_plan* plan, double percentile);
/* Starts the counts anew; a frame in flight may be in the old or the new ones. */
SDIE_API sdie_status sdie_plan_reset_stats(sdie_plan* plan);

/* Ends the threads and gives the memory back. While a call is in the plan it is refused with SDIE_BUSY and the plan
 * stays. NULL is accepted. */
SDIE_API sdie_status sdie_plan_destroy(sdie_plan* plan);

/* ---- streams -------------------------------------------------------------------------------------------------- */

/* Where the statistics of the spatiogram filter come from. */
enum {
  SDIE_OF_STRIP = 0, /* every strip with its context is a picture of its own */
  SDIE_ROLLING = 1,  /* those of all lines so far, older ones fading by half in every `half_life` lines */
  SDIE_FROZEN = 2    /* those of the lines given to sdie_stream_learn */
};

typedef struct sdie_stream_config {
  size_t size;              /* of the struct in the caller's header; set by sdie_stream_config_init, as is all else */
  const sdie_config* frame; /* as for a plan; its height is not used, and its deadline is each strip's */
  int32_t strip;            /* lines that are enhanced at once; init sets 256 */
  int32_t context; /* lines above and below that they are enhanced with; -1, which init sets: what the recipe needs */
  int32_t statistics; /* SDIE_ROLLING */
  int32_t half_life;  /* lines; init sets 4096 */
  int32_t capacity;   /* finished lines that are held until they are pulled; 0, which init sets: twice a strip */
} sdie_stream_config;

SDIE_API sdie_status sdie_stream_config_init(sdie_stream_config* config, size_t size);

typedef struct sdie_stream sdie_stream;

/* Takes all memory, as a plan does: however many lines follow, no more is taken. The config and its frame may be freed
 * afterwards. */
SDIE_API sdie_status sdie_stream_create(const sdie_stream_config* config, sdie_stream** stream);

/* Lines that have to be pushed after a line, at most, until it can be pulled: strip + context - 1. */
SDIE_API int32_t sdie_stream_latency(const sdie_stream* stream);
SDIE_API int32_t sdie_stream_context(const sdie_stream* stream);

/* Takes lines, stride bytes apart (0: as configured), and enhances the strips that they complete. taken: how many were
 * taken, fewer than count with SDIE_FULL. */
SDIE_API sdie_status sdie_stream_push(sdie_stream* stream, const void* src, int64_t src_stride, int64_t count,
                                      int64_t* taken);
/* Writes up to `count` finished lines, the oldest first; got: how many. SDIE_EMPTY where there are none. */
SDIE_API sdie_status sdie_stream_pull(sdie_stream* stream, void* dst, int64_t dst_stride, int64_t count, int64_t* got);
/* The web ends here: enhances the lines that are left, which sdie_stream_pull then gives. SDIE_FULL: pull and call it
 * again. After it the stream is ready for another web. */
SDIE_API sdie_status sdie_stream_finish(sdie_stream* stream);

/* Takes the spatiogram's statistics from `lines` lines of reference material, for SDIE_FROZEN. */
SDIE_API sdie_status sdie_stream_learn(sdie_stream* stream, const void* src, int64_t src_stride, int64_t lines);

/* As the functions of a plan. A frame is a strip; its latency is counted from the push that completed it. */
SDIE_API sdie_status sdie_stream_set_weights(sdie_stream* stream, const float* weights, int32_t rounds,
                                             int32_t filters);
SDIE_API sdie_status sdie_stream_stats(const sdie_stream* stream, sdie_stats* stats);
SDIE_API sdie_status sdie_stream_destroy(sdie_stream* stream);

#if defined(__cplusplus)
}
#endif
#endif
