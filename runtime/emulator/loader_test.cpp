// The loader on real code objects, on bundles, and on thousands of broken ones: an answer always, a crash never.
#include "runtime/emulator/loader.h"
#include "runtime/emulator/msgpack.h"

#include <bit>
#include <cstring>
#include <elf.h>
#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <iterator>
#include <random>

namespace ingot::emu {
namespace {

using testing::HasSubstr;

std::vector<uint8_t> readObject(std::string_view chip) {
  std::ifstream file(std::string(INGOT_KERNEL_DIR "/kernels_") + std::string(chip) + ".co", std::ios::binary);
  std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  EXPECT_FALSE(bytes.empty()) << "the test's kernels were not built";
  return {bytes.begin(), bytes.end()};
}

void append(std::vector<uint8_t> &out, const void *bytes, size_t count) {
  const auto *from = static_cast<const uint8_t *>(bytes);
  out.insert(out.end(), from, from + count);
}

std::vector<uint8_t> makeBundle(const std::vector<std::pair<std::string, std::vector<uint8_t>>> &entries) {
  std::vector<uint8_t> out;
  append(out, "__CLANG_OFFLOAD_BUNDLE__", 24);
  uint64_t count = entries.size(), at = 32;
  append(out, &count, 8);
  for (const auto &[id, bytes] : entries)
    at += 24 + id.size();
  for (const auto &[id, bytes] : entries) {
    uint64_t header[3] = {at, bytes.size(), id.size()};
    append(out, header, sizeof header);
    append(out, id.data(), id.size());
    at += bytes.size();
  }
  for (const auto &[id, bytes] : entries)
    append(out, bytes.data(), bytes.size());
  return out;
}

class LoaderTest : public testing::TestWithParam<const char *> {
protected:
  const ChipInfo &chip = *findChip(GetParam());
  const ChipInfo &other = *findChip(chip.name == "gfx1151" ? "gfx1201" : "gfx1151");
  Memory memory;
  Fault fault{};
};

TEST_P(LoaderTest, ReadsKernelsAndGlobals) {
  std::vector<uint8_t> image = readObject(chip.name);
  std::unique_ptr<CodeObject> object = CodeObject::load(image, chip, memory, fault);
  ASSERT_TRUE(object) << fault.report;
  const KernelInfo *gemv = nullptr;
  for (const KernelInfo &kernel : object->kernels())
    if (kernel.name == "gemv_int8")
      gemv = &kernel;
  ASSERT_NE(gemv, nullptr);
  EXPECT_EQ(gemv->ldsBytes, 128u * 4);
  EXPECT_EQ(gemv->maxWorkgroupSize, 128u);
  EXPECT_GE(gemv->kernargBytes, 36u);
  EXPECT_EQ(gemv->imageTarget, chip.name);
  ASSERT_GE(gemv->arguments.size(), 5u);
  EXPECT_EQ(gemv->arguments[0].kind, "global_buffer");
  EXPECT_EQ(gemv->arguments[4].kind, "by_value");
  EXPECT_EQ(gemv->arguments[4].offset, 32u);
  std::optional<Memory::Range> code = memory.find(gemv->entry);
  ASSERT_TRUE(code);
  EXPECT_TRUE(code->readOnly);
  EXPECT_GE(code->end, gemv->entry + gemv->codeBytes);

  auto table = object->globals().find("table"), middle = object->globals().find("middle");
  ASSERT_NE(table, object->globals().end());
  ASSERT_NE(middle, object->globals().end());
  EXPECT_EQ(table->second.bytes, 16u);
  uint64_t pointer;
  std::memcpy(&pointer, std::bit_cast<void *>(middle->second.address), 8);
  EXPECT_EQ(pointer, table->second.address + 8) << "the relocation was not applied";
  EXPECT_FALSE(memory.find(table->second.address)->readOnly);

  uint64_t entry = gemv->entry;
  object.reset();
  EXPECT_FALSE(memory.find(entry)) << "an unloaded object must leave no range behind";
}

TEST_P(LoaderTest, RefusesTheOtherChip) {
  EXPECT_FALSE(CodeObject::load(readObject(other.name), chip, memory, fault));
  EXPECT_EQ(fault.code, 209);
  EXPECT_THAT(fault.report, HasSubstr(std::string(other.name)));
}

TEST_P(LoaderTest, PicksItsEntryOfABundle) {
  std::string prefix = "hipv4-amdgcn-amd-amdhsa--";
  auto mine = readObject(chip.name), others = readObject(other.name);
  std::vector<uint8_t> bundle = makeBundle({{"host-x86_64-unknown-linux--", {}},
                                            {prefix + std::string(other.name), others},
                                            {prefix + std::string(chip.name), mine}});
  std::unique_ptr<CodeObject> object = CodeObject::load(bundle, chip, memory, fault);
  ASSERT_TRUE(object) << fault.report;
  EXPECT_EQ(object->kernels().front().imageTarget, chip.name);
  EXPECT_EQ(imageBytes(bundle), bundle.size());
  EXPECT_EQ(imageBytes(mine), mine.size());

  EXPECT_FALSE(CodeObject::load(makeBundle({{prefix + std::string(other.name), others}}), chip, memory, fault));
  EXPECT_EQ(fault.code, 209);
  for (size_t length : {25u, 40u, 80u, 200u}) {
    EXPECT_FALSE(CodeObject::load(std::span(bundle).first(length), chip, memory, fault));
    EXPECT_EQ(fault.code, 200);
  }
  EXPECT_FALSE(CodeObject::load(std::span(bundle).first(bundle.size() - 1), chip, memory, fault));
  EXPECT_EQ(fault.code, 200);
}

TEST_P(LoaderTest, RunsTheGenericObjectOfItsFamily) {
  std::vector<uint8_t> image = readObject(chip.name);
  image[offsetof(Elf64_Ehdr, e_flags)] = chip.elfGenericMachine;
  std::unique_ptr<CodeObject> object = CodeObject::load(image, chip, memory, fault);
  ASSERT_TRUE(object) << fault.report;
  EXPECT_EQ(object->kernels().front().imageTarget, chip.genericName);
}

TEST_P(LoaderTest, NamesWhatIsWrongInTheHeader) {
  struct Case {
    size_t offset;
    uint8_t value;
    int code;
    const char *says;
  };
  for (const Case &wrong :
       {Case{0, 'X', 200, "not an ELF"}, Case{EI_CLASS, 1, 200, "64-bit"}, Case{EI_OSABI, 3, 200, "OS ABI"},
        Case{EI_ABIVERSION, 9, 200, "ABI version"}, Case{offsetof(Elf64_Ehdr, e_machine), 62, 209, "machine"},
        Case{offsetof(Elf64_Ehdr, e_type), 1, 200, "ld.lld"}}) {
    std::vector<uint8_t> image = readObject(chip.name);
    image[wrong.offset] = wrong.value;
    EXPECT_FALSE(CodeObject::load(image, chip, memory, fault));
    EXPECT_EQ(fault.code, wrong.code);
    EXPECT_THAT(fault.report, HasSubstr(wrong.says));
  }
  EXPECT_FALSE(CodeObject::load(std::vector<uint8_t>{'C', 'C', 'O', 'B', 3, 0}, chip, memory, fault));
  EXPECT_THAT(fault.report, HasSubstr("compressed"));
}

TEST_P(LoaderTest, SurvivesTruncation) {
  std::vector<uint8_t> image = readObject(chip.name);
  for (size_t length = 0; length < image.size(); length += 1 + length / 40) {
    // A copy of exactly this length, so that a sanitizer sees a read past its end.
    std::vector<uint8_t> cut(image.begin(), image.begin() + ptrdiff_t(length));
    EXPECT_FALSE(CodeObject::load(cut, chip, memory, fault)) << length;
    EXPECT_EQ(fault.code, 200) << length << ": " << fault.report;
  }
}

// Flips bytes, mostly where the structure is; whatever still loads must also decode or be refused.
TEST_P(LoaderTest, SurvivesFlippedBytes) {
  std::vector<uint8_t> image = readObject(chip.name);
  Elf64_Ehdr header;
  std::memcpy(&header, image.data(), sizeof header);
  Options options{.threads = 1};
  Machine machine(chip, memory, options);
  std::mt19937 random(7); // NOLINT(bugprone-random-generator-seed): a test repeats itself
  int refused = 0;
  for (int round = 0; round < 1500; ++round) {
    std::vector<uint8_t> broken = image;
    for (int flips = 1 + round % 4; flips > 0; --flips) {
      size_t where = random() % broken.size();
      if (round % 3 == 0)
        where = random() % (sizeof header + header.e_phnum * sizeof(Elf64_Phdr));
      else if (round % 3 == 1)
        where = header.e_shoff + random() % (header.e_shnum * sizeof(Elf64_Shdr));
      broken[where] = uint8_t(random());
    }
    std::unique_ptr<CodeObject> object = CodeObject::load(broken, chip, memory, fault);
    if (!object) {
      ++refused;
      EXPECT_TRUE(fault.code == 200 || fault.code == 209) << fault.report;
      EXPECT_FALSE(fault.report.empty());
      continue;
    }
    if (round % 10 == 2)
      for (const KernelInfo &kernel : object->kernels())
        if (!machine.decode(kernel, fault))
          EXPECT_FALSE(fault.report.empty());
  }
  EXPECT_GT(refused, 100);
}

INSTANTIATE_TEST_SUITE_P(Chips, LoaderTest, testing::Values("gfx1151", "gfx1201"));

TEST(MsgPack, RefusesLies) {
  auto read = [](std::vector<uint8_t> bytes) { return readMsgPack(bytes); };
  EXPECT_FALSE(read({}));
  EXPECT_FALSE(read({0xdf, 0xff, 0xff, 0xff, 0xff})); // a map of four thousand million entries in no bytes
  EXPECT_FALSE(read({0xa5, 'a', 'b'}));
  EXPECT_FALSE(read({0xc1}));
  EXPECT_FALSE(readMsgPack(std::vector<uint8_t>(100000, 0x91))); // nested too deeply
  std::optional<MsgPack> map = read({0x82, 0xa1, 'k', 0xcd, 0x01, 0x02, 0xa1, 'n', 0xff});
  ASSERT_TRUE(map);
  EXPECT_EQ(map->integerAt("k", 0), 0x102u);
  EXPECT_EQ(int64_t(map->integerAt("n", 0)), -1);
  EXPECT_EQ(map->integerAt("missing", 5), 5u);
}

} // namespace
} // namespace ingot::emu
