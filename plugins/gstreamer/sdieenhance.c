/* sdieenhance: GStreamer's video through a recipe of libsdie_fast.
 *
 *   gst-launch-1.0 videotestsrc ! sdieenhance recipe=default.line deadline-ms=20 ! filesink location=out.raw
 *
 * Without a recipe, frames pass as they are. A frame that the deadline shortened, or that was late, is handed on like
 * all others and told by a QoS message. */
#include <gst/gst.h>
#include <gst/video/gstvideofilter.h>
#include <gst/video/video.h>
#include <sdie_fast.h>

#define SDIE_TYPE_ENHANCE (sdie_enhance_get_type())
G_DECLARE_FINAL_TYPE(SdieEnhance, sdie_enhance, SDIE, ENHANCE, GstVideoFilter)

struct _SdieEnhance {
  GstVideoFilter parent;
  /* Properties; under the object's lock, as `plan` is where it is exchanged or read by other threads. */
  gchar* recipe;
  gint threads;
  gdouble deadline_ms;
  sdie_config config; /* with the recipe; of the streaming thread */
  sdie_plan* plan;    /* for the caps in force; its counts stay to be read until the next ones */
};

G_DEFINE_TYPE(SdieEnhance, sdie_enhance, GST_TYPE_VIDEO_FILTER)

enum { PROPERTY_RECIPE = 1, PROPERTY_THREADS, PROPERTY_DEADLINE, PROPERTY_STATS };

#define CAPS GST_VIDEO_CAPS_MAKE("{ GRAY8, GRAY16_LE, RGB, BGR }")
static GstStaticPadTemplate sink_template =
    GST_STATIC_PAD_TEMPLATE("sink", GST_PAD_SINK, GST_PAD_ALWAYS, GST_STATIC_CAPS(CAPS));
static GstStaticPadTemplate source_template =
    GST_STATIC_PAD_TEMPLATE("src", GST_PAD_SRC, GST_PAD_ALWAYS, GST_STATIC_CAPS(CAPS));

/* The words of the refused call, in the pipeline's message. */
#define REFUSED(self, domain, code, what)                                 \
  do {                                                                    \
    gchar why[512];                                                       \
    sdie_message(why, sizeof why);                                        \
    GST_ELEMENT_ERROR(self, domain, code, ("%s: %s", what, why), (NULL)); \
  } while (0)

static sdie_format format_of(const GstVideoInfo* info) {
  switch (GST_VIDEO_INFO_FORMAT(info)) {
    case GST_VIDEO_FORMAT_GRAY8:
      return SDIE_MONO8;
    case GST_VIDEO_FORMAT_GRAY16_LE:
      return SDIE_MONO16;
    case GST_VIDEO_FORMAT_RGB:
      return SDIE_RGB8;
    case GST_VIDEO_FORMAT_BGR:
      return SDIE_BGR8;
    default:
      return 0;
  }
}

static void exchange_plan(SdieEnhance* self, sdie_plan* plan) {
  GST_OBJECT_LOCK(self);
  sdie_plan* before = self->plan;
  self->plan = plan;
  GST_OBJECT_UNLOCK(self);
  sdie_plan_destroy(before);
}

static gboolean sdie_enhance_start(GstBaseTransform* transform) {
  SdieEnhance* self = SDIE_ENHANCE(transform);
  GST_OBJECT_LOCK(self);
  gchar* recipe = g_strdup(self->recipe);
  const gint threads = self->threads;
  const gdouble deadline_ms = self->deadline_ms;
  GST_OBJECT_UNLOCK(self);
  gst_base_transform_set_passthrough(transform, recipe == NULL);
  gboolean good = TRUE;
  if (sdie_config_init(&self->config, sizeof self->config) != SDIE_OK) {
    REFUSED(self, LIBRARY, INIT, "sdie_config_init");
    good = FALSE;
  } else if (recipe && sdie_config_load(&self->config, recipe) != SDIE_OK) {
    REFUSED(self, RESOURCE, OPEN_READ, "recipe");
    good = FALSE;
  }
  self->config.threads = threads;
  self->config.deadline_ns = (uint64_t)(deadline_ms * 1e6);
  g_free(recipe);
  return good;
}

static gboolean sdie_enhance_set_info(GstVideoFilter* filter, GstCaps* in_caps, GstVideoInfo* in, GstCaps* out_caps,
                                      GstVideoInfo* out) {
  SdieEnhance* self = SDIE_ENHANCE(filter);
  (void)in_caps, (void)out_caps, (void)out;
  if (gst_base_transform_is_passthrough(GST_BASE_TRANSFORM(filter))) return TRUE;
  self->config.width = GST_VIDEO_INFO_WIDTH(in);
  self->config.height = GST_VIDEO_INFO_HEIGHT(in);
  self->config.input = format_of(in);
  sdie_plan* plan = NULL;
  if (sdie_plan_create(&self->config, &plan) != SDIE_OK) {
    REFUSED(self, LIBRARY, SETTINGS, "sdie_plan_create");
    return FALSE;
  }
  exchange_plan(self, plan);
  return TRUE;
}

/* Tells that a frame was shortened or late. */
static void post_qos(SdieEnhance* self, GstBuffer* buffer, const sdie_report* report) {
  const GstSegment* segment = &GST_BASE_TRANSFORM(self)->segment;
  const GstClockTime time = GST_BUFFER_PTS(buffer);
  GstMessage* message = gst_message_new_qos(
      GST_OBJECT(self), FALSE, gst_segment_to_running_time(segment, GST_FORMAT_TIME, time),
      gst_segment_to_stream_time(segment, GST_FORMAT_TIME, time), time, GST_BUFFER_DURATION(buffer));
  const uint64_t deadline = self->config.deadline_ns;
  gst_message_set_qos_values(message, (gint64)report->latency_ns - (gint64)deadline,
                             (gdouble)report->latency_ns / (gdouble)deadline,
                             (gint)((gint64)1000000 * report->rounds / report->wanted));
  sdie_stats stats = {.size = sizeof stats};
  sdie_plan_stats(self->plan, &stats);
  gst_message_set_qos_stats(message, GST_FORMAT_BUFFERS, stats.frames, 0);
  gst_element_post_message(GST_ELEMENT(self), message);
}

static GstFlowReturn sdie_enhance_transform_frame(GstVideoFilter* filter, GstVideoFrame* in, GstVideoFrame* out) {
  SdieEnhance* self = SDIE_ENHANCE(filter);
  sdie_report report = {.size = sizeof report};
  if (sdie_plan_run(self->plan, GST_VIDEO_FRAME_PLANE_DATA(in, 0), GST_VIDEO_FRAME_PLANE_STRIDE(in, 0),
                    GST_VIDEO_FRAME_PLANE_DATA(out, 0), GST_VIDEO_FRAME_PLANE_STRIDE(out, 0), &report) != SDIE_OK) {
    REFUSED(self, STREAM, FAILED, "sdie_plan_run");
    return GST_FLOW_ERROR;
  }
  if (report.late || report.reason != SDIE_ALL_ROUNDS) post_qos(self, in->buffer, &report);
  return GST_FLOW_OK;
}

static GstStructure* stats_of(SdieEnhance* self) {
  sdie_stats stats = {.size = sizeof stats};
  if (self->plan) sdie_plan_stats(self->plan, &stats);
  return gst_structure_new("sdieenhance-stats", "frames", G_TYPE_UINT64, stats.frames, "late", G_TYPE_UINT64,
                           stats.late, "shortened", G_TYPE_UINT64, stats.shortened, "refused", G_TYPE_UINT64,
                           stats.refused, "p50-ns", G_TYPE_UINT64, stats.p50_ns, "p99-ns", G_TYPE_UINT64, stats.p99_ns,
                           "p999-ns", G_TYPE_UINT64, stats.p999_ns, "max-ns", G_TYPE_UINT64, stats.max_ns, NULL);
}

static void sdie_enhance_set_property(GObject* object, guint id, const GValue* value, GParamSpec* spec) {
  SdieEnhance* self = SDIE_ENHANCE(object);
  GST_OBJECT_LOCK(self);
  switch (id) {
    case PROPERTY_RECIPE:
      g_free(self->recipe);
      self->recipe = g_value_dup_string(value);
      break;
    case PROPERTY_THREADS:
      self->threads = g_value_get_int(value);
      break;
    case PROPERTY_DEADLINE:
      self->deadline_ms = g_value_get_double(value);
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
  GST_OBJECT_UNLOCK(self);
}

static void sdie_enhance_get_property(GObject* object, guint id, GValue* value, GParamSpec* spec) {
  SdieEnhance* self = SDIE_ENHANCE(object);
  GST_OBJECT_LOCK(self);
  switch (id) {
    case PROPERTY_RECIPE:
      g_value_set_string(value, self->recipe);
      break;
    case PROPERTY_THREADS:
      g_value_set_int(value, self->threads);
      break;
    case PROPERTY_DEADLINE:
      g_value_set_double(value, self->deadline_ms);
      break;
    case PROPERTY_STATS:
      g_value_take_boxed(value, stats_of(self));
      break;
    default:
      G_OBJECT_WARN_INVALID_PROPERTY_ID(object, id, spec);
  }
  GST_OBJECT_UNLOCK(self);
}

static void sdie_enhance_finalize(GObject* object) {
  SdieEnhance* self = SDIE_ENHANCE(object);
  g_free(self->recipe);
  sdie_plan_destroy(self->plan);
  G_OBJECT_CLASS(sdie_enhance_parent_class)->finalize(object);
}

static void sdie_enhance_class_init(SdieEnhanceClass* class) {
  GObjectClass* object = G_OBJECT_CLASS(class);
  object->set_property = sdie_enhance_set_property;
  object->get_property = sdie_enhance_get_property;
  object->finalize = sdie_enhance_finalize;
  const GParamFlags flags = G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS | GST_PARAM_MUTABLE_READY;
  g_object_class_install_property(
      object, PROPERTY_RECIPE,
      g_param_spec_string("recipe", "Recipe", "File of `sdie-fast export-line`; none: frames pass as they are", NULL,
                          flags));
  g_object_class_install_property(
      object, PROPERTY_THREADS,
      g_param_spec_int("threads", "Threads", "Threads for a frame, at most", 1, 1024, 1, flags));
  g_object_class_install_property(object, PROPERTY_DEADLINE,
                                  g_param_spec_double("deadline-ms", "Deadline",
                                                      "Milliseconds for a frame; fewer rounds are made where all would "
                                                      "take longer. 0: none",
                                                      0.0, 1e6, 0.0, flags));
  g_object_class_install_property(
      object, PROPERTY_STATS,
      g_param_spec_boxed("stats", "Statistics",
                         "Counts of frames and percentiles of their latency, since the caps were "
                         "set",
                         GST_TYPE_STRUCTURE, G_PARAM_READABLE | G_PARAM_STATIC_STRINGS));

  GstElementClass* element = GST_ELEMENT_CLASS(class);
  gst_element_class_add_static_pad_template(element, &sink_template);
  gst_element_class_add_static_pad_template(element, &source_template);
  gst_element_class_set_static_metadata(element, "Industrial surface enhancement", "Filter/Effect/Video",
                                        "Rounds of weighted filters by libsdie_fast, within a deadline",
                                        "The sdie_fast developers");
  GST_BASE_TRANSFORM_CLASS(class)->start = sdie_enhance_start;
  GstVideoFilterClass* filter = GST_VIDEO_FILTER_CLASS(class);
  filter->set_info = sdie_enhance_set_info;
  filter->transform_frame = sdie_enhance_transform_frame;
}

static void sdie_enhance_init(SdieEnhance* self) {
  self->threads = 1;
  /* A frame that a sink would drop as late is still inspected; `qos=true` saves the work. */
  gst_base_transform_set_qos_enabled(GST_BASE_TRANSFORM(self), FALSE);
}

static gboolean plugin_init(GstPlugin* plugin) {
  return gst_element_register(plugin, "sdieenhance", GST_RANK_NONE, SDIE_TYPE_ENHANCE);
}

#define PACKAGE "sdie_fast"
GST_PLUGIN_DEFINE(GST_VERSION_MAJOR, GST_VERSION_MINOR, sdiefast, "Enhancement of industrial surface photographs",
                  plugin_init, SDIE_RELEASE, "Apache 2.0", PACKAGE, "Unknown package origin")
