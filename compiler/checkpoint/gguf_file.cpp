// Parses the GGUF container. Layout: magic, u32 version, u64 tensors, u64 metadata entries, the entries, the tensor
// records, padding to the alignment, tensor data.
#include "compiler/checkpoint/gguf_file.h"
#include "compiler/checkpoint/message.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>

#include "absl/strings/escaping.h"

namespace ingot {
namespace {

constexpr uint64_t kMaxNameBytes = 65535;
constexpr int kMaxArrayDepth = 4;

// A scalar's size; 0 for strings and arrays, which carry their own.
uint32_t scalarBytes(GgufType type) {
  switch (type) {
  case GgufType::U8:
  case GgufType::I8:
  case GgufType::Bool:
    return 1;
  case GgufType::U16:
  case GgufType::I16:
    return 2;
  case GgufType::U32:
  case GgufType::I32:
  case GgufType::F32:
    return 4;
  case GgufType::U64:
  case GgufType::I64:
  case GgufType::F64:
    return 8;
  case GgufType::String:
  case GgufType::Array:
    return 0;
  }
  return 0;
}

template <typename T> T loadAs(const uint8_t *bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

int64_t loadInteger(GgufType type, const uint8_t *bytes) {
  switch (type) {
  case GgufType::U8:
  case GgufType::Bool:
    return *bytes;
  case GgufType::I8:
    return loadAs<int8_t>(bytes);
  case GgufType::U16:
    return loadAs<uint16_t>(bytes);
  case GgufType::I16:
    return loadAs<int16_t>(bytes);
  case GgufType::U32:
    return loadAs<uint32_t>(bytes);
  case GgufType::I32:
    return loadAs<int32_t>(bytes);
  default:
    return loadAs<int64_t>(bytes);
  }
}

bool isInteger(GgufType type) {
  return scalarBytes(type) != 0 && type != GgufType::F32 && type != GgufType::F64 && type != GgufType::Bool;
}

// Reads little-endian values front to back; remembers the place of the first that does not fit.
class Cursor {
public:
  Cursor(std::span<const uint8_t> bytes, const std::string &path) : bytes(bytes), path(path) {}

  uint64_t position() const { return at; }
  uint64_t left() const { return bytes.size() - at; }
  const std::string &file() const { return path; }

  absl::Status take(uint64_t count, std::string_view what, std::span<const uint8_t> &out) {
    if (count > left())
      return absl::DataLossError(cat(path, ": ", what, " at offset ", at, " needs ", count, " bytes, the file has ",
                                     left(), " left; it is truncated or damaged, fetch it again"));
    out = bytes.subspan(at, count);
    at += count;
    return absl::OkStatus();
  }

  template <typename T> absl::Status number(std::string_view what, T &out) {
    std::span<const uint8_t> raw;
    absl::Status status = take(sizeof(T), what, raw);
    if (status.ok())
      out = loadAs<T>(raw.data());
    return status;
  }

  absl::Status string(std::string_view what, std::string_view &out) {
    uint64_t length = 0;
    std::span<const uint8_t> raw;
    absl::Status status = number(what, length);
    if (status.ok())
      status = take(length, what, raw);
    if (status.ok())
      out = {reinterpret_cast<const char *>(raw.data()), raw.size()};
    return status;
  }

private:
  std::span<const uint8_t> bytes;
  uint64_t at = 0;
  const std::string &path;
};

// Steps over `count` values of `type`, checking that they are inside the file.
absl::Status skipValues(Cursor &cursor, GgufType type, uint64_t count, std::string_view what, int depth) {
  std::span<const uint8_t> raw;
  if (const uint32_t size = scalarBytes(type)) {
    const uint64_t bytes = count > UINT64_MAX / size ? UINT64_MAX : count * size;
    return cursor.take(bytes, what, raw);
  }
  for (uint64_t i = 0; i < count; ++i) {
    if (type == GgufType::String) {
      std::string_view text;
      if (absl::Status status = cursor.string(what, text); !status.ok())
        return status;
      continue;
    }
    uint32_t element = 0;
    uint64_t length = 0;
    if (absl::Status status = cursor.number(what, element); !status.ok())
      return status;
    if (absl::Status status = cursor.number(what, length); !status.ok())
      return status;
    if (element > static_cast<uint32_t>(GgufType::F64) || depth >= kMaxArrayDepth)
      return absl::InvalidArgumentError(cat(cursor.file(), ": ", what, " at offset ", cursor.position(),
                                            ": array of type ", element, " at depth ", depth, " is not a GGUF value"));
    if (absl::Status status = skipValues(cursor, static_cast<GgufType>(element), length, what, depth + 1); !status.ok())
      return status;
  }
  return absl::OkStatus();
}

absl::Status parseValue(Cursor &cursor, std::span<const uint8_t> bytes, std::string_view what, const std::string &path,
                        GgufValue &value) {
  uint32_t type = 0;
  if (absl::Status status = cursor.number(what, type); !status.ok())
    return status;
  if (type > static_cast<uint32_t>(GgufType::F64))
    return absl::InvalidArgumentError(
        cat(path, ": ", what, " has type ", type, ", GGUF has types 0 to 12; the file is damaged"));
  value.type = static_cast<GgufType>(type);
  if (value.type == GgufType::Array) {
    uint32_t element = 0;
    if (absl::Status status = cursor.number(what, element); !status.ok())
      return status;
    if (element > static_cast<uint32_t>(GgufType::F64))
      return absl::InvalidArgumentError(
          cat(path, ": ", what, " is an array of type ", element, ", GGUF has types 0 to 12"));
    value.element = static_cast<GgufType>(element);
    if (absl::Status status = cursor.number(what, value.count); !status.ok())
      return status;
  } else {
    value.element = value.type;
  }
  const uint64_t start = cursor.position();
  if (absl::Status status = skipValues(cursor, value.element, value.count, what, 1); !status.ok())
    return status;
  value.payload = bytes.subspan(start, cursor.position() - start);
  return absl::OkStatus();
}

std::string typeName(const GgufValue &value) {
  constexpr std::string_view names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                        "bool", "string", "array", "u64", "i64", "f64"};
  const std::string element(names[static_cast<uint32_t>(value.element)]);
  return value.type == GgufType::Array ? cat("array of ", value.count, " ", element) : element;
}

} // namespace

std::string printable(std::string_view bytes) {
  constexpr size_t kLimit = 120;
  return cat(absl::Utf8SafeCHexEscape(messagePiece(bytes.substr(0, kLimit))), bytes.size() > kLimit ? "..." : "");
}

bool isValidUtf8(std::string_view bytes) {
  const auto *text = reinterpret_cast<const unsigned char *>(bytes.data());
  const size_t size = bytes.size();
  for (size_t i = 0; i < size;) {
    const unsigned char lead = text[i];
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || i + length > size)
      return false;
    const unsigned char second = text[i + 1];
    // Overlong forms, surrogates and code points past U+10FFFF show in the second byte.
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
        (lead == 0xf4 && second > 0x8f))
      return false;
    for (size_t k = 1; k < length; ++k)
      if ((text[i + k] & 0xc0) != 0x80)
        return false;
    i += length;
  }
  return true;
}

absl::StatusOr<GgufFile> GgufFile::open(const std::string &path) {
  absl::StatusOr<MappedFile> file = MappedFile::open(path);
  if (!file.ok())
    return file.status();
  GgufFile gguf(path, std::move(*file));
  if (absl::Status status = gguf.parse(); !status.ok())
    return status;
  return gguf;
}

absl::Status GgufFile::parse() {
  const std::span<const uint8_t> bytes = file.bytes();
  Cursor cursor(bytes, filePath);
  std::span<const uint8_t> magic;
  if (absl::Status status = cursor.take(4, "GGUF magic", magic); !status.ok())
    return status;
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    return absl::InvalidArgumentError(cat(filePath, ": expected the magic 'GGUF', found '",
                                          printable({reinterpret_cast<const char *>(magic.data()), 4}),
                                          "'; this is not a GGUF file"));
  uint32_t version = 0;
  if (absl::Status status = cursor.number("version", version); !status.ok())
    return status;
  if (version != 2 && version != 3)
    return absl::InvalidArgumentError(cat(filePath, ": expected GGUF version 2 or 3, found ", version,
                                          (version & 0xffffu) == 0 ? " (a big-endian file; convert it to little-endian)"
                                                                   : "; convert the model again"));
  uint64_t tensorCount = 0, entryCount = 0;
  if (absl::Status status = cursor.number("tensor count", tensorCount); !status.ok())
    return status;
  if (absl::Status status = cursor.number("metadata count", entryCount); !status.ok())
    return status;
  // The shortest entry is 13 bytes, the shortest record 24: a count that cannot fit is damage, not a long loop.
  if (entryCount > cursor.left() / 13 || tensorCount > cursor.left() / 24)
    return absl::DataLossError(cat(filePath, ": the header claims ", tensorCount, " tensors and ", entryCount,
                                   " metadata entries, the file has only ", bytes.size(),
                                   " bytes; it is truncated or damaged, fetch it again"));

  for (uint64_t i = 0; i < entryCount; ++i) {
    std::string_view key;
    if (absl::Status status = cursor.string(cat("key of metadata entry ", i), key); !status.ok())
      return status;
    if (key.size() > kMaxNameBytes || !isValidUtf8(key))
      return absl::InvalidArgumentError(
          cat(filePath, ": metadata entry ", i, " has the key '", printable(key), "', which is not a name"));
    GgufValue value;
    const std::string what = cat("metadata '", printable(key), "'");
    if (absl::Status status = parseValue(cursor, bytes, what, filePath, value); !status.ok())
      return status;
    if (!metadata.emplace(std::string(key), value).second)
      return absl::InvalidArgumentError(cat(filePath, ": ", what, " appears twice"));
  }

  uint64_t alignment = 32;
  absl::StatusOr<std::optional<int64_t>> stated = integer("general.alignment");
  if (!stated.ok())
    return stated.status();
  if (stated->has_value()) {
    if (**stated <= 0 || **stated > (1 << 20) || !std::has_single_bit(static_cast<uint64_t>(**stated)))
      return absl::InvalidArgumentError(
          cat(filePath, ": general.alignment must be a power of two up to 1 MiB, found ", **stated));
    alignment = static_cast<uint64_t>(**stated);
  }

  std::unordered_map<std::string_view, uint64_t> seen;
  records.reserve(tensorCount);
  for (uint64_t i = 0; i < tensorCount; ++i) {
    GgufTensor tensor;
    std::string_view name;
    if (absl::Status status = cursor.string(cat("name of tensor ", i), name); !status.ok())
      return status;
    if (name.empty() || name.size() > kMaxNameBytes || !isValidUtf8(name))
      return absl::InvalidArgumentError(
          cat(filePath, ": tensor ", i, " has the name '", printable(name), "', which is not a name"));
    tensor.name = name;
    const std::string what = cat("tensor '", printable(name), "'");
    uint32_t dimensions = 0, type = 0;
    if (absl::Status status = cursor.number(what, dimensions); !status.ok())
      return status;
    if (dimensions == 0 || dimensions > 4)
      return absl::InvalidArgumentError(cat(filePath, ": ", what, " has ", dimensions, " dimensions, expected 1 to 4"));
    uint64_t elements = 1;
    for (uint32_t d = 0; d < dimensions; ++d) {
      uint64_t extent = 0;
      if (absl::Status status = cursor.number(what, extent); !status.ok())
        return status;
      if (extent == 0 || __builtin_mul_overflow(elements, extent, &elements) || elements > (1ull << 60))
        return absl::InvalidArgumentError(
            cat(filePath, ": ", what, " has the extent ", extent, " in dimension ", d, ", which cannot be"));
      tensor.shape.push_back(extent);
    }
    const uint64_t rowElements = tensor.shape.front();
    std::reverse(tensor.shape.begin(), tensor.shape.end());
    if (absl::Status status = cursor.number(what, type); !status.ok())
      return status;
    if (absl::Status status = cursor.number(what, tensor.offset); !status.ok())
      return status;
    tensor.storage = findGgmlStorage(type);
    if (!tensor.storage) {
      const std::string_view known = ggmlTypeName(type);
      if (known.empty())
        return absl::InvalidArgumentError(
            cat(filePath, ": ", what, " has the storage type ", type, ", which ggml does not have"));
      return absl::UnimplementedError(cat(filePath, ": ", what, " is stored as ", known,
                                          ", which is not read; use a file with F32, F16, BF16, Q8_0, Q4_0, Q4_1, "
                                          "Q5_0, Q5_1, Q4_K, Q5_K or Q6_K"));
    }
    if (rowElements % tensor.storage->blockElements != 0)
      return absl::InvalidArgumentError(cat(filePath, ": ", what, " has rows of ", rowElements,
                                            " elements, not a multiple of the ", tensor.storage->blockElements,
                                            " of a ", tensor.storage->name, " block"));
    const uint64_t blocks = elements / tensor.storage->blockElements;
    if (blocks > UINT64_MAX / tensor.storage->blockBytes)
      return absl::InvalidArgumentError(cat(filePath, ": ", what, " is larger than any file"));
    tensor.bytes = blocks * tensor.storage->blockBytes;
    if (tensor.offset % alignment != 0)
      return absl::InvalidArgumentError(cat(filePath, ": ", what, " begins at data offset ", tensor.offset,
                                            ", not a multiple of the alignment ", alignment));
    records.push_back(std::move(tensor));
  }
  for (uint64_t i = 0; i < records.size(); ++i)
    if (!seen.emplace(records[i].name, i).second)
      return absl::InvalidArgumentError(cat(filePath, ": tensor '", printable(records[i].name), "' appears twice"));

  dataStart = (cursor.position() + alignment - 1) / alignment * alignment;
  if (records.empty())
    dataStart = std::min<uint64_t>(dataStart, bytes.size());
  if (dataStart > bytes.size())
    return absl::DataLossError(cat(filePath, ": the tensor data should begin at offset ", dataStart, ", the file has ",
                                   bytes.size(), " bytes; it is truncated, fetch it again"));
  const uint64_t dataBytes = bytes.size() - dataStart;
  for (GgufTensor &tensor : records) {
    if (tensor.offset > dataBytes || tensor.bytes > dataBytes - tensor.offset)
      return absl::DataLossError(cat(filePath, ": tensor '", printable(tensor.name), "' needs ", tensor.bytes,
                                     " bytes at data offset ", tensor.offset, ", the file has ", dataBytes,
                                     " bytes of data; it is truncated or damaged, fetch it again"));
    tensor.offset += dataStart;
  }
  std::vector<const GgufTensor *> byOffset;
  byOffset.reserve(records.size());
  for (const GgufTensor &tensor : records)
    byOffset.push_back(&tensor);
  std::sort(byOffset.begin(), byOffset.end(),
            [](const GgufTensor *a, const GgufTensor *b) { return a->offset < b->offset; });
  for (size_t i = 1; i < byOffset.size(); ++i)
    if (byOffset[i - 1]->offset + byOffset[i - 1]->bytes > byOffset[i]->offset)
      return absl::InvalidArgumentError(cat(filePath, ": tensors '", printable(byOffset[i - 1]->name), "' and '",
                                            printable(byOffset[i]->name), "' overlap at offset ", byOffset[i]->offset));
  return absl::OkStatus();
}

const GgufValue *GgufFile::find(std::string_view key) const {
  auto found = metadata.find(std::string(key));
  return found == metadata.end() ? nullptr : &found->second;
}

absl::Status GgufFile::wrongType(std::string_view key, const GgufValue &value, std::string_view expected) const {
  return absl::InvalidArgumentError(
      cat(filePath, ": metadata '", key, "' should be ", expected, ", it is ", typeName(value)));
}

absl::StatusOr<std::optional<int64_t>> GgufFile::integer(std::string_view key) const {
  const GgufValue *value = find(key);
  if (!value)
    return std::nullopt;
  if (!isInteger(value->type))
    return wrongType(key, *value, "an integer");
  return loadInteger(value->type, value->payload.data());
}

absl::StatusOr<std::optional<double>> GgufFile::real(std::string_view key) const {
  const GgufValue *value = find(key);
  if (!value)
    return std::nullopt;
  if (value->type == GgufType::F64)
    return loadAs<double>(value->payload.data());
  if (value->type != GgufType::F32)
    return wrongType(key, *value, "a float");
  // The converter wrote a decimal such as 1e-05 as f32; the shortest decimal that names this f32 is the one it meant.
  const float narrow = loadAs<float>(value->payload.data());
  char digits[64];
  const std::to_chars_result end = std::to_chars(digits, digits + sizeof digits, narrow);
  double wide = narrow;
  std::from_chars(digits, end.ptr, wide);
  return wide;
}

absl::StatusOr<std::optional<bool>> GgufFile::boolean(std::string_view key) const {
  const GgufValue *value = find(key);
  if (!value)
    return std::nullopt;
  if (value->type != GgufType::Bool)
    return wrongType(key, *value, "a bool");
  return *value->payload.data() != 0;
}

absl::StatusOr<std::optional<std::string>> GgufFile::text(std::string_view key) const {
  const GgufValue *value = find(key);
  if (!value)
    return std::nullopt;
  if (value->type != GgufType::String)
    return wrongType(key, *value, "a string");
  const std::string_view bytes(reinterpret_cast<const char *>(value->payload.data()) + 8, value->payload.size() - 8);
  if (!isValidUtf8(bytes))
    return absl::InvalidArgumentError(cat(filePath, ": metadata '", key, "' is not valid UTF-8"));
  return std::string(bytes);
}

absl::StatusOr<std::optional<std::vector<int64_t>>> GgufFile::integers(std::string_view key) const {
  const GgufValue *value = find(key);
  if (!value)
    return std::nullopt;
  if (!isInteger(value->element))
    return wrongType(key, *value, "an array of integers");
  std::vector<int64_t> result(value->count);
  const uint32_t size = scalarBytes(value->element);
  for (uint64_t i = 0; i < value->count; ++i)
    result[i] = loadInteger(value->element, value->payload.data() + i * size);
  return result;
}

absl::StatusOr<std::optional<std::vector<float>>> GgufFile::floats(std::string_view key) const {
  const GgufValue *value = find(key);
  if (!value)
    return std::nullopt;
  if (value->type != GgufType::Array || value->element != GgufType::F32)
    return wrongType(key, *value, "an array of f32");
  std::vector<float> result(value->count);
  if (!result.empty())
    std::memcpy(result.data(), value->payload.data(), value->payload.size());
  return result;
}

absl::StatusOr<std::optional<std::vector<std::string_view>>> GgufFile::strings(std::string_view key) const {
  const GgufValue *value = find(key);
  if (!value)
    return std::nullopt;
  if (value->type != GgufType::Array || value->element != GgufType::String)
    return wrongType(key, *value, "an array of strings");
  std::vector<std::string_view> result;
  result.reserve(value->count);
  const uint8_t *at = value->payload.data();
  for (uint64_t i = 0; i < value->count; ++i) {
    const uint64_t length = loadAs<uint64_t>(at);
    result.emplace_back(reinterpret_cast<const char *>(at) + 8, length);
    at += 8 + length;
  }
  return result;
}

} // namespace ingot
