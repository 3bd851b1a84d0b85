#!/usr/bin/env python3
"""The price of a token behind a context of 128K that is nearly full, with made-up weights: what the emulator counts of the KV cache
for a decode step, and for a prefill of a few tokens, against what follows from layers, heads and positions, in bf16 and in int8;
and that a step splits the positions of each KV head over waves. For heads whose queries registers hold beside a block of the cache,
and for wide ones, whose waves share it in LDS.

usage: depth.py BUILD_FOLDER TARGET"""

import dataclasses
import json

import support

CONTEXT = 131072
SUFFIX, STEPS, WARM_UP = 16, 2, 2
DEPTHS = (4096, CONTEXT - 64)
CONFIG = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 64, "vocab_size": 64,
          "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True, "hidden_act": "silu",
          "eos_token_id": 1}
# Reads come in blocks of 16 positions.
NEAR = 1.01
SPLITS = 64  # units that share the positions of a KV head in a step


@dataclasses.dataclass
class Heads:
    heads: int
    kv_heads: int
    dims: int
    waves: int  # of a unit of a step
    reads: int  # of the cache by a prefill of SUFFIX tokens

    def config(self):
        return {**CONFIG, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "head_dim": self.dims}

    def position_bytes(self, cache):
        """Keys and values at one position: bf16, or codes and the scale of each head."""
        return 2 * CONFIG["num_hidden_layers"] * self.kv_heads * (2 * self.dims if cache == "bf16" else self.dims + 4)


# A prefill reads a narrow KV head for each of its query heads, whose waves are neighbours.
SHAPES = {"narrow heads": Heads(heads=4, kv_heads=2, dims=64, waves=1, reads=2),
          "wide heads": Heads(heads=6, kv_heads=1, dims=256, waves=6, reads=1)}


def measure(session, shape, cache, target):
    folder = session.work / "model"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(SHAPES[shape].config()))
    artifact = session.work / f"{cache}.ingot"
    if not session.compile(folder, artifact, targets=(target,), what=f"{target}: {shape}, a cache of {cache}",
                           flags=("--synthetic-weights", "1", f"--kv-cache={cache}")):
        return None
    done = session.run("ingot", "bench", artifact, "--depth", ",".join(map(str, DEPTHS)), "--prompt-tokens", SUFFIX, "--max-tokens",
                       STEPS, "--repeat", "1", "--json", "--device", "emulator", "--target", target)
    if not session.check(done.returncode == 0, f"{target}, {shape}, {cache}: ingot bench at {DEPTHS[-1]} positions", done.stderr):
        return None
    return json.loads(done.stdout)


def compare(session, case, shape, cache, target):
    heads, depth = SHAPES[shape], case["depth"]
    row, where = heads.position_bytes(cache), f"{target}, {shape}, {cache}"
    step, suffix = case["decode"]["emulator"], case["prefill"]["emulator"]

    def check(what, found, derived, times, written, written_expected):
        session.check(1 <= found / derived <= times * NEAR and written == written_expected,
                      f"{where}: {what} behind {depth} positions: {found:.0f} bytes of the cache are read, {found / derived:.4f} of "
                      f"the derived {derived:.0f}, and {written:.0f} written", f"expected at most {times}, and {written_expected} written")

    # A step reads every position up to its own: here the mean of those that were counted.
    check("a step", step["cache_bytes_read_per_token"], row * (depth + SUFFIX + WARM_UP + (STEPS - 1) / 2), 1,
          step["cache_bytes_written_per_token"], row)
    check(f"{SUFFIX} tokens", suffix["cache_bytes_read_per_token"] * SUFFIX, row * (depth + SUFFIX), heads.reads,
          suffix["cache_bytes_written_per_token"] * SUFFIX, row * SUFFIX)
    (launches, waves), = [(kernel["launches"], kernel["waves"]) for name, kernel in step["counters"]["kernels"].items()
                          if name.startswith("attention_") and "combine" not in name]
    session.check(waves == launches * heads.kv_heads * SPLITS * heads.waves,
                  f"{where}: a step behind {depth} positions has {SPLITS} units of {heads.waves} waves for each KV head", (launches, waves))


def body(session, target):
    for shape in SHAPES:
        for cache in ("bf16", "int8"):
            for case in measure(session, shape, cache, target) or []:
                compare(session, case, shape, cache, target)


support.main("depth", body)
