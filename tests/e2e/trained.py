#!/usr/bin/env python3
"""The small trained checkpoints under their recipes: perplexity of a text that they were not trained on, and how far each
recipe's predictions are from those of bf16, as docs/design/quality.md states them.

usage: trained.py BUILD_FOLDER MODEL"""

import json

import support

QUALITY = support.SOURCE / "docs" / "design" / "quality.md"
TEXT = support.SOURCE / "tests" / "goldens" / "held-out.txt"
CALIBRATION = "/usr/share/common-licenses/GPL-3"  # on every Debian machine, and not the text that is scored
TARGET = "gfx1151"
# By model: the recipes of its int8 and its int4 rows, and the perplexity of transformers in fp32 by the same windows
# (models/trained/README.md).
MODELS = {"tiny-qwen3.6": ("qwen3.6-w8a8", "qwen3.6-int4", 18.1177),
          "tiny-qwen3.6-moe": ("qwen3.6-w8a8", "qwen3.6-int4", 16.1101),
          "tiny-ministral3": ("w8a8", "mistral-int4", 23.4646),
          "tiny-gemma4-moe": ("w8a8", "gemma-int4", 16.6746)}
# Further rows of a model: name, recipe, flags, chip.
MORE = {"tiny-qwen3.6": [("int8-cache", "bf16", ["--kv-cache=int8"], TARGET)],
        "tiny-ministral3": [("int8-cache", "bf16", ["--kv-cache=int8"], TARGET), ("fp8", "mistral-fp8", [], "gfx1201")],
        "tiny-gemma4-moe": [("int8-cache", "bf16", ["--kv-cache=int8"], TARGET)]}
# Runs of one artifact are equal; another compiler's code adds in another order.
NO_WORSE = {"perplexity": 1.005, "divergence": 1.05}
ROUNDING = 2e-3  # how far bf16 may be from fp32


def stated(model, row):
    """Perplexity and mean KL as the page states them."""
    for line in QUALITY.read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[:2] == [model, row]:
            return float(cells[3]), float(cells[4])
    raise AssertionError(f"{QUALITY} has no row for {model}, {row}")


def body(session, model):
    reference = session.work / "bf16.ingot"
    int8, int4, exact = MODELS[model]
    for row, recipe, flags, target in [("bf16", "bf16", [], TARGET), ("w8a8", int8, [], TARGET), ("int4", int4, [], TARGET),
                                       ("int4-calibrated", int4, ["--calibrate", CALIBRATION], TARGET),
                                       *MORE.get(model, [])]:
        artifact = session.work / f"{row}.ingot"
        # What others are compared with runs on their chips too.
        targets = support.TARGETS if artifact == reference else (target,)
        if not session.compile(support.SOURCE / "models" / "trained" / model, artifact, recipe, targets=targets, flags=flags,
                               what=f"ingotc compiles {model} as {row}"):
            continue
        done = session.run("ingot", "eval", artifact, "--text", TEXT, "--against", reference, "--json", "--device", "emulator",
                           "--target", target)
        if not session.check(done.returncode == 0, f"ingot eval scores {model} as {row}", done.stderr):
            continue
        found = json.loads(done.stdout)
        perplexity, divergence = found["perplexity"], found["against"]["kl_mean"]
        said = stated(model, row)
        session.check(perplexity <= NO_WORSE["perplexity"] * said[0] and divergence <= NO_WORSE["divergence"] * said[1],
                      f"{model}, {row}: perplexity {perplexity:.4f}, mean KL {divergence:.2e} "
                      f"(docs/design/quality.md says {said[0]:.4f} and {said[1]:.2e})")
        if row == "bf16":
            session.check(abs(perplexity / exact - 1) < ROUNDING,
                          f"{model}, {row}: transformers in fp32 have {exact:.4f} (within {ROUNDING:.1%})")


support.main("trained", body)
