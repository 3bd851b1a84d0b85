#!/usr/bin/env python3
"""Makes tests/goldens/gemma3-270m/golden.safetensors: what transformers says in fp32 about Gemma 3 270M, the base model.

The GGUF's tensors are dequantised with the `gguf` package, its norms' 1 taken off again, and loaded into transformers'
Gemma3ForCausalLM in fp32 with eager attention. Texts become tokens by the rule that SentencePiece's BPE has: of neighbours
that are a piece together the best scored join first.

    prompt_tokens  i64 [m]        a beginning
    greedy_tokens  i64 [64]       what greedy decoding makes of it (an end-of-sequence token does not stop it)
    greedy_top     f32 [64, 2]    the two largest logits of each of those steps
    text_tokens    i64 [40]       plain text
    text_ids       i32 [40, 512]  for each position the 512 likeliest next tokens, likeliest first
    text_logits    f32 [40, 512]  and their logits
    text_lse       f32 [40]       log of the sum of exp of all logits of the position

usage: make_gemma3.py gemma-3-270m-q4_k_m.gguf OUT_FILE   (needs torch, transformers, gguf)
"""

import sys

import gguf
import torch
from make_smollm2 import TEXT
from safetensors.torch import save_file
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

PROMPT = "The lighthouse keeper climbed the stairs every evening, because"
NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
         "attn_k_norm": "self_attn.k_norm", "post_attention_norm": "post_attention_layernorm",
         "ffn_norm": "pre_feedforward_layernorm", "post_ffw_norm": "post_feedforward_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


def load_model(reader, field):
    state = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()).float()
        if tensor.name.endswith("norm.weight"):
            value = value - 1
        if tensor.name in TOP:
            state[TOP[tensor.name]] = value
        else:
            _, layer, kind, suffix = tensor.name.split(".")
            state[f"model.layers.{layer}.{NAMES[kind]}.{suffix}"] = value
    head = field("gemma3.attention.key_length")
    config = Gemma3TextConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0], hidden_size=field("gemma3.embedding_length"),
        intermediate_size=field("gemma3.feed_forward_length"), num_hidden_layers=field("gemma3.block_count"),
        num_attention_heads=field("gemma3.attention.head_count"), head_dim=head, query_pre_attn_scalar=head,
        num_key_value_heads=field("gemma3.attention.head_count_kv"), sliding_window=field("gemma3.attention.sliding_window"),
        max_position_embeddings=field("gemma3.context_length"),
        rms_norm_eps=field("gemma3.attention.layer_norm_rms_epsilon"),
        rope_parameters={"full_attention": {"rope_type": "default", "rope_theta": field("gemma3.rope.freq_base")},
                         "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}})
    config._attn_implementation = "eager"
    model = Gemma3ForCausalLM(config).float().eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def tokenize(field, text):
    scores = dict(zip(field("tokenizer.ggml.tokens"), field("tokenizer.ggml.scores")))
    ids = {piece: index for index, piece in enumerate(field("tokenizer.ggml.tokens"))}
    parts = list(text.replace(" ", "\u2581"))
    while True:
        joins = [(scores[a + b], -i) for i, (a, b) in enumerate(zip(parts, parts[1:])) if a + b in scores]
        if not joins:
            return [field("tokenizer.ggml.bos_token_id")] + [ids[part] for part in parts]
        at = -max(joins)[1]
        parts[at:at + 2] = [parts[at] + parts[at + 1]]


@torch.no_grad()
def main(path, out):
    reader = gguf.GGUFReader(path)
    known = {}

    def field(name):
        if name not in known:
            known[name] = reader.fields[name].contents()
        return known[name]

    model = load_model(reader, field)
    prompt = tokenize(field, PROMPT)
    text = tokenize(field, TEXT.replace("\n", " "))[:40]
    tokens, tops = list(prompt), []
    for _ in range(64):
        logits = model(torch.tensor([tokens]), use_cache=False, logits_to_keep=1).logits[0, -1]
        top = torch.topk(logits, 2)
        tops.append(top.values)
        tokens.append(int(top.indices[0]))
    logits = model(torch.tensor([text]), use_cache=False).logits[0]
    top = torch.topk(logits, 512)
    greedy = tokens[len(prompt):]
    pieces = field("tokenizer.ggml.tokens")
    words = "".join(pieces[token] for token in greedy).replace("\u2581", " ")
    save_file({
        "prompt_tokens": torch.tensor(prompt), "greedy_tokens": torch.tensor(greedy), "greedy_top": torch.stack(tops),
        "text_tokens": torch.tensor(text), "text_ids": top.indices.to(torch.int32), "text_logits": top.values.contiguous(),
        "text_lse": torch.logsumexp(logits, -1).contiguous(),
    }, out, metadata={"prompt": PROMPT, "continuation": words})
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(text[1:]))
    print(f"{len(prompt)} tokens of the prompt; perplexity of the text {loss.exp():.2f}")
    print(PROMPT + words)
    print("smallest gap of the two top logits:", min(float(t[0] - t[1]) for t in tops))


if __name__ == "__main__":
    main(*sys.argv[1:])
