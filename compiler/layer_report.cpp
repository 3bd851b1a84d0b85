#include "compiler/layer_report.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "compiler/layer_drawing.h"
#include "dialects/Exec.h"
#include "dialects/Llm.h"

using namespace mlir;

namespace ingot {

namespace {

constexpr const char *kFunction = "decode_greedy";

// Light first, then what dark changes. Kinds that are alike share a colour.
constexpr const char *kStyle = R"(
:root { color-scheme: light dark; --page: #fbfaf7; --ink: #24262b; --soft: #6b6f78; --line: #d9d6cf; --card: #fff;
  --linear: #dbe7f8; --linear-line: #4a74ad; --norm: #dcefdf; --norm-line: #4b8a58; --attention: #e9def4;
  --attention-line: #7d56a3; --rope: #fbe6d0; --rope-line: #b8762c; --math: #f8efc4; --math-line: #998221;
  --other: #ececec; --other-line: #8a8a8a; --arrow: #83878f; --mark: #c4392b; }
@media (prefers-color-scheme: dark) { :root { --page: #17181b; --ink: #e6e6e3; --soft: #9a9da5; --line: #37393f;
  --card: #1f2125; --linear: #23344d; --linear-line: #7ea6dd; --norm: #223b29; --norm-line: #79bb87;
  --attention: #392a4a; --attention-line: #b48fd8; --rope: #483219; --rope-line: #dda35c; --math: #3f3815;
  --math-line: #cdb653; --other: #2c2d31; --other-line: #8f9197; --arrow: #868a93; --mark: #ff7a68; } }
body { margin: 0 auto; max-width: 1240px; padding: 24px 20px 60px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
a { color: inherit; } h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 0; } p { margin: 4px 0; max-width: 80ch; }
.soft { color: var(--soft); } code, .number { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
section { border-top: 1px solid var(--line); margin-top: 30px; padding-top: 18px; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 20px; margin-top: 12px; }
.pair.one { grid-template-columns: minmax(0, 1fr); }
@media (max-width: 860px) { .pair { grid-template-columns: minmax(0, 1fr); } }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 10px; }
figcaption { color: var(--soft); font-size: 13px; margin-bottom: 6px; }
svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
table { border-collapse: collapse; margin-top: 14px; } th { font-weight: 600; text-align: left; font-size: 13px; }
td, th { padding: 3px 16px 3px 0; border-bottom: 1px solid var(--line); vertical-align: middle; }
th.number { font-family: inherit; } td.number, th.number { text-align: right; } td svg { display: inline-block; vertical-align: middle; margin: 0 0 0 8px; }
svg text { font: 11px ui-monospace, "DejaVu Sans Mono", "Liberation Mono", monospace; text-anchor: middle;
  fill: var(--ink); } svg .t { font-weight: 700; } svg .d { fill: var(--soft); } svg .left { text-anchor: start; }
.b > rect { fill: var(--other); stroke: var(--other-line); stroke-width: 1; }
.linear > rect, .product > rect { fill: var(--linear); stroke: var(--linear-line); }
.product > rect { fill: var(--card); }
.rms_norm > rect, .quantize > rect, .rms_norm_quantize > rect { fill: var(--norm); stroke: var(--norm-line); }
.attention > rect, .append > rect, .heads > rect, .short_conv > rect, .delta_rule > rect { fill: var(--attention); stroke: var(--attention-line); }
.rope > rect, .gather_columns > rect { fill: var(--rope); stroke: var(--rope-line); }
.add > rect, .gated_mul > rect, .softcap > rect { fill: var(--math); stroke: var(--math-line); }
.outside > rect { fill: none; stroke: var(--soft); stroke-dasharray: 3 3; }
.mark > rect { stroke: var(--mark); stroke-width: 2.5; } .before .mark > rect { stroke-dasharray: 6 4; }
.a { fill: none; stroke: var(--arrow); stroke-width: 1.4; } .cache { stroke: var(--attention-line);
  stroke-dasharray: 2 4; stroke-width: 1.8; } .bar { fill: var(--linear-line); }
.legend { display: flex; flex-wrap: wrap; gap: 6px 18px; margin: 14px 0 0; padding: 0; list-style: none; font-size: 13px; }
.legend svg { display: inline-block; vertical-align: -2px; margin: 0 6px 0 0; }
)";

struct Colour {
  const char *kind, *words;
};
constexpr Colour kLegend[] = {{"linear", "matrix product"},     {"rms_norm", "norm, quantisation"},
                              {"rope", "rotation, reordering"}, {"attention", "attention, caches, states"},
                              {"add", "sums and gates"},        {"outside", "other layers"}};

std::set<std::string> keysOf(const LayerGraph &graph) {
  std::set<std::string> keys;
  for (const LayerBox &box : graph.boxes)
    keys.insert(box.key());
  return keys;
}

// Boxes of `graph` that `other` has not.
std::set<std::string> onlyIn(const LayerGraph &graph, const LayerGraph &other) {
  std::set<std::string> mine = keysOf(graph), others = keysOf(other), only;
  std::set_difference(mine.begin(), mine.end(), others.begin(), others.end(), std::inserter(only, only.end()));
  for (const LayerBox &box : graph.boxes)
    if (box.kind == "outside")
      only.erase(box.key());
  return only;
}

struct Sums {
  uint64_t launches = 0, activations = 0, cache = 0;
};
Sums sumsOf(const LayerGraph &graph) {
  Sums sums;
  for (const LayerBox &box : graph.boxes) {
    sums.launches += box.launches;
    sums.activations += box.activationBytes;
    sums.cache += box.cacheBytes;
  }
  return sums;
}

std::string signature(const LayerGraph &graph) {
  std::string text;
  for (const LayerBox &box : graph.boxes)
    absl::StrAppend(&text, box.key(), "\n");
  return text;
}

std::string figure(const LayerGraph &graph, const std::set<std::string> &marked, const char *when,
                   const std::string &caption) {
  return absl::StrCat("<figure class=\"", when, "\"><figcaption>", escapeXml(caption), "</figcaption>\n",
                      drawLayer(graph, marked, caption), "</figure>\n");
}

std::string launchesInWords(uint64_t count) { return count == 1 ? "1 launch" : absl::StrCat(count, " launches"); }

} // namespace

void LayerReport::record(ModuleOp module, const std::string &pass, const std::string &summary) {
  if (!problem.empty())
    return;
  if (stages.empty()) {
    llm::Facts facts = llm::Facts::of(module);
    model = facts.name;
    layers = facts.layers;
    if (layer < 0)
      layer = layers / 2;
    if (layer >= layers) {
      problem = absl::StrCat("--report-layer: expected a layer from 0 to ", layers - 1, ", got ", layer);
      return;
    }
  }
  LayerState state = layerOf(module, kFunction, layer);
  if (state.graph.boxes.empty()) {
    problem = absl::StrCat("--report: nothing of function '", kFunction, "' belongs to layer ", layer, " after ", pass);
    return;
  }
  if (state.lowered && stages.back().state.lowered) {
    // Launches stay as they are; what moves are their buffers.
    recordPlan(module);
    return;
  }
  const bool same = !stages.empty() && signature(stages.back().state.graph) == signature(state.graph);
  if (same && stages.back().state.launchesOfProgram == state.launchesOfProgram) {
    idle.push_back(pass);
    return;
  }
  bool schemes = state.lowered;
  for (const LayerBox &box : state.graph.boxes)
    for (const std::string &name : box.weights)
      if (auto weight = module.lookupSymbol<llm::WeightOp>(name))
        schemes |= weight.getScheme().has_value();
  if (state.lowered)
    target = (*module.getOps<exec::TargetOp>().begin()).getSymName().str();
  stages.push_back({pass, summary, std::move(state), schemes, same});
}

// The same launches with the arena's offsets in the place of buffers of their own.
void LayerReport::recordPlan(ModuleOp module) {
  const std::vector<ScratchUse> &before = stages.back().state.scratch;
  std::vector<ScratchUse> after = layerOf(module, kFunction, layer).scratch;
  if (before.size() != after.size())
    return;
  std::map<std::string, Life> byBuffer;
  const std::vector<LayerBox> &boxes = stages.back().state.graph.boxes;
  auto launch = [&](unsigned box) { // counts launches only
    return static_cast<unsigned>(
        std::count_if(boxes.begin(), boxes.begin() + box, [](const LayerBox &b) { return b.launches > 0; }));
  };
  for (size_t i = 0; i < before.size(); ++i) {
    auto [life, isNew] = byBuffer.try_emplace(
        before[i].buffer, Life{launch(before[i].box), launch(before[i].box), after[i].offset, before[i].bytes});
    life->second.last = launch(before[i].box);
  }
  lives.clear();
  for (auto &[name, life] : byBuffer)
    lives.push_back(life);
}

uint64_t LayerReport::weightBytes(const Stage &stage, const std::map<std::string, uint64_t> &packed) const {
  uint64_t bytes = 0;
  std::set<std::string> counted;
  for (const LayerBox &box : stage.state.graph.boxes)
    for (const std::string &name : box.weights)
      if (auto weight = packed.find(name); weight != packed.end() && counted.insert(name).second)
        bytes += weight->second;
  return bytes;
}

std::string LayerReport::table(const std::map<std::string, uint64_t> &packed) const {
  std::string html = "<table id=\"stages\"><thead><tr><th>after</th><th>launches, this layer</th><th "
                     "class=\"number\">whole decode step</th><th>activations written, this layer</th><th "
                     "class=\"number\">weights read</th></tr></thead><tbody>\n";
  uint64_t mostLaunches = 1, mostBytes = 1;
  for (const Stage &stage : stages) {
    mostLaunches = std::max(mostLaunches, sumsOf(stage.state.graph).launches);
    if (!stage.state.lowered)
      mostBytes = std::max(mostBytes, sumsOf(stage.state.graph).activations);
  }
  auto bar = [](uint64_t value, uint64_t most) {
    double width = 150.0 * static_cast<double>(value) / static_cast<double>(most);
    return absl::StrFormat("<svg width=\"150\" height=\"10\" aria-hidden=\"true\"><rect class=\"bar\" width=\"%.1f\" "
                           "height=\"10\" rx=\"2\"/></svg>",
                           width);
  };
  for (const Stage &stage : stages) {
    Sums sums = sumsOf(stage.state.graph);
    absl::StrAppendFormat(&html,
                          "<tr><td><a href=\"#%s\"><code>%s</code></a></td><td class=\"number\">%2d%s</td><td "
                          "class=\"number\">%d</td><td class=\"number\">%s%s</td><td class=\"number\">%s</td></tr>\n",
                          escapeXml(stage.pass), escapeXml(stage.pass), sums.launches, bar(sums.launches, mostLaunches),
                          stage.state.launchesOfProgram, bytesInWords(sums.activations),
                          stage.state.lowered ? " of buffers" : bar(sums.activations, mostBytes),
                          stage.hasSchemes ? bytesInWords(weightBytes(stage, packed)) : "no scheme yet");
  }
  return html + "</tbody></table>\n";
}

std::string LayerReport::arena() const {
  if (lives.empty())
    return {};
  constexpr double kLeft = 250, kRow = 22, kWide = 900;
  const std::vector<LayerBox> &boxes = stages.back().state.graph.boxes;
  uint64_t end = 1;
  for (const Life &life : lives)
    end = std::max(end, static_cast<uint64_t>(life.offset) + life.bytes);
  std::string svg;
  unsigned row = 0;
  for (const LayerBox &box : boxes) {
    if (box.launches == 0)
      continue;
    absl::StrAppendFormat(&svg,
                          "<text class=\"left\" x=\"4\" y=\"%.1f\">%s</text><path class=\"a\" d=\"M%.1f %.1fH%.1f\" "
                          "opacity=\"0.25\"/>\n",
                          30 + row * kRow, escapeXml(box.name.substr(0, 34)), kLeft, 38 + row * kRow, kLeft + kWide);
    ++row;
  }
  for (const Life &life : lives) {
    double x = kLeft + kWide * static_cast<double>(life.offset) / static_cast<double>(end);
    double w = std::max(2.0, kWide * static_cast<double>(life.bytes) / static_cast<double>(end));
    double y = 18 + life.first * kRow, h = (life.last - life.first + 1) * kRow - 4;
    absl::StrAppendFormat(
        &svg, "<g class=\"b add\"><rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"3\"/>", x, y, w, h);
    std::string bytes = bytesInWords(life.bytes);
    if (w > 7.0 * static_cast<double>(bytes.size()))
      absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\">%s</text>", x + w / 2, y + h / 2 + 4, bytes);
    absl::StrAppendFormat(&svg, "<title>%s at %d</title></g>\n", bytes, life.offset);
  }
  double height = 30 + row * kRow;
  return absl::StrFormat(
      "<section id=\"plan-memory\"><h2><code>plan-memory</code></h2><p>Where the scratch buffers that this layer "
      "touches "
      "lie in the arena, from left to right, and from which launch to which they live, from top to bottom. The arena "
      "is "
      "%s wide here.</p><figure><svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 %.0f %.0f\" "
      "width=\"%.0f\"><title>scratch memory over time</title>\n%s</svg></figure></section>\n",
      bytesInWords(end), kLeft + kWide + 8, height, kLeft + kWide + 8, svg);
}

std::string LayerReport::page(ModuleOp module, const std::string &recipe) const {
  std::map<std::string, uint64_t> packed;
  for (auto weight : module.getOps<exec::WeightOp>())
    packed[weight.getSymName().str()] = static_cast<uint64_t>(weight.getBytes());
  Sums first = sumsOf(stages.front().state.graph), last = sumsOf(stages.back().state.graph);

  std::string title = absl::StrCat("Layer ", layer, " of ", model);
  std::string html = absl::StrCat(
      "<!DOCTYPE html>\n<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\"><head><meta charset=\"utf-8\"/>"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>",
      escapeXml(title), "</title>\n<style>/*<![CDATA[*/", kStyle, "/*]]>*/</style></head><body>\n");
  absl::StrAppend(&html, "<header><h1>", escapeXml(title), "</h1><p class=\"soft\">",
                  layers == 1 ? "its only layer" : absl::StrCat("one of layers 0 to ", layers - 1),
                  "; decode of one token, recipe <code>", escapeXml(recipe), "</code>, launches for <code>",
                  escapeXml(target), "</code></p>\n<p>", launchesInWords(first.launches), " as declared, ",
                  last.launches, " as launched.</p>\n");
  html += table(packed);
  html +=
      "<p class=\"soft\">Launches of ops are those that <code>select</code> would make of them. Weights are as packed. "
      "Activations are modelled: what the results' types take as stored, rows padded to 64 elements; after "
      "<code>select</code> the buffers written, rounded up to 256 bytes, with attention's partial results at their "
      "most. Nothing here is measured.</p>\n<ul class=\"legend\">";
  for (const Colour &colour : kLegend)
    absl::StrAppend(&html, "<li><svg width=\"22\" height=\"14\" aria-hidden=\"true\"><g class=\"b ", colour.kind,
                    "\"><rect x=\"1\" y=\"1\" width=\"20\" height=\"12\" rx=\"3\"/></g></svg>", colour.words, "</li>");
  html +=
      "<li><svg width=\"26\" height=\"14\" aria-hidden=\"true\"><path class=\"a cache\" d=\"M1 7H25\"/></svg>through "
      "the "
      "cache</li><li><svg width=\"22\" height=\"14\" aria-hidden=\"true\"><g class=\"b mark\"><rect x=\"2\" y=\"2\" "
      "width=\"18\" height=\"10\" rx=\"3\"/></g></svg>changed by the pass</li></ul></header>\n";

  for (size_t i = 0; i < stages.size(); ++i) {
    const Stage &stage = stages[i];
    Sums sums = sumsOf(stage.state.graph);
    absl::StrAppend(&html, "<section class=\"stage\" id=\"", escapeXml(stage.pass), "\"><h2><code>",
                    escapeXml(stage.pass), "</code></h2><p>", escapeXml(stage.summary), ".</p>\n");
    if (i == 0) {
      absl::StrAppend(&html, "<div class=\"pair one\">",
                      figure(stage.state.graph, {}, "after",
                             absl::StrCat(launchesInWords(sums.launches), ", ", bytesInWords(sums.activations),
                                          " of activations written, ", bytesInWords(sums.cache), " to the cache")),
                      "</div></section>\n");
      continue;
    }
    if (stage.elsewhere) {
      absl::StrAppend(&html, "<p>This layer stays as it was; the whole step has ",
                      launchesInWords(stage.state.launchesOfProgram), " instead of ",
                      stages[i - 1].state.launchesOfProgram, ".</p></section>\n");
      continue;
    }
    const LayerGraph &before = stages[i - 1].state.graph, &after = stage.state.graph;
    Sums was = sumsOf(before);
    // From ops to launches everything changes; marks would say nothing.
    bool lowering = stage.state.lowered;
    absl::StrAppend(&html, "<div class=\"pair\">",
                    figure(before, lowering ? std::set<std::string>() : onlyIn(before, after), "before",
                           absl::StrCat("before: ", launchesInWords(was.launches), ", ", bytesInWords(was.activations),
                                        " of activations written")),
                    figure(after, lowering ? std::set<std::string>() : onlyIn(after, before), "after",
                           absl::StrCat("after: ", launchesInWords(sums.launches), ", ", bytesInWords(sums.activations),
                                        lowering ? " of buffers written" : " of activations written")),
                    "</div></section>\n");
  }
  html += arena();
  if (!idle.empty())
    absl::StrAppend(&html, "<p class=\"soft\">Passes that left this layer as it was: <code>",
                    absl::StrJoin(idle, "</code>, <code>"), "</code>.</p>\n");
  return html + "</body></html>\n";
}

} // namespace ingot
