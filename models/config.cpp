// nlohmann's getters throw on a value of another kind, so every access here asks for the kind first.
#include "models/config.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace ingot {

namespace {

const nlohmann::json &emptyObject() {
  static const nlohmann::json object = nlohmann::json::object();
  return object;
}

/// A value as an error shows it: short, whatever the file holds.
std::string shown(const nlohmann::json &value) {
  std::string text = value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

bool isIntegerIn(const nlohmann::json &value, int64_t least, int64_t most) {
  if (value.is_number_unsigned() && value.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
    return false;
  return value.is_number_integer() && value.get<int64_t>() >= least && value.get<int64_t>() <= most;
}

} // namespace

const nlohmann::json *ConfigReader::value(const char *key) const {
  if (!object_.is_object())
    return nullptr;
  auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::has(const char *key) const { return value(key) != nullptr; }

void ConfigReader::fail(const std::string &message) {
  if (status_.ok())
    status_ = absl::InvalidArgumentError(absl::StrCat(where_, ": ", message));
}

void ConfigReader::failAt(const char *key, const std::string &expected) {
  const nlohmann::json *found = value(key);
  fail(absl::StrCat("expected `", key, "` to be ", expected, ", got ", found ? shown(*found) : "nothing"));
}

int64_t ConfigReader::integer(const char *key, int64_t least, int64_t most) {
  const nlohmann::json *found = value(key);
  if (found && isIntegerIn(*found, least, most))
    return found->get<int64_t>();
  failAt(key, absl::StrCat("a whole number from ", least, " to ", most));
  return least;
}

int64_t ConfigReader::integerOr(const char *key, int64_t fallback, int64_t least, int64_t most) {
  return has(key) ? integer(key, least, most) : fallback;
}

double ConfigReader::number(const char *key, double least, double most) {
  const nlohmann::json *found = value(key);
  if (found && found->is_number()) {
    double number = found->get<double>();
    if (std::isfinite(number) && number >= least && number <= most)
      return number;
  }
  failAt(key, absl::StrCat("a number from ", least, " to ", most));
  return least;
}

double ConfigReader::numberOr(const char *key, double fallback, double least, double most) {
  return has(key) ? number(key, least, most) : fallback;
}

bool ConfigReader::booleanOr(const char *key, bool fallback) {
  const nlohmann::json *found = value(key);
  if (!found)
    return fallback;
  if (found->is_boolean())
    return found->get<bool>();
  failAt(key, "true or false");
  return fallback;
}

std::string ConfigReader::textOr(const char *key, const std::string &fallback) {
  const nlohmann::json *found = value(key);
  if (!found)
    return fallback;
  if (found->is_string())
    return found->get<std::string>();
  failAt(key, "a string");
  return fallback;
}

std::vector<int64_t> ConfigReader::integers(const char *key, int64_t least, int64_t most) {
  std::vector<int64_t> numbers;
  const nlohmann::json *found = value(key);
  if (!found)
    return numbers;
  auto take = [&](const nlohmann::json &one) {
    if (!isIntegerIn(one, least, most))
      return false;
    numbers.push_back(one.get<int64_t>());
    return true;
  };
  bool good = true;
  if (found->is_array()) {
    for (const nlohmann::json &one : *found)
      good = good && take(one);
  } else {
    good = take(*found);
  }
  if (!good)
    failAt(key, absl::StrCat("a whole number from ", least, " to ", most, ", or a list of such"));
  return numbers;
}

std::vector<std::string> ConfigReader::texts(const char *key) {
  std::vector<std::string> all;
  const nlohmann::json *found = value(key);
  if (!found)
    return all;
  if (!found->is_array() || !std::ranges::all_of(*found, [](const auto &one) { return one.is_string(); })) {
    failAt(key, "a list of strings");
    return all;
  }
  for (const nlohmann::json &one : *found)
    all.push_back(one.get<std::string>());
  return all;
}

const nlohmann::json &ConfigReader::object(const char *key) {
  const nlohmann::json *found = value(key);
  if (!found)
    return emptyObject();
  if (found->is_object())
    return *found;
  failAt(key, "an object");
  return emptyObject();
}

} // namespace ingot
