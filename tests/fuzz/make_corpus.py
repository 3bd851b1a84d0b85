#!/usr/bin/env python3
"""Writes the first inputs of corpus/ from the checkpoints and recipes that the other tests use.

usage: make_corpus.py [PACK_BENCH]      with the program, the artifact's input too

What the fuzzers find is added by `tools/scripts/fuzz --keep`.
"""

import base64
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent
CORPUS = HERE / "corpus"


def put(reader, name, data):
    folder = CORPUS / reader
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def quantized(folder):
    """The input of fuzz_quantized that describes the same tensors."""
    data = (folder / "model.safetensors").read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + length])
    lines = [" ".join([name, entry["dtype"], *map(str, entry["shape"])])
             for name, entry in header.items() if name != "__metadata__"]
    # Filling bytes of a shape's own numbers, so that weight_shape and g_idx can be right: 64-bit extents.
    extents = next((entry["shape"] for name, entry in header.items() if name.endswith("weight_packed")), [0, 0])
    fill = struct.pack("<QQ", extents[0], extents[1] * 8) if extents[0] else bytes([0] * 4 + [0x77] * 4)
    config = json.dumps(json.loads((folder / "config.json").read_text()), separators=(",", ":"))
    return config.encode() + b"\0" + "\n".join(lines).encode() + b"\0" + fill


def hybrid_gguf():
    """A qwen35moe of two layers: names, metadata and shapes that the reader puts in order, and zeros for weights."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()

    hidden, experts = 16, 2
    facts = {"embedding_length": hidden, "block_count": 3, "nextn_predict_layers": 1, "context_length": 64,
             "attention.head_count": 1, "attention.head_count_kv": 1, "attention.key_length": 16, "rope.dimension_count": 4,
             "expert_count": experts, "expert_used_count": 1, "expert_feed_forward_length": 8,
             "expert_shared_feed_forward_length": 8, "ssm.conv_kernel": 4, "ssm.state_size": 16, "ssm.group_count": 1,
             "ssm.time_step_rank": 2, "ssm.inner_size": 32}
    head = text("general.architecture") + struct.pack("<I", 8) + text("qwen35moe")
    for key, value in facts.items():
        head += text(f"qwen35moe.{key}") + struct.pack("<II", 4, value)
    head += text("qwen35moe.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-6)
    shapes = {"token_embd.weight": (8, hidden), "output_norm.weight": (hidden,), "blk.0.attn_qkv.weight": (64, hidden),
              "blk.0.attn_gate.weight": (32, hidden), "blk.0.ssm_beta.weight": (2, hidden), "blk.0.ssm_alpha.weight": (2, hidden),
              "blk.0.ssm_a": (2,), "blk.0.ssm_dt.bias": (2,), "blk.0.ssm_conv1d.weight": (64, 4), "blk.0.ssm_norm.weight": (16,),
              "blk.0.ssm_out.weight": (hidden, 32), "blk.1.attn_q.weight": (32, hidden), "blk.1.attn_k.weight": (16, hidden),
              "blk.1.attn_q_norm.weight": (16,), "blk.1.ffn_gate_inp.weight": (experts, hidden),
              "blk.1.ffn_gate_exps.weight": (experts, 8, hidden), "blk.1.ffn_gate_inp_shexp.weight": (hidden,),
              "blk.2.nextn.eh_proj.weight": (hidden, 2 * hidden), "blk.2.attn_norm.weight": (hidden,)}
    records, offset = b"", 0
    for name, shape in shapes.items():
        records += text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *reversed(shape))
        records += struct.pack("<IQ", 0, offset)
        offset += -(-4 * math.prod(shape) // 32) * 32
    start = b"GGUF" + struct.pack("<IQQ", 3, len(shapes), len(facts) + 2) + head + records
    return start + bytes(-len(start) % 32 + offset)


def main(pack_bench=None):
    put("gguf", "tiny", (TESTS / "checkpoint/tiny.gguf").read_bytes())
    put("gguf", "hybrid", hybrid_gguf())
    for folder in sorted((TESTS / "checkpoint/quantized").iterdir()):
        put("quantized", folder.name, quantized(folder))
        if (folder / "model.safetensors").stat().st_size < 3000:
            put("safetensors", folder.name, (folder / "model.safetensors").read_bytes())
    for recipe in sorted((TESTS.parent / "models/recipes").glob("*.textproto")):
        put("recipe", recipe.stem, recipe.read_bytes())
    put("request", "chat", json.dumps({
        "messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [{"type": "text", "text": "b"}]},
                     {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
                     {"role": "tool", "content": "c"}],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}], "tool_choice": "auto", "n": 2,
        "stop": ["d"], "logit_bias": {"1": 2}, "logprobs": True, "top_logprobs": 1, "stream": True, "seed": 3,
        "stream_options": {"include_usage": True}, "temperature": 0.5, "max_tokens": 4}).encode())
    put("request", "text", json.dumps({"prompt": [[1, 2], [3]], "logprobs": 2, "top_k": -1, "min_p": 0.1}).encode())
    put("reply", "hermes", b'\x04<think>a</think>b <tool_call>{"name": "f", "arguments": {"x": 1}}</tool_call> c')
    put("reply", "xml", b"\x06<tool_call>\n<function=f>\n<parameter=x>\n1\n</parameter>\n</function>\n</tool_call>")
    put("reply", "mistral", b'\x0d[/THINK]a[TOOL_CALLS]f[ARGS]{"x": [1]}[TOOL_CALLS][{"name": "g"}]')
    put("reply", "gemma", b'\x05<|channel>thought\na<channel|><|tool_call>call:f{x:<|"|>b<|"|>,y:[1,{z:null}]}<tool_call|>')
    tiny = TESTS / "checkpoint/tiny"
    template = (TESTS / "tokenizer/templates/chatml.jinja").read_bytes()
    put("tokenizer", "bpe", (tiny / "tokenizer_config.json").read_bytes() + b"\0" + template + b"\0j\0"
        + (tiny / "tokenizer.json").read_bytes())
    # A SentencePiece model: pieces with scores and types, a trainer of BPE, a normaliser.
    def piece(text, score, kind):
        body = b"\x0a" + bytes([len(text)]) + text + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        return b"\x0a" + bytes([len(body)]) + body
    pieces = [(b"<unk>", 0, 2), (b"<s>", 0, 3), (b"</s>", 0, 3)]
    pieces += [(b"<0x%02X>" % value, 0, 6) for value in (0x0A, 0x20, 0xF0)]
    pieces += [(text.encode(), -float(i), 1) for i, text in enumerate("▁ ▁t t h e ▁th he ▁the c a ca cat".split(" "))]
    model = b"".join(piece(*entry) for entry in pieces) + b"\x12\x02\x18\x02" + b"\x1a\x02\x18\x01"
    # A tekken.json of the bytes and a few joins of them, and control tokens.
    vocab = [bytes([value]) for value in range(256)] + [b"th", b" th", b"the", b" the", b"ca", b"cat"]
    tekken = {"config": {"pattern": r"\p{L}+|\s+|[^\s\p{L}]+", "default_num_special_tokens": 3, "default_vocab_size": len(vocab) + 3,
                         "num_vocab_tokens": len(vocab), "version": "v7"},
              "vocab": [{"rank": rank, "token_bytes": base64.b64encode(piece).decode(), "token_str": None}
                        for rank, piece in enumerate(vocab)],
              "special_tokens": [{"rank": rank, "token_str": text, "is_control": True}
                                 for rank, text in enumerate(("<unk>", "<s>", "</s>"))]}
    put("tokenizer", "tekken", b"{}\0\0t\0" + json.dumps(tekken, separators=(",", ":")).encode())
    params = {"dim": 4, "n_layers": 1, "head_dim": 4, "hidden_dim": 4, "n_heads": 1, "n_kv_heads": 1, "norm_eps": 1e-5, "vocab_size": 4}
    header = {"layers.0.attention.wq.weight": {"dtype": "F8_E4M3", "shape": [4, 4], "data_offsets": [0, 16]},
              "layers.0.attention.wq.qscale_weight": {"dtype": "F32", "shape": [], "data_offsets": [16, 20]},
              "layers.0.attention.wq.qscale_act": {"dtype": "F32", "shape": [], "data_offsets": [20, 24]},
              "norm.weight": {"dtype": "BF16", "shape": [4], "data_offsets": [24, 32]}}
    text = json.dumps(header).encode()
    file = struct.pack("<Q", len(text)) + text + b"\x38" * 16 + struct.pack("<ff", 0.5, 0.25) + b"\x80\x3f" * 4
    more = {"old": {"sliding_window": 4, "max_seq_len": 32},
            "yarn": {"rope_theta": 1e6, "tied_embeddings": True, "max_position_embeddings": 64,
                     "yarn": {"factor": 4, "original_max_position_embeddings": 16, "beta": 32, "alpha": 1, "apply_scale": False},
                     "llama_4_scaling": {"original_max_position_embeddings": 16, "beta": 0.1}},
            "fp8": {"quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}}}
    for name, keys in more.items():
        put("params", name, json.dumps(params | keys).encode() + b"\0" + file)
    put("tokenizer", "sentencepiece", b'{"add_bos_token":true}\0\0m\0' + model)
    if pack_bench:
        small = HERE / "artifact-input"
        shutil.rmtree(small, ignore_errors=True)
        small.mkdir()
        name, values = "model.norm.weight", b"\x80\x3f" * 8
        header = json.dumps({name: {"dtype": "BF16", "shape": [8], "data_offsets": [0, 16]}}).encode()
        (small / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + values)
        (small / "config.json").write_text("{}")
        subprocess.run([pack_bench, "pack", small, "bf16", small / "out"], check=True)
        put("artifact", "small", (small / "out").read_bytes())
        shutil.rmtree(small)


if __name__ == "__main__":
    main(*sys.argv[1:])
