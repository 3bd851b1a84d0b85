// The layout is Sugiyama's: boxes get a rank by the longest path to them, arrows that pass over ranks get a bend in
// each, an order within the ranks comes from averages of neighbours, and so do places, with as little shifting as keeps
// boxes apart (pool adjacent violators: the least-squares answer).
#include "compiler/layer_drawing.h"

#include <algorithm>
#include <memory>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace ingot {

std::string escapeXml(const std::string &text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

namespace {

// Pixels. Letters of a fixed-width font are 0.6 of its size wide, or a little more.
constexpr double kFont = 11, kLetter = 6.9, kLine = 14, kPadding = 8, kBetween = 16, kBetweenRanks = 26, kBend = 10,
                 kBendBetween = 8;
constexpr size_t kLongest = 34; // characters of a line; longer ones are cut at an underscore or a plus

// Characters, not bytes.
size_t lengthOf(const std::string &text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

std::vector<std::string> wrapped(std::string text) {
  std::vector<std::string> lines;
  while (lengthOf(text) > kLongest) {
    size_t cut = text.find_last_of("_+ ", kLongest - 1);
    cut = cut == std::string::npos || cut < kLongest / 2 ? kLongest : cut + 1;
    lines.push_back(text.substr(0, cut));
    text.erase(0, cut);
  }
  lines.push_back(text);
  return lines;
}

struct Line {
  std::string text;
  const char *style;
};

std::vector<Line> linesOf(const LayerBox &box) {
  std::vector<Line> lines;
  for (const std::string &line : wrapped(box.title))
    lines.push_back({line, "t"});
  if (!box.name.empty())
    for (const std::string &line : wrapped(box.name))
      lines.push_back({line, "n"});
  for (const std::string &detail : box.details)
    lines.push_back({detail, "d"});
  std::string moved = box.result;
  auto add = [&](const std::string &what) { absl::StrAppend(&moved, moved.empty() ? "" : ", ", what); };
  if (box.activationBytes > 0)
    add(bytesInWords(box.activationBytes));
  if (box.cacheBytes > 0)
    add(bytesInWords(box.cacheBytes) + " to cache");
  if (!moved.empty())
    lines.push_back({moved, "d"});
  return lines;
}

// A box, or a bend of an arrow.
struct Node {
  int box = -1; // -1: a bend
  unsigned rank = 0;
  double width = kBend, height = 0, x = 0, y = 0; // x, y: the middle of the top
  std::vector<unsigned> above, below;             // neighbours, and the routes to them
  std::vector<unsigned> routesAbove, routesBelow;
};

struct Route {
  std::vector<unsigned> nodes; // from box, bends, to box
  bool cache = false;
};

class Layout {
public:
  explicit Layout(const LayerGraph &graph) : graph(graph) {
    for (const LayerBox &box : graph.boxes)
      inner.emplace_back(box.parts.boxes.empty() ? nullptr : std::make_unique<Layout>(box.parts));
    makeNodes();
    orderRanks();
    place();
  }

  double width = 0, height = 0;

  void draw(std::string &svg, double left, double top, const std::set<std::string> &marked) const {
    for (unsigned route = 0; route < routes.size(); ++route)
      drawRoute(svg, route, left, top);
    for (const Node &node : nodes)
      if (node.box >= 0)
        drawBox(svg, node, left, top, marked);
  }

private:
  void makeNodes() {
    std::vector<unsigned> rank(graph.boxes.size(), 0);
    for (unsigned i = 0; i < graph.boxes.size(); ++i)
      for (const LayerGraph::Arrow &arrow : graph.arrows)
        if (arrow.to == i)
          rank[i] = std::max(rank[i], rank[arrow.from] + 1);
    // What comes from outside stands just above its first reader.
    for (unsigned i = 0; i < graph.boxes.size(); ++i) {
      unsigned first = ~0U;
      for (const LayerGraph::Arrow &arrow : graph.arrows)
        if (arrow.from == i)
          first = std::min(first, rank[arrow.to]);
      if (rank[i] == 0 && first != ~0U && graph.boxes[i].kind == "outside")
        rank[i] = first - 1;
    }
    for (unsigned i = 0; i < graph.boxes.size(); ++i) {
      Node node;
      node.box = static_cast<int>(i);
      node.rank = rank[i];
      size_t longest = 0;
      std::vector<Line> lines = linesOf(graph.boxes[i]);
      for (const Line &line : lines)
        longest = std::max(longest, lengthOf(line.text));
      node.width = static_cast<double>(longest) * kLetter + 2 * kPadding;
      node.height = static_cast<double>(lines.size()) * kLine + kPadding;
      if (inner[i]) {
        node.width = std::max(node.width, inner[i]->width + 2 * kPadding);
        node.height += inner[i]->height + kPadding;
      }
      nodes.push_back(node);
    }
    for (const LayerGraph::Arrow &arrow : graph.arrows) {
      Route route{.nodes = {arrow.from}, .cache = arrow.cache};
      for (unsigned r = rank[arrow.from] + 1; r < rank[arrow.to]; ++r) {
        route.nodes.push_back(nodes.size());
        nodes.emplace_back().rank = r;
      }
      route.nodes.push_back(arrow.to);
      for (size_t i = 0; i + 1 < route.nodes.size(); ++i) {
        Node &upper = nodes[route.nodes[i]], &lower = nodes[route.nodes[i + 1]];
        upper.below.push_back(route.nodes[i + 1]);
        upper.routesBelow.push_back(routes.size());
        lower.above.push_back(route.nodes[i]);
        lower.routesAbove.push_back(routes.size());
      }
      routes.push_back(std::move(route));
    }
    for (unsigned i = 0; i < nodes.size(); ++i) {
      ranks.resize(std::max<size_t>(ranks.size(), nodes[i].rank + 1));
      ranks[nodes[i].rank].push_back(i);
    }
  }

  unsigned crossings() const {
    unsigned count = 0;
    for (const std::vector<unsigned> &rank : ranks)
      for (size_t a = 0; a < rank.size(); ++a)
        for (size_t b = a + 1; b < rank.size(); ++b)
          for (unsigned left : nodes[rank[a]].below)
            for (unsigned right : nodes[rank[b]].below)
              count += nodes[left].x > nodes[right].x;
    return count;
  }

  // x counts places within the rank here.
  void number() {
    for (const std::vector<unsigned> &rank : ranks)
      for (size_t i = 0; i < rank.size(); ++i)
        nodes[rank[i]].x = static_cast<double>(i);
  }

  double average(const std::vector<unsigned> &of, double otherwise) const {
    if (of.empty())
      return otherwise;
    double sum = 0;
    for (unsigned node : of)
      sum += nodes[node].x;
    return sum / static_cast<double>(of.size());
  }

  void orderRanks() {
    number();
    std::vector<std::vector<unsigned>> best = ranks;
    unsigned fewest = crossings();
    for (unsigned sweep = 0; sweep < 12 && fewest > 0; ++sweep) {
      for (size_t step = 0; step < ranks.size(); ++step) {
        std::vector<unsigned> &rank = ranks[sweep % 2 == 0 ? step : ranks.size() - 1 - step];
        std::vector<double> wanted(nodes.size());
        for (unsigned node : rank)
          wanted[node] = average(sweep % 2 == 0 ? nodes[node].above : nodes[node].below, nodes[node].x);
        std::sort(rank.begin(), rank.end(), [&](unsigned a, unsigned b) {
          return std::pair(wanted[a], nodes[a].x) < std::pair(wanted[b], nodes[b].x);
        });
        for (size_t i = 0; i < rank.size(); ++i)
          nodes[rank[i]].x = static_cast<double>(i);
      }
      if (unsigned now = crossings(); now < fewest) {
        fewest = now;
        best = ranks;
      }
    }
    ranks = best;
  }

  double gap(unsigned a, unsigned b) const {
    return (nodes[a].width + nodes[b].width) / 2 + (nodes[a].box < 0 || nodes[b].box < 0 ? kBendBetween : kBetween);
  }

  // Moves the boxes of a rank as near as can be to where they want to be, in their order and apart, with room for the
  // bends between them.
  void spread(const std::vector<unsigned> &rank, const std::vector<double> &wanted) {
    struct Pool {
      double sum;
      unsigned count;
      double place() const { return sum / count; }
    };
    std::vector<Pool> pools;
    std::vector<double> offset(nodes.size(), 0);
    for (size_t i = 0; i < rank.size(); ++i) {
      if (i > 0)
        offset[rank[i]] = offset[rank[i - 1]] + gap(rank[i - 1], rank[i]);
      if (nodes[rank[i]].box < 0)
        continue;
      pools.push_back({wanted[rank[i]] - offset[rank[i]], 1});
      while (pools.size() > 1 && pools[pools.size() - 2].place() > pools.back().place()) {
        Pool last = pools.back();
        pools.pop_back();
        pools.back().sum += last.sum;
        pools.back().count += last.count;
      }
    }
    size_t pool = 0;
    unsigned taken = 0;
    for (unsigned node : rank) {
      if (nodes[node].box < 0)
        continue;
      if (taken == pools[pool].count) {
        ++pool;
        taken = 0;
      }
      nodes[node].x = pools[pool].place() + offset[node];
      ++taken;
    }
  }

  // A box stands between the boxes that it has arrows from (and to) in the next ranks, or in any, where there are none.
  double wantedPlace(unsigned node, bool below) const {
    std::vector<unsigned> near, far;
    auto add = [&](unsigned route) {
      const std::vector<unsigned> &path = routes[route].nodes;
      (path.size() == 2 ? near : far).push_back(path.front() == node ? path.back() : path.front());
    };
    for (unsigned route : nodes[node].routesAbove)
      add(route);
    if (below || nodes[node].routesAbove.empty())
      for (unsigned route : nodes[node].routesBelow)
        add(route);
    return average(near.empty() ? far : near, nodes[node].x);
  }

  // Bends beside the boxes of their rank, packed: those before the first box to its left, the others to the right.
  void placeBends() {
    for (const std::vector<unsigned> &rank : ranks) {
      auto isBox = [&](unsigned node) { return nodes[node].box >= 0; };
      auto box = std::find_if(rank.begin(), rank.end(), isBox);
      for (auto at = box; at != rank.begin() && box != rank.end(); --at)
        nodes[at[-1]].x = nodes[*at].x - gap(at[-1], *at);
      for (auto at = box == rank.end() ? rank.begin() + 1 : box + 1; at != rank.end(); ++at)
        if (!isBox(*at))
          nodes[*at].x = nodes[at[-1]].x + gap(at[-1], *at);
    }
  }

  // The bends of an arrow in one line, as near to its ends as what stands beside them leaves room; each for itself
  // where no line has room.
  void straighten(const Route &route) {
    const double wanted = (nodes[route.nodes.front()].x + nodes[route.nodes.back()].x) / 2;
    std::vector<std::pair<double, double>> room;
    double least = -1e9, most = 1e9;
    for (size_t i = 1; i + 1 < route.nodes.size(); ++i) {
      const std::vector<unsigned> &rank = ranks[nodes[route.nodes[i]].rank];
      auto at = std::find(rank.begin(), rank.end(), route.nodes[i]);
      room.emplace_back(at == rank.begin() ? -1e9 : nodes[at[-1]].x + gap(at[-1], *at),
                        at + 1 == rank.end() ? 1e9 : nodes[at[1]].x - gap(*at, at[1]));
      least = std::max(least, room.back().first);
      most = std::min(most, room.back().second);
    }
    for (size_t i = 0; i < room.size(); ++i) {
      auto [low, high] = least <= most ? std::pair(least, most) : room[i];
      nodes[route.nodes[i + 1]].x = std::max(low, std::min(high, wanted));
    }
  }

  void place() {
    for (const std::vector<unsigned> &rank : ranks)
      spread(rank, std::vector<double>(nodes.size(), 0));
    // Down and up in turn, so that what is wide has its say; at last down, each box below what leads to it: a long
    // chain would take forever to become straight.
    constexpr unsigned kSweeps = 41;
    for (unsigned sweep = 0; sweep < kSweeps; ++sweep)
      for (size_t step = 0; step < ranks.size(); ++step) {
        const std::vector<unsigned> &rank = ranks[sweep % 2 == 0 ? step : ranks.size() - 1 - step];
        std::vector<double> wanted(nodes.size());
        for (unsigned node : rank)
          wanted[node] = wantedPlace(node, sweep + 1 < kSweeps);
        spread(rank, wanted);
      }
    placeBends();
    for (unsigned sweep = 0; sweep < 8; ++sweep)
      for (const Route &route : routes)
        straighten(route);
    double left = 1e9, right = -1e9, y = 0; // the whole may have wandered to either side
    for (const Node &node : nodes) {
      left = std::min(left, node.x - node.width / 2);
      right = std::max(right, node.x + node.width / 2);
    }
    for (Node &node : nodes)
      node.x -= left;
    width = right - left;
    for (size_t r = 0; r < ranks.size(); ++r) {
      double tallest = 0;
      for (unsigned node : ranks[r])
        tallest = std::max(tallest, nodes[node].height);
      for (unsigned node : ranks[r]) {
        // A bend runs straight past the boxes beside it.
        nodes[node].y = nodes[node].box < 0 ? y : y + (tallest - nodes[node].height) / 2;
        if (nodes[node].box < 0)
          nodes[node].height = tallest;
      }
      y += tallest + kBetweenRanks;
    }
    height = ranks.empty() ? 0 : y - kBetweenRanks;
  }

  // Where a route meets a node: spread over the middle of its edge, in the order of the far ends.
  double port(const Node &node, unsigned route, bool below) const {
    if (node.box < 0)
      return node.x;
    const std::vector<unsigned> &far = below ? node.below : node.above,
                                &ids = below ? node.routesBelow : node.routesAbove;
    std::vector<size_t> order(far.size());
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::pair(nodes[far[a]].x, a) < std::pair(nodes[far[b]].x, b); });
    double at = 0;
    while (ids[order[static_cast<size_t>(at)]] != route)
      ++at;
    double step = std::min(18.0, node.width / static_cast<double>(far.size() + 1));
    return node.x + (at - static_cast<double>(far.size() - 1) / 2) * step;
  }

  void drawRoute(std::string &svg, unsigned index, double left, double top) const {
    const Route &route = routes[index];
    std::string path;
    for (size_t i = 0; i + 1 < route.nodes.size(); ++i) {
      const Node &a = nodes[route.nodes[i]], &b = nodes[route.nodes[i + 1]];
      double x0 = left + port(a, index, true), y0 = top + a.y + a.height;
      double x1 = left + port(b, index, false), y1 = top + b.y;
      double middle = (y0 + y1) / 2;
      absl::StrAppendFormat(&path, "%s%.1f %.1fC%.1f %.1f %.1f %.1f %.1f %.1f", i == 0 ? "M" : "L", x0, y0, x0, middle,
                            x1, middle, x1, y1);
    }
    absl::StrAppendFormat(&svg, "<path class=\"a%s\" d=\"%s\"/>\n", route.cache ? " cache" : "", path);
  }

  void drawBox(std::string &svg, const Node &node, double left, double top, const std::set<std::string> &marked) const {
    const LayerBox &box = graph.boxes[static_cast<size_t>(node.box)];
    const double x = left + node.x - node.width / 2, y = top + node.y;
    absl::StrAppendFormat(&svg, "<g class=\"b %s%s\">", escapeXml(box.kind), marked.contains(box.key()) ? " mark" : "");
    absl::StrAppendFormat(&svg, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" rx=\"%d\"/>", x, y,
                          node.width, node.height, box.kind == "outside" ? 12 : 4);
    double baseline = y + kPadding / 2 + kFont;
    for (const Line &line : linesOf(box)) {
      absl::StrAppendFormat(&svg, "<text class=\"%s\" x=\"%.1f\" y=\"%.1f\">%s</text>", line.style, left + node.x,
                            baseline, escapeXml(line.text));
      baseline += kLine;
    }
    if (const Layout *layout = inner[static_cast<size_t>(node.box)].get())
      layout->draw(svg, left + node.x - layout->width / 2, baseline - kFont + kPadding / 2, marked);
    svg += "</g>\n";
  }

  const LayerGraph &graph;
  std::vector<std::unique_ptr<Layout>> inner; // of each box; null where nothing is in it
  std::vector<Node> nodes;
  std::vector<Route> routes;
  std::vector<std::vector<unsigned>> ranks; // nodes, left to right
};

} // namespace

std::string drawLayer(const LayerGraph &graph, const std::set<std::string> &marked, const std::string &label) {
  constexpr double kMargin = 8;
  Layout layout(graph);
  const double width = layout.width + 2 * kMargin, height = layout.height + 2 * kMargin;
  std::string svg =
      absl::StrFormat("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"layer\" role=\"img\" viewBox=\"0 0 "
                      "%.1f %.1f\" width=\"%.0f\"><title>%s</title>\n",
                      width, height, width, escapeXml(label));
  layout.draw(svg, kMargin, kMargin, marked);
  return svg + "</svg>\n";
}

} // namespace ingot
