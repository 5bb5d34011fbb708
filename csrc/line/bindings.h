// Plans and streams of the line in the Python module.
#pragma once
#include <nanobind/nanobind.h>

namespace sdie {
void bind_line(nanobind::module_& m);
}  // namespace sdie
