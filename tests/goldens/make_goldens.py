#!/usr/bin/env python3
"""Makes the golden logits of the small random checkpoints: tests/goldens/<case>/{config.json, *.safetensors}.

Each case of cases.py has random weights and reaches a branch which real models of one size would hide. The oracle is
Hugging Face transformers in fp32 with eager attention, and the folder as written is loaded again by transformers and must
give the same logits. Weights are representable in bf16 (and in f16 where a case stores f16), so a recipe that keeps weights
in bf16 differs from the golden by its activations alone.

golden.safetensors holds `tokens` i64 [n] and `logits` f32 [n, vocabulary]. With an MTP head also `mtp_logits` f32
[n - 1, vocabulary], row p from the hidden state of p and token p + 1, and of three chained drafts after each of
`mtp_chain_positions` i64 [m] their `mtp_chain_tokens` i64 [m, 3] and `mtp_chain_logits` f32 [m, 3, vocabulary].

usage: make_goldens.py OUT_FOLDER [CASE...]     (needs torch, transformers 5 and safetensors; minutes on a CPU)
"""

import json
import math
import pathlib
import sys

import torch
from cases import CASES
from safetensors.torch import save_file
from transformers import (AutoConfig, AutoModelForCausalLM, Gemma3ForConditionalGeneration, Gemma4ForConditionalGeneration,
                          Mistral3ForConditionalGeneration, Qwen3_5ForConditionalGeneration,
                          Qwen3_5MoeForConditionalGeneration)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "models" / "trained"))
from mtp import MtpHead, drafts  # noqa: E402

STORAGE = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
CANDIDATES = 16  # tokens tried at once
CLEAR_GAP = 0.125  # of router logits with a standard deviation of 2
STEADY = 0.05  # relative L2 of one row of logits
# Families whose norms multiply by 1 + w.
OFFSET_NORMS = ("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "gemma3_text")
# The multimodal release around a text model: its model_type, class, the configuration of its vision part, and a few of
# that part's tensors.
QWEN_VISION = dict(depth=1, hidden_size=16, intermediate_size=32, num_heads=2, out_hidden_size=48, num_position_embeddings=4,
                   patch_size=4, in_channels=3)
QWEN_TENSORS = {"visual.patch_embed.proj.weight": (16, 3, 2, 4, 4), "visual.blocks.0.attn.qkv.weight": (48, 16),
                "visual.blocks.0.attn.qkv.bias": (48,), "visual.merger.norm.weight": (16,)}
GEMMA_VISION = dict(num_hidden_layers=1, hidden_size=16, intermediate_size=32, num_attention_heads=2, image_size=8, patch_size=4)
PUBLISHED = {
    "qwen3_5_text": ("qwen3_5", Qwen3_5ForConditionalGeneration, {"model_type": "qwen3_5_vision"} | QWEN_VISION, QWEN_TENSORS),
    "qwen3_5_moe_text": ("qwen3_5_moe", Qwen3_5MoeForConditionalGeneration,
                         {"model_type": "qwen3_5_moe_vision"} | QWEN_VISION, QWEN_TENSORS),
    "ministral3": ("mistral3", Mistral3ForConditionalGeneration,
                   dict(model_type="pixtral", hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                        num_attention_heads=1, head_dim=16, image_size=8, patch_size=4),
                   {"vision_tower.patch_conv.weight": (16, 3, 4, 4), "vision_tower.ln_pre.weight": (16,),
                    "multi_modal_projector.linear_2.weight": (40, 40)}),
    "gemma3_text": ("gemma3", Gemma3ForConditionalGeneration, {"model_type": "siglip_vision_model"} | GEMMA_VISION,
                    {"vision_tower.vision_model.post_layernorm.weight": (16,),
                     "multi_modal_projector.mm_soft_emb_norm.weight": (16,)}),
    "gemma4_text": ("gemma4", Gemma4ForConditionalGeneration, {"model_type": "gemma4_vision"} | GEMMA_VISION,
                    {"vision_tower.post_layernorm.weight": (16,), "embed_vision.embedding_projection.weight": (48, 16)}),
}
GEMMA_PICTURES = ("image_token_id", "boi_token_id", "eoi_token_id", "video_token_id")
PICTURES = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")  # the vocabulary's last


def initialise(model, offset_norms, tied, generator):
    """Weights of unit gain, norms 1 + N(0, 0.2), biases N(0, 0.3): zeros and ones would hide mistakes. The decay of a linear
    attention head is spread evenly in its logarithm, so that some heads remember across chunks and some forget at once."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("A_log"):
            value = torch.empty_like(noise).uniform_(math.log(0.01), math.log(16), generator=generator)
        elif name.endswith("dt_bias"):
            value = noise
        elif "conv1d" in name:
            value = 0.5 * noise
        elif "norm" in name:
            value = (0 if offset_norms and "linear_attn" not in name else 1) + 0.2 * noise
            if getattr(model.config, "model_type", "") == "gemma4_text" and name.endswith(("q_norm.weight", "k_norm.weight")):
                value = value * parameter.shape[0] ** -0.25  # they carry the scale of scores
        elif name.endswith(("router.scale", "router.per_expert_scale")):
            value = torch.empty_like(noise).uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("router.proj.weight"):
            value = 2 * noise
        elif "embed_tokens_per_layer" in name:
            value = 0.3 * noise
        elif "embed_tokens" in name and hasattr(model.config, "hidden_activation"):
            value = noise * parameter.shape[1] ** -0.5  # Gemma multiplies rows by the root of their width
        elif name.endswith("bias"):
            value = 0.3 * noise
        elif "embed_tokens" in name:
            value = noise if not tied else noise * parameter.shape[1] ** -0.5
        elif name.endswith("mlp.gate.weight"):
            value = 2 * noise * parameter.shape[1] ** -0.5
        else:
            value = noise * parameter.shape[-1] ** -0.5
        value = value.to(torch.bfloat16).float()
        value[value.abs() < 2.0**-12] = 0  # below that f16 would round what bf16 holds
        parameter.data.copy_(value)
    for name, buffer in model.named_buffers():
        if name.endswith("layer_scalar"):
            buffer.copy_(torch.empty_like(buffer).uniform_(0.5, 1.5, generator=generator).to(torch.bfloat16))


class RouterGaps:
    """Of the last forward of some modules: by how much the last expert chosen beats the first one left out, in logits, the
    least of all their routers; [batch, rows], infinite without routers."""

    def __init__(self, module):
        self.seen = []
        for router in (m for m in module.modules() if type(m).__name__.endswith(("TopKRouter", "TextRouter"))):
            router.register_forward_hook(self.see)

    def see(self, router, inputs, _):
        if hasattr(router, "proj"):  # Gemma's
            logits = router.proj(router.norm(inputs[0]) * router.scale * router.scalar_root_size)
            chosen = router.config.top_k_experts
        else:
            logits, chosen = inputs[0] @ router.weight.T, router.top_k
        if chosen < logits.shape[-1]:
            top = logits.topk(chosen + 1, -1).values
            self.seen.append(top[:, -2] - top[:, -1])

    def take(self, shape):
        gaps, self.seen = self.seen, []
        return torch.stack(gaps).amin(0).reshape(shape) if gaps else torch.full(shape, math.inf)


class RoundedInputs:
    """While it is entered, every matrix product of `model` reads its operand rounded to bf16, as a device does. Another
    `scale` rounds other values up and down."""

    def __init__(self, model, scale):
        self.scale = scale
        self.modules = [m for m in model.modules() if isinstance(m, torch.nn.Linear) or type(m).__name__.endswith("Experts")]

    def __enter__(self):
        self.hooks = [m.register_forward_pre_hook(self.round) for m in self.modules]

    def __exit__(self, *_):
        for hook in self.hooks:
            hook.remove()

    def round(self, _, inputs):
        return ((inputs[0] * self.scale).bfloat16().float() / self.scale, *inputs[1:])


def logits_of(model, hidden):
    """What the head makes of the last hidden states."""
    logits, cap = model.lm_head(hidden), getattr(model.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)


def sensitivity(model, batch, hidden):
    """By how much each row's logits move when products read bf16, the most of several ways to round: relative L2,
    [batch, rows]. `hidden` is without rounding."""
    exact, moved = logits_of(model, hidden), []
    for scale in (1, 1.2, 1.4, 1.7):
        with RoundedInputs(model, scale):
            rounded = logits_of(model, model.model(batch, use_cache=False).last_hidden_state)
        moved.append((rounded - exact).norm(dim=-1) / exact.norm(dim=-1))
    return torch.stack(moved).amax(0)


def choose_tokens(model, head, count, vocabulary, generator):
    """Random tokens from 3 below `vocabulary` such that no router of the model or the MTP head is close to another choice,
    and no row's logits hang on bits that bf16 does not have (a key of Gated DeltaNet that is nearly zero before it is
    normalised, say), since neither has a golden: the first token at which one of these is so is drawn again until none is.
    Returns the least gap too."""
    tokens = torch.randint(3, vocabulary, (count,), generator=generator)
    gaps, head_gaps = RouterGaps(model), RouterGaps(head) if head is not None else None
    row = 0
    while True:
        batch = tokens.repeat(CANDIDATES, 1)
        batch[1:, row] = torch.randint(3, vocabulary, (CANDIDATES - 1,), generator=generator)
        hidden = model.model(batch, use_cache=False).last_hidden_state
        found = gaps.take(batch.shape)
        found[sensitivity(model, batch, hidden) > STEADY] = -math.inf
        gaps.seen.clear()
        if head is not None and count > 1:
            head(model, hidden[:, :-1], batch[:, 1:])
            found[:, 1:] = torch.minimum(found[:, 1:], head_gaps.take((CANDIDATES, count - 1)))
        good = (found >= CLEAR_GAP).long().cumprod(-1).sum(-1)
        best = good.argmax()
        tokens, row = batch[best], int(good[best])
        if row == count:
            return tokens, found[best].min().item()


def gemma_json(config, case):
    """Gemma's own keys: RoPE by kind of layer, or as they were before that; heads by layer, or those of global layers."""
    keep = ("query_pre_attn_scalar hidden_activation final_logit_softcapping attn_logit_softcapping attention_k_eq_v "
            "num_kv_shared_layers enable_moe_block use_double_wide_mlp num_experts top_k_experts moe_intermediate_size "
            "hidden_size_per_layer_input vocab_size_per_layer_input use_bidirectional_attention").split()
    out = {key: getattr(config, key) for key in keep if hasattr(config, key)}
    if case["rope_keys"] == 5:
        out["rope_parameters"] = config.rope_parameters
    else:
        whole = dict(config.rope_parameters["full_attention"])
        out |= {"rope_theta": whole.pop("rope_theta"), "rope_scaling": None if whole["rope_type"] == "default" else whole,
                "rope_local_base_freq": config.rope_parameters["sliding_attention"]["rope_theta"]}
    if "sliding_window_pattern" in case["config"]:
        out["sliding_window_pattern"] = case["config"]["sliding_window_pattern"]
    else:
        out["layer_types"] = config.layer_types
    if case.get("heads") == "layers":
        out["per_layer_config"] = {str(number): {"head_dim": own.head_dim, "num_key_value_heads": own.num_key_value_heads}
                                   for number, own in ((i, config.per_layer_config[i]) for i in range(config.num_hidden_layers))
                                   if config.layer_types[number] == "full_attention"}
    elif config.model_type == "gemma4_text":
        out |= {key: case["config"].get(key) for key in ("global_head_dim", "num_global_key_value_heads")}
    return out


def config_json(config, case):
    """config.json as checkpoints spell it: transformers 5 has `rope_parameters`, 4 had `rope_theta` and `rope_scaling`."""
    keep = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
            "hidden_act max_position_embeddings rms_norm_eps tie_word_embeddings attention_bias mlp_bias sliding_window "
            "use_sliding_window bos_token_id eos_token_id model_type architectures linear_num_key_heads "
            "linear_num_value_heads linear_key_head_dim linear_value_head_dim linear_conv_kernel_dim num_experts "
            "num_experts_per_tok moe_intermediate_size shared_expert_intermediate_size norm_topk_prob mlp_only_layers "
            "decoder_sparse_step").split()
    out = {key: getattr(config, key) for key in keep if hasattr(config, key)}
    if case.get("layers") in ("types", "both"):
        out["layer_types"] = config.layer_types
    if case.get("layers") in ("interval", "both"):
        out["full_attention_interval"] = case["config"]["interval"]
    if config.model_type.startswith("qwen3_5"):
        out |= {"attn_output_gate": True, "mamba_ssm_dtype": "float32", "mtp_use_dedicated_embeddings": False,
                "mtp_num_hidden_layers": 1 if "mtp" in case else 0}
    rope = dict(config.rope_parameters)
    if config.model_type.startswith("gemma"):
        out["dtype" if case["rope_keys"] == 5 else "torch_dtype"] = "float32"
        out |= gemma_json(config, case)
    elif case["rope_keys"] == 5:
        out["dtype"] = "float32"
        out["rope_parameters"] = rope
    else:
        out["torch_dtype"] = "float32"
        out["rope_theta"] = rope.pop("rope_theta")
        if config.model_type in OFFSET_NORMS:
            out["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        out["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    out |= case.get("extra", {})
    if case.get("published"):
        kind, model, vision, _ = PUBLISHED[config.model_type]
        del out["architectures"]
        out = {"architectures": [model.__name__], "model_type": kind, "dtype": "float32", "text_config": out,
               "tie_word_embeddings": out["tie_word_embeddings"], "vision_config": vision}
        pictures = GEMMA_PICTURES if kind.startswith("gemma") else PICTURES
        out |= {key: config.vocab_size - 1 - i for i, key in enumerate(pictures)}
        out |= {"image_token_index": config.vocab_size - 1} if kind == "mistral3" else {}
        out |= {"mm_tokens_per_image": 4} if kind == "gemma3" else {"audio_config": None} if kind == "gemma4" else {}
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


def split_experts(state):
    """One tensor an expert and projection, as Qwen3-MoE and Qwen3-Next are published."""
    out = {}
    for name, value in state.items():
        if name.endswith("mlp.experts.gate_up_proj"):
            for expert, (gate, up) in enumerate(weight.chunk(2) for weight in value):
                out[name.replace("gate_up_proj", f"{expert}.gate_proj.weight")] = gate
                out[name.replace("gate_up_proj", f"{expert}.up_proj.weight")] = up
        elif name.endswith("mlp.experts.down_proj"):
            for expert, down in enumerate(value):
                out[name.replace("down_proj", f"{expert}.down_proj.weight")] = down
        else:
            out[name] = value
    return out


def multimodal(state, tensors, generator):
    """The names of the multimodal release, and a few vision tensors, which say nothing about text."""
    if any(name.startswith("multi_modal_projector.mm_soft") for name in tensors):  # Gemma 3's, as they were before
        return {name.replace("model.", "language_model.model.", 1): value for name, value in state.items()} | \
            {name: torch.randn(shape, generator=generator) for name, shape in tensors.items()}
    out = {name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name: value
           for name, value in state.items()}
    for name, shape in tensors.items():
        out[f"model.{name}"] = torch.randn(shape, generator=generator)
    return out


def stored(name, value, case):
    """As the file has it. The recurrence's own parameters are F32 in files that keep them so."""
    own = name.endswith(("A_log", "dt_bias", "linear_attn.norm.weight")) and not case.get("exact", True)
    result = value.detach().to(torch.float32 if own else STORAGE[case["storage"]]).contiguous()
    vision = "visual" in name or "vision" in name or "multi_modal" in name
    assert vision or torch.equal(result.float(), value), f"{name} is not exact in {case['storage']}"
    return result


def reloaded_logits(folder, case, tokens):
    """What transformers computes from the folder as it was written."""
    loader = PUBLISHED[case["family"]][1] if case.get("published") else AutoModelForCausalLM
    model = loader.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager", experts_implementation="eager")
    return model.eval()(input_ids=tokens[None], use_cache=False).logits[0]


@torch.no_grad()
def make(name, case, out):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(sum(name.encode()))
    family, facts = case["family"], dict(case["config"])
    interval = facts.pop("interval", None)
    if interval and "layer_types" not in facts:
        facts["layer_types"] = ["linear_attention" if (i + 1) % interval else "full_attention"
                                for i in range(facts["num_hidden_layers"])]
    epsilon = 1e-6 if family.startswith(("qwen", "gemma")) else 1e-5
    config = AutoConfig.for_model(family, max_position_embeddings=512, rms_norm_eps=epsilon, bos_token_id=1, eos_token_id=2,
                                  **({"tie_word_embeddings": False} | facts | case.get("extra", {})))
    config.allow_global_per_layer_attribute_access = True  # for config_json, which spells both
    config._attn_implementation = config._experts_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config).eval().float()
    config.architectures = [type(model).__name__]
    initialise(model, family in OFFSET_NORMS, config.tie_word_embeddings, generator)
    if not case.get("exact", True):
        for key, parameter in model.named_parameters():
            if key.endswith(("A_log", "dt_bias")):
                parameter.add_(0.001 * torch.randn(parameter.shape, generator=generator))
    head = None
    if "mtp" in case:
        head = MtpHead(model).eval().float()
        initialise(head, True, False, generator)
    used = head if case.get("mtp") == "golden" else None
    plain = config.vocab_size - (len(PICTURES) if case.get("published") else 0)
    tokens, gap = choose_tokens(model, used, case["tokens"], plain, generator)
    result = model.model(tokens[None], use_cache=False).last_hidden_state[0]
    golden = {"tokens": tokens, "logits": logits_of(model, result)}
    if used:
        golden["mtp_logits"] = model.lm_head(head(model, result[None, :-1], tokens[None, 1:])[0])
        positions = torch.tensor([0, 1, 15, 62, 63, 64, len(tokens) - 2])
        chain_tokens, chain_logits = drafts(model, head, result, tokens, 3)
        golden |= {"mtp_chain_positions": positions, "mtp_chain_tokens": chain_tokens[positions],
                   "mtp_chain_logits": chain_logits[positions]}

    state = {key: value.float() for key, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    if head is not None:
        state |= {f"mtp.{key}": value for key, value in head.state_dict().items()}
    if case.get("experts") == "single":
        state = split_experts(state)
    if case.get("published"):
        state = multimodal(state, PUBLISHED[family][3], generator)
    save_weights(folder, {key: stored(key, value, case) for key, value in state.items()}, case.get("shards", 1))
    (folder / "config.json").write_text(json.dumps(config_json(config, case), indent=1) + "\n")
    save_file({key: value.contiguous() for key, value in golden.items()}, folder / "golden.safetensors",
              metadata={"covers": case["covers"]})
    again = reloaded_logits(folder, case, tokens)
    assert torch.allclose(again, golden["logits"], rtol=1e-5, atol=1e-5), \
        f"{name}: the folder gives other logits, by {(again - golden['logits']).abs().max():.2e}"
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name}: {sum(p.numel() for p in model.parameters())} parameters, logits of std {golden['logits'].std():.3f}, "
          f"least router gap {gap:.3f}, {size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    for case_name in sys.argv[2:] or CASES:
        make(case_name, CASES[case_name], pathlib.Path(sys.argv[1]))
