// The packer. A weight is cut into chunks of whole 16-row bands of about two mebibytes; workers decode and quantise
// chunks, the calling thread appends them in order. A tile16 band is its rows' 16-byte pieces transposed: piece c of
// row r lies at 256 * c + 16 * r.
#include "compiler/pack/pack.h"

#include <algorithm>
#include <bit>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "compiler/checkpoint/half.h"
#include "compiler/checkpoint/message.h"
#include "compiler/checkpoint/simd.h"

namespace ingot {
namespace {

using Layout = PackedWeight::Layout;
using ScaleType = WeightScheme::ScaleType;
using Storage = WeightScheme::Storage;

constexpr uint64_t kBandRows = 16, kPieceBytes = 16, kRowPadding = 64, kColumnPadding = 64, kAlignment = 256;
// A source whose codes lie along its rows' direction is read this many rows at a time: whole cache lines of each line.
constexpr uint64_t kStepBands = 4;
// More than what a file writer gathers before it writes, so that a chunk is not copied once more.
constexpr uint64_t kChunkBytes = 2 << 20;
// More would wait for the disk.
constexpr unsigned kMaxThreads = 16;
constexpr uint32_t kInfinityBits = 0x7f800000u;

uint64_t roundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Sizes that follow from a weight's description.
struct Geometry {
  explicit Geometry(const PackedWeight &weight) {
    const bool tiled = weight.layout == Layout::Tile16;
    scaled = tiled && weight.scheme.scaled();
    rows = tiled ? roundUp(weight.rows, kRowPadding) : weight.rows;
    columns = roundUp(weight.columns, kColumnPadding);
    bits = weight.layout == Layout::RowMajorF32 ? 32 : !scaled ? 16 : weight.scheme.storage == Storage::Int4 ? 4 : 8;
    rowBytes = columns * bits / 8;
    if (scaled) {
      groups = weight.scheme.groups(columns);
      scaleBytes = weight.scheme.scaleType == ScaleType::F32 ? 4 : 2;
      zerosAt = (weight.scheme.blockRows > 1 ? 1 : kBandRows) * scaleBytes;
      recordBytes = zerosAt + (weight.scheme.zeroPoints ? kBandRows : 0);
    }
  }
  uint64_t valuesBytes() const { return rows * rowBytes; }
  uint64_t scalesBytes() const { return rows / kBandRows * groups * recordBytes; }
  // The record of scales and zeros of a band and group.
  uint64_t record(uint64_t row, uint64_t group) const { return (row / kBandRows * groups + group) * recordBytes; }

  bool scaled;
  uint64_t rows, columns; // padded
  uint64_t bits, rowBytes;
  uint64_t groups = 0, scaleBytes = 0, zerosAt = 0, recordBytes = 0;
};

absl::Status atRow(const std::string &tensor, uint64_t row, std::string_view what) {
  return absl::InvalidArgumentError(cat("tensor '", tensor, "', row ", row, ": ", what));
}

// Where the weight's rows come from.
class Source {
public:
  // `expert` is whose rows they are.
  Source(const PackedWeight &weight, const Checkpoint &checkpoint, uint64_t expert)
      : weight(weight), checkpoint(checkpoint), skipped(expert * weight.rows) {}

  absl::Status resolve() {
    if (weight.sources.empty() || weight.rows == 0 || weight.columns == 0)
      return absl::InvalidArgumentError("a packed weight needs a source, rows and columns");
    // Bounds that keep every size in this file far from overflow.
    if (weight.rows > (1ull << 40) || weight.columns > (1ull << 40) || weight.rows > (1ull << 50) / weight.columns)
      return absl::InvalidArgumentError(
          cat("'", weight.sources.front(), "': ", weight.rows, " x ", weight.columns, " is larger than any weight"));
    if (weight.experts != 1 && (weight.layout != Layout::Tile16 || weight.sources.size() != 1 || weight.permuted))
      return absl::InvalidArgumentError(
          cat("'", weight.sources.front(), "': experts are packed from one tensor, as linears in the model's order"));
    uint64_t rows = 0, columns = 0;
    for (const std::string &name : weight.sources) {
      const TensorInfo *tensor = checkpoint.find(name);
      if (!tensor)
        return absl::InvalidArgumentError(cat(checkpoint.sourceName(), ": tensor '", name, "' is missing"));
      joined &= tensor->rows() == 1 || weight.layout == Layout::RowMajorF32;
      if (weight.experts == 0 || tensor->rows() % weight.experts != 0)
        return absl::InvalidArgumentError(
            cat("tensor '", name, "' has ", tensor->rows(), " rows, expected those of ", weight.experts, " experts"));
      const uint64_t own = tensor->rows() / weight.experts;
      parts.push_back({.tensor = tensor, .firstRow = rows, .rows = own, .firstColumn = columns});
      rows += own;
      columns += tensor->rows() * tensor->columns();
    }
    joined &= weight.rows == 1 && (parts.size() > 1 || rows > 1);
    for (const Part &part : parts)
      if (!joined && part.tensor->columns() != weight.columns)
        return absl::InvalidArgumentError(cat("tensor '", part.tensor->name, "' has ", part.tensor->columns(),
                                              " columns, expected ", weight.columns));
    if (joined ? columns != weight.columns : rows != weight.rows)
      return absl::InvalidArgumentError(cat("tensor '", weight.sources.front(), "'",
                                            parts.size() > 1 ? " and those joined to it have " : " has ",
                                            joined ? columns : rows, joined ? " columns" : " rows", ", expected ",
                                            joined ? weight.columns : weight.rows));
    return weight.layout == Layout::Tile16 ? resolveCopies() : absl::OkStatus();
  }

  // Whether any source's codes are copied.
  bool copies() const {
    return std::any_of(parts.begin(), parts.end(), [](const Part &part) { return part.copied; });
  }
  std::span<const uint32_t> columnOrder() const { return order; }

  // A band of a scaled weight as codes [rows][columns], scales and zeros [rows][groups of the unpadded columns].
  struct Band {
    std::vector<int8_t> codes;
    std::vector<float> scales;
    std::vector<uint8_t> zeros;
  };
  // Rows of the sources that are copied, as they are stored; one entry a source.
  struct Stored {
    uint64_t first = 0; // row of the source
    QuantizedRows rows;
  };

  // The copied sources' rows among [first, first + count) of the whole.
  absl::Status readStored(uint64_t first, uint64_t count, std::vector<Stored> &out) const {
    out.resize(parts.size());
    for (size_t i = 0; i < parts.size(); ++i) {
      const Part &part = parts[i];
      const uint64_t begin = std::max(first, part.firstRow);
      const uint64_t end = std::min(first + count, part.firstRow + part.rows);
      if (!part.copied || begin >= end)
        continue;
      out[i].first = begin - part.firstRow + skipped;
      if (absl::Status status = checkpoint.readQuantized(*part.tensor, out[i].first, end - begin, out[i].rows);
          !status.ok())
        return status;
    }
    return absl::OkStatus();
  }

  // Rows [first, first + count) of the whole into `band`; `stored` holds those of the copied sources.
  absl::Status quantize(uint64_t first, uint64_t count, const std::vector<Stored> &stored, std::vector<float> &floats,
                        Band &band) const {
    const WeightScheme &scheme = weight.scheme;
    const uint64_t groups = scheme.groups(weight.columns);
    band.codes.resize(count * weight.columns);
    band.scales.resize(count * groups);
    band.zeros.resize(scheme.zeroPoints ? count * groups : 0);
    for (size_t i = 0; i < (joined ? 1 : parts.size()); ++i) {
      const Part &part = parts[i];
      const uint64_t begin = std::max(first, part.firstRow);
      const uint64_t end = std::min(first + count, part.firstRow + part.rows);
      if (begin >= end)
        continue;
      if (!part.copied) {
        floats.resize((end - begin) * weight.columns);
        if (absl::Status status = read(begin, end - begin, floats); !status.ok())
          return status;
      }
      for (uint64_t row = begin; row < end; ++row) {
        int8_t *codes = band.codes.data() + (row - first) * weight.columns;
        float *scales = band.scales.data() + (row - first) * groups;
        uint8_t *zeros = scheme.zeroPoints ? band.zeros.data() + (row - first) * groups : nullptr;
        if (part.copied) {
          if (!copyRow(*part.tensor->quantization, stored[i].rows, row - part.firstRow + skipped - stored[i].first,
                       codes, scales, zeros))
            return refuse(row, "a weight is infinite or not a number; the checkpoint is damaged");
          continue;
        }
        const std::span<const float> values(floats.data() + (row - begin) * weight.columns, weight.columns);
        if (absoluteMaximumBits(values) >= kInfinityBits)
          return refuse(row, "a weight is infinite or not a number; the checkpoint is damaged");
        if (!quantizeRow(scheme, values, codes, scales, zeros))
          return refuse(row, cat("a group of weights needs a scale that its type cannot hold, for ", describe(scheme)));
      }
    }
    return absl::OkStatus();
  }

  // Rows [first, first + count) as the file's own bf16, when they are that and of one source.
  std::span<const uint8_t> bf16Rows(uint64_t first, uint64_t count) const {
    for (const Part &part : parts)
      if (!joined && first >= part.firstRow && first + count <= part.firstRow + part.rows)
        return checkpoint.bf16Rows(*part.tensor, first - part.firstRow + skipped, count);
    return {};
  }

  // Rows [first, first + count) of the whole, to count * columns floats.
  absl::Status read(uint64_t first, uint64_t count, std::span<float> out) const {
    for (const Part &part : parts) {
      if (joined) {
        if (absl::Status status =
                checkpoint.readRows(*part.tensor, 0, part.tensor->rows(),
                                    out.subspan(part.firstColumn, part.tensor->rows() * part.tensor->columns()));
            !status.ok())
          return status;
        continue;
      }
      const uint64_t begin = std::max(first, part.firstRow);
      const uint64_t end = std::min(first + count, part.firstRow + part.rows);
      if (begin >= end)
        continue;
      if (absl::Status status =
              checkpoint.readRows(*part.tensor, begin - part.firstRow + skipped, end - begin,
                                  out.subspan((begin - first) * weight.columns, (end - begin) * weight.columns));
          !status.ok())
        return status;
    }
    return absl::OkStatus();
  }

  // Names the tensor and its row behind row `row` of the whole.
  absl::Status refuse(uint64_t row, std::string_view what) const {
    const Part *owner = &parts.front();
    for (const Part &part : parts)
      if (!joined && part.firstRow <= row)
        owner = &part;
    return atRow(owner->tensor->name, joined ? 0 : row - owner->firstRow + skipped, what);
  }

  void expect() const {
    for (const Part &part : parts)
      checkpoint.expect(*part.tensor);
  }

  void release() const {
    for (const Part &part : parts)
      checkpoint.release(*part.tensor);
  }

private:
  struct Part {
    const TensorInfo *tensor;
    uint64_t firstRow, rows, firstColumn;
    bool copied = false;
  };

  // Decides which sources are copied, and the order of columns.
  absl::Status resolveCopies() {
    const WeightScheme &scheme = weight.scheme;
    if (absl::Status status = checkScheme(scheme); !status.ok())
      return status;
    for (Part &part : parts) {
      const std::optional<StoredQuantization> &stored = part.tensor->quantization;
      part.copied = !joined && stored && stored->permutedColumns == weight.permuted &&
                    copiesCodes(scheme, *stored, weight.columns) &&
                    (scheme.blockRows == 1 || part.firstRow % scheme.blockRows == 0);
      if (!part.copied && (scheme.blockRows != 1 || (scheme.storage == Storage::Int8 && scheme.zeroPoints)))
        return absl::InvalidArgumentError(cat("tensor '", part.tensor->name, "' is stored as ", part.tensor->storage,
                                              ", which cannot be packed as ", describe(scheme),
                                              ": that is only copied from checkpoints that have it"));
      if (!weight.permuted)
        continue;
      QuantizedRows row;
      if (part.copied)
        if (absl::Status status = checkpoint.readQuantized(*part.tensor, 0, 1, row); !status.ok())
          return status;
      if (order.empty())
        order = row.columnOrder;
      if (!part.copied || row.columnOrder.empty() || row.columnOrder != order)
        return absl::InvalidArgumentError(
            cat("tensor '", part.tensor->name, "' has not the permuted columns that it should be packed with"));
    }
    return absl::OkStatus();
  }

  // One row of a source in the scheme's groups. False when a scale or a code is not finite.
  bool copyRow(const StoredQuantization &stored, const QuantizedRows &from, uint64_t row, int8_t *codes, float *scales,
               uint8_t *zeros) const {
    const WeightScheme &scheme = weight.scheme;
    const uint64_t columns = weight.columns, sourceGroups = stored.groups(columns), groups = scheme.groups(columns);
    std::memcpy(codes, from.codes.data() + row * columns, columns);
    bool finite = true;
    for (uint64_t g = 0; g < groups; ++g) {
      const uint64_t source = row * sourceGroups + (sourceGroups == 1 ? 0 : g * scheme.group / stored.groupColumns);
      scales[g] = from.scales[source];
      finite &= (std::bit_cast<uint32_t>(scales[g]) & 0x7fffffffu) < kInfinityBits;
      if (zeros)
        zeros[g] = stored.zeroPoints ? from.zeros[source] : scheme.storage == Storage::Int4 ? 8 : 128;
    }
    if (zeros && !stored.zeroPoints && scheme.storage == Storage::Int4)
      for (uint64_t k = 0; k < columns; ++k)
        codes[k] = static_cast<int8_t>(codes[k] + 8);
    if (scheme.storage == Storage::Fp8E4M3)
      for (uint64_t k = 0; k < columns; ++k)
        finite &= (codes[k] & 0x7f) != 0x7f;
    return finite;
  }

  const PackedWeight &weight;
  const Checkpoint &checkpoint;
  const uint64_t skipped; // rows of the source, of other experts
  std::vector<Part> parts;
  std::vector<uint32_t> order;
  bool joined = true; // several 1-D tensors, end to end
};

// 16 rows of `rowBytes`, `stride` apart, into a band: piece c of row r at 256 * c + 16 * r. Four pieces of a row at
// once, a cache line, because rows that are a power of two apart share few places in the cache.
INGOT_SIMD void weave(const uint8_t *__restrict rows, uint64_t stride, uint64_t rowBytes, uint8_t *__restrict band) {
  constexpr uint64_t kPieces = 4;
  uint64_t piece = 0;
  for (; (piece + kPieces) * kPieceBytes <= rowBytes; piece += kPieces)
    for (uint64_t r = 0; r < kBandRows; ++r)
      for (uint64_t i = 0; i < kPieces; ++i)
        std::memcpy(band + ((piece + i) * kBandRows + r) * kPieceBytes, rows + r * stride + (piece + i) * kPieceBytes,
                    kPieceBytes);
  for (; piece * kPieceBytes < rowBytes; ++piece)
    for (uint64_t r = 0; r < kBandRows; ++r)
      std::memcpy(band + (piece * kBandRows + r) * kPieceBytes, rows + r * stride + piece * kPieceBytes, kPieceBytes);
}

// Eight codes make a dword: even ones are the nibbles of its low half, odd ones those of its high half. Codes are
// 0..15, or signed ones that `flip` (8 in each byte) makes so.
INGOT_SIMD void packNibbles(const uint8_t *__restrict codes, uint64_t count, uint64_t flip, uint8_t *__restrict out) {
  for (uint64_t i = 0; i < count / 8; ++i) {
    uint64_t bytes;
    std::memcpy(&bytes, codes + 8 * i, sizeof bytes);
    bytes ^= flip;
    const uint64_t even = bytes & 0x000f000f000f000full, odd = bytes >> 8 & 0x000f000f000f000full;
    const auto packed = static_cast<uint32_t>(((even | even >> 12 | even >> 24 | even >> 36) & 0xffff) |
                                              ((odd | odd >> 12 | odd >> 24 | odd >> 36) & 0xffff) << 16);
    std::memcpy(out + 4 * i, &packed, sizeof packed);
  }
}

INGOT_SIMD void unpackNibbles(const uint8_t *__restrict packed, uint64_t count, uint8_t *__restrict out) {
  for (uint64_t i = 0; i < count / 8; ++i) {
    uint32_t word;
    std::memcpy(&word, packed + 4 * i, sizeof word);
    for (uint64_t b = 0; b < 4; ++b) {
      out[8 * i + 2 * b] = word >> 4 * b & 15;
      out[8 * i + 2 * b + 1] = word >> (4 * b + 16) & 15;
    }
  }
}

// Whether all `count` bf16 numbers at `bytes` are finite.
INGOT_SIMD bool finiteBf16(const uint8_t *bytes, uint64_t count) {
  uint16_t maximum = 0;
  for (uint64_t i = 0; i < count; ++i) {
    uint16_t value;
    std::memcpy(&value, bytes + 2 * i, sizeof value);
    maximum = std::max<uint16_t>(maximum, value & 0x7fff);
  }
  return maximum < 0x7f80;
}

// Buffers of chunks outlive a weight: to the system, fresh pages cost as much as packing into them.
class ChunkBuffers {
public:
  static ChunkBuffers &instance() {
    static ChunkBuffers buffers;
    return buffers;
  }
  std::vector<uint8_t> take() {
    const std::lock_guard lock(mutex);
    if (kept.empty())
      return {};
    std::vector<uint8_t> buffer = std::move(kept.back());
    kept.pop_back();
    return buffer;
  }
  void give(std::vector<uint8_t> buffer) {
    const std::lock_guard lock(mutex);
    if (kept.size() < 2 * kMaxThreads && buffer.capacity() <= 2 * kChunkBytes)
      kept.push_back(std::move(buffer));
  }

private:
  std::mutex mutex;
  std::vector<std::vector<uint8_t>> kept;
};

void storeScale(ScaleType type, float scale, uint8_t *at) {
  const uint16_t half = type == ScaleType::F16 ? floatToHalf(scale) : floatToBf16(scale);
  if (type == ScaleType::F32)
    std::memcpy(at, &scale, sizeof scale);
  else
    std::memcpy(at, &half, sizeof half);
}

float loadScale(ScaleType type, const std::byte *at) {
  float scale;
  uint16_t half;
  if (type == ScaleType::F32) {
    std::memcpy(&scale, at, sizeof scale);
    return scale;
  }
  std::memcpy(&half, at, sizeof half);
  return type == ScaleType::F16 ? halfToFloat(half) : bf16ToFloat(half);
}

// A worker's memory.
struct Scratch {
  std::vector<float> floats;          // a band, decoded
  std::vector<uint8_t> rows;          // a band's rows before they are woven; kBandRows * rowBytes
  std::vector<uint8_t> nibbles;       // the end of a row of int4 and its padding, a byte each
  Source::Band band;                  // a band, quantised
  std::vector<Source::Stored> stored; // a step of the sources that are copied
};

class Packer {
public:
  Packer(const PackedWeight &weight, const Source &source)
      : weight(weight), source(source), size(weight), stepBands(source.copies() ? kStepBands : 1) {
    bandsPerChunk = roundUp(std::max<uint64_t>(1, kChunkBytes / (kBandRows * size.rowBytes)), stepBands);
    scales.resize(size.scalesBytes());
  }

  uint64_t chunks() const {
    const uint64_t chunkRows = bandsPerChunk * kBandRows;
    return (size.rows + chunkRows - 1) / chunkRows;
  }

  // Fills `out` with chunk `index` of the values. Scales go to their place in `scales`.
  absl::Status pack(uint64_t index, Scratch &scratch, std::vector<uint8_t> &out) {
    const uint64_t begin = index * bandsPerChunk * kBandRows;
    const uint64_t end = std::min(size.rows, begin + bandsPerChunk * kBandRows);
    out.resize((end - begin) * size.rowBytes);
    scratch.rows.resize(kBandRows * size.rowBytes);
    for (uint64_t band = begin; band < end; band += kBandRows) {
      const uint64_t rows = std::min(kBandRows, end - band);
      const uint64_t real = std::min(rows, weight.rows - std::min(weight.rows, band));
      uint8_t *target = out.data() + (band - begin) * size.rowBytes;
      if (size.scaled && (band - begin) % (stepBands * kBandRows) == 0 && source.copies())
        if (absl::Status status = source.readStored(band, stepBands * kBandRows, scratch.stored); !status.ok())
          return status;
      if (absl::Status status =
              size.scaled ? packScaled(band, real, scratch, target) : packPlain(band, rows, real, scratch, target);
          !status.ok())
        return status;
    }
    return absl::OkStatus();
  }

  std::span<const uint8_t> scaleBytes() const { return scales; }

private:
  // Tables, vectors and bf16 tiles.
  absl::Status packPlain(uint64_t band, uint64_t rows, uint64_t real, Scratch &scratch, uint8_t *target) {
    const bool tiled = weight.layout == Layout::Tile16, floats = weight.layout == Layout::RowMajorF32;
    const uint64_t used = weight.columns * size.bits / 8;
    if (const std::span<const uint8_t> bytes = floats ? std::span<const uint8_t>() : source.bf16Rows(band, real);
        !bytes.empty()) {
      for (uint64_t r = 0; r < real; ++r)
        if (!finiteBf16(bytes.data() + r * used, weight.columns))
          return source.refuse(band + r, "a weight is infinite or not a number; the checkpoint is damaged");
      if (used == size.rowBytes && real == kBandRows && tiled) {
        weave(bytes.data(), used, used, target);
        return absl::OkStatus();
      }
      for (uint64_t r = 0; r < real; ++r)
        std::memcpy((tiled ? scratch.rows.data() : target) + r * size.rowBytes, bytes.data() + r * used, used);
    } else if (real > 0) {
      scratch.floats.resize(real * weight.columns);
      if (absl::Status status = source.read(band, real, scratch.floats); !status.ok())
        return status;
      for (uint64_t r = 0; r < real; ++r) {
        const std::span<float> row(scratch.floats.data() + r * weight.columns, weight.columns);
        uint8_t *values = (tiled ? scratch.rows.data() : target) + r * size.rowBytes;
        if (absoluteMaximumBits(row) >= kInfinityBits)
          return source.refuse(band + r, "a weight is infinite or not a number; the checkpoint is damaged");
        if (floats)
          std::memcpy(values, row.data(), row.size_bytes());
        else if (!quantizeBf16(row, reinterpret_cast<uint16_t *>(values)))
          return source.refuse(band + r, "a weight is too large for bf16");
      }
    }
    uint8_t *written = tiled ? scratch.rows.data() : target;
    for (uint64_t r = 0; r < real; ++r)
      std::memset(written + r * size.rowBytes + used, 0, size.rowBytes - used);
    if (tiled) {
      std::memset(written + real * size.rowBytes, 0, (rows - real) * size.rowBytes);
      weave(written, size.rowBytes, size.rowBytes, target);
    }
    return absl::OkStatus();
  }

  // A band of codes, scales and zeros.
  absl::Status packScaled(uint64_t band, uint64_t real, Scratch &scratch, uint8_t *target) {
    if (real > 0)
      if (absl::Status status = source.quantize(band, real, scratch.stored, scratch.floats, scratch.band); !status.ok())
        return status;
    const WeightScheme &scheme = weight.scheme;
    const uint64_t groups = scheme.groups(weight.columns);
    for (uint64_t r = 0; r < real; ++r) {
      const float *rowScales = scratch.band.scales.data() + r * groups;
      const uint8_t *rowZeros = scheme.zeroPoints ? scratch.band.zeros.data() + r * groups : nullptr;
      const auto *codes = reinterpret_cast<const uint8_t *>(scratch.band.codes.data()) + r * weight.columns;
      // Columns of the padding mean 0, also where they share a group with real ones.
      storeCodes(codes, rowZeros ? rowZeros[groups - 1] : 0, scratch, scratch.rows.data() + r * size.rowBytes);
      for (uint64_t g = 0; g < groups; ++g) {
        uint8_t *record = scales.data() + size.record(band, g);
        if (scheme.blockRows == 1 || r == 0)
          storeScale(scheme.scaleType, rowScales[g], record + r * size.scaleBytes);
        if (rowZeros)
          record[size.zerosAt + r] = rowZeros[g];
      }
    }
    std::memset(scratch.rows.data() + real * size.rowBytes, 0, (kBandRows - real) * size.rowBytes);
    weave(scratch.rows.data(), size.rowBytes, size.rowBytes, target);
    return absl::OkStatus();
  }

  void storeCodes(const uint8_t *codes, uint8_t lastZero, Scratch &scratch, uint8_t *out) const {
    const uint64_t columns = weight.columns, padding = size.columns - columns;
    if (size.bits == 8) {
      std::memcpy(out, codes, columns);
      std::memset(out + columns, weight.scheme.zeroPoints ? lastZero ^ 0x80 : 0, padding);
      return;
    }
    // The device's nibbles are 0..15, around 8 where there are no zero points.
    const uint64_t flip = weight.scheme.zeroPoints ? 0 : 0x0808080808080808ull, whole = columns / 8 * 8;
    packNibbles(codes, whole, flip, out);
    if (whole == size.columns)
      return;
    std::vector<uint8_t> &last = scratch.nibbles;
    last.assign(size.columns - whole, weight.scheme.zeroPoints ? lastZero : 0);
    std::copy(codes + whole, codes + columns, last.begin());
    packNibbles(last.data(), last.size(), flip, out + whole / 2);
  }

  const PackedWeight &weight;
  const Source &source;
  const Geometry size;
  const uint64_t stepBands;
  uint64_t bandsPerChunk;
  std::vector<uint8_t> scales;
};

// Workers take chunks in order and leave them in a ring of slots; take() hands them out in order. A worker waits while
// its slot is still full, which bounds the memory.
class Pipeline {
public:
  Pipeline(Packer &packer, unsigned threads) : packer(packer), slots(2 * threads), last(packer.chunks()) {
    for (Slot &slot : slots)
      slot.bytes = ChunkBuffers::instance().take();
    for (unsigned i = 0; i < threads; ++i)
      workers.emplace_back([this] { work(); });
  }

  ~Pipeline() {
    {
      const std::lock_guard lock(mutex);
      stopped = true;
    }
    changed.notify_all();
    for (std::thread &worker : workers)
      worker.join();
    for (Slot &slot : slots)
      ChunkBuffers::instance().give(std::move(slot.bytes));
  }

  // Chunk `index`, which stays valid until done(index).
  absl::Status take(uint64_t index, std::span<const uint8_t> &bytes) {
    Slot &slot = slots[index % slots.size()];
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return slot.full; });
    bytes = slot.bytes;
    return slot.status;
  }

  void done(uint64_t index) {
    {
      const std::lock_guard lock(mutex);
      slots[index % slots.size()].full = false;
      ++emptied;
    }
    changed.notify_all();
  }

private:
  struct Slot {
    std::vector<uint8_t> bytes;
    absl::Status status;
    bool full = false;
  };

  void work() {
    Scratch scratch;
    std::unique_lock lock(mutex);
    while (true) {
      changed.wait(lock, [&] { return stopped || next == last || next < emptied + slots.size(); });
      if (stopped || next == last)
        return;
      const uint64_t index = next++;
      Slot &slot = slots[index % slots.size()];
      lock.unlock();
      absl::Status status = packer.pack(index, scratch, slot.bytes);
      lock.lock();
      slot.status = std::move(status);
      slot.full = true;
      changed.notify_all();
    }
  }

  Packer &packer;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<Slot> slots;
  uint64_t next = 0, emptied = 0;
  const uint64_t last;
  bool stopped = false;
  std::vector<std::thread> workers;
};

absl::Status append(WeightSink &sink, std::span<const uint8_t> bytes, const PackProgress &progress) {
  absl::Status status = sink.append(std::as_bytes(bytes));
  if (status.ok() && progress)
    progress(bytes.size());
  return status;
}

} // namespace

uint64_t scalesOffset(const PackedWeight &weight) {
  const Geometry size(weight);
  return size.scaled ? roundUp(size.valuesBytes(), kAlignment) : size.valuesBytes();
}

uint64_t columnOrderOffset(const PackedWeight &weight) {
  const uint64_t end = scalesOffset(weight) + Geometry(weight).scalesBytes();
  return weight.permuted ? roundUp(end, kAlignment) : end;
}

// From expert to expert.
static uint64_t stride(const PackedWeight &weight) {
  const uint64_t bytes =
      columnOrderOffset(weight) + (weight.permuted ? Geometry(weight).columns * sizeof(uint32_t) : 0);
  return weight.experts == 1 ? bytes : roundUp(bytes, kAlignment);
}

uint64_t packedBytes(const PackedWeight &weight) { return weight.experts * stride(weight); }

static absl::Status packExpert(const PackedWeight &weight, const Checkpoint &checkpoint, uint64_t expert,
                               WeightSink &sink, const PackProgress &progress, unsigned threads) {
  Source source(weight, checkpoint, expert);
  if (absl::Status status = source.resolve(); !status.ok())
    return status;
  if (expert == 0)
    source.expect();
  Packer packer(weight, source);
  const uint64_t chunks = packer.chunks();
  if (threads == 0)
    threads = std::clamp(std::thread::hardware_concurrency(), 1u, kMaxThreads);
  threads = static_cast<unsigned>(std::min<uint64_t>(threads, chunks));
  uint64_t appended = 0;
  if (threads == 1) {
    Scratch scratch;
    std::vector<uint8_t> bytes = ChunkBuffers::instance().take();
    for (uint64_t i = 0; i < chunks; ++i) {
      if (absl::Status status = packer.pack(i, scratch, bytes); !status.ok())
        return status;
      if (absl::Status status = append(sink, bytes, progress); !status.ok())
        return status;
      appended += bytes.size();
    }
    ChunkBuffers::instance().give(std::move(bytes));
  } else {
    Pipeline pipeline(packer, threads);
    for (uint64_t i = 0; i < chunks; ++i) {
      std::span<const uint8_t> bytes;
      if (absl::Status status = pipeline.take(i, bytes); !status.ok())
        return status;
      if (absl::Status status = append(sink, bytes, progress); !status.ok())
        return status;
      appended += bytes.size();
      pipeline.done(i);
    }
  }
  const auto appendAt = [&](uint64_t offset, std::span<const uint8_t> bytes) {
    if (const std::vector<uint8_t> padding(offset - appended); !padding.empty())
      if (absl::Status status = append(sink, padding, progress); !status.ok())
        return status;
    appended = offset + bytes.size();
    return bytes.empty() ? absl::OkStatus() : append(sink, bytes, progress);
  };
  if (absl::Status status = appendAt(scalesOffset(weight), packer.scaleBytes()); !status.ok())
    return status;
  if (weight.permuted) {
    std::vector<uint32_t> order(source.columnOrder().begin(), source.columnOrder().end());
    for (uint64_t k = order.size(); k < roundUp(weight.columns, kColumnPadding); ++k)
      order.push_back(static_cast<uint32_t>(k));
    const std::span<const uint8_t> bytes(reinterpret_cast<const uint8_t *>(order.data()), order.size() * 4);
    if (absl::Status status = appendAt(columnOrderOffset(weight), bytes); !status.ok())
      return status;
  }
  if (absl::Status status = appendAt(stride(weight), {}); !status.ok())
    return status;
  if (expert + 1 == weight.experts)
    source.release();
  return absl::OkStatus();
}

absl::Status packWeight(const PackedWeight &weight, const Checkpoint &checkpoint, WeightSink &sink,
                        const PackProgress &progress, unsigned threads) {
  for (uint64_t expert = 0; expert < std::max<uint64_t>(weight.experts, 1); ++expert)
    if (absl::Status status = packExpert(weight, checkpoint, expert, sink, progress, threads); !status.ok())
      return status;
  return absl::OkStatus();
}

absl::Status dequantizeRows(const PackedWeight &weight, std::span<const std::byte> packed, uint64_t first,
                            uint64_t count, std::span<float> out) {
  const uint64_t rows = weight.rows * weight.experts;
  if (packed.size() != packedBytes(weight) || first > rows || count > rows - first ||
      out.size() != count * weight.columns)
    return absl::InvalidArgumentError(cat("dequantizeRows: rows ", first, " + ", count, " of ", rows, " x ",
                                          weight.columns, " from ", packed.size(), " bytes (expected ",
                                          packedBytes(weight), ") into ", out.size(), " floats"));
  if (weight.layout == Layout::Tile16)
    if (absl::Status status = checkScheme(weight.scheme); !status.ok())
      return status;
  const Geometry size(weight);
  const WeightScheme &scheme = weight.scheme;
  const bool tiled = weight.layout == Layout::Tile16;
  const uint64_t groups = size.scaled ? scheme.groups(weight.columns) : 0;
  std::vector<uint32_t> order(weight.permuted ? weight.columns : 0);
  if (weight.permuted)
    std::memcpy(order.data(), packed.data() + columnOrderOffset(weight), order.size() * sizeof(uint32_t));
  for (const uint32_t column : order)
    if (column >= weight.columns)
      return absl::DataLossError(cat("dequantizeRows: column order names ", column, " of ", weight.columns));
  std::vector<uint8_t> row(size.rowBytes), codes(size.columns), zeros(scheme.zeroPoints ? groups : 0);
  std::vector<float> scales(groups), values(weight.permuted ? weight.columns : 0);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t r = (first + i) % weight.rows;
    const std::byte *matrix = packed.data() + (first + i) / weight.rows * stride(weight);
    const std::byte *band = matrix + r / kBandRows * kBandRows * size.rowBytes;
    if (tiled)
      for (uint64_t piece = 0; piece < size.rowBytes / kPieceBytes; ++piece)
        std::memcpy(row.data() + piece * kPieceBytes, band + (piece * kBandRows + r % kBandRows) * kPieceBytes,
                    kPieceBytes);
    else
      std::memcpy(row.data(), matrix + r * size.rowBytes, size.rowBytes);
    const std::span<float> target = out.subspan(i * weight.columns, weight.columns);
    if (size.bits == 32) {
      std::memcpy(target.data(), row.data(), target.size_bytes());
      continue;
    }
    if (size.bits == 16) {
      for (uint64_t c = 0; c < weight.columns; ++c) {
        uint16_t value;
        std::memcpy(&value, row.data() + 2 * c, sizeof value);
        target[c] = bf16ToFloat(value);
      }
      continue;
    }
    if (size.bits == 4) {
      unpackNibbles(row.data(), size.columns, codes.data());
      for (uint8_t &code : codes)
        code = static_cast<uint8_t>(code - (scheme.zeroPoints ? 0 : 8));
    } else {
      codes = row;
    }
    for (uint64_t g = 0; g < groups; ++g) {
      const std::byte *record = matrix + scalesOffset(weight) + size.record(r, g);
      scales[g] = loadScale(scheme.scaleType, record + (scheme.blockRows == 1 ? r % kBandRows * size.scaleBytes : 0));
      if (scheme.zeroPoints)
        zeros[g] = static_cast<uint8_t>(record[size.zerosAt + r % kBandRows]);
    }
    const std::span<const int8_t> signedCodes(reinterpret_cast<const int8_t *>(codes.data()), weight.columns);
    dequantizeRow(scheme, signedCodes, scales, zeros, weight.permuted ? std::span(values) : target);
    for (uint64_t k = 0; k < order.size(); ++k)
      target[order[k]] = values[k];
  }
  return absl::OkStatus();
}

} // namespace ingot
