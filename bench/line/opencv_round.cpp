// One round of the toolkit by sdie_plan_run and by hand-written OpenCV in C++, in turns, on one thread:
//   opencv_round WIDTH HEIGHT SECONDS < frame    # a Mono8 frame; a line of JSON on stdout
// Both own their buffers and write into them; OpenCV's round is that of sdie_fast/_bench/peers.py.
#include <sdie_fast.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <opencv2/core.hpp>
#include <opencv2/core/ocl.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/ximgproc.hpp>
#include <random>
#include <vector>

namespace {

constexpr float kShare = 1.0f / 6.0f;

class OpenCvRound {
 public:
  void operator()(const cv::Mat& g, cv::Mat& out) {
    cv::ximgproc::fastGlobalSmootherFilter(g, g, smooth_, 1.0, 10.0);
    cv::bilateralFilter(g, bilateral_, 7, 0.1 * 255, 1.5);
    cv::GaussianBlur(g, blurred_, {7, 7}, 1.5);
    cv::addWeighted(g, 1.8, blurred_, -0.8, 0.0, sharp_);
    cv::ximgproc::guidedFilter(g, g, guided_, 3, 0.01 * 255 * 255);
    cv::equalizeHist(g, equal_);
    cv::addWeighted(g, kShare, smooth_, kShare, 0.0, sum_, CV_32F);
    for (const cv::Mat* one : {&bilateral_, &sharp_, &guided_, &equal_})
      cv::addWeighted(sum_, 1.0, *one, kShare, 0.0, sum_, CV_32F);
    cv::convertScaleAbs(sum_, out);
  }

 private:
  cv::Mat smooth_, bilateral_, blurred_, sharp_, guided_, equal_, sum_;
};

void need(sdie_status status) {
  if (status == SDIE_OK) return;
  char words[512];
  sdie_message(words, sizeof words);
  std::fprintf(stderr, "%s\n", words);
  std::exit(1);
}

void print(const char* name, std::vector<std::uint64_t>& ns) {
  std::sort(ns.begin(), ns.end());
  const auto at = [&](double part) {
    return static_cast<double>(ns[static_cast<std::size_t>(part * double(ns.size() - 1))]) * 1e-9;
  };
  std::printf("\"%s\": {\"samples\": %zu, \"p50\": %.9f, \"p99\": %.9f, \"p999\": %.9f, \"max\": %.9f}", name,
              ns.size(), at(0.5), at(0.99), at(0.999), at(1.0));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return std::fprintf(stderr, "usage: opencv_round WIDTH HEIGHT SECONDS < frame\n"), 2;
  sdie_config config;
  need(sdie_config_init(&config, sizeof config));
  config.width = std::atoi(argv[1]);
  config.height = std::atoi(argv[2]);
  for (int k = SDIE_IDENTITY; k <= SDIE_SPATIOGRAM; ++k) config.weights[0][k] = kShare;
  need(sdie_config_set(&config, "wls_solver", "fast"));
  need(sdie_config_set(&config, "bilateral_footprint", "disk"));
  sdie_plan* plan = nullptr;
  need(sdie_plan_create(&config, &plan));
  cv::setNumThreads(1);
  cv::ocl::setUseOpenCL(false);

  cv::Mat frame(config.height, config.width, CV_8U), ours(frame.size(), CV_8U), theirs(frame.size(), CV_8U);
  if (std::fread(frame.data, 1, frame.total(), stdin) != frame.total())
    return std::fprintf(stderr, "the frame is too short\n"), 2;
  OpenCvRound opencv;
  std::vector<std::uint64_t> taken[2];
  const auto turn = [&](int which) {
    const std::uint64_t start = sdie_clock();
    if (which == 0)
      need(sdie_plan_run(plan, frame.data, 0, ours.data, 0, nullptr));
    else
      opencv(frame, theirs);
    return sdie_clock() - start;
  };
  for (int k = 0; k < 6; ++k) turn(k % 2);  // warm
  const double difference = cv::norm(ours, theirs, cv::NORM_L1) / static_cast<double>(frame.total());
  const std::uint64_t end = sdie_clock() + static_cast<std::uint64_t>(std::atof(argv[3]) * 1e9);
  std::mt19937 chance(1);
  while (sdie_clock() < end) {
    const int first = static_cast<int>(chance() % 2);
    for (const int which : {first, 1 - first}) taken[which].push_back(turn(which));
  }
  std::printf("{\"opencv\": \"%s\", \"difference\": %.3f, ", CV_VERSION, difference);
  print("sdie", taken[0]);
  std::printf(", ");
  print("round", taken[1]);
  std::puts("}");
  need(sdie_plan_destroy(plan));
}
