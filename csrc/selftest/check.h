// One case of the self-test: a picture through the core, held against the oracle.
#pragma once
#include <string>
#include <vector>

#include "images.h"

namespace sdie::selftest {

// The design's tolerances, in intensity.
constexpr double kLocal = 1e-5;       // local filters
constexpr double kWhole = 1.0 / 510;  // exact WLS, the spatiogram filter, one round

class Checker {
 public:
  explicit Checker(const std::vector<const Kernels*>& kernels) : kernels_(kernels) {}

  struct Size {
    int h, w;
  };

  // Grey, in every given type and layout, by every instruction set; a line on stderr for what is wrong.
  struct Case {
    const char* rounds;  // see Recipe
    std::string settings = "";
    Size size = {33, 47};
    Scene scene = Scene::scratches;
    double tolerance = kLocal;
    std::vector<DType> dtypes = {DType::f32};
    bool every_layout = false;
  };
  void grey(const Case& c);
  // RGB: the change of luma is added to the channels, or each channel is filtered.
  void colour(const char* rounds, const std::string& settings, DType dtype, bool per_channel, double tolerance);
  // Teams of two and three give the bytes that one thread gives. Those are held against the oracle too, unless the
  // tolerance is 0: a plane large enough to be split takes it long.
  void teams(const char* rounds, const std::string& settings, int images, Size size, double tolerance);

  int failures() const { return failures_; }
  int calls() const { return calls_; }

 private:
  // Runs src by every instruction set into an image of that layout. wanted: a plane for each image and channel.
  void compare(const Image& src, const std::vector<Plane>& wanted, const Recipe& recipe, bool per_channel,
               double tolerance, const Layout& layout, const std::string& what);
  void fail(const std::string& line);

  std::vector<const Kernels*> kernels_;
  int failures_ = 0, calls_ = 0;
};

// Runs all cases for these instruction sets; false when one failed.
bool kernels_selftest(const std::vector<const Kernels*>& kernels);

}  // namespace sdie::selftest
