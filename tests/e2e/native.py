#!/usr/bin/env python3
"""A checkpoint in Mistral's own files (params.json, consolidated.safetensors) and the same as a Hugging Face folder give the
same logits, bit for bit: names, rows of q and k in the order of adjacent RoPE pairs, and configuration are all put back. Then
both once more with their linears in FP8 with a scale a tensor, static activations, under each one's names, Mistral's in two
files: the codes stay as they are, and the logits are those of the interpreter in fp32 by the values that they stand for.

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
# bf16 activations, as of any golden (docs/design/testing.md); and with a cache of E4M3 codes (kv_cache.py).
LARGEST_ERROR, LARGEST_ERROR_OF_CACHE = 2e-2, 6e-2
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


def dequantised(config, tensors):
    """What the codes stand for, in F32."""
    config = {key: value for key, value in config.items() if key != "quantization_config"}
    out = {}
    for name, (dtype, shape, data) in tensors.items():
        if name.endswith(("weight_scale_inv", "activation_scale")):
            continue
        if dtype == "F8_E4M3":
            scale, = struct.unpack("<f", tensors[name + "_scale_inv"][2])
            # Exponents from 1 on, as to_fp8 makes them.
            values = [(-1 if code & 0x80 else 1) * (1 + (code & 7) / 8) * 2.0**((code >> 3 & 15) - 7) * scale for code in data]
            dtype, data = "F32", struct.pack(f"<{len(values)}f", *values)
        out[name] = dtype, shape, data
    return config, out


def write_in_two(folder, tensors):
    """`consolidated` in two files with an index."""
    names = sorted(tensors)
    weight_map = {}
    for number, some in enumerate((names[::2], names[1::2]), 1):
        file = f"consolidated-{number:05}-of-00002.safetensors"
        write(folder / file, {name: tensors[name] for name in some})
        weight_map |= dict.fromkeys(some, file)
    (folder / "consolidated.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def exact_logits(session, model, tokens):
    """Of the interpreter, in fp32 throughout."""
    folder = session.work / "exact"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model[0]))
    write(folder / "model.safetensors", model[1])
    ids, out = session.work / "exact.json", session.work / "exact.safetensors"
    ids.write_text(json.dumps(tokens))
    done = session.run("ingot-reference", folder, "--tokens", ids, "-o", out)
    return support.rows_of(support.read_safetensors(out)) if done.returncode == 0 else session.check(False, "ingot-reference", done.stderr)


def kept(session, case, folder, tensors, exact, tokens, recipe, targets, limit):
    """FP8 codes go into the artifact as they are, and each chip computes with them."""
    artifact = session.work / f"{recipe}.ingot"
    done = session.run("ingotc", folder, "-o", artifact, f"--recipe={recipe}", f"--targets={','.join(targets)}", "--explain-quant")
    if not session.check(done.returncode == 0 and "second time" not in done.stderr, f"{case}: ingotc compiles FP8 as {recipe}",
                         done.stderr):
        return
    found = support.explained(done.stdout)
    codes = [name for name, (dtype, _, _) in tensors.items() if dtype == "F8_E4M3"]
    wrong = {row for row in found.items() if row[0].endswith("_proj.weight") and
             not (row[1][0].startswith("fp8") and row[1][1:] == (0, "the checkpoint's own"))}
    session.check(not wrong and sum(name.endswith("_proj.weight") for name in found) == len(codes),
                  f"{case}, {recipe}: the codes of {len(codes)} linears are the checkpoint's own", wrong or found)
    for target in targets:
        for steps in (False, True):
            rows = session.logits(artifact, tokens, target, steps=steps)
            error = support.relative_l2(rows, exact) if rows else math.inf
            session.check(error < limit, f"{case}, {recipe}, {target}, {'steps' if steps else 'prefill'}: relative L2 {error:.2e} of fp32 "
                          f"by the values that the codes stand for (< {limit})")


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
        if kind == "fp8":
            write_in_two(own, renamed)
        else:
            write(own / "consolidated.safetensors", renamed)
        artifacts = [session.work / f"{folder.name}.ingot" for folder in (usual, own)]
        if not all([session.compile(folder, artifact, what=f"ingotc compiles {folder.name}")
                    for folder, artifact in zip((usual, own), artifacts)]):
            continue
        for target in support.TARGETS:
            outputs = [session.logits(artifact, tokens, target) for artifact in artifacts]
            session.check(outputs[0] is not None and outputs[0] == outputs[1],
                          f"{case}, {kind}, {target}: Mistral's own files give the logits of the Hugging Face folder")
            session.check(outputs[0] and all(map(math.isfinite, outputs[0][-1])), f"{case}, {kind}, {target}: logits are finite")
        if kind == "bf16":
            continue
        exact = exact_logits(session, dequantised(config, tensors), tokens)
        if exact:
            kept(session, case, own, tensors, exact, tokens, "bf16", support.TARGETS, LARGEST_ERROR)
            kept(session, case, own, tensors, exact, tokens, "mistral-fp8", ("gfx1201",), LARGEST_ERROR_OF_CACHE)


support.main("native", body)
