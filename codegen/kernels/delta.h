// What the forms of the delta rule share: the gates of a token and where its operands lie.
#pragma once

#include "codegen/kernels/linear.h"

namespace ingot {

/// The eps of the norms of queries and keys, added to the sum of squares.
constexpr double kDeltaNormEps = 1e-6;

/// 1 / sqrt(squares + eps), the factor that norms a query or key.
Val deltaNorm(KernelBuilder &k, Val squares);

/// The logarithm of what a token keeps of the state, to base 2: decay * softplus(a + bias) * log2(e), never above 0
/// where decay is not. Within 2^-17 of its value, relatively, also where it is tiny: over many tokens its error adds
/// up.
Val deltaLogKept(KernelBuilder &k, Val decay, Val a, Val bias);

/// 1 / (1 + exp(-b)).
Val deltaBeta(KernelBuilder &k, Val b);

/// `rule`, as its kernels see it.
DeltaConfig deltaConfig(llm::DeltaRuleOp rule);

/// Whether the rule is computed token by token, and not in chunks: these win where a chunk is not nearly empty, and so
/// where the number of tokens is not known to be small.
bool takesTokenByToken(llm::DeltaRuleOp rule);

/// The arguments of `emitDeltaRecurrent`.
std::vector<LinearArgument> deltaArguments(const DeltaConfig &c);

/// Why no workgroup can have whole heads of this shape in registers, which an epilogue needs; empty if one can.
std::string whyNoWholeHead(const DeltaConfig &c);

/// Columns of a row of `qkv`.
struct DeltaColumns {
  explicit DeltaColumns(const DeltaConfig &c)
      : keys(static_cast<int64_t>(c.keyHeads * c.keyDim)), values(2 * keys),
        width(values + static_cast<int64_t>(c.valueHeads * c.valueDim)) {}
  int64_t keys, values, width; // the first of keys and of values (queries begin the row), and one past the last
};

} // namespace ingot
