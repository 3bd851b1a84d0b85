#!/usr/bin/env python3
"""`ingotc --report`: the page is well-formed and complete, needs nothing but itself, counts launches as `ingot inspect` and
--explain-passes do, and draws boxes that neither overlap nor spill their text.

usage: report.py BUILD_FOLDER RECIPE"""

import itertools
import json
import xml.etree.ElementTree as ElementTree

import support

HTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
LETTER = 0.6 * 11  # a fixed-width font's, of the size in the style sheet


def table(page):
    """[(pass, launches of the layer, of the decode step, the text of activations)], from the table of stages."""
    rows = []
    for row in page.iter(f"{HTML}tr"):
        cells = ["".join(cell.itertext()).strip() for cell in row.findall(f"{HTML}td")]
        if cells:
            rows.append((cells[0], int(cells[1]), int(cells[2]), cells[3]))
    return rows


def rectangle(group):
    rect = group.find(f"{SVG}rect")
    x, y, width, height = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def drawing_faults(svg):
    """Boxes that overlap a neighbour, leave their parent or the picture, or are too narrow for a line of text."""
    _, _, width, height = (float(number) for number in svg.get("viewBox").split())
    faults = []

    def visit(parent, bounds):
        boxes = [group for group in parent.findall(f"{SVG}g")]
        for group in boxes:
            left, top, right, bottom = rectangle(group)
            if left < bounds[0] or top < bounds[1] or right > bounds[2] or bottom > bounds[3]:
                faults.append(("outside", group.get("class")))
            for text in group.findall(f"{SVG}text"):
                half = len(text.text) * LETTER / 2
                if float(text.get("x")) - half < left or float(text.get("x")) + half > right:
                    faults.append(("text", text.text))
            visit(group, (left, top, right, bottom))
        for one, other in itertools.combinations(map(rectangle, boxes), 2):
            if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]:
                faults.append(("overlap", one, other))

    visit(svg, (0, 0, width, height))
    return faults


def body(session, recipe):
    checkpoint, artifact = support.SOURCE / "models" / "trained" / "tiny-llama", session.work / "model.ingot"
    path = session.work / "layer.html"
    fusions = session.fusions()

    def report(*flags):
        done = session.run("ingotc", checkpoint, "-o", artifact, f"--recipe={recipe}", "-q", f"--report={path}", *flags)
        session.check(done.returncode == 0, f"{recipe}: ingotc --report {' '.join(flags)}", done.stderr)
        text = path.read_text()
        inspected = json.loads(session.run("ingot", "inspect", artifact, "--json").stdout)
        launches = {program["name"]: program["launches"] for program in inspected["targets"][0]["programs"]}
        return text, ElementTree.fromstring(text), launches["decode_greedy"], done.stdout

    text, page, decode, explained = report("--report-layer=5", "--explain-passes", "--json")
    rows = table(page)
    passes = [row[0] for row in rows]
    rewriting = [entry["pass"] for entry in json.loads(explained)["passes"] if entry["rewritten"]]
    drawn = set(rewriting) & set(fusions)
    session.check(passes[0] == "declare" and passes[-1] == "select" and drawn <= set(passes),
                  f"{recipe}: every pass that rewrote something is a stage", (passes, rewriting))
    sections = [section.get("id") for section in page.iter(f"{HTML}section")]
    session.check(sections == [*passes, "plan-memory"], f"{recipe}: every stage has a section", sections)
    session.check("Layer 5 of tiny-llama" in text, f"{recipe}: --report-layer chooses the layer")
    session.check("<script" not in text and text.count("http") == text.count("http://www.w3.org/"),
                  f"{recipe}: the page has no script and fetches nothing")

    session.check(rows[-1][2] == rows[-2][2] == decode, f"{recipe}: launches of the decode step are those of ingot inspect",
                  (rows[-2:], decode))
    session.check(rows[-1][1] == rows[-2][1] < rows[0][1], f"{recipe}: fusions leave the layer fewer launches", rows)
    layers = json.loads((checkpoint / "config.json").read_text())["num_hidden_layers"]
    steps = [(before[2] - after[2], layers * (before[1] - after[1])) for before, after in zip(rows, rows[1:])]
    # What is beside the layers (the last norm and the head) may change too, but by less than a layer's share.
    session.check(all(abs(whole - ours) < layers for whole, ours in steps),
                  f"{recipe}: layer and decode step change alike from pass to pass", steps)

    pictures = [svg for svg in page.iter(f"{SVG}svg") if svg.get("class") == "layer"]
    elsewhere = [section for section in page.iter(f"{HTML}section")
                 if "This layer stays as it was" in "".join(section.itertext())]
    session.check([section.get("id") for section in elsewhere] == ["fuse-argmax"],
                  f"{recipe}: a pass that changes what is beside the layer says so", len(elsewhere))
    session.check(len(pictures) == 2 * (len(rows) - len(elsewhere)) - 1,
                  f"{recipe}: before and after of each pass, and the declaration", len(pictures))
    faults = [fault for picture in pictures for fault in drawing_faults(picture)]
    session.check(not faults, f"{recipe}: no box overlaps another, leaves its parent or cuts its text", faults[:5])
    fused = [group for group in pictures[-2].iter(f"{SVG}g") if group.findall(f"{SVG}g")]
    session.check(fused, f"{recipe}: what is fused is drawn inside its box")
    marked = [sum("mark" in group.get("class").split() for group in picture.iter(f"{SVG}g")) for picture in pictures[1:-2]]
    session.check(all(before + after for before, after in zip(marked[::2], marked[1::2])),
                  f"{recipe}: each pair of pictures marks what its pass changed", marked)
    names = [text.text for picture in pictures for text in picture.iter(f"{SVG}text") if text.get("class") == "n"]
    session.check(names and not any("layers." in name for name in names), f"{recipe}: names are those within the layer", names)

    _, page, decode, _ = report(*(f"--disable-pass={fusion}" for fusion in fusions))
    rows = table(page)
    session.check([row[0] for row in rows if row[0] in fusions] == [] and rows[-1][2] == rows[-2][2] == decode,
                  f"{recipe}: without fusions too", (rows, decode))

    artifact.unlink()
    for flags, code, message in (
            (["--report-layer=8"], 1, "expected a layer from 0 to 7, got 8"),
            (["--report-layer=-2"], 2, "--report-layer"),
            (["--stop-after=fuse"], 2, "--stop-after")):
        done = session.run("ingotc", checkpoint, "-o", artifact, "-q", f"--report={path}", *flags)
        session.check(done.returncode == code and message in done.stderr and not artifact.exists(),
                      f"{recipe}: {flags[0]} is refused", (done.returncode, done.stderr))
    done = session.run("ingotc", checkpoint, "-o", artifact, "-q", f"--report={session.work / 'none' / 'page.html'}")
    session.check(done.returncode == 1 and "cannot write" in done.stderr, f"{recipe}: a page that cannot be written is an error",
                  done.stderr)


support.main("report", body)
