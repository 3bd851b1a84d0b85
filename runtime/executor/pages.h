// Who has which page of the states that grow with the position (runtime/artifact/step.h). A sequence takes pages as it
// grows. Pages that are full never change again, so sequences that begin alike, and what remembers prompts, share them.
// Nothing here knows a device.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

namespace ingot {

class PagePool;

// A share of a page, which is free again when the last share is gone. The pool must outlive it.
class Page {
public:
  Page() = default;
  Page(const Page &other);
  Page(Page &&other) noexcept : pool(std::exchange(other.pool, nullptr)), place(other.place) {}
  Page &operator=(Page other) noexcept {
    std::swap(pool, other.pool);
    std::swap(place, other.place);
    return *this;
  }
  ~Page();
  uint32_t index() const { return place; }

private:
  friend class PagePool;
  Page(PagePool &of, uint32_t index) : pool(&of), place(index) {}
  PagePool *pool = nullptr; // null: moved from
  uint32_t place = 0;
};

// Not thread-safe. Taking and giving back allocate nothing.
class PagePool {
public:
  explicit PagePool(uint32_t pages = 0);
  PagePool(const PagePool &) = delete;
  PagePool &operator=(const PagePool &) = delete;

  // A page that nobody has. With none free `reclaim` is asked, again and again, until there is one or it has nothing to
  // give; then there is none.
  std::optional<Page> take();
  // Asked when no page is free: whether it gave up something, pages or what keeps them from being given up. None: null.
  void setReclaim(std::function<bool()> ask) { reclaim = std::move(ask); }

  uint32_t size() const { return static_cast<uint32_t>(shares.size()); }
  uint32_t free() const { return static_cast<uint32_t>(unused.size()); }

private:
  friend class Page;
  std::vector<uint32_t> shares; // by page
  std::vector<uint32_t> unused; // the next one last
  std::function<bool()> reclaim;
};

} // namespace ingot
