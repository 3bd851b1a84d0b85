#!/usr/bin/env python3
"""Released models, from their configuration alone: each compiles to a plan, and the weight bytes that its decode step says it
reads are those that follow from the shapes; so are the bytes of Gemma's caches, whose windows bound them.
docs/design/shapes.md states launches and bytes.

usage: shapes.py BUILD_FOLDER SHAPE RECIPE"""

import collections
import json
import re

import support

PAGE = support.SOURCE / "docs" / "design" / "shapes.md"
CONTEXT, CHUNK = 32768, 256
LARGEST_DIFFERENCE = 0.03  # scales of rows, norms and padding are not in the derivation

# Bytes a weight with its share of scales and zeros: f16 scales, one byte of zero a group.
BYTES = {"bf16": 2, "int8": 1, "w8a8": 1, "int8_g32": 1 + 2 / 32, "int4_g128_zp": 0.5 + 3 / 128,
         "int4_g32_zp": 0.5 + 3 / 32}

# By recipe: the schemes of the head, the recurrence's inputs, its output, attention's gate, and the rest.
SCHEMES = {
    "qwen3.6-w8a8": ("int8_g32", "bf16", "int8", "w8a8", "w8a8"),
    "qwen3.6-int4": ("int8_g32", "bf16", "int8", "int8_g32", "int4_g128_zp"),
}


def derive(config, recipe):
    """Bytes of weights that one decoded token reads."""
    config = config | config.get("text_config", {})
    head, inputs, output, gate, rest = (BYTES[scheme] for scheme in SCHEMES[recipe])
    hidden, layers = config["hidden_size"], config["num_hidden_layers"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    hybrid = "linear_num_key_heads" in config
    total = config["vocab_size"] * hidden * head
    for layer in range(layers):
        if hybrid and (layer + 1) % config["full_attention_interval"] != 0:
            values = config["linear_num_value_heads"] * config["linear_value_head_dim"]
            channels = 2 * config["linear_num_key_heads"] * config["linear_key_head_dim"] + values
            total += (channels + values + 2 * config["linear_num_value_heads"]) * hidden * inputs + values * hidden * output
            total += channels * config["linear_conv_kernel_dim"] * 4
        else:
            total += (2 * queries + 2 * keys) * hidden * rest + (queries * hidden * gate if hybrid else 0)
        if "num_experts" in config:
            width = config["moe_intermediate_size"] * config["num_experts_per_tok"]
            total += 3 * width * hidden * rest + config["num_experts"] * hidden * BYTES["bf16"]
            total += 3 * config.get("shared_expert_intermediate_size", 0) * hidden * rest
        else:
            total += 3 * config["intermediate_size"] * hidden * rest
    return total


def stated(shape, recipe):
    """Launches, launches of the layers that differ, and the planned gigabytes, as the page states them."""
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[:2] == [shape, recipe] and len(cells) == 7:
            return int(cells[2]), [int(count) for count in cells[3].split(",")], cells[4], cells[5], cells[6]
    raise AssertionError(f"{PAGE} has no row for {shape}, {recipe}")


def derive_gemma(config):
    """The same of Gemma 3 and 4 under gemma-int4."""
    config = config | config.get("text_config", {})

    def matrix(rows, columns):
        return rows * columns * BYTES["int4_g32_zp" if columns % 128 else "int4_g128_zp"]

    hidden, layers, heads = config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]
    types = config.get("layer_types") or ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(layers)]
    shared, inputs = config.get("num_kv_shared_layers", 0), config.get("hidden_size_per_layer_input", 0)
    total = config["vocab_size"] * hidden * BYTES["int8_g32"]
    for layer, kind in enumerate(types):
        whole = kind == "full_attention"
        size = config.get("global_head_dim", config["head_dim"]) if whole else config["head_dim"]
        keys = (whole and config.get("num_global_key_value_heads")) or config["num_key_value_heads"]
        reads = layer >= layers - shared
        projected = 0 if reads else 1 if whole and config.get("attention_k_eq_v") else 2
        total += matrix(heads * size, hidden) + matrix(hidden, heads * size) + projected * matrix(keys * size, hidden)
        width = config["intermediate_size"] * (2 if reads and config.get("use_double_wide_mlp") else 1)
        total += 2 * matrix(width, hidden) + matrix(hidden, width)
        if config.get("enable_moe_block"):
            width, chosen = config["moe_intermediate_size"], config["top_k_experts"]
            total += chosen * (2 * matrix(width, hidden) + matrix(hidden, width))
            total += config["num_experts"] * hidden * BYTES["bf16"]
        if inputs:
            total += matrix(inputs, hidden) + matrix(hidden, inputs) + inputs * hidden * BYTES["int8_g32"]
    return total


def derive_caches(config):
    """Bytes of keys and values in bf16 for CONTEXT positions: a window and a chunk of prefill where there is a window."""
    config = config | config.get("text_config", {})
    layers, window = config["num_hidden_layers"], config["sliding_window"]
    types = config.get("layer_types") or ["sliding_attention" if (i + 1) % 6 else "full_attention" for i in range(layers)]
    bounded = whole = 0
    for kind in types[:layers - config.get("num_kv_shared_layers", 0)]:
        if kind == "sliding_attention":
            bounded += (window + CHUNK) * 2 * 2 * config["num_key_value_heads"] * config["head_dim"]
        else:
            heads = config.get("num_global_key_value_heads") or config["num_key_value_heads"]
            whole += CONTEXT * 2 * 2 * heads * config.get("global_head_dim", config["head_dim"])
    return bounded, whole


def stated_caches(shape):
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip(" `") for cell in line.strip("|").split("|")]
        if cells[0] == shape and len(cells) == 4:
            return tuple(cells[1:])
    raise AssertionError(f"{PAGE} does not state the caches of {shape}")


def body(session, shape, recipe):
    folder = support.SOURCE / "tests" / "shapes" / shape
    plan = session.work / "plan.mlir"
    done = session.run("ingotc", folder, "-o", plan, "--synthetic-weights", 1, "--stop-after=plan", "--targets=gfx1151",
                       f"--recipe={recipe}", "--quiet")
    if not session.check(done.returncode == 0, f"ingotc plans {shape} as {recipe}", done.stderr):
        return
    text = plan.read_text()
    plan.unlink()
    found = re.search(r"exec\.program @decode_greedy weight_bytes (\d+) \{(.*?)\n    \}", text, re.DOTALL)
    if not session.check(found is not None, f"{shape}: the plan has a program for greedy decoding"):
        return
    config = json.loads((folder / "config.json").read_text())
    planned = int(found.group(1))
    expected = derive_gemma(config) if config["model_type"].startswith("gemma") else derive(config, recipe)
    launches = found.group(2).count("exec.launch")
    session.check(abs(planned / expected - 1) < LARGEST_DIFFERENCE,
                  f"{shape}, {recipe}: {planned / 1e9:.3f} GB of weights a token, derived {expected / 1e9:.3f} GB "
                  f"(within {LARGEST_DIFFERENCE:.0%}), {launches} launches")
    of_layer = collections.Counter(int(layer) for layer in re.findall(r'label "layers\.(\d+)\.', found.group(2)))
    states = sum(map(int, re.findall(r"exec\.buffer @\S+ state bytes ([1-9]\d*)", text)))
    row = (launches, sorted(set(of_layer.values())), f"{planned / 1e9:.3f} GB", f"{expected / 1e9:.3f} GB", f"{states / 1e6:.1f} MB")
    session.check(row == stated(shape, recipe), f"{shape}, {recipe}: docs/design/shapes.md says {stated(shape, recipe)}", row)
    if not config["model_type"].startswith("gemma"):
        return
    bounded, whole = derive_caches(config)
    growing = CONTEXT * sum(map(int, re.findall(r"exec\.buffer @\S+ state bytes 0 per_position (\d+)", text)))
    session.check((states, growing) == (bounded, whole), f"{shape}: caches of {CONTEXT} positions have {states} bytes of "
                  f"windows and {growing} of the rest", (bounded, whole))
    row = (f"{bounded / 1e6:.1f} MB", f"{whole / 1e6:.1f} MB", f"{(bounded + whole) / 1e6:.1f} MB")
    session.check(row == stated_caches(shape), f"{shape}: docs/design/shapes.md says {stated_caches(shape)}", row)


support.main("shapes", body)
