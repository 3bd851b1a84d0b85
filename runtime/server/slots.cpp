#include "runtime/server/slots.h"

#include <algorithm>
#include <fstream>
#include <numeric>
#include <utility>

#include <xxhash.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/artifact/manifest_check.h"
#include "runtime/server/prefix_file.h"

namespace ingot {
namespace {

// Pages are shared whole, and states are taken where a chunk ends.
PrefixTree::Shape shapeOf(const Model &model) {
  const ModelFacts &facts = model.manifest().facts();
  PrefixTree::Shape shape;
  shape.block = static_cast<uint32_t>(
      std::min<uint64_t>(std::lcm(uint64_t{facts.prefill_chunk()}, uint64_t{facts.state_block()}), UINT32_MAX));
  shape.pagesBytes = shape.block / facts.state_block() * pageBytes(model.manifest());
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
  model->pages().setReclaim([tree = made->tree.get()] { return tree->forget(); });
  return made;
}

Slots::~Slots() { model->pages().setReclaim(nullptr); }

uint32_t Slots::context() const {
  const uint64_t positions = uint64_t{model->fit().pages} * model->manifest().facts().state_block();
  return static_cast<uint32_t>(std::min<uint64_t>(model->fit().context, positions));
}

// A step that drafts reaches further than the tokens that it gives; where pages are short it does not draft.
uint32_t Slots::pagesFor(uint32_t positions) const {
  const ModelFacts &facts = model->manifest().facts();
  const uint64_t reached = std::min<uint64_t>(uint64_t{positions} + 2 * facts.draft_length() + 1, context());
  return static_cast<uint32_t>(roundContext(facts, reached) / facts.state_block());
}

uint32_t Slots::pagesOfBlock() const { return tree->shape().block / model->manifest().facts().state_block(); }

bool Slots::mayBegin(uint32_t positions) const {
  return promised + pagesFor(positions) <= model->fit().pages &&
         std::ranges::any_of(slots, [](const Slot &slot) { return !slot.taken; });
}

// Goes on where the tree knows more of `prompt` than the slot's sequence has.
absl::StatusOr<uint32_t> Slots::takeOver(Slot &slot, std::span<const int32_t> prompt) {
  Session &session = slot.session();
  const uint32_t done = session.position();
  std::vector<const PrefixTree::Block *> path = tree->find(prompt);
  if (path.empty() || path.back()->position <= done)
    return 0;
  std::vector<Page> pages;
  for (const PrefixTree::Block *block : path)
    pages.insert(pages.end(), block->pages.begin(), block->pages.end());
  restored += path.back()->state->size();
  if (absl::Status status = session.resume(pages, *path.back()->state); !status.ok())
    return status;
  return path.back()->position - done;
}

absl::StatusOr<Slot *> Slots::begin(std::span<const int32_t> prompt, uint32_t positions) {
  Slot &slot = *std::ranges::find_if(slots, [](const Slot &each) { return !each.taken; });
  if (absl::Status status = slot.session().reset(); !status.ok())
    return status;
  if (auto reused = takeOver(slot, prompt); !reused.ok())
    return reused.status();
  slot.promised = pagesFor(positions);
  promised += slot.promised;
  slot.taken = true;
  return &slot;
}

absl::StatusOr<uint32_t> Slots::prefill(Slot &slot, std::span<const int32_t> prompt) {
  Session &session = slot.session();
  auto reused = takeOver(slot, prompt);
  if (!reused.ok())
    return reused.status();
  const size_t chunk = session.manifest().facts().prefill_chunk();
  std::span<const int32_t> part = prompt.subspan(session.position());
  part = part.first(std::min(chunk, part.size()));
  if (absl::Status status = session.prefill(part); !status.ok())
    return status;
  if (part.size() == chunk)
    if (absl::Status status = remember(slot, prompt.first(session.position())); !status.ok())
      return status;
  return reused;
}

// The sequence stands at the end of a chunk.
absl::Status Slots::remember(Slot &slot, std::span<const int32_t> prefix) {
  PrefixTree::Missing missing = tree->missing(prefix);
  if (!missing.pages && !missing.state)
    return absl::OkStatus();
  Session &session = slot.session();
  auto snapshot = session.snapshot();
  if (!snapshot.ok())
    return snapshot.status();
  std::span<const Page> pages = session.pages().last(missing.pages ? pagesOfBlock() : 0);
  tree->put(prefix, {pages.begin(), pages.end()}, *std::move(snapshot));
  return absl::OkStatus();
}

void Slots::release(Slot &slot) {
  slot.session().end();
  promised -= std::exchange(slot.promised, 0);
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

absl::Status Slots::save(const std::string &folder) const {
  return savePrefixes(
      *tree, identity(), [this](std::span<const Page> pages) { return model->read(pages); }, fileIn(folder));
}

absl::Status Slots::restore(const std::string &folder) {
  const std::string path = fileIn(folder);
  std::ifstream in(path, std::ios::binary);
  if (!in)
    return absl::NotFoundError(absl::StrCat(path, ": there is no such file yet"));
  auto make = [this](std::span<const std::byte> bytes) -> absl::StatusOr<std::vector<Page>> {
    std::vector<Page> pages;
    while (pages.size() < pagesOfBlock()) {
      auto page = model->pages().take();
      if (!page)
        return absl::ResourceExhaustedError("no page is free for more of the saved prompts");
      pages.push_back(*std::move(page));
    }
    absl::Status status = model->write(pages, bytes);
    return status.ok() ? absl::StatusOr<std::vector<Page>>(std::move(pages)) : status;
  };
  absl::Status status = restorePrefixes(in, identity(), make, *tree);
  return status.ok() ? status : absl::Status(status.code(), absl::StrCat(path, ": ", std::string(status.message())));
}

} // namespace ingot
