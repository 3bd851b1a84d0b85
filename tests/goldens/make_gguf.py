#!/usr/bin/env python3
"""Makes tests/goldens/gguf: cases of make_goldens.py as GGUF files, one an architecture, as llama.cpp's converter lays them
out: norms that multiply by 1 + w with the 1 added, A_log as -exp, squeezed convolutions, stacked experts, value heads of
qwen35 in tiled order, the projections of qwen3next unpacked, and an MTP head as one block more.

`<arch>.gguf` has the weights of its case, so its logits are that case's golden. `qwen35moe-q8_0.gguf` has its larger matrices
in Q8_0; `qwen35moe-q8_0.safetensors` holds `tokens` i64 [n] and `logits` f32 [n, vocabulary] of the weights as they then are.

usage: make_gguf.py [FILE...]     (needs torch, transformers 5, safetensors and gguf)
"""

import json
import pathlib
import sys

import gguf
import numpy
import torch
from make_goldens import OFFSET_NORMS, RouterGaps, split_experts
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

GOLDENS = pathlib.Path(__file__).resolve().parent
TYPES = gguf.GGMLQuantizationType
ARCHITECTURES = {"qwen3": "qwen3", "qwen3_moe": "qwen3moe", "qwen3_next": "qwen3next", "qwen3_5_text": "qwen35",
                 "qwen3_5_moe_text": "qwen35moe", "gemma3_text": "gemma3", "gemma4_text": "gemma4"}
FILES = {  # name: case and type of the matrices
    "qwen3": ("qwen3-narrow", TYPES.BF16),
    "qwen3moe": ("qwen3moe-renormalised", TYPES.F16),
    "qwen3next": ("qwen3next-packed", TYPES.F16),
    "qwen35": ("qwen35-grouped", TYPES.BF16),
    "qwen35moe": ("qwen35moe-shared", TYPES.BF16),
    "qwen35moe-q8_0": ("qwen35moe-real-heads", TYPES.Q8_0),
    "gemma3": ("gemma3-windows-only", TYPES.BF16),
    "gemma4": ("gemma4-long", TYPES.BF16),
    "gemma4-experts": ("gemma4moe-all", TYPES.BF16),
    "gemma4-shared": ("gemma4e-shared", TYPES.BF16),
}
GLOBAL = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
          "lm_head.weight": "output.weight"}
GEMMA4 = {"model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
          "model.per_layer_model_projection.weight": "per_layer_model_proj.weight",
          "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight"}
GEMMA4_LAYER = {"layer_scalar": "layer_output_scale.weight", "router.proj.weight": "ffn_gate_inp.weight",
                "router.scale": "ffn_gate_inp.scale", "router.per_expert_scale": "ffn_down_exps.scale",
                "experts.gate_up_proj": "ffn_gate_up_exps.weight", "experts.down_proj": "ffn_down_exps.weight",
                "post_feedforward_layernorm_1.weight": "post_ffw_norm_1.weight",
                "post_feedforward_layernorm_2.weight": "post_ffw_norm_2.weight",
                "pre_feedforward_layernorm_2.weight": "pre_ffw_norm_2.weight",
                "per_layer_input_gate.weight": "inp_gate.weight", "per_layer_projection.weight": "proj.weight",
                "post_per_layer_input_norm.weight": "post_norm.weight"}
# Where there are norms after the blocks too, `ffn_norm` is the one before the MLP.
POST_NORMS = {"pre_feedforward_layernorm": "ffn_norm", "post_feedforward_layernorm": "post_ffw_norm"}
LAYER = {"input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
         "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "linear_attn.in_proj_qkv": "attn_qkv", "linear_attn.in_proj_z": "attn_gate",
         "linear_attn.in_proj_b": "ssm_beta", "linear_attn.in_proj_a": "ssm_alpha", "linear_attn.in_proj_ba": "ssm_ba",
         "linear_attn.conv1d": "ssm_conv1d", "linear_attn.norm": "ssm_norm", "linear_attn.out_proj": "ssm_out",
         "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp",
         "mlp.experts.gate_proj": "ffn_gate_exps", "mlp.experts.up_proj": "ffn_up_exps",
         "mlp.experts.down_proj": "ffn_down_exps", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
         "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
         "mlp.shared_expert.down_proj": "ffn_down_shexp"} | POST_NORMS
DRAFT = {"fc": "eh_proj", "pre_fc_norm_embedding": "enorm", "pre_fc_norm_hidden": "hnorm", "norm": "shared_head_norm"}


def file_name(name, config):
    """A Hugging Face name in GGUF's words."""
    if name in GLOBAL:
        return GLOBAL[name]
    block = config["num_hidden_layers"]
    if name.startswith("mtp.layers."):
        name = name.replace("mtp.layers.0", f"model.layers.{block}")
    elif name.startswith("mtp."):
        return f"blk.{block}.nextn.{DRAFT[name.split('.')[1]]}.weight"
    if config["model_type"] == "gemma4_text":
        if name in GEMMA4:
            return GEMMA4[name]
        _, _, layer, rest = name.split(".", 3)
        if rest in GEMMA4_LAYER:
            return f"blk.{layer}.{GEMMA4_LAYER[rest]}"
    _, _, layer, rest = name.split(".", 3)
    if rest.startswith("linear_attn.") and rest.endswith(("A_log", "dt_bias")):
        return f"blk.{layer}." + ("ssm_a" if rest.endswith("A_log") else "ssm_dt.bias")
    module, suffix = rest.rsplit(".", 1)
    hybrid = config["model_type"] in OFFSET_NORMS or config["model_type"] == "gemma4_text"
    stem = LAYER.get(module) or {"post_attention_layernorm": "post_attention_norm" if hybrid else "ffn_norm"}[module]
    return f"blk.{layer}.{stem}.{suffix}"


def stack_experts(state):
    """`mlp.experts.N.gate_proj.weight` of all N as one tensor."""
    out = {}
    for name, value in state.items():
        if ".mlp.experts." in name:
            head, _, rest = name.partition(".mlp.experts.")
            out.setdefault(f"{head}.mlp.experts.{rest.partition('.')[2]}", []).append(value)
        else:
            out[name] = value
    return {name: torch.stack(value) if isinstance(value, list) else value for name, value in out.items()}


def unpack_qkvz(state, config):
    """in_proj_qkvz, whose rows go by key head, as [q | k | v] and z with value heads in Hugging Face's order."""
    keys, size = config["linear_num_key_heads"], config["linear_key_head_dim"]
    values = config["linear_num_value_heads"] // keys * config["linear_value_head_dim"]
    out = {}
    for name, value in state.items():
        if not name.endswith("in_proj_qkvz.weight"):
            out[name] = value
            continue
        parts = value.reshape(keys, -1, value.shape[1]).split([size, size, values, values], 1)
        q, k, v, z = (part.reshape(-1, value.shape[1]) for part in parts)
        out[name.replace("qkvz", "qkv")] = torch.cat([q, k, v])
        out[name.replace("qkvz", "z")] = z
    return out


def tile_value_heads(name, value, config):
    """Value head i of key head k moves from place k * r + i to place i * Hk + k."""
    keys, heads, size = (config[f"linear_{key}"] for key in ("num_key_heads", "num_value_heads", "value_head_dim"))

    def tile(part, width):
        return part.reshape(keys, heads // keys, width, -1).transpose(0, 1).reshape(part.shape)

    if name.endswith(("in_proj_qkv.weight", "conv1d.weight")):
        first = 2 * keys * config["linear_key_head_dim"]
        return torch.cat([value[:first], tile(value[first:], size)])
    if name.endswith("in_proj_z.weight"):
        return tile(value, size)
    if name.endswith(("in_proj_a.weight", "in_proj_b.weight", "A_log", "dt_bias")):
        return tile(value, 1)
    if name.endswith("linear_attn.out_proj.weight"):
        return tile(value.T, size).T
    return value


def converted(state, config):
    """The tensors of the file by name."""
    hybrid = config["model_type"] in OFFSET_NORMS
    state = stack_experts(split_experts(state))
    if "linear_num_key_heads" in config:
        state = unpack_qkvz(state, config)
    out = {}
    for name, value in state.items():
        if config["model_type"].startswith("qwen3_5"):
            value = tile_value_heads(name, value, config)
        if name.endswith("A_log"):
            value = -value.exp()
        elif name.endswith("conv1d.weight"):
            value = value.squeeze(1)
        elif name.endswith("shared_expert_gate.weight"):
            value = value.squeeze(0)
        elif hybrid and name.endswith("norm.weight") and "linear_attn" not in name:
            value = value + 1
        elif hybrid and "mtp.pre_fc_norm" in name:
            value = value + 1
        out[file_name(name, config)] = value.contiguous()
    if config["model_type"] == "gemma4_text":  # what global layers divide their frequencies by: those that rotate come first
        rope = config["rope_parameters"]["full_attention"]
        size = max(head for head, _ in gemma4_heads(config))
        out["rope_freqs.weight"] = torch.full([size // 2], 1e30)
        out["rope_freqs.weight"][:int(rope["partial_rotary_factor"] * size) // 2] = 1
    return out


def gemma4_heads(config):
    """Size and number of the KV heads of each layer."""
    plain = config["head_dim"], config["num_key_value_heads"]
    for layer, kind in enumerate(config["layer_types"]):
        own = config.get("per_layer_config", {}).get(str(layer), {})
        if kind == "full_attention" and "per_layer_config" not in config:
            own = {"head_dim": config["global_head_dim"]}
            if config["attention_k_eq_v"]:
                own["num_key_value_heads"] = config["num_global_key_value_heads"]
        yield own.get("head_dim", plain[0]), own.get("num_key_value_heads", plain[1])


def gemma4_metadata(writer, config):
    windows = [kind == "sliding_attention" for kind in config["layer_types"]]
    heads = list(gemma4_heads(config))
    sizes = {window: size for window, (size, _) in zip(windows, heads)}
    width, shared = config["intermediate_size"], config["num_kv_shared_layers"]
    widths = [width] * (len(windows) - shared) + [width * (2 if config["use_double_wide_mlp"] else 1)] * shared
    writer.add_block_count(len(windows))
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(widths if len(set(widths)) > 1 else width)
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv([count for _, count in heads])
    writer.add_key_length(sizes[False])
    writer.add_value_length(sizes[False])
    writer.add_key_length_swa(sizes[True])
    writer.add_value_length_swa(sizes[True])
    writer.add_rope_dimension_count(sizes[False])
    writer.add_rope_dimension_count_swa(sizes[True])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_sliding_window_pattern(windows)
    writer.add_shared_kv_layers(shared)
    writer.add_embedding_length_per_layer_input(config["hidden_size_per_layer_input"])
    writer.add_rope_freq_base(config["rope_parameters"]["full_attention"]["rope_theta"])
    writer.add_rope_freq_base_swa(config["rope_parameters"]["sliding_attention"]["rope_theta"])
    if config["final_logit_softcapping"]:
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if config["enable_moe_block"]:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["top_k_experts"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def storage(name, value, kind):
    """F32 where llama.cpp's converter insists on it, F16 where rows do not fill Q8_0's blocks."""
    if value.dim() == 1 or name.endswith("norm.weight") or not name.endswith(".weight") or \
            name.endswith(("ffn_gate_inp.weight", "ssm_conv1d.weight")):
        return TYPES.F32
    return TYPES.F16 if kind == TYPES.Q8_0 and value.shape[-1] % 32 else kind


def metadata(writer, config, drafting):
    if config["model_type"] == "gemma4_text":
        gemma4_metadata(writer, config)
        return

    def put(key, value):
        name = f"{writer.arch}.{key}"
        if isinstance(value, list):
            writer.add_array(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif value is not None:
            writer.add_uint32(name, value)

    rope = config.get("rope_parameters") or config
    if "full_attention" in rope:  # Gemma's; llama.cpp knows the windows' theta and every sixth layer to be global
        rope = rope["full_attention"]
        put("attention.sliding_window", config["sliding_window"])
    put("block_count", config["num_hidden_layers"] + drafting)
    put("context_length", config["max_position_embeddings"])
    put("embedding_length", config["hidden_size"])
    put("feed_forward_length", config.get("intermediate_size"))
    put("attention.head_count", config["num_attention_heads"])
    put("attention.head_count_kv", config["num_key_value_heads"])
    put("attention.key_length", config["head_dim"])
    put("attention.value_length", config["head_dim"])
    put("attention.layer_norm_rms_epsilon", config["rms_norm_eps"])
    put("rope.freq_base", float(rope["rope_theta"]))
    put("rope.dimension_count", int(config["head_dim"] * rope.get("partial_rotary_factor", 1)))
    if "mrope_section" in rope:
        put("rope.dimension_sections", rope["mrope_section"] + [0])
    put("expert_count", config.get("num_experts"))
    put("expert_used_count", config.get("num_experts_per_tok"))
    put("expert_feed_forward_length", config.get("moe_intermediate_size"))
    put("expert_shared_feed_forward_length", config.get("shared_expert_intermediate_size"))
    if "linear_num_key_heads" in config:
        put("ssm.conv_kernel", config["linear_conv_kernel_dim"])
        put("ssm.state_size", config["linear_key_head_dim"])
        put("ssm.group_count", config["linear_num_key_heads"])
        put("ssm.time_step_rank", config["linear_num_value_heads"])
        put("ssm.inner_size", config["linear_num_value_heads"] * config["linear_value_head_dim"])
        put("full_attention_interval", config.get("full_attention_interval", 4))
    if drafting:
        put("nextn_predict_layers", 1)


@torch.no_grad()
def rounded_logits(folder, config, state, kind, tokens):
    """The logits with every matrix rounded to what the file stores, and the least router gap. Q8_0 goes by rows, and one key
    head's value heads are tiled as they were grouped, so rounding Hugging Face's tensors is rounding the file's."""
    assert config["linear_num_key_heads"] == 1
    for name, value in state.items():
        rows = value.squeeze(0) if name.endswith("shared_expert_gate.weight") else value
        if storage("fc.weight" if "experts" in name else name.replace("mlp.gate.weight", "ffn_gate_inp.weight"), rows,
                   kind) == TYPES.Q8_0 and "conv1d" not in name:
            codes = gguf.quants.quantize(value.numpy(), TYPES.Q8_0)
            state[name] = torch.from_numpy(gguf.quants.dequantize(codes, TYPES.Q8_0))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                 experts_implementation="eager").eval()
    model.load_state_dict(state)
    gaps = RouterGaps(model)
    return model(tokens[None], use_cache=False).logits[0], gaps.take(tokens.shape).min().item()


def make(name, case, kind):
    folder, path = GOLDENS / case, GOLDENS / "gguf" / f"{name}.gguf"
    path.parent.mkdir(exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    state = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    if kind == TYPES.Q8_0:
        tokens = load_file(folder / "golden.safetensors")["tokens"]
        logits, gap = rounded_logits(folder, config, state, kind, tokens)
        print(f"{name}: least router gap {gap:.3f}")
        save_file({"tokens": tokens, "logits": logits}, path.with_suffix(".safetensors"))
    writer = gguf.GGUFWriter(path, ARCHITECTURES[config["model_type"]])
    writer.add_name(name)
    metadata(writer, config, int("mtp.fc.weight" in state))
    for key, value in sorted(converted(state, config).items()):
        stored = storage(key, value, kind)
        data = gguf.quants.quantize(value.numpy(), stored)
        again = gguf.quants.dequantize(data, stored).reshape(value.shape)
        assert numpy.array_equal(again, value.numpy()), f"{name}: {key} is not exact in {stored.name}"
        writer.add_tensor(key, data, raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    print(f"{name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    for file in sys.argv[1:] or FILES:
        make(file, *FILES[file])
