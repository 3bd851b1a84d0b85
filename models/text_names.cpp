#include "models/text_names.h"

#include <string_view>

namespace ingot {

std::string textName(const std::string &name) {
  constexpr std::string_view outer = "language_model.", inner = "model.language_model.";
  if (name.starts_with(inner))
    return "model." + name.substr(inner.size());
  return name.starts_with(outer) ? name.substr(outer.size()) : name;
}

} // namespace ingot
