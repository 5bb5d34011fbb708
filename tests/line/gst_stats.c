/* Runs a pipeline to its end and prints the statistics of its element "enhance". */
#include <gst/gst.h>

int main(int argc, char** argv) {
  gst_init(&argc, &argv);
  GError* error = NULL;
  GstElement* pipeline = gst_parse_launch(argv[1], &error);
  if (error) return 1;
  gst_element_set_state(pipeline, GST_STATE_PLAYING);
  GstBus* bus = gst_element_get_bus(pipeline);
  GstMessage* message = gst_bus_timed_pop_filtered(bus, 60 * GST_SECOND, GST_MESSAGE_EOS | GST_MESSAGE_ERROR);
  if (!message || GST_MESSAGE_TYPE(message) != GST_MESSAGE_EOS) return 1;
  GstElement* enhance = gst_bin_get_by_name(GST_BIN(pipeline), "enhance");
  GstStructure* stats = NULL;
  g_object_get(enhance, "stats", &stats, NULL);
  gchar* text = gst_structure_to_string(stats);
  g_print("%s\n", text);
  g_free(text);
  gst_structure_free(stats);
  gst_element_set_state(pipeline, GST_STATE_NULL);
  gst_object_unref(enhance);
  gst_message_unref(message);
  gst_object_unref(bus);
  gst_object_unref(pipeline);
  return 0;
}
