// A few tokens side by side against one after the other: whole layers of every kind, in which each row must have the
// bits that a step of one token gives it. Drafting rests on that: what a step accepts is what single steps would have
// chosen.
#include "tests/numerics/layers.h"
#include "tests/numerics/program.h"

#include <algorithm>
#include <cctype>
#include <cmath>

using namespace ingot;
using namespace ingot::numerics;

namespace {

constexpr int kVocabulary = 101;

// @decode takes one token, @logits so many `tokens`.
std::string moduleOf(const std::string &scheme, const std::string &cache, unsigned tokens) {
  const std::string type = "tensor<?x101xf32>", end = "return %logits : " + type;
  return layersOf(scheme, cache, {.chunk = 64, .context = 64},
                  {{.name = "decode", .rows = 1, .signature = "-> " + type, .end = end},
                   {.name = "logits", .rows = tokens, .signature = "-> " + type, .end = end}});
}

std::string nameOf(const testing::TestParamInfo<const char *> &info) {
  std::string name = info.param;
  std::erase_if(name, [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); });
  return name;
}

class Rows : public testing::TestWithParam<const char *> {};
INSTANTIATE_TEST_SUITE_P(Schemes, Rows,
                         testing::Values("bf16", "int8, activation = int8_per_token", "int8", "int8, group = 32",
                                         "int4, group = 128", "int4, group = 32, zeros", "fp8"),
                         nameOf);

constexpr const char *kApart = "insert-quantize";
constexpr const char *kFused =
    "insert-quantize,merge-linears,fuse-gated-mul,fuse-rope-append,fuse-heads,fuse-short-conv,"
    "fuse-delta-norm,fuse-combine,fuse-residual-add,fuse-norm-quantize,fuse-quantize,fuse-norm";

// So many tokens at once give the bits of as many single steps.
void check(const std::string &scheme, const std::string &cache, unsigned together, const std::string &passes) {
  SCOPED_TRACE(std::to_string(together) + " tokens, cache of " + cache + ", " + passes);
  // Past the window and a block of the cache.
  std::vector<int32_t> tokens;
  for (unsigned i = 0; i < (24 + together - 1) / together * together; ++i)
    tokens.push_back(static_cast<int32_t>((7 * i * i + 3) % kVocabulary));
  Program program(moduleOf(scheme, cache, together), passes);
  std::vector<float> wanted = program.steps(tokens), got = program.logits(tokens, together);
  ASSERT_EQ(wanted.size(), got.size());
  EXPECT_TRUE(std::ranges::all_of(wanted, [](float y) { return std::isfinite(y); }));
  size_t different = 0;
  for (size_t i = 0; i < wanted.size(); ++i)
    different += std::memcmp(&wanted[i], &got[i], 4) != 0;
  EXPECT_EQ(different, 0U) << "of " << wanted.size() << " logits, " << relativeError(got, wanted) << " apart";
}

TEST_P(Rows, HaveTheBitsOfSingleSteps) {
  check(GetParam(), "bf16", 3, kApart);
  check(GetParam(), "bf16", 2, kFused);
  check(GetParam(), "bf16", 5, kFused);
}

TEST(RowsOfCodes, HaveTheBitsOfSingleSteps) {
  check("bf16", "i8", 3, kApart);
  check("bf16", "i8", 5, kFused);
  if (target().fp8Matrix)
    check("bf16", "f8E4M3FN", 4, kFused);
}

} // namespace
