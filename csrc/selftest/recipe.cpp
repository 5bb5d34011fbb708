#include "recipe.h"

#include <cmath>
#include <map>
#include <sstream>
#include <stdexcept>

namespace sdie::selftest {

namespace {

// "a=1 b=x" as a map, added to what is there.
void read_pairs(const std::string& text, std::map<std::string, std::string>& to) {
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    const std::size_t sign = word.find('=');
    if (sign == std::string::npos) throw std::invalid_argument("'" + word + "' is not of the form name=value");
    to[word.substr(0, sign)] = word.substr(sign + 1);
  }
}

double read_number(const std::string& name, const std::string& text) {
  std::size_t end = 0;
  double value = 0.0;
  try {
    value = std::stod(text, &end);
  } catch (const std::exception&) {
  }
  if (end == 0 || end != text.size()) throw std::invalid_argument(name + " is '" + text + "', which is no number");
  return value;
}

double read_value(const std::string& name, const std::string& text, const Parameter& p) {
  if (p.choices[0]) {
    std::string accepted;
    for (int k = 0; k < 4 && p.choices[k]; ++k) {
      if (text == p.choices[k]) return k;
      accepted += std::string(" ") + p.choices[k];
    }
    throw std::invalid_argument(name + " is '" + text + "'; accepted:" + accepted);
  }
  const double value = read_number(name, text);
  const bool whole = value == std::floor(value);
  if (!(value >= p.low && value <= p.high) || (p.above && value == p.low) || (p.odd && std::fmod(value, 2.0) != 1.0) ||
      (p.kind == std::string("integer") && !whole))
    throw std::invalid_argument(name + " is " + text + ", which is out of range");
  return value;
}

// Calls f(parameter, name, its place among all).
template <class F>
void each_parameter(const Kernels& kernels, F&& f) {
  std::size_t place = 0;
  for (const FilterInfo* filter = kernels.filters; filter != kernels.filters + kernels.count; ++filter)
    for (int k = 0; k < filter->count; ++k)
      f(filter->parameters[k], std::string(filter->name) + "_" + filter->parameters[k].name, place++);
}

}  // namespace

Recipe::Recipe(const Kernels& kernels, const std::string& all_rounds, const std::string& settings)
    : text(settings.empty() ? all_rounds : all_rounds + ", " + settings), names(&kernels) {
  std::map<std::string, std::string> values;
  read_pairs(settings, values);
  each_parameter(kernels, [&](const Parameter& parameter, const std::string& name, std::size_t) {
    const auto found = values.find(name);
    params.values.push_back(found == values.end() ? parameter.usual : read_value(name, found->second, parameter));
    if (found != values.end()) values.erase(found);
  });
  if (!values.empty()) throw std::invalid_argument("no filter has a parameter " + values.begin()->first);

  std::istringstream lines(all_rounds);
  for (std::string line; std::getline(lines, line, ';'); ++rounds) {
    std::map<std::string, std::string> given;
    read_pairs(line, given);
    std::vector<double> row;
    double sum = 0.0;
    for (int k = 0; k < kernels.count; ++k) {
      const auto found = given.find(kernels.filters[k].name);
      row.push_back(found == given.end() ? 0.0 : read_number(found->first, found->second));
      sum += row.back();
      if (found != given.end()) given.erase(found);
    }
    if (!given.empty()) throw std::invalid_argument("there is no filter " + given.begin()->first);
    if (!(sum > 0.0)) throw std::invalid_argument("a round has no weight: '" + line + "'");
    for (const double w : row) weights.push_back(static_cast<float>(w / sum));
  }
}

double Recipe::operator()(const std::string& parameter) const {
  const double* found = nullptr;
  each_parameter(*names, [&](const Parameter&, const std::string& name, std::size_t place) {
    if (name == parameter) found = &params.values[place];
  });
  if (!found) throw std::invalid_argument("no filter has a parameter " + parameter);
  return *found;
}

bool Recipe::is(const std::string& parameter, const std::string& choice) const {
  const auto chosen = static_cast<std::size_t>((*this)(parameter));
  bool same = false;
  each_parameter(*names, [&](const Parameter& p, const std::string& name, std::size_t) {
    if (name == parameter) same = p.choices[0] && p.choices[chosen] == choice;
  });
  return same;
}

}  // namespace sdie::selftest
