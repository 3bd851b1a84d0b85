// Reads the goldens under tests/tokenizer; for tests only.
#pragma once

#include <fstream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "google/protobuf/util/json_util.h"
#include "nlohmann/json.hpp"
#include "gtest/gtest.h"

#include "runtime/artifact/tokenizer.pb.h"

namespace ingot::golden {

using Json = nlohmann::ordered_json;

inline std::string readText(const std::string &name) {
  std::ifstream file(std::string(INGOT_SOURCE_DIR) + "/tests/tokenizer/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << "cannot read tests/tokenizer/" << name;
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

inline Json readJson(const std::string &name) {
  Json json = Json::parse(readText("goldens/" + name + ".json"), nullptr, false);
  EXPECT_TRUE(json.is_object()) << name << " is not JSON";
  return json;
}

// Random tests that fail the same way every time.
inline std::mt19937 repeatable(uint32_t seed) { return std::mt19937(seed); }

inline std::string fromBase64(const std::string &encoded) {
  std::string bytes;
  EXPECT_TRUE(absl::Base64Unescape(encoded, &bytes));
  return bytes;
}

inline TokenizerData dataOf(const Json &golden) {
  TokenizerData data;
  google::protobuf::util::Status status = google::protobuf::util::JsonStringToMessage(golden.at("data").dump(), &data);
  EXPECT_TRUE(status.ok()) << status.ToString();
  return data;
}

} // namespace ingot::golden
