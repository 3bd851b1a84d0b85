// Reads a model's configuration without trusting it: a value of the wrong kind or size is an error that names its key,
// never an exception. The first error sticks, so a declaration reads all its keys and asks once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace ingot {

class ConfigReader {
public:
  /// `where` is what errors call the configuration: "config.json of tiny-llama", say. The object must outlive the
  /// reader.
  ConfigReader(const nlohmann::json &object, std::string where) : object_(object), where_(std::move(where)) {}

  /// Whether the key is there and not null.
  bool has(const char *key) const;

  /// A whole number in [least, most]. Without a fallback the key must be there.
  int64_t integer(const char *key, int64_t least, int64_t most);
  int64_t integerOr(const char *key, int64_t fallback, int64_t least, int64_t most);
  /// A finite number in [least, most].
  double number(const char *key, double least, double most);
  double numberOr(const char *key, double fallback, double least, double most);
  bool booleanOr(const char *key, bool fallback);
  std::string textOr(const char *key, const std::string &fallback);
  /// One whole number or a list of them; empty if the key is missing.
  std::vector<int64_t> integers(const char *key, int64_t least, int64_t most);
  /// A list of strings; empty if the key is missing.
  std::vector<std::string> texts(const char *key);
  /// The object under `key`; an empty one if the key is missing.
  const nlohmann::json &object(const char *key);

  /// Keeps `message`, with the place in front, unless there is an error already.
  void fail(const std::string &message);
  const absl::Status &status() const { return status_; }
  const std::string &where() const { return where_; }

private:
  const nlohmann::json *value(const char *key) const;
  void failAt(const char *key, const std::string &expected);

  const nlohmann::json &object_;
  std::string where_;
  absl::Status status_;
};

} // namespace ingot
