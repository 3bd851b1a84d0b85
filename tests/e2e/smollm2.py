#!/usr/bin/env python3
"""SmolLM2-135M-Instruct, the real model, on both chips: the greedy reply and the likeliest next tokens of a text against
transformers' (fp32), memory while compiling, and the reply as `ingot run` prints it.

usage: smollm2.py BUILD_FOLDER RECIPE TARGET MODEL.gguf"""

import os
import resource
import sys
import time

import support

GOLDEN = support.SOURCE / "tests" / "goldens" / "smollm2" / "golden.safetensors"
# KL of fp32 from ours, in nats. bf16: of every position. w8a8: of their mean, since int8 activations have outliers.
LIMIT = {"bf16": 1e-3, "w8a8": 2e-2}
# A first greedy difference counts as a tie where the two logits are this close, in transformers and here.
NEAR_TIE = 0.05
TOP = 512
LARGEST_TENSOR = 4 * 49152 * 576  # the embedding table, as fp32


def greedy_steps(session, artifact, target, golden):
    """Decodes step by step what greedy decoding would, until the first token that differs from transformers'."""
    chat, greedy = golden["chat_tokens"].tolist(), golden["greedy_tokens"].tolist()
    rows = session.logits(artifact, chat + greedy[:-1], target, steps=True)
    if rows is None:
        return
    for step, row in enumerate(rows[len(chat) - 1:]):
        chosen = max(range(len(row)), key=row.__getitem__)
        if chosen != greedy[step]:
            gap = row[chosen] - row[greedy[step]]
            golden_gap = golden["greedy_top"][2 * step] - golden["greedy_top"][2 * step + 1]
            text = (f"{target}: {step} greedy tokens are transformers', then a tie: the two logits are {golden_gap:.4f} apart "
                    f"there, {gap:.4f} here")
            session.check(max(gap, golden_gap) <= NEAR_TIE, f"{text} (limit {NEAR_TIE})")
            return
    session.check(True, f"{target}: {len(greedy)} greedy tokens are transformers'")


def body(session, recipe, target, model):
    if not os.path.exists(model):
        print(f"skip - {recipe}, {target}: {model} is not there; tools/scripts/fetch-model gets it")
        sys.exit(77)
    golden = {name: value for name, (_, value) in support.read_safetensors(GOLDEN).items()}
    artifact = session.work / "smollm2.ingot"
    started = time.monotonic()
    if not session.compile(model, artifact, recipe, targets=(target,)):
        return
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    session.check(peak < LARGEST_TENSOR + (1 << 30), f"compiling took {time.monotonic() - started:.1f} s and at most "
                  f"{peak / 2**20:.0f} MiB (< largest tensor + 1 GiB)")

    text, top = golden["text_tokens"].tolist(), TOP
    rows = session.logits(artifact, text, target)
    if rows is not None:
        values = [support.divergence_of_top(golden["text_ids"][top * i:top * (i + 1)],
                                            golden["text_logits"][top * i:top * (i + 1)], golden["text_lse"][i], row)
                  for i, row in enumerate(rows)]
        mean, worst = sum(values) / len(values), max(values)
        held = worst if recipe == "bf16" else mean
        session.check(held < LIMIT[recipe], f"{recipe}, {target}: KL over {len(text)} positions: mean {mean:.2e}, largest "
                      f"{worst:.2e} (limit for the {'largest' if recipe == 'bf16' else 'mean'} {LIMIT[recipe]})")
    if recipe == "bf16":
        greedy_steps(session, artifact, target, golden)

    facts = support.safetensors_header(GOLDEN)[0]["__metadata__"]
    done = session.run("ingot", "run", artifact, "--prompt", facts["question"], "--max-tokens", "24", "--temperature", "0",
                       "--device", "emulator", "--target", target)
    start = facts["reply"][:20]
    session.check(done.returncode == 0 and done.stdout.strip().startswith(start),
                  f"{recipe}, {target}: ingot run applies the chat template and answers {start!r}", done.stdout + done.stderr)


support.main("smollm2", body)
