#include "runtime/server/prefix_tree.h"

#include <algorithm>
#include <utility>

namespace ingot {

using Block = PrefixTree::Block;

bool Block::Before::operator()(std::span<const int32_t> a, std::span<const int32_t> b) const {
  return std::ranges::lexicographical_compare(a, b);
}

// The block that the first tokens of `rest` lead to; null: none.
Block *PrefixTree::follow(const Block &from, std::span<const int32_t> rest) const {
  if (rest.size() < form.block)
    return nullptr;
  auto found = from.children.find(rest.first(form.block));
  return found == from.children.end() ? nullptr : found->second;
}

const Block *PrefixTree::blockOf(std::span<const int32_t> prefix) const {
  const Block *block = &root;
  for (; block && !prefix.empty(); prefix = prefix.subspan(form.block))
    if (block = follow(*block, prefix); !block)
      break;
  return block;
}

std::vector<const Block *> PrefixTree::find(std::span<const int32_t> prompt) {
  std::vector<const Block *> path;
  size_t usable = 0;
  Block *block = &root, *last = nullptr;
  // One token less: what is left must not be empty.
  for (std::span<const int32_t> rest = prompt.first(prompt.empty() ? 0 : prompt.size() - 1);
       (block = follow(*block, rest)); rest = rest.subspan(form.block)) {
    path.push_back(block);
    if (block->state) {
      usable = path.size();
      last = block;
    }
  }
  path.resize(usable);
  touch(last);
  return path;
}

PrefixTree::Missing PrefixTree::missing(std::span<const int32_t> prefix) const {
  if (budget == 0 || prefix.empty() || prefix.size() % form.block != 0 ||
      !blockOf(prefix.first(prefix.size() - form.block)))
    return {false, false};
  const Block *block = blockOf(prefix);
  return {!block, !block || !block->state};
}

void PrefixTree::put(std::span<const int32_t> prefix, std::vector<Page> pages,
                     std::optional<std::vector<std::byte>> state) {
  Missing lacks = missing(prefix);
  if (lacks.pages) {
    Block *parent = blockOf(prefix.first(prefix.size() - form.block));
    Block &made = nodes.emplace_back();
    made.place = std::prev(nodes.end());
    made.parent = parent;
    std::span<const int32_t> tokens = prefix.last(form.block);
    made.tokens.assign(tokens.begin(), tokens.end());
    made.pages = std::move(pages);
    made.position = parent->position + form.block;
    parent->children.emplace(made.tokens, &made);
    held += bytesOf(made);
  }
  Block *block = blockOf(prefix);
  if (!block || block == &root)
    return;
  if (lacks.state && state) {
    held += state->size();
    block->state = std::make_shared<const std::vector<std::byte>>(*std::move(state));
  }
  touch(block);
  while (held > budget)
    forgetOne();
}

bool PrefixTree::forget() {
  if (nodes.empty())
    return false;
  forgetOne();
  return true;
}

void PrefixTree::touch(Block *block) {
  ++uses;
  for (; block; block = block->parent)
    block->lastUse = uses;
}

void PrefixTree::visit(const std::function<void(const Block &)> &look) const {
  std::vector<const Block *> open = {&root};
  while (!open.empty()) {
    const Block *block = open.back();
    open.pop_back();
    if (block != &root)
      look(*block);
    size_t first = open.size();
    for (const auto &[tokens, child] : block->children)
      open.push_back(child);
    // The last one pushed is looked at first.
    std::sort(open.begin() + static_cast<std::ptrdiff_t>(first), open.end(),
              [](const Block *a, const Block *b) { return a->lastUse > b->lastUse; });
  }
}

// A use reaches from a block to the root, so no block was used after the one that it follows: among those used longest
// ago is one that nothing follows.
void PrefixTree::forgetOne() {
  uint64_t oldest = std::ranges::min_element(nodes, {}, &Block::lastUse)->lastUse;
  Block *leaf = nullptr, *thinned = nullptr;
  uint32_t least = 0;
  for (Block &block : nodes) {
    if (block.lastUse != oldest)
      continue;
    if (block.children.empty()) {
      leaf = &block;
      continue;
    }
    // The last state of a prompt is where a conversation goes on: it goes with its block.
    if (form.stateBytes == 0 || !block.state)
      continue;
    const Block *before = block.parent;
    while (before != &root && !before->state)
      before = before->parent;
    if (uint32_t loses = block.position - before->position; !thinned || loses < least) {
      thinned = &block;
      least = loses;
    }
  }
  if (thinned) {
    held -= thinned->state->size();
    thinned->state = nullptr;
    return;
  }
  // What is left at the end without a state is of no use.
  do {
    Block *parent = leaf->parent;
    erase(*leaf);
    leaf = parent;
  } while (leaf != &root && leaf->children.empty() && !leaf->state);
}

uint64_t PrefixTree::bytesOf(const Block &block) const {
  return sizeof block + block.tokens.size() * sizeof(int32_t) + form.pagesBytes +
         (block.state ? block.state->size() : 0);
}

void PrefixTree::erase(Block &block) {
  held -= bytesOf(block);
  ++lost;
  block.parent->children.erase(block.tokens);
  nodes.erase(block.place);
}

} // namespace ingot
