// A linear with random weights of any scheme, laid out from the description in docs/design/layouts.md, and the same
// numbers in double; and how far a kernel's result may be from theirs.
#pragma once

#include <cmath>
#include <cstdio>
#include <map>
#include <optional>

#include "codegen/kernels/linear.h"
#include "tests/numerics/harness.h"

namespace ingot::numerics {

inline llm::SchemeAttr scheme(llm::Storage storage, int64_t group = 0, bool zeros = false,
                              std::optional<llm::ScaleType> scales = {}, bool bands = false,
                              llm::Activation activation = llm::Activation::None) {
  static auto *context = [] {
    auto *made = new mlir::MLIRContext(mlir::MLIRContext::Threading::DISABLED);
    made->loadDialect<llm::LlmDialect>();
    return made;
  }();
  return llm::SchemeAttr::get(context, storage, group, activation,
                              scales.value_or(llm::SchemeAttr::usualScales(storage, group)), zeros, bands);
}

// E4M3: 1 sign, 4 exponent, 3 mantissa bits, bias 7, subnormals (OCP 8-bit floating point specification, 5).
inline double e4m3(uint8_t byte) {
  int exponent = byte >> 3 & 15, mantissa = byte & 7;
  double value = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return byte & 0x80 ? -value : value;
}

// Normal numbers only: the scales of the tests.
inline uint16_t toHalf(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, 4);
  return static_cast<uint16_t>((bits >> 16 & 0x8000) | (((bits >> 23 & 255) - 112) << 10) | (bits >> 13 & 0x3ff));
}

// A linear with one weight and no epilogue.
struct Shape {
  uint64_t rows, columns;
  llm::SchemeAttr scheme;
  bool bias = false;
  LinearOutput output = LinearOutput::Bf16;

  [[nodiscard]] LinearConfig config() const {
    return {.columns = columns,
            .scheme = scheme,
            .parts = {{.rows = rows, .bias = bias}},
            .results = {{.columns = rows, .output = output}}};
  }
};

// One layer with random weights: the packed form, and the same numbers as the reference reads them.
struct Layer {
  Shape c;
  std::vector<uint8_t> packed;
  std::vector<float> bias;
  std::vector<double> weight; // [N][K], dequantised

  explicit Layer(const Shape &shape, uint32_t seed = 0)
      : c(shape), packed(linearBytes(c.scheme, c.rows, c.columns), 0), weight(c.rows * c.columns) {
    std::mt19937 random(static_cast<uint32_t>(c.rows) + seed);
    for (uint64_t n = 0; n < c.rows; ++n)
      for (uint64_t k = 0; k < c.columns; ++k)
        weight[n * c.columns + k] = place(n, k, random());
    if (c.scheme.scaled())
      scale(random);
    if (c.bias) {
      bias = normalFloat(paddedRow(c.rows), 24);
      std::fill(bias.begin() + static_cast<ptrdiff_t>(c.rows), bias.end(), 0.0F);
    }
  }

private:
  // Puts a value of these random bits at row n and column k, and gives its number.
  double place(uint64_t n, uint64_t k, uint32_t bits) {
    uint64_t byteOfRow = k * c.scheme.bits() / 8, steps = paddedRow(c.columns) * c.scheme.bits() / 256;
    uint64_t at = ((n / 16 * steps + byteOfRow / 32) * 2 + byteOfRow % 32 / 16) * 256 + n % 16 * 16;
    switch (c.scheme.getStorage()) {
    case llm::Storage::BF16: {
      // From -2 to 2, of any sign and the exponents 0 to -7.
      auto value = static_cast<Bf16>((bits & 0x80ff) | (127 - (bits >> 16) % 8) << 7);
      std::memcpy(&packed[at + byteOfRow % 16], &value, 2);
      return toFloat(value);
    }
    case llm::Storage::Int8:
      packed[at + k % 16] = static_cast<uint8_t>(bits);
      return static_cast<int8_t>(bits);
    case llm::Storage::Fp8:
      if ((bits & 0x7f) == 0x7f) // a NaN, which the packer refuses
        --bits;
      packed[at + k % 16] = static_cast<uint8_t>(bits);
      return e4m3(static_cast<uint8_t>(bits));
    case llm::Storage::Int4: {
      // Nibble i of a dword: column 2i, or 2(i - 4) + 1.
      uint64_t inDword = k % 8, nibble = inDword / 2 + inDword % 2 * 4;
      packed[at + k % 32 / 8 * 4 + nibble / 2] |= static_cast<uint8_t>((bits & 15) << 4 * (nibble % 2));
      return static_cast<double>(bits & 15) - 8;
    }
    case llm::Storage::F32:
      break;
    }
    return 0;
  }

  void scale(std::mt19937 &random) {
    auto size = c.scheme.getScales() == llm::ScaleType::F32 ? 4UL : 2UL;
    uint64_t group = c.scheme.getGroup() ? static_cast<uint64_t>(c.scheme.getGroup()) : paddedRow(c.columns);
    uint64_t groups = (paddedRow(c.columns) + group - 1) / group;
    uint64_t zerosAt = (c.scheme.getBands() ? 1 : 16) * size, record = zerosAt + (c.scheme.getZeros() ? 16 : 0);
    uint64_t begin = packed.size() - paddedRow(c.rows) / 16 * groups * record;
    for (uint64_t n = 0; n < c.rows; ++n)
      for (uint64_t g = 0; g * group < c.columns; ++g) {
        uint8_t *at = &packed[begin + (n / 16 * groups + g) * record];
        // Either sign, and eleven binary digits, so that each type holds it: bf16 with three of them 0.
        unsigned digits = 1024 + random() % 1024;
        if (c.scheme.getScales() == llm::ScaleType::BF16)
          digits &= ~7U;
        float value = (random() % 2 ? -1 : 1) * static_cast<float>(digits) * 0x1p-20F;
        Bf16 half = c.scheme.getScales() == llm::ScaleType::F16 ? toHalf(value) : toBf16(value);
        uint8_t *own = at + (c.scheme.getBands() ? 0 : n % 16 * size);
        if (c.scheme.getBands() && n % 16 != 0)
          std::memcpy(&value, own, 4);
        else
          std::memcpy(own, size == 4 ? static_cast<const void *>(&value) : &half, size);
        double moved = 0;
        if (c.scheme.getZeros()) {
          bool nibbles = c.scheme.getStorage() == llm::Storage::Int4;
          at[zerosAt + n % 16] = static_cast<uint8_t>(nibbles ? random() % 16 : random() % 256);
          moved = at[zerosAt + n % 16] - (nibbles ? 8.0 : 128.0);
        }
        for (uint64_t k = g * group; k < std::min(c.columns, (g + 1) * group); ++k)
          weight[n * c.columns + k] = (weight[n * c.columns + k] - moved) * value;
      }
  }
};

// Of the terms' magnitude. fp32 sums in any order: 2^-24 of it an addition, in random directions, so 2^-20 is ample to
// a thousand terms. The decode kernel adds codes that are moved up by 128 (int8, all of a byte) or 136 (int4, all of a
// nibble, four times smaller than that on average) times x first: two and five bits more. Integer dots are exact and
// round three times. Then one rounding to bf16.
inline double boundOf(llm::SchemeAttr scheme) {
  return integerDots(scheme)                         ? 0x1p-22
         : !scheme.scaled()                          ? 0x1p-20
         : scheme.getStorage() == llm::Storage::Int4 ? 0x1p-15
                                                     : 0x1p-18;
}

// The largest error met where results are f32, in parts of the terms' magnitude, and what is allowed; printed at the
// end.
struct Worst {
  double decode = 0, prefill = 0, bound = 0;
};
inline std::map<std::string, Worst> worst;

class PrintWorst : public testing::Environment {
public:
  void TearDown() override {
    for (const auto &[scheme, w] : worst)
      std::printf("%s, %-16s largest error of the terms' magnitude: decode 2^%.1f, prefill 2^%.1f, allowed 2^%.0f\n",
                  target().name, scheme.c_str(), std::log2(w.decode), std::log2(w.prefill), std::log2(w.bound));
  }
};

inline void noteWorst(llm::SchemeAttr scheme, bool decode, double error, double magnitude) {
  if (magnitude <= 0)
    return;
  Worst &met = worst[scheme.spelled()];
  double &phase = decode ? met.decode : met.prefill;
  phase = std::max(phase, error / magnitude);
  met.bound = boundOf(scheme);
}

} // namespace ingot::numerics
