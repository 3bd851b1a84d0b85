#!/usr/bin/env python3
"""Makes the golden logits of the small random checkpoints: tests/goldens/<case>/{config.json, *.safetensors}.

Each case is a Llama or Mistral with random weights that reaches a branch which real models of one size would hide. The
oracle is Hugging Face transformers in fp32 with eager attention. Every weight is representable in bf16 (and in f16 where
a case stores f16), so a recipe that keeps weights in bf16 differs from the golden by its activations alone.

golden.safetensors holds `tokens` i64 [n] and `logits` f32 [n, vocabulary].

usage: make_goldens.py OUT_FOLDER     (needs torch, transformers 5 and safetensors; half a minute on a CPU)
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

PLAIN = {"rope_type": "default"}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

# name: family, tokens, how config.json spells RoPE (transformers 4's keys or 5's), storage, shards, what it covers, config
CASES = {
    "mistral-window5": dict(
        family="mistral", tokens=130, rope_keys=4, storage="bf16", covers="inclusive window edge, H not a multiple of 64",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, sliding_window=5, rope_parameters=PLAIN | {"rope_theta": 1e4})),
    "mistral-window64": dict(
        family="mistral", tokens=300, rope_keys=5, storage="bf16", covers="window across tiles, 4 heads on one, D = 64",
        config=dict(vocab_size=97, hidden_size=80, intermediate_size=144, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=1, head_dim=64, sliding_window=64, rope_parameters=PLAIN | {"rope_theta": 1e4})),
    "mistral-sharded": dict(
        family="mistral", tokens=130, rope_keys=5, storage="bf16", shards=2,
        covers="shards with an index, wide attention (Hq*D = 256, H = 48), no window, large theta",
        config=dict(vocab_size=300, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
                    num_key_value_heads=2, head_dim=32, sliding_window=None,
                    rope_parameters=PLAIN | {"rope_theta": 1e6})),
    "llama-tied-f32": dict(
        family="llama", tokens=130, rope_keys=5, storage="f32", covers="tied head, 3 heads on one, Hq*D = 192, F32 storage",
        config=dict(vocab_size=131, hidden_size=72, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
                    num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
                    rope_parameters=PLAIN | {"rope_theta": 500.0})),
    "llama-biases-f16": dict(
        family="llama", tokens=130, rope_keys=4, storage="f16", covers="attention and MLP biases, 5 heads on one, F16 storage",
        config=dict(vocab_size=113, hidden_size=80, intermediate_size=112, num_hidden_layers=2, num_attention_heads=5,
                    num_key_value_heads=1, head_dim=16, attention_bias=True, mlp_bias=True,
                    rope_parameters=PLAIN | {"rope_theta": 1e4})),
    "llama-rope3": dict(
        family="llama", tokens=200, rope_keys=4, storage="bf16", covers="llama3 RoPE scaling, one KV head a query head",
        config=dict(vocab_size=101, hidden_size=128, intermediate_size=160, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=2, head_dim=64, rope_parameters=LLAMA3 | {"rope_theta": 5e5})),
    "llama-long": dict(
        family="llama", tokens=300, rope_keys=5, storage="bf16", covers="lengths across page and tile borders, three layers",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3,
                    num_key_value_heads=1, head_dim=16, tie_word_embeddings=True,
                    rope_parameters=PLAIN | {"rope_theta": 1e4})),
}
STORAGE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def initialise(model, generator):
    """Weights of unit gain, norms 1 + N(0, 0.2), biases N(0, 0.3): zeros and ones would hide mistakes."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "norm" in name:
            value = 1 + 0.2 * noise
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif "embed_tokens" in name:
            value = noise if not model.config.tie_word_embeddings else noise * parameter.shape[1] ** -0.5
        else:
            value = noise * parameter.shape[1] ** -0.5
        value = value.to(torch.bfloat16).float()
        value[value.abs() < 2.0**-12] = 0  # below that f16 would round what bf16 holds
        parameter.data.copy_(value)


def config_json(config, rope_keys):
    """config.json as checkpoints spell it: transformers 5 has `rope_parameters`, 4 had `rope_theta` and `rope_scaling`."""
    text = json.loads(config.to_json_string(use_diff=False))
    keep = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
            "hidden_act max_position_embeddings rms_norm_eps tie_word_embeddings attention_bias mlp_bias sliding_window "
            "bos_token_id eos_token_id model_type architectures").split()
    out = {key: text[key] for key in keep if key in text}
    rope = dict(config.rope_parameters)
    if rope_keys == 5:
        out["dtype"] = "float32"
        out["rope_parameters"] = rope
    else:
        out["torch_dtype"] = "float32"
        out["rope_theta"] = rope.pop("rope_theta")
        out["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    return out


def save_weights(folder, state, shards):
    if shards == 1:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names, weight_map = sorted(state), {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: state[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= {name: file for name in part}
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")


def make(name, case, out):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(sum(name.encode()))
    config_class, model_class = {"llama": (LlamaConfig, LlamaForCausalLM),
                                 "mistral": (MistralConfig, MistralForCausalLM)}[case["family"]]
    config = config_class(max_position_embeddings=512, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2,
                          **({"tie_word_embeddings": False} | case["config"]))
    config._attn_implementation = "eager"
    config.architectures = [model_class.__name__]
    model = model_class(config).eval().float()
    initialise(model, generator)
    tokens = torch.randint(3, config.vocab_size, (case["tokens"],), generator=generator)
    with torch.no_grad():
        logits = model(tokens[None], use_cache=False).logits[0].contiguous()

    state = {key: value.detach().to(STORAGE[case["storage"]]).contiguous() for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for key, value in state.items():
        assert torch.equal(value.float(), model.state_dict()[key]), f"{name}: {key} is not exact in {case['storage']}"
    save_weights(folder, state, case.get("shards", 1))
    (folder / "config.json").write_text(json.dumps(config_json(config, case["rope_keys"]), indent=1) + "\n")
    save_file({"tokens": tokens, "logits": logits}, folder / "golden.safetensors", metadata={"covers": case["covers"]})
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, logits of std {logits.std():.3f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    for case_name, one in CASES.items():
        make(case_name, one, pathlib.Path(sys.argv[1]))
