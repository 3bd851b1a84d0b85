#include "runtime/artifact/bundle.h"

#include <cstdint>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ingot {
namespace {

constexpr std::string_view kMagic = "__CLANG_OFFLOAD_BUNDLE__";
constexpr const char *kDevicePrefix = "hipv4-amdgcn-amd-amdhsa--";
constexpr std::string_view kHostId = "host-x86_64-unknown-linux-gnu-";
constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kMostEntries = 256;
constexpr uint64_t kLongestId = 256;

// Reads little-endian integers and text front to back; `ok` falls when the bytes end early.
class Cursor {
public:
  explicit Cursor(std::span<const std::byte> bytes) : bytes(bytes) {}
  uint64_t u64() {
    uint64_t value = 0;
    std::span<const std::byte> part = take(sizeof value);
    if (ok)
      std::memcpy(&value, part.data(), sizeof value);
    return value;
  }
  std::string text(uint64_t length) {
    std::span<const std::byte> part = take(length);
    return {reinterpret_cast<const char *>(part.data()), part.size()};
  }
  bool ok = true;

private:
  std::span<const std::byte> take(uint64_t length) {
    if (!ok || length > bytes.size()) {
      ok = false;
      return {};
    }
    std::span<const std::byte> part = bytes.first(length);
    bytes = bytes.subspan(length);
    return part;
  }
  std::span<const std::byte> bytes;
};

// "hipv4-amdgcn-amd-amdhsa--gfx1151:xnack-" -> "gfx1151"
std::string targetOf(std::string_view id) {
  size_t separator = id.find("--");
  if (separator == std::string_view::npos)
    return "";
  std::string_view target = id.substr(separator + 2);
  return std::string(target.substr(0, target.find(':')));
}

void put(std::string &out, uint64_t value) {
  char raw[sizeof value];
  std::memcpy(raw, &value, sizeof value);
  out.append(raw, sizeof raw);
}

} // namespace

absl::StatusOr<std::vector<BundleEntry>> parseBundle(std::span<const std::byte> bundle) {
  Cursor cursor(bundle);
  if (cursor.text(kMagic.size()) != kMagic)
    return absl::DataLossError("code section: expected an uncompressed offload bundle, got other bytes; recompile the "
                               "model with ingotc");
  uint64_t count = cursor.u64();
  if (!cursor.ok || count > kMostEntries)
    return absl::DataLossError(absl::StrCat("code section: expected at most ", kMostEntries,
                                            " bundle entries, got a count of ", count, "; recompile the model"));
  std::vector<BundleEntry> entries;
  for (uint64_t index = 0; index < count; ++index) {
    uint64_t offset = cursor.u64(), size = cursor.u64(), length = cursor.u64();
    if (!cursor.ok || length > kLongestId)
      return absl::DataLossError(
          absl::StrCat("code section: bundle entry ", index, " has a broken header; recompile the model"));
    BundleEntry entry;
    entry.id = cursor.text(length);
    if (!cursor.ok || offset > bundle.size() || size > bundle.size() - offset)
      return absl::DataLossError(absl::StrCat("code section: bundle entry ", index, " expected inside the ",
                                              bundle.size(), " bytes of the bundle, got offset ", offset, " and size ",
                                              size, "; recompile the model"));
    entry.target = targetOf(entry.id);
    entry.code = bundle.subspan(offset, size);
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::string makeBundle(std::span<const std::pair<std::string, std::string>> codeObjects) {
  std::vector<std::string> ids = {std::string(kHostId)};
  uint64_t headerBytes = kMagic.size() + 8;
  for (const auto &[target, code] : codeObjects)
    ids.push_back(absl::StrCat(kDevicePrefix, target));
  for (const std::string &id : ids)
    headerBytes += 24 + id.size();
  auto aligned = [](uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; };

  std::string out(kMagic);
  put(out, ids.size());
  uint64_t offset = aligned(headerBytes);
  for (size_t index = 0; index < ids.size(); ++index) {
    uint64_t size = index == 0 ? 0 : codeObjects[index - 1].second.size();
    put(out, offset);
    put(out, size);
    put(out, ids[index].size());
    out += ids[index];
    offset = aligned(offset + size);
  }
  for (const auto &[target, code] : codeObjects) {
    out.resize(aligned(out.size()), '\0');
    out += code;
  }
  return out;
}

} // namespace ingot
