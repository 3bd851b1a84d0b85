// Replies that are held to a JSON schema, to a grammar as text, or to a function call. Each becomes a grammar over
// bytes; a matcher follows a reply through it and says which tokens may come next. What a schema may hold is listed at
// Grammar::ofSchema; anything that restricts values and is not in the list is refused, never ignored.
#pragma once

#include <bitset>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

#include "runtime/server/json.h"
#include "runtime/server/logits.h"
#include "runtime/tokenizer/tokenizer.h"

namespace ingot {

// Rules of alternatives of symbols; a symbol is one of some bytes, or a rule. Rule 0 is where a text begins.
class Grammar {
public:
  struct Symbol {
    std::bitset<256> bytes; // none: a rule
    uint32_t rule = 0;
  };
  using Alternative = std::vector<Symbol>;

  // type (one or several of object, array, string, number, integer, boolean, null), properties, required,
  // additionalProperties (no other properties are ever made), items, minItems and maxItems (at most 256), enum, const,
  // anyOf, oneOf, and $ref into the schema itself. Annotations (title, description, format, ...) are passed over.
  // Properties come in the schema's order. Unimplemented for other keywords, InvalidArgument for what is no schema.
  static absl::StatusOr<std::shared_ptr<const Grammar>> ofSchema(const Json &schema);
  // Any object.
  static std::shared_ptr<const Grammar> ofObject();
  // GBNF, as llama.cpp's server takes it: rules `name ::= ...` of "literals", [classes], . for any character, names,
  // (groups), | and the repetitions * + ? {n} {n,} {n,m}; # begins a comment. The text begins with rule `root`. A rule
  // may end with itself but not begin with itself. InvalidArgument with the line of what is wrong.
  static absl::StatusOr<std::shared_ptr<const Grammar>> ofText(std::string_view text);
  // One call of one of `tools`, OpenAI's array, or of the one with that `name` where it is not empty: between the
  // markers `open` and `close`, as an object with `name` and `arguments`. Arguments follow the function's schema as far
  // as ofSchema() can hold it, else they are any object. InvalidArgument: there is no such function.
  static absl::StatusOr<std::shared_ptr<const Grammar>> ofCall(const Json &tools, std::string_view name,
                                                               std::string_view open, std::string_view close);

  const std::vector<std::vector<Alternative>> &rules() const { return all; }

private:
  friend class SchemaReader;
  friend class GrammarReader;
  std::vector<std::vector<Alternative>> all;
};

// Follows texts through a grammar. A state is a set of stacks of what is still to come; equal states are equal values.
class Matcher {
public:
  using State = std::vector<int32_t>; // sorted; kDone is among them where the text may end
  static constexpr int32_t kDone = -1;
  static constexpr uint64_t kWork = 8'000'000; // about a second

  explicit Matcher(std::shared_ptr<const Grammar> grammar);
  State start();
  State step(const State &state, uint8_t byte); // empty: no text goes on like this, or the matcher gave up
  // A grammar can be read in so many ways at once that following it takes for ever. Beyond `work` stacks looked at
  // until the next call of this the matcher gives up.
  void allowWork(uint64_t work) { left = work; }
  bool gaveUp() const { return tired; }
  static bool mayEnd(const State &state) { return !state.empty() && state.front() == kDone; }

private:
  struct Node {
    uint32_t rule, alternative, symbol;
    int32_t next; // what follows; kDone: nothing
    auto operator<=>(const Node &) const = default;
  };
  int32_t intern(const Node &node);
  const Grammar::Alternative &alternativeOf(const Node &node) const;
  void close(int32_t stack, std::set<int32_t> &seen, std::set<int32_t> &found);

  std::shared_ptr<const Grammar> grammar;
  std::vector<Node> nodes;
  std::map<Node, int32_t> known;
  uint64_t left = kWork;
  bool tired = false;
};

// The bytes of every token that text can be made of, sorted, so that tokens that begin alike are tried together.
class TokenTable {
public:
  // Control tokens are no text, but for those that `markers` takes.
  explicit TokenTable(const Tokenizer &tokenizer, const std::function<bool(std::string_view piece)> &markers = nullptr);
  // Marks in `allowed` the tokens with which a text may go on from `state`.
  void allow(Matcher &matcher, const Matcher::State &state, std::vector<bool> &allowed) const;
  size_t vocabulary() const { return size; }

private:
  void allow(Matcher &matcher, const Matcher::State &state, size_t first, size_t last, size_t depth,
             std::vector<bool> &allowed) const;
  std::vector<std::pair<std::string_view, int32_t>> tokens; // of the tokenizer, which must outlive this
  size_t size;
};

// Holds one reply to a grammar: tokens that lead out of it are excluded, and the end where the text is not complete.
class GrammarFilter : public TokenFilter {
public:
  // `after`: the grammar holds once this text was written (the end of reasoning); empty: from the beginning.
  GrammarFilter(std::shared_ptr<const Grammar> grammar, std::shared_ptr<const TokenTable> table,
                const Tokenizer &tokenizer, std::set<int32_t> ends, std::string after);
  std::span<const uint32_t> mask(uint32_t vocabulary) override;
  void accept(int32_t token) override;
  absl::Status status() const override;

private:
  void follow(std::string_view text);

  Matcher matcher;
  std::shared_ptr<const TokenTable> table;
  const Tokenizer &tokenizer;
  std::set<int32_t> ends;
  std::string after, before; // the text up to `after`
  Matcher::State state;
  std::map<Matcher::State, std::vector<uint32_t>> masks; // a string's inside is one state: most steps find theirs here
};

} // namespace ingot
