#define SDIE_ISA x86_64_v4
#define SDIE_ISA_NAME "x86-64-v4"
#include "../filters/all.inl"
