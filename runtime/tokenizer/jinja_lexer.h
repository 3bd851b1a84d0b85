// Jinja's lexical rules: text and tags, what the whitespace signs, trim_blocks and lstrip_blocks remove around them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ingot::jinja {

struct Token {
  enum Kind { DATA, OUTPUT_BEGIN, OUTPUT_END, TAG_BEGIN, TAG_END, NAME, STRING, INTEGER, FLOAT, OPERATOR, END };
  Kind kind = END;
  std::string text; // strings are decoded; numbers are without underscores
  int line = 0;
};

// Throws Failure; `line` follows along. The last token is END.
std::vector<Token> tokenize(std::string_view source, int &line);

} // namespace ingot::jinja
