// A step of several sequences against steps of each alone: whole layers of every kind, in which each sequence must have
// the very bytes of the step that it would have taken by itself, in its Step, its tokens and output, its caches and
// states, its logits, and padding must leave every byte as it is.
#include "tests/numerics/layers.h"
#include "tests/numerics/program.h"

using namespace ingot;
using namespace ingot::numerics;

namespace {

constexpr const char *kApart = "insert-quantize";
constexpr const char *kFused =
    "insert-quantize,fuse-delta-norm,merge-linears,fuse-short-conv,fuse-gated-mul,fuse-rope-append,fuse-heads,"
    "fuse-combine,fuse-residual-add,fuse-norm-quantize,fuse-quantize,fuse-norm,ring-caches";

constexpr size_t kVocabulary = 101;

// Programs of one sequence and of `width`: by the best token, and to logits from which another chooses by samples.
std::string moduleOf(const std::string &scheme, const std::string &cache, unsigned width) {
  std::vector<LayersFunction> functions;
  std::string samplers;
  for (unsigned rows : {1U, width}) {
    const std::string count = std::to_string(rows), attributes = rows == 1 ? "" : "attributes {llm.sequences}",
                      logits = "tensor<" + count + "x101xf32>", tokens = "tensor<" + count + "xi32>";
    functions.push_back({.name = "argmax_" + count,
                         .rows = rows,
                         .signature = attributes,
                         .end = "%token = llm.argmax %logits : " + logits + " -> " + tokens +
                                "\nllm.advance %token : " + tokens + "\nreturn"});
    functions.push_back({.name = "decode_" + count,
                         .rows = rows,
                         .signature = "-> " + logits + " " + attributes,
                         .end = "return %logits : " + logits});
    samplers += "func.func @sample_" + count + "(%logits: " + logits + ") " + attributes +
                " {\n%token = llm.sample %logits : " + logits + " -> " + tokens + "\nllm.advance %token : " + tokens +
                "\nreturn\n}\n";
  }
  std::string text = layersOf(scheme, cache, {.chunk = 2, .context = 128}, functions);
  return text.insert(text.rfind('}'), samplers);
}

// Names of the buffers that differ.
std::vector<std::string> differences(Program &program, const Program::Sequence &a, const Program::Sequence &b) {
  std::vector<std::string> names;
  const auto other = program.contents(b);
  for (const auto &[name, bytes] : program.contents(a))
    if (bytes != other.at(name))
      names.push_back(name);
  return names;
}

// A mask that allows what no other sequence's does.
std::vector<uint32_t> maskOf(size_t sequence) {
  std::vector<uint32_t> mask(maskWords(kVocabulary));
  for (size_t token = sequence; token < kVocabulary; token += 5)
    mask[token / 32] |= 1U << token % 32;
  return mask;
}
bool isMasked(size_t sequence) { return sequence % 2 == 1; }

// Sequences at positions of their own: at the beginning, across a block of the cache, in a wrapped ring, past the
// window. Sequences 1 and 3 have a mask; the latter chooses greedily.
std::vector<Program::Sequence> begin(Program &program, size_t count) {
  constexpr int32_t kPositions[] = {14, 0, 33, 5, 1};
  std::vector<Program::Sequence> sequences;
  for (size_t i = 0; i < count; ++i) {
    const Step step{.tokens = 1,
                    .capacity = 128,
                    .seed = {static_cast<uint32_t>(i), 7},
                    .temperature = i == 3 ? 0 : 0.7F + 0.3F * static_cast<float>(i),
                    .top_k = i == 1 ? 20 : 0,
                    .top_p = i == 2 ? 0.9F : 1,
                    .masked = isMasked(i)};
    sequences.push_back(program.begin(step, static_cast<int32_t>(11 + 17 * i)));
    sequences.back().buffers.at("mask")->write(maskOf(i).data(), 4 * maskWords(kVocabulary));
    for (int32_t position = 0; position < kPositions[i]; ++position)
      program.run("argmax_1", sequences.back());
  }
  return sequences;
}

// `count` sequences take steps of `width`.
void check(const std::string &scheme, const std::string &cache, unsigned width, size_t count,
           const std::string &passes) {
  SCOPED_TRACE(std::to_string(count) + " sequences of " + std::to_string(width) + ", cache of " + cache + ", " +
               passes);
  Program program(moduleOf(scheme, cache, width), passes);
  std::vector<Program::Sequence> together = begin(program, count), alone;
  for (const Program::Sequence &sequence : together)
    alone.push_back(program.copyOf(sequence));
  const std::string rows = std::to_string(width);
  for (bool samples : {true, false, true, false}) {
    std::vector<float> logits;
    if (samples) {
      program.together("decode_" + rows, width, together);
      logits = program.floats("batch_logits");
      program.together("sample_" + rows, width, together);
    } else {
      program.together("argmax_" + rows, width, together);
    }
    for (size_t i = 0; i < count; ++i) {
      if (samples) {
        program.run("decode_1", alone[i]);
        const auto row = logits.begin() + static_cast<ptrdiff_t>(i * logits.size() / width);
        EXPECT_EQ(std::vector<float>(row, row + kVocabulary), program.floats("logits")) << "of sequence " << i;
        program.run("sample_1", alone[i]);
      } else {
        program.run("argmax_1", alone[i]);
      }
      ASSERT_EQ(differences(program, together[i], alone[i]), std::vector<std::string>()) << "of sequence " << i;
      const auto token = static_cast<size_t>(alone[i].buffers.at("tokens")->read<int32_t>()[0]);
      if (isMasked(i) && samples) {
        EXPECT_EQ(token % 5, i) << "a token that the mask of sequence " << i << " leaves out";
      }
    }
  }
}

TEST(Batch, OfTwo) { check("bf16", "bf16", 2, 2, kApart); }

TEST(Batch, OfFour) { check("int8, activation = int8_per_token", "bf16", 4, 3, kFused); }

TEST(Batch, OfEight) { check("int4, group = 32, zeros", "bf16", 8, 5, kFused); }

TEST(Batch, OfCachesOfCodes) {
  check("bf16", "i8", 2, 1, kApart);
  check("bf16", target().fp8Matrix ? "f8E4M3FN" : "i8", 4, 3, kFused);
}

// Each table counts: a row that finds another sequence's buffer in one of them leaves other bytes.
TEST(Batch, LeavesOtherBytesWithAnothersBuffer) {
  Program program(moduleOf("bf16", "bf16", 2), kFused);
  std::vector<Program::Sequence> right = begin(program, 2);
  for (const auto &[name, buffer] : right[0].buffers) {
    std::vector<Program::Sequence> good, bad;
    for (const Program::Sequence &sequence : right) {
      good.push_back(program.copyOf(sequence));
      bad.push_back(program.copyOf(sequence));
    }
    for (const char *each : {"decode_2", "sample_2"})
      program.together(each, 2, good);
    for (const char *each : {"decode_2", "sample_2"})
      program.together(each, 2, bad, name);
    EXPECT_FALSE(differences(program, good[1], bad[1]).empty()) << "with another's " << name;
  }
}

} // namespace
