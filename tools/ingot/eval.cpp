// `ingot eval`: how well a model predicts a text, and how far its predictions are from those of another artifact or of
// logits that some other implementation wrote.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "runtime/artifact/atomic_file.h"
// Tokenizer is destroyed here, and its destructor, being inline, needs the type of this member.
#include "runtime/tokenizer/special_tokens.h"
#include "runtime/tokenizer/tokenizer.h"
#include "tools/ingot/command.h"
#include "tools/ingot/logits_file.h"
#include "tools/ingot/score.h"
#include "tools/ingot/stats.h"

namespace ingot::cli {
namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

// A window by default: long enough to say something about a model, short enough to see progress.
constexpr uint32_t kWindow = 512;

struct EvalOptions {
  std::string file, text, against, saveTokens;
  uint32_t tokens = 0, window = 0, stride = 0; // 0: all, the default, half a window
  bool json = false;
  DeviceFlags device;
};

absl::Status at(const std::string &where, const absl::Status &status) {
  return {status.code(), absl::StrCat(where, ": ", std::string(status.message()))};
}

// What is scored: ids as the model is fed them, with the beginning-of-sequence token apart because it begins each
// window.
struct Text {
  std::vector<int32_t> ids;
  bool bos = false;
  int32_t bosId = -1;
  std::vector<int32_t> fed(size_t begin, size_t end) const {
    std::vector<int32_t> tokens;
    if (bos)
      tokens.push_back(bosId);
    tokens.insert(tokens.end(), ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(end));
    return tokens;
  }
};

absl::StatusOr<Text> encode(const Artifact &artifact, const std::string &text) {
  auto tokenizer = Tokenizer::create(artifact.tokenizer());
  if (!tokenizer.ok())
    return at(artifact.path(), tokenizer.status());
  Text result;
  result.bos = (*tokenizer)->addsBos();
  result.bosId = (*tokenizer)->bos();
  result.ids = (*tokenizer)->encode(text, {.addBos = false, .parseSpecial = false});
  return result;
}

absl::StatusOr<Text> readText(const Artifact &artifact, const EvalOptions &options) {
  auto bytes = readFile(options.text);
  if (!bytes.ok())
    return bytes.status();
  if (bytes->empty())
    return absl::InvalidArgumentError(absl::StrCat(options.text, ": expected text to score, got an empty file"));
  auto text = encode(artifact, *bytes);
  if (!text.ok())
    return text;
  if (options.tokens && options.tokens < text->ids.size())
    text->ids.resize(options.tokens);
  if (text->ids.size() < 2)
    return absl::InvalidArgumentError(absl::StrCat(options.text, ": expected a text of at least 2 tokens, got ",
                                                   text->ids.size(), "; give a longer text"));
  return text;
}

// Length and stride of the windows. A window longer than the text is as long as the text.
struct Plan {
  uint32_t window, stride;
  std::vector<Window> windows;
};

absl::StatusOr<Plan> makePlan(const Artifact &artifact, const EvalOptions &options, const Text &text) {
  uint32_t longest = artifact.manifest().facts().context_length();
  if (options.window > longest)
    return absl::InvalidArgumentError(absl::StrCat(options.file, ": expected a window of at most the ", longest,
                                                   " positions of the model's context, got ", options.window,
                                                   "; give a smaller --window"));
  Plan plan = {};
  plan.window = options.window ? options.window : std::min(longest, kWindow);
  plan.stride = options.stride ? options.stride : plan.window / 2;
  if (plan.window < 2 || plan.stride >= plan.window)
    return absl::InvalidArgumentError(absl::StrCat("expected a stride from 1 to ", plan.window - 1, " for windows of ",
                                                   plan.window, " tokens, got ", plan.stride,
                                                   "; give a smaller --stride or a larger --window"));
  plan.windows = makeWindows(text.ids.size(), plan.window, plan.stride, text.bos);
  return plan;
}

absl::Status saveTokens(const std::string &path, const std::vector<int32_t> &ids) {
  auto out = AtomicFile::create(path);
  if (!out.ok())
    return out.status();
  if (absl::Status status = (*out)->append(nlohmann::json(ids).dump() + "\n"); !status.ok())
    return status;
  return (*out)->commit();
}

// The other side of a comparison: logits for the positions of a window.
class Reference {
public:
  virtual ~Reference() = default;
  // Called once a window, before row().
  virtual absl::Status begin(const std::vector<int32_t> &tokens, size_t firstRow) = 0;
  // The logits after token `index` of the window; `index` rises from firstRow. Valid until the next call.
  virtual absl::StatusOr<std::span<const float>> row(size_t index) = 0;
};

class FileReference final : public Reference {
public:
  static absl::StatusOr<std::unique_ptr<Reference>> open(const Artifact &artifact, const EvalOptions &options,
                                                         const Plan &plan, size_t tokens) {
    auto file = LogitsFile::open(options.against);
    if (!file.ok())
      return file.status();
    uint32_t vocabulary = artifact.manifest().facts().vocabulary();
    if ((*file)->vocabulary() != vocabulary)
      return absl::InvalidArgumentError(absl::StrCat(options.against, ": expected logits of the ", vocabulary,
                                                     " tokens of the model's vocabulary, got ", (*file)->vocabulary(),
                                                     "; give logits of the same model"));
    if ((*file)->rows() != tokens)
      return absl::InvalidArgumentError(absl::StrCat(
          options.against, ": expected a row for each of the ", tokens, " tokens, got ", (*file)->rows(),
          "; write the tokens with --save-tokens and the logits with `ingot logits --tokens`, or give --tokens"));
    if (plan.windows.size() > 1)
      return absl::InvalidArgumentError(absl::StrCat(options.against, ": expected the ", tokens,
                                                     " tokens in one window, as logits in a file are, got windows of ",
                                                     plan.window, "; give a larger --window or fewer --tokens"));
    auto reference = std::make_unique<FileReference>();
    reference->file = *std::move(file);
    reference->buffer.resize(vocabulary);
    return std::unique_ptr<Reference>(std::move(reference));
  }
  absl::Status begin(const std::vector<int32_t> &, size_t) override { return absl::OkStatus(); }
  absl::StatusOr<std::span<const float>> row(size_t index) override {
    if (absl::Status status = file->read(index, buffer); !status.ok())
      return status;
    return std::span<const float>(buffer);
  }

private:
  std::unique_ptr<LogitsFile> file;
  std::vector<float> buffer;
};

absl::StatusOr<std::unique_ptr<Session>> loadSession(std::shared_ptr<const Artifact> artifact,
                                                     const SelectedDevice &selected, uint32_t context,
                                                     const EvalOptions &options) {
  uint32_t longest = artifact->manifest().facts().context_length();
  if (context > longest)
    return absl::InvalidArgumentError(absl::StrCat(artifact->path(), ": expected windows of at most the ", longest,
                                                   " positions of the model's context, got ", context,
                                                   "; give a smaller --window"));
  SessionOptions settings;
  settings.context = context;
  settings.graph = !options.device.noGraph;
  settings.allLogits = true;
  settings.cancel = interruptFlag();
  auto session = Session::load(std::move(artifact), selected.device, selected.target, settings);
  // What the message calls the context is the window here.
  if (absl::IsResourceExhausted(session.status()))
    return absl::ResourceExhaustedError(
        absl::StrCat(std::string(session.status().message()), "; here the context is --window"));
  return session;
}

class ArtifactReference final : public Reference {
public:
  static absl::StatusOr<std::unique_ptr<Reference>> open(const Artifact &artifact, const Text &text,
                                                         const EvalOptions &options, const SelectedDevice &selected,
                                                         uint32_t context, const std::string &bytes) {
    auto opened = Artifact::open(options.against);
    if (!opened.ok())
      return opened.status();
    std::shared_ptr<const Artifact> other = *std::move(opened);
    uint32_t vocabulary = artifact.manifest().facts().vocabulary();
    if (other->manifest().facts().vocabulary() != vocabulary)
      return absl::InvalidArgumentError(
          absl::StrCat(options.against, ": expected the vocabulary of ", options.file, ", ", vocabulary,
                       " tokens, got ", other->manifest().facts().vocabulary(), "; compare models of one vocabulary"));
    auto same = encode(*other, bytes);
    if (!same.ok())
      return same.status();
    same->ids.resize(std::min(same->ids.size(), text.ids.size()));
    if (same->ids != text.ids || same->bos != text.bos || (text.bos && same->bosId != text.bosId))
      return absl::InvalidArgumentError(absl::StrCat(options.against, ": expected the tokenizer of ", options.file,
                                                     ", but it splits the text into other tokens; compare models of "
                                                     "one vocabulary"));
    auto loaded = loadSession(other, selected, context, options);
    if (!loaded.ok())
      return loaded.status();
    auto reference = std::make_unique<ArtifactReference>();
    reference->session = *std::move(loaded);
    reference->vocabulary = vocabulary;
    return std::unique_ptr<Reference>(std::move(reference));
  }
  absl::Status begin(const std::vector<int32_t> &tokens, size_t firstRow) override {
    first = firstRow;
    rows.clear();
    rows.reserve((tokens.size() - firstRow) * vocabulary);
    size_t index = 0;
    return session->allLogits(tokens, /*steps=*/false, [&](std::span<const float> row) {
      if (index++ >= first)
        rows.insert(rows.end(), row.begin(), row.end());
      return absl::OkStatus();
    });
  }
  absl::StatusOr<std::span<const float>> row(size_t index) override {
    return std::span<const float>(rows).subspan((index - first) * vocabulary, vocabulary);
  }

private:
  std::unique_ptr<Session> session;
  size_t vocabulary = 0, first = 0;
  std::vector<float> rows; // of the window, from `first` on
};

struct Scores {
  double surprise = 0;
  size_t scored = 0;
  std::vector<size_t> where; // of each position compared, the token of the text that it predicts
  Comparison comparison;
  double perplexity() const { return std::exp(surprise / static_cast<double>(scored)); }
};

absl::Status notFinite(const std::string &who, size_t token) {
  return absl::InternalError(absl::StrCat(who, ": expected finite logits for token ", token,
                                          " of the text, got infinity or NaN; run `ingot doctor` on the file"));
}

// Runs one window and adds its tokens to `scores`.
absl::Status scoreWindow(Session &session, const Text &text, const Window &window, Reference *reference,
                         const EvalOptions &options, Scores &scores) {
  std::vector<int32_t> tokens = text.fed(window.begin, window.end - 1);
  // Row r predicts the token behind it.
  size_t offset = window.begin + (text.bos ? 0 : 1), firstRow = window.first - offset;
  if (reference)
    if (absl::Status status = reference->begin(tokens, firstRow); !status.ok())
      return status;
  size_t index = 0;
  return session.allLogits(tokens, /*steps=*/false, [&](std::span<const float> row) -> absl::Status {
    size_t current = index++, token = current + offset;
    if (current < firstRow)
      return absl::OkStatus();
    auto id = static_cast<size_t>(text.ids[token]);
    double found = surprise(row, id);
    if (!std::isfinite(found))
      return notFinite(options.file, token);
    scores.surprise += found;
    ++scores.scored;
    if (!reference)
      return absl::OkStatus();
    auto expected = reference->row(current);
    if (!expected.ok())
      return expected.status();
    if (!std::isfinite(surprise(*expected, id)) || !std::isfinite(divergence(*expected, row)))
      return notFinite(options.against, token);
    scores.comparison.add(*expected, row, id);
    scores.where.push_back(token);
    return absl::OkStatus();
  });
}

Json report(const Session &session, const EvalOptions &options, const Plan &plan, const Text &text,
            const Scores &scores, double seconds) {
  Json json;
  json["model"] = session.manifest().model_name();
  json["recipe"] = session.manifest().provenance().recipe();
  json["device"] = session.device().info().name;
  json["target"] = session.code().target();
  json["emulated"] = session.device().emulated();
  json["text"] = options.text;
  json["tokens"] = text.ids.size();
  json["bos"] = text.bos;
  json["scored_tokens"] = scores.scored;
  json["window"] = plan.window;
  json["stride"] = plan.stride;
  json["windows"] = plan.windows.size();
  json["mean_surprise"] = scores.surprise / static_cast<double>(scores.scored);
  json["perplexity"] = scores.perplexity();
  json["seconds"] = seconds;
  if (const Comparison &found = scores.comparison; found.positions() > 0)
    json["against"] = {{"reference", options.against},
                       {"perplexity", found.referencePerplexity()},
                       {"kl_mean", found.meanDivergence()},
                       {"kl_largest", found.largestDivergence()},
                       {"kl_largest_at", scores.where[found.largestAt()]},
                       {"kl_p99", found.divergencePercentile(0.99)},
                       {"top1_agreement", found.topAgreement()}};
  return json;
}

void print(const Json &json) {
  auto number = [&](const char *key) { return json[key].get<double>(); };
  absl::PrintF("%s, recipe %s, on %s (code for %s)\n", json["model"].get<std::string>(),
               json["recipe"].get<std::string>(), json["device"].get<std::string>(), json["target"].get<std::string>());
  absl::PrintF("perplexity   %.4f over %d of %d tokens (%.5f nats a token)\n", number("perplexity"),
               json["scored_tokens"].get<size_t>(), json["tokens"].get<size_t>(), number("mean_surprise"));
  if (json["windows"].get<size_t>() > 1)
    absl::PrintF(
        "windows      %d of %d tokens, one every %d: each token is scored once, with at least %d before it but in "
        "the first\n",
        json["windows"].get<size_t>(), json["window"].get<int>(), json["stride"].get<int>(),
        json["window"].get<int>() - json["stride"].get<int>());
  if (auto found = json.find("against"); found != json.end()) {
    auto value = [&](const char *key) { return (*found)[key].get<double>(); };
    absl::PrintF("against      %s, perplexity %.4f\n", (*found)["reference"].get<std::string>(), value("perplexity"));
    absl::PrintF(
        "KL           mean %.3e, 99th percentile %.3e, largest %.3e at token %d (nats, from it to this model)\n",
        value("kl_mean"), value("kl_p99"), value("kl_largest"), (*found)["kl_largest_at"].get<size_t>());
    absl::PrintF("top token    the same at %.2f%% of the positions\n", 100 * value("top1_agreement"));
  }
}

absl::StatusOr<std::unique_ptr<Reference>> openReference(const Artifact &artifact, const EvalOptions &options,
                                                         const Plan &plan, const Text &text, uint32_t context,
                                                         const SelectedDevice &selected) {
  if (LogitsFile::named(options.against))
    return FileReference::open(artifact, options, plan, text.ids.size() + (text.bos ? 1 : 0));
  auto bytes = readFile(options.text);
  if (!bytes.ok())
    return bytes.status();
  return ArtifactReference::open(artifact, text, options, selected, context, *bytes);
}

absl::Status eval(const EvalOptions &options) {
  interruptFlag();
  auto opened = Artifact::open(options.file);
  if (!opened.ok())
    return opened.status();
  std::shared_ptr<const Artifact> artifact = *std::move(opened);
  auto text = readText(*artifact, options);
  if (!text.ok())
    return text.status();
  auto plan = makePlan(*artifact, options, *text);
  if (!plan.ok())
    return plan.status();
  if (!options.saveTokens.empty())
    if (absl::Status status = saveTokens(options.saveTokens, text->fed(0, text->ids.size())); !status.ok())
      return status;
  auto selected = chooseDevice(*artifact, options.device);
  if (!selected.ok())
    return selected.status();
  // The last token of a window is scored, not fed.
  auto context = static_cast<uint32_t>(std::min<size_t>(plan->window, text->ids.size() + (text->bos ? 1 : 0)) - 1);
  std::unique_ptr<Reference> reference;
  if (!options.against.empty()) {
    auto made = openReference(*artifact, options, *plan, *text, context, *selected);
    if (!made.ok())
      return made.status();
    reference = *std::move(made);
  }
  auto session = loadSession(artifact, *selected, context, options);
  if (!session.ok())
    return session.status();
  Scores scores;
  auto start = Clock::now();
  for (size_t index = 0; index < plan->windows.size(); ++index) {
    const Window &window = plan->windows[index];
    if (absl::Status status = scoreWindow(**session, *text, window, reference.get(), options, scores); !status.ok())
      return status;
    absl::FPrintF(stderr, "window %d of %d: %d of %d tokens, perplexity %.4f so far\n", index + 1, plan->windows.size(),
                  window.end, text->ids.size(), scores.perplexity());
  }
  double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  Json json = report(**session, options, *plan, *text, scores, seconds);
  if (options.json)
    std::puts(json.dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  else
    print(json);
  if (options.device.stats) {
    absl::FPrintF(stderr, "%d tokens in %.2f s, %.2f tokens/s\n", scores.scored, seconds,
                  static_cast<double>(scores.scored) / seconds);
    printCounters("logits", counters(*selected->device), scores.scored, seconds);
  }
  return absl::OkStatus();
}

} // namespace

void addEval(CLI::App &app, Command &command) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App *sub =
      app.add_subcommand("eval", "Score a text: perplexity, and how far the predictions are from another model's");
  sub->add_option("FILE", options->file, "a .ingot file")->required();
  sub->add_option("--text", options->text, "the text to score, UTF-8, without a chat template")
      ->required()
      ->type_name("TEXT.txt");
  sub->add_option("--against", options->against,
                  "the reference to compare with: a .ingot file of the same vocabulary, or a .safetensors file as "
                  "`ingot logits` writes it for exactly these tokens (see --save-tokens). Prints the KL divergence "
                  "from the reference to this model, in nats, and how often both think the same token likeliest")
      ->type_name("OTHER");
  sub->add_option("--tokens", options->tokens, "score only the first N tokens of the text")
      ->check(CLI::Range(2u, 1u << 30))
      ->type_name("N");
  sub->add_option("--window", options->window,
                  "tokens that the model sees at once (default: 512, or the model's context if that is less)")
      ->check(CLI::Range(2u, 1u << 30))
      ->type_name("N");
  sub->add_option("--stride", options->stride,
                  "tokens from the start of one window to the start of the next (default: half a window). Each token "
                  "is scored once, in the first window that has it")
      ->check(CLI::Range(1u, 1u << 30))
      ->type_name("N");
  sub->add_option("--save-tokens", options->saveTokens,
                  "also write the token ids of the text, as `ingot logits --tokens` reads them")
      ->type_name("IDS.json");
  sub->add_flag("--json", options->json, "print JSON");
  options->device.add(*sub);
  sub->footer("Example: ingot eval model-w8a8.ingot --text book.txt --tokens 2000 --against model-bf16.ingot");
  sub->final_callback([options, &command] {
    options->device.check();
    command.action = [options] { return eval(*options); };
  });
}

} // namespace ingot::cli
