#!/usr/bin/env python3
"""ingot-compare on a mixture of experts: over some hundred tokens rounding now and then makes the device choose another expert.
The comparison says how close the two were, goes on with the device's choice, and finds no op that differs. Nor does one in a short
prompt behind a long context.

usage: compare.py BUILD_FOLDER MODEL TARGET"""

import json
import re
import shutil

import support

TIE = re.compile(r"goes to expert \d+, not \d+: a tie, with logits (\S+) apart .* differences of up to (\S+) in the row")


def deep(session, target):
    """A short chunk behind 1,024 positions, which units of attention share."""
    folder = session.work / "deep"
    shutil.copytree(support.SOURCE / "models" / "trained" / "tiny-llama", folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    artifact = session.work / "deep.ingot"
    if not session.compile(folder, artifact, targets=(target,), flags=("--prefill-chunk", "512")):
        return
    done = session.run("ingot-compare", artifact, folder, "--length", 1024 + 20, "--steps", 1, "--device", "emulator", "--target", target)
    session.check(done.returncode == 0, f"tiny-llama, {target}: no op of 20 tokens behind 1,024 differs", done.stdout + done.stderr)


def body(session, model, target):
    deep(session, target)
    checkpoint, artifact = support.SOURCE / "models" / "trained" / model, session.work / "model.ingot"
    if not session.compile(checkpoint, artifact, targets=(target,)):
        return
    done = session.run("ingot-compare", artifact, checkpoint, "--length", 200, "--steps", 4, "--device", "emulator", "--target",
                       target)
    session.check(done.returncode == 0, f"{model}, {target}: no op differs", done.stderr)
    ties = [tuple(map(float, tie)) for tie in TIE.findall(done.stdout)]
    session.check(ties and all(0 <= gap <= 2.001 * most for gap, most in ties), f"{model}, {target}: {len(ties)} tokens go to other "
                  "experts, whose logits are at most twice the row's largest difference apart", done.stdout)


support.main("compare", body)
