#!/usr/bin/env python3
"""Makes the golden files of this folder with the `gguf` Python package (0.19) as the oracle.

    dequantize.gguf    random blocks of every storage type that the compiler reads, as tensor TYPE, and what
                       gguf.quants.dequantize makes of them, as the F32 tensor TYPE.expected
    tiny.gguf          a Llama of one layer with biases, F16 matrices and F32 vectors, its q and k rows permuted as the
                       converter of llama.cpp does, with a byte-level vocabulary
    tiny/              the same model as a Hugging Face folder

Usage: make_goldens.py [FOLDER]; needs gguf and numpy. The files are the same on every run.
"""

import json
import pathlib
import struct
import sys

import gguf
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType as Type

TYPES = [Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, Type.Q4_K, Type.Q5_K,
         Type.Q6_K]
# Byte offsets of the f16 fields of a block: random bits there would be infinities and NaNs.
HALF_FIELDS = {Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
               Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208]}


def random_blocks(random, kind, rows, blocks):
    """Blocks of random bits, with finite scales of both signs, some zero and some subnormal."""
    size, width = GGML_QUANT_SIZES[kind]
    raw = random.integers(0, 256, (rows * blocks, width), dtype=np.uint8)
    for offset in HALF_FIELDS.get(kind, []):
        scales = (random.standard_normal(rows * blocks) * 10.0 ** random.integers(-7, 3, rows * blocks)).astype(np.float16)
        scales[0] = 0
        raw[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return raw.reshape(rows, blocks * width)


def make_dequantize(folder):
    random = np.random.default_rng(20)
    writer = gguf.GGUFWriter(folder / "dequantize.gguf", "none")
    for kind in TYPES:
        elements = GGML_QUANT_SIZES[kind][0]
        if kind == Type.F32:
            raw = random.standard_normal((2, 64)).astype(np.float32)
            expected = raw
        elif elements == 1:
            # Every 16-bit pattern class: normals, subnormals, zeros, infinities; quiet NaNs only.
            bits = random.integers(0, 65536, (2, 512)).astype(np.uint16)
            bits[0, :8] = [0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x7c00, 0xfc00]
            mantissa_nan = {Type.F16: (0x7c00, 0x3ff, 0x200), Type.BF16: (0x7f80, 0x7f, 0x40)}[kind]
            is_nan = ((bits & mantissa_nan[0]) == mantissa_nan[0]) & ((bits & mantissa_nan[1]) != 0)
            bits[is_nan] |= mantissa_nan[2]
            raw = bits.view(np.float16) if kind == Type.F16 else bits.view(np.uint8)
            expected = gguf.quants.dequantize(raw, kind)
        else:
            blocks = 24 if elements == 32 else 6
            raw = random_blocks(random, kind, 2, blocks)
            expected = gguf.quants.dequantize(raw, kind)
        writer.add_tensor(kind.name, raw, raw_dtype=None if kind in (Type.F32, Type.F16) else kind)
        writer.add_tensor(kind.name + ".expected", np.ascontiguousarray(expected, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


HIDDEN, HEADS, KV_HEADS, HEAD, FFN, VOCABULARY = 32, 4, 2, 8, 48, 40


def tiny_weights():
    random = np.random.default_rng(21)

    def matrix(*shape):
        return random.standard_normal(shape).astype(np.float16)

    def vector(size):
        return random.standard_normal(size).astype(np.float32)

    layer = "model.layers.0."
    return {
        "model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN),
        layer + "input_layernorm.weight": vector(HIDDEN),
        layer + "self_attn.q_proj.weight": matrix(HEADS * HEAD, HIDDEN),
        layer + "self_attn.q_proj.bias": vector(HEADS * HEAD),
        layer + "self_attn.k_proj.weight": matrix(KV_HEADS * HEAD, HIDDEN),
        layer + "self_attn.k_proj.bias": vector(KV_HEADS * HEAD),
        layer + "self_attn.v_proj.weight": matrix(KV_HEADS * HEAD, HIDDEN),
        layer + "self_attn.v_proj.bias": vector(KV_HEADS * HEAD),
        layer + "self_attn.o_proj.weight": matrix(HIDDEN, HEADS * HEAD),
        layer + "post_attention_layernorm.weight": vector(HIDDEN),
        layer + "mlp.gate_proj.weight": matrix(FFN, HIDDEN),
        layer + "mlp.up_proj.weight": matrix(FFN, HIDDEN),
        layer + "mlp.down_proj.weight": matrix(HIDDEN, FFN),
        "model.norm.weight": vector(HIDDEN),
    }


GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "model.layers.0.input_layernorm": "blk.0.attn_norm",
    "model.layers.0.self_attn.q_proj": "blk.0.attn_q", "model.layers.0.self_attn.k_proj": "blk.0.attn_k",
    "model.layers.0.self_attn.v_proj": "blk.0.attn_v", "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
    "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm", "model.layers.0.mlp.gate_proj": "blk.0.ffn_gate",
    "model.layers.0.mlp.up_proj": "blk.0.ffn_up", "model.layers.0.mlp.down_proj": "blk.0.ffn_down",
}


def to_adjacent_pairs(rows, heads):
    """From rotate-half to adjacent-pair row order: each head's two halves are interleaved."""
    halves = rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows.shape))


def vocabulary():
    tokens = ["<|end|>", "<|im_start|>", "<|im_end|>"] + [chr(ord("a") + i) for i in range(26)] + ["Ġ", "th", "the", "Ġthe", "<tool>"]
    types = [3, 3, 3] + [1] * 30 + [4]
    while len(tokens) < VOCABULARY:
        tokens.append(f"[PAD{len(tokens)}]")
        types.append(5)
    return tokens, types, ["t h", "th e", "Ġ the"]


def make_tiny(folder):
    weights = tiny_weights()
    tokens, types, merges = vocabulary()
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(100000.0)
    writer.add_rope_dimension_count(HEAD)
    writer.add_vocab_size(VOCABULARY)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    for name, value in weights.items():
        stem, suffix = name.rsplit(".", 1)
        if "q_proj" in name:
            value = to_adjacent_pairs(value, HEADS)
        if "k_proj" in name:
            value = to_adjacent_pairs(value, KV_HEADS)
        writer.add_tensor(f"{GGUF_NAMES[stem]}.{suffix}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    model = folder / "tiny"
    model.mkdir(exist_ok=True)
    header, data = {}, b""
    for name, value in weights.items():
        dtype = {"float16": "F16", "float32": "F32"}[value.dtype.name]
        header[name] = {"dtype": dtype, "shape": list(value.shape), "data_offsets": [len(data), len(data) + value.nbytes]}
        data += value.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)

    def write_json(name, content):
        (model / name).write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    write_json("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": HIDDEN,
        "num_hidden_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD,
        "intermediate_size": FFN, "max_position_embeddings": 128, "rms_norm_eps": 1e-5, "rope_theta": 100000.0,
        "vocab_size": VOCABULARY, "tie_word_embeddings": True, "attention_bias": True, "mlp_bias": False,
        "bos_token_id": 1, "eos_token_id": 2})
    write_json("generation_config.json", {"eos_token_id": [2, 0]})
    write_json("tokenizer_config.json", {
        "bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "unk_token": None,
        "chat_template": [{"name": "tool_use", "template": "tools"},
                          {"name": "default", "template": "{{ messages[0]['content'] }}"}]})
    write_json("tokenizer.json", {
        "added_tokens": [{"id": i, "content": tokens[i], "special": kind == 3, "lstrip": False, "rstrip": False,
                          "single_word": False, "normalized": False} for i, kind in enumerate(types) if kind in (3, 4)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}]},
        "post_processor": None,
        "model": {"type": "BPE", "unk_token": None, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {token: i for i, (token, kind) in enumerate(zip(tokens, types)) if kind in (1, 3)},
                  "merges": [merge.split(" ") for merge in merges]}})


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent
    make_dequantize(folder)
    make_tiny(folder)


if __name__ == "__main__":
    main()
