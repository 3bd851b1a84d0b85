// llm.delta_rule, token by token: a lane has a column of a head's matrix, in registers from the first token to the
// last, and every column goes its own way. Of a token, S^T k and S^T q come from one pass over the old S, since
// S' = e S + k d^T makes S'^T q = e S^T q + (k . q) d.
//
// Several sequences have a token and a matrix each: a plane of the grid.
//
// A workgroup has 32 columns of a head, or where an epilogue follows all of them: its columns meet in LDS, and 16 lanes
// finish the head as the kernel of `llm.heads` does.
#include "codegen/kernels/delta.h"

#include <numbers>

#include "codegen/kernels/elementwise.h"
#include "codegen/kernels/epilogue.h"
#include "codegen/kernels/heads.h"
#include "dialects/Sequences.h"

namespace ingot {

// Rows of S that a lane holds; with more, waves share a column's rows.
static constexpr uint64_t kMostRows = 64;
static constexpr unsigned kSums = 4; // partial sums, so that additions need not wait for each other

Val deltaNorm(KernelBuilder &k, Val squares) { return k.constantF(1) / k.sqrt(squares + k.constantF(kDeltaNormEps)); }

Val deltaLogKept(KernelBuilder &k, Val decay, Val a, Val bias) {
  constexpr double kLog2E = std::numbers::log2e;
  // softplus(x) = max(x, 0) + log(1 + y) with y = exp(-|x|) in (0, 1]. Adding a small y to 1 would lose it, so there a
  // series takes over: its first missing term is y^5 / 5, below 2^-26 of y.
  Val x = a + bias, y = k.exp2(k.absF(x) * k.constantF(-kLog2E));
  Val series = k.constantF(-0.25);
  for (double next : {1.0 / 3, -0.5, 1.0})
    series = k.fma(series, y, k.constantF(next));
  Val logarithm = k.select(y < k.constantF(1.0 / 64), y * series, k.log2(y + 1) * k.constantF(std::numbers::ln2));
  return decay * (k.maxF(x, k.constantF(0)) + logarithm) * k.constantF(kLog2E);
}

Val deltaBeta(KernelBuilder &k, Val b) { return applyElementwise(k, Elementwise::SigmoidMul, b, k.constantF(1)); }

// Waves that share the rows of a column: 1, 2 or 4, which all divide key_dim.
static unsigned wavesOfColumn(const DeltaConfig &c) {
  unsigned waves = 1;
  while (c.keyDim / waves > kMostRows)
    waves *= 2;
  return waves;
}

static unsigned slicesOfHead(const DeltaConfig &c, unsigned lanes) {
  return static_cast<unsigned>((c.valueDim + lanes - 1) / lanes);
}

static int64_t tokensOf(llm::DeltaRuleOp rule) {
  return llvm::cast<mlir::RankedTensorType>(rule.getQkv().getType()).getDimSize(0);
}

DeltaConfig deltaConfig(llm::DeltaRuleOp rule) {
  auto type = llvm::cast<mlir::RankedTensorType>(rule.getResult().getType());
  return {.keyHeads = static_cast<uint64_t>(rule.getKeyHeads()),
          .valueHeads = static_cast<uint64_t>(rule.getValueHeads()),
          .keyDim = static_cast<uint64_t>(rule.getKeyDim()),
          .valueDim = static_cast<uint64_t>(rule.getValueDim()),
          .peek = rule.getPeek() ? static_cast<uint64_t>(tokensOf(rule)) : 0,
          .epilogue = rule.hasEpilogue() ? &rule.getEpilogue() : nullptr,
          .result = {.columns = static_cast<uint64_t>(type.getDimSize(1)),
                     .output = type.getElementType().isBF16() ? LinearOutput::Bf16 : LinearOutput::F32},
          .sequences = llm::sequencesOf(rule) > 0};
}

bool takesTokenByToken(llm::DeltaRuleOp rule) {
  return !mlir::ShapedType::isDynamic(tokensOf(rule)) || !deltaInChunks(deltaConfig(rule));
}

std::string whyNoWholeHead(const DeltaConfig &c) {
  constexpr unsigned kMostWaves = 16, kLanes = 32; // of more, no wave has the registers for 64 rows
  if (wavesOfColumn(c) * slicesOfHead(c, kLanes) > kMostWaves)
    return "a head is wider than a workgroup has registers for";
  return "";
}

std::vector<LinearArgument> deltaArguments(const DeltaConfig &c) {
  using Kind = LinearArgument::Kind;
  std::vector<LinearArgument> list{{.kind = Kind::Step},
                                   {.kind = Kind::X, .index = 0},      // qkv
                                   {.kind = Kind::X, .index = 1},      // b
                                   {.kind = Kind::X, .index = 2},      // a
                                   {.kind = Kind::Weight, .index = 0}, // decay
                                   {.kind = Kind::Weight, .index = 1}, // dt_bias
                                   {.kind = Kind::State}};
  if (c.epilogue)
    llvm::append_range(list, regionArguments(*c.epilogue));
  list.push_back({.kind = Kind::Result});
  return list;
}

LaunchShape emitDeltaRecurrent(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                               const DeltaConfig &c) {
  const unsigned waves = wavesOfColumn(c);
  const auto rows = static_cast<unsigned>(c.keyDim / waves), lanes = target.waveSize;
  const unsigned held = (rows + lanes - 1) / lanes; // elements of q and of k a lane loads
  const auto keyDim = static_cast<int64_t>(c.keyDim), valueDim = static_cast<int64_t>(c.valueDim);
  const unsigned slices = slicesOfHead(c, lanes);
  const unsigned together = c.epilogue ? slices : 1; // slices of a workgroup
  const DeltaColumns columns(c);
  const auto inStride = static_cast<int64_t>(paddedRow(static_cast<uint64_t>(columns.width))) * 4,
             gateStride = static_cast<int64_t>(paddedRow(c.valueHeads)) * 4,
             width = static_cast<int64_t>(c.valueHeads * c.valueDim), stride = static_cast<int64_t>(paddedRow(width));

  const std::vector<LinearArgument> arguments = deltaArguments(c);
  std::vector<Access> access;
  access.reserve(arguments.size());
  for (const LinearArgument &argument : arguments)
    access.push_back(argument.access(c.sequences));
  KernelBuilder k(module, target, name, access, waves * together * lanes);
  const Sequences sequences(k, c.sequences);
  Epilogue epilogue(k, c.epilogue, {c.result}, arguments, /*width=*/1, k.constant(0));
  Val sequence = k.workgroupY(); // where there are several
  Val head = c.sequences ? k.workgroupZ() : k.workgroupY(),
      keyHead = head / static_cast<int64_t>(c.valueHeads / c.keyHeads);
  Val wave = k.wave(), slice = k.workgroupX();
  if (together > 1) {
    slice = wave / static_cast<int64_t>(waves);
    wave = wave % static_cast<int64_t>(waves);
  }
  Val column = slice * lanes + k.lane(), inside = column < valueDim;
  Val mine = k.minI(column, k.constant(valueDim - 1)); // lanes past the last column repeat it, and store nothing
  Val firstRow = wave * rows;
  Val decay = k.load(k.f32(), k.argument(4), head * 4), bias = k.load(k.f32(), k.argument(5), head * 4);
  Val matrix = k.advance(sequences.own(k.argument(6), sequence), k.zext(head, k.i64()) * (keyDim * valueDim * 4));
  auto place = [&](unsigned r) { return ((firstRow + r) * valueDim + mine) * 4; };
  // Waves exchange their parts of sums through one of two blocks in turn, so that one barrier a token is enough.
  Val exchange = waves > 1 ? k.lds(2 * waves * together * lanes * 8, "sums") : Val();
  Val norms = waves > 1 ? k.lds(2 * waves * together * 16, "norms") : Val();
  Val whole = c.epilogue ? k.lds(2 * static_cast<unsigned>(c.valueDim) * 4, "head") : Val();

  sequences.unlessPadding(sequence, [&] {
    std::vector<Val> s;
    s.reserve(rows);
    for (unsigned r = 0; r < rows; ++r)
      s.push_back(k.load(k.f32(), matrix, place(r)));

    Val firstToken = k.constant(0), end;
    if (c.sequences) {
      firstToken = sequence;
      end = sequence + 1;
    } else {
      end = c.peek ? k.constant(static_cast<int64_t>(c.peek)) : k.stepTokens(k.argument(0));
    }
    s = k.forLoop(firstToken, end, k.constant(1), s, [&](Val t, std::vector<Val> old) {
      Val row = k.advance(k.argument(1), k.zext(t, k.i64()) * inStride);
      Val gate = t * gateStride + head * 4;
      Val logKept = deltaLogKept(k, decay, k.load(k.f32(), k.argument(3), gate), bias);
      Val kept = k.exp2(logKept), beta = deltaBeta(k, k.load(k.f32(), k.argument(2), gate));
      Val v = k.load(k.f32(), row, (head * valueDim + mine + columns.values) * 4);
      // Rows l, l + 32, ... of this wave's, as lane l holds them.
      std::vector<Val> queries, keys;
      Val qq = k.constantF(0), kk = qq, qk = qq;
      for (unsigned i = 0; i < held; ++i) {
        Val index = k.lane() + i * lanes, at = keyHead * keyDim + firstRow + k.minI(index, k.constant(rows - 1));
        auto held = [&](Val where) {
          return k.select(index < static_cast<int64_t>(rows), k.load(k.f32(), row, where * 4), k.constantF(0));
        };
        queries.push_back(held(at));
        keys.push_back(held(at + columns.keys));
        qq = k.fma(queries[i], queries[i], qq);
        kk = k.fma(keys[i], keys[i], kk);
        qk = k.fma(queries[i], keys[i], qk);
      }
      for (Val *sum : {&qq, &kk, &qk})
        *sum = k.reduceWave(*sum, KernelBuilder::Combine::SumF);
      std::vector<Val> sk(kSums, k.constantF(0)), sq = sk;
      for (unsigned r = 0; r < rows; ++r) {
        sk[r % kSums] = k.fma(old[r], k.readLane(keys[r / lanes], r % lanes), sk[r % kSums]);
        sq[r % kSums] = k.fma(old[r], k.readLane(queries[r / lanes], r % lanes), sq[r % kSums]);
      }
      Val ofKey = (sk[0] + sk[1]) + (sk[2] + sk[3]), ofQuery = (sq[0] + sq[1]) + (sq[2] + sq[3]);
      if (waves > 1) {
        Val turn = t % 2 * static_cast<int64_t>(together);
        if (together > 1)
          turn = turn + slice;
        Val sums = turn * (waves * lanes * 8) + k.lane() * 8, figures = turn * (waves * 16);
        k.store(k.build({ofKey, ofQuery}), exchange, sums + wave * (lanes * 8));
        k.ifThen(k.lane() == 0, [&] { k.store(k.build({qq, kk, qk, k.constantF(0)}), norms, figures + wave * 16); });
        k.barrier();
        Val both = k.zero(k.vec(2, k.f32())), all = k.zero(k.vec(4, k.f32()));
        for (unsigned w = 0; w < waves; ++w) {
          both = both + k.load(k.vec(2, k.f32()), exchange, sums + w * (lanes * 8));
          all = all + k.load(k.vec(4, k.f32()), norms, figures + w * 16);
        }
        ofKey = k.element(both, 0);
        ofQuery = k.element(both, 1);
        qq = k.element(all, 0);
        kk = k.element(all, 1);
        qk = k.element(all, 2);
      }
      Val keyNorm = deltaNorm(k, kk),
          queryNorm = deltaNorm(k, qq) * k.constantF(1 / std::sqrt(static_cast<double>(c.keyDim)));
      Val correction = beta * (v - kept * (keyNorm * ofKey)) * keyNorm;
      Val y = queryNorm * k.fma(qk, correction, kept * ofQuery);
      const int64_t bytes = c.result.output == LinearOutput::Bf16 ? 2 : 4;
      Val out =
          k.advance(k.argument(static_cast<unsigned>(arguments.size()) - 1), k.zext(t, k.i64()) * (stride * bytes));
      if (c.epilogue) {
        // As above, one of two blocks in turn: who writes it again has passed the barrier of the token between.
        Val block = t % 2 * (valueDim * 4);
        k.ifThen((wave == 0) & inside, [&] { k.store(y, whole, block + column * 4); });
        k.barrier();
        k.ifThen(k.thread() < static_cast<int64_t>(kHeadLanes), [&] {
          std::vector<Site> sites;
          std::vector<std::vector<Val>> values(1);
          for (int64_t i = 0; i < valueDim; i += static_cast<int64_t>(kHeadLanes)) {
            sites.push_back({t, head * valueDim + k.lane() + i});
            values[0].push_back(k.load(k.f32(), whole, block + (k.lane() + i) * 4));
          }
          epilogue.finish(sites, values);
        });
      } else {
        k.ifThen((wave == 0) & inside, [&] { k.store(y, out, (head * valueDim + column) * 4); });
      }
      for (int64_t padding = width; padding < stride; padding += lanes)
        k.ifThen((head == 0) & (k.workgroupX() == 0) & (k.wave() == 0) & (k.lane() + padding < stride),
                 [&] { k.store(k.zero(bytes == 2 ? k.bf16() : k.f32()), out, (k.lane() + padding) * bytes); });
      for (unsigned r = 0; r < rows; ++r)
        old[r] = k.fma(k.readLane(keys[r / lanes], r % lanes), correction, kept * old[r]);
      return old;
    });

    if (!c.peek)
      k.ifThen(inside, [&] {
        for (unsigned r = 0; r < rows; ++r)
          k.store(s[r], matrix, place(r));
      });
  });
  k.finish();
  return {.kernel = name.str(),
          .x = slices / together,
          .y = c.sequences ? 1 : static_cast<unsigned>(c.valueHeads),
          .tokensPerWorkgroup = c.sequences ? 1U : 0U,
          .z = c.sequences ? static_cast<unsigned>(c.valueHeads) : 1,
          .workgroupSize = waves * together * lanes,
          .bound = c.epilogue ? "a head a workgroup, whose waves ask for all of its matrix at once"
                              : "32 columns of one head's matrix a workgroup"};
}

} // namespace ingot
