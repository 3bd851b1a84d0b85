// llm.delta_rule in chunks of 64 tokens on the matrix instructions. With K, Q, V the rows of a chunk, G_i the sum of
// the logarithms of decay up to row i, D_ij = e^(G_i - G_j) for j <= i, and S what the chunk begins with,
//
//   T  = (I + A)^-1     A = beta_i (k_i . k_j) D_ij below the diagonal
//   Vn = T (beta (V - e^G (K S)))
//   O  = e^G (Q S) + P Vn     P = (q_i . k_j) D_ij on and below the diagonal
//   S' = e^G_64 S + K^T (e^(G_64 - G) Vn)
//
// T and P do not depend on S: a first kernel computes them for all chunks side by side. The second walks the chunks,
// and a wave has 16 columns of S, which meet no other column, in registers throughout. Every operand is two bf16
// (split.h) and a product is three of them; T is inverted, and G summed and its differences taken, in fp32.
#include "codegen/kernels/delta.h"
#include "codegen/kernels/split.h"

namespace ingot {

namespace {

constexpr int64_t kChunk = 64, kTiles = 4; // tokens of a chunk, and tiles of 16
// Of wider heads the walk's registers do not hold S beside what a chunk makes of it.
constexpr uint64_t kMostKeyDim = 128;
// A tile of 16 x 16 bf16 lies as in docs/design/layouts.md (tile16). High and low parts follow each other.
constexpr int64_t kTileBytes = 512, kPairBytes = 1024;

// What the first kernel leaves of a chunk: for each key head K and Q as tiles [token][dim] and K^T as tiles
// [dim][token]; then for each value head T and P as tiles [token][token] and four rows of figures a token.
struct Prepared {
  explicit Prepared(const DeltaConfig &c)
      : tiles(static_cast<int64_t>(c.keyDim / 16)), matrix(kTiles * tiles * kPairBytes), keyHead(3 * matrix),
        valueHeads(static_cast<int64_t>(c.keyHeads) * keyHead),
        bytes(valueHeads + static_cast<int64_t>(c.valueHeads) * valueHead) {}

  int64_t tiles;                                                  // of key_dim
  int64_t matrix;                                                 // bytes of K, of Q and of K^T
  int64_t keyHead;                                                // bytes
  int64_t valueHeads;                                             // where they begin
  int64_t bytes;                                                  // of a chunk
  static constexpr int64_t square = kTiles * kTiles * kPairBytes; // bytes of T and of P
  static constexpr int64_t figures = 2 * square;                  // where the figures begin
  // Rows of figures: e^G, e^(G_64 - G), beta; then e^G_64 of the chunk in each place.
  static constexpr int64_t ofStart = figures, ofEnd = figures + kChunk * 4, ofBeta = figures + kChunk * 8,
                           ofChunk = figures + kChunk * 12;
  static constexpr int64_t valueHead = figures + kChunk * 16;
};

// Eight neighbours of a row of a tile, both parts.
void storePieces(KernelBuilder &k, Val eight, Val pointer, Val offset) {
  SplitBf16 parts = splitBf16(k, eight);
  k.store(parts.high, pointer, offset, 16);
  k.store(parts.low, pointer, offset + kTileBytes, 16);
}

// A fragment, both parts. `offset` is the same in all lanes.
SplitBf16 loadParts(KernelBuilder &k, Val pointer, Val offset, Val row) {
  Val tile = k.advance(pointer, k.zext(offset, k.i64()));
  return {k.loadTileFragment(tile, k.constant(0), row), k.loadTileFragment(tile, k.constant(kTileBytes), row)};
}

// c += a b, but for the product of the low parts, which is below 2^-18 of it.
Val multiply(KernelBuilder &k, const SplitBf16 &a, const SplitBf16 &b, Val c) {
  return k.matrixBf16(a.low, b.high, k.matrixBf16(a.high, b.low, k.matrixBf16(a.high, b.high, c)));
}

// The same with `a` in memory, of which one part at a time is in registers.
Val multiplyFrom(KernelBuilder &k, Val pointer, int64_t offset, Val row, const SplitBf16 &b, Val c) {
  Val tile = k.advance(pointer, k.constant64(offset));
  k.scheduleFence();
  Val high = k.loadTileFragment(tile, k.constant(0), row);
  c = k.matrixBf16(high, b.low, k.matrixBf16(high, b.high, c));
  k.scheduleFence();
  return k.matrixBf16(k.loadTileFragment(tile, k.constant(kTileBytes), row), b.high, c);
}

// A result as the operand of the next product.
SplitBf16 operandOf(KernelBuilder &k, Val result) {
  SplitBf16 parts = splitBf16(k, result);
  return {k.fragmentOfResult(parts.high), k.fragmentOfResult(parts.low)};
}

// Fills `prepared` for one chunk and key head, and the value heads that share it. A workgroup has a wave for each 16
// tokens.
class Preparation {
public:
  Preparation(KernelBuilder &k, const DeltaConfig &c)
      : k(k), c(c), layout(c), keyHead(k.workgroupX()), firstToken(k.workgroupY() * kChunk),
        valid(k.stepTokens(k.argument(0)) - firstToken),
        chunk(k.advance(k.argument(6), k.zext(k.workgroupY(), k.i64()) * layout.bytes)),
        keys(k.advance(chunk, k.zext(keyHead, k.i64()) * layout.keyHead)),
        products(k.lds(kChunk * kChunk * 4, "products")), system(k.lds(kChunk * kChunk * 4, "system")),
        inverse(k.lds(kChunk * kChunk * 4, "inverse")), figures(k.lds(kChunk * 16, "figures")) {}

  void emit() {
    splitRows();
    k.barrier();
    multiplyRows();
    const auto ratio = static_cast<int64_t>(c.valueHeads / c.keyHeads);
    k.forLoop(k.constant(0), k.constant(ratio), k.constant(1), {}, [&](Val i, const std::vector<Val> &) {
      Val head = keyHead * ratio + i;
      Val out = k.advance(chunk, k.zext(head, k.i64()) * Prepared::valueHead + k.constant64(layout.valueHeads));
      gates(head, out);
      decayed(out);
      k.barrier();
      k.ifThen(k.wave() < kChunk / static_cast<int64_t>(k.target().waveSize), [&] { invert(); });
      k.barrier();
      overPieces([&](Val row, Val column, Val tile) {
        storePieces(k, k.load(eight(), inverse, row * (kChunk * 4) + column * 4, 16), out, tile);
      });
      return std::vector<Val>();
    });
  }

private:
  mlir::Type eight() { return k.vec(8, k.f32()); }

  // Queries and keys, normed, as tiles. Rows past the chunk's last token become zeros.
  void splitRows() {
    const DeltaColumns columns(c);
    const auto keyDim = static_cast<int64_t>(c.keyDim);
    Val token = k.wave() * 16 + k.lane() % 16, there = token < valid;
    Val row = k.advance(k.argument(1), k.zext(firstToken + token, k.i64()) *
                                           static_cast<int64_t>(paddedRow(static_cast<uint64_t>(columns.width)) * 4));
    const int64_t pieces = keyDim / 16; // of eight, a half-wave
    auto read = [&](Val piece, int64_t first) {
      Val at = ((piece * 2 + k.laneHalf()) * 8 + keyHead * keyDim + first) * 4;
      return k.select(there, k.load(eight(), row, at, 16), k.zero(eight()));
    };
    auto squares =
        k.forLoop(k.constant(0), k.constant(pieces), k.constant(1), {k.constantF(0), k.constantF(0)},
                  [&](Val piece, std::vector<Val> sums) {
                    Val q = read(piece, 0), key = read(piece, columns.keys);
                    return std::vector<Val>{sums[0] + k.sumElements(q * q), sums[1] + k.sumElements(key * key)};
                  });
    Val ofQuery = deltaNorm(k, squares[0] + k.otherHalf(squares[0])) *
                  k.constantF(1 / std::sqrt(static_cast<double>(keyDim))),
        ofKey = deltaNorm(k, squares[1] + k.otherHalf(squares[1]));
    k.forLoop(k.constant(0), k.constant(pieces), k.constant(1), {}, [&](Val piece, const std::vector<Val> &) {
      Val q = read(piece, 0) * ofQuery, key = read(piece, columns.keys) * ofKey;
      // A piece of 16 columns is a tile, of which this lane has a half of its row.
      Val at = (k.wave() * layout.tiles + piece) * kPairBytes + k.laneHalf() * 256 + k.lane() % 16 * 16;
      storePieces(k, key, keys, at);
      storePieces(k, q, keys, at + layout.matrix);
      SplitBf16 parts = splitBf16(k, key);
      Val across = (piece * kTiles + k.wave()) * kPairBytes + k.lane() % 16 / 8 * 256 + k.laneHalf() * 128 +
                   k.lane() % 8 * 2 + 2 * layout.matrix;
      for (unsigned e = 0; e < 8; ++e) {
        k.store(k.element(parts.high, e), keys, across + e * 16);
        k.store(k.element(parts.low, e), keys, across + (e * 16 + kTileBytes));
      }
      return std::vector<Val>();
    });
  }

  // products[i][j]: q_i . k_j where j <= i, else k_i . k_j. A wave has 16 rows.
  void multiplyRows() {
    std::vector<Val> sums(2 * kTiles, k.zero(eight()));
    sums = k.forLoop(k.constant(0), k.constant(layout.tiles), k.constant(1), sums, [&](Val t, std::vector<Val> s) {
      Val at = (k.wave() * layout.tiles + t) * kPairBytes, row = k.matrixRow();
      SplitBf16 key = loadParts(k, keys, at, row), query = loadParts(k, keys, at + layout.matrix, row);
      for (unsigned j = 0; j < kTiles; ++j) {
        k.scheduleFence();
        SplitBf16 other = loadParts(k, keys, (t + j * layout.tiles) * kPairBytes, k.matrixColumn());
        s[j] = multiply(k, query, other, s[j]);
        s[kTiles + j] = multiply(k, key, other, s[kTiles + j]);
      }
      return s;
    });
    for (unsigned j = 0; j < kTiles; ++j)
      for (unsigned e = 0; e < 8; ++e) {
        Val row = k.wave() * 16 + k.laneHalf() * 8 + e, column = k.matrixColumn() + j * 16;
        k.store(k.select(column <= row, k.element(sums[j], e), k.element(sums[kTiles + j], e)), products,
                row * (kChunk * 4) + column * 4);
      }
  }

  // The figures of a head's tokens, in LDS: G as a sum of two floats, so that a difference of large sums keeps its
  // digits, and beta.
  void gates(Val head, Val out) {
    Val token = k.thread() % kChunk, there = token < valid;
    Val at = (firstToken + k.minI(token, valid - 1)) * static_cast<int64_t>(paddedRow(c.valueHeads) * 4) + head * 4;
    Val beta = deltaBeta(k, k.load(k.f32(), k.argument(2), at));
    Val logKept = deltaLogKept(k, k.load(k.f32(), k.argument(4), head * 4), k.load(k.f32(), k.argument(3), at),
                               k.load(k.f32(), k.argument(5), head * 4));
    beta = k.select(there, beta, k.constantF(0));
    k.barrier(); // until nobody reads the figures of the head before
    k.store(k.select(there, logKept, k.constantF(0)), figures, token * 4);
    k.barrier();
    auto sum =
        k.forLoop(k.constant(0), k.constant(kChunk), k.constant(1),
                  {k.constantF(0), k.constantF(0), k.constantF(0), k.constantF(0)}, [&](Val i, std::vector<Val> s) {
                    // s + x exactly, as high and low (Knuth's two-sum). The first pair ends at this token.
                    Val x = k.load(k.f32(), figures, i * 4), high = s[2] + x, moved = high - s[2];
                    Val low = s[3] + ((s[2] - (high - moved)) + (x - moved));
                    Val counts = i <= token;
                    return std::vector<Val>{k.select(counts, high, s[0]), k.select(counts, low, s[1]), high, low};
                  });
    k.barrier();
    k.store(k.build({sum[0], sum[1], beta, k.constantF(0)}), figures, token * 16, 16);
    k.store(k.exp2(sum[0]), out, token * 4 + Prepared::ofStart);
    k.store(k.exp2((sum[2] - sum[0]) + (sum[3] - sum[1])), out, token * 4 + Prepared::ofEnd);
    k.store(beta, out, token * 4 + Prepared::ofBeta);
    k.store(k.exp2(sum[2]), out, token * 4 + Prepared::ofChunk);
    k.barrier();
  }

  // Calls `body` with the row and first column of every piece of eight of a 64 x 64 matrix, and its place in tiles.
  void overPieces(const std::function<void(Val row, Val column, Val tile)> &body) {
    constexpr int64_t kThreads = kTiles * 32;
    k.forLoop(k.constant(0), k.constant(kChunk * kChunk / 8 / kThreads), k.constant(1), {},
              [&](Val i, const std::vector<Val> &) {
                k.scheduleFence();
                Val piece = i * kThreads + k.thread(), row = piece / (kChunk / 8), column = piece % (kChunk / 8) * 8;
                body(row, column,
                     (row / 16 * kTiles + column / 16) * kPairBytes + column % 16 / 8 * 256 + row % 16 * 16);
                return std::vector<Val>();
              });
  }

  // P to `out`, and A^T to LDS: system[j][i] = A_ij, from the other half of the products.
  void decayed(Val out) {
    overPieces([&](Val row, Val column, Val tile) {
      Val product = k.load(eight(), products, row * (kChunk * 4) + column * 4, 16);
      Val mine = k.load(k.vec(4, k.f32()), figures, row * 16, 16);
      std::vector<Val> onAndBelow, above;
      for (unsigned e = 0; e < 8; ++e) {
        Val other = k.load(k.vec(4, k.f32()), figures, (column + e) * 16, 16), below = column + e <= row;
        Val distance = (k.element(mine, 0) - k.element(other, 0)) + (k.element(mine, 1) - k.element(other, 1));
        // Of two tokens the later has the smaller G: never an exponent above 0.
        Val decay = k.exp2(k.minF(k.select(below, distance, k.constantF(0) - distance), k.constantF(0)));
        Val x = k.element(product, e) * decay;
        onAndBelow.push_back(k.select(below, x, k.constantF(0)));
        above.push_back(k.select(below, k.constantF(0), x * k.element(other, 2)));
      }
      storePieces(k, k.build(onAndBelow), out, tile + Prepared::square);
      k.store(k.build(above), system, row * (kChunk * 4) + column * 4, 16);
    });
  }

  // inverse = (I + A)^-1, a lane a column, 16 rows at a time: first what the rows above contribute, then the rows among
  // themselves.
  void invert() {
    Val column = k.thread();
    for (int64_t first = 0; first < kChunk; first += 16) {
      std::vector<Val> x;
      x.reserve(16);
      for (int64_t r = 0; r < 16; ++r)
        x.push_back(k.select(column == first + r, k.constantF(1), k.constantF(0)));
      auto subtract = [&](std::vector<Val> &to, Val j, Val value, unsigned from) {
        k.scheduleFence();
        for (unsigned quarter = from / 4; quarter < 4; ++quarter) {
          Val a = k.load(k.vec(4, k.f32()), system, j * (kChunk * 4) + (first + quarter * 4) * 4, 16);
          for (unsigned e = 0; e < 4; ++e)
            if (quarter * 4 + e >= from)
              to[quarter * 4 + e] = k.fma(k.constantF(0) - k.element(a, e), value, to[quarter * 4 + e]);
        }
      };
      if (first > 0)
        x = k.forLoop(k.constant(0), k.constant(first), k.constant(1), x, [&](Val j, std::vector<Val> s) {
          subtract(s, j, k.load(k.f32(), inverse, j * (kChunk * 4) + column * 4), 0);
          return s;
        });
      for (unsigned r = 0; r + 1 < 16; ++r)
        subtract(x, k.constant(first + r), x[r], r + 1);
      for (unsigned r = 0; r < 16; ++r)
        k.store(x[r], inverse, column * 4 + (first + r) * (kChunk * 4));
    }
  }

  KernelBuilder &k;
  const DeltaConfig &c;
  Prepared layout;
  Val keyHead, firstToken, valid; // valid: tokens from the first on, which may be more than a chunk's
  Val chunk, keys;
  Val products, system, inverse, figures;
};

// Walks the chunks with 16 columns of a head's S in registers, as the results of matrix instructions: element e of tile
// t is row 16 t + 8 half + e of this lane's column.
class Walk {
public:
  Walk(KernelBuilder &k, const DeltaConfig &c, Val firstColumn)
      : k(k), c(c), layout(c), columns(c), tiles(static_cast<unsigned>(layout.tiles)), atOnce(tilesAtOnce(k.target())),
        tokens(k.stepTokens(k.argument(0))), head(k.workgroupY()),
        keyHead(head / static_cast<int64_t>(c.valueHeads / c.keyHeads)), firstColumn(firstColumn),
        column(firstColumn + k.matrixColumn()), row(k.matrixRow()) {}

  void emit() {
    const auto valueDim = static_cast<int64_t>(c.valueDim);
    Val matrix = k.advance(k.argument(3), k.zext(head, k.i64()) * (static_cast<int64_t>(c.keyDim) * valueDim * 4));
    // One offset for all; what differs between elements goes into the pointer, which is the same in all lanes.
    Val place = (k.laneHalf() * (8 * valueDim) + column) * 4;
    auto rowOf = [&](unsigned t, unsigned e) { return k.advance(matrix, k.constant64((16 * t + e) * valueDim * 4)); };
    std::vector<Val> s;
    s.reserve(tiles);
    for (unsigned t = 0; t < tiles; ++t)
      s.push_back(eightOf([&](unsigned e) { return k.load(k.f32(), rowOf(t, e), place); }));
    s = k.forLoop(k.constant(0), (tokens + (kChunk - 1)) / kChunk, k.constant(1), s,
                  [&](Val index, std::vector<Val> before) { return step(index, std::move(before)); });
    for (unsigned t = 0; t < tiles; ++t)
      for (unsigned e = 0; e < 8; ++e)
        k.store(k.element(s[t], e), rowOf(t, e), place);
  }

private:
  // Tiles of tokens whose rows meet S together. More convert S to operands less often; fewer take less registers, of
  // which fragments have twice as many where both halves of a wave hold them.
  [[nodiscard]] unsigned tilesAtOnce(const TargetInfo &target) const {
    return target.matrix == MatrixLayout::Split || tiles <= 5 ? 4 : 2;
  }

  Val eightOf(const std::function<Val(unsigned)> &element) {
    std::vector<Val> elements;
    elements.reserve(8);
    for (unsigned e = 0; e < 8; ++e)
      elements.push_back(element(e));
    return k.build(elements);
  }

  std::vector<Val> step(Val index, std::vector<Val> s) {
    const int64_t inStride = static_cast<int64_t>(paddedRow(static_cast<uint64_t>(columns.width))) * 4,
                  width = static_cast<int64_t>(c.valueHeads * c.valueDim),
                  stride = static_cast<int64_t>(paddedRow(c.valueHeads * c.valueDim)) * 4;
    Val prepared = k.advance(k.argument(2), k.zext(index, k.i64()) * layout.bytes);
    keys = k.advance(prepared, k.zext(keyHead, k.i64()) * layout.keyHead);
    own = k.advance(prepared, k.zext(head, k.i64()) * Prepared::valueHead + k.constant64(layout.valueHeads));
    Val inHead = (head * static_cast<int64_t>(c.valueDim) + column) * 4, firstToken = index * kChunk + k.laneHalf() * 8;
    Val in = k.advance(k.argument(1), k.zext(index, k.i64()) * (kChunk * inStride) + k.constant64(columns.values * 4)),
        out = k.advance(k.argument(4), k.zext(index, k.i64()) * (kChunk * stride)),
        inOffset = k.laneHalf() * (8 * inStride) + inHead, outOffset = k.laneHalf() * (8 * stride) + inHead;
    const Val zero = k.zero(k.vec(8, k.f32()));

    std::vector<Val> corrected(kTiles, zero); // Vn
    for (unsigned first = 0; first < kTiles; first += atOnce) {
      std::vector<Val> x = timesState(s, 0, first);
      for (unsigned j = first; j < first + atOnce; ++j) {
        k.scheduleFence();
        Val v = eightOf([&](unsigned e) {
          Val loaded = k.load(k.f32(), k.advance(in, k.constant64((16 * j + e) * inStride)), inOffset);
          return k.select(firstToken + (16 * j + e) < tokens, loaded, k.constantF(0));
        });
        SplitBf16 operand =
            operandOf(k, figure(Prepared::ofBeta, j) * (v - figure(Prepared::ofStart, j) * x[j - first]));
        for (unsigned i = j; i < kTiles; ++i)
          corrected[i] = multiplyFrom(k, own, squareTile(i, j), row, operand, corrected[i]);
      }
    }

    for (unsigned first = 0; first < kTiles; first += atOnce) {
      std::vector<Val> y = timesState(s, layout.matrix, first);
      for (unsigned i = first; i < first + atOnce; ++i)
        y[i - first] = y[i - first] * figure(Prepared::ofStart, i);
      for (unsigned j = 0; j < first + atOnce; ++j) {
        k.scheduleFence();
        forget(corrected[j]);
        SplitBf16 operand = operandOf(k, corrected[j]);
        for (unsigned i = std::max(j, first); i < first + atOnce; ++i)
          y[i - first] = multiplyFrom(k, own, Prepared::square + squareTile(i, j), row, operand, y[i - first]);
      }
      for (unsigned i = first; i < first + atOnce; ++i)
        for (unsigned e = 0; e < 8; ++e)
          k.store(k.element(y[i - first], e), k.advance(out, k.constant64((16 * i + e) * stride)), outOffset);
    }
    if (stride > width * 4)
      k.ifThen((head == 0) & (firstColumn == 0), [&] {
        Val place = k.laneHalf() * stride + k.matrixColumn() * 4;
        for (int64_t token = 0; token < kChunk; token += 2)
          for (int64_t at = width * 4; at < stride; at += 64)
            k.store(k.constantF(0), k.advance(out, k.constant64(token * stride + at)), place);
      });

    Val kept = figure(Prepared::ofChunk, 0);
    for (Val &tile : s)
      tile = tile * kept;
    for (unsigned j = 0; j < kTiles; ++j) {
      SplitBf16 operand = operandOf(k, corrected[j] * figure(Prepared::ofEnd, j));
      for (unsigned t = 0; t < tiles; ++t)
        s[t] = multiplyFrom(k, keys, 2 * layout.matrix + (t * kTiles + j) * kPairBytes, row, operand, s[t]);
    }
    return s;
  }

  // K S or Q S, of the rows at `rows`, for `atOnce` tiles of tokens from `first` on.
  std::vector<Val> timesState(std::vector<Val> &s, int64_t rows, unsigned first) {
    std::vector<Val> sums(atOnce, k.zero(k.vec(8, k.f32())));
    for (unsigned t = 0; t < tiles; ++t) {
      k.scheduleFence();
      forget(s[t]);
      SplitBf16 operand = operandOf(k, s[t]);
      for (unsigned i = 0; i < atOnce; ++i)
        sums[i] = multiplyFrom(k, keys, rows + ((first + i) * layout.tiles + t) * kPairBytes, row, operand, sums[i]);
    }
    return sums;
  }

  // The compiler must not keep operands made of `value` for when it meets the same again: they would fill registers.
  void forget(Val &value) { value = k.pin(value); }

  static int64_t squareTile(unsigned i, unsigned j) { return (i * kTiles + j) * kPairBytes; }
  // Figures of this lane's eight tokens of a tile.
  Val figure(int64_t which, unsigned tile) {
    return k.load(k.vec(8, k.f32()), own, k.laneHalf() * 32 + (which + tile * 64), 16);
  }

  KernelBuilder &k;
  const DeltaConfig &c;
  Prepared layout;
  DeltaColumns columns;
  unsigned tiles, atOnce;
  Val tokens, head, keyHead, firstColumn, column, row;
  Val keys, own; // of the chunk at hand
};

} // namespace

bool deltaInChunks(const DeltaConfig &c) { return c.keyDim <= kMostKeyDim; }

uint64_t deltaPreparedBytes(const DeltaConfig &c) { return static_cast<uint64_t>(Prepared(c).bytes); }

LaunchShape emitDeltaPrepare(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                             const DeltaConfig &c) {
  KernelBuilder k(
      module, target, name,
      {Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::Read, Access::ReadWrite},
      kTiles * target.waveSize);
  Preparation(k, c).emit();
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>(c.keyHeads),
          .tokensPerWorkgroup = kChunk,
          .workgroupSize = static_cast<unsigned>(kTiles) * target.waveSize,
          .bound = "64 tokens of one key head a workgroup"};
}

LaunchShape emitDeltaChunks(mlir::gpu::GPUModuleOp module, const TargetInfo &target, llvm::StringRef name,
                            const DeltaConfig &c) {
  constexpr unsigned kWaves = 2;
  KernelBuilder k(module, target, name, {Access::Read, Access::Read, Access::Read, Access::ReadWrite, Access::Write},
                  kWaves * target.waveSize);
  Val firstColumn = (k.workgroupX() * kWaves + k.wave()) * 16;
  Walk walk(k, c, firstColumn);
  k.ifThen(firstColumn < static_cast<int64_t>(c.valueDim), [&] { walk.emit(); });
  k.finish();
  return {.kernel = name.str(),
          .x = static_cast<unsigned>((c.valueDim / 16 + kWaves - 1) / kWaves),
          .y = static_cast<unsigned>(c.valueHeads),
          .workgroupSize = kWaves * target.waveSize,
          .bound = "32 columns of one head's matrix a workgroup, chunk after chunk"};
}

} // namespace ingot
