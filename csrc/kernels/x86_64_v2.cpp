#define SDIE_ISA x86_64_v2
#define SDIE_ISA_NAME "x86-64-v2"
#include "../filters/all.inl"
