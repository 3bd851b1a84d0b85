// Damaged and hostile checkpoints: each gets a one-line error, and nothing crashes, hangs or takes the machine's
// memory.
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "compiler/checkpoint/checkpoint.h"
#include "compiler/checkpoint/checkpoint_testing.h"
#include "compiler/checkpoint/safetensors_file.h"

namespace ingot {
namespace {

using ::testing::AllOf;
using testing::GgufBuilder;
using testing::goldenPath;
using ::testing::HasSubstr;
using testing::raw;
using testing::readBytes;
using testing::safetensors;
using testing::TemporaryFolder;

class MalformedGguf : public ::testing::Test {
protected:
  // The error that this file gives; it must be one line that names the file.
  std::string message(const std::string &bytes) {
    const absl::Status status = Checkpoint::open(folder.write("m.gguf", bytes)).status();
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.ToString().find('\n'), std::string::npos) << status;
    EXPECT_THAT(status.ToString(), HasSubstr("m.gguf"));
    return status.ToString();
  }

  TemporaryFolder folder;
};

TEST_F(MalformedGguf, TruncatedAnywhere) {
  const std::string whole = readBytes(goldenPath("tiny.gguf"));
  ASSERT_GT(whole.size(), 10000u);
  for (size_t size = 0; size < whole.size(); size += 97)
    message(whole.substr(0, size));
  message(whole.substr(0, whole.size() - 40));
}

TEST_F(MalformedGguf, MagicAndVersion) {
  EXPECT_THAT(message("GGML" + std::string(100, '\0')), HasSubstr("expected the magic 'GGUF', found 'GGML'"));
  EXPECT_THAT(message("GGUF" + raw<uint32_t>(1) + std::string(100, '\0')), HasSubstr("version 2 or 3, found 1"));
  EXPECT_THAT(message("GGUF" + raw<uint32_t>(0x03000000) + std::string(100, '\0')), HasSubstr("big-endian"));
}

TEST_F(MalformedGguf, CountsThatCannotBe) {
  GgufBuilder builder = GgufBuilder::llama();
  builder.recordCount = 1ull << 60;
  EXPECT_THAT(message(builder.bytes()), HasSubstr("the header claims 1152921504606846976 tensors"));
  builder = GgufBuilder::llama();
  builder.entryCount = UINT64_MAX;
  EXPECT_THAT(message(builder.bytes()), HasSubstr("metadata entries"));
  builder = GgufBuilder::llama();
  builder.entry("x", 9, raw<uint32_t>(4) + raw<uint64_t>(1ull << 62));
  EXPECT_THAT(message(builder.bytes()), HasSubstr("metadata 'x'"));
  builder = GgufBuilder::llama();
  builder.entry("x", 9, raw<uint32_t>(8) + raw<uint64_t>(1ull << 62));
  EXPECT_THAT(message(builder.bytes()), HasSubstr("metadata 'x'"));
  builder = GgufBuilder::llama();
  std::string nested;
  for (int i = 0; i < 20000; ++i)
    nested += raw<uint32_t>(9) + raw<uint64_t>(1);
  builder.entry("x", 9, nested);
  EXPECT_THAT(message(builder.bytes()), HasSubstr("is not a GGUF value"));
  builder = GgufBuilder::llama();
  builder.entry("x", 13, "");
  EXPECT_THAT(message(builder.bytes()), HasSubstr("metadata 'x' has type 13"));
}

TEST_F(MalformedGguf, TensorsThatCannotBe) {
  struct Case {
    std::string name;
    std::vector<uint64_t> extents;
    uint32_t type;
    uint64_t offset;
    std::string message;
  };
  for (const Case &bad :
       {Case{"x", {16}, 0, 1ull << 40, "tensor 'x' needs 64 bytes at data offset 1099511627776"},
        Case{"x", {16}, 0, UINT64_MAX - 31, "tensor 'x' needs 64 bytes"},
        Case{"x", {16}, 0, 8, "not a multiple of the alignment"}, Case{"x", {16}, 0, 32, "overlap"},
        Case{"token_embd.weight", {16}, 0, 256, "appears twice"}, Case{"x", {0}, 0, 256, "which cannot be"},
        Case{"x", {1ull << 40, 1ull << 40}, 0, 256, "which cannot be"},
        Case{"x", {1, 1, 1, 1, 1}, 0, 256, "has 5 dimensions"}, Case{"x", {}, 0, 256, "has 0 dimensions"},
        Case{"x", {16}, 2, 256, "not a multiple of the 32 of a Q4_0 block"},
        Case{"x", {256}, 10, 256, "stored as Q2_K, which is not read"}, Case{"x", {16}, 4096, 256, "storage type 4096"},
        Case{"a\nb", {16}, 4096, 256, "'a\\nb'"}, Case{"output.weight\xff", {16}, 0, 256, "which is not a name"},
        Case{"blk.0.attn_q.weight", {16, 4}, 0, 256, "has 4 rows, expected 16 by the metadata"}}) {
    GgufBuilder builder = GgufBuilder::llama();
    builder.tensor(bad.name, bad.extents, bad.type, bad.offset);
    builder.data.append(2048, '\0');
    EXPECT_THAT(message(builder.bytes()), HasSubstr(bad.message));
  }
}

TEST_F(MalformedGguf, MetadataThatCannotBe) {
  GgufBuilder builder;
  builder.string("general.architecture", "mamba");
  EXPECT_THAT(message(builder.bytes()), HasSubstr("unknown architecture 'mamba'"));
  EXPECT_THAT(message(GgufBuilder().bytes()), HasSubstr("'general.architecture' is missing"));
  builder = GgufBuilder();
  builder.string("general.architecture", "llama");
  EXPECT_THAT(message(builder.bytes()), HasSubstr("'llama.embedding_length' is missing"));
  builder = GgufBuilder::llama();
  builder.u32("llama.block_count", 2);
  EXPECT_THAT(message(builder.bytes()), HasSubstr("appears twice"));
  builder = GgufBuilder::llama();
  builder.string("llama.attention.head_count_kv", "two");
  EXPECT_THAT(message(builder.bytes()), HasSubstr("should be an array of integers, it is string"));
  builder = GgufBuilder::llama();
  builder.numbers<uint32_t>("llama.attention.head_count_kv", 4, {1, 2});
  EXPECT_THAT(message(builder.bytes()), HasSubstr("differs from layer to layer"));
  builder = GgufBuilder::llama();
  builder.u32("llama.attention.key_length", 7);
  EXPECT_THAT(message(builder.bytes()), HasSubstr("cannot be"));
  builder = GgufBuilder::llama();
  builder.u32("general.alignment", 24);
  EXPECT_THAT(message(builder.bytes()), HasSubstr("must be a power of two"));
  builder = GgufBuilder::llama();
  builder.string("tokenizer.ggml.model", "gpt2");
  builder.strings("tokenizer.ggml.tokens", {"a"});
  builder.strings("tokenizer.ggml.merges", {"a b c"});
  EXPECT_THAT(message(builder.bytes()), HasSubstr("the merge 'a b c'"));
  builder.u32("tokenizer.ggml.bos_token_id", 1);
  EXPECT_THAT(message(builder.bytes()), HasSubstr("'tokenizer.ggml.bos_token_id' is 1, the vocabulary has 1"));
  builder.string("tokenizer.ggml.pre", "elvish");
  EXPECT_THAT(message(builder.bytes()), AllOf(HasSubstr("unknown pre-tokenizer 'elvish'"), HasSubstr("smollm")));
}

class MalformedSafetensors : public ::testing::Test {
protected:
  std::string message(const std::string &bytes) {
    const absl::Status status = SafetensorsFile::open(folder.write("m.safetensors", bytes)).status();
    EXPECT_FALSE(status.ok());
    EXPECT_EQ(status.ToString().find('\n'), std::string::npos) << status;
    EXPECT_THAT(status.ToString(), HasSubstr("m.safetensors"));
    return status.ToString();
  }

  TemporaryFolder folder;
};

TEST_F(MalformedSafetensors, EachMistakeHasItsMessage) {
  const auto one = [](std::string_view shape, std::string_view range, std::string_view dtype = "F32") {
    return R"("x":{"dtype":")" + std::string(dtype) + R"(","shape":)" + std::string(shape) + R"(,"data_offsets":)" +
           std::string(range) + "}";
  };
  const auto file = [](const std::string &members, size_t data) {
    return safetensors("{" + members + "}", std::string(data, '\0'));
  };
  EXPECT_THAT(message("abc"), HasSubstr("begins with an 8-byte length"));
  EXPECT_THAT(message(raw<uint64_t>(UINT64_MAX) + "{}"), HasSubstr("expected at most 100000000"));
  EXPECT_THAT(message(raw<uint64_t>(100) + "{}"), HasSubstr("the header needs 100 bytes"));
  EXPECT_THAT(message(safetensors("{]", "")), HasSubstr("not a JSON object"));
  EXPECT_THAT(message(safetensors("[]", "")), HasSubstr("not a JSON object"));
  EXPECT_THAT(message(safetensors(std::string(200000, '['), "")), HasSubstr("not a JSON object"));
  EXPECT_THAT(message(file(one("[2]", "[0,16]"), 8)),
              HasSubstr("tensor 'x' lies at data offsets 0 to 16, the file has 8"));
  EXPECT_THAT(message(file(one("[2]", "[8,0]"), 8)), HasSubstr("lies at data offsets 8 to 0"));
  EXPECT_THAT(message(file(one("[3]", "[0,8]"), 8)), HasSubstr("should have 12 bytes"));
  EXPECT_THAT(message(file(one("[4294967296,4294967296]", "[0,8]"), 8)), HasSubstr("which cannot be"));
  EXPECT_THAT(message(file(one("[0]", "[0,0]"), 0)), HasSubstr("which cannot be"));
  EXPECT_THAT(message(file(one("[-1]", "[0,8]"), 8)), HasSubstr("no proper dtype, shape and data_offsets"));
  EXPECT_THAT(message(file(R"("x":7)", 0)), HasSubstr("no proper dtype"));
  EXPECT_THAT(message(file(one("[2]", "[0,8]", "F8_E8M0"), 8)), HasSubstr("'x' has dtype F8_E8M0, which is not read"));
  EXPECT_THAT(message(file(one("[2]", "[4,12]"), 12)), HasSubstr("after a hole"));
  EXPECT_THAT(message(file(one("[2]", "[0,8]"), 12)), HasSubstr("4 bytes after the last tensor"));
  EXPECT_THAT(message(file(one("[2]", "[0,8]") + "," + one("[2]", "[8,16]"), 16)), HasSubstr("'x' appears twice"));
  EXPECT_THAT(message(file(one("[2]", "[0,8]") + R"(,"y":{"dtype":"F32","shape":[2],"data_offsets":[4,12]})", 12)),
              HasSubstr("'y' begins at data offset 4, inside the tensor before it, which ends at 8"));
}

// Flips, overwrites, cuts and inserts bytes of valid files. The result must be an error or a checkpoint whose tensors
// can all be read.
class Mutations : public ::testing::Test {
protected:
  std::string mutate(std::string bytes, size_t interesting) {
    const int edits = 1 + static_cast<int>(random() % 4);
    for (int i = 0; i < edits && !bytes.empty(); ++i) {
      const size_t at = random() % std::min(bytes.size(), interesting);
      switch (random() % 5) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << random() % 8));
        break;
      case 1:
        bytes[at] = static_cast<char>(random());
        break;
      case 2: // a length or an offset at an extreme
        for (size_t k = at; k < std::min(bytes.size(), at + 8); ++k)
          bytes[k] = random() % 2 ? '\xff' : '\x7f';
        break;
      case 3:
        bytes.erase(at, random() % 16);
        break;
      default:
        bytes.insert(at, random() % 16, static_cast<char>(random()));
        break;
      }
    }
    return bytes;
  }

  void tryOpen(const std::string &path) {
    absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::open(path);
    if (!checkpoint.ok()) {
      ++refused;
      return;
    }
    ++accepted;
    for (const TensorInfo &tensor : (*checkpoint)->tensors()) {
      ASSERT_LT(tensor.rows() * tensor.columns(), 1u << 20);
      std::vector<float> values(tensor.rows() * tensor.columns());
      ASSERT_TRUE((*checkpoint)->readRows(tensor, 0, tensor.rows(), values).ok());
    }
    (*checkpoint)->tokenizer().SerializeAsString();
    (*checkpoint)->config().dump();
  }

  TemporaryFolder folder;
  std::mt19937_64 random{7}; // NOLINT(bugprone-random-generator-seed): a failure must come again
  int refused = 0, accepted = 0;
};

TEST_F(Mutations, Gguf) {
  const std::string whole = readBytes(goldenPath("tiny.gguf"));
  for (int i = 0; i < 3000; ++i)
    tryOpen(folder.write("m.gguf", mutate(whole, i % 2 ? 3000 : whole.size())));
  EXPECT_GT(refused, 100);
  EXPECT_GT(accepted, 100);
}

TEST_F(Mutations, Folder) {
  std::filesystem::copy(goldenPath("tiny"), folder.path());
  for (const char *name :
       {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"}) {
    const std::string whole = readBytes(goldenPath("tiny/") + name);
    ASSERT_FALSE(whole.empty());
    for (int i = 0; i < 500; ++i) {
      folder.write(name, mutate(whole, 2000));
      tryOpen(folder.path());
    }
    folder.write(name, whole);
  }
  EXPECT_GT(refused, 100);
  EXPECT_GT(accepted, 100);
}

} // namespace
} // namespace ingot
