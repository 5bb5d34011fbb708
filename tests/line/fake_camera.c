/* A GigE Vision camera on this machine that sends packed pixels: Aravis' own simulated one, whose description is given
 * Mono12p and Mono12Packed besides its formats. It serves until its standard input ends. */
#include <arv.h>
#include <stdio.h>
#include <string.h>

typedef struct {
  ArvFakeCamera* camera;
  guint32 state;
} Noise;

/* Bytes that repeat in no two places of a frame, and no two frames. */
static void fill(ArvBuffer* buffer, void* data, guint32 exposure, guint32 gain, ArvPixelFormat format) {
  Noise* noise = data;
  size_t received; /* nothing so far */
  guint8* bytes = (guint8*)arv_buffer_get_data(buffer, &received);
  (void)exposure, (void)gain, (void)format;
  for (size_t k = 0; k < arv_fake_camera_get_payload(noise->camera); k++) {
    noise->state = noise->state * 1664525u + 1013904223u;
    bytes[k] = (guint8)(noise->state >> 24);
  }
}

int main(int argc, char** argv) {
  if (argc != 2) return 2; /* the file for the description */
  GError* error = NULL;
  arv_enable_interface("Fake");
  ArvCamera* model = arv_camera_new("Fake_1", &error);
  if (!model) return 1;
  size_t size;
  const char* description = arv_device_get_genicam_xml(arv_camera_get_device(model), &size);
  const char* place = g_strstr_len(description, (gssize)size, "<EnumEntry Name=\"Mono16\"");
  FILE* file = fopen(argv[1], "wb");
  if (!place || !file) return 1;
  fwrite(description, 1, (size_t)(place - description), file);
  fputs(
      "<EnumEntry Name=\"Mono12p\" NameSpace=\"Standard\"><Value>17563719</Value></EnumEntry>"
      "<EnumEntry Name=\"Mono12Packed\" NameSpace=\"Standard\"><Value>17563654</Value></EnumEntry>",
      file);
  fwrite(place, 1, size - (size_t)(place - description), file);
  fclose(file);
  g_object_unref(model);

  ArvGvFakeCamera* camera = arv_gv_fake_camera_new_full("127.0.0.1", "GV12", argv[1]);
  if (!arv_gv_fake_camera_is_running(camera)) return 1;
  Noise noise = {arv_gv_fake_camera_get_fake_camera(camera), 1};
  arv_fake_camera_set_fill_pattern(noise.camera, fill, &noise);
  puts("running");
  fflush(stdout);
  while (getchar() != EOF) continue;
  g_object_unref(camera);
  return 0;
}
