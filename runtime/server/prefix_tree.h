// What prompts left behind: a radix tree whose edges are blocks of tokens. A block has a share of the pages that hold
// what its tokens left in the states that grow with the position (KV caches), and may hold, in host memory, the states
// that do not (recurrences, convolutions, rings) as they were at its end, where a sequence can go on. Nothing here
// knows a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "runtime/executor/pages.h"

namespace ingot {

class PrefixTree {
public:
  struct Shape {
    uint32_t block = 0;      // tokens of an edge
    uint64_t pagesBytes = 0; // of a block
    uint64_t stateBytes = 0; // of the states that do not; 0: a sequence can go on from any block
    auto operator<=>(const Shape &) const = default;
  };
  struct Block {
    std::vector<int32_t> tokens; // shape.block of them
    std::vector<Page> pages;
    std::shared_ptr<const std::vector<std::byte>> state; // null: forgotten
    uint32_t position = 0;                               // tokens up to its end

  private:
    friend class PrefixTree;
    struct Before {
      using is_transparent = void;
      bool operator()(std::span<const int32_t> a, std::span<const int32_t> b) const;
    };
    Block *parent = nullptr;
    std::map<std::span<const int32_t>, Block *, Before> children; // by their `tokens`
    uint64_t lastUse = 0;
    std::list<Block>::iterator place;
  };
  struct Missing {
    bool pages, state;
  };

  // Beyond `budget` bytes what was used least recently is forgotten: of one prompt first the states whose loss costs
  // the fewest tokens, then blocks from its end on. A budget of 0 remembers nothing.
  PrefixTree(const Shape &shape, uint64_t budget) : form(shape), budget(budget) {}
  PrefixTree(const PrefixTree &) = delete;
  PrefixTree &operator=(const PrefixTree &) = delete;

  const Shape &shape() const { return form; }
  uint64_t bytes() const { return held; }
  size_t blocks() const { return nodes.size(); }
  uint64_t forgotten() const { return lost; } // blocks, so far

  // The blocks of `prompt` from its beginning to the last one that a sequence can go on from, which ends before the
  // prompt does: its last token must go through the model. Valid until the next put().
  std::vector<const Block *> find(std::span<const int32_t> prompt);
  // What put() would keep of the last block of `prefix`, whole blocks.
  Missing missing(std::span<const int32_t> prefix) const;
  // Either may be empty where it is not missing. `state`: nothing where a sequence could not go on.
  void put(std::span<const int32_t> prefix, std::vector<Page> pages, std::optional<std::vector<std::byte>> state);

  // Forgets what a put() beyond the budget would forget first. False: there is nothing.
  bool forget();

  // Every block, each after the one that it follows and of several that follow one the least recently used first.
  void visit(const std::function<void(const Block &block)> &look) const;

private:
  Block *follow(const Block &from, std::span<const int32_t> rest) const;
  const Block *blockOf(std::span<const int32_t> prefix) const; // null: there is none
  Block *blockOf(std::span<const int32_t> prefix) { return const_cast<Block *>(std::as_const(*this).blockOf(prefix)); }
  void touch(Block *block);
  void forgetOne();
  void erase(Block &block);
  uint64_t bytesOf(const Block &block) const;

  Shape form;
  uint64_t budget, held = 0, uses = 0, lost = 0;
  Block root;
  std::list<Block> nodes;
};

} // namespace ingot
