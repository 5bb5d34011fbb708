/* Frames of a line through a recipe, in C99: the least that an inspection program needs.
 *
 *   line [-r RECIPE.line] [-s WIDTHxHEIGHT] [-n FRAMES] [-i IN.raw] [-o OUT.raw] [-t THREADS] [-d DEADLINE_MS]
 *
 * IN.raw holds frames of Mono8, one after another; without it the frames are drawn here. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <sdie_fast.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Ends the program with the library's words, where a call was refused. */
static void check(sdie_status status, const char* call) {
  if (status >= 0) return;
  char why[512];
  sdie_message(why, sizeof why);
  fprintf(stderr, "%s: %s\n", call, why);
  exit(1);
}

static FILE* opened(const char* path, const char* mode) {
  FILE* file = fopen(path, mode);
  if (!file) {
    perror(path);
    exit(1);
  }
  return file;
}

/* A surface with a scratch that moves, in place of a camera. */
static void draw(uint8_t* frame, int32_t width, int32_t height, int number) {
  for (int32_t y = 0; y < height; y++)
    for (int32_t x = 0; x < width; x++) {
      const int noise = (x * 73 + y * 151 + number * 37) % 23;
      const int scratch = (x + y + 8 * number) % 211 < 3 ? 40 : 0;
      frame[(size_t)y * (size_t)width + (size_t)x] = (uint8_t)(110 + noise - scratch);
    }
}

int main(int argc, char** argv) {
  const char *recipe = NULL, *in = NULL, *out = NULL;
  int frames = 100;
  sdie_config config;
  check(sdie_config_init(&config, sizeof config), "sdie_config_init");
  config.width = 1024;
  config.height = 1024;
  config.input = SDIE_MONO8; /* the output is the same, unless config.output says otherwise */

  int option;
  while ((option = getopt(argc, argv, "r:s:n:i:o:t:d:")) != -1) switch (option) {
      case 'r':
        recipe = optarg;
        break;
      case 's':
        if (sscanf(optarg, "%" SCNd32 "x%" SCNd32, &config.width, &config.height) != 2) config.width = 0;
        break;
      case 'n':
        frames = atoi(optarg);
        break;
      case 'i':
        in = optarg;
        break;
      case 'o':
        out = optarg;
        break;
      case 't':
        config.threads = atoi(optarg);
        break;
      case 'd':
        config.deadline_ns = (uint64_t)(atof(optarg) * 1e6);
        break;
      default:
        return 2;
    }

  if (recipe) {
    check(sdie_config_load(&config, recipe), "sdie_config_load");
  } else { /* two rounds, set in code */
    config.rounds = 2;
    for (int k = 0; k < config.rounds; k++) {
      config.weights[k][SDIE_IDENTITY] = 0.4f;
      config.weights[k][SDIE_BILATERAL] = 0.3f;
      config.weights[k][SDIE_SHARPEN] = 0.3f;
    }
    check(sdie_config_set(&config, "bilateral_sigma_range", "0.1"), "sdie_config_set");
  }

  /* All memory and all threads are taken here; from now on nothing is allocated. */
  sdie_plan* plan;
  check(sdie_plan_create(&config, &plan), "sdie_plan_create");
  const size_t bytes = sdie_line_bytes(config.input, config.width) * (size_t)config.height;
  uint8_t* src = malloc(bytes);
  uint8_t* dst = malloc(bytes);
  if (!src || !dst) return 1;
  FILE* source = in ? opened(in, "rb") : NULL;
  FILE* target = out ? opened(out, "wb") : NULL;
  printf("libsdie_fast %s, %s; %" PRId32 " x %" PRId32 " %s, %" PRId32 " rounds\n", sdie_version_text(), sdie_isa(),
         config.width, config.height, sdie_format_name(config.input), config.rounds);

  sdie_report report = {.size = sizeof report};
  for (int number = 0; number < frames; number++) {
    if (!source)
      draw(src, config.width, config.height, number);
    else if (fread(src, 1, bytes, source) != bytes)
      break;
    check(sdie_plan_run(plan, src, 0, dst, 0, &report), "sdie_plan_run");
    if (report.reason == SDIE_NO_TIME)
      printf("frame %d: %" PRId32 " of %" PRId32 " rounds, since one more takes about %.2f ms\n", number, report.rounds,
             report.wanted, (double)report.next_ns * 1e-6);
    if (report.late) printf("frame %d: late, %.2f ms\n", number, (double)report.latency_ns * 1e-6);
    if (target && fwrite(dst, 1, bytes, target) != bytes) {
      perror(out);
      return 1;
    }
  }

  sdie_stats stats = {.size = sizeof stats};
  check(sdie_plan_stats(plan, &stats), "sdie_plan_stats");
  printf("%" PRIu64 " frames, %" PRIu64 " late, %" PRIu64
         " shortened; p50 %.3f ms, p99 %.3f ms, p99.9 %.3f ms, "
         "max %.3f ms\n",
         stats.frames, stats.late, stats.shortened, (double)stats.p50_ns * 1e-6, (double)stats.p99_ns * 1e-6,
         (double)stats.p999_ns * 1e-6, (double)stats.max_ns * 1e-6);
  if (target && fclose(target) != 0) {
    perror(out);
    return 1;
  }
  if (source) fclose(source);
  free(dst);
  free(src);
  check(sdie_plan_destroy(plan), "sdie_plan_destroy");
  return 0;
}
