#include "tools/ingot/logits_file.h"

#include <filesystem>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"

namespace ingot::cli {
namespace {

constexpr uint64_t kLongestHeader = 100'000'000; // of the format itself

// A list of numbers, or empty.
std::vector<uint64_t> numbers(const nlohmann::json &entry, const char *key) {
  std::vector<uint64_t> values;
  auto list = entry.find(key);
  if (list == entry.end() || !list->is_array())
    return values;
  for (const auto &value : *list) {
    if (!value.is_number_unsigned())
      return {};
    values.push_back(value.get<uint64_t>());
  }
  return values;
}

} // namespace

absl::StatusOr<std::unique_ptr<LogitsFile>> LogitsFile::open(const std::string &path) {
  auto wrong = [&](const auto &...what) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": ", what..., "; give a file that `ingot logits` wrote"));
  };
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    return absl::NotFoundError(absl::StrCat(path, ": cannot be read; give the name of an existing file"));
  uint64_t bytes = std::filesystem::file_size(path, error);
  auto file = std::make_unique<LogitsFile>();
  file->path = path;
  file->in.open(path, std::ios::binary);
  uint64_t length = 0;
  if (error || bytes < sizeof length || !file->in.read(reinterpret_cast<char *>(&length), sizeof length))
    return wrong("expected a safetensors file, got ", error ? 0 : bytes, " bytes");
  if (length > kLongestHeader || length > bytes - sizeof length)
    return wrong("expected a safetensors header inside the file's ", bytes, " bytes, got one of ", length);
  std::string text(length, '\0');
  if (!file->in.read(text.data(), static_cast<std::streamsize>(length)))
    return wrong("its header cannot be read");
  auto header = nlohmann::json::parse(text, nullptr, false);
  if (!header.is_object())
    return wrong("expected a safetensors header in JSON, got something else");
  auto entry = header.find("logits");
  if (entry == header.end() || !entry->is_object())
    return wrong("expected a tensor `logits`, got none");
  if (entry->value("dtype", nlohmann::json()) != "F32")
    return wrong("`logits`: expected dtype F32, got ", entry->value("dtype", nlohmann::json()).dump().substr(0, 20));
  std::vector<uint64_t> shape = numbers(*entry, "shape"), offsets = numbers(*entry, "data_offsets");
  if (shape.size() != 2 || shape[0] == 0 || shape[1] == 0)
    return wrong("`logits`: expected the shape [tokens, vocabulary]");
  uint64_t data = bytes - sizeof length - length;
  if (offsets.size() != 2 || offsets[0] > offsets[1] || offsets[1] > data)
    return wrong("`logits`: expected data_offsets inside the ", data, " bytes behind the header");
  uint64_t size = offsets[1] - offsets[0];
  if (size % sizeof(float) != 0 || shape[1] > size / sizeof(float) || size / sizeof(float) % shape[1] != 0 ||
      size / sizeof(float) / shape[1] != shape[0])
    return wrong("`logits`: expected ", shape[0], " x ", shape[1], " floats, got ", size, " bytes");
  file->rowCount = shape[0];
  file->columns = shape[1];
  file->begin = sizeof length + length + offsets[0];
  return file;
}

absl::Status LogitsFile::read(uint64_t row, std::span<float> out) {
  if (row >= rowCount || out.size() != columns)
    return absl::OutOfRangeError(absl::StrCat(path, ": expected a row from 0 to ", rowCount - 1, ", got ", row));
  in.clear();
  in.seekg(static_cast<std::streamoff>(begin + row * columns * sizeof(float)));
  if (!in.read(reinterpret_cast<char *>(out.data()), static_cast<std::streamsize>(out.size_bytes())))
    return absl::DataLossError(absl::StrCat(path, ": row ", row, " cannot be read; the file changed or is damaged"));
  return absl::OkStatus();
}

} // namespace ingot::cli
