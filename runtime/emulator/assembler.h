// For tests: turns assembly text into machine code with LLVM's own assembler, in process.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ingot::emu {

// The bytes of .text for `chip` ("gfx1151"), branches resolved. On failure returns nothing and puts the assembler's
// messages, with line numbers, into `error`.
std::vector<uint8_t> assemble(std::string_view chip, const std::string &text, std::string &error);

} // namespace ingot::emu
