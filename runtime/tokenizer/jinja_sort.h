// A stable merge sort that stays inside its range whatever the comparison says. Python orders values that have no
// consistent order (a NaN among numbers), which the standard's sorts answer with undefined behaviour; and a comparison
// may throw here.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

namespace ingot::jinja {

template <typename T, typename Before> void stableSort(std::vector<T> &items, const Before &before) {
  std::vector<T> merged(items.size());
  for (size_t run = 1; run < items.size(); run *= 2) {
    for (size_t begin = 0; begin < items.size(); begin += 2 * run) {
      size_t middle = std::min(begin + run, items.size());
      size_t end = std::min(begin + 2 * run, items.size());
      size_t left = begin;
      size_t right = middle;
      for (size_t out = begin; out < end; ++out) {
        bool takeRight = left == middle || (right < end && before(items[right], items[left]));
        merged[out] = std::move(items[takeRight ? right++ : left++]);
      }
    }
    items.swap(merged);
  }
}

} // namespace ingot::jinja
