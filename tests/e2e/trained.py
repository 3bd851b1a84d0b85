#!/usr/bin/env python3
"""The small trained Qwen3.6 checkpoints under their recipes: perplexity of a text that they were not trained on, and how far each
recipe's predictions are from those of bf16, as docs/design/quality.md states them.

usage: trained.py BUILD_FOLDER MODEL"""

import json

import support

QUALITY = support.SOURCE / "docs" / "design" / "quality.md"
TEXT = support.SOURCE / "tests" / "goldens" / "held-out.txt"
CALIBRATION = "/usr/share/common-licenses/GPL-3"  # on every Debian machine, and not the text that is scored
TARGET = "gfx1151"
ROWS = {"bf16": ("bf16", []), "w8a8": ("qwen3.6-w8a8", []), "int4": ("qwen3.6-int4", []),
        "int4-calibrated": ("qwen3.6-int4", ["--calibrate", CALIBRATION])}
# Runs of one artifact are equal; another compiler's code adds in another order.
NO_WORSE = {"perplexity": 1.005, "divergence": 1.05}
# Of transformers in fp32 by the same windows (tests/goldens/README.md), and how far bf16 may be from it.
EXACT = {"tiny-qwen3.6": 18.1177, "tiny-qwen3.6-moe": 16.1101}
ROUNDING = 2e-3


def stated(model, row):
    """Perplexity and mean KL as the page states them."""
    for line in QUALITY.read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[:2] == [model, row]:
            return float(cells[3]), float(cells[4])
    raise AssertionError(f"{QUALITY} has no row for {model}, {row}")


def body(session, model):
    reference = session.work / "bf16.ingot"
    for row, (recipe, flags) in ROWS.items():
        artifact = session.work / f"{row}.ingot"
        if not session.compile(support.SOURCE / "models" / "trained" / model, artifact, recipe, targets=(TARGET,), flags=flags,
                               what=f"ingotc compiles {model} as {row}"):
            continue
        done = session.run("ingot", "eval", artifact, "--text", TEXT, "--against", reference, "--json", "--device", "emulator",
                           "--target", TARGET)
        if not session.check(done.returncode == 0, f"ingot eval scores {model} as {row}", done.stderr):
            continue
        found = json.loads(done.stdout)
        perplexity, divergence = found["perplexity"], found["against"]["kl_mean"]
        said = stated(model, row)
        session.check(perplexity <= NO_WORSE["perplexity"] * said[0] and divergence <= NO_WORSE["divergence"] * said[1],
                      f"{model}, {row}: perplexity {perplexity:.4f}, mean KL {divergence:.2e} "
                      f"(docs/design/quality.md says {said[0]:.4f} and {said[1]:.2e})")
        if row == "bf16":
            session.check(abs(perplexity / EXACT[model] - 1) < ROUNDING,
                          f"{model}, {row}: transformers in fp32 have {EXACT[model]:.4f} (within {ROUNDING:.1%})")


support.main("trained", body)
