/* A GenICam camera's frames through a recipe, grabbed by Aravis; buffers are enhanced where they lie.
 *
 *   grab [-r RECIPE.line] [-n FRAMES] [-t THREADS] [-d DEADLINE_MS] [-i IN.raw] [-o OUT.raw] CAMERA PIXEL_FORMAT
 *
 * CAMERA is an id that `arv-tool-0.8` lists ("Basler-21345", an address), or Fake_1, Aravis' own; PIXEL_FORMAT one of
 * the camera's: Mono8, Mono12p, ... Enhanced frames are Mono8. With -i and -o the frames are kept, as they came and as
 * they were enhanced. Ctrl-C ends it. */
#include <arv.h>
#include <inttypes.h>
#include <sdie_fast.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFERS = 8 }; /* that Aravis fills in turn: as many frames may wait while one is enhanced */

static volatile sig_atomic_t stopped;
static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

static void check(sdie_status status, const char* call) {
  if (status >= 0) return;
  char why[512];
  sdie_message(why, sizeof why);
  fprintf(stderr, "%s: %s\n", call, why);
  exit(1);
}

static void check_camera(GError* error, const char* call) {
  if (!error) return;
  fprintf(stderr, "%s: %s\n", call, error->message);
  exit(1);
}

static FILE* opened(const char* path) {
  FILE* file = path ? fopen(path, "wb") : NULL;
  if (path && !file) {
    perror(path);
    exit(1);
  }
  return file;
}

static void keep(FILE* file, const void* bytes, size_t count) {
  if (file && fwrite(bytes, 1, count, file) != count) {
    perror("fwrite");
    exit(1);
  }
}

int main(int argc, char** argv) {
  const char *recipe = NULL, *in = NULL, *out = NULL;
  guint64 frames = 0; /* 0: until Ctrl-C */
  sdie_config config;
  check(sdie_config_init(&config, sizeof config), "sdie_config_init");
  int option;
  while ((option = getopt(argc, argv, "r:n:t:d:i:o:")) != -1) switch (option) {
      case 'r':
        recipe = optarg;
        break;
      case 'n':
        frames = strtoull(optarg, NULL, 10);
        break;
      case 't':
        config.threads = atoi(optarg);
        break;
      case 'd':
        config.deadline_ns = (uint64_t)(atof(optarg) * 1e6);
        break;
      case 'i':
        in = optarg;
        break;
      case 'o':
        out = optarg;
        break;
      default:
        return 2;
    }
  if (argc - optind != 2) {
    fprintf(stderr, "usage: %s [-r RECIPE.line] [-n FRAMES] ... CAMERA PIXEL_FORMAT\n", argv[0]);
    return 2;
  }
  const char *id = argv[optind], *format = argv[optind + 1];

  /* GenICam's names of pixel formats are the library's. */
  config.input = sdie_format_named(format);
  config.output = SDIE_MONO8;
  if (!config.input) {
    fprintf(stderr, "%s: not a format of sdie_fast.h\n", format);
    return 1;
  }

  GError* error = NULL;
  if (strncmp(id, "Fake", 4) == 0) arv_enable_interface("Fake");
  ArvCamera* camera = arv_camera_new(id, &error);
  check_camera(error, id);
  arv_camera_set_pixel_format_from_string(camera, format, &error);
  check_camera(error, format);
  gint x, y, width, height;
  arv_camera_get_region(camera, &x, &y, &width, &height, &error);
  check_camera(error, "arv_camera_get_region");
  config.width = width;
  config.height = height;

  if (recipe) {
    check(sdie_config_load(&config, recipe), "sdie_config_load");
  } else {
    config.weights[0][SDIE_IDENTITY] = 0.5f;
    config.weights[0][SDIE_BILATERAL] = 0.5f;
  }
  sdie_plan* plan;
  check(sdie_plan_create(&config, &plan), "sdie_plan_create");
  const size_t line = sdie_line_bytes(config.input, width);
  const size_t enhanced_bytes = sdie_line_bytes(config.output, width) * (size_t)height;
  uint8_t* enhanced = malloc(enhanced_bytes);
  FILE *came = opened(in), *left = opened(out);

  ArvStream* stream = arv_camera_create_stream(camera, NULL, NULL, &error);
  check_camera(error, "arv_camera_create_stream");
  const guint payload = arv_camera_get_payload(camera, &error);
  check_camera(error, "arv_camera_get_payload");
  for (int k = 0; k < BUFFERS; k++) arv_stream_push_buffer(stream, arv_buffer_new_allocate(payload));
  arv_camera_set_acquisition_mode(camera, ARV_ACQUISITION_MODE_CONTINUOUS, &error);
  check_camera(error, "arv_camera_set_acquisition_mode");
  signal(SIGINT, stop);
  arv_camera_start_acquisition(camera, &error);
  check_camera(error, "arv_camera_start_acquisition");

  guint64 good = 0, bad = 0, good_before = 0;
  uint64_t tick = sdie_clock();
  while (!stopped && (frames == 0 || good < frames)) {
    ArvBuffer* buffer = arv_stream_timeout_pop_buffer(stream, 1000000);
    if (buffer && arv_buffer_get_status(buffer) == ARV_BUFFER_STATUS_SUCCESS) {
      size_t bytes;
      const void* pixels = arv_buffer_get_image_data(buffer, &bytes);
      gint padding = 0, padding_y = 0;
      arv_buffer_get_image_padding(buffer, &padding, &padding_y);
      const size_t stride = line + (size_t)padding;
      /* A buffer that is shorter than its lines must not be read to its end. */
      if (bytes < stride * (size_t)(height - 1) + line) {
        fprintf(stderr, "a buffer of %zu bytes for %d lines of %zu\n", bytes, height, stride);
        return 1;
      }
      sdie_report report = {.size = sizeof report};
      check(sdie_plan_run(plan, pixels, (int64_t)stride, enhanced, 0, &report), "sdie_plan_run");
      keep(came, pixels, bytes);
      keep(left, enhanced, enhanced_bytes);
      good++;
    } else if (buffer) {
      bad++; /* packets were lost, or the frame came while no buffer was free */
    }
    if (buffer) arv_stream_push_buffer(stream, buffer);
    const uint64_t now = sdie_clock();
    if (now - tick >= 1000000000) {
      sdie_stats stats = {.size = sizeof stats};
      check(sdie_plan_stats(plan, &stats), "sdie_plan_stats");
      printf("%.1f frames/s, p50 %.2f ms, p99 %.2f ms, %" PRIu64 " late, %" PRIu64 " shortened, %" G_GUINT64_FORMAT
             " incomplete\n",
             (double)(good - good_before) * 1e9 / (double)(now - tick), (double)stats.p50_ns * 1e-6,
             (double)stats.p99_ns * 1e-6, stats.late, stats.shortened, bad);
      fflush(stdout);
      tick = now;
      good_before = good;
    }
  }

  arv_camera_stop_acquisition(camera, NULL);
  guint64 completed, failed, underruns;
  arv_stream_get_statistics(stream, &completed, &failed, &underruns);
  sdie_stats stats = {.size = sizeof stats};
  check(sdie_plan_stats(plan, &stats), "sdie_plan_stats");
  printf("%" PRIu64 " frames of %d x %d %s: p50 %.3f ms, p99 %.3f ms, max %.3f ms, %" PRIu64 " late, %" PRIu64
         " shortened; of the camera's, %" G_GUINT64_FORMAT " failed and %" G_GUINT64_FORMAT " found no buffer\n",
         stats.frames, width, height, format, (double)stats.p50_ns * 1e-6, (double)stats.p99_ns * 1e-6,
         (double)stats.max_ns * 1e-6, stats.late, stats.shortened, failed, underruns);
  g_object_unref(stream);
  g_object_unref(camera);
  if ((came && fclose(came) != 0) || (left && fclose(left) != 0)) {
    perror("fclose");
    return 1;
  }
  free(enhanced);
  check(sdie_plan_destroy(plan), "sdie_plan_destroy");
  return 0;
}
