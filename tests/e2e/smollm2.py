#!/usr/bin/env python3
"""SmolLM2-135M-Instruct, the real model, on both chips: the greedy reply and the likeliest next tokens of a text against
transformers' (fp32), memory while compiling, and the reply as `ingot run` prints it. How far each row's predictions are from
fp32 is what docs/design/quality.md says, or less.

usage: smollm2.py BUILD_FOLDER ROW TARGET MODEL.gguf     (ROW: of docs/design/quality.md)"""

import os
import resource
import sys
import time

import support

GOLDEN = support.SOURCE / "tests" / "goldens" / "smollm2" / "golden.safetensors"
QUALITY = support.SOURCE / "docs" / "design" / "quality.md"
# On every Debian machine, and not the text that is scored.
CALIBRATION = "/usr/share/common-licenses/GPL-3"
HEAD = """name: "int8-head"
rules { pattern: "lm_head.weight" scheme: "int8_g32" }
rules { pattern: "*" scheme: "bf16" }
"""
# Row: recipe, flags of ingotc.
ROWS = {"bf16": ("bf16", []), "int8-head": ("int8-head.textproto", []), "w8a8": ("w8a8", []), "int4": ("int4", []),
        "int4-calibrated": ("int4", ["--calibrate", CALIBRATION])}
# Runs of one artifact are equal; another compiler's code adds in another order, and KL is noisy at its smallest.
NO_WORSE = 1.05
# KL of fp32 from ours, in nats. bf16: of every position. w8a8: of their mean, since int8 activations have outliers.
LIMIT = {"bf16": 1e-3, "w8a8": 2e-2}
LARGEST_TENSOR = 4 * 49152 * 576  # the embedding table, as fp32


def stated(row, target):
    """Mean KL as the page states it."""
    for line in QUALITY.read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[:2] == [row, target]:
            return float(cells[3])
    raise AssertionError(f"{QUALITY} has no row for {row}, {target}")


def body(session, row, target, model):
    recipe, flags = ROWS[row]
    if not os.path.exists(model):
        print(f"skip - {row}, {target}: {model} is not there; tools/scripts/fetch-model gets it")
        sys.exit(77)
    shaped = support.read_safetensors(GOLDEN)
    golden = {name: value for name, (_, value) in shaped.items()}
    artifact = session.work / "smollm2.ingot"
    started = time.monotonic()
    if recipe.endswith(".textproto"):
        recipe = session.work / recipe
        recipe.write_text(HEAD)
    if not session.compile(model, artifact, recipe, targets=(target,), flags=flags):
        return
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    # Calibration holds the model and its activations as fp32; compiling streams it.
    session.check(bool(flags) or peak < LARGEST_TENSOR + (1 << 30), f"compiling took {time.monotonic() - started:.1f} s and at most "
                  f"{peak / 2**20:.0f} MiB (< largest tensor + 1 GiB)")

    text = golden["text_tokens"].tolist()
    rows = session.logits(artifact, text, target)
    if rows is not None:
        values = support.divergences_of_text(shaped, rows)
        mean, worst = sum(values) / len(values), max(values)
        said = stated(row, target)
        session.check(mean <= NO_WORSE * said, f"{row}, {target}: KL over {len(text)} positions: mean {mean:.2e}, largest "
                      f"{worst:.2e} (docs/design/quality.md says {said:.2e})")
        if row in LIMIT:
            held = worst if row == "bf16" else mean
            session.check(held < LIMIT[row], f"{row}, {target}: {'largest' if row == 'bf16' else 'mean'} KL {held:.2e} "
                          f"(limit {LIMIT[row]})")
    if row == "bf16":
        session.greedy_steps(artifact, target, golden, "chat_tokens")
    if row not in LIMIT:
        return

    facts = support.safetensors_header(GOLDEN)[0]["__metadata__"]
    done = session.run("ingot", "run", artifact, "--prompt", facts["question"], "--max-tokens", "24", "--temperature", "0",
                       "--device", "emulator", "--target", target)
    start = facts["reply"][:20]
    session.check(done.returncode == 0 and done.stdout.strip().startswith(start),
                  f"{row}, {target}: ingot run applies the chat template and answers {start!r}", done.stdout + done.stderr)


support.main("smollm2", body)
