#!/usr/bin/env python3
"""Gemma 3 270M, the real base model, on one chip: the likeliest next tokens of a text against transformers' (fp32, of the same
dequantised weights), as near as docs/design/quality.md says, or nearer; and of bf16 what it makes of a beginning, greedily, and
the words as `ingot run` prints them.

usage: gemma3.py BUILD_FOLDER ROW TARGET MODEL.gguf     (ROW: of docs/design/quality.md)"""

import os
import sys

import support

GOLDEN = support.SOURCE / "tests" / "goldens" / "gemma3-270m" / "golden.safetensors"
QUALITY = support.SOURCE / "docs" / "design" / "quality.md"
# Row: recipe, flags of ingotc.
ROWS = {"bf16": ("bf16", []), "int8-cache": ("bf16", ["--kv-cache=int8"]), "w8a8": ("w8a8", []), "int4": ("gemma-int4", [])}
# Runs of one artifact are equal; another compiler's code adds in another order.
NO_WORSE = 1.05
LIMIT = 1e-3  # mean KL of fp32 from bf16, in nats


def stated(row, target):
    """Mean KL as the page states it."""
    for line in QUALITY.read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[:3] == ["gemma3-270m", row, target]:
            return float(cells[4])
    raise AssertionError(f"{QUALITY} has no row for gemma3-270m, {row}, {target}")


def body(session, row, target, model):
    if not os.path.exists(model):
        print(f"skip - {row}, {target}: {model} is not there; tools/scripts/fetch-model gemma3-270m gets it")
        sys.exit(77)
    shaped = support.read_safetensors(GOLDEN)
    golden = {name: value for name, (_, value) in shaped.items()}
    recipe, flags = ROWS[row]
    artifact = session.work / "gemma3.ingot"
    if not session.compile(model, artifact, recipe, targets=(target,), flags=flags):
        return
    rows = session.logits(artifact, golden["text_tokens"].tolist(), target)
    if rows is not None:
        values = support.divergences_of_text(shaped, rows)
        mean, said = sum(values) / len(values), stated(row, target)
        session.check(mean <= NO_WORSE * said and (row != "bf16" or mean < LIMIT),
                      f"{row}, {target}: KL over {len(values)} positions: mean {mean:.2e}, largest {max(values):.2e} "
                      f"(docs/design/quality.md says {said:.2e})")
    if row != "bf16":
        return
    session.greedy_steps(artifact, target, golden, "prompt_tokens")
    facts = support.safetensors_header(GOLDEN)[0]["__metadata__"]
    # The first two words are a tie within 0.1.
    words = facts["continuation"].split(" ")
    done = session.run("ingot", "run", artifact, "--raw", "--prompt", facts["prompt"] + " ".join(words[:3]), "--max-tokens", "8",
                       "--temperature", "0", "--device", "emulator", "--target", target)
    start = " " + " ".join(words[3:7])
    session.check(done.returncode == 0 and start in done.stdout, f"{target}: ingot run goes on with {start!r}",
                  done.stdout + done.stderr)


support.main("gemma3", body)
