#include "runtime/server/slots.h"

#include <algorithm>
#include <fstream>
#include <numeric>

#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/server/prefix_file.h"

namespace ingot {
namespace {

size_t commonPrefix(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

// Rows are whole blocks of positions, and states are taken where a chunk ends.
PrefixTree::Shape shapeOf(const Model &model) {
  const ModelFacts &facts = model.manifest().facts();
  PrefixTree::Shape shape;
  shape.block = static_cast<uint32_t>(
      std::min<uint64_t>(std::lcm(uint64_t{facts.prefill_chunk()}, uint64_t{facts.state_block()}), UINT32_MAX));
  shape.rowsBytes = shape.block * rowBytes(model.manifest());
  shape.stateBytes = fixedStateBytes(model.manifest(), model.fit().context);
  return shape;
}

} // namespace

absl::StatusOr<std::unique_ptr<Slots>> Slots::create(const std::shared_ptr<Model> &model, uint64_t cacheBytes) {
  std::unique_ptr<Slots> made(new Slots());
  made->model = model;
  made->tree = std::make_unique<PrefixTree>(shapeOf(*model), cacheBytes);
  for (uint32_t count = 0; count < model->fit().sequences; ++count) {
    auto session = Session::create(model);
    if (!session.ok())
      return session.status();
    made->slots.emplace_back(*std::move(session));
  }
  return made;
}

bool Slots::anyIdle() const {
  return std::ranges::any_of(slots, [](const Slot &slot) { return !slot.taken; });
}

// The one whose memory holds the most of the prompt, so that the least is copied; else the one used longest ago.
Slot &Slots::chooseIdle(std::span<const int32_t> prompt) {
  Slot *best = nullptr;
  size_t most = 0;
  for (Slot &slot : slots) {
    if (slot.taken)
      continue;
    size_t common = commonPrefix(slot.tokens, prompt);
    if (!best || common > most || (common == most && slot.lastUse < best->lastUse)) {
      best = &slot;
      most = common;
    }
  }
  return *best;
}

// Goes on where the tree knows more of `prompt` than the first `done` tokens, which the slot's sequence has.
absl::StatusOr<uint32_t> Slots::takeOver(Slot &slot, std::span<const int32_t> prompt, uint32_t done) {
  std::vector<const PrefixTree::Block *> path = tree->find(prompt);
  if (path.empty() || path.back()->position <= done)
    return 0;
  Session &session = slot.session();
  const uint32_t block = tree->shape().block, position = path.back()->position;
  const size_t kept = commonPrefix(slot.tokens, prompt.first(position)) / block;
  slot.tokens.resize(kept * block);
  for (size_t index = kept; index < path.size(); ++index) {
    if (absl::Status status = session.setRows(path[index]->position - block, path[index]->rows); !status.ok())
      return status;
    slot.tokens.insert(slot.tokens.end(), path[index]->tokens.begin(), path[index]->tokens.end());
    restored += path[index]->rows.size();
  }
  restored += path.back()->state->size();
  if (absl::Status status = session.resume(position, *path.back()->state); !status.ok())
    return status;
  return position - done;
}

absl::StatusOr<Slot *> Slots::begin(std::span<const int32_t> prompt) {
  Slot &slot = chooseIdle(prompt);
  slot.lastUse = ++uses;
  auto reused = takeOver(slot, prompt, 0);
  if (!reused.ok())
    return reused.status();
  if (*reused == 0) {
    slot.tokens.clear();
    if (absl::Status status = slot.session().reset(); !status.ok())
      return status;
  }
  slot.taken = true;
  return &slot;
}

absl::StatusOr<uint32_t> Slots::prefill(Slot &slot, std::span<const int32_t> prompt) {
  Session &session = slot.session();
  auto reused = takeOver(slot, prompt, session.position());
  if (!reused.ok())
    return reused.status();
  const size_t chunk = session.manifest().facts().prefill_chunk();
  std::span<const int32_t> part = prompt.subspan(session.position());
  part = part.first(std::min(chunk, part.size()));
  if (absl::Status status = session.prefill(part); !status.ok())
    return status;
  if (part.size() < chunk)
    return reused;
  slot.tokens.insert(slot.tokens.end(), part.begin(), part.end());
  if (absl::Status status = remember(slot); !status.ok())
    return status;
  return reused;
}

// The sequence stands at the end of a chunk.
absl::Status Slots::remember(Slot &slot) {
  PrefixTree::Missing missing = tree->missing(slot.tokens);
  if (!missing.rows && !missing.state)
    return absl::OkStatus();
  Session &session = slot.session();
  std::vector<std::byte> rows;
  if (missing.rows) {
    auto taken = session.rows(session.position() - tree->shape().block, session.position());
    if (!taken.ok())
      return taken.status();
    rows = *std::move(taken);
  }
  auto snapshot = session.snapshot();
  if (!snapshot.ok())
    return snapshot.status();
  tree->put(slot.tokens, std::move(rows), *std::move(snapshot));
  return absl::OkStatus();
}

void Slots::release(Slot &slot) {
  slot.lastUse = ++uses;
  slot.taken = false;
}

// Of all that the bytes of a state depend on.
uint64_t Slots::identity() const {
  std::string text = absl::StrCat(model->code().target(), model->device().emulated() ? " emulated" : "");
  for (const ArtifactSection &section : model->artifact().sections())
    absl::StrAppend(&text, " ", section.name, " ", section.checksum);
  return XXH3_64bits(text.data(), text.size());
}

std::string Slots::fileIn(const std::string &folder) const {
  return absl::StrFormat("%s/%016x.prompts", folder, identity());
}

absl::Status Slots::save(const std::string &folder) const { return savePrefixes(*tree, identity(), fileIn(folder)); }

absl::Status Slots::restore(const std::string &folder) {
  const std::string path = fileIn(folder);
  std::ifstream in(path, std::ios::binary);
  if (!in)
    return absl::NotFoundError(absl::StrCat(path, ": there is no such file yet"));
  absl::Status status = restorePrefixes(in, identity(), *tree);
  return status.ok() ? status : absl::Status(status.code(), absl::StrCat(path, ": ", std::string(status.message())));
}

} // namespace ingot
