// MessagePack by its public specification; see msgpack.h for why it is our own.
#include "runtime/emulator/msgpack.h"

#include <bit>

namespace ingot::emu {
namespace {

constexpr int maxDepth = 32;

class Reader {
public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes(bytes) {}

  bool value(MsgPack &out, int depth) {
    uint64_t tag;
    if (depth > maxDepth || !number(1, tag))
      return false;
    if (tag <= 0x7f)
      return integer(out, tag);
    if (tag <= 0x8f)
      return map(out, tag & 15, depth);
    if (tag <= 0x9f)
      return list(out, tag & 15, depth);
    if (tag <= 0xbf)
      return text(out, tag & 31);
    if (tag >= 0xe0)
      return integer(out, uint64_t(int64_t(int8_t(tag))));
    return tagged(out, tag, depth);
  }

private:
  std::span<const uint8_t> bytes;

  bool number(unsigned count, uint64_t &out) {
    if (bytes.size() < count)
      return false;
    out = 0;
    for (unsigned i = 0; i < count; ++i)
      out = out << 8 | bytes[i];
    bytes = bytes.subspan(count);
    return true;
  }

  static bool integer(MsgPack &out, uint64_t value) {
    out.kind = MsgPack::Kind::integer;
    out.integer = value;
    return true;
  }

  bool text(MsgPack &out, uint64_t length) {
    if (bytes.size() < length)
      return false;
    out.kind = MsgPack::Kind::text;
    out.text.assign(reinterpret_cast<const char *>(bytes.data()), length);
    bytes = bytes.subspan(length);
    return true;
  }

  // Every element takes a byte at least, so a count above the bytes left is a lie that must not be allocated for.
  bool list(MsgPack &out, uint64_t count, int depth) {
    if (count > bytes.size())
      return false;
    out.kind = MsgPack::Kind::list;
    for (uint64_t i = 0; i < count; ++i)
      if (!value(out.list.emplace_back(), depth + 1))
        return false;
    return true;
  }

  bool map(MsgPack &out, uint64_t count, int depth) {
    if (count > bytes.size())
      return false;
    out.kind = MsgPack::Kind::map;
    for (uint64_t i = 0; i < count; ++i) {
      MsgPack key;
      if (!value(key, depth + 1) || !value(out.list.emplace_back(), depth + 1))
        return false;
      out.keys.push_back(std::move(key.text));
    }
    return true;
  }

  bool tagged(MsgPack &out, uint64_t tag, int depth) {
    uint64_t n;
    switch (tag) {
    case 0xc0:
      return true;
    case 0xc2:
    case 0xc3:
      out.kind = MsgPack::Kind::boolean;
      out.integer = tag & 1;
      return true;
    case 0xc4:
    case 0xc5:
    case 0xc6:
      return number(1u << (tag - 0xc4), n) && text(out, n);
    case 0xca:
      out.kind = MsgPack::Kind::number;
      if (!number(4, n))
        return false;
      out.number = std::bit_cast<float>(uint32_t(n));
      return true;
    case 0xcb:
      out.kind = MsgPack::Kind::number;
      if (!number(8, n))
        return false;
      out.number = std::bit_cast<double>(n);
      return true;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf:
      return number(1u << (tag - 0xcc), n) && integer(out, n);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: {
      unsigned bits = 8u << (tag - 0xd0);
      if (!number(bits / 8, n))
        return false;
      return integer(out, uint64_t(int64_t(n << (64 - bits)) >> (64 - bits)));
    }
    case 0xd9:
    case 0xda:
    case 0xdb:
      return number(1u << (tag - 0xd9), n) && text(out, n);
    case 0xdc:
    case 0xdd:
      return number(2u << (tag - 0xdc), n) && list(out, n, depth);
    case 0xde:
    case 0xdf:
      return number(2u << (tag - 0xde), n) && map(out, n, depth);
    default:
      return false;
    }
  }
};

} // namespace

const MsgPack *MsgPack::find(std::string_view key) const {
  for (size_t i = 0; i < keys.size(); ++i)
    if (keys[i] == key)
      return &list[i];
  return nullptr;
}

std::string MsgPack::textAt(std::string_view key) const {
  const MsgPack *entry = find(key);
  return entry && entry->kind == Kind::text ? entry->text : std::string();
}

uint64_t MsgPack::integerAt(std::string_view key, uint64_t otherwise) const {
  const MsgPack *entry = find(key);
  return entry && (entry->kind == Kind::integer || entry->kind == Kind::boolean) ? entry->integer : otherwise;
}

std::optional<MsgPack> readMsgPack(std::span<const uint8_t> bytes) {
  MsgPack out;
  if (!Reader(bytes).value(out, 0))
    return std::nullopt;
  return out;
}

} // namespace ingot::emu
