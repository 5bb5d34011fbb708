#define SDIE_ISA x86_64_v3
#define SDIE_ISA_NAME "x86-64-v3"
#include "../filters/all.inl"
