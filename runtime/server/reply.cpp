#include "runtime/server/reply.h"

#include <algorithm>

namespace ingot {
namespace {

constexpr std::string_view kSpace = " \t\r\n";

// Bytes at the end of `text` that may be the beginning of `marker`.
size_t heldFor(std::string_view text, std::string_view marker) {
  for (size_t length = std::min(text.size(), marker.empty() ? 0 : marker.size() - 1); length > 0; --length)
    if (text.ends_with(marker.substr(0, length)))
      return length;
  return 0;
}

} // namespace

std::string StopMatcher::push(std::string_view text) {
  if (stopped)
    return "";
  held += text;
  size_t first = std::string::npos, keep = 0;
  for (const std::string &each : stops) {
    first = std::min(first, held.find(each));
    keep = std::max(keep, heldFor(held, each));
  }
  if (first != std::string::npos) {
    stopped = true;
    held.resize(first);
    return std::exchange(held, "");
  }
  std::string ready = held.substr(0, held.size() - keep);
  held.erase(0, ready.size());
  return ready;
}

std::string StopMatcher::finish() { return std::exchange(held, ""); }

ReplySplitter::ReplySplitter(Options chosen)
    : options(std::move(chosen)), state(options.inReasoning ? State::kReasoning : State::kContent),
      skipSpace(options.inReasoning) {
  if (!options.toolCalls)
    options.format.toolOpen.clear();
}

void ReplySplitter::push(std::string_view text, std::vector<ReplyPart> &parts) {
  pending += text;
  while (step(/*atEnd=*/false, parts)) {
  }
}

void ReplySplitter::finish(std::vector<ReplyPart> &parts) {
  while (step(/*atEnd=*/true, parts)) {
  }
}

// Whether there is more to do with what is pending.
bool ReplySplitter::step(bool atEnd, std::vector<ReplyPart> &parts) {
  if (skipSpace) {
    pending.erase(0, std::min(pending.find_first_not_of(kSpace), pending.size()));
    if (pending.empty())
      return false;
  }
  switch (state) {
  case State::kContent:
    return stepContent(atEnd, parts);
  case State::kReasoning:
    return stepReasoning(atEnd, parts);
  case State::kTool:
    return stepTool(atEnd, parts);
  }
  return false;
}

void ReplySplitter::emit(ReplyPart::Kind kind, size_t count, std::vector<ReplyPart> &parts) {
  if (count == 0)
    return;
  skipSpace = false;
  parts.push_back({kind, pending.substr(0, count), {}});
  pending.erase(0, count);
}

bool ReplySplitter::stepContent(bool atEnd, std::vector<ReplyPart> &parts) {
  const ReplyFormat &format = options.format;
  size_t tool = format.toolOpen.empty() ? std::string::npos : pending.find(format.toolOpen);
  // Reasoning comes first or not at all: further on its marker is only mentioned.
  size_t text = std::min(pending.find_first_not_of(kSpace), pending.size());
  bool mayReason = !started && !format.reasoningOpen.empty();
  if (mayReason && pending.compare(text, format.reasoningOpen.size(), format.reasoningOpen) == 0) {
    pending.erase(0, text + format.reasoningOpen.size());
    state = State::kReasoning;
    started = skipSpace = true;
    return true;
  }
  if (tool != std::string::npos) {
    // White space between text and call is the template's.
    size_t end = pending.find_last_not_of(kSpace, tool == 0 ? 0 : tool - 1);
    size_t content = tool == 0 || end == std::string::npos ? 0 : end + 1;
    started = true;
    emit(ReplyPart::kContent, content, parts);
    pending.erase(0, tool - content + format.toolOpen.size());
    state = State::kTool;
    skipSpace = false;
    return true;
  }
  size_t keep = 0;
  if (!atEnd) {
    if (mayReason && heldFor(std::string_view(pending).substr(text), format.reasoningOpen) == pending.size() - text)
      return false;
    keep = heldFor(pending, format.toolOpen);
    if (!format.toolOpen.empty()) {
      size_t last =
          pending.size() == keep ? std::string::npos : pending.find_last_not_of(kSpace, pending.size() - keep - 1);
      keep = pending.size() - (last == std::string::npos ? 0 : last + 1);
    }
  }
  started = started || pending.size() > keep;
  emit(ReplyPart::kContent, pending.size() - keep, parts);
  return false;
}

bool ReplySplitter::stepReasoning(bool atEnd, std::vector<ReplyPart> &parts) {
  const std::string &close = options.format.reasoningClose;
  size_t end = pending.find(close);
  if (end != std::string::npos) {
    size_t last = end == 0 ? std::string::npos : pending.find_last_not_of(kSpace, end - 1);
    size_t text = last == std::string::npos ? 0 : last + 1;
    emit(ReplyPart::kReasoning, text, parts);
    pending.erase(0, end - text + close.size());
    state = State::kContent;
    started = skipSpace = true;
    return true;
  }
  size_t keep = 0;
  if (!atEnd) {
    keep = heldFor(pending, close);
    size_t last =
        pending.size() == keep ? std::string::npos : pending.find_last_not_of(kSpace, pending.size() - keep - 1);
    keep = pending.size() - (last == std::string::npos ? 0 : last + 1);
  }
  emit(ReplyPart::kReasoning, pending.size() - keep, parts);
  return false;
}

bool ReplySplitter::stepTool(bool atEnd, std::vector<ReplyPart> &parts) {
  const ReplyFormat &format = options.format;
  // Without a closing marker a call ends where the next one begins.
  const std::string &mark = format.toolClose.empty() ? format.toolOpen : format.toolClose;
  size_t end = pending.find(mark);
  if (end == std::string::npos && !atEnd)
    return false;
  bool closed = end != std::string::npos;
  std::string body = pending.substr(0, end);
  pending.erase(0, closed ? end + mark.size() : pending.size());
  bool another = closed && format.toolClose.empty();
  if (auto calls = parseToolCalls(body, options.tools); calls.ok()) {
    for (ToolCall &call : *calls)
      parts.push_back({ReplyPart::kToolCall, "", std::move(call)});
    skipSpace = true;
  } else {
    parts.push_back({ReplyPart::kContent, format.toolOpen + body + (closed ? format.toolClose : ""), {}});
  }
  state = another ? State::kTool : State::kContent;
  return another || !pending.empty();
}

Reply::Reply(const Tokenizer &tokenizer, Options options)
    : tokenizer(tokenizer), format(options.split.format),
      stream(tokenizer, /*skipSpecial=*/true, options.continuesText), stop(std::move(options.stops)),
      splitter(std::move(options.split)) {}

bool Reply::push(int32_t token, std::vector<ReplyPart> &parts) {
  std::string text;
  if (tokenizer.isControl(token) && format.isMarker(tokenizer.pieceText(token)))
    text = stream.finish() + std::string(tokenizer.pieceText(token));
  else
    text = stream.push(token);
  splitter.push(stop.push(text), parts);
  return !stop.found();
}

void Reply::finish(std::vector<ReplyPart> &parts) {
  splitter.push(stop.push(stream.finish()), parts);
  splitter.push(stop.finish(), parts);
  splitter.finish(parts);
}

bool endsInReasoning(std::string_view prompt, const ReplyFormat &format) {
  if (format.reasoningOpen.empty())
    return false;
  std::string_view open = format.reasoningOpen;
  auto trimmed = [](std::string_view text) { return text.substr(0, text.find_last_not_of(kSpace) + 1); };
  return trimmed(prompt).ends_with(trimmed(open));
}

} // namespace ingot
