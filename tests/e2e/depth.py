#!/usr/bin/env python3
"""The price of a token behind a context of 128K that is nearly full, with made-up weights: what the emulator counts of the KV cache
for a decode step, and for a prefill of a few tokens, against what follows from layers, heads and positions, in bf16 and in int8;
and that a step splits the positions of each KV head over waves.

usage: depth.py BUILD_FOLDER TARGET"""

import json

import support

CONTEXT = 131072
SUFFIX, STEPS, WARM_UP = 16, 2, 2
DEPTHS = (4096, CONTEXT - 64)
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
          "hidden_size": 64, "intermediate_size": 64, "vocab_size": 64, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6,
          "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu", "eos_token_id": 1}
# Of one head's keys or values at one position: bf16, or codes and their scale.
HEAD_BYTES = {"bf16": 2 * CONFIG["head_dim"], "int8": CONFIG["head_dim"] + 4}
# Reads come in blocks of 16 positions.
NEAR = 1.01
SPLITS = 64  # waves that a step has for the positions of a KV head


def position_bytes(cache):
    return 2 * CONFIG["num_hidden_layers"] * CONFIG["num_key_value_heads"] * HEAD_BYTES[cache]


def measure(session, cache, target):
    folder = session.work / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    artifact = session.work / f"{cache}.ingot"
    if not session.compile(folder, artifact, targets=(target,), what=f"{target}: a cache of {cache}",
                           flags=("--synthetic-weights", "1", f"--kv-cache={cache}")):
        return None
    done = session.run("ingot", "bench", artifact, "--depth", ",".join(map(str, DEPTHS)), "--prompt-tokens", SUFFIX, "--max-tokens",
                       STEPS, "--repeat", "1", "--json", "--device", "emulator", "--target", target)
    if not session.check(done.returncode == 0, f"{target}, {cache}: ingot bench at {DEPTHS[-1]} positions", done.stderr):
        return None
    return json.loads(done.stdout)


def compare(session, case, cache, target):
    depth, row = case["depth"], position_bytes(cache)
    step, suffix = case["decode"]["emulator"], case["prefill"]["emulator"]

    def check(what, found, derived, times, written, written_expected):
        session.check(1 <= found / derived <= times * NEAR and written == written_expected,
                      f"{target}, {cache}: {what} behind {depth} positions: {found:.0f} bytes of the cache are read, {found / derived:.4f} of "
                      f"the derived {derived:.0f}, and {written:.0f} written", f"expected at most {times}, and {written_expected} written")

    # A step reads every position up to its own: here the mean of those that were counted.
    check("a step", step["cache_bytes_read_per_token"], row * (depth + SUFFIX + WARM_UP + (STEPS - 1) / 2), 1,
          step["cache_bytes_written_per_token"], row)
    # A prefill reads a KV head for each query head that it has.
    check(f"{SUFFIX} tokens", suffix["cache_bytes_read_per_token"] * SUFFIX, row * (depth + SUFFIX),
          CONFIG["num_attention_heads"] // CONFIG["num_key_value_heads"], suffix["cache_bytes_written_per_token"] * SUFFIX, row * SUFFIX)
    (launches, waves), = [(kernel["launches"], kernel["waves"]) for name, kernel in step["counters"]["kernels"].items()
                          if name.startswith("attention_") and "combine" not in name]
    session.check(waves == launches * CONFIG["num_key_value_heads"] * SPLITS,
                  f"{target}, {cache}: a step behind {depth} positions has {SPLITS} waves for each KV head", (launches, waves))


def body(session, target):
    for cache in HEAD_BYTES:
        for case in measure(session, cache, target) or []:
            compare(session, case, cache, target)


support.main("depth", body)
