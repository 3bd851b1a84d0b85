// Threads that wait for launches. The caller works too; a launch does not wait for threads that are still asleep, so a
// small one costs what its own work costs.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

namespace ingot::emu {

class Pool {
public:
  explicit Pool(unsigned threads);
  ~Pool();
  unsigned size() const { return unsigned(workers.size()) + 1; }
  // Calls `job(i)` on the caller (i = 0) and, unless `alone`, on the other threads that come in time. Every call has
  // returned when this returns. One run at a time.
  void run(const std::function<void(unsigned)> &job, bool alone);

private:
  void serve(unsigned index);

  std::vector<std::thread> workers;
  std::atomic<uint32_t> generation{0};
  std::atomic<const std::function<void(unsigned)> *> current{nullptr};
  std::atomic<int> inside{0};
  std::atomic<bool> stopping{false};
};

} // namespace ingot::emu
