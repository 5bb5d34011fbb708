// What the self-test tries: sizes around the vectors' lengths, windows, parameters, pictures, types, layouts, rounds.
#include <algorithm>
#include <cstdio>
#include <iterator>

#include "check.h"

namespace sdie::selftest {

namespace {

using Size = Checker::Size;

// Widths around one to eight vectors and bands (128 rows); each with another height, and turned.
const std::vector<Size>& sizes() {
  static const std::vector<Size> all = [] {
    const int widths[] = {7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129},
              heights[] = {7, 16, 9, 33, 8, 65};
    std::vector<Size> found{{9, 513}};
    int k = 0;
    for (const int w : widths) {
      const int h = heights[k++ % 6];
      found.push_back({h, w});
      if (h != w) found.push_back({w, h});
    }
    return found;
  }();
  return all;
}

Scene scene(std::size_t k) { return kScenes[k % std::size(kScenes)]; }

const std::vector<DType> kTypes = {DType::u8, DType::u16, DType::f32};

struct Local {
  const char* rounds;
  const char* window;  // its parameter, if it has one
  double tolerance;
};
constexpr Local kLocals[] = {{"identity=1", nullptr, 1e-6},
                             {"bilateral=1", "bilateral_window", kLocal},
                             {"sharpen=1", "sharpen_window", kLocal},
                             {"guided=1", "guided_window", kLocal},
                             {"gamma=1", nullptr, kLocal},
                             {"median=1", "median_window", 0.0},  // a value of the picture
                             {"gaussian=1", "gaussian_window", kLocal}};

void local_filters(Checker& check) {
  for (const Local& filter : kLocals) {
    for (std::size_t k = 0; k < sizes().size(); ++k)
      check.grey({filter.rounds, "", sizes()[k], scene(k), filter.tolerance, kTypes, true});
    if (!filter.window) continue;
    for (int window = 3; window <= 15; window += 2) {
      const std::string setting = std::string(filter.window) + "=" + std::to_string(window);
      // Frames smaller than the window too: a line may have them, though `enhance` refuses them.
      for (const Size size :
           {Size{window, window}, Size{37, 41}, Size{9 + window, 530}, Size{1, 40}, Size{40, 1}, Size{2, 3}})
        check.grey({filter.rounds, setting, size, scene(static_cast<std::size_t>(window) / 2), filter.tolerance});
      if (filter.rounds == std::string("bilateral=1"))
        check.grey({filter.rounds, setting + " bilateral_footprint=disk", {33, 47}});
    }
  }
  constexpr const char* settings[][2] = {
      {"bilateral=1", "bilateral_sigma_range=0.005 bilateral_sigma_space=0.3"},  // weights down to 2^-126
      {"bilateral=1", "bilateral_sigma_range=0.005 bilateral_window=15"},
      {"bilateral=1", "bilateral_sigma_range=10 bilateral_sigma_space=50"},
      {"guided=1", "guided_eps=0.0001"},
      {"guided=1", "guided_eps=10"},
      // The threshold is a step: a pixel within rounding of it could fall on either side. None of these does.
      {"sharpen=1", "sharpen_threshold=0.1 sharpen_amount=3 sharpen_radius=0.7"},
      {"gaussian=1", "gaussian_sigma=0.1"},
      {"gaussian=1", "gaussian_sigma=100"},
      {"gamma=1", "gamma_exponent=0.1"},
      {"gamma=1", "gamma_exponent=1"},
      {"gamma=1", "gamma_exponent=10"},
  };
  for (const auto& [rounds, setting] : settings)
    for (const Scene picture : kScenes) check.grey({rounds, setting, {33, 47}, picture, kLocal, kTypes});
}

void wls(Checker& check) {
  std::vector<Size> all = sizes();
  all.insert(all.end(), {{1, 7}, {7, 1}, {2, 3}, {1, 130}, {130, 1}});
  for (std::size_t k = 0; k < all.size(); ++k)
    for (const std::size_t turn : {0, 1}) {
      const std::string domain = k % 2 ? " wls_domain=lightness" : "";
      check.grey({"wls=1", "wls_solver=fast" + domain, all[k], scene(k + turn), kLocal, {kTypes[k % 3]}});
      check.grey({"wls=1", "wls_solver=exact" + domain, all[k], scene(k + turn), kWhole, {kTypes[k % 3]}});
    }
  for (const Scene picture : kScenes)
    for (const char* setting :
         {"wls_lambda=1e-60", "wls_lambda=0.01", "wls_lambda=100", "wls_alpha=0.2", "wls_alpha=2 wls_lambda=10"}) {
      check.grey({"wls=1", std::string("wls_solver=exact ") + setting, {40, 51}, picture, kWhole});
      check.grey({"wls=1", std::string("wls_solver=fast ") + setting, {40, 51}, picture, kLocal});
    }
  check.grey({"wls=1", "wls_tol=0.0001", {40, 51}, Scene::scratches, 1e-4});
}

// CLAHE: float32 errors of the pixels add up to a part of one clipped count, and that goes to up to 128 levels.
constexpr double kTiles = 1e-4;

void spatiogram(Checker& check) {
  for (std::size_t k = 0; k < sizes().size(); ++k) {
    const DType dtype = kTypes[k % 3];
    check.grey({"spatiogram=1", "", sizes()[k], scene(k), kWhole, {dtype}});
    check.grey({"spatiogram=1", "spatiogram_method=clahe spatiogram_tiles=3", sizes()[k], scene(k), kTiles, {dtype}});
    check.grey({"spatiogram=1", "spatiogram_method=global", sizes()[k], scene(k), kLocal, {dtype}});
  }
  for (const Scene picture : kScenes) {
    for (const char* bins : {"2", "7", "64"})
      check.grey({"spatiogram=1", std::string("spatiogram_bins=") + bins, {70, 140}, picture, kWhole});
    for (const char* limit : {"0.01", "40"})
      check.grey({"spatiogram=1",
                  std::string("spatiogram_method=clahe spatiogram_clip_limit=") + limit,
                  {70, 140},
                  picture,
                  kTiles});
  }
}

constexpr const char* kMixed = "identity=1 wls=1 bilateral=1 sharpen=1 guided=1 spatiogram=1";
constexpr const char* kAll = "identity=1 wls=1 bilateral=1 sharpen=1 guided=1 spatiogram=1 gamma=1 median=1 gaussian=1";
constexpr const char* kFive =
    "identity=2 wls=1 sharpen=3 guided=1; bilateral=1 spatiogram=2; median=1 gaussian=1 guided=1; wls=4 gamma=1; "
    "identity=1 wls=1 bilateral=1 sharpen=1 guided=1 spatiogram=1";

void rounds(Checker& check) {
  for (const std::string solver : {"wls_solver=fast", "wls_solver=exact"})
    for (std::size_t k = 0; k < std::size(kScenes); ++k) {
      const Scene picture = kScenes[k];
      check.grey({kMixed, solver, {33, 67}, picture, kWhole, {kTypes[k % 3]}});
      check.grey({kAll, solver, {67, 33}, picture, kWhole, {kTypes[(k + 1) % 3]}});
      check.grey({kFive, solver, {17, 41}, picture, 5 * kWhole, {kTypes[(k + 2) % 3]}, k == 1});
    }
  check.grey({kMixed, "wls_solver=fast", {130, 530}, Scene::scratches, kWhole});  // bands and strips meet
  // The parameters of the code published under the method's first author's name.
  check.grey({kMixed,
              "wls_lambda=0.125 wls_domain=lightness bilateral_window=15 bilateral_sigma_space=75 "
              "bilateral_sigma_range=0.29411764705882354 bilateral_footprint=disk sharpen_window=5 sharpen_amount=1.5 "
              "sharpen_radius=1.1 guided_window=11 guided_eps=0.1 spatiogram_method=clahe",
              {75, 100},
              Scene::scratches,
              kWhole,
              kTypes});
}

void colours(Checker& check) {
  for (const DType dtype : kTypes)
    for (const bool per_channel : {false, true}) {
      for (const Local& filter : kLocals)
        check.colour(filter.rounds, "", dtype, per_channel, std::max(filter.tolerance, 1e-6));
      check.colour(kMixed, "wls_solver=fast", dtype, per_channel, kWhole);
      check.colour(kFive, "wls_solver=fast", dtype, per_channel, 5 * kWhole);
    }
}

void teams(Checker& check) {
  // From 256 x 256 on a plane is split; smaller ones are spread over threads whole.
  check.teams(kAll, "wls_solver=fast", 1, {130, 530}, 0.0);
  check.teams(kMixed, "", 1, {130, 530}, 0.0);
  check.teams(kAll, "wls_solver=fast spatiogram_method=clahe", 1, {530, 130}, 0.0);
  check.teams(kFive, "wls_solver=fast", 5, {17, 31}, 5 * kWhole);
  check.teams(kMixed, "wls_solver=fast", 2, {260, 260}, 0.0);
}

}  // namespace

bool kernels_selftest(const std::vector<const Kernels*>& kernels) {
  Checker check(kernels);
  local_filters(check);
  wls(check);
  spatiogram(check);
  rounds(check);
  colours(check);
  teams(check);
  std::printf("%d calls of the kernels, %d wrong\n", check.calls(), check.failures());
  return check.failures() == 0;
}

}  // namespace sdie::selftest
