// Runs the instruction vectors of vectors/*.txt: each record is assembled by LLVM, wrapped into a kernel that loads the
// inputs and stores the outputs, executed by the machine and compared. Expected values come from vectors/derive.py,
// which works them out from the ISA's rules with exact arithmetic; nothing here was recorded from a run.
//
// Lines of a record: `test NAME`, `target CHIPS`, `asm`/`asm11`/`asm12 LINE` (for both generations or one), `in REG
// WORDS`, `in mem OFFSET WORDS`, `out REG TYPE WORDS`, `exec MASK`, `mode FLOATMODE` (the descriptor's 8 bits), `lds
// BYTES`, `scratch BYTES`, `lanes N`, `wait` (a wait after every line), `fault CODE WORDS...` (the report must contain
// the words), `end`. One word stands for all lanes. Types: u32, f32, f16, bf16 (both halves), f16.l (one half), each
// with ~N (units in the last place) or @X (absolute difference).
#include "runtime/emulator/assembler.h"
#include "runtime/emulator/machine.h"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <sstream>
#include <sys/mman.h>

namespace ingot::emu {
namespace {

constexpr uint32_t memoryBytes = 4096, slotBytes = 64 * 4;
constexpr uint64_t testBudget = 200'000;

struct Expectation {
  std::string where, type;
  std::vector<std::string> words;
};

struct Record {
  std::string name, target, fault;
  std::vector<std::pair<std::string, std::vector<uint32_t>>> inputs;
  std::vector<Expectation> outputs;
  std::vector<std::pair<int, std::string>> lines; // generation (0: both) and text
  uint32_t exec = ~0u, floatMode = 0xf0, lds = 0, scratch = 0, lanes = 32;
  bool wait = false;
};

uint32_t hex(const std::string &text) { return uint32_t(std::strtoul(text.c_str(), nullptr, 16)); }

std::vector<Record> readRecords(const std::string &path) {
  std::vector<Record> records;
  std::ifstream file(path);
  Record record;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string verb, rest;
    words >> verb;
    if (verb.empty() || verb[0] == '#')
      continue;
    if (verb == "end") {
      records.push_back(std::move(record));
      record = {};
    } else if (verb == "in") {
      std::string where, word;
      words >> where;
      if (where == "mem") {
        words >> word;
        where += " " + word;
      }
      auto &values = record.inputs.emplace_back(where, std::vector<uint32_t>()).second;
      while (words >> word)
        values.push_back(hex(word));
    } else if (verb == "out") {
      Expectation &out = record.outputs.emplace_back();
      words >> out.where;
      if (out.where == "mem") {
        words >> rest;
        out.where += " " + rest;
      }
      words >> out.type;
      for (std::string word; words >> word;)
        out.words.push_back(word);
    } else {
      std::getline(words >> std::ws, rest);
      if (verb == "test")
        record.name = rest;
      else if (verb == "target")
        record.target = rest;
      else if (verb == "asm" || verb == "asm11" || verb == "asm12")
        record.lines.emplace_back(verb == "asm" ? 0 : std::stoi(verb.substr(3)), rest);
      else if (verb == "exec")
        record.exec = hex(rest);
      else if (verb == "mode")
        record.floatMode = hex(rest);
      else if (verb == "lds")
        record.lds = uint32_t(std::stoul(rest));
      else if (verb == "scratch")
        record.scratch = uint32_t(std::stoul(rest));
      else if (verb == "lanes")
        record.lanes = uint32_t(std::stoul(rest));
      else if (verb == "wait")
        record.wait = true;
      else if (verb == "fault")
        record.fault = rest;
      else
        ADD_FAILURE() << path << ": unknown line: " << line;
    }
  }
  return records;
}

// Host memory that the machine sees, with an unregistered page on both sides.
class Buffer {
public:
  Buffer(Memory &memory, uint32_t bytes, bool readOnly) : memory(memory), bytes(bytes) {
    pages = static_cast<uint8_t *>(
        mmap(nullptr, bytes + 2 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    memory.add(address(), bytes, readOnly);
  }
  ~Buffer() {
    memory.remove(address());
    munmap(pages, bytes + 2 * 4096);
  }
  uint8_t *data() const { return pages + 4096; }
  uint64_t address() const { return reinterpret_cast<uint64_t>(data()); }
  uint32_t word(uint32_t offset) const {
    uint32_t value;
    std::memcpy(&value, data() + offset, 4);
    return value;
  }

private:
  Memory &memory;
  uint32_t bytes;
  uint8_t *pages;
};

// The kernel around a record. v255 holds 4 * lane, s[98:99] the memory buffer, s[100:101] the inputs, s[102:103] the
// outputs; s90-s92 keep EXEC, SCC and VCC for the stores. Slots of slotBytes follow each other in the order of the
// record.
std::string wrap(const Record &record, int generation) {
  std::ostringstream text;
  const char *wait = generation == 11 ? "s_waitcnt vmcnt(0) lgkmcnt(0)\ns_waitcnt_vscnt null, 0x0\n"
                                      : "s_wait_loadcnt 0x0\ns_wait_storecnt 0x0\ns_wait_dscnt 0x0\ns_wait_kmcnt 0x0\n";
  text << "s_load_b64 s[100:101], s[0:1], 0x0\ns_load_b64 s[102:103], s[0:1], 0x8\ns_load_b64 s[98:99], s[0:1], 0x10\n"
       << wait << "v_lshlrev_b32 v255, 2, v0\n";
  uint32_t slot = 0;
  std::string late;
  for (const auto &[where, values] : record.inputs) {
    if (where[0] == 'v' && where != "vcc")
      text << "v_add_nc_u32 v254, " << slot << ", v255\nglobal_load_b32 " << where << ", v254, s[100:101]\n";
    else if (where == "vcc")
      late += "s_mov_b32 vcc_lo, " + std::to_string(values[0]) + "\n";
    else if (where == "scc")
      late += "s_cmp_lg_u32 " + std::to_string(values[0]) + ", 0\n";
    else if (where[0] == 's')
      text << "s_load_b32 " << where << ", s[100:101], " << slot << "\n";
    slot += slotBytes;
  }
  text << wait << late << "s_mov_b32 exec_lo, " << record.exec << "\n";
  for (const auto &[only, line] : record.lines)
    if (only == 0 || only == generation)
      text << line << "\n" << (record.wait ? wait : "");
  text << "s_mov_b32 s90, exec_lo\ns_cselect_b32 s91, 1, 0\ns_mov_b32 s92, vcc_lo\ns_mov_b32 exec_lo, -1\n";
  slot = 0;
  for (const Expectation &out : record.outputs) {
    std::string source = out.where == "exec"  ? "s90"
                         : out.where == "scc" ? "s91"
                         : out.where == "vcc" ? "s92"
                                              : out.where;
    if (!source.starts_with("mem")) {
      text << "v_add_nc_u32 v254, " << slot << ", v255\n";
      if (source[0] == 's')
        text << "v_mov_b32 v253, " << source << "\n";
      text << "global_store_b32 v254, " << (source[0] == 's' ? "v253" : source) << ", s[102:103]\n";
    }
    slot += slotBytes;
  }
  text << "s_endpgm\n";
  return text.str();
}

std::array<uint8_t, 64> describe(const Record &record, int generation) {
  uint32_t rsrc1 = 31 | record.floatMode << 12 | (generation == 11 ? 1u << 21 | 1u << 23 : 0) | 1u << 30;
  uint32_t rsrc2 = 2 << 1 | 1u << 7 | (record.scratch ? 1 : 0);
  uint16_t properties = 0x408;
  uint32_t sizes[3] = {record.lds, record.scratch, 32};
  std::array<uint8_t, 64> bytes{};
  std::memcpy(bytes.data(), sizes, sizeof sizes);
  std::memcpy(bytes.data() + 48, &rsrc1, 4);
  std::memcpy(bytes.data() + 52, &rsrc2, 4);
  std::memcpy(bytes.data() + 56, &properties, 2);
  return bytes;
}

double decodeNarrow(uint32_t bits, const std::string &type) {
  if (type == "bf16")
    return std::bit_cast<float>(bits << 16);
  uint32_t exponent = bits >> 10 & 31, mantissa = bits & 1023;
  double value = exponent == 31  ? (mantissa ? NAN : INFINITY)
                 : exponent == 0 ? std::ldexp(mantissa, -24)
                                 : std::ldexp(1024 + mantissa, int(exponent) - 25);
  return bits & 0x8000 ? -value : value;
}

// Distance of two words of one format, counted in representable values; zeros of both signs coincide only by distance 0
// or 1.
int64_t distance(uint32_t a, uint32_t b, unsigned bits) {
  auto order = [&](uint32_t w) {
    int64_t magnitude = w & ((uint64_t(1) << (bits - 1)) - 1);
    return w >> (bits - 1) & 1 ? -magnitude : magnitude;
  };
  return std::llabs(order(a) - order(b));
}

bool scalarMatches(uint32_t got, uint32_t want, unsigned bits, double gotValue, double wantValue, int64_t ulps,
                   double absolute) {
  if (std::isnan(wantValue))
    return std::isnan(gotValue);
  if (absolute > 0)
    return std::fabs(gotValue - wantValue) <= absolute;
  return ulps ? !std::isnan(gotValue) && distance(got, want, bits) <= ulps : got == want;
}

bool matches(uint32_t got, const std::string &word, const std::string &fullType) {
  std::string type = fullType.substr(0, fullType.find_first_of("~@"));
  int64_t ulps = fullType.find('~') != std::string::npos ? std::stoll(fullType.substr(fullType.find('~') + 1)) : 0;
  double absolute = fullType.find('@') != std::string::npos ? std::stod(fullType.substr(fullType.find('@') + 1)) : 0;
  if (type == "u32")
    return got == hex(word);
  if (type == "f32") {
    double wanted = word == "nan" ? NAN : std::bit_cast<float>(hex(word));
    return scalarMatches(got, word == "nan" ? 0 : hex(word), 32, std::bit_cast<float>(got), wanted, ulps, absolute);
  }
  std::string format = type.substr(0, type.find('.'));
  for (unsigned half : {0u, 16u}) {
    if (type.ends_with(half ? ".l" : ".h"))
      continue;
    uint32_t g = got >> half & 0xffff, w = hex(word) >> half & 0xffff;
    if (!scalarMatches(g, w, 16, decodeNarrow(g, format), decodeNarrow(w, format), ulps, absolute))
      return false;
  }
  return true;
}

std::string hexText(uint32_t value) {
  std::ostringstream text;
  text << std::hex << value;
  return text.str();
}

class Runner {
public:
  explicit Runner(const ChipInfo &chip)
      : chip(chip), options{.threads = 1, .budget = testBudget}, machine(chip, memory, options) {}

  // What went wrong, or "". `breakCode` may change the assembled bytes first.
  std::string run(const Record &record, const std::function<void(std::vector<uint8_t> &)> &breakCode = {}) {
    std::string error;
    std::vector<uint8_t> code = assemble(chip.name, wrap(record, chip.generation), error);
    if (code.empty())
      return "does not assemble: " + error;
    if (breakCode)
      breakCode(code);
    code.resize(code.size() + 256); // a decoder may look ahead
    Buffer inputs(memory, slotBytes * 80, true), outputs(memory, slotBytes * 80, false),
        data(memory, memoryBytes, false), kernarg(memory, 32, true);
    uint32_t slot = 0;
    for (const auto &[where, values] : record.inputs) {
      if (where.starts_with("mem"))
        std::memcpy(data.data() + hex(where.substr(4)), values.data(), values.size() * 4);
      else
        for (uint32_t lane = 0; lane < record.lanes; ++lane)
          std::memcpy(inputs.data() + slot + lane * 4, &values[values.size() == 1 ? 0 : lane], 4);
      slot += slotBytes;
    }
    uint64_t pointers[3] = {inputs.address(), outputs.address(), data.address()};
    std::memcpy(kernarg.data(), pointers, sizeof pointers);

    KernelInfo kernel{.name = "vector",
                      .entry = reinterpret_cast<uint64_t>(code.data()),
                      .codeBytes = code.size() - 256,
                      .descriptor = describe(record, chip.generation),
                      .kernargBytes = 32,
                      .ldsBytes = record.lds,
                      .scratchBytes = record.scratch,
                      .maxWorkgroupSize = 1024,
                      .vgprs = 256,
                      .sgprs = 106,
                      .arguments = {},
                      .imageTarget = std::string(chip.name)};
    Fault fault{};
    std::shared_ptr<const Program> program = machine.decode(kernel, fault);
    std::optional<Fault> stopped;
    if (!program)
      stopped = fault;
    else
      stopped = machine.run({program.get(), {1, 1, 1}, {record.lanes, 1, 1}, 0, {kernarg.data(), 32}}, counters);
    if (stopped || !record.fault.empty())
      return compareFault(record, stopped);
    return compareOutputs(record, outputs, data);
  }

  Counters counters;

private:
  const ChipInfo &chip;
  Memory memory;
  Options options;
  Machine machine;

  static std::string compareFault(const Record &record, const std::optional<Fault> &stopped) {
    if (record.fault.empty())
      return "unexpected fault " + std::to_string(stopped->code) + ": " + stopped->report;
    if (!stopped)
      return "no fault, expected " + record.fault;
    std::istringstream words(record.fault);
    std::string word;
    words >> word;
    if (word != "*" && stopped->code != std::stoi(word))
      return "fault " + std::to_string(stopped->code) + ", expected " + word + ": " + stopped->report;
    while (words >> word)
      if (stopped->report.find(word) == std::string::npos)
        return "the report does not name '" + word + "': " + stopped->report;
    return stopped->report.empty() ? "the fault has no report" : "";
  }

  static std::string compareOutputs(const Record &record, const Buffer &outputs, const Buffer &data) {
    uint32_t slot = 0;
    for (const Expectation &out : record.outputs) {
      bool inMemory = out.where.starts_with("mem"), vector = out.where[0] == 'v' && out.where != "vcc";
      size_t count = inMemory ? out.words.size() : vector ? record.lanes : 1;
      if (out.words.size() != 1 && out.words.size() != count)
        return "expects " + std::to_string(out.words.size()) + " words in " + out.where;
      for (size_t i = 0; i < count; ++i) {
        uint32_t got =
            inMemory ? data.word(hex(out.where.substr(4)) + uint32_t(i) * 4) : outputs.word(slot + uint32_t(i) * 4);
        const std::string &want = out.words[out.words.size() == 1 ? 0 : i];
        if (!matches(got, want, out.type))
          return out.where + "[" + std::to_string(i) + "] is " + hexText(got) + ", expected " + want + " (" + out.type +
                 ")";
      }
      slot += slotBytes;
    }
    return "";
  }
};

class Vectors : public testing::TestWithParam<std::tuple<const char *, const char *>> {};

TEST_P(Vectors, Match) {
  auto [family, chipName] = GetParam();
  const ChipInfo *chip = findChip(chipName);
  ASSERT_NE(chip, nullptr);
  std::vector<Record> records =
      readRecords(std::string(INGOT_SOURCE_DIR "/runtime/emulator/vectors/") + family + ".txt");
  ASSERT_FALSE(records.empty()) << "no records of " << family;
  Runner runner(*chip);
  size_t ran = 0;
  for (const Record &record : records) {
    if (record.target.find(chipName) == std::string::npos)
      continue;
    ++ran;
    if (std::string wrong = runner.run(record); !wrong.empty())
      ADD_FAILURE() << family << ": " << record.name << ": " << wrong;
  }
  EXPECT_GT(ran, 0u);
}

constexpr const char *families[] = {
    "salu", "smem", "vector_integer", "vopc",   "vector_float", "conversions", "half",    "packed", "dot",
    "vopd", "dpp",  "permute",        "global", "lds",          "scratch",     "various", "wmma",   "faults"};

INSTANTIATE_TEST_SUITE_P(Emulator, Vectors,
                         testing::Combine(testing::ValuesIn(families), testing::Values("gfx1151", "gfx1201")),
                         [](const auto &info) {
                           return std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
                         });

// Machine code with flipped bytes does something else or faults; it never takes the host down.
TEST(VectorHarness, SurvivesBrokenCode) {
  std::mt19937 random(5); // NOLINT(bugprone-random-generator-seed): a test repeats itself
  for (const char *chipName : {"gfx1151", "gfx1201"}) {
    Runner runner(*findChip(chipName));
    for (const char *family : families) {
      std::vector<Record> records =
          readRecords(std::string(INGOT_SOURCE_DIR "/runtime/emulator/vectors/") + family + ".txt");
      for (int round = 0; round < 60; ++round) {
        const Record &record = records[random() % records.size()];
        if (record.target.find(chipName) == std::string::npos)
          continue;
        runner.run(record, [&](std::vector<uint8_t> &code) {
          for (int flips = 1 + int(random() % 3); flips > 0; --flips)
            code[random() % code.size()] ^= uint8_t(1u << random() % 8);
        });
      }
    }
    Record sound;
    sound.lines = {{0, "v_mov_b32 v0, 7"}};
    sound.outputs = {{"v0", "u32", {"7"}}};
    EXPECT_EQ(runner.run(sound), "") << "the machine must still work afterwards";
  }
}

// A harness that compared nothing would pass everything: a wrong expectation must show.
TEST(VectorHarness, SeesAWrongValue) {
  Record record;
  record.name = "self";
  record.inputs = {{"v1", {41}}};
  record.lines = {{0, "v_add_nc_u32 v0, 1, v1"}};
  record.outputs = {{"v0", "u32", {"2a"}}};
  Runner runner(*findChip("gfx1151"));
  EXPECT_EQ(runner.run(record), "");
  record.outputs[0].words = {"2b"};
  EXPECT_NE(runner.run(record), "");
  EXPECT_GT(runner.counters.instructions(), 0u);
}

} // namespace
} // namespace ingot::emu
