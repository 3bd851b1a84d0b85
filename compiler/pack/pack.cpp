// The packer. A weight is cut into chunks of whole 16-row bands of about a mebibyte; workers decode and quantise
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

namespace ingot {
namespace {

constexpr uint64_t kBandRows = 16, kPieceBytes = 16, kRowPadding = 64, kColumnPadding = 64, kScalesAlignment = 256;
constexpr uint64_t kChunkBytes = 1 << 20;
constexpr uint32_t kInfinityBits = 0x7f800000u;

uint64_t roundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Sizes that follow from a weight's description.
struct Geometry {
  explicit Geometry(const PackedWeight &weight) {
    const bool tiled = weight.layout == PackedWeight::Layout::Tile16;
    const bool int8 = tiled && weight.scheme != WeightScheme::Bf16;
    rows = tiled ? roundUp(weight.rows, kRowPadding) : weight.rows;
    columns = roundUp(weight.columns, kColumnPadding);
    valueBytes = int8 ? 1 : weight.layout == PackedWeight::Layout::RowMajorF32 ? 4 : 2;
    rowBytes = columns * valueBytes;
    if (int8)
      rowScaleBytes = weight.scheme == WeightScheme::Int8PerChannel ? 4 : columns / kGroupSize * 2;
  }
  uint64_t valuesBytes() const { return rows * rowBytes; }

  uint64_t rows, columns; // padded
  uint64_t valueBytes, rowBytes;
  uint64_t rowScaleBytes = 0;
};

absl::Status atRow(const std::string &tensor, uint64_t row, std::string_view what) {
  return absl::InvalidArgumentError(cat("tensor '", tensor, "', row ", row, ": ", what));
}

// Where the weight's rows come from.
class Source {
public:
  Source(const PackedWeight &weight, const Checkpoint &checkpoint) : weight(weight), checkpoint(checkpoint) {}

  absl::Status resolve() {
    if (weight.sources.empty() || weight.rows == 0 || weight.columns == 0)
      return absl::InvalidArgumentError("a packed weight needs a source, rows and columns");
    // Bounds that keep every size in this file far from overflow.
    if (weight.rows > (1ull << 40) || weight.columns > (1ull << 40) || weight.rows > (1ull << 50) / weight.columns)
      return absl::InvalidArgumentError(
          cat("'", weight.sources.front(), "': ", weight.rows, " x ", weight.columns, " is larger than any weight"));
    uint64_t rows = 0, columns = 0;
    for (const std::string &name : weight.sources) {
      const TensorInfo *tensor = checkpoint.find(name);
      if (!tensor)
        return absl::InvalidArgumentError(cat(checkpoint.sourceName(), ": tensor '", name, "' is missing"));
      joined &= tensor->rows() == 1;
      parts.push_back({tensor, rows, columns});
      rows += tensor->rows();
      columns += tensor->columns();
    }
    joined &= weight.rows == 1;
    for (const Part &part : parts)
      if (!joined && part.tensor->columns() != weight.columns)
        return absl::InvalidArgumentError(cat("tensor '", part.tensor->name, "' has ", part.tensor->columns(),
                                              " columns, expected ", weight.columns));
    if (joined ? columns != weight.columns : rows != weight.rows)
      return absl::InvalidArgumentError(cat("tensor '", weight.sources.front(), "'",
                                            parts.size() > 1 ? " and those joined to it have " : " has ",
                                            joined ? columns : rows, joined ? " columns" : " rows", ", expected ",
                                            joined ? weight.columns : weight.rows));
    return absl::OkStatus();
  }

  // Rows [first, first + count) of the whole, to count * columns floats.
  absl::Status read(uint64_t first, uint64_t count, std::span<float> out) const {
    for (const Part &part : parts) {
      if (joined) {
        if (absl::Status status =
                checkpoint.readRows(*part.tensor, 0, 1, out.subspan(part.firstColumn, part.tensor->columns()));
            !status.ok())
          return status;
        continue;
      }
      const uint64_t begin = std::max(first, part.firstRow);
      const uint64_t end = std::min(first + count, part.firstRow + part.tensor->rows());
      if (begin >= end)
        continue;
      if (absl::Status status =
              checkpoint.readRows(*part.tensor, begin - part.firstRow, end - begin,
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
    return atRow(owner->tensor->name, joined ? 0 : row - owner->firstRow, what);
  }

  void release() const {
    for (const Part &part : parts)
      checkpoint.release(*part.tensor);
  }

private:
  struct Part {
    const TensorInfo *tensor;
    uint64_t firstRow, firstColumn;
  };

  const PackedWeight &weight;
  const Checkpoint &checkpoint;
  std::vector<Part> parts;
  bool joined = true; // 1-D tensors, end to end
};

// A worker's memory: the floats of a band and its quantised rows before they are woven into tiles.
struct Scratch {
  std::vector<float> floats;
  std::vector<uint8_t> rows; // kBandRows * rowBytes; the padding stays zero
};

class Packer {
public:
  Packer(const PackedWeight &weight, const Source &source) : weight(weight), source(source), size(weight) {
    bandsPerChunk = std::max<uint64_t>(1, kChunkBytes / (kBandRows * size.rowBytes));
    scales.resize(size.rows * size.rowScaleBytes);
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
    scratch.floats.resize(kBandRows * weight.columns);
    scratch.rows.resize(kBandRows * size.rowBytes);
    for (uint64_t band = begin; band < end; band += kBandRows) {
      const uint64_t rows = std::min(kBandRows, end - band);
      uint8_t *target = out.data() + (band - begin) * size.rowBytes;
      if (absl::Status status = packBand(band, rows, scratch, target); !status.ok())
        return status;
    }
    return absl::OkStatus();
  }

  std::span<const uint8_t> scaleBytes() const { return scales; }

private:
  absl::Status packBand(uint64_t band, uint64_t rows, Scratch &scratch, uint8_t *target) {
    const uint64_t real = std::min(rows, weight.rows - std::min(weight.rows, band));
    if (real > 0)
      if (absl::Status status = source.read(band, real, {scratch.floats.data(), real * weight.columns}); !status.ok())
        return status;
    const bool tiled = weight.layout == PackedWeight::Layout::Tile16;
    if (real < rows)
      std::fill(scratch.rows.begin() + static_cast<ptrdiff_t>(real * size.rowBytes), scratch.rows.end(), uint8_t{0});
    for (uint64_t r = 0; r < real; ++r) {
      const std::span<const float> row(scratch.floats.data() + r * weight.columns, weight.columns);
      uint8_t *values = (tiled ? scratch.rows.data() : target) + r * size.rowBytes;
      if (absl::Status status = packRow(band + r, row, values); !status.ok())
        return status;
      const uint64_t used = weight.columns * size.valueBytes;
      std::memset(values + used, 0, size.rowBytes - used);
    }
    if (tiled)
      for (uint64_t piece = 0; piece < size.rowBytes / kPieceBytes; ++piece)
        for (uint64_t r = 0; r < kBandRows; ++r, target += kPieceBytes)
          std::memcpy(target, scratch.rows.data() + r * size.rowBytes + piece * kPieceBytes, kPieceBytes);
    return absl::OkStatus();
  }

  absl::Status packRow(uint64_t row, std::span<const float> values, uint8_t *out) {
    if (absoluteMaximumBits(values) >= kInfinityBits)
      return source.refuse(row, "a weight is infinite or not a number; the checkpoint is damaged");
    if (weight.layout == PackedWeight::Layout::RowMajorF32) {
      std::memcpy(out, values.data(), values.size_bytes());
      return absl::OkStatus();
    }
    if (weight.layout == PackedWeight::Layout::RowMajorBf16 || weight.scheme == WeightScheme::Bf16) {
      if (!quantizeBf16(values, reinterpret_cast<uint16_t *>(out)))
        return source.refuse(row, "a weight is too large for bf16");
      return absl::OkStatus();
    }
    auto *integers = reinterpret_cast<int8_t *>(out);
    if (weight.scheme == WeightScheme::Int8PerChannel) {
      const float scale = quantizeInt8PerChannel(values, integers);
      std::memcpy(scales.data() + row * sizeof scale, &scale, sizeof scale);
      return absl::OkStatus();
    }
    std::vector<uint16_t> groups((values.size() + kGroupSize - 1) / kGroupSize);
    if (!quantizeInt8Group32(values, integers, groups.data()))
      return source.refuse(row, "a group of weights needs a scale that f16 cannot hold (|x| over 8.3e6)");
    // [rows/16][columns/32][row 16]
    const uint64_t first = row / kBandRows * (size.columns / kGroupSize) * kBandRows + row % kBandRows;
    for (size_t g = 0; g < groups.size(); ++g)
      std::memcpy(scales.data() + (first + g * kBandRows) * sizeof(uint16_t), &groups[g], sizeof(uint16_t));
    return absl::OkStatus();
  }

  const PackedWeight &weight;
  const Source &source;
  const Geometry size;
  uint64_t bandsPerChunk;
  std::vector<uint8_t> scales;
};

// Workers take chunks in order and leave them in a ring of slots; take() hands them out in order. A worker waits while
// its slot is still full, which bounds the memory.
class Pipeline {
public:
  Pipeline(Packer &packer, unsigned threads) : packer(packer), slots(2 * threads), last(packer.chunks()) {
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
  return size.rowScaleBytes ? roundUp(size.valuesBytes(), kScalesAlignment) : size.valuesBytes();
}

uint64_t packedBytes(const PackedWeight &weight) {
  const Geometry size(weight);
  return scalesOffset(weight) + size.rows * size.rowScaleBytes;
}

absl::Status packWeight(const PackedWeight &weight, const Checkpoint &checkpoint, WeightSink &sink,
                        const PackProgress &progress, unsigned threads) {
  Source source(weight, checkpoint);
  if (absl::Status status = source.resolve(); !status.ok())
    return status;
  Packer packer(weight, source);
  const uint64_t chunks = packer.chunks();
  if (threads == 0)
    threads = std::max(1u, std::thread::hardware_concurrency());
  threads = static_cast<unsigned>(std::min<uint64_t>(threads, chunks));
  uint64_t appended = 0;
  if (threads == 1) {
    Scratch scratch;
    std::vector<uint8_t> bytes;
    for (uint64_t i = 0; i < chunks; ++i) {
      if (absl::Status status = packer.pack(i, scratch, bytes); !status.ok())
        return status;
      if (absl::Status status = append(sink, bytes, progress); !status.ok())
        return status;
      appended += bytes.size();
    }
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
  if (!packer.scaleBytes().empty()) {
    const std::vector<uint8_t> padding(scalesOffset(weight) - appended);
    if (!padding.empty())
      if (absl::Status status = append(sink, padding, progress); !status.ok())
        return status;
    if (absl::Status status = append(sink, packer.scaleBytes(), progress); !status.ok())
      return status;
  }
  source.release();
  return absl::OkStatus();
}

absl::Status dequantizeRows(const PackedWeight &weight, std::span<const std::byte> packed, uint64_t first,
                            uint64_t count, std::span<float> out) {
  if (packed.size() != packedBytes(weight) || first > weight.rows || count > weight.rows - first ||
      out.size() != count * weight.columns)
    return absl::InvalidArgumentError(cat("dequantizeRows: rows ", first, " + ", count, " of ", weight.rows, " x ",
                                          weight.columns, " from ", packed.size(), " bytes (expected ",
                                          packedBytes(weight), ") into ", out.size(), " floats"));
  const Geometry size(weight);
  const bool tiled = weight.layout == PackedWeight::Layout::Tile16;
  const std::byte *scales = packed.data() + scalesOffset(weight);
  std::vector<std::byte> row(size.rowBytes);
  for (uint64_t i = 0; i < count; ++i) {
    const uint64_t r = first + i;
    const std::byte *band = packed.data() + r / kBandRows * kBandRows * size.rowBytes;
    if (tiled)
      for (uint64_t piece = 0; piece < size.rowBytes / kPieceBytes; ++piece)
        std::memcpy(row.data() + piece * kPieceBytes, band + (piece * kBandRows + r % kBandRows) * kPieceBytes,
                    kPieceBytes);
    else
      std::memcpy(row.data(), packed.data() + r * size.rowBytes, size.rowBytes);
    float channelScale = 0;
    if (size.rowScaleBytes == sizeof channelScale && weight.scheme == WeightScheme::Int8PerChannel)
      std::memcpy(&channelScale, scales + r * sizeof channelScale, sizeof channelScale);
    float *target = out.data() + i * weight.columns;
    for (uint64_t c = 0; c < weight.columns; ++c) {
      if (size.valueBytes == 4) {
        std::memcpy(target + c, row.data() + 4 * c, 4);
      } else if (size.valueBytes == 2) {
        uint16_t value;
        std::memcpy(&value, row.data() + 2 * c, 2);
        target[c] = bf16ToFloat(value);
      } else {
        float scale = channelScale;
        if (weight.scheme == WeightScheme::Int8Group32) {
          uint16_t half;
          const uint64_t group =
              (r / kBandRows * (size.columns / kGroupSize) + c / kGroupSize) * kBandRows + r % kBandRows;
          std::memcpy(&half, scales + group * sizeof half, sizeof half);
          scale = halfToFloat(half);
        }
        target[c] = scale * static_cast<float>(static_cast<int8_t>(row[c]));
      }
    }
  }
  return absl::OkStatus();
}

} // namespace ingot
