// String pieces joined for messages. Debian builds abseil as C++14, where absl::string_view is not std::string_view and
// absl::StrCat does not take the latter; this does.
#pragma once

#include <string>
#include <string_view>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ingot {

inline absl::string_view messagePiece(std::string_view text) { return {text.data(), text.size()}; }

// Strings of any kind, and numbers; none gives "".
template <typename... Pieces> std::string cat(const Pieces &...pieces) {
  std::string text;
  const auto add = [&](const auto &piece) {
    if constexpr (std::is_convertible_v<decltype(piece), std::string_view>)
      text.append(std::string_view(piece));
    else
      absl::StrAppend(&text, piece);
  };
  (add(pieces), ...);
  return text;
}

} // namespace ingot
