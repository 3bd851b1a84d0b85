// See machine_pool.h. A worker enters by raising `inside` and then looking for the job; the caller withdraws the job
// and then waits for `inside` to fall, so neither can miss the other.
#include "runtime/emulator/machine_pool.h"

#include <immintrin.h>

namespace ingot::emu {

// Graph replay launches every few microseconds: looking for the next job this long is cheaper than sleeping.
constexpr int spins = 400;

Pool::Pool(unsigned threads) {
  for (unsigned i = 1; i < threads; ++i)
    workers.emplace_back([this, i] { serve(i); });
}

Pool::~Pool() {
  stopping = true;
  generation.fetch_add(1);
  generation.notify_all();
  for (std::thread &t : workers)
    t.join();
}

void Pool::serve(unsigned index) {
  uint32_t seen = 0;
  while (true) {
    for (int i = 0; i < spins && generation.load(std::memory_order_relaxed) == seen; ++i)
      _mm_pause();
    generation.wait(seen);
    if (stopping)
      return;
    seen = generation;
    inside.fetch_add(1);
    if (const auto *job = current.load())
      (*job)(index);
    inside.fetch_sub(1);
  }
}

void Pool::run(const std::function<void(unsigned)> &job, bool alone) {
  if (alone || workers.empty()) {
    job(0);
    return;
  }
  current = &job;
  generation.fetch_add(1);
  generation.notify_all();
  job(0);
  current = nullptr;
  for (int i = 0; inside.load() != 0; ++i)
    if (i < 1000)
      _mm_pause();
    else
      std::this_thread::yield();
}

} // namespace ingot::emu
