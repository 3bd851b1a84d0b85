// Valid checkpoints: every storage type against the reference dequantiser, and the same model as GGUF and as a folder.
#include "compiler/checkpoint/checkpoint.h"

#include <chrono>
#include <cstdlib>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

#include "compiler/checkpoint/checkpoint_testing.h"
#include "compiler/checkpoint/gguf_file.h"
#include "compiler/checkpoint/half.h"

namespace ingot {
namespace {

using ::testing::ElementsAre;
using testing::GgufBuilder;
using testing::goldenPath;
using ::testing::HasSubstr;
using testing::TemporaryFolder;

std::unique_ptr<Checkpoint> mustOpen(const std::string &path) {
  absl::StatusOr<std::unique_ptr<Checkpoint>> checkpoint = Checkpoint::open(path);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  return checkpoint.ok() ? std::move(*checkpoint) : nullptr;
}

std::vector<float> readAll(const Checkpoint &checkpoint, const TensorInfo &tensor) {
  std::vector<float> values(tensor.rows() * tensor.columns());
  const absl::Status status = checkpoint.readRows(tensor, 0, tensor.rows(), values);
  EXPECT_TRUE(status.ok()) << status;
  return values;
}

TEST(Storage, EveryTypeIsBitEqualToTheReferenceDequantiser) {
  absl::StatusOr<GgufFile> file = GgufFile::open(goldenPath("dequantize.gguf"));
  ASSERT_TRUE(file.ok()) << file.status();
  int compared = 0;
  for (size_t i = 0; i + 1 < file->tensors().size(); i += 2) {
    const GgufTensor &blocks = file->tensors()[i], &expected = file->tensors()[i + 1];
    ASSERT_EQ(expected.name, blocks.name + ".expected");
    EXPECT_EQ(blocks.name, blocks.storage->name);
    std::vector<uint32_t> want(expected.bytes / 4), got(want.size());
    std::memcpy(want.data(), file->tensorBytes(expected).data(), expected.bytes);
    blocks.storage->decode(file->tensorBytes(blocks).data(), want.size() / blocks.storage->blockElements,
                           reinterpret_cast<float *>(got.data()));
    for (size_t k = 0; k < want.size(); ++k)
      ASSERT_EQ(got[k], want[k]) << blocks.name << " element " << k;
    ++compared;
  }
  EXPECT_EQ(compared, 11);
}

TEST(Half, RoundTripsAndRoundsToEven) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = halfToFloat(static_cast<uint16_t>(bits));
    if (value == value) {
      ASSERT_EQ(floatToHalf(value), bits);
    }
  }
  EXPECT_EQ(floatToHalf(1.0f + 0x1p-11f), 0x3c00); // ties go to the even neighbour
  EXPECT_EQ(floatToHalf(1.0f + 0x3p-11f), 0x3c02);
  EXPECT_EQ(floatToHalf(0x1p-25f), 0);
  EXPECT_EQ(floatToHalf(0x1.8p-24f), 2);
  EXPECT_EQ(floatToHalf(65519.0f), 0x7bff);
  EXPECT_EQ(floatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(floatToBf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(floatToBf16(1.0f + 0x3p-8f), 0x3f82);
  EXPECT_NE(floatToBf16(std::bit_cast<float>(0x7f800001u)) & 0x7f, 0); // a NaN stays one
}

TEST(Gguf, IsTheSameModelAsItsFolder) {
  const auto gguf = mustOpen(goldenPath("tiny.gguf")), folder = mustOpen(goldenPath("tiny"));
  ASSERT_TRUE(gguf && folder);
  ASSERT_EQ(gguf->tensors().size(), folder->tensors().size());
  for (const TensorInfo &tensor : folder->tensors()) {
    const TensorInfo *same = gguf->find(tensor.name);
    ASSERT_NE(same, nullptr) << tensor.name;
    EXPECT_EQ(same->shape, tensor.shape) << tensor.name;
    EXPECT_EQ(readAll(*gguf, *same), readAll(*folder, tensor)) << tensor.name;
  }
  for (const auto &[key, value] : folder->config().items())
    if (key != "eos_token_id" && key != "architectures") {
      EXPECT_EQ(gguf->config()[key], value) << key;
    }
  EXPECT_EQ(gguf->config()["rms_norm_eps"].get<double>(), 1e-5); // not the f32 nearest to it
  EXPECT_EQ(gguf->sourceName(), "tiny.gguf");
  EXPECT_EQ(folder->sourceName(), "tiny");
  EXPECT_NE(gguf->digest(), folder->digest());
}

TEST(Gguf, ReadsPermutedRowsInAnyPieces) {
  const auto checkpoint = mustOpen(goldenPath("tiny.gguf"));
  ASSERT_TRUE(checkpoint);
  const TensorInfo &tensor = *checkpoint->find("model.layers.0.self_attn.q_proj.weight");
  const std::vector<float> whole = readAll(*checkpoint, tensor);
  for (uint64_t first = 0; first < tensor.rows(); ++first)
    for (uint64_t count : {uint64_t{1}, uint64_t{5}}) {
      std::vector<float> part(std::min(count, tensor.rows() - first) * tensor.columns());
      ASSERT_TRUE(checkpoint->readRows(tensor, first, part.size() / tensor.columns(), part).ok());
      EXPECT_TRUE(
          std::equal(part.begin(), part.end(), whole.begin() + static_cast<ptrdiff_t>(first * tensor.columns())));
    }
  std::vector<float> row(tensor.columns());
  EXPECT_EQ(checkpoint->readRows(tensor, tensor.rows(), 1, row).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(checkpoint->readRows(tensor, UINT64_MAX, 1, row).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(checkpoint->readRows(tensor, 0, 2, row).code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(checkpoint->readRows({"none", {1}, "F32"}, 0, 1, row).code(), absl::StatusCode::kNotFound);
}

TEST(Gguf, TokenizerEqualsTheFoldersButForPadding) {
  const auto gguf = mustOpen(goldenPath("tiny.gguf")), folder = mustOpen(goldenPath("tiny"));
  ASSERT_TRUE(gguf && folder);
  TokenizerData fromGguf = gguf->tokenizer();
  ASSERT_EQ(fromGguf.pieces_size(), 40);
  EXPECT_EQ(fromGguf.pieces(39).type(), Piece::UNUSED);
  fromGguf.mutable_pieces()->DeleteSubrange(34, 6);
  EXPECT_EQ(fromGguf.SerializeAsString(), [&] {
    TokenizerData data = folder->tokenizer();
    // The folder names both ends in generation_config.json; in the GGUF the second is a control token known by name.
    EXPECT_THAT(data.end_of_sequence(), ElementsAre(2, 0));
    EXPECT_THAT(gguf->tokenizer().end_of_sequence(), ElementsAre(2, 0));
    return data.SerializeAsString();
  }());
  EXPECT_TRUE(fromGguf.digits_alone());
  EXPECT_THAT(fromGguf.merges(), ElementsAre("t h", "th e", "Ġ the"));
  EXPECT_EQ(fromGguf.chat_template(), "{{ messages[0]['content'] }}");
  EXPECT_EQ(fromGguf.pieces(33).type(), Piece::USER_DEFINED);
  EXPECT_EQ(fromGguf.unknown(), -1);
  EXPECT_FALSE(fromGguf.add_bos());
}

TEST(Gguf, TranslatesWhatItKnowsAndKeepsOtherNames) {
  TemporaryFolder folder;
  GgufBuilder builder = GgufBuilder::llama();
  builder.u32("llama.attention.sliding_window", 32);
  builder.string("llama.rope.scaling.type", "yarn");
  builder.f32("llama.rope.scaling.factor", 4);
  builder.u32("llama.rope.scaling.original_context_length", 16);
  builder.zeros("output.weight", {16, 4});
  builder.zeros("rope_freqs.weight", {4});
  builder.zeros("blk.0.attn_sinks.weight", {2});
  builder.zeros("blk.12.ffn_down.bias", {16});
  const auto checkpoint = mustOpen(folder.write("m.gguf", builder.bytes()));
  ASSERT_TRUE(checkpoint);
  std::vector<std::string> names;
  for (const TensorInfo &tensor : checkpoint->tensors())
    names.push_back(tensor.name);
  EXPECT_THAT(names, ElementsAre("model.embed_tokens.weight", "lm_head.weight", "rope_freqs.weight",
                                 "blk.0.attn_sinks.weight", "model.layers.12.mlp.down_proj.bias"));
  const nlohmann::json &config = checkpoint->config();
  EXPECT_EQ(config["model_type"], "mistral");
  EXPECT_EQ(config["sliding_window"], 32);
  EXPECT_EQ(config["tie_word_embeddings"], false);
  EXPECT_EQ(config["num_key_value_heads"], 2);
  EXPECT_EQ(config["head_dim"], 8);
  EXPECT_EQ(config["vocab_size"], 4);
  EXPECT_EQ(config["rope_scaling"],
            nlohmann::json({{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}}));
  EXPECT_EQ(checkpoint->tokenizer().kind(), TokenizerData::NONE);
}

TEST(Gguf, ReadsSentencePieceVocabulary) {
  TemporaryFolder folder;
  GgufBuilder builder = GgufBuilder::llama();
  builder.version = 2;
  builder.string("tokenizer.ggml.model", "llama");
  const std::string spaced = std::string("\xe2\x96\x81") + "a";
  builder.strings("tokenizer.ggml.tokens", {"<unk>", "<s>", "</s>", "<0x00>", spaced, "\xff"});
  builder.numbers<float>("tokenizer.ggml.scores", 6, {0, 0, 0, 0, -1.5f, -2});
  builder.numbers<int32_t>("tokenizer.ggml.token_type", 5, {2, 3, 3, 6, 1, 1});
  builder.u32("tokenizer.ggml.bos_token_id", 1);
  builder.u32("tokenizer.ggml.eos_token_id", 2);
  const auto checkpoint = mustOpen(folder.write("m.gguf", builder.bytes()));
  ASSERT_TRUE(checkpoint);
  const TokenizerData &tokenizer = checkpoint->tokenizer();
  EXPECT_EQ(tokenizer.kind(), TokenizerData::SENTENCEPIECE);
  EXPECT_EQ(tokenizer.pieces(0).type(), Piece::UNKNOWN);
  EXPECT_EQ(tokenizer.pieces(3).type(), Piece::BYTE);
  EXPECT_EQ(tokenizer.pieces(4).score(), -1.5f);
  EXPECT_EQ(tokenizer.pieces(5).text(), "\xff");
  EXPECT_TRUE(tokenizer.add_bos());
  EXPECT_TRUE(tokenizer.add_space_prefix());
  EXPECT_EQ(checkpoint->config()["bos_token_id"], 1);
  EXPECT_EQ(checkpoint->config()["eos_token_id"], 2);
}

TEST(Gguf, NamedPreTokenizersDecideHowWordsAreSplit) {
  for (const auto &[name, digits, ignoreMerges, addBos, nfc] :
       {std::tuple{"smollm", true, false, false, false}, std::tuple{"gpt-2", false, false, false, false},
        std::tuple{"llama-bpe", false, true, true, false}, std::tuple{"qwen2", false, false, false, true},
        std::tuple{"tekken", false, true, true, false}}) {
    TemporaryFolder folder;
    GgufBuilder builder = GgufBuilder::llama();
    builder.string("tokenizer.ggml.model", "gpt2");
    builder.string("tokenizer.ggml.pre", name);
    builder.strings("tokenizer.ggml.tokens", {"a", "b"});
    builder.strings("tokenizer.ggml.merges", {});
    const auto checkpoint = mustOpen(folder.write("m.gguf", builder.bytes()));
    ASSERT_TRUE(checkpoint);
    const TokenizerData &tokenizer = checkpoint->tokenizer();
    EXPECT_EQ(tokenizer.digits_alone(), digits) << name;
    EXPECT_EQ(tokenizer.ignore_merges(), ignoreMerges) << name;
    EXPECT_EQ(tokenizer.add_bos(), addBos) << name;
    EXPECT_EQ(tokenizer.nfc(), nfc) << name;
    EXPECT_EQ(tokenizer.pre_split_size(), 1) << name;
    EXPECT_THAT(tokenizer.pre_split(0), HasSubstr(R"(\s+(?!\S)|\s+)")) << name;
  }
}

class Folder : public ::testing::Test {
protected:
  Folder() {
    write("config.json", R"({"model_type": "llama", "rope_parameters": {"rope_type": "default", "rope_theta": 7.0}})");
    write(
        "model.safetensors",
        testing::safetensors(R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})",
                             testing::raw(2.5f)));
  }
  void write(std::string_view name, std::string_view bytes) { folder.write(name, bytes); }
  TokenizerData tokenizer() {
    const auto checkpoint = mustOpen(folder.path());
    return checkpoint ? checkpoint->tokenizer() : TokenizerData();
  }
  absl::Status failure() { return Checkpoint::open(folder.path()).status(); }
  // tokenizer.json with a byte-level BPE, into which the given members go.
  void writeTokenizer(const std::string &members) {
    write("tokenizer.json",
          R"({"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]},)" + members + "}");
  }

  TemporaryFolder folder;
};

TEST_F(Folder, ReadsScalarsAndNewRopeKeys) {
  const auto checkpoint = mustOpen(folder.path());
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(readAll(*checkpoint, checkpoint->tensors()[0]), std::vector<float>{2.5f});
  EXPECT_EQ(checkpoint->config()["rope_theta"], 7.0);
  EXPECT_FALSE(checkpoint->config().contains("rope_scaling"));
  EXPECT_EQ(checkpoint->tokenizer().kind(), TokenizerData::NONE);
}

TEST_F(Folder, ReadsShardsByTheirIndex) {
  std::filesystem::remove(folder.path("model.safetensors"));
  write("x.safetensors",
        testing::safetensors(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", testing::raw(1.0f)));
  write("y.safetensors", testing::safetensors(R"({"b":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}})",
                                              testing::raw<uint32_t>(0x40003f80)));
  write("model.safetensors.index.json", R"({"weight_map":{"b":"y.safetensors","a":"x.safetensors"}})");
  const auto checkpoint = mustOpen(folder.path());
  ASSERT_TRUE(checkpoint);
  EXPECT_EQ(readAll(*checkpoint, *checkpoint->find("a")), std::vector<float>{1.0f});
  EXPECT_THAT(readAll(*checkpoint, *checkpoint->find("b")), ElementsAre(1.0f, 2.0f));

  write("model.safetensors.index.json", R"({"weight_map":{"b":"y.safetensors","a":"y.safetensors"}})");
  EXPECT_THAT(failure().ToString(), HasSubstr("'a' should be in y.safetensors"));
  write("model.safetensors.index.json", R"({"weight_map":{"b":"../y.safetensors"}})");
  EXPECT_THAT(failure().ToString(), HasSubstr("expected a file name in the same folder"));
  write("model.safetensors.index.json", R"({"weight_map":{"b":"z.safetensors"}})");
  EXPECT_EQ(failure().code(), absl::StatusCode::kNotFound);
  write("z.safetensors", testing::readBytes(folder.path("y.safetensors")));
  write("model.safetensors.index.json", R"({"weight_map":{"b":"y.safetensors","c":"z.safetensors"}})");
  EXPECT_THAT(failure().ToString(), HasSubstr("'b' is in another file of the folder too"));
}

TEST_F(Folder, TranslatesSplitPreTokenizersAndTemplates) {
  writeTokenizer(R"("normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"}]},
    "pre_tokenizer":{"type":"Sequence","pretokenizers":[
      {"type":"Split","pattern":{"Regex":"\\p{N}{1,3}|\\s+"},"behavior":"Isolated","invert":false},
      {"type":"Split","pattern":{"String":"a.b"},"behavior":"Isolated"},
      {"type":"Digits","individual_digits":true},
      {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},
    "added_tokens":[{"id":5,"content":"<s>","special":true},{"id":3,"content":"<t>","special":false}],
    "post_processor":{"type":"Sequence","processors":[{"type":"ByteLevel"},
      {"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A"}}]}]})");
  write("chat_template.jinja", "from the file");
  write("tokenizer_config.json", R"({"chat_template":"from the settings","eos_token":"<t>"})");
  const TokenizerData data = tokenizer();
  EXPECT_THAT(data.pre_split(), ElementsAre(R"(\p{N}{1,3}|\s+)", R"(a\.b)", R"(\p{N})"));
  EXPECT_FALSE(data.digits_alone());
  EXPECT_TRUE(data.nfc());
  EXPECT_TRUE(data.add_bos());
  EXPECT_EQ(data.bos(), 5);
  EXPECT_EQ(data.eos(), 3);
  EXPECT_EQ(data.chat_template(), "from the file");
  ASSERT_EQ(data.pieces_size(), 6);
  EXPECT_EQ(data.pieces(3).type(), Piece::USER_DEFINED);
  EXPECT_EQ(data.pieces(4).type(), Piece::UNUSED);
  EXPECT_EQ(data.pieces(5).type(), Piece::CONTROL);
}

TEST_F(Folder, RefusesTokenizersItCannotRepeatExactly) {
  const std::string byteLevel = R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false})";
  for (
      const auto &[members, message] :
      {std::pair<std::string, std::string>{R"("normalizer":{"type":"Lowercase"},)" + byteLevel,
                                           "normalizer 'Lowercase'"},
       {R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":true})", "add_prefix_space"},
       {R"("pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Whitespace"},{"type":"ByteLevel","add_prefix_space":false}]})",
        "'Whitespace'"},
       {R"("added_tokens":[{"id":9,"content":"<m>","lstrip":true}],)" + byteLevel, "'lstrip' of added token '<m>'"},
       {R"("added_tokens":[{"id":1,"content":"<m>"}],)" + byteLevel, "has the id of 'b'"},
       {R"("added_tokens":[{"id":99999999,"content":"<m>"}],)" + byteLevel, "expected less than"},
       {R"("pre_tokenizer":{"type":"Whitespace"})", "without a tokenizer.model"}}) {
    writeTokenizer(members);
    EXPECT_THAT(failure().ToString(), HasSubstr(message));
  }
  write("tokenizer.json", R"({"model":{"type":"BPE","vocab":{"a":0},"merges":["ab"]},)" + byteLevel + "}");
  EXPECT_THAT(failure().ToString(), HasSubstr("the merge 'ab' is not two pieces"));
  write("tokenizer.json", std::string(100000, '['));
  EXPECT_THAT(failure().ToString(), HasSubstr("nested deeper"));
}

TEST_F(Folder, ReadsTokenizerModel) {
  const auto field = [](int number, const std::string &bytes) {
    return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) + bytes;
  };
  const auto piece = [&](const std::string &text, float score, char type) {
    return field(1, field(1, text) + "\x15" + testing::raw(score) + "\x18" + type);
  };
  const std::string model = piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) + piece("<0x41>", 0, 6) +
                            piece("\xe2\x96\x81x", -3.5f, 1) + piece("[USER]", 0, 4) +
                            field(2, std::string("\xc8\x02\x01\xd0\x02\x02\x18\x05", 8)) +
                            field(3, std::string("\x18\x00", 2));
  write("tokenizer.model", model);
  write("tokenizer_config.json", R"({"add_bos_token":true,"eos_token":"</s>"})");
  const TokenizerData data = tokenizer();
  EXPECT_EQ(data.kind(), TokenizerData::SENTENCEPIECE);
  EXPECT_EQ(data.sentencepiece_model(), model);
  ASSERT_EQ(data.pieces_size(), 6);
  EXPECT_EQ(data.pieces(3).type(), Piece::BYTE);
  EXPECT_EQ(data.pieces(4).score(), -3.5f);
  EXPECT_EQ(data.pieces(5).type(), Piece::USER_DEFINED);
  EXPECT_EQ(data.bos(), 1);
  EXPECT_EQ(data.unknown(), 0);
  EXPECT_FALSE(data.add_space_prefix());
  EXPECT_TRUE(data.add_bos());
  EXPECT_THAT(data.end_of_sequence(), ElementsAre(2));
  for (size_t cut = 1; cut < model.size(); ++cut) {
    write("tokenizer.model", model.substr(0, cut));
    Checkpoint::open(folder.path()).IgnoreError();
  }
  write("tokenizer.model", model.substr(0, 5));
  EXPECT_THAT(failure().ToString(), HasSubstr("expected a SentencePiece model"));
}

TEST_F(Folder, ReadsSentencePieceConvertedToJson) {
  write("tokenizer.json", R"({"model":{"type":"BPE","byte_fallback":true,"unk_token":"<unk>",
      "vocab":{"<unk>":0,"<0x0A>":1,"a":2,"b":3,"ab":4,"▁":5},"merges":["a b"]},
    "normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"▁"},
      {"type":"Replace","pattern":{"String":" "},"content":"▁"}]}})");
  const TokenizerData data = tokenizer();
  EXPECT_EQ(data.kind(), TokenizerData::SENTENCEPIECE);
  EXPECT_EQ(data.pieces(0).type(), Piece::UNKNOWN);
  EXPECT_EQ(data.pieces(1).type(), Piece::BYTE);
  EXPECT_EQ(data.pieces(4).score(), 0);
  EXPECT_LT(data.pieces(2).score(), -1e8f);
  EXPECT_TRUE(data.add_space_prefix());
  EXPECT_EQ(data.merges_size(), 0);
}

// INGOT_TEST_GGUF names a real Llama file.
TEST(RealFile, DecodesEveryTensor) {
  const char *path = std::getenv("INGOT_TEST_GGUF");
  if (!path)
    GTEST_SKIP() << "set INGOT_TEST_GGUF to a GGUF file of architecture llama";
  const auto checkpoint = mustOpen(path);
  ASSERT_TRUE(checkpoint);
  const auto start = std::chrono::steady_clock::now();
  uint64_t bytes = 0;
  std::vector<float> rows;
  for (const TensorInfo &tensor : checkpoint->tensors())
    for (uint64_t row = 0; row < tensor.rows(); row += 64) {
      const uint64_t count = std::min<uint64_t>(64, tensor.rows() - row);
      rows.resize(count * tensor.columns());
      const absl::Status status = checkpoint->readRows(tensor, row, count, rows);
      ASSERT_TRUE(status.ok()) << status;
      bytes += rows.size() * sizeof(float);
    }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("decoded %.0f MB of fp32 at %.0f MB/s; %s\n", static_cast<double>(bytes) / 1e6,
              static_cast<double>(bytes) / 1e6 / seconds, checkpoint->config().dump().c_str());
}

} // namespace
} // namespace ingot
