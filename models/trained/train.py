#!/usr/bin/env python3
"""Trains the checkpoints of models/trained on the World English Bible (public domain): a Llama, a Ministral-3, two of
Qwen3.6's architecture, dense and mixture of experts, each with a head for multi-token prediction, and a Gemma 4 with a
mixture of experts; at most two million weights each.

The text is Debian's package sword-text-web, a SWORD module: `.bzs` is an index of (offset, bytes, bytes unpacked) and
`.bzz` the zlib blocks it points into, one a book, OSIS markup inside. Writes config.json, model.safetensors (bf16) and
tokenizer.json (byte-level BPE of 1024 pieces, trained here too), and prints what the checkpoint then measures.

usage: train.py --module FOLDER --out FOLDER [--architecture NAME] [--minutes M] [--steps N] [--device D]
       FOLDER holds ot.bzs, ot.bzz, nt.bzs, nt.bzz. Needs torch with a GPU, transformers, tokenizers, safetensors.
"""

import argparse
import html
import json
import math
import pathlib
import re
import struct
import time
import zlib

import torch
from mtp import MtpHead, acceptance, drafts
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS
from transformers.models.gemma4.modeling_gemma4 import Gemma4TextRouter
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeTopKRouter, load_balancing_loss_func

END = "<|endoftext|>"
QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": " - ", "–": "-", "\xa0": " "})
LENGTH = 256
PROMPTS = ("In the beginning", "The king said to", "And they went")

# Qwen3.6's proportions made small. Every third key head's worth of value heads and the interval of 4 are the 27B model's,
# two value heads a key head, the narrow experts and the shared one the 35B-A3B model's.
HYBRID = dict(hidden_size=128, num_attention_heads=4, num_key_value_heads=2, head_dim=32, full_attention_interval=4,
              linear_num_key_heads=2, linear_conv_kernel_dim=4, max_position_embeddings=512, mtp_num_hidden_layers=1,
              mtp_use_dedicated_embeddings=False, tie_word_embeddings=False,
              rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25,
                               "mrope_section": [2, 1, 1], "mrope_interleaved": True})
ARCHITECTURES = {
    "llama": ("llama", dict(
        hidden_size=128, intermediate_size=384, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0})),
    # YaRN's ramp and the steps of the queries' scale lie within what a training window reaches; heads are wider than the
    # hidden size divided by their number, as the 3B model's.
    "ministral3": ("ministral3", dict(
        hidden_size=128, intermediate_size=320, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, head_dim=48,
        max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True, sliding_window=None,
        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 128,
                         "beta_fast": 32.0, "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0,
                         "llama_4_scaling_beta": 0.1})),
    # The 26B-A4B's: five sliding layers to a global one, which has wider heads, fewer of them for keys, and keys for values.
    "gemma4-moe": ("gemma4_text", dict(
        hidden_size=128, intermediate_size=128, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
        global_head_dim=64, num_global_key_value_heads=1, attention_k_eq_v=True, sliding_window=64,
        max_position_embeddings=512, hidden_size_per_layer_input=0, final_logit_softcapping=30.0, tie_word_embeddings=True,
        enable_moe_block=True, num_experts=16, top_k_experts=4, moe_intermediate_size=32,
        rope_parameters={"sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
                         "full_attention": {"rope_type": "proportional", "rope_theta": 100000.0,
                                            "partial_rotary_factor": 0.25}})),
    "qwen3.6": ("qwen3_5_text", HYBRID | dict(
        num_hidden_layers=8, intermediate_size=256, linear_num_value_heads=6, linear_key_head_dim=32,
        linear_value_head_dim=32)),
    "qwen3.6-moe": ("qwen3_5_moe_text", HYBRID | dict(
        num_hidden_layers=4, num_experts=16, num_experts_per_tok=4, moe_intermediate_size=32,
        shared_expert_intermediate_size=64, linear_num_value_heads=4, linear_key_head_dim=64, linear_value_head_dim=64)),
}


def read_books(module):
    """The books' plain text, one string a book, a line a paragraph."""
    for testament in ("ot", "nt"):
        index = (module / f"{testament}.bzs").read_bytes()
        data = (module / f"{testament}.bzz").read_bytes()
        for offset, size, _ in struct.iter_unpack("<III", index):
            if size == 0:
                continue
            text = zlib.decompress(data[offset:offset + size]).decode("utf-8", "replace").replace("\0", " ")
            text = re.sub(r"<(note|title)\b[^>]*>.*?</\1>", " ", text, flags=re.S)
            text = re.sub(r'<(?:div|l|lg)\b[^>]*type="x-(?:p|q|m)[^>]*>|<lb\b[^>]*>', "\n", text)
            text = html.unescape(re.sub(r"<[^>]+>", "", text)).translate(QUOTES)
            text = re.sub(r" *\n\s*", "\n", re.sub(r"[ \t]+", " ", text)).strip()
            text = re.sub(r" ([,.;:?!])", r"\1", text)
            if len(text) > 2000:
                yield text


def train_tokenizer(books):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=1024, special_tokens=[END],
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(books, trainer)
    return tokenizer


def every_expert(self, hidden, chosen, weights):
    """All experts for all tokens [t, H], those not chosen with weight 0: at this size faster on a GPU than sorting tokens."""
    share = hidden.new_zeros(len(hidden), self.num_experts).scatter(1, chosen, weights.to(hidden.dtype))
    gate, up = torch.einsum("th,eoh->teo", hidden, self.gate_up_proj).chunk(2, -1)
    return torch.einsum("tei,ehi->th", self.act_fn(gate) * up * share[..., None], self.down_proj)


class Routing:
    """The router logits [t, experts], up to a constant a row, of the forwards since the last `take`, one entry a router in
    the order they ran."""

    def __init__(self, *modules):
        self.logits = []
        for module in modules:
            for router in (m for m in module.modules() if isinstance(m, Qwen3_5MoeTopKRouter)):
                router.register_forward_hook(lambda _, inputs, outputs: self.logits.append(outputs[0]))
            for router in (m for m in module.modules() if isinstance(m, Gemma4TextRouter)):  # which gives probabilities
                router.register_forward_hook(lambda _, inputs, outputs: self.logits.append(outputs[0].clamp_min(1e-30).log()))

    def take(self):
        logits, self.logits = self.logits, []
        return logits


def loss_of_rows(trunk, rows, targets):
    logits, cap = trunk.lm_head(rows).flatten(0, 1).float(), getattr(trunk.config, "final_logit_softcapping", None)
    return functional.cross_entropy(cap * torch.tanh(logits / cap) if cap else logits, targets.flatten())


def experts_per_token(config):
    return config.top_k_experts if hasattr(config, "top_k_experts") else config.num_experts_per_tok


class Losses:
    """Mean losses a token of a batch [b, LENGTH]: of the next token, of the one after it by the MTP head, of the
    third by the head on its own output, as in a longer draft, and of balance between experts.
    `mixed`: products in bf16."""

    def __init__(self, trunk, head, mixed):
        self.trunk, self.head, self.mixed = trunk, head, mixed
        self.routing = Routing(*filter(None, (trunk, head)))

    def __call__(self, batch):
        config = self.trunk.config
        with torch.autocast(batch.device.type, dtype=torch.bfloat16, enabled=self.mixed):
            hidden = self.trunk.model(input_ids=batch, use_cache=False).last_hidden_state
            losses = {"next": loss_of_rows(self.trunk, hidden[:, :-1], batch[:, 1:])}
            if self.head is not None:
                rows = self.head(self.trunk, hidden[:, :-1], batch[:, 1:])
                losses["second"] = loss_of_rows(self.trunk, rows[:, :-1], batch[:, 2:])
                rows = self.head(self.trunk, rows[:, :-1], batch[:, 2:])
                losses["third"] = loss_of_rows(self.trunk, rows[:, :-1], batch[:, 3:])
        routed = self.routing.take()
        if routed:
            losses["balance"] = sum(load_balancing_loss_func((logits,), config.num_experts, experts_per_token(config))
                                    for logits in routed) / len(routed)
        return losses


WEIGHTS = {"next": 1.0, "second": 0.3, "third": 0.2, "balance": 0.01}


def mean_losses(losses, text):
    """Over a whole text [n], in pieces of LENGTH."""
    pieces = text[:len(text) // LENGTH * LENGTH].reshape(-1, LENGTH).split(32)
    with torch.no_grad():
        found = [losses(piece) for piece in pieces]
    return {key: sum(loss[key].item() * len(piece) for loss, piece in zip(found, pieces)) / sum(map(len, pieces))
            for key in found[0]}


def fit(losses, modules, text, held_out, arguments):
    batch, warm_up, peak = 96, 200, 3e-3
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
                                   {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0}],
                                  lr=peak, betas=(0.9, 0.95), fused=True)
    offsets = torch.arange(LENGTH, device=text.device)
    started, step, progress = time.monotonic(), 0, 0.0
    while progress < 1:
        progress = max(step / arguments.steps, (time.monotonic() - started) / (60 * arguments.minutes))
        rate = peak * min(1, (step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        found = losses(text[torch.randint(0, len(text) - LENGTH, (batch, 1), device=text.device) + offsets])
        optimizer.zero_grad(set_to_none=True)
        sum(WEIGHTS[key] * loss for key, loss in found.items()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step}: {describe({k: v.item() for k, v in found.items()})}; held out "
                  f"{describe(mean_losses(losses, held_out))}; {time.monotonic() - started:.0f} s", flush=True)
        step += 1
    print(f"{step} steps, {time.monotonic() - started:.0f} s; last batch {describe({k: v.item() for k, v in found.items()})}")


def describe(losses):
    return ", ".join(f"{key} {loss:.3f}" for key, loss in losses.items())


@torch.no_grad()
def greedy(model, prompt, count):
    """The prompt [n] and `count` tokens that follow it, the likeliest each time."""
    sequence, cache = prompt[None], None
    step = sequence
    for _ in range(count):
        output = model(step, past_key_values=cache, use_cache=True)
        step, cache = output.logits[:, -1:].argmax(-1), output.past_key_values
        sequence = torch.cat([sequence, step], 1)
    return sequence[0]


@torch.no_grad()
def measure(trunk, head, tokenizer, text, held_out):
    """Prints the loss on the held-out text, the experts used, and how many drafts greedy decoding accepts, all in fp32."""
    losses = Losses(trunk, head, mixed=False)
    print(f"held out, weights in bf16: {describe(mean_losses(losses, held_out))}")
    routing = Routing(*filter(None, (trunk, head)))
    losses(held_out[:16 * LENGTH].reshape(16, LENGTH))
    for layer, logits in enumerate(routing.take()):
        chosen = logits.topk(experts_per_token(trunk.config)).indices
        share = torch.bincount(chosen.flatten(), minlength=trunk.config.num_experts) / chosen.numel() * trunk.config.num_experts
        print(f"router {layer}: share of tokens an expert gets, relative to an even one: "
              + " ".join(f"{value:.2f}" for value in share.sort().values.tolist()))
    if head is not None:
        starts = torch.linspace(0, len(held_out) - 17, 10).long().tolist() + torch.linspace(0, len(text) - 17, 10).long().tolist()
        total = {count: [0, 0, 0] for count in (1, 2, 3, 4)}
        for index, start in enumerate(starts):
            prompt = (held_out if index < 10 else text)[start:start + 16]
            sequence = greedy(trunk, prompt, 256)
            hidden = trunk.model(sequence[None], use_cache=False).last_hidden_state[0]
            drafted, _ = drafts(trunk, head, hidden, sequence, 4)
            for count, sums in total.items():
                sums[:] = (a + b for a, b in zip(sums, acceptance(drafted, sequence, len(prompt) - 1, count)))
        for count, (steps, made, accepted) in total.items():
            print(f"{count} drafts a step, 20 prompts: {accepted / made:.3f} of drafts accepted, "
                  f"{(accepted + steps) / steps:.2f} tokens a step")
    for prompt in PROMPTS:
        ids = torch.tensor(tokenizer.encode(prompt).ids, device=held_out.device)
        print(repr(tokenizer.decode(greedy(trunk, ids, 48).tolist())))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="llama")
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--device", default="cuda")
    arguments = parser.parse_args()
    torch.manual_seed(1)
    books = list(read_books(arguments.module))
    tokenizer = train_tokenizer(books)
    ids = [tokenizer.token_to_id(END)]
    for book in books:
        ids += tokenizer.encode(book).ids + [ids[0]]
    tokens = torch.tensor(ids, device=arguments.device)
    text, held_out = tokens[:-(len(tokens) // 50)], tokens[-(len(tokens) // 50):]
    print(f"{len(books)} books, {sum(map(len, books))} characters, {len(tokens)} tokens")

    model_type, facts = ARCHITECTURES[arguments.architecture]
    config = AutoConfig.for_model(model_type, vocab_size=tokenizer.get_vocab_size(), bos_token_id=ids[0], eos_token_id=ids[0],
                                  **facts)
    ALL_EXPERTS_FUNCTIONS.register("every", every_expert)
    config._experts_implementation = "every"
    trunk, head = AutoModelForCausalLM.from_config(config).to(arguments.device), None
    if getattr(config, "mtp_num_hidden_layers", 0):
        head = MtpHead(trunk).to(arguments.device)
        head.apply(trunk._init_weights)
    modules = [module for module in (trunk, head) if module is not None]
    print(f"{sum(p.numel() for module in modules for p in module.parameters())} weights")
    fit(Losses(trunk, head, mixed=True), modules, text, held_out, arguments)

    # What is saved is what is measured: the weights rounded to bf16.
    for module in modules:
        module.eval()
        for parameter in module.parameters():
            parameter.data = parameter.data.to(torch.bfloat16).float()

    arguments.out.mkdir(parents=True, exist_ok=True)
    state = dict(trunk.state_dict())
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    if head is not None:
        state |= {f"mtp.{key}": value for key, value in head.state_dict().items()}
    state = {key: value.detach().to(torch.bfloat16).cpu().contiguous() for key, value in state.items()}
    save_file(state, arguments.out / "model.safetensors", metadata={"format": "pt"})
    config.architectures, config.dtype = [type(trunk).__name__], "bfloat16"
    (arguments.out / "config.json").write_text(json.dumps(json.loads(config.to_json_string()), indent=1) + "\n")
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    measure(trunk, head, tokenizer, text, held_out)


if __name__ == "__main__":
    main()
