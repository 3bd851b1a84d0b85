// Ids and texts against those of Hugging Face's tokenizers and of sentencepiece (tests/tokenizer/make_goldens.py), and
// what has no reference: streaming, limits, damaged data.
#include <chrono>
#include <random>

#include "runtime/tokenizer/golden_file.h"
#include "runtime/tokenizer/text.h"
#include "runtime/tokenizer/text_only.h"
#include "runtime/tokenizer/tokenizer.h"
#include "runtime/tokenizer/utf8.h"

namespace ingot {
namespace {

std::unique_ptr<Tokenizer> load(const golden::Json &file) {
  absl::StatusOr<std::unique_ptr<Tokenizer>> made = Tokenizer::create(golden::dataOf(file));
  EXPECT_TRUE(made.ok()) << made.status();
  return made.ok() ? *std::move(made) : nullptr;
}

std::string shown(const std::string &text) { return testing::PrintToString(text); }

class GoldenTest : public testing::TestWithParam<const char *> {};

TEST_P(GoldenTest, EncodesLikeTheReference) {
  golden::Json file = golden::readJson(GetParam());
  std::unique_ptr<Tokenizer> tokenizer = load(file);
  ASSERT_NE(tokenizer, nullptr);
  ASSERT_GT(file["cases"].size(), 150U);
  for (const golden::Json &test : file["cases"]) {
    std::string text = golden::fromBase64(test["text"]);
    auto expected = test["ids"].get<std::vector<int32_t>>();
    bool special = test["special"];
    EXPECT_EQ(tokenizer->encode(text, {.parseSpecial = special}), expected) << shown(text) << " special " << special;
    if (test.contains("either"))
      EXPECT_EQ(tokenizer->encode(text, {.parseSpecial = true}), expected) << shown(text) << " special either";
  }
}

TEST_P(GoldenTest, DecodesLikeTheReferenceAtOnceAndStreamed) {
  golden::Json file = golden::readJson(GetParam());
  std::unique_ptr<Tokenizer> tokenizer = load(file);
  ASSERT_NE(tokenizer, nullptr);
  ASSERT_GT(file["decodes"].size(), 150U);
  for (const golden::Json &test : file["decodes"]) {
    auto ids = test["ids"].get<std::vector<int32_t>>();
    bool skip = test["skip"];
    std::string expected = golden::fromBase64(test["text"]);
    EXPECT_EQ(shown(tokenizer->decode(ids, skip)), shown(expected)) << testing::PrintToString(ids) << " skip " << skip;
    TokenStream stream(*tokenizer, skip);
    std::string streamed;
    for (int32_t id : ids) {
      std::string part = stream.push(id);
      EXPECT_EQ(utf8::replaceBroken(part), part);
      streamed += part;
    }
    EXPECT_EQ(streamed + stream.finish(), expected);
  }
}

TEST_P(GoldenTest, NeverMakesControlIdsFromPlainText) {
  golden::Json file = golden::readJson(GetParam());
  std::unique_ptr<Tokenizer> tokenizer = load(file);
  ASSERT_NE(tokenizer, nullptr);
  for (int32_t id = 0; id < tokenizer->size(); ++id) {
    if (!tokenizer->isControl(id))
      continue;
    std::string text(tokenizer->pieceText(id));
    for (int32_t made : tokenizer->encode(cat("a ", text, text, "\n", text)))
      EXPECT_FALSE(tokenizer->isControl(made)) << text;
    std::vector<int32_t> parsed = tokenizer->encode(text, {.parseSpecial = true});
    EXPECT_EQ(parsed, std::vector<int32_t>{id}) << text;
  }
}

TEST_P(GoldenTest, SurvivesAnyBytesAndIds) {
  golden::Json file = golden::readJson(GetParam());
  std::unique_ptr<Tokenizer> tokenizer = load(file);
  ASSERT_NE(tokenizer, nullptr);
  std::mt19937 random = golden::repeatable(17);
  for (int round = 0; round < 800; ++round) {
    std::string text(random() % 60, '\0');
    for (char &c : text)
      c = static_cast<char>(round % 2 ? random() : "aA1 \n<|>_\xC3\xA9\xF0\x9F"[random() % 13]);
    std::vector<int32_t> ids = tokenizer->encode(text, {.addBos = round % 3 == 0, .parseSpecial = round % 4 == 0});
    for (int32_t id : ids)
      ASSERT_TRUE(id >= 0 && id < tokenizer->size());
    for (int i = 0; i < 4; ++i)
      ids.push_back(static_cast<int32_t>(random()));
    std::string decoded = tokenizer->decode(ids, round % 2);
    ASSERT_EQ(utf8::replaceBroken(decoded), decoded);
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTest,
                         testing::Values("bpe_smollm", "bpe_gpt2", "bpe_llama3", "bpe_qwen2", "bpe_tekken", "spm_bpe",
                                         "spm_gguf", "spm_gguf_no_prefix", "spm_unigram", "spm_bpe_normalised",
                                         "spm_unknown_unigram", "spm_unknown_bpe"),
                         [](const auto &info) { return std::string(info.param); });

TEST(TokenizerTest, ByteLevelTextSurvivesTheRoundTrip) {
  std::unique_ptr<Tokenizer> tokenizer = load(golden::readJson("bpe_smollm"));
  ASSERT_NE(tokenizer, nullptr);
  std::mt19937 random = golden::repeatable(3);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (uint32_t i = random() % 40; i > 0; --i) {
      uint32_t c = random() % 0x110000 >> random() % 16;
      utf8::append(text, c >= 0xD800 && c < 0xE000 ? 'x' : c);
    }
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text), false), text);
  }
}

TEST(TokenizerTest, LongWordsAreNotQuadratic) {
  for (const char *name : {"bpe_smollm", "bpe_tekken", "spm_bpe"}) {
    std::unique_ptr<Tokenizer> tokenizer = load(golden::readJson(name));
    ASSERT_NE(tokenizer, nullptr);
    std::string word;
    for (int i = 0; i < 100'000; ++i)
      word += "theorder"[i % 8];
    auto begin = std::chrono::steady_clock::now();
    std::vector<int32_t> ids = tokenizer->encode(word);
    std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    EXPECT_GT(ids.size(), 1000U);
    // Quadratic merging takes minutes; the bound leaves room for sanitizers and slow machines.
    EXPECT_LT(seconds.count(), 5.0) << name;
  }
}

// What a chat template or a user spells as a placeholder's control token is refused; the same letters as text are text.
TEST(TokenizerTest, PlaceholdersOfImagesAreNoText) {
  TokenizerData data = golden::dataOf(golden::readJson("bpe_smollm"));
  int control = 0;
  while (data.pieces(control).type() != Piece::CONTROL)
    ++control;
  EXPECT_TRUE(checkTextOnly(**Tokenizer::create(data), std::vector<int32_t>{control}).ok());
  data.mutable_pieces(control)->set_text("<|image_pad|>");
  auto tokenizer = Tokenizer::create(data);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const std::string text = "See <|image_pad|> here";
  EXPECT_TRUE(checkTextOnly(**tokenizer, (*tokenizer)->encode(text)).ok());
  absl::Status status = checkTextOnly(**tokenizer, (*tokenizer)->encode(text, {.parseSpecial = true}));
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find(" of the prompt is <|image_pad|>, which stands for what is no text"),
            std::string::npos)
      << status;
}

TEST(TokenizerTest, PutsBosFirstOnlyWhenAsked) {
  std::unique_ptr<Tokenizer> tokenizer = load(golden::readJson("spm_bpe"));
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_TRUE(tokenizer->addsBos());
  std::vector<int32_t> plain = tokenizer->encode("The order");
  std::vector<int32_t> withBos = tokenizer->encode("The order", {.addBos = true});
  ASSERT_FALSE(withBos.empty());
  EXPECT_EQ(withBos[0], tokenizer->bos());
  EXPECT_EQ(std::vector<int32_t>(withBos.begin() + 1, withBos.end()), plain);
  EXPECT_TRUE(tokenizer->isEndOfSequence(tokenizer->eos()));
  EXPECT_FALSE(tokenizer->isEndOfSequence(tokenizer->bos()));
}

TEST(TokenizerTest, AStreamThatContinuesTextKeepsTheLeadingSpace) {
  std::unique_ptr<Tokenizer> tokenizer = load(golden::readJson("spm_bpe"));
  ASSERT_NE(tokenizer, nullptr);
  std::vector<int32_t> ids = tokenizer->encode("the dog");
  auto streamed = [&](bool continues) {
    TokenStream stream(*tokenizer, true, continues);
    std::string text;
    for (int32_t id : ids)
      text += stream.push(id);
    return text + stream.finish();
  };
  EXPECT_EQ(streamed(false), "the dog");
  EXPECT_EQ(streamed(true), " the dog");
}

TEST(TokenizerTest, AStreamHoldsBackHalfACharacter) {
  std::unique_ptr<Tokenizer> tokenizer = load(golden::readJson("bpe_gpt2"));
  ASSERT_NE(tokenizer, nullptr);
  std::vector<int32_t> bytes;
  for (const char *piece : {"ð", "Ł", "ĺ", "Ģ"}) // F0 9F 98 80
    bytes.push_back(tokenizer->find(piece).value_or(-1));
  TokenStream stream(*tokenizer);
  EXPECT_EQ(stream.push(bytes[0]), "");
  EXPECT_EQ(stream.push(bytes[1]), "");
  EXPECT_EQ(stream.push(bytes[2]), "");
  EXPECT_EQ(stream.push(bytes[3]), "😀");
  EXPECT_EQ(stream.push(bytes[0]), "");
  EXPECT_EQ(stream.push(tokenizer->find("a").value_or(-1)), "\xEF\xBF\xBD"
                                                            "a");
  EXPECT_EQ(stream.push(bytes[0]), "");
  EXPECT_EQ(stream.finish(), "\xEF\xBF\xBD");
}

TEST(TokenizerTest, RefusesDamagedData) {
  auto refuses = [](const TokenizerData &data, std::string_view what) {
    absl::StatusOr<std::unique_ptr<Tokenizer>> made = Tokenizer::create(data);
    ASSERT_FALSE(made.ok()) << what;
    EXPECT_NE(made.status().ToString().find(std::string(what)), std::string::npos) << made.status();
  };
  refuses({}, "no tokenizer");
  TokenizerData good = golden::dataOf(golden::readJson("bpe_gpt2"));
  TokenizerData data = good;
  data.add_merges("no such piece");
  refuses(data, "expected two pieces");
  data = good;
  data.add_merges("zzz qqq");
  refuses(data, "not in the vocabulary");
  data = good;
  data.set_pre_split(0, "(unclosed");
  refuses(data, "does not compile");
  data = good;
  data.set_pre_split(0, "[a&&[b]]");
  refuses(data, "set operation");
  data = good;
  data.set_eos(1 << 20);
  refuses(data, "eos");
  data = good;
  data.add_end_of_sequence(4'000'000'000U);
  refuses(data, "end of sequence");
  data = good;
  data.mutable_pieces(1)->set_text(std::string(5000, 'x'));
  refuses(data, "5000 bytes");
  TokenizerData model = golden::dataOf(golden::readJson("spm_unigram"));
  data = model;
  data.set_sentencepiece_model("not a model");
  refuses(data, "SentencePiece model");
  data = golden::dataOf(golden::readJson("spm_gguf"));
  data.mutable_pieces(data.unknown())->set_type(Piece::NORMAL);
  data.set_unknown(1 << 20);
  refuses(data, "the unknown piece is id 1048576");
}

TEST(TokenizerTest, SurvivesFlippedBytesInASentencePieceModel) {
  TokenizerData data = golden::dataOf(golden::readJson("spm_unigram"));
  const std::string good = data.sentencepiece_model();
  std::mt19937 random = golden::repeatable(23);
  int loaded = 0;
  for (int round = 0; round < 300; ++round) {
    std::string bad = good;
    // Half of the flips go into the end, where the normalisation rules are.
    size_t range = round % 2 ? bad.size() : std::min<size_t>(bad.size(), 2000);
    for (int flips = 1 + static_cast<int>(random() % 3); flips > 0; --flips)
      bad[bad.size() - 1 - random() % range] ^= static_cast<char>(1 << random() % 8);
    data.set_sentencepiece_model(bad);
    absl::StatusOr<std::unique_ptr<Tokenizer>> made = Tokenizer::create(data);
    if (!made.ok())
      continue;
    ++loaded;
    std::vector<int32_t> ids = (*made)->encode("Größe ﬁne e\u0301 half ½ ① … text\t\n");
    (*made)->decode(ids, false);
  }
  EXPECT_GT(loaded, 0);
}

} // namespace
} // namespace ingot
