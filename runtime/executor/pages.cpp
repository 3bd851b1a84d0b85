#include "runtime/executor/pages.h"

namespace ingot {

Page::Page(const Page &other) : pool(other.pool), place(other.place) {
  if (pool)
    ++pool->shares[place];
}

Page::~Page() {
  if (pool && --pool->shares[place] == 0)
    pool->unused.push_back(place);
}

PagePool::PagePool(uint32_t pages) : shares(pages), unused(pages) {
  for (uint32_t index = 0; index < pages; ++index)
    unused[index] = pages - 1 - index;
}

std::optional<Page> PagePool::take() {
  while (unused.empty())
    if (!reclaim || !reclaim())
      return std::nullopt;
  const uint32_t index = unused.back();
  unused.pop_back();
  shares[index] = 1;
  return Page(*this, index);
}

} // namespace ingot
