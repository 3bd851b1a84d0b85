// A file of saved prompts. What is restored stays within the budget and can be found; nothing of another shape is
// taken.
#include <cstring>
#include <sstream>

#include <xxhash.h>

#include "runtime/server/prefix_file.h"
#include "tests/fuzz/fuzz.h"

namespace {

constexpr size_t kHeader = 56, kBlock = 20, kState = 3, kChecksum = 8; // bytes, in the shape below

void mend(std::string &file) {
  auto put = [&](size_t first, size_t size) {
    if (first + size + kChecksum > file.size())
      return false;
    const uint64_t sum = XXH3_64bits(file.data() + first, size);
    std::memcpy(file.data() + first + size, &sum, sizeof sum);
    return true;
  };
  put(0, kHeader - kChecksum);
  for (size_t at = kHeader; at + 8 <= file.size();) {
    const size_t size = kBlock + (file[at + 4] ? kState : 0);
    if (!put(at, size))
      return;
    at += size + kChecksum;
  }
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  constexpr uint64_t kBudget = 4096, kIdentity = 7;
  constexpr uint32_t kPages = 8;
  ingot::PagePool pool(kPages);
  ingot::PrefixTree tree({.block = 2, .pagesBytes = 4, .stateBytes = 3}, kBudget);
  pool.setReclaim([&] { return tree.forget(); });
  auto make = [&](std::span<const std::byte> bytes) -> absl::StatusOr<std::vector<ingot::Page>> {
    auto page = pool.take();
    if (bytes.size() != 4 || !page)
      std::abort();
    return std::vector<ingot::Page>{*page};
  };
  if (size == 0)
    return 0;
  std::string file(ingot::fuzz::textOf({data + 1, size - 1}));
  if (data[0] & 1)
    mend(file);
  std::istringstream in(file);
  (void)ingot::restorePrefixes(in, kIdentity, make, tree);
  if (tree.bytes() > kBudget || tree.blocks() + pool.free() != kPages)
    std::abort();
  size_t visited = 0;
  std::vector<std::vector<int32_t>> prompts;
  tree.visit([&](const ingot::PrefixTree::Block &block) {
    ++visited;
    const size_t depth = block.position / 2;
    if (block.tokens.size() != 2 || block.pages.size() != 1 || (block.state && block.state->size() != 3) || depth == 0)
      std::abort();
    prompts.resize(depth);
    prompts.back() = block.tokens;
    std::vector<int32_t> prompt;
    for (const auto &tokens : prompts)
      prompt.insert(prompt.end(), tokens.begin(), tokens.end());
    if (const auto missing = tree.missing(prompt); missing.pages)
      std::abort();
  });
  if (visited != tree.blocks())
    std::abort();
  return 0;
}
