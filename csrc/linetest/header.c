/* The header alone in C99: a frame through a plan. */
#include "../../include/sdie_fast.h"

int header_in_c(void);

int header_in_c(void) {
  enum { kSide = 16 };
  const sdie_report empty = {sizeof(sdie_report), 0, 0, 0, 0, 0, 0, 0};
  sdie_report report = empty;
  unsigned char src[kSide * kSide], dst[kSide * kSide];
  sdie_config config;
  sdie_plan* plan = NULL;
  int k, same = 1;
  if (sdie_version() != SDIE_VERSION_MAJOR * 1000 + SDIE_VERSION_MINOR) return 1;
  if (sdie_config_init(&config, sizeof config) != SDIE_OK) return 2;
  config.width = kSide;
  config.height = kSide;
  if (sdie_config_set(&config, "wls_solver", "fast") != SDIE_OK) return 3;
  if (sdie_plan_create(&config, &plan) != SDIE_OK) return 4;
  for (k = 0; k < kSide * kSide; ++k) src[k] = (unsigned char)(k * 7 % 256);
  if (sdie_plan_run(plan, src, 0, dst, 0, &report) != SDIE_OK || report.rounds != 1) return 5;
  for (k = 0; k < kSide * kSide; ++k) same = same && src[k] == dst[k];
  if (!same) return 6;
  return sdie_plan_destroy(plan) == SDIE_OK ? 0 : 7;
}
