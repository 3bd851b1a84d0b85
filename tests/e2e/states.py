#!/usr/bin/env python3
"""What a hybrid remembers, on a trained checkpoint: each step reads and writes every recurrent state once, and the counters say
so by name; 512 decode steps drift away neither from the interpreter in fp32 nor from a prefill; a new sequence knows nothing
of the one before.

usage: states.py BUILD_FOLDER MODEL TARGET"""

import json

import support

LENGTH = 512
# Rows at the beginning and at the end, whose mean errors are compared: nothing may have added up in between.
FIRST, LAST = range(32, 160), range(LENGTH - 128, LENGTH)
LARGEST_ERROR, LARGEST_DIVERGENCE, MOST_GROWTH = 2e-2, 1e-3, 1.5
TEXT = support.SOURCE / "tests" / "goldens" / "held-out.txt"


def drift(session, what, got, wanted):
    errors = [support.relative_l2([a], [b]) for a, b in zip(got, wanted)]
    def mean(rows):
        return sum(errors[row] for row in rows) / len(rows)
    kl = sum(support.divergence(wanted[row], got[row]) for row in LAST) / len(LAST)
    session.check(max(errors[row] for row in LAST) < LARGEST_ERROR and kl < LARGEST_DIVERGENCE,
                  f"{what}: the last {len(LAST)} of {LENGTH} rows are at most {max(errors[row] for row in LAST):.1e} apart "
                  f"(below {LARGEST_ERROR}), mean KL {kl:.1e} (below {LARGEST_DIVERGENCE})")
    session.check(mean(LAST) < MOST_GROWTH * mean(FIRST),
                  f"{what}: mean error {mean(LAST):.1e} at the end, {mean(FIRST):.1e} at the beginning (at most "
                  f"{MOST_GROWTH} times as much)")


def body(session, model, target):
    checkpoint = support.SOURCE / "models" / "trained" / model
    artifact = session.work / "model.ingot"
    if not session.compile(checkpoint, artifact, targets=(target,)):
        return
    device = ("--device", "emulator", "--target", target)

    inspected = json.loads(session.run("ingot", "inspect", artifact, "--json").stdout)
    states = sum(buffer["bytes"] for buffer in inspected["memory"]["buffers"]
                 if buffer["role"] == "STATE" and buffer["bytes_per_position"] == 0)
    done = session.run("ingot", "bench", artifact, "--prompt-tokens", "5", "--max-tokens", "4", "--repeat", "1", "--json", *device)
    counted = json.loads(done.stdout)["decode"]["emulator"]
    for way in ("read", "written"):
        bytes_moved = counted[f"recurrent_bytes_{way}_per_token"]
        session.check(bytes_moved == states > 0, f"{model}, {target}: {bytes_moved:.0f} bytes of recurrent states {way} a token, "
                      f"and the states are {states}")
    session.check(counted["cache_bytes_written_per_token"] > 0, f"{model}, {target}: the KV cache is counted apart")
    done = session.run("ingot", "run", artifact, "--prompt", "The", "--raw", "--max-tokens", "3", "--stats", *device)
    session.check("KV cache" in done.stderr and "recurrent states" in done.stderr,
                  f"{model}, {target}: --stats names both kinds of state", done.stderr)

    # The tokens of a text, from its scorer.
    saved = session.work / "tokens.json"
    done = session.run("ingot", "eval", artifact, "--text", TEXT, "--tokens", LENGTH, "--save-tokens", saved, "--json", *device)
    if not session.check(done.returncode == 0, f"{model}, {target}: ingot eval saves the tokens of a text", done.stderr):
        return
    tokens = json.loads(saved.read_text())[:LENGTH]
    exact = session.work / "exact.safetensors"
    ids = session.work / "ids.json"
    ids.write_text(json.dumps(tokens))
    done = session.run("ingot-reference", checkpoint, "--tokens", ids, "-o", exact)
    if not session.check(done.returncode == 0, f"{model}: the interpreter's logits in fp32", done.stderr):
        return
    shape, values = support.read_safetensors(exact)["logits"]
    wanted = [values[row * shape[1]:(row + 1) * shape[1]] for row in range(shape[0])]
    steps, chunks = session.logits(artifact, tokens, target, steps=True), session.logits(artifact, tokens, target)
    drift(session, f"{model}, {target}, steps from the interpreter", steps, wanted)
    drift(session, f"{model}, {target}, steps from a prefill", steps, chunks)

    # Windows that begin anew on the same tokens: one more adds exactly what the one before added.
    sums = []
    for periods in (1, 2, 3):
        text = session.work / "periods.txt"
        text.write_text("It was a bright cold day, and the clocks were striking.\n" * periods)
        saved = session.work / "periods.json"
        done = session.run("ingot", "eval", artifact, "--text", text, "--save-tokens", saved, "--json", *device)
        sums.append((json.loads(done.stdout), json.loads(saved.read_text())))
    length = len(sums[1][1]) - len(sums[0][1])
    if not session.check(sums[2][1][-2 * length:-length] == sums[2][1][-length:] and length > 8,
                         f"{model}: the text repeats every {length} tokens", sums[2][1]):
        return
    totals = []
    for periods in (1, 2, 3, 4):
        text.write_text("It was a bright cold day, and the clocks were striking.\n" * periods)
        done = session.run("ingot", "eval", artifact, "--text", text, "--window", length + 1, "--stride", length, "--json", *device)
        found = json.loads(done.stdout)
        totals.append(found["scored_tokens"] * found["mean_surprise"])
    added = [b - a for a, b in zip(totals, totals[1:])]
    session.check(abs(added[1] - added[2]) < 1e-9 * abs(added[1]),
                  f"{model}, {target}: a sequence that begins anew is as surprising as the one before it was: {added}")


support.main("states", body)
