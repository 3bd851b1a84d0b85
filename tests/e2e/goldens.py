#!/usr/bin/env python3
"""A small random checkpoint through the whole path on both chips: its logits against transformers', by prefill and by
single decode steps, whole and cut at the lengths where tiles and pages end. With a window also in chunks so short that the
rings of its caches wrap at least twice. Of a release with pictures, their tensors are left out, and nothing else is.

usage: goldens.py BUILD_FOLDER CASE"""

import json
import re

import support

# bf16 activations through two or three layers; logits have a standard deviation of about 1. Measured: docs/design/testing.md.
LARGEST_ERROR = 2e-2
LARGEST_DIVERGENCE = 1e-3
LENGTHS = (1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300)
CHUNK = 16  # a ring has room for the window and a chunk
TURNS = 2


def compare(session, what, found, expected):
    if found is None:
        return
    error = support.relative_l2(found, expected)
    mean = sum(map(support.divergence, expected, found)) / len(expected)
    session.check(error < LARGEST_ERROR and mean < LARGEST_DIVERGENCE,
                  f"{what}: relative L2 {error:.2e} (< {LARGEST_ERROR}), mean KL {mean:.2e} (< {LARGEST_DIVERGENCE})")


def left_out(session, case, folder, artifact):
    names = [name for file in folder.glob("model*.safetensors") for name in support.safetensors_header(file)[0]]
    pictures = sorted(name for name in names if any(part in name for part in ("visual.", "vision", "multi_modal")))
    if pictures:
        done = session.run("ingot", "inspect", artifact, "--json")
        skipped = sorted(json.loads(done.stdout)["provenance"]["skipped_tensors"]) if done.returncode == 0 else done.stderr
        session.check(skipped == pictures, f"{case}: the {len(pictures)} tensors of pictures are left out and listed, and no others",
                      skipped)


def windowed(folder):
    config = json.loads((folder / "config.json").read_text())
    config = config.get("text_config", config)
    return bool(config.get("sliding_window")) and config.get("use_sliding_window", True)


def wraps(session, case, artifact, tokens):
    """Rings are in the names of the kernels that read them."""
    done = session.run("ingot", "inspect", artifact, "--json")
    targets = json.loads(done.stdout)["targets"] if done.returncode == 0 else []
    rings = {int(ring) for target in targets for kernel in target["kernels"] for ring in re.findall(r"_ring(\d+)", kernel["name"])}
    session.check(rings and tokens >= TURNS * max(rings), f"{case}: {tokens} tokens in chunks of {CHUNK} are at least {TURNS} turns "
                  f"of each ring, of {', '.join(map(str, sorted(rings)))} positions", done.stderr)


def body(session, case):
    folder = support.SOURCE / "tests" / "goldens" / case
    golden = support.read_safetensors(folder / "golden.safetensors")
    tokens, expected = golden["tokens"][1].tolist(), support.rows_of(golden)
    artifact = session.work / "model.ingot"
    if not session.compile(folder, artifact):
        return
    left_out(session, case, folder, artifact)
    stepped = artifact
    if windowed(folder):
        stepped = session.work / "chunks.ingot"
        if not session.compile(folder, stepped, flags=[f"--prefill-chunk={CHUNK}"], what=f"ingotc compiles {case} for short chunks"):
            return
        wraps(session, case, stepped, len(tokens))
    for target in support.TARGETS:
        prefill = session.logits(artifact, tokens, target)
        compare(session, f"{case}, {target}, prefill of {len(tokens)}", prefill, expected)
        if stepped != artifact:
            chunks = session.logits(stepped, tokens, target)
            compare(session, f"{case}, {target}, {len(tokens)} tokens in chunks of {CHUNK}", chunks, expected)
        steps = session.logits(stepped, tokens, target, steps=True)
        compare(session, f"{case}, {target}, {len(tokens)} steps", steps, expected)
        if "mtp_logits" in golden:
            # The first row pairs the first token with nothing.
            drafts = session.logits(artifact, tokens, target, draft=True)
            compare(session, f"{case}, {target}, the head that drafts", drafts and drafts[1:], support.rows_of(golden, "mtp_logits"))
        if len(tokens) < LENGTHS[-1] or not prefill or not steps:
            continue
        for length in LENGTHS:
            cut = session.logits(artifact, tokens[:length], target)
            if cut is None:
                continue
            error = support.relative_l2([cut[-1]], [steps[length - 1]])
            session.check(error < LARGEST_ERROR, f"{case}, {target}: prefill of {length} and {length} steps agree on the "
                          f"next token's logits: relative L2 {error:.2e} (< {LARGEST_ERROR})")


support.main("goldens", body)
