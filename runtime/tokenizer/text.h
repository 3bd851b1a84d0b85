// Joins text and numbers into one string. Debian's abseil has a string_view of its own that does not take the
// standard's, so its StrCat cannot serve code that speaks std::string_view.
#pragma once

#include <concepts>
#include <string>
#include <string_view>

namespace ingot {

inline void appendPart(std::string &out, std::string_view part) { out.append(part); }
inline void appendPart(std::string &out, std::integral auto part) { out.append(std::to_string(part)); }

template <typename... Parts> std::string cat(const Parts &...parts) {
  std::string out;
  (appendPart(out, parts), ...);
  return out;
}

} // namespace ingot
