/* A recipe with a network, in C: for every frame ONNX Runtime runs the recipe's actor, whose answer becomes the weights
 * of all rounds (a recipe of kind "schedule": it looks at the frame once).
 *
 *   network ACTOR.onnx WIDTH HEIGHT IN.raw OUT.raw [PARAMETER=VALUE ...]
 *
 * IN.raw holds frames of Mono8. PARAMETER=VALUE are the recipe's ("bilateral_footprint=square").
 *
 * A recipe of kind "policy" answers for one round at a time and sees the round's picture: give each round a
 * sdie_plan_set_weights and a sdie_plan_run of its own, with SDIE_FLOAT32 in between. */
#include <inttypes.h>
#include <math.h>
#include <onnxruntime_c_api.h>
#include <sdie_fast.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const OrtApi* ort;

static void check(sdie_status status, const char* call) {
  if (status >= 0) return;
  char why[512];
  sdie_message(why, sizeof why);
  fprintf(stderr, "%s: %s\n", call, why);
  exit(1);
}

static void check_network(OrtStatus* status) {
  if (!status) return;
  fprintf(stderr, "onnxruntime: %s\n", ort->GetErrorMessage(status));
  exit(1);
}

static void fail(const char* what, const char* why) {
  fprintf(stderr, "%s: %s\n", what, why);
  exit(1);
}

/* Means of equal parts of a line, `step` bytes apart, rounded to whole levels: sum * 2^22 / length, as Pillow's BOX
 * filter computes it, which actors were trained with. */
static void means(const uint8_t* from, size_t step, int32_t length, uint8_t* to, size_t to_step, int32_t side) {
  const double scale = (double)length / side, half = scale > 1.0 ? scale / 2.0 : 0.5;
  for (int32_t k = 0; k < side; k++) {
    const double centre = (k + 0.5) * scale;
    int32_t first = (int32_t)fmax(centre - half + 0.5, 0.0), last = (int32_t)fmin(centre + half + 0.5, length);
    const int32_t end = last;
    /* A pixel whose middle lies on the left edge belongs to the part before. */
    while (!((first - centre + 0.5) / (2.0 * half) > -0.5)) first++;
    for (last = first; last < end && (last - centre + 0.5) / (2.0 * half) <= 0.5;) last++;
    uint32_t sum = 0;
    for (int32_t at = first; at < last; at++) sum += from[(size_t)at * step];
    const uint32_t share = (uint32_t)(0.5 + 4194304.0 / (last - first));
    to[(size_t)k * to_step] = (uint8_t)((sum * (uint64_t)share + 2097152) >> 22);
  }
}

/* What the actor sees: the frame as side x side means. */
static void observe(const uint8_t* frame, int32_t width, int32_t height, uint8_t* rows, uint8_t* seen, int32_t side) {
  for (int32_t y = 0; y < height; y++)
    means(frame + (size_t)y * (size_t)width, 1, width, rows + (size_t)y * (size_t)side, 1, side);
  for (int32_t x = 0; x < side; x++) means(rows + x, (size_t)side, height, seen + x, (size_t)side, side);
}

/* Weights of a round's actions in [-1, 1]: (a + 1) / sum(a + 1); where the sum is below 0.001, what is missing is
 * spread evenly. */
static void weights_of(const float* actions, float* weights, int32_t filters) {
  double raw[SDIE_MAX_FILTERS], sum = 0.0, all = 0.0;
  for (int32_t k = 0; k < filters; k++) sum += raw[k] = fmin(fmax((double)actions[k], -1.0), 1.0) + 1.0;
  for (int32_t k = 0; k < filters; k++) all += raw[k] += fmax(1e-3 - sum, 0.0) / filters;
  for (int32_t k = 0; k < filters; k++) weights[k] = (float)(raw[k] / all);
}

/* The sizes of an input or output of the actor. */
static size_t shape_of(OrtStatus* status, OrtTypeInfo** type, int64_t sizes[3]) {
  check_network(status);
  const OrtTensorTypeAndShapeInfo* info;
  size_t count;
  check_network(ort->CastTypeInfoToTensorInfo(*type, &info));
  check_network(ort->GetDimensionsCount(info, &count));
  if (count == 3) check_network(ort->GetDimensions(info, sizes, count));
  ort->ReleaseTypeInfo(*type);
  return count;
}

int main(int argc, char** argv) {
  if (argc < 6) {
    fprintf(stderr, "usage: %s ACTOR.onnx WIDTH HEIGHT IN.raw OUT.raw [PARAMETER=VALUE ...]\n", argv[0]);
    return 2;
  }
  /* The header's version or an older one: a newer library serves it. */
  ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
  if (!ort) fail("onnxruntime", "the library is older than the header");
  OrtEnv* env;
  OrtSessionOptions* options;
  OrtSession* session;
  check_network(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "network", &env));
  check_network(ort->CreateSessionOptions(&options));
  check_network(ort->SetIntraOpNumThreads(options, 1)); /* the actor is small, and cores belong to the filters */
  check_network(ort->CreateSession(env, argv[1], options, &session));

  /* "observation", uint8, 1 x side x side; "action", float, 1 x rounds x filters. */
  OrtTypeInfo* type;
  int64_t in[3], out[3];
  if (shape_of(ort->SessionGetInputTypeInfo(session, 0, &type), &type, in) != 3 || in[1] != in[2] || in[1] < 1 ||
      shape_of(ort->SessionGetOutputTypeInfo(session, 0, &type), &type, out) != 3 || out[1] < 1 ||
      out[1] > SDIE_MAX_ROUNDS || out[2] < 1 || out[2] > 6)
    fail(argv[1], "not an actor of a schedule that chooses weights alone");
  const int32_t side = (int32_t)in[1], rounds = (int32_t)out[1], filters = (int32_t)out[2];

  sdie_config config;
  check(sdie_config_init(&config, sizeof config), "sdie_config_init");
  config.width = atoi(argv[2]);
  config.height = atoi(argv[3]);
  config.rounds = rounds;
  for (int32_t k = 0; k < rounds; k++) config.weights[k][SDIE_IDENTITY] = 1.0f; /* until the first answer */
  config.filters = (1u << filters) - 1;                                         /* that the actor may choose */
  for (int k = 6; k < argc; k++) {
    char* value = strchr(argv[k], '=');
    if (!value) fail(argv[k], "accepted: PARAMETER=VALUE");
    *value++ = '\0';
    check(sdie_config_set(&config, argv[k], value), "sdie_config_set");
  }
  sdie_plan* plan;
  check(sdie_plan_create(&config, &plan), "sdie_plan_create");

  const size_t bytes = sdie_line_bytes(config.input, config.width) * (size_t)config.height;
  uint8_t *src = malloc(bytes), *dst = malloc(bytes);
  uint8_t *rows = malloc((size_t)config.height * (size_t)side), *seen = malloc((size_t)side * (size_t)side);
  FILE *source = fopen(argv[4], "rb"), *target = fopen(argv[5], "wb");
  if (!src || !dst || !rows || !seen) fail("malloc", "no memory");
  if (!source) fail(argv[4], "cannot be read");
  if (!target) fail(argv[5], "cannot be written");
  OrtMemoryInfo* cpu;
  OrtValue* observation;
  const int64_t shape[3] = {1, side, side};
  check_network(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &cpu));
  check_network(ort->CreateTensorWithDataAsOrtValue(cpu, seen, (size_t)side * (size_t)side, shape, 3,
                                                    ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, &observation));

  const char *input = "observation", *output = "action";
  while (fread(src, 1, bytes, source) == bytes) {
    OrtValue* answer = NULL;
    float *actions, weights[SDIE_MAX_ROUNDS * SDIE_MAX_FILTERS];
    observe(src, config.width, config.height, rows, seen, side);
    check_network(ort->Run(session, NULL, &input, (const OrtValue* const*)&observation, 1, &output, 1, &answer));
    check_network(ort->GetTensorMutableData(answer, (void**)&actions));
    for (int32_t k = 0; k < rounds; k++) weights_of(actions + k * filters, weights + k * filters, filters);
    ort->ReleaseValue(answer);
    check(sdie_plan_set_weights(plan, weights, rounds, filters), "sdie_plan_set_weights");
    check(sdie_plan_run(plan, src, 0, dst, 0, NULL), "sdie_plan_run");
    if (fwrite(dst, 1, bytes, target) != bytes) fail(argv[5], "cannot be written");
  }

  sdie_stats stats = {.size = sizeof stats};
  check(sdie_plan_stats(plan, &stats), "sdie_plan_stats");
  printf("%" PRIu64 " frames of %" PRId32 " x %" PRId32 ", %" PRId32 " rounds each: p50 %.3f ms, max %.3f ms\n",
         stats.frames, config.width, config.height, rounds, (double)stats.p50_ns * 1e-6, (double)stats.max_ns * 1e-6);
  if (fclose(target) != 0) fail(argv[5], "cannot be written");
  fclose(source);
  ort->ReleaseValue(observation);
  ort->ReleaseMemoryInfo(cpu);
  ort->ReleaseSession(session);
  ort->ReleaseSessionOptions(options);
  ort->ReleaseEnv(env);
  free(seen);
  free(rows);
  free(dst);
  free(src);
  check(sdie_plan_destroy(plan), "sdie_plan_destroy");
  return 0;
}
