#!/usr/bin/env python3
"""Trains models/trained/tiny-llama: a Llama of 1.7 million weights on the World English Bible (public domain).

The text is Debian's package sword-text-web, a SWORD module: `.bzs` is an index of (offset, bytes, bytes unpacked) and
`.bzz` the zlib blocks it points into, one a book, OSIS markup inside. Writes config.json, model.safetensors (bf16) and
tokenizer.json (byte-level BPE of 1024 pieces, trained here too).

usage: train.py --module FOLDER --out FOLDER [--minutes M] [--steps N]
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
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

END = "<|endoftext|>"
QUOTES = str.maketrans({"“": '"', "”": '"', "‘": "'", "’": "'", "—": " - ", "–": "-", "\xa0": " "})


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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    books = list(read_books(arguments.module))
    tokenizer = train_tokenizer(books)
    ids = [tokenizer.token_to_id(END)]
    for book in books:
        ids += tokenizer.encode(book).ids + [ids[0]]
    tokens = torch.tensor(ids, device="cuda")
    held_out = len(tokens) // 50
    train, test = tokens[:-held_out], tokens[-held_out:]
    print(f"{len(books)} books, {sum(map(len, books))} characters, {len(tokens)} tokens")

    config = LlamaConfig(vocab_size=tokenizer.get_vocab_size(), hidden_size=128, intermediate_size=384,
                         num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, head_dim=32,
                         max_position_embeddings=512, rms_norm_eps=1e-5, tie_word_embeddings=True,
                         bos_token_id=ids[0], eos_token_id=ids[0],
                         rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    model = LlamaForCausalLM(config).cuda()
    print(f"{sum(p.numel() for p in model.parameters())} weights")
    length, batch, warm_up, peak = 256, 96, 200, 3e-3
    decay = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                                  lr=peak, betas=(0.9, 0.95), fused=True)
    compiled = torch.compile(model)

    def loss_of(sequence):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            return compiled(input_ids=sequence, labels=sequence, use_cache=False).loss

    def held_out_loss():
        pieces = test[:len(test) // length * length].reshape(-1, length)
        with torch.no_grad():
            return sum(loss_of(p).item() for p in pieces.split(len(pieces) // 4)) / len(pieces.split(len(pieces) // 4))

    started, step, progress = time.monotonic(), 0, 0.0
    while progress < 1:
        progress = max(step / arguments.steps, (time.monotonic() - started) / (60 * arguments.minutes))
        rate = peak * min(1, (step + 1) / warm_up) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(progress, 1))))
        for group in optimizer.param_groups:
            group["lr"] = rate
        first = torch.randint(0, len(train) - length, (batch, 1), device="cuda")
        loss = loss_of(train[first + torch.arange(length, device="cuda")])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step}: loss {loss.item():.3f}, held-out {held_out_loss():.3f}, {time.monotonic() - started:.0f} s", flush=True)
        step += 1

    # What is saved is what is measured: the weights rounded to bf16.
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).float()
    model.eval()
    held = held_out_loss()
    print(f"{step} steps, {time.monotonic() - started:.0f} s; loss on the held-out 2 %: {held:.3f} a token")

    arguments.out.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().to(torch.bfloat16).cpu().contiguous() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    save_file(state, arguments.out / "model.safetensors", metadata={"format": "pt"})
    facts = {key: getattr(config, key) for key in (
        "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
        "hidden_act max_position_embeddings rms_norm_eps tie_word_embeddings bos_token_id eos_token_id").split()}
    facts |= {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
              "rope_theta": 10000.0, "rope_scaling": None, "attention_bias": False, "mlp_bias": False}
    (arguments.out / "config.json").write_text(json.dumps(facts, indent=1) + "\n")
    tokenizer.save(str(arguments.out / "tokenizer.json"))
    for prompt in ("In the beginning", "The king said to", "And they went"):
        sequence = torch.tensor([tokenizer.encode(prompt).ids], device="cuda")
        for _ in range(48):
            sequence = torch.cat([sequence, model(sequence).logits[:, -1:].argmax(-1)], 1)
        print(repr(tokenizer.decode(sequence[0].tolist())))


if __name__ == "__main__":
    main()
