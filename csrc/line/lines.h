// Lines of pixels in the buffers of Python objects.
#pragma once
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <string>

#include "sdie_fast.h"

namespace sdie {

// Raises an error of sdie_fast/errors.py.
[[noreturn]] inline void fail(const char* kind, const std::string& words) {
  const nanobind::object type = nanobind::module_::import_("sdie_fast.errors").attr(kind);
  PyErr_SetString(type.ptr(), words.c_str());
  throw nanobind::python_error();
}

// A line of pixels as an array has it: `width` elements, or groups of `channels` where that is not 0.
struct Row {
  char type;  // of struct's letters: B, H or f
  Py_ssize_t item, width, channels;
};

inline Row row_of(sdie_format format, std::int32_t width) {
  switch (format) {
    case SDIE_MONO10:
    case SDIE_MONO12:
    case SDIE_MONO14:
    case SDIE_MONO16:
      return {'H', 2, width, 0};
    case SDIE_FLOAT32:
      return {'f', 4, width, 0};
    case SDIE_RGB8:
    case SDIE_BGR8:
      return {'B', 1, width, 3};
    default:
      return {'B', 1, static_cast<Py_ssize_t>(sdie_line_bytes(format, width)), 0};
  }
}

inline const char* dtype_of(const Row& row) {
  return row.type == 'B' ? "uint8" : row.type == 'H' ? "uint16" : "float32";
}

inline std::string shape_of(const Py_ssize_t* sizes, int axes) {
  std::string words = "(";
  for (int k = 0; k < axes; ++k) words += (k ? ", " : "") + std::to_string(sizes[k]);
  return words + (axes == 1 ? ",)" : ")");
}

// The buffer of an array of lines, held while it lives. Neighbouring pixels lie side by side; lines lie anywhere.
class Lines {
 public:
  // count: of the lines; below 0: any number.
  Lines(const char* name, nanobind::handle array, const Row& row, Py_ssize_t count, bool write) {
    if (PyObject_GetBuffer(array.ptr(), &view_, write ? PyBUF_RECORDS : PyBUF_RECORDS_RO)) {
      PyErr_Clear();
      const std::string type = nanobind::cast<std::string>(array.type().attr("__name__"));
      fail("InvalidTypeError", std::string(name) + ": received an object of type " + type + "; accepted: a " +
                                   (write ? "writable " : "") + "numpy.ndarray of " + dtype_of(row));
    }
    if (const std::string wrong = refusal(row, count); !wrong.empty()) {
      const std::string told = std::string(name) + ": received " + wrong + "; accepted: " + accepted(row, count);
      const bool type = !of_type(row);
      PyBuffer_Release(&view_);
      fail(type ? "InvalidTypeError" : "InvalidArgumentError", told);
    }
  }
  ~Lines() { PyBuffer_Release(&view_); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;

  void* data() const { return view_.buf; }
  Py_ssize_t count() const { return view_.shape[0]; }
  std::int64_t stride() const { return count() > 1 ? view_.strides[0] : 0; }

 private:
  bool of_type(const Row& row) const {
    const char* format = view_.format ? view_.format : "B";
    if (*format == '@' || *format == '=') ++format;
    return format[0] == row.type && format[1] == 0 && view_.itemsize == row.item;
  }
  bool of_shape(const Row& row, Py_ssize_t count) const {
    return view_.ndim == (row.channels ? 3 : 2) && (count < 0 || view_.shape[0] == count) &&
           view_.shape[1] == row.width && (!row.channels || view_.shape[2] == row.channels);
  }
  // Strides of axes of one element are not looked at, since nobody steps along them.
  bool side_by_side(const Row& row) const {
    const Py_ssize_t pixel = row.item * std::max<Py_ssize_t>(row.channels, 1);
    return (row.width == 1 || view_.strides[1] == pixel) && (!row.channels || view_.strides[2] == row.item);
  }

  std::string type() const {
    const nanobind::object own = nanobind::getattr(nanobind::handle(view_.obj), "dtype", nanobind::none());
    return own.is_none() ? (view_.format ? view_.format : "B") : nanobind::str(own).c_str();
  }
  std::string refusal(const Row& row, Py_ssize_t count) const {
    if (!of_type(row)) return "elements of type " + type();
    if (!of_shape(row, count)) return "an array of shape " + shape_of(view_.shape, view_.ndim);
    if (!side_by_side(row)) return "pixels " + std::to_string(view_.strides[1]) + " bytes apart within a line";
    if (view_.shape[0] > 1 && view_.strides[0] == 0) return "one line that is repeated (stride 0)";
    return "";
  }
  static std::string accepted(const Row& row, Py_ssize_t count) {
    const std::string lines = count < 0 ? "any number" : std::to_string(count);
    return std::string("an array of ") + dtype_of(row) + " of shape (" + lines + ", " + std::to_string(row.width) +
           (row.channels ? ", " + std::to_string(row.channels) : "") + "), the pixels of a line side by side";
  }

  Py_buffer view_ = {};
};

}  // namespace sdie
