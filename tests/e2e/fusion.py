#!/usr/bin/env python3
"""Fusions change no number: the trained checkpoint compiled with each fusion left out, and with all of them left out, gives
the logits of the full compile bit for bit, by prefill and step by step, on both chips. And they do what they are for:
launches a token fall by half, activation bytes by a third.

usage: fusion.py BUILD_FOLDER bf16|int8|codes [CASE]   (int8: every layer in w8a8, so that all that reads one norm has one
scheme; codes: several schemes of weights alone; CASE: of tests/goldens, or of tests/shapes with weights made up, else the
trained checkpoint, for which launches and bytes are checked too)

The trained checkpoint is run on both chips without each fusion. Of a case, a single fusion is left out for one chip, the next
for the other; all of them for both."""

import json
import sys

import support

RECIPES = {
    "int8": """name: "int8"
rules { pattern: "model.embed_tokens.weight" scheme: "bf16" }
rules { pattern: "lm_head.weight" scheme: "int8_g32" }
rules { pattern: "model.layers.*" scheme: "w8a8" }
""",
    "codes": """name: "codes"
rules { pattern: "model.embed_tokens.weight" scheme: "bf16" }
rules { pattern: "lm_head.weight" scheme: "int8_g64" }
rules { pattern: "*.self_attn.*" scheme: "int4_g32_zp" }
rules { pattern: "*.down_proj.*" scheme: "int4_g128" }
rules { pattern: "*" scheme: "fp8" }
""",
}
# Not a multiple of a tile of tokens, and long enough for two blocks of the cache.
LENGTH = 21


def decode_costs(session, artifact, target):
    done = session.run("ingot", "bench", artifact, "--prompt-tokens", "16", "--max-tokens", "4", "--repeat", "1", "--json",
                       "--device", "emulator", "--target", target)
    decode = json.loads(done.stdout)["decode"]
    return decode["launches_per_token"], decode["emulator"]["activation_bytes_written_per_token"]


def plan(session, checkpoint, recipe, flags):
    """The program of launches, as text: of one chip, since whether a fusion finds something is the same for all."""
    file = session.work / "plan.mlir"
    done = session.run("ingotc", checkpoint, "-o", file, f"--targets={support.TARGETS[0]}", f"--recipe={recipe}",
                       "--stop-after=plan", *flags)
    return file.read_text() if done.returncode == 0 else done.stderr


def body(session, recipe, case=None):
    name = f"{case}, {recipe}" if case else recipe
    flags = []
    if case and (support.SOURCE / "tests" / "shapes" / case).exists():
        checkpoint, flags = support.SOURCE / "tests" / "shapes" / case, ["--synthetic-weights=1"]
    elif case:
        checkpoint = support.SOURCE / "tests" / "goldens" / case
    else:
        checkpoint = support.SOURCE / "models" / "trained" / "tiny-llama"
    vocabulary = json.loads((checkpoint / "config.json").read_text())["vocab_size"]
    tokens = [(7 * i * i + 3) % vocabulary for i in range(LENGTH)]
    full = session.work / "full.ingot"
    if recipe in RECIPES:
        text, recipe = RECIPES[recipe], session.work / f"{recipe}.textproto"
        recipe.write_text(text)
    if not session.compile(checkpoint, full, recipe, flags=flags):
        return
    wanted = {(target, steps): session.logits(full, tokens, target, steps) for target in support.TARGETS
              for steps in (False, True)}
    fusions = session.fusions()
    plain = plan(session, checkpoint, recipe, flags)
    changed = 0
    for left_out in [[one] for one in fusions] + [fusions]:
        what = "without " + ("any fusion" if len(left_out) > 1 else left_out[0])
        artifact = session.work / "part.ingot"
        # A fusion that finds nothing here leaves the same program, and its logits are the same ones.
        if plan(session, checkpoint, recipe, flags + [f"--disable-pass={one}" for one in left_out]) == plain:
            continue
        changed += 1
        targets = (support.TARGETS[changed % len(support.TARGETS)],) if case and len(left_out) == 1 else support.TARGETS
        if not session.compile(checkpoint, artifact, recipe, targets, what=f"{name}: compiles {what}",
                               flags=flags + [f"--disable-pass={one}" for one in left_out]):
            continue
        for (target, steps), rows in wanted.items():
            if target not in targets:
                continue
            got = session.logits(artifact, tokens, target, steps)
            same = got is not None and all(a.tobytes() == b.tobytes() for a, b in zip(rows, got, strict=True))
            session.check(same, f"{name}, {target}, {'steps' if steps else 'prefill'}: the same bits {what}")
        if len(left_out) == 1:
            continue
        session.check(changed > 3, f"{name}: {changed - 1} of {len(fusions)} fusions find something (at least three)")
        if case:
            continue
        for target in support.TARGETS:
            launches, written = decode_costs(session, full, target)
            launches_before, written_before = decode_costs(session, artifact, target)
            session.check(2 * launches <= launches_before,
                          f"{name}, {target}: {launches} launches a token, {launches_before} without fusions (at most half)")
            session.check(1.5 * written <= written_before,
                          f"{name}, {target}: {written:.0f} bytes of activations written a token, {written_before:.0f} "
                          "without fusions (at most two thirds)")


support.main("fusion", body)
