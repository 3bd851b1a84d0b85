#!/usr/bin/env python3
"""A small random checkpoint through the whole path on both chips: its logits against transformers', by prefill and by
single decode steps, whole and cut at the lengths where tiles and pages end. Of a release with pictures, their tensors are
left out, and nothing else is.

usage: goldens.py BUILD_FOLDER CASE"""

import json

import support

# bf16 activations through two or three layers; logits have a standard deviation of about 1. Measured: docs/design/testing.md.
LARGEST_ERROR = 2e-2
LARGEST_DIVERGENCE = 1e-3
LENGTHS = (1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 300)


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


def body(session, case):
    folder = support.SOURCE / "tests" / "goldens" / case
    golden = support.read_safetensors(folder / "golden.safetensors")
    tokens, expected = golden["tokens"][1].tolist(), support.rows_of(golden)
    artifact = session.work / "model.ingot"
    if not session.compile(folder, artifact):
        return
    left_out(session, case, folder, artifact)
    for target in support.TARGETS:
        prefill = session.logits(artifact, tokens, target)
        compare(session, f"{case}, {target}, prefill of {len(tokens)}", prefill, expected)
        steps = session.logits(artifact, tokens, target, steps=True)
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
