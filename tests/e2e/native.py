#!/usr/bin/env python3
"""A checkpoint in Mistral's own files (params.json, consolidated.safetensors) and the same as a Hugging Face folder give the
same logits, bit for bit: names, rows of q and k in the order of adjacent RoPE pairs, and configuration are all put back. Then
both once more with their linears in FP8 with a scale a tensor, static activations, under each one's names.

usage: native.py BUILD_FOLDER CASE"""

import json
import math
import random
import struct

import support

NAMES = {"self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv",
         "self_attn.o_proj": "attention.wo", "mlp.gate_proj": "feed_forward.w1", "mlp.down_proj": "feed_forward.w2",
         "mlp.up_proj": "feed_forward.w3", "input_layernorm": "attention_norm", "post_attention_layernorm": "ffn_norm"}
ENDS = {"embed_tokens.weight": "tok_embeddings.weight", "norm.weight": "norm.weight"}
PARTS = {"weight": "weight", "weight_scale_inv": "qscale_weight", "activation_scale": "qscale_act"}


def tensors_of(folder):
    """{name: (type, shape, bytes)} of all files."""
    found = {}
    for path in sorted(folder.glob("model*.safetensors")):
        header, payload = support.safetensors_header(path)
        for name, entry in header.items():
            if name != "__metadata__":
                first, last = entry["data_offsets"]
                found[name] = entry["dtype"], entry["shape"], payload[first:last]
    return found


def write(path, tensors):
    header, payload = {}, b""
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(payload), len(payload) + len(data)]}
        payload += data
    support.write_safetensors(path, header, payload)


def own_name(name):
    for prefix in ("model.language_model.", "language_model.model.", "model."):
        if name.startswith(prefix + "layers."):
            layer, rest = name[len(prefix) + len("layers."):].split(".", 1)
            module, part = rest.rsplit(".", 1)
            return f"layers.{layer}.{NAMES[module]}.{PARTS[part]}"
        if name.startswith(prefix) and name[len(prefix):] in ENDS:
            return ENDS[name[len(prefix):]]
    if name.endswith("lm_head.weight"):
        return "output.weight"
    return "vision_encoder." + name  # a tower


def paired(data, heads, rows):
    """Row h * D + half * D / 2 + i moves to row h * D + 2 * i + half."""
    size, width = rows // heads, len(data) // rows
    out = bytearray(len(data))
    for row in range(rows):
        head, within = divmod(row, size)
        half, i = divmod(within, size // 2)
        to = head * size + 2 * i + half
        out[to * width:(to + 1) * width] = data[row * width:(row + 1) * width]
    return bytes(out)


def own_params(config):
    text = config.get("text_config", config)
    rope = text.get("rope_parameters") or {}
    params = {"dim": text["hidden_size"], "n_layers": text["num_hidden_layers"], "head_dim": text["head_dim"],
              "hidden_dim": text["intermediate_size"], "n_heads": text["num_attention_heads"],
              "n_kv_heads": text["num_key_value_heads"], "norm_eps": text["rms_norm_eps"], "vocab_size": text["vocab_size"],
              "rope_theta": rope.get("rope_theta", text.get("rope_theta")), "tied_embeddings": text["tie_word_embeddings"],
              "max_position_embeddings": text["max_position_embeddings"], "sliding_window": text["sliding_window"]}
    if rope.get("rope_type") == "yarn":
        original = rope["original_max_position_embeddings"]
        params["yarn"] = {"factor": rope["factor"], "original_max_position_embeddings": original, "beta": rope["beta_fast"],
                          "alpha": rope["beta_slow"], "apply_scale": False}
        params["llama_4_scaling"] = {"original_max_position_embeddings": original, "beta": rope["llama_4_scaling_beta"]}
    if "quantization_config" in config:
        params["quantization"] = {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}
    return params


def to_fp8(config, tensors):
    """The linears of the layers as random FP8 codes of about the size that the weights had."""
    chance = random.Random(5)
    out = {}
    for name, (dtype, shape, data) in tensors.items():
        if ".layers." not in name or not name.endswith("_proj.weight") or "vision" in name:
            out[name] = dtype, shape, data
            continue
        # Exponents 1 to 14, so values up to 240 and no NaN.
        out[name] = "F8_E4M3", shape, bytes(chance.randrange(8, 120) | chance.randrange(2) << 7 for _ in range(math.prod(shape)))
        stem = name[:-len("weight")]
        out[stem + "weight_scale_inv"] = "F32", [], struct.pack("<f", 0.001 * (1 + chance.random()))
        out[stem + "activation_scale"] = "F32", [], struct.pack("<f", 0.01)
    config = dict(config, quantization_config={"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None})
    return config, out


def body(session, case):
    source = support.SOURCE / "tests" / "goldens" / case
    tokens = support.read_safetensors(source / "golden.safetensors")["tokens"][1].tolist()[:70]
    plain = json.loads((source / "config.json").read_text()), tensors_of(source)
    for kind, (config, tensors) in (("bf16", plain), ("fp8", to_fp8(*plain))):
        text = config.get("text_config", config)
        usual, own = session.work / f"{kind}-usual", session.work / f"{kind}-own"
        for folder in (usual, own):
            folder.mkdir(exist_ok=True)
        (usual / "config.json").write_text(json.dumps(config))
        write(usual / "model.safetensors", tensors)
        (own / "params.json").write_text(json.dumps(own_params(config)))
        renamed = {}
        for name, (dtype, shape, data) in tensors.items():
            for module, heads in (("q_proj", "num_attention_heads"), ("k_proj", "num_key_value_heads")):
                if name.endswith(f"{module}.weight") and "vision" not in name:
                    data = paired(data, text[heads], shape[0])
            renamed[own_name(name)] = dtype, shape, data
        write(own / "consolidated.safetensors", renamed)
        outputs = []
        for folder in (usual, own):
            artifact = session.work / f"{folder.name}.ingot"
            if session.compile(folder, artifact, "bf16", targets=("gfx1151",), what=f"ingotc compiles {folder.name}"):
                outputs.append(session.logits(artifact, tokens, "gfx1151"))
        session.check(len(outputs) == 2 and outputs[0] is not None and outputs[0] == outputs[1],
                      f"{case}, {kind}: Mistral's own files give the logits of the Hugging Face folder")
        session.check(outputs and outputs[0] and all(map(math.isfinite, outputs[0][-1])), f"{case}, {kind}: logits are finite")


support.main("native", body)
