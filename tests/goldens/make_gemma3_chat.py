#!/usr/bin/env python3
"""Makes tests/goldens/gemma3-270m/chat.safetensors: what transformers says in fp32 about chats with Gemma 3 270M, the base model,
under a chat template that its GGUF does not have.

The template is rendered by Python's Jinja2 as chat_goldens.py does. Its text becomes tokens by the sentencepiece library, with
the GGUF's pieces and scores as a model in which control tokens are spelled out in the text. Weights as in make_gemma3.py.

    NAME_tokens   i64 [m]       the prompt of the conversation NAME
    NAME_greedy   i64 [24]      what greedy decoding makes of it (an end-of-sequence token does not stop it)
    NAME_top      f32 [24, 2]   the two largest logits of each of those steps

The metadata has under NAME a JSON object: `messages`, the rendered `prompt`, and `reply`, the greedy tokens as text.

usage: make_gemma3_chat.py gemma-3-270m-q4_k_m.gguf TEMPLATE.jinja OUT_FILE
       (needs torch, transformers, gguf, jinja2, sentencepiece, protobuf)
"""

import json
import pathlib
import sys

import gguf
import sentencepiece
import torch
from make_gemma3 import load_model
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2

sys.path.append(str(pathlib.Path(__file__).parents[1] / "tokenizer"))
import chat_goldens  # noqa: E402

USER = lambda text: {"role": "user", "content": text}
MODEL = lambda text: {"role": "assistant", "content": text}
CONVERSATIONS = {
    "question": [USER("What is the capital of France?")],
    "turns": [USER("What is the capital of France?"), MODEL("Paris."), USER("  And of Italy?\n"), MODEL("Rome."),
              USER("And of Spain?"), MODEL("Madrid."), USER("And of Japan?")],
}


def sentencepiece_model(field):
    model = sentencepiece_model_pb2.ModelProto()
    kinds = (1, 1, 2, 4, 4, 5, 6)  # GGUF's control tokens (3) become user-defined, which the library finds in a text
    for text, score, kind in zip(*(field(f"tokenizer.ggml.{name}") for name in ("tokens", "scores", "token_type"))):
        model.pieces.add(piece=text, score=score, type=kinds[kind])
    model.trainer_spec.model_type = model.trainer_spec.BPE
    model.trainer_spec.byte_fallback = True
    model.trainer_spec.unk_piece = field("tokenizer.ggml.tokens")[field("tokenizer.ggml.unknown_token_id")]
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = field("tokenizer.ggml.add_space_prefix")
    model.normalizer_spec.remove_extra_whitespaces = False
    return sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())


@torch.no_grad()
def greedy(model, tokens):
    chosen, tops = [], []
    for _ in range(24):
        top = torch.topk(model(torch.tensor([tokens + chosen]), use_cache=False, logits_to_keep=1).logits[0, -1], 2)
        tops.append(top.values)
        chosen.append(int(top.indices[0]))
    return chosen, torch.stack(tops)


def main(path, template, out):
    reader = gguf.GGUFReader(path)
    known = {}

    def field(name):
        if name not in known:
            known[name] = reader.fields[name].contents()
        return known[name]

    words = sentencepiece_model(field)
    template = chat_goldens.environment().from_string(pathlib.Path(template).read_text())
    model = load_model(reader, field)
    tensors, facts = {}, {}
    for name, messages in CONVERSATIONS.items():
        text = template.render(messages=messages, add_generation_prompt=True, bos_token="<bos>", eos_token="<eos>")
        tokens = words.encode(text)
        chosen, tops = greedy(model, tokens)
        tensors |= {f"{name}_tokens": torch.tensor(tokens), f"{name}_greedy": torch.tensor(chosen), f"{name}_top": tops}
        facts[name] = json.dumps({"messages": messages, "prompt": text, "reply": words.decode(chosen)})
        print(name, tokens, facts[name], chosen, "smallest gap:", min(float(top[0] - top[1]) for top in tops))
    save_file(tensors, out, metadata=facts)


if __name__ == "__main__":
    main(*sys.argv[1:])
