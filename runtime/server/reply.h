// From tokens to what a client sees: text as soon as it is certain, reasoning apart from the answer, function calls,
// and the end at a stop string.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/server/tool_calls.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ingot {

struct ReplyPart {
  enum Kind : uint8_t { kContent, kReasoning, kToolCall };
  Kind kind = kContent;
  std::string text; // content or reasoning
  ToolCall call;
};

// Finds the first of some strings in a text that comes in pieces. What could be the beginning of one is held back.
class StopMatcher {
public:
  explicit StopMatcher(std::vector<std::string> stops) : stops(std::move(stops)) {}
  // What may be shown now. Nothing after a stop string was found.
  std::string push(std::string_view text);
  // What was held back.
  std::string finish();
  bool found() const { return stopped; }

private:
  std::vector<std::string> stops; // none is empty
  std::string held;
  bool stopped = false;
};

// Splits the text of a reply, which comes in pieces, into parts. Text is given out as soon as it cannot be a part of a
// marker; a call as soon as it is complete. What looks like a call and is none is content, as it was written.
class ReplySplitter {
public:
  struct Options {
    ReplyFormat format;       // empty: everything is content
    bool toolCalls = false;   // look for them
    bool inReasoning = false; // the prompt ended with the opening marker
    Json tools;               // the request's, for their schemas
  };
  explicit ReplySplitter(Options options);
  void push(std::string_view text, std::vector<ReplyPart> &parts);
  void finish(std::vector<ReplyPart> &parts);

private:
  enum class State : uint8_t { kContent, kReasoning, kTool };
  bool step(bool atEnd, std::vector<ReplyPart> &parts);
  bool stepContent(bool atEnd, std::vector<ReplyPart> &parts);
  bool stepReasoning(bool atEnd, std::vector<ReplyPart> &parts);
  bool stepTool(bool atEnd, std::vector<ReplyPart> &parts);
  void emit(ReplyPart::Kind kind, size_t count, std::vector<ReplyPart> &parts);

  Options options;
  State state;
  std::string pending;
  bool started = false;   // content was given out
  bool skipSpace = false; // white space is left out up to the next text
};

class Reply {
public:
  struct Options {
    std::vector<std::string> stops;
    ReplySplitter::Options split;
    bool continuesText = false; // TokenStream's
  };
  // The tokenizer must outlive the reply.
  Reply(const Tokenizer &tokenizer, Options options);
  // False when a stop string has come: the reply is over.
  bool push(int32_t token, std::vector<ReplyPart> &parts);
  void finish(std::vector<ReplyPart> &parts);

private:
  const Tokenizer &tokenizer;
  ReplyFormat format;
  TokenStream stream;
  StopMatcher stop;
  ReplySplitter splitter;
};

// Whether a prompt ends inside reasoning: the template opened it for the model.
bool endsInReasoning(std::string_view prompt, const ReplyFormat &format);

} // namespace ingot
