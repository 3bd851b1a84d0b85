// String pieces joined for messages. Debian builds abseil as C++14, where absl::string_view is not std::string_view and
// absl::StrCat does not take the latter; this does.
#pragma once

#include <string>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace ingot {

inline absl::string_view messagePiece(std::string_view text) { return {text.data(), text.size()}; }
template <typename T> const T &messagePiece(const T &value) { return value; }

template <typename... Pieces> std::string cat(const Pieces &...pieces) { return absl::StrCat(messagePiece(pieces)...); }

} // namespace ingot
