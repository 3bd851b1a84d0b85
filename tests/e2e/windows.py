#!/usr/bin/env python3
"""What layers with a sliding window keep and read of a context of 32,768 positions, with made-up weights: `ingot inspect` states
the bytes that follow from the released model's layers, heads and window; and a decode step deep in the context reads no more of
such a layer's cache than its window, by the emulator's counters, however deep it is.

usage: windows.py BUILD_FOLDER gemma3-270m|gemma4-e2b|mistral-v0.1 TARGET"""

import json

import support

CONTEXT, CHUNK, BLOCK = 32768, 256, 16
DEPTHS = (8192, 32000)
STEPS = 2
# Width and vocabulary are not the released ones: caches have nothing of either.
NARROW = {"hidden_size": 32, "intermediate_size": 32, "vocab_size": 64, "max_position_embeddings": CONTEXT, "rms_norm_eps": 1e-6,
          "eos_token_id": 1}
GEMMA3 = {"model_type": "gemma3_text", "num_hidden_layers": 18, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256,
          "query_pre_attn_scalar": 256, "sliding_window": 512, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
          "tie_word_embeddings": True, "hidden_activation": "gelu_pytorch_tanh",
          "layer_types": ["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(18)]}
MISTRAL = {"model_type": "mistral", "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
           "sliding_window": 4096, "rope_theta": 1e4, "tie_word_embeddings": False, "hidden_act": "silu"}
# Of the model that is run: two layers and small heads, the released window.
SMALL = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16}


def configs(model):
    """Of the plan and of the run."""
    if model == "mistral-v0.1":
        return MISTRAL | NARROW, MISTRAL | NARROW | SMALL
    two = {"layer_types": ["sliding_attention", "full_attention"]}
    if model == "gemma3-270m":
        return GEMMA3 | NARROW, GEMMA3 | NARROW | SMALL | two | {"query_pre_attn_scalar": 16}
    released = json.loads((support.SOURCE / "tests" / "shapes" / "gemma4-e2b" / "config.json").read_text())
    narrow = released | NARROW | {"vocab_size_per_layer_input": NARROW["vocab_size"], "hidden_size_per_layer_input": 16}
    return narrow, narrow | SMALL | two | {"global_head_dim": 32, "num_kv_shared_layers": 0}


def row_bytes(config, layer):
    """Of the keys or the values of one position, in bf16."""
    whole = is_whole(config, layer)
    size = config.get("global_head_dim", config["head_dim"]) if whole else config["head_dim"]
    return 2 * size * config["num_key_value_heads"]


def is_whole(config, layer):
    return config.get("layer_types", ["sliding_attention"] * config["num_hidden_layers"])[layer] == "full_attention"


def compile_config(session, config, name, target):
    folder = session.work / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    artifact = session.work / f"{name}.ingot"
    return artifact if session.compile(folder, artifact, targets=(target,), flags=("--synthetic-weights", "1")) else None


def plan(session, model, config, target):
    artifact = compile_config(session, config, f"{model}-plan", target)
    if not artifact:
        return
    done = session.run("ingot", "inspect", artifact, "--context", CONTEXT, "--json")
    found = json.loads(done.stdout)["memory"]["kv_cache"] if done.returncode == 0 else done.stderr
    layers = range(config["num_hidden_layers"] - config.get("num_kv_shared_layers", 0))
    expected = {"positions": CONTEXT}
    for key, whole, rows in (("of_windows", False, config["sliding_window"] + CHUNK), ("of_all_positions", True, CONTEXT)):
        these = [layer for layer in layers if is_whole(config, layer) == whole]
        expected[key] = {"caches": len(these), "bytes": sum(2 * rows * row_bytes(config, layer) for layer in these)}
    expected["bytes"] = expected["of_windows"]["bytes"] + expected["of_all_positions"]["bytes"]
    windows, rest = expected["of_windows"], expected["of_all_positions"]
    session.check(found == expected, f"{model}: {windows['caches']} caches of a window have {windows['bytes']} bytes, {rest['caches']} of "
                  f"all {CONTEXT} positions {rest['bytes']}", found)


def steps(session, model, config, target):
    artifact = compile_config(session, config, model, target)
    if not artifact:
        return
    done = session.run("ingot", "bench", artifact, "--depth", ",".join(map(str, DEPTHS)), "--prompt-tokens", "16", "--max-tokens", STEPS,
                       "--repeat", "1", "--json", "--device", "emulator", "--target", target)
    if not session.check(done.returncode == 0, f"{model}, {target}: ingot bench at {DEPTHS[-1]} positions", done.stderr):
        return
    counted = [case["decode"]["emulator"] for case in json.loads(done.stdout)]
    buffers = [case["counters"]["totals"]["buffers"] for case in counted]
    for layer in range(config["num_hidden_layers"]):
        row, window = row_bytes(config, layer), config["sliding_window"]
        # Positions are read by blocks, of which the first of a window is cut.
        least, most = (DEPTHS, [depth + CHUNK for depth in DEPTHS]) if is_whole(config, layer) else ([window] * 2, [window + BLOCK] * 2)
        for part in "kv":
            read, written = ([case[f"layers.{layer}.{part}.cache"][way] / STEPS for case in buffers] for way in ("read", "written"))
            good = all(a * row <= b <= c * row for a, b, c in zip(least, read, most)) and written == [row, row]
            session.check(good, f"{model}, {target}, layer {layer}, {part}: a step behind {DEPTHS[0]} and {DEPTHS[1]} positions reads "
                          f"{read[0]:.0f} and {read[1]:.0f} bytes and writes {row}", (least, most, written))
    caches = [sum(buffer["read"] for name, buffer in case.items() if name.endswith(".cache")) / STEPS for case in buffers]
    session.check([(case["cache_bytes_read_per_token"], case["recurrent_bytes_read_per_token"]) for case in counted] ==
                  [(cache, 0) for cache in caches], f"{model}, {target}: rings count as KV cache", caches)


def body(session, model, target):
    whole, small = configs(model)
    plan(session, model, whole, target)
    steps(session, model, small, target)


support.main("windows", body)
