// Fusions of ops that the declared models do not all have: modules at odd shapes, with a fusion and without it, by
// chunk and by steps. The bits must be the same, the launches fewer, and the numbers the interpreter's.
#include "tests/numerics/program.h"

#include <algorithm>
#include <cctype>

using namespace ingot;
using namespace ingot::numerics;

namespace {

// Not a multiple of a tile of tokens, and more than one block of the cache.
constexpr unsigned kTokens = 21;
constexpr int kVocabulary = 101;

std::vector<int32_t> someTokens(unsigned count = kTokens) {
  std::vector<int32_t> tokens;
  for (unsigned i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>((7 * i * i + 3) % kVocabulary));
  return tokens;
}

void replaceAll(std::string &text, const std::string &from, const std::string &to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// A module whose @logits and @decode both hold `body`, which makes %logits of %tokens. SCHEME is replaced in `symbols`.
std::string moduleOf(const std::string &symbols, const std::string &body, const std::string &scheme) {
  std::string text = R"(
module attributes {llm.facts = {architecture = "test", context_length = 64 : i64, end_of_sequence = array<i64>,
    hidden_size = 48 : i64, layers = 1 : i64, name = "test", prefill_chunk = 64 : i64, skipped_tensors = [],
    vocabulary = 101 : i64}} {
  llm.weight @embed from "embed" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @norm from "norm" : tensor<48xf32> {scheme = #llm.scheme<f32>}
)" + symbols;
  replaceAll(text, "SCHEME", "{scheme = #llm.scheme<" + scheme + ">}");
  replaceAll(text, "VECTOR", "{scheme = #llm.scheme<f32>}");
  for (const char *name : {"decode", "logits"}) {
    std::string rows = name == std::string("decode") ? "1" : "?";
    std::string function = "func.func @" + std::string(name) + "(%tokens: tensor<?xi32>) -> tensor<?x101xf32> {\n" +
                           body + "\nreturn %logits : tensor<?x101xf32>\n}\n";
    replaceAll(function, "tensor<?x", "tensor<" + rows + "x");
    text += function;
  }
  return text + "}\n";
}

// Compiles with `before` alone and with `fusions` after it; the second must have `fewer` launches less in @decode, and
// in @logits so many of `large` tiles.
void check(const std::string &text, const std::string &before, const std::string &fusions, size_t fewer,
           double tolerance, unsigned count = kTokens, size_t large = 0) {
  SCOPED_TRACE(fusions);
  Program apart(text, before), fused(text, before + "," + fusions);
  EXPECT_EQ(fused.launches("decode") + fewer, apart.launches("decode"));
  EXPECT_GE(fused.launchesOfTiles("logits", 4), large);
  std::vector<int32_t> tokens = someTokens(count);
  for (bool steps : {false, true}) {
    std::vector<float> wanted = steps ? apart.steps(tokens) : apart.logits(tokens),
                       got = steps ? fused.steps(tokens) : fused.logits(tokens);
    ASSERT_EQ(wanted.size(), count * static_cast<size_t>(kVocabulary));
    EXPECT_EQ(std::memcmp(wanted.data(), got.data(), wanted.size() * 4), 0)
        << (steps ? "steps" : "chunk") << ": other bits, " << relativeError(got, wanted) << " apart";
    EXPECT_LE(relativeError(got, fused.reference(tokens, steps)), tolerance) << (steps ? "steps" : "chunk");
  }
}

// What a device and the interpreter may differ by: sums in another order now and then round to the neighbouring bf16 or
// int8. A wrong op is off by the order of 1.
constexpr double kTolerance = 1e-2;

// A row that nothing normalises is quantised by the linear that reads it: alone, with a bias, with an epilogue, for
// gate and up together, and at a width that is no multiple of a step of K. Steps alone: a chunk keeps its llm.quantize.
TEST(FusionOfQuantisation, Prologue) {
  std::string text = moduleOf(R"(
  llm.weight @head from "head" : tensor<101x48xf32> SCHEME
  llm.weight @gate from "gate" : tensor<97x48xf32> SCHEME
  llm.weight @up from "up" : tensor<97x48xf32> SCHEME
  llm.weight @down from "down" : tensor<48x97xf32> SCHEME
  llm.weight @down.bias from "down.bias" : tensor<48xf32> VECTOR
  llm.weight @wide from "wide" : tensor<1100x48xf32> SCHEME
  llm.weight @narrow from "narrow" : tensor<48x1100xf32> SCHEME
)",
                              R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %r:2 = llm.linear %n, @gate, @up : (tensor<?x48xbf16>) -> (tensor<?x97xf32>, tensor<?x97xf32>)
      %h = llm.gated_mul silu %r#0, %r#1 : tensor<?x97xf32>, tensor<?x97xf32> -> tensor<?x97xbf16>
      %d = llm.linear %h, @down bias @down.bias : (tensor<?x97xbf16>) -> tensor<?x48xf32>
      %y = llm.add %x, %d : tensor<?x48xf32>
      %m = llm.rms_norm %y, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %w = llm.linear %m, @wide : (tensor<?x48xbf16>) -> tensor<?x1100xbf16>
      %z = llm.linear %w, @narrow : (tensor<?x1100xbf16>) -> tensor<?x48xbf16>
      %s:2 = llm.linear %z, @gate, @up : (tensor<?x48xbf16>) -> (tensor<?x97xf32>, tensor<?x97xf32>)
      %t = llm.gated_mul silu %s#0, %s#1 : tensor<?x97xf32>, tensor<?x97xf32> -> tensor<?x97xbf16>
      %e = llm.linear %t, @down : (tensor<?x97xbf16>) -> tensor<?x48xbf16>
      %logits = llm.linear %e, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)",
                              "int8, activation = int8_per_token");
  check(text, "insert-quantize,fuse-gated-mul,fuse-residual-add,fuse-norm-quantize", "fuse-quantize", 5, kTolerance);
}

// A norm in the prologue of the wide linear that reads it: of f32 and of bf16 rows, of gate and up, before a
// quantisation of the same prologue, and where the row is laid over more waves than the linear has (48 columns are one
// wave, 1100 five). Steps alone: a chunk keeps its norm.
TEST(FusionOfNorms, Prologue) {
  for (const char *scheme : {"bf16", "int8, activation = int8_per_token", "int8, group = 32"}) {
    SCOPED_TRACE(scheme);
    std::string text = moduleOf(R"(
  llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @norm1100 from "norm1100" : tensor<1100xf32> VECTOR
  llm.weight @wide from "wide" : tensor<16384x48xf32> SCHEME
  llm.weight @wide.bias from "wide.bias" : tensor<16384xf32> VECTOR
  llm.weight @back from "back" : tensor<48x16384xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @broad from "broad" : tensor<1100x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @gate from "gate" : tensor<8200x1100xf32> SCHEME
  llm.weight @up from "up" : tensor<8200x1100xf32> SCHEME
  llm.weight @down from "down" : tensor<48x8200xf32> {scheme = #llm.scheme<bf16>}
)",
                                R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %w = llm.linear %n, @wide bias @wide.bias : (tensor<?x48xbf16>) -> tensor<?x16384xbf16>
      %a = llm.linear %w, @back : (tensor<?x16384xbf16>) -> tensor<?x48xbf16>
      %b = llm.linear %a, @broad : (tensor<?x48xbf16>) -> tensor<?x1100xbf16>
      %m = llm.rms_norm %b, @norm1100 eps 1.0e-6 : tensor<?x1100xbf16> -> tensor<?x1100xbf16>
      %r:2 = llm.linear %m, @gate, @up : (tensor<?x1100xbf16>) -> (tensor<?x8200xf32>, tensor<?x8200xf32>)
      %h = llm.gated_mul silu %r#0, %r#1 : tensor<?x8200xf32>, tensor<?x8200xf32> -> tensor<?x8200xbf16>
      %d = llm.linear %h, @down : (tensor<?x8200xbf16>) -> tensor<?x48xbf16>
      %logits = llm.linear %d, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)",
                                scheme);
    check(text, "insert-quantize,fuse-gated-mul,fuse-norm-quantize", "fuse-norm", 2, kTolerance);
  }
}

// Wide enough that waves of a chunk's kernels have several tiles of rows and of tokens, as those of real models have: a
// layer with a rotated, cached attention, an MLP, experts, and the sums between them.
TEST(FusionOfLargeTiles, Layer) {
  std::string symbols = R"(
  llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @wide from "wide" : tensor<4096x48xf32> SCHEME
  llm.weight @wide.norm from "wide.norm" : tensor<4096xf32> VECTOR
  llm.weight @in from "in" : tensor<256x4096xf32> SCHEME
  llm.weight @q from "q" : tensor<4096x256xf32> SCHEME
  llm.weight @k from "k" : tensor<1024x256xf32> SCHEME
  llm.weight @k.bias from "k.bias" : tensor<1024xf32> VECTOR
  llm.weight @v from "v" : tensor<1024x256xf32> SCHEME
  llm.weight @freq from "freq" : tensor<64xf32> VECTOR
  llm.state @c.k key : tensor<?x8x128xbf16>
  llm.state @c.v value : tensor<?x8x128xbf16>
  llm.weight @narrow from "narrow" : tensor<256x4096xf32> SCHEME
  llm.weight @gate from "gate" : tensor<4096x256xf32> SCHEME
  llm.weight @gate.bias from "gate.bias" : tensor<4096xf32> VECTOR
  llm.weight @up from "up" : tensor<4096x256xf32> SCHEME
  llm.weight @down from "down" : tensor<256x4096xf32> SCHEME
  llm.weight @router from "router" : tensor<3x256xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @e.gate from "e.gate" : tensor<3x2048x256xf32> SCHEME
  llm.weight @e.up from "e.up" : tensor<3x2048x256xf32> SCHEME
  llm.weight @e.down from "e.down" : tensor<3x256x2048xf32> SCHEME
  llm.weight @inner.norm from "inner.norm" : tensor<256xf32> VECTOR
  llm.weight @o from "o" : tensor<4096x256xf32> SCHEME
  llm.weight @out from "out" : tensor<48x4096xf32> SCHEME
)",
              body = R"(
      %e = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %e, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %x = llm.linear %n, @wide : (tensor<?x48xbf16>) -> tensor<?x4096xf32>
      %w = llm.rms_norm %x, @wide.norm eps 1.0e-5 : tensor<?x4096xf32> -> tensor<?x4096xbf16>
      %i0 = llm.linear %w, @in : (tensor<?x4096xbf16>) -> tensor<?x256xbf16>
      %i = llm.rms_norm %i0, @inner.norm eps 1.0e-5 : tensor<?x256xbf16> -> tensor<?x256xbf16>
      %q = llm.linear %i, @q : (tensor<?x256xbf16>) -> tensor<?x4096xf32>
      %k = llm.linear %i, @k bias @k.bias : (tensor<?x256xbf16>) -> tensor<?x1024xf32>
      %v = llm.linear %i, @v : (tensor<?x256xbf16>) -> tensor<?x1024xbf16>
      %qr = llm.rope %q, @freq heads 32 head_dim 128 : tensor<?x4096xf32> -> tensor<?x4096xbf16>
      %kr = llm.rope %k, @freq heads 8 head_dim 128 : tensor<?x1024xf32> -> tensor<?x1024xbf16>
      llm.append %kr, %v, @c.k, @c.v kv_heads 8 head_dim 128 : tensor<?x1024xbf16>, tensor<?x1024xbf16>
      %a = llm.attention %qr, @c.k, @c.v heads 32 kv_heads 8 head_dim 128 scale 0.09 : tensor<?x4096xbf16>
      %m0 = llm.linear %a, @narrow : (tensor<?x4096xbf16>) -> tensor<?x256xbf16>
      %m = llm.rms_norm %m0, @inner.norm eps 1.0e-5 : tensor<?x256xbf16> -> tensor<?x256xbf16>
      %g = llm.linear %m, @gate bias @gate.bias : (tensor<?x256xbf16>) -> tensor<?x4096xf32>
      %u = llm.linear %m, @up : (tensor<?x256xbf16>) -> tensor<?x4096xf32>
      %h = llm.gated_mul silu %g, %u : tensor<?x4096xf32>, tensor<?x4096xf32> -> tensor<?x4096xbf16>
      %d = llm.linear %h, @down : (tensor<?x4096xbf16>) -> tensor<?x256xf32>
      %l = llm.linear %i, @router : (tensor<?x256xbf16>) -> tensor<?x3xf32>
      %t, %j = llm.route %l top 2 normalize : tensor<?x3xf32> -> tensor<?x2xf32>, tensor<?x2xi32>
      %eg = llm.linear %i experts %j, @e.gate : (tensor<?x256xbf16>, tensor<?x2xi32>) -> tensor<?x2x2048xf32>
      %eu = llm.linear %i experts %j, @e.up : (tensor<?x256xbf16>, tensor<?x2xi32>) -> tensor<?x2x2048xf32>
      %eh = llm.gated_mul silu %eg, %eu : tensor<?x2x2048xf32>, tensor<?x2x2048xf32> -> tensor<?x2x2048xbf16>
      %ed = llm.linear %eh experts %j, @e.down : (tensor<?x2x2048xbf16>, tensor<?x2xi32>) -> tensor<?x2x256xf32>
      %ex = llm.combine %ed, %t : tensor<?x2x256xf32>, tensor<?x2xf32> -> tensor<?x256xf32>
      %both = llm.add %d, %ex : tensor<?x256xf32>
      %ey = llm.rms_norm %both, @inner.norm eps 1.0e-5 : tensor<?x256xf32> -> tensor<?x256xbf16>
      %o = llm.linear %ey, @o : (tensor<?x256xbf16>) -> tensor<?x4096xf32>
      %y = llm.add %x, %o : tensor<?x4096xf32>
      %r = llm.rms_norm %y, @wide.norm eps 1.0e-5 : tensor<?x4096xf32> -> tensor<?x4096xbf16>
      %s = llm.linear %r, @out : (tensor<?x4096xbf16>) -> tensor<?x48xbf16>
      %logits = llm.linear %s, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)";
  for (const char *scheme : {"bf16", "int8, activation = int8_per_token", "int4, group = 32, zeros"}) {
    SCOPED_TRACE(scheme);
    // Gone are five products that share a launch (and the router, where all of them are bf16), two rotations and the
    // append, two SiLUs, and the last sum.
    const size_t gone = scheme == std::string("bf16") ? 12 : 11;
    check(moduleOf(symbols, body, scheme), "insert-quantize",
          "merge-linears,fuse-rope-append,fuse-gated-mul,fuse-residual-add", gone, kTolerance, 37, 3);
  }
}

// The best token, where the head leaves the best of each 16 logits and where argmax reads them all: vocabularies with
// and without a last tile that is partly padding, and with caps that make logits equal, so that the lowest index must
// win.
TEST(FusionOfArgmax, ChoosesTheSameTokens) {
  for (const char *cap : {"", "epilogue(%p: tensor<1x101xf32>) { %c = llm.softcap %p cap 1.0e-38 : tensor<1x101xf32> "
                              "llm.yield %c : tensor<1x101xf32> }"}) {
    std::string text = moduleOf(R"(llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>})", R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %logits = llm.linear %n, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)",
                                "bf16");
    text.erase(text.rfind('}'));
    text += std::string(R"(
  func.func @decode_greedy(%tokens: tensor<1xi32>) {
      %x = llm.embed %tokens, @embed : (tensor<1xi32>) -> tensor<1x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<1x48xf32> -> tensor<1x48xbf16>
      %l = llm.linear %n, @head : (tensor<1x48xbf16>) -> tensor<1x101xf32> )") +
            cap + R"(
      %t = llm.argmax %l : tensor<1x101xf32> -> tensor<1xi32>
      llm.advance %t : tensor<1xi32>
      return
  }
}
)";
    Program apart(text, ""), fused(text, "fuse-argmax");
    EXPECT_EQ(fused.launches("decode_greedy") + 2, apart.launches("decode_greedy"));
    std::vector<int32_t> wanted;
    for (int32_t token : someTokens()) {
      std::vector<float> row = apart.steps({token});
      // Capped, every positive logit is the cap.
      auto best = *cap ? std::ranges::find_if(row, [](float y) { return y > 0; }) : std::ranges::max_element(row);
      wanted.push_back(static_cast<int32_t>(best - row.begin()));
    }
    EXPECT_EQ(apart.chosen(someTokens()), wanted);
    EXPECT_EQ(fused.chosen(someTokens()), wanted);
  }
}

std::string nameOf(const testing::TestParamInfo<const char *> &info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
}

class Fusion : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Schemes, Fusion,
                         testing::Values("bf16", "int8, activation = int8_per_token", "int8, group = 32"), nameOf);

TEST_P(Fusion, GatedProducts) {
  const std::string symbols = R"(
  llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @gate from "gate" : tensor<97x48xf32> SCHEME
  llm.weight @gate.bias from "gate.bias" : tensor<97xf32> VECTOR
  llm.weight @up from "up" : tensor<97x48xf32> SCHEME
  llm.weight @down from "down" : tensor<48x97xf32> SCHEME
  llm.weight @down.bias from "down.bias" : tensor<48xf32> VECTOR
  llm.weight @og from "og" : tensor<48x48xf32> SCHEME
  llm.weight @one from "one" : tensor<1x48xf32> SCHEME
)";
  for (const char *function : {"silu", "gelu_tanh", "sigmoid"}) {
    std::string body = R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %o = llm.linear %n, @og : (tensor<?x48xbf16>) -> tensor<?x48xf32>
      %s = llm.linear %n, @one : (tensor<?x48xbf16>) -> tensor<?x1xf32>
      %g = llm.linear %n, @gate bias @gate.bias : (tensor<?x48xbf16>) -> tensor<?x97xf32>
      %u = llm.linear %n, @up : (tensor<?x48xbf16>) -> tensor<?x97xf32>
      %h = llm.gated_mul FUNCTION %g, %u : tensor<?x97xf32>, tensor<?x97xf32> -> tensor<?x97xbf16>
      %d = llm.linear %h, @down bias @down.bias : (tensor<?x97xbf16>) -> tensor<?x48xf32>
      %e = llm.gated_mul sigmoid %s, %d : tensor<?x1xf32>, tensor<?x48xf32> -> tensor<?x48xf32>
      %y = llm.rms_norm %e, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %w = llm.gated_mul FUNCTION %o, %y : tensor<?x48xf32>, tensor<?x48xbf16> -> tensor<?x48xbf16>
      %logits = llm.linear %w, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)";
    replaceAll(body, "FUNCTION", function);
    std::string text = moduleOf(symbols, body, GetParam());
    check(text, "insert-quantize,merge-linears", "fuse-gated-mul", 3, kTolerance);
    if (function == std::string("gelu_tanh")) // gate and up apart
      check(text, "insert-quantize", "fuse-gated-mul", 3, kTolerance);
  }
}

TEST_P(Fusion, Softcap) {
  std::string text = moduleOf(R"(llm.weight @capped from "capped" : tensor<101x48xf32> SCHEME)", R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %l = llm.linear %n, @capped : (tensor<?x48xbf16>) -> tensor<?x101xf32>
      %logits = llm.softcap %l cap 1.5 : tensor<?x101xf32>)",
                              GetParam());
  check(text, "insert-quantize", "fuse-softcap", 1, kTolerance);
}

class ExpertFusion : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Schemes, ExpertFusion,
                         testing::Values("bf16", "int8, activation = int8_per_token", "int4, group = 32, zeros"),
                         nameOf);

// A block of nine experts beside a shared one with a gate: rows that are no multiple of 16, and one column more than a
// piece of eight.
TEST_P(ExpertFusion, Block) {
  std::string symbols = R"(
  llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @router from "router" : tensor<9x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @shared from "shared" : tensor<1x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @e.gate from "e.gate" : tensor<9xINNERx48xf32> SCHEME
  llm.weight @e.up from "e.up" : tensor<9xINNERx48xf32> SCHEME
  llm.weight @e.down from "e.down" : tensor<9x48xINNERxf32> SCHEME
  llm.weight @gate from "gate" : tensor<97x48xf32> SCHEME
  llm.weight @up from "up" : tensor<97x48xf32> SCHEME
  llm.weight @down from "down" : tensor<48x97xf32> SCHEME
)",
              body = R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %l = llm.linear %n, @router : (tensor<?x48xbf16>) -> tensor<?x9xf32>
      %w, %i = llm.route %l top SLOTS normalize : tensor<?x9xf32> -> tensor<?xSLOTSxf32>, tensor<?xSLOTSxi32>
      %eg = llm.linear %n experts %i, @e.gate : (tensor<?x48xbf16>, tensor<?xSLOTSxi32>) -> tensor<?xSLOTSxINNERxf32>
      %eu = llm.linear %n experts %i, @e.up : (tensor<?x48xbf16>, tensor<?xSLOTSxi32>) -> tensor<?xSLOTSxINNERxf32>
      %eh = llm.gated_mul silu %eg, %eu : tensor<?xSLOTSxINNERxf32>, tensor<?xSLOTSxINNERxf32> -> tensor<?xSLOTSxINNERxbf16>
      %ed = llm.linear %eh experts %i, @e.down : (tensor<?xSLOTSxINNERxbf16>, tensor<?xSLOTSxi32>) -> tensor<?xSLOTSx48xf32>
      %y = llm.combine %ed, %w : tensor<?xSLOTSx48xf32>, tensor<?xSLOTSxf32> -> tensor<?x48xf32>
      %s = llm.linear %n, @shared : (tensor<?x48xbf16>) -> tensor<?x1xf32>
      %g = llm.linear %n, @gate : (tensor<?x48xbf16>) -> tensor<?x97xf32>
      %u = llm.linear %n, @up : (tensor<?x48xbf16>) -> tensor<?x97xf32>
      %h = llm.gated_mul silu %g, %u : tensor<?x97xf32>, tensor<?x97xf32> -> tensor<?x97xbf16>
      %d = llm.linear %h, @down : (tensor<?x97xbf16>) -> tensor<?x48xf32>
      %z = llm.gated_mul sigmoid %s, %d : tensor<?x1xf32>, tensor<?x48xf32> -> tensor<?x48xf32>
      %a = llm.add %y, %z : tensor<?x48xf32>
      %b = llm.add %x, %a : tensor<?x48xf32>
      %m = llm.rms_norm %b, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %logits = llm.linear %m, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)";
  struct Shape {
    const char *slots, *inner;
  };
  // The second: experts whose rows need all the waves of a workgroup, and take turns.
  for (const Shape &shape : {Shape{"3", "41"}, Shape{"6", "600"}}) {
    SCOPED_TRACE(shape.inner);
    std::string weights = symbols, block = body;
    for (std::string *text : {&weights, &block}) {
      replaceAll(*text, "SLOTS", shape.slots);
      replaceAll(*text, "INNER", shape.inner);
    }
    std::string text = moduleOf(weights, block, GetParam());
    if (shape.slots == std::string("3"))
      check(text, "insert-quantize", "fuse-combine", 1, kTolerance);
    // Gates and ups, router and shared gate: three launches; two products with SiLU, the sigmoid, two sums; the
    // combination.
    check(text, "insert-quantize", "merge-linears,fuse-gated-mul,fuse-combine,fuse-residual-add", 9, kTolerance);
  }
}

// The same block beside a shared expert of the experts' own width: one slot more, with a share of its own.
TEST_P(ExpertFusion, SharedExpert) {
  std::string symbols = R"(
  llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @router from "router" : tensor<9x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @shared from "shared" : tensor<1x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @e.gate from "e.gate" : tensor<9xINNERx48xf32> SCHEME
  llm.weight @e.up from "e.up" : tensor<9xINNERx48xf32> SCHEME
  llm.weight @e.down from "e.down" : tensor<9x48xINNERxf32> SCHEME
  llm.weight @gate from "gate" : tensor<INNERx48xf32> SCHEME
  llm.weight @up from "up" : tensor<INNERx48xf32> SCHEME
  llm.weight @down from "down" : tensor<48xINNERxf32> SCHEME
)",
              body = R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %l = llm.linear %n, @router : (tensor<?x48xbf16>) -> tensor<?x9xf32>
      %w, %i = llm.route %l top SLOTS normalize : tensor<?x9xf32> -> tensor<?xSLOTSxf32>, tensor<?xSLOTSxi32>
      %eg = llm.linear %n experts %i, @e.gate : (tensor<?x48xbf16>, tensor<?xSLOTSxi32>) -> tensor<?xSLOTSxINNERxf32>
      %eu = llm.linear %n experts %i, @e.up : (tensor<?x48xbf16>, tensor<?xSLOTSxi32>) -> tensor<?xSLOTSxINNERxf32>
      %eh = llm.gated_mul silu %eg, %eu : tensor<?xSLOTSxINNERxf32>, tensor<?xSLOTSxINNERxf32> -> tensor<?xSLOTSxINNERxbf16>
      %ed = llm.linear %eh experts %i, @e.down : (tensor<?xSLOTSxINNERxbf16>, tensor<?xSLOTSxi32>) -> tensor<?xSLOTSx48xf32>
      %y = llm.combine %ed, %w : tensor<?xSLOTSx48xf32>, tensor<?xSLOTSxf32> -> tensor<?x48xf32>
      %g = llm.linear %n, @gate : (tensor<?x48xbf16>) -> tensor<?xINNERxf32>
      %u = llm.linear %n, @up : (tensor<?x48xbf16>) -> tensor<?xINNERxf32>
      %h = llm.gated_mul silu %g, %u : tensor<?xINNERxf32>, tensor<?xINNERxf32> -> tensor<?xINNERxbf16>
      %d = llm.linear %h, @down : (tensor<?xINNERxbf16>) -> tensor<?x48xf32>
      %s = llm.linear %n, @shared : (tensor<?x48xbf16>) -> tensor<?x1xf32>
      %z = llm.gated_mul sigmoid %s, %d : tensor<?x1xf32>, tensor<?x48xf32> -> tensor<?x48xf32>
      %a = llm.add %y, %z : tensor<?x48xf32>
      %b = llm.add %x, %a : tensor<?x48xf32>
      %m = llm.rms_norm %b, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %logits = llm.linear %m, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)";
  struct Shape {
    const char *slots, *inner;
  };
  // The second: nine slots, of which a workgroup has waves for three at a time.
  for (const Shape &shape : {Shape{"3", "41"}, Shape{"8", "600"}}) {
    SCOPED_TRACE(shape.inner);
    std::string weights = symbols, block = body;
    for (std::string *text : {&weights, &block}) {
      replaceAll(*text, "SLOTS", shape.slots);
      replaceAll(*text, "INNER", shape.inner);
    }
    // Five launches of sixteen are left: norm, router with shared gate, route, gates and ups, downs with all sums. And
    // none of three that quantise: beside the norm, the experts' rows, the shared expert's row.
    const bool quantizes = std::string(GetParam()).find("activation") != std::string::npos;
    check(moduleOf(weights, block, GetParam()), "insert-quantize",
          "fuse-shared-expert,merge-linears,fuse-gated-mul,fuse-combine,fuse-residual-add,fuse-norm-quantize,fuse-"
          "quantize",
          quantizes ? 14 : 11, kTolerance);
  }
}

// A Gated DeltaNet step: the convolution with the projections, norm and gate with the rule. Heads whose rows one, two
// and four waves share, of one slice of 32 columns and of several, the last of which is not full.
TEST(FusionOfDelta, Step) {
  struct Shape {
    int keyHeads, valueHeads, keyDim, valueDim, taps;
  };
  for (const Shape &shape : {Shape{1, 3, 16, 16, 4}, Shape{2, 4, 32, 48, 2}, Shape{1, 2, 144, 32, 4},
                             Shape{1, 2, 128, 128, 4}, Shape{1, 1, 256, 112, 8}}) {
    SCOPED_TRACE(shape.keyDim);
    const int values = shape.valueHeads * shape.valueDim, channels = 2 * shape.keyHeads * shape.keyDim + values;
    std::string decay;
    for (int head = 0; head < shape.valueHeads; ++head)
      decay += (head ? ", " : "") + std::to_string(-0.5 / (head + 1));
    std::string symbols = R"(
  llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @qkv from "qkv" : tensor<CHANNELSx48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @z from "z" : tensor<VALUESx48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @b from "b" : tensor<HEADSx48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @a from "a" : tensor<HEADSx48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @conv from "conv" : tensor<CHANNELSxTAPSxf32> VECTOR
  llm.weight @decay : tensor<HEADSxf32> value dense<[DECAY]> : tensor<HEADSxf32>
  llm.weight @dt from "dt" : tensor<HEADSxf32> VECTOR
  llm.weight @h.norm from "h.norm" : tensor<DIMxf32> VECTOR
  llm.weight @o from "o" : tensor<48xVALUESxf32> {scheme = #llm.scheme<bf16>}
  llm.state @c conv : tensor<BEFORExCHANNELSxf32>
  llm.state @s recurrent : tensor<HEADSxKEYxDIMxf32>
)",
                body = R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %p = llm.linear %n, @qkv : (tensor<?x48xbf16>) -> tensor<?xCHANNELSxf32>
      %z = llm.linear %n, @z : (tensor<?x48xbf16>) -> tensor<?xVALUESxf32>
      %b = llm.linear %n, @b : (tensor<?x48xbf16>) -> tensor<?xHEADSxf32>
      %a = llm.linear %n, @a : (tensor<?x48xbf16>) -> tensor<?xHEADSxf32>
      %c = llm.short_conv %p, @conv, @c : tensor<?xCHANNELSxf32>
      %y = llm.delta_rule %c, %b, %a, @decay, @dt, @s key_heads SHARED value_heads HEADS key_dim KEY value_dim DIM
          : tensor<?xCHANNELSxf32>, tensor<?xHEADSxf32>, tensor<?xHEADSxf32> -> tensor<?xVALUESxf32>
      %m = llm.rms_norm %y, @h.norm eps 1.0e-6 heads HEADS : tensor<?xVALUESxf32> -> tensor<?xVALUESxf32>
      %g = llm.gated_mul silu %z, %m : tensor<?xVALUESxf32>, tensor<?xVALUESxf32> -> tensor<?xVALUESxbf16>
      %o = llm.linear %g, @o : (tensor<?xVALUESxbf16>) -> tensor<?x48xbf16>
      %logits = llm.linear %o, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)";
    for (std::string *text : {&symbols, &body}) {
      for (auto [name, value] : {std::pair{"CHANNELS", channels},
                                 {"VALUES", values},
                                 {"HEADS", shape.valueHeads},
                                 {"TAPS", shape.taps},
                                 {"BEFORE", shape.taps - 1},
                                 {"KEY", shape.keyDim},
                                 {"DIM", shape.valueDim},
                                 {"SHARED", shape.keyHeads}})
        replaceAll(*text, name, std::to_string(value));
      replaceAll(*text, "DECAY", decay);
    }
    // The four projections and the convolution are one launch, the rule, its norm and the gate the other.
    check(moduleOf(symbols, body, "bf16"), "insert-quantize", "fuse-delta-norm,merge-linears,fuse-short-conv", 6,
          kTolerance);
  }
}

// Norms of heads, rotations (of the first ROTARY elements of each head) and the append, beside attention: three heads
// of queries over one of keys, in heads that are no multiple of 64, with a bias before the norm of the keys. The last
// two caches hold codes.
TEST_P(Fusion, Heads) {
  struct Shape {
    const char *dim, *queries, *half, *rotary, *element;
  };
  for (const Shape &shape :
       {Shape{"32", "96", "16", "", "bf16"}, Shape{"48", "144", "16", "rotary_dim 32", "bf16"},
        Shape{"128", "384", "32", "rotary_dim 64", "bf16"}, Shape{"48", "144", "16", "rotary_dim 32", "i8"},
        Shape{"128", "384", "32", "rotary_dim 64", target().fp8Matrix ? "f8E4M3FN" : "i8"}}) {
    SCOPED_TRACE(std::string(shape.dim) + " " + shape.element);
    std::string symbols = R"(
  llm.weight @head from "head" : tensor<101x48xf32> {scheme = #llm.scheme<bf16>}
  llm.weight @q from "q" : tensor<QUERIESx48xf32> SCHEME
  llm.weight @k from "k" : tensor<DIMx48xf32> SCHEME
  llm.weight @k.bias from "k.bias" : tensor<DIMxf32> VECTOR
  llm.weight @v from "v" : tensor<DIMx48xf32> SCHEME
  llm.weight @o from "o" : tensor<48xQUERIESxf32> {scheme = #llm.scheme<bf16>}
  llm.weight @q.norm from "q.norm" : tensor<DIMxf32> VECTOR
  llm.weight @k.norm from "k.norm" : tensor<DIMxf32> VECTOR
  llm.weight @freq from "freq" : tensor<HALFxf32> VECTOR
  llm.state @c.k key : tensor<?x1xDIMxELEMENT>
  llm.state @c.v value : tensor<?x1xDIMxELEMENT>
)",
                body = R"(
      %x = llm.embed %tokens, @embed : (tensor<?xi32>) -> tensor<?x48xf32>
      %n = llm.rms_norm %x, @norm eps 1.0e-5 : tensor<?x48xf32> -> tensor<?x48xbf16>
      %q = llm.linear %n, @q : (tensor<?x48xbf16>) -> tensor<?xQUERIESxf32>
      %k = llm.linear %n, @k bias @k.bias : (tensor<?x48xbf16>) -> tensor<?xDIMxf32>
      %v = llm.linear %n, @v : (tensor<?x48xbf16>) -> tensor<?xDIMxbf16>
      %qn = llm.rms_norm %q, @q.norm eps 1.0e-6 heads 3 : tensor<?xQUERIESxf32> -> tensor<?xQUERIESxf32>
      %kn = llm.rms_norm %k, @k.norm eps 1.0e-6 heads 1 : tensor<?xDIMxf32> -> tensor<?xDIMxf32>
      %qr = llm.rope %qn, @freq heads 3 head_dim DIM ROTARY : tensor<?xQUERIESxf32> -> tensor<?xQUERIESxbf16>
      %kr = llm.rope %kn, @freq heads 1 head_dim DIM ROTARY : tensor<?xDIMxf32> -> tensor<?xDIMxbf16>
      llm.append %kr, %v, @c.k, @c.v kv_heads 1 head_dim DIM : tensor<?xDIMxbf16>, tensor<?xDIMxbf16>
      %a = llm.attention %qr, @c.k, @c.v heads 3 kv_heads 1 head_dim DIM scale 0.15 : tensor<?xQUERIESxbf16>
      %o = llm.linear %a, @o : (tensor<?xQUERIESxbf16>) -> tensor<?x48xbf16>
      %logits = llm.linear %o, @head : (tensor<?x48xbf16>) -> tensor<?x101xf32>)";
    for (std::string *text : {&symbols, &body}) {
      replaceAll(*text, "QUERIES", shape.queries);
      replaceAll(*text, "DIM", shape.dim);
      replaceAll(*text, "HALF", shape.half);
      replaceAll(*text, "ROTARY", shape.rotary);
      replaceAll(*text, "ELEMENT", shape.element);
    }
    check(moduleOf(symbols, body, GetParam()), "insert-quantize,merge-linears,fuse-rope-append", "fuse-heads", 4,
          kTolerance);
  }
}

} // namespace
