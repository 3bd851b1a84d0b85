#!/usr/bin/env python3
"""Makes tests/goldens/smollm2/golden.safetensors: what transformers says in fp32 about SmolLM2-135M-Instruct.

The GGUF's tensors are dequantised with the `gguf` package, its permuted q and k rows put back, and loaded into
transformers' LlamaForCausalLM in fp32 with eager attention.

    chat_tokens    i64 [m]        a question under the model's chat template
    greedy_tokens  i64 [64]       what greedy decoding makes of it (an end-of-sequence token does not stop it)
    greedy_top     f32 [64, 2]    the two largest logits of each of those steps
    text_tokens    i64 [100]      plain text
    text_ids       i32 [100, 512] for each position the 512 likeliest next tokens, likeliest first
    text_logits    f32 [100, 512] and their logits
    text_lse       f32 [100]      log of the sum of exp of all logits of the position

usage: make_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf OUT_FILE   (needs torch, transformers, tokenizers, jinja2, gguf)
"""

import sys

import gguf
import jinja2
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM

QUESTION = "Explain in a few sentences why the sky is blue."
TEXT = """The river had been rising for three days before anyone in the village thought to move the boats. By then the
lower meadow was under water, and the old bridge shook whenever a tree came down against its piers. Martha stood at her
window with a lamp and counted the lights on the other bank. There should have been seven, one for every house, but she
could only find five. She put on her coat, took the long rope from its hook behind the door, and went out into the rain
without waking the children. If the ferry was still where she had left it, there might be time."""

NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
TOP = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
       "output.weight": "lm_head.weight"}


def load_model(reader, field):
    heads, kv_heads = field("llama.attention.head_count"), field("llama.attention.head_count_kv")
    state = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(gguf.quants.dequantize(tensor.data, tensor.tensor_type).copy()).float()
        if tensor.name in TOP:
            state[TOP[tensor.name]] = value
            continue
        _, layer, kind, suffix = tensor.name.split(".")
        if kind in ("attn_q", "attn_k"):
            # GGUF row 2i + h of a head is row h * D/2 + i of the checkpoint it was made from.
            count = heads if kind == "attn_q" else kv_heads
            value = value.reshape(count, -1, 2, value.shape[1]).transpose(1, 2).reshape(value.shape)
        state[f"model.layers.{layer}.{NAMES[kind]}.{suffix}"] = value
    tied = "lm_head.weight" not in state
    config = LlamaConfig(
        vocab_size=state["model.embed_tokens.weight"].shape[0], hidden_size=field("llama.embedding_length"),
        intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=field("llama.block_count"),
        num_attention_heads=heads, num_key_value_heads=kv_heads, tie_word_embeddings=tied,
        max_position_embeddings=field("llama.context_length"),
        rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("llama.rope.freq_base")})
    config._attn_implementation = "eager"
    model = LlamaForCausalLM(config).float().eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= ({"lm_head.weight"} if tied else set()), (missing, unexpected)
    model.tie_weights()
    return model


def load_tokenizer(field):
    pieces, merges = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.merges")
    bpe = models.BPE({piece: index for index, piece in enumerate(pieces)}, [tuple(merge.split(" ")) for merge in merges])
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    control = [piece for piece, kind in zip(pieces, field("tokenizer.ggml.token_type")) if kind == 3]
    tokenizer.add_special_tokens([AddedToken(piece, special=True, normalized=False) for piece in control])
    return tokenizer


def main(path, out):
    reader = gguf.GGUFReader(path)
    field = lambda name: reader.fields[name].contents()
    model, tokenizer = load_model(reader, field), load_tokenizer(field)
    chat = jinja2.Template(field("tokenizer.chat_template")).render(
        messages=[{"role": "user", "content": QUESTION}], add_generation_prompt=True, bos_token="", eos_token="")
    chat_tokens = tokenizer.encode(chat, add_special_tokens=False).ids
    text_tokens = tokenizer.encode(TEXT.replace("\n", " "), add_special_tokens=False).ids[:100]
    assert len(text_tokens) == 100
    with torch.no_grad():
        tokens, tops = list(chat_tokens), []
        for _ in range(64):
            logits = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
            top = torch.topk(logits, 2)
            tops.append(top.values)
            tokens.append(int(top.indices[0]))
        logits = model(torch.tensor([text_tokens]), use_cache=False).logits[0]
        top = torch.topk(logits, 512)
    greedy = tokens[len(chat_tokens):]
    loss = torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(text_tokens[1:]))
    save_file({
        "chat_tokens": torch.tensor(chat_tokens), "greedy_tokens": torch.tensor(greedy), "greedy_top": torch.stack(tops),
        "text_tokens": torch.tensor(text_tokens), "text_ids": top.indices.to(torch.int32),
        "text_logits": top.values.contiguous(), "text_lse": torch.logsumexp(logits, -1).contiguous(),
    }, out, metadata={"question": QUESTION, "chat": chat, "reply": tokenizer.decode(greedy, skip_special_tokens=False)})
    mass = (torch.logsumexp(top.values, -1) - torch.logsumexp(logits, -1)).exp().min()
    print(f"{len(chat_tokens)} chat tokens; perplexity of the text {loss.exp():.2f}; top 512 hold at least {mass:.4f}")
    print(chat + tokenizer.decode(greedy, skip_special_tokens=False))
    print("smallest gap of the two top logits:", min(float(t[0] - t[1]) for t in tops))


if __name__ == "__main__":
    main(*sys.argv[1:])
