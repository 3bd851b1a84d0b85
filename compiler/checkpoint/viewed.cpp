// Codes keep their meaning when rows are rearranged, with two exceptions: a scale that rows share must not fall between
// pieces, and columns in an order of their own need one order for all rows.
#include "compiler/checkpoint/viewed.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <unordered_map>

#include "compiler/checkpoint/message.h"

namespace ingot {
namespace {

// Rows that share a scale in the packed form (docs/design/layouts.md): no finer sharing is told apart.
constexpr uint64_t kBandRows = 16;

bool sameScheme(const StoredQuantization &a, const StoredQuantization &b) {
  return a.storage == b.storage && a.groupColumns == b.groupColumns && a.groupRows == b.groupRows &&
         a.zeroPoints == b.zeroPoints && a.permutedColumns == b.permutedColumns && a.scaleType == b.scaleType &&
         a.activation == b.activation && a.activationScale == b.activationScale;
}

class ViewedCheckpoint final : public Checkpoint {
public:
  ViewedCheckpoint(std::unique_ptr<Checkpoint> base, nlohmann::json config)
      : base(std::move(base)), facts(std::move(config)) {
    for (const TensorInfo &tensor : this->base->tensors())
      sources.emplace(tensor.name, &tensor);
  }

  absl::Status load(std::vector<TensorView> views) {
    std::map<std::string, uint64_t> read; // rows of each source
    std::set<std::string> names;
    for (TensorView &view : views) {
      absl::StatusOr<Seen> seen = look(view);
      if (!seen.ok())
        return seen.status();
      for (const TensorView::Piece &piece : view.pieces)
        read[piece.source] += piece.rows;
      add(std::move(*seen), names);
    }
    for (const auto &[name, rows] : read)
      if (const TensorInfo &source = *sources.at(name); rows < source.rows())
        return absl::InvalidArgumentError(cat(sourceName(), ": tensor '", name, "' has ", source.rows(),
                                              " rows, and by the configuration only ", rows, " are read"));
    for (const TensorInfo &tensor : base->tensors())
      if (!read.contains(tensor.name))
        add({tensor, {{&tensor, 0, 0}}, TensorView::Function::Same}, names);
    if (names.size() != infos.size())
      return absl::InvalidArgumentError(cat(sourceName(), ": two tensors have the same name once they are rearranged"));
    return absl::OkStatus();
  }

  const std::vector<TensorInfo> &tensors() const override { return infos; }
  const nlohmann::json &config() const override { return facts; }
  const TokenizerData &tokenizer() const override { return base->tokenizer(); }
  uint64_t digest() const override { return base->digest(); }
  std::string sourceName() const override { return base->sourceName(); }

  absl::Status readRows(const TensorInfo &tensor, uint64_t first, uint64_t count, std::span<float> out) const override {
    const uint64_t columns = tensor.columns();
    if (out.size() != count * columns)
      return absl::OutOfRangeError(cat(sourceName(), ": ", count, " rows of '", tensor.name, "' into ", out.size(),
                                       " floats: a row has ", columns));
    absl::StatusOr<const Seen *> seen = locate(tensor, first, count);
    if (!seen.ok())
      return seen.status();
    if (absl::Status status = eachPiece(**seen, first, count,
                                        [&](const TensorInfo &source, uint64_t row, uint64_t rows, uint64_t at) {
                                          return base->readRows(source, row, rows,
                                                                out.subspan(at * columns, rows * columns));
                                        });
        !status.ok())
      return status;
    switch ((*seen)->function) {
    case TensorView::Function::Same:
      break;
    case TensorView::Function::OnePlus:
      for (float &value : out)
        value = 1 + value;
      break;
    case TensorView::Function::NegativeExp:
      for (float &value : out)
        value = -std::exp(value);
      break;
    }
    if ((*seen)->factor != 1)
      for (float &value : out)
        value *= (*seen)->factor;
    return absl::OkStatus();
  }

  absl::Status readQuantized(const TensorInfo &tensor, uint64_t first, uint64_t count,
                             QuantizedRows &out) const override {
    absl::StatusOr<const Seen *> seen = locate(tensor, first, count);
    if (!seen.ok())
      return seen.status();
    if (!(*seen)->info.quantization)
      return Checkpoint::readQuantized(tensor, first, count, out);
    out = {};
    return eachPiece(**seen, first, count, [&](const TensorInfo &source, uint64_t row, uint64_t rows, uint64_t /*at*/) {
      QuantizedRows part;
      if (absl::Status status = base->readQuantized(source, row, rows, part); !status.ok())
        return status;
      out.codes.insert(out.codes.end(), part.codes.begin(), part.codes.end());
      out.scales.insert(out.scales.end(), part.scales.begin(), part.scales.end());
      out.zeros.insert(out.zeros.end(), part.zeros.begin(), part.zeros.end());
      out.columnOrder = std::move(part.columnOrder);
      return absl::OkStatus();
    });
  }

  std::span<const uint8_t> bf16Rows(const TensorInfo &tensor, uint64_t first, uint64_t count) const override {
    absl::StatusOr<const Seen *> seen = locate(tensor, first, count);
    if (!seen.ok() || count == 0 || !(*seen)->same())
      return {};
    const Run &run = runOf(**seen, first);
    if (first - run.at + count > rowsOf(**seen, run))
      return {};
    return base->bf16Rows(*run.source, run.firstRow + first - run.at, count);
  }

  void expect(const TensorInfo &tensor) const override {
    for (const TensorInfo *source : sourcesOf(tensor))
      base->expect(*source);
  }
  void release(const TensorInfo &tensor) const override {
    for (const TensorInfo *source : sourcesOf(tensor))
      base->release(*source);
  }

private:
  // Rows of the view from `at` to the next run's `at`.
  struct Run {
    const TensorInfo *source;
    uint64_t firstRow; // of the source
    uint64_t at;       // of the view
  };
  struct Seen {
    TensorInfo info;
    std::vector<Run> runs;
    TensorView::Function function;
    float factor = 1;
    // Whether rows are what their sources have.
    bool same() const { return function == TensorView::Function::Same && factor == 1; }
  };

  absl::StatusOr<Seen> look(TensorView &view) const {
    Seen seen{{.name = view.name, .shape = view.shape, .storage = {}}, {}, view.function, view.factor};
    uint64_t rows = 0;
    bool whole = true; // bands of rows stay together, and one order of columns serves all
    for (const TensorView::Piece &piece : view.pieces) {
      const auto found = sources.find(piece.source);
      if (found == sources.end())
        return absl::NotFoundError(
            cat(sourceName(), ": tensor '", piece.source, "' is missing; is the checkpoint complete?"));
      const TensorInfo &source = *found->second;
      if (source.columns() != seen.info.columns() || piece.firstRow > source.rows() ||
          piece.rows > source.rows() - piece.firstRow)
        return absl::InvalidArgumentError(cat(sourceName(), ": tensor '", piece.source, "' has ", source.rows(),
                                              " rows of ", source.columns(), ", and by the configuration rows ",
                                              piece.firstRow, " to ", piece.firstRow + piece.rows, " of ",
                                              seen.info.columns(), " are '", view.name, "'"));
      if (seen.runs.empty()) {
        seen.info.storage = source.storage;
        seen.info.quantization = source.quantization;
      } else if (source.quantization && seen.info.quantization &&
                 !sameScheme(*source.quantization, *seen.info.quantization)) {
        seen.info.quantization.reset();
      }
      if (!source.quantization)
        seen.info.quantization.reset();
      whole &= piece.firstRow % kBandRows == 0 && rows % kBandRows == 0;
      seen.runs.push_back({&source, piece.firstRow, rows});
      rows += piece.rows;
    }
    if (rows != seen.info.rows())
      return absl::InternalError(cat("the view '", view.name, "' has ", rows, " rows, expected ", seen.info.rows()));
    if (std::optional<StoredQuantization> &stored = seen.info.quantization) {
      const bool oneSource = std::all_of(seen.runs.begin(), seen.runs.end(),
                                         [&](const Run &run) { return run.source == seen.runs.front().source; });
      const bool oneScale = stored->groupRows == 0 && oneSource; // whatever the order of rows
      if (!seen.same() || (stored->permutedColumns && !oneSource) || (stored->groupRows != 1 && !whole && !oneScale))
        stored.reset();
      else if (stored->groupRows != 1 && seen.runs.size() > 1 && !oneScale)
        stored->groupRows = kBandRows;
    }
    return seen;
  }

  void add(Seen seen, std::set<std::string> &names) {
    names.insert(seen.info.name);
    places.emplace(seen.info.name, infos.size());
    infos.push_back(seen.info);
    all.push_back(std::move(seen));
  }

  absl::StatusOr<const Seen *> locate(const TensorInfo &tensor, uint64_t first, uint64_t count) const {
    const auto found = places.find(tensor.name);
    if (found == places.end())
      return absl::NotFoundError(cat(sourceName(), ": no tensor '", tensor.name, "'"));
    const Seen &seen = all[found->second];
    const uint64_t rows = seen.info.rows();
    if (first > rows || count > rows - first)
      return absl::OutOfRangeError(
          cat(sourceName(), ": rows ", first, " + ", count, " of '", tensor.name, "': the tensor has ", rows, " rows"));
    return &seen;
  }

  static const Run &runOf(const Seen &seen, uint64_t row) {
    return *std::prev(std::upper_bound(seen.runs.begin(), seen.runs.end(), row,
                                       [](uint64_t value, const Run &run) { return value < run.at; }));
  }
  static uint64_t rowsOf(const Seen &seen, const Run &run) {
    return (&run == &seen.runs.back() ? seen.info.rows() : (&run)[1].at) - run.at;
  }

  // Calls `visit(source, row, rows, at)` for each run of rows in [first, first + count); `at` counts from `first`.
  template <typename Visit>
  static absl::Status eachPiece(const Seen &seen, uint64_t first, uint64_t count, const Visit &visit) {
    for (uint64_t row = first; row < first + count;) {
      const Run &run = runOf(seen, row);
      const uint64_t rows = std::min(first + count - row, run.at + rowsOf(seen, run) - row);
      if (absl::Status status = visit(*run.source, run.firstRow + row - run.at, rows, row - first); !status.ok())
        return status;
      row += rows;
    }
    return absl::OkStatus();
  }

  std::set<const TensorInfo *> sourcesOf(const TensorInfo &tensor) const {
    std::set<const TensorInfo *> found;
    if (const auto place = places.find(tensor.name); place != places.end())
      for (const Run &run : all[place->second].runs)
        found.insert(run.source);
    return found;
  }

  std::unique_ptr<Checkpoint> base;
  nlohmann::json facts;
  std::unordered_map<std::string, const TensorInfo *> sources; // of the base
  std::vector<Seen> all;
  std::vector<TensorInfo> infos; // of `all`
  std::unordered_map<std::string, size_t> places;
};

} // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> viewed(std::unique_ptr<Checkpoint> base, std::vector<TensorView> views,
                                                   nlohmann::json config) {
  auto checkpoint = std::make_unique<ViewedCheckpoint>(std::move(base), std::move(config));
  if (absl::Status status = checkpoint->load(std::move(views)); !status.ok())
    return status;
  return checkpoint;
}

} // namespace ingot
