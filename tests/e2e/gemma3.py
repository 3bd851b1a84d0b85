#!/usr/bin/env python3
"""Gemma 3 270M, the real base model, on one chip: what it makes of a beginning, greedily, and the likeliest next tokens of a
text against transformers' (fp32, of the same dequantised weights), and the words as `ingot run` prints them.

usage: gemma3.py BUILD_FOLDER TARGET MODEL.gguf"""

import os
import sys

import support

GOLDEN = support.SOURCE / "tests" / "goldens" / "gemma3-270m" / "golden.safetensors"
LIMIT = 1e-3  # mean KL of fp32 from ours, in nats
TOP = 512


def body(session, target, model):
    if not os.path.exists(model):
        print(f"skip - {target}: {model} is not there; tools/scripts/fetch-model gemma3-270m gets it")
        sys.exit(77)
    golden = {name: value for name, (_, value) in support.read_safetensors(GOLDEN).items()}
    artifact = session.work / "gemma3.ingot"
    if not session.compile(model, artifact, "bf16", targets=(target,)):
        return
    rows = session.logits(artifact, golden["text_tokens"].tolist(), target)
    if rows is not None:
        values = [support.divergence_of_top(golden["text_ids"][TOP * i:TOP * (i + 1)],
                                            golden["text_logits"][TOP * i:TOP * (i + 1)], golden["text_lse"][i], row)
                  for i, row in enumerate(rows)]
        mean = sum(values) / len(values)
        session.check(mean < LIMIT, f"{target}: KL over {len(values)} positions: mean {mean:.2e} (limit {LIMIT}), largest "
                      f"{max(values):.2e}")
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
