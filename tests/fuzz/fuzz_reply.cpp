// A reply as some model may write it: a byte that chooses the format, then the text. However it is cut, its parts are
// the same.
#include "runtime/server/reply.h"
#include "tests/fuzz/fuzz.h"

namespace {

using ingot::ReplyPart;

std::vector<ReplyPart> split(const ingot::ReplySplitter::Options &options, std::string_view text, size_t pieces) {
  ingot::ReplySplitter splitter(options);
  std::vector<ReplyPart> parts, joined;
  for (size_t at = 0; at < text.size(); at += pieces)
    splitter.push(text.substr(at, pieces), parts);
  splitter.finish(parts);
  // Text of one kind that came in several parts is one.
  for (ReplyPart &part : parts)
    if (!joined.empty() && part.kind != ReplyPart::kToolCall && joined.back().kind == part.kind)
      joined.back().text += part.text;
    else
      joined.push_back(std::move(part));
  return joined;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0)
    return 0;
  const ingot::ReplyFormat formats[] = {{"<think>", "</think>", "<tool_call>", "</tool_call>"},
                                        {"[THINK]", "[/THINK]", "[TOOL_CALLS]", ""},
                                        {"<|channel>thought\n", "<channel|>", "<|tool_call>", "<tool_call|>"}};
  const ingot::ReplySplitter::Options options = {formats[data[0] % 3], (data[0] & 4) != 0, (data[0] & 8) != 0, {}};
  const std::string_view text = ingot::fuzz::textOf({data + 1, size - 1});
  const std::vector<ReplyPart> whole = split(options, text, size);
  for (const size_t pieces : {size_t{1}, size_t{3}}) {
    const std::vector<ReplyPart> cut = split(options, text, pieces);
    if (cut.size() != whole.size())
      std::abort();
    for (size_t index = 0; index < cut.size(); ++index)
      if (cut[index].kind != whole[index].kind || cut[index].text != whole[index].text ||
          cut[index].call.name != whole[index].call.name || cut[index].call.arguments != whole[index].call.arguments)
        std::abort();
  }
  for (const ReplyPart &part : whole)
    if (part.kind == ReplyPart::kToolCall && !ingot::parseJson(part.call.arguments).ok())
      std::abort();
  ingot::StopMatcher stop({"</", "\n\n"});
  if (stop.push(text).find("</") != std::string::npos)
    std::abort();
  return 0;
}
