// A layer's graph as SVG: boxes in rows by how deep they lie, arrows downwards, boxes inside boxes for what is fused.
// Colours and line styles are classes; the page around it has the style sheet. All text is set in a fixed-width font,
// so that boxes can be made to fit without asking a browser.
#pragma once

#include <set>
#include <string>

#include "compiler/layer_graph.h"

namespace ingot {

// `marked` boxes (by key) get the class `mark`. `label` is the drawing's name for who cannot see it.
std::string drawLayer(const LayerGraph &graph, const std::set<std::string> &marked, const std::string &label);

// Text as XML has it.
std::string escapeXml(const std::string &text);

} // namespace ingot
