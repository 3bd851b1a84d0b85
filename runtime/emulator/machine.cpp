// Launches: workgroups are handed out to threads; a thread runs the waves of one workgroup in turn, each until it ends
// or waits at the barrier. State that a launch needs is kept from the last one, so that a launch allocates next to
// nothing.
#include "runtime/emulator/machine.h"

#include "runtime/emulator/decode.h"
#include "runtime/emulator/machine_pool.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

namespace ingot::emu {

void Counters::addBytes(const BufferBytes &bytes) {
  bytesRead += bytes.read;
  bytesWritten += bytes.written;
  auto at = std::lower_bound(buffers.begin(), buffers.end(), bytes.buffer,
                             [](const BufferBytes &entry, uint32_t buffer) { return entry.buffer < buffer; });
  if (at == buffers.end() || at->buffer != bytes.buffer)
    at = buffers.insert(at, BufferBytes{bytes.buffer});
  at->read += bytes.read;
  at->written += bytes.written;
}

Counters &Counters::operator+=(const Counters &o) {
  launches += o.launches;
  waves += o.waves;
  scalar += o.scalar;
  vector += o.vector;
  dot += o.dot;
  wmma += o.wmma;
  crossLane += o.crossLane;
  lds += o.lds;
  global += o.global;
  scratch += o.scratch;
  branch += o.branch;
  wait += o.wait;
  barrier += o.barrier;
  for (const BufferBytes &bytes : o.buffers)
    addBytes(bytes);
  ldsConflictCycles += o.ldsConflictCycles;
  return *this;
}

namespace {

std::string hex(uint64_t v) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(v));
  return text;
}

// Of poison mode, a wave: 256 vector registers and the scalar file.
constexpr size_t definedWords = 256 + sreg::count;

struct FreeAligned {
  void operator()(uint8_t *p) const { std::free(p); }
};
// Grows, never shrinks; contents are lost when it grows.
struct Buffer {
  std::unique_ptr<uint8_t, FreeAligned> data;
  size_t size = 0;
  uint8_t *get(size_t bytes) {
    if (bytes > size) {
      size = (bytes + 4095) / 4096 * 4096;
      data.reset(static_cast<uint8_t *>(std::aligned_alloc(4096, size)));
    }
    return data.get();
  }
};

// What one thread remembers of a program between launches.
struct Remembered {
  std::vector<Site> sites;
  std::vector<uint64_t> siteBytes, blockCounts;
  std::vector<Memory::Range> readOnly;
  uint64_t memoryVersion = 0;
};

struct Worker {
  Buffer waves, lds, scratch, localIds, defined;
  std::unordered_map<uint64_t, Remembered> programs;
};

} // namespace

struct Job {
  const Launch *launch;
  const ProgramCode *code;
  const std::vector<Memory::Range> *readOnly;
  uint32_t waves, lanes, ldsBytes;
  uint64_t groups, chunk, memoryVersion;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::mutex result;
  std::optional<Fault> fault;
  uint64_t faultGroup = 0;
  Counters counters;
  // What the dispatch and queue pointers point to, where a kernel asks for them.
  alignas(64) std::array<uint8_t, 64> packet{};
  alignas(64) std::array<uint8_t, 256> queue{};
};

struct Machine::Impl {
  const ChipInfo &chip;
  const Memory &memory;
  Options options;
  const Executor *executor;
  Pool pool;
  std::vector<Worker> workers;
  std::mutex running;

  Impl(const ChipInfo &chip, const Memory &memory, const Options &options)
      : chip(chip), memory(memory), options(options), executor(chooseExecutor()), pool(threadCount(options)),
        workers(pool.size()) {}
  static unsigned threadCount(const Options &o) {
    if (o.deterministic)
      return 1;
    return o.threads ? std::min(o.threads, 256u) : std::max(1u, std::thread::hardware_concurrency());
  }
  void work(Job &job, Worker &worker);
  bool runGroup(Job &job, Worker &worker, Context &c, uint64_t group);
};

// The packet of the architected queue format, as far as kernels read it.
static void fillPacket(Job &job) {
  auto put = [&](size_t at, auto v) { std::memcpy(job.packet.data() + at, &v, sizeof v); };
  for (unsigned i = 0; i < 3; ++i) {
    put(4 + 2 * i, uint16_t(job.launch->block[i]));
    put(12 + 4 * i, uint32_t(job.launch->grid[i] * job.launch->block[i]));
  }
  put(24, job.code->kernel.scratchBytes);
  put(28, job.ldsBytes);
  put(40, reinterpret_cast<uint64_t>(job.launch->kernarg.data()));
}

// Books what a site has counted so far to the buffer it used.
static void countSite(Context *c, const Site &site) {
  uint64_t &bytes = c->siteBytes[&site - c->sites];
  if (bytes)
    c->counters->addBytes({site.buffer, site.writes ? 0 : bytes, site.writes ? bytes : 0});
  bytes = 0;
}

bool Machine::Impl::runGroup(Job &job, Worker &worker, Context &c, uint64_t group) {
  const ProgramCode &code = *job.code;
  const Launch &launch = *job.launch;
  c.group = {uint32_t(group % launch.grid[0]), uint32_t(group / launch.grid[0] % launch.grid[1]),
             uint32_t(group / launch.grid[0] / launch.grid[1])};
  c.budget = int64_t(std::min<uint64_t>(options.budget, INT64_MAX));
  uint8_t *memoryOfWaves = worker.waves.data.get();
  auto waveAt = [&](uint32_t i) { return reinterpret_cast<Wave *>(memoryOfWaves + size_t(i) * code.waveBytes); };

  for (uint32_t i = 0; i < job.waves; ++i) {
    Wave *w = waveAt(i);
    w->next = code.ops.data();
    w->stop = Stop::running;
    w->barrierSignalled = 0;
    w->mode = code.mode;
    w->mxcsr = hostControl(code.mode, false);
    w->mxcsrWide = hostControl(code.mode, true);
    uint32_t s = 0;
    auto address = [&](const void *p) {
      w->s[s] = uint32_t(reinterpret_cast<uint64_t>(p));
      w->s[s + 1] = uint32_t(reinterpret_cast<uint64_t>(p) >> 32);
      s += 2;
    };
    uint16_t properties = code.properties;
    if (properties & 1)
      s += 4;
    if (properties & 2)
      address(job.packet.data());
    if (properties & 4)
      address(job.queue.data());
    if (properties & 8)
      address(launch.kernarg.data());
    if (properties & 16)
      address(nullptr);
    if (properties & 32)
      s += 2;
    if (properties & 64)
      w->s[s++] = c.scratchBytes;
    s = code.userScalars;
    if (chip.generation >= 12) {
      w->s[sreg::ttmp + 9] = c.group[0];
      w->s[sreg::ttmp + 7] = (c.group[1] & 0xffff) | c.group[2] << 16;
      w->s[sreg::ttmp + 8] = i << 25;
    } else {
      for (unsigned k = 0; k < 3; ++k)
        if (code.groupIdScalars[k])
          w->s[s++] = c.group[k];
    }
    uint32_t left = job.lanes - 32 * i;
    w->s[sreg::exec] = left >= 32 ? ~0u : (1u << left) - 1;
    w->s[sreg::exec + 1] = 0;
    w->s[sreg::null] = 0;
    w->s[sreg::vcc] = w->s[sreg::vcc + 1] = w->s[sreg::scc] = 0;
    if (options.poison) {
      std::memset(w->defined, 0, 4 * definedWords);
      w->defined[0] = ~0u; // v0
      auto given = [&](uint32_t first, uint32_t end) {
        std::fill(w->defined + 256 + first, w->defined + 256 + end, 1u);
      };
      given(0, s);
      given(sreg::ttmp, sreg::null + 1);
      given(sreg::exec, sreg::exec + 2);
      given(sreg::sharedBase, sreg::count);
    }
    std::memcpy(reinterpret_cast<uint8_t *>(w) + code.vectorBase, worker.localIds.data.get() + 128 * size_t(i), 128);
  }

  uint32_t live = job.waves;
  while (live) {
    live = 0;
    const Wave *waiting = nullptr;
    for (uint32_t i = 0; i < job.waves; ++i) {
      Wave *w = waveAt(i);
      if (w->stop == Stop::ended)
        continue;
      w->stop = Stop::running;
      executor->run(w);
      if (w->stop == Stop::faulted) {
        // A wave that spins while others wait is the other way for a barrier never to open.
        if (c.budget < 0 && waiting)
          c.fault.report += "\n  meanwhile wave " + std::to_string(waiting->index) + " waits at the barrier at pc " +
                            hex(code.instruction(waiting->next - 1).pc);
        return false;
      }
      if (w->stop != Stop::barrier)
        continue;
      ++live;
      if (!waiting) {
        waiting = w;
      } else if (waiting->next != w->next) {
        fault(w, w->next - 1, 719, -1,
              "divergent barrier: this wave waits here while wave " + std::to_string(waiting->index) +
                  " of the workgroup waits at pc " + hex(code.instruction(waiting->next - 1).pc));
        return false;
      }
    }
    for (uint32_t i = 0; live && i < job.waves; ++i)
      waveAt(i)->barrierSignalled = 0;
  }
  return true;
}

void Machine::Impl::work(Job &job, Worker &worker) {
  uint64_t group = job.next.fetch_add(job.chunk);
  if (group >= job.groups)
    return;
  const ProgramCode &code = *job.code;
  Remembered &known = worker.programs[code.id];
  if (known.sites.size() != code.sites)
    known.sites.resize(code.sites);
  auto same = [](const Memory::Range &a, const Memory::Range &b) { return a.begin == b.begin && a.end == b.end; };
  if (known.memoryVersion != job.memoryVersion ||
      !std::equal(known.readOnly.begin(), known.readOnly.end(), job.readOnly->begin(), job.readOnly->end(), same)) {
    for (Site &site : known.sites) {
      site.begin = 1;
      site.end = 0;
      site.buffer = Memory::arguments;
    }
    known.memoryVersion = job.memoryVersion;
    known.readOnly = *job.readOnly;
  }
  known.siteBytes.assign(code.sites, 0);
  known.blockCounts.assign(code.blocks.size(), 0);

  Counters counters;
  Context c{};
  c.memory = &memory;
  c.code = &code;
  c.launch = job.launch;
  c.job = &job;
  c.sites = known.sites.data();
  c.siteBytes = known.siteBytes.data();
  c.counters = &counters;
  c.blockCounts = known.blockCounts.data();
  c.ldsBytes = job.ldsBytes;
  c.lds = worker.lds.get(std::max(job.ldsBytes, 64u));
  c.scratchBytes = (code.kernel.scratchBytes + 3) / 4 * 4;
  c.scratch = worker.scratch.get(std::max<size_t>(64, size_t(c.scratchBytes) * 32 * job.waves));
  c.readOnly = job.readOnly;

  uint8_t *ids = worker.localIds.get(128 * size_t(job.waves));
  const auto &block = job.launch->block;
  for (uint32_t i = 0; i < 32 * job.waves; ++i) {
    uint32_t x = i % block[0], y = i / block[0] % block[1], z = i / block[0] / block[1];
    uint32_t v = x | (code.localIdComponents > 0 ? y << 10 : 0) | (code.localIdComponents > 1 ? z << 20 : 0);
    std::memcpy(ids + 4 * size_t(i), &v, 4);
  }
  uint8_t *waves = worker.waves.get(size_t(code.waveBytes) * job.waves);
  auto *defined = reinterpret_cast<uint32_t *>(worker.defined.get(options.poison ? 4 * definedWords * job.waves : 0));
  for (uint32_t i = 0; i < job.waves; ++i) {
    uint8_t *at = waves + size_t(i) * code.waveBytes;
    auto *w = reinterpret_cast<Wave *>(at);
    if (options.poison)
      std::memset(at, 0xfb, code.waveBytes); // as f32, f16, bf16 an enormous number; as an address, nowhere
    w->context = &c;
    w->index = i;
    w->scratch = c.scratch + size_t(i) * 32 * c.scratchBytes;
    w->defined = options.poison ? defined + definedWords * i : nullptr;
    w->s[sreg::sharedBase] = w->s[sreg::privateBase] = 0;
    w->s[sreg::sharedBase + 1] = sharedAperture;
    w->s[sreg::privateBase + 1] = privateAperture;
    std::memcpy(at + code.vectorBase + 128 * size_t(code.vectorRegisters), code.constants.data(),
                4 * code.constants.size());
  }

  bool good = true;
  uint64_t done = 0;
  while (good && group < job.groups) {
    for (uint64_t end = std::min(job.groups, group + job.chunk); good && group < end && !job.failed; ++group) {
      if (options.poison)
        std::memset(c.lds, 0xfb, job.ldsBytes);
      good = runGroup(job, worker, c, group);
      ++done;
    }
    if (good && !job.failed)
      group = job.next.fetch_add(job.chunk);
    else
      break;
  }

  for (Site &site : known.sites)
    countSite(&c, site);
  counters.waves = done * job.waves;
  std::array<uint64_t, size_t(Class::count)> sum{};
  for (size_t b = 0; b < code.blocks.size(); ++b)
    if (uint64_t times = known.blockCounts[b])
      for (size_t k = 0; k < sum.size(); ++k)
        sum[k] += times * code.blocks[b].counts[k];
  auto of = [&](Class k) { return sum[size_t(k)]; };
  counters.scalar = of(Class::scalar);
  counters.vector = of(Class::vector);
  counters.dot = of(Class::dot);
  counters.wmma = of(Class::wmma);
  counters.crossLane = of(Class::crossLane);
  counters.lds = of(Class::lds);
  counters.global = of(Class::global);
  counters.scratch = of(Class::scratch);
  counters.branch = of(Class::branch);
  counters.wait = of(Class::wait);
  counters.barrier = of(Class::barrier);
  counters.ldsConflictCycles = c.conflictCycles;
  std::lock_guard<std::mutex> guard(job.result);
  job.counters += counters;
  if (!good) {
    job.failed = true;
    // The report of the lowest workgroup, as far as several failed.
    uint64_t at = c.group[0] + job.launch->grid[0] * (c.group[1] + uint64_t(job.launch->grid[1]) * c.group[2]);
    if (!job.fault || at < job.faultGroup) {
      job.fault = c.fault;
      job.faultGroup = at;
    }
  }
}

Machine::Machine(const ChipInfo &chip, const Memory &memory, const Options &options)
    : impl(std::make_unique<Impl>(chip, memory, options)) {}
Machine::~Machine() = default;

std::shared_ptr<const Program> Machine::decode(const KernelInfo &kernel, Fault &fault) {
  if (!impl->executor) {
    fault = {719, "the emulator needs a host with AVX2, FMA and F16C"};
    return nullptr;
  }
  std::shared_ptr<Program> program = decodeKernel(impl->chip, *impl->executor, kernel, impl->options.poison, fault);
  if (program) {
    static std::atomic<uint64_t> ids{0};
    program->code.id = ++ids;
  }
  return program;
}

std::optional<Fault> Machine::run(const Launch &launch, Counters &counters) {
  if (!launch.program)
    return Fault{98, "launch without a kernel"};
  const ProgramCode &code = launch.program->code;
  auto wrong = [&](const std::string &why) { return Fault{1, "launch of " + code.kernel.name + ": " + why}; };
  uint64_t lanes = uint64_t(launch.block[0]) * launch.block[1] * launch.block[2];
  uint64_t groups = uint64_t(launch.grid[0]) * launch.grid[1];
  if (lanes == 0 || launch.block[0] > 1024 || launch.block[1] > 1024 || launch.block[2] > 1024 || lanes > 1024)
    return wrong("a workgroup of " + std::to_string(lanes) + " lanes; 1 to 1024 are possible");
  if (groups == 0 || launch.grid[2] == 0 || groups > (1ull << 40) / launch.grid[2])
    return wrong("an empty or impossible grid");
  if (uint64_t(code.kernel.ldsBytes) + launch.dynamicLds > impl->chip.ldsBytes)
    return wrong("needs " + std::to_string(uint64_t(code.kernel.ldsBytes) + launch.dynamicLds) +
                 " bytes of LDS, a workgroup can have " + std::to_string(impl->chip.ldsBytes));
  if (launch.kernarg.size() < code.kernel.kernargBytes)
    return wrong("arguments of " + std::to_string(launch.kernarg.size()) + " bytes, expected " +
                 std::to_string(code.kernel.kernargBytes));

  std::lock_guard<std::mutex> guard(impl->running);
  // An argument that metadata calls read-only protects its whole range, unless a writable argument may point there too.
  std::vector<Memory::Range> readOnly;
  bool anyReadOnly = false;
  for (const KernelArgument &a : code.kernel.arguments)
    anyReadOnly |= a.readOnly;
  if (anyReadOnly) {
    auto rangeOf = [&](const KernelArgument &a) -> std::optional<Memory::Range> {
      if (a.size != 8 || uint64_t(a.offset) + 8 > launch.kernarg.size())
        return std::nullopt;
      uint64_t p;
      std::memcpy(&p, launch.kernarg.data() + a.offset, 8);
      return impl->memory.find(p);
    };
    for (const KernelArgument &a : code.kernel.arguments)
      if (auto range = rangeOf(a); range && a.readOnly)
        readOnly.push_back(*range);
    for (const KernelArgument &a : code.kernel.arguments)
      if (auto range = rangeOf(a); range && !a.readOnly)
        std::erase_if(readOnly, [&](const Memory::Range &r) { return r.begin == range->begin; });
  }

  Job job;
  job.launch = &launch;
  job.code = &code;
  job.readOnly = &readOnly;
  job.lanes = uint32_t(lanes);
  job.waves = uint32_t((lanes + 31) / 32);
  job.ldsBytes = code.kernel.ldsBytes + launch.dynamicLds;
  job.groups = groups * launch.grid[2];
  job.chunk = std::max<uint64_t>(1, job.groups / (uint64_t(impl->pool.size()) * 8));
  job.memoryVersion = impl->memory.version();
  if (code.properties & 2)
    fillPacket(job);
  impl->pool.run([&](unsigned i) { impl->work(job, impl->workers[i]); }, job.groups == 1);
  job.counters.launches = 1;
  counters += job.counters;
  return job.fault;
}

std::optional<Memory::Range> Memory::nearest(uint64_t address) const {
  std::shared_lock guard(mutex);
  auto after = ranges.upper_bound(address);
  if (after == ranges.begin())
    return after == ranges.end() ? std::nullopt : std::optional(after->second);
  const Range &before = std::prev(after)->second;
  if (after == ranges.end() || address - std::min(address, before.end) <= after->second.begin - address)
    return before;
  return after->second;
}

// Called by handlers.

void fault(Wave *w, const Op *op, int code, int lane, const std::string &what) {
  Context *c = w->context;
  w->stop = Stop::faulted;
  if (c->faulted)
    return;
  c->faulted = true;
  const ProgramCode &program = *c->code;
  size_t index = size_t(op - program.ops.data());
  std::string report = what + "\n  kernel: " + program.kernel.name;
  if (!program.kernel.imageTarget.empty())
    report += " (" + program.kernel.imageTarget + ")";
  if (index < program.ops.size()) {
    const Instruction &i = program.instruction(op);
    report += "\n  instruction: " + i.text + "\n  pc: " + hex(i.pc);
  }
  report += "\n  workgroup: (" + std::to_string(c->group[0]) + ", " + std::to_string(c->group[1]) + ", " +
            std::to_string(c->group[2]) + "), wave " + std::to_string(w->index);
  if (lane >= 0)
    report += ", lane " + std::to_string(lane);
  c->fault = {code, report};
}

void faultAddress(Wave *w, const Op *op, int lane, uint64_t address, uint32_t bytes, bool write) {
  Context *c = w->context;
  std::string what =
      std::string(write ? "store of " : "load of ") + std::to_string(bytes) + " bytes at address " + hex(address);
  auto in = c->memory->find(address);
  if (in && write && address + bytes <= in->end)
    what += ", which is read-only";
  else if (in)
    what += ", which ends beyond its allocation";
  else
    what += ", which is in no allocation";
  if (!in)
    in = c->memory->nearest(address);
  if (in) {
    what += "\n  nearest allocation: [" + hex(in->begin) + ", " + hex(in->end) + ")";
    if (address >= in->end)
      what += ", " + std::to_string(address - in->end) + " bytes before the address";
    else if (address < in->begin)
      what += ", " + std::to_string(in->begin - address) + " bytes after the address";
  }
  fault(w, op, 700, lane, what);
}

bool findRange(Wave *w, Site &site, uint64_t low, uint64_t high, bool write) {
  Context *c = w->context;
  if (high < low)
    return false;
  const Job *job = c->job;
  auto inside = [&](const auto &bytes) {
    auto begin = reinterpret_cast<uint64_t>(bytes.data());
    return low >= begin && high <= begin + bytes.size();
  };
  auto range = c->memory->find(low);
  if (!range) {
    // The arguments are readable even where nobody registered them.
    if (write || !(inside(job->packet) || inside(job->queue) || inside(c->launch->kernarg)))
      return false;
    countSite(c, site);
    site.begin = 1;
    site.end = 0;
    site.buffer = Memory::arguments;
    site.writes = false;
    return true;
  }
  bool readOnly = range->readOnly;
  for (const Memory::Range &r : *c->readOnly)
    readOnly |= r.begin == range->begin;
  if (high > range->end || (write && readOnly))
    return false;
  countSite(c, site);
  site.begin = range->begin;
  site.end = range->end;
  site.buffer = range->buffer;
  site.readOnly = readOnly;
  site.writes = write;
  return true;
}

} // namespace ingot::emu
