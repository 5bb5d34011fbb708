// For processors without a build of their own; on aarch64 this is the NEON build.
#define SDIE_ISA baseline
#if defined(__aarch64__)
#define SDIE_ISA_NAME "neon"
#else
#define SDIE_ISA_NAME "baseline"
#endif
#include "../filters/all.inl"
