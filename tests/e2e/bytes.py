#!/usr/bin/env python3
"""Weight bytes that one decode step reads, counted by the emulator: at most 1.03 times what the compiler planned for the
recipe, and not less, for then something would not have been read. The plan itself is held against the checkpoint's shapes
where there is a config.json.

usage: bytes.py BUILD_FOLDER RECIPE [MODEL.gguf|experts]     (without MODEL: the trained checkpoint of the repository;
experts: made-up weights of a mixture, of which a step must read those that the token goes to and no others)"""

import json
import os
import sys

import support

MOST = 1.03
# Bytes a parameter of the linears, and how much scales, norms and tables may add to them on a model this small.
PARAMETER_BYTES = {"bf16": 2, "w8a8": 1}
OVERHEAD = {"bf16": 1.01, "w8a8": 1.08}
STEPS = 4
EXPERTS = {"model_type": "qwen3_moe", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
           "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 256, "rms_norm_eps": 1e-6,
           "rope_theta": 1e6, "max_position_embeddings": 256, "tie_word_embeddings": False, "hidden_act": "silu",
           "num_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 128, "norm_topk_prob": True,
           "decoder_sparse_step": 1, "mlp_only_layers": [], "eos_token_id": 2}


def linear_parameters(config):
    hidden, head = config["hidden_size"], config["head_dim"]
    query, key = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    chosen, width = config.get("num_experts_per_tok", 1), config.get("moe_intermediate_size", config["intermediate_size"])
    layer = hidden * (2 * query + 2 * key + 3 * width * chosen + config.get("num_experts", 0))
    return layer * config["num_hidden_layers"] + config["vocab_size"] * hidden


def body(session, recipe, model=None):
    experts = model == "experts"
    if model and not experts and not os.path.exists(model):
        print(f"skip - {recipe}: {model} is not there; tools/scripts/fetch-model gets it")
        sys.exit(77)
    checkpoint = model or support.SOURCE / "models" / "trained" / "tiny-llama"
    made_up = ()
    if experts:
        checkpoint, made_up = session.work, ("--synthetic-weights", "1")
        (checkpoint / "config.json").write_text(json.dumps(EXPERTS))
    artifact = session.work / "model.ingot"
    if not session.compile(checkpoint, artifact, recipe, flags=made_up):
        return
    for target in support.TARGETS:
        device = ("--device", "emulator", "--target", target)
        done = session.run("ingot", "bench", artifact, "--prompt-tokens", "16", "--max-tokens", STEPS, "--repeat", "1",
                           "--json", *device)
        if not session.check(done.returncode == 0, f"{recipe}, {target}: ingot bench --json", done.stderr):
            continue
        decode = json.loads(done.stdout)["decode"]
        planned, found = decode["weight_bytes_per_token"], decode["emulator"]
        counters = found["counters"]
        read, ratio = found["weight_bytes_read_per_token"], found["weight_bytes_read_per_token"] / planned
        kernels = sorted((kernel["buffers"]["weights"]["read"] / STEPS, name)
                         for name, kernel in counters["kernels"].items() if "weights" in kernel["buffers"])
        session.check(1 <= ratio <= MOST, f"{recipe}, {target}: a decode step reads {read:.0f} bytes of weights, {ratio:.4f} "
                      f"times the planned {planned:.0f} (1 to {MOST})", "\n".join(f"{b:.0f} {n}" for b, n in reversed(kernels)))
        session.check(found["weight_bytes_ratio"] == ratio, f"{recipe}, {target}: the ratio printed is that of the two")

        parts = [counters["totals"], *counters["kernels"].values()]
        whole = all(sum(buffer[way] for buffer in part["buffers"].values()) == part[f"bytes_{way}"]
                    for part in parts for way in ("read", "written"))
        session.check(whole, f"{recipe}, {target}: the buffers' bytes add up to each kernel's and to all", counters["totals"])
        session.check(counters["totals"]["buffers"]["weights"]["written"] == 0, f"{recipe}, {target}: no weight is written")
        moved = [found[f"{what}_bytes_{way}_per_token"] for what in ("cache", "activation") for way in ("read", "written")]
        session.check(min(moved) > 0, f"{recipe}, {target}: KV cache and activations are read and written", moved)

        if not model or experts:
            least = linear_parameters(json.loads((checkpoint / "config.json").read_text())) * PARAMETER_BYTES[recipe]
            session.check(least <= planned <= OVERHEAD[recipe] * least, f"{recipe}, {target}: planned are {planned / least:.4f} "
                          f"times the values of the linears (1 to {OVERHEAD[recipe]})")
        if not model:
            text = session.run("ingot", "run", artifact, "--prompt", "In the beginning", "--raw", "--max-tokens", "5",
                               "--stats", *device)
            session.check(f"({ratio:.4f} times the planned" in text.stderr, f"{recipe}, {target}: --stats prints the ratio",
                          text.stderr)


support.main("bytes", body)
