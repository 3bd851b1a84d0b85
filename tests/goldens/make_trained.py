#!/usr/bin/env python3
"""Makes the goldens of the trained checkpoints with an MTP head, tests/goldens/<model>/golden.safetensors: what transformers,
and models/trained/mtp.py for the head, say in fp32 about text that the models were not trained on (held-out.txt).

    tokens           i64 [512]        the text's first tokens, in one window
    surprise         f32 [511]        -ln of the probability of each token after the first; its mean is the loss
    positions        i64 [100]        of these positions
    logits           f32 [100, 1024]  the logits
    mtp_tokens       i64 [511]        row p: the likeliest token p + 2 by the MTP head, from the state of p and token p + 1
    mtp_margin       f32 [511]        by how much its logit leads the next one's
    greedy_tokens    i64 [4, 144]     16 tokens of the text and the 128 likeliest that follow
    greedy_margin    f32 [4, 128]     by how much each of those leads
    greedy_drafts    i64 [4, 143, 4]  four tokens drafted after every position of those, the token after it known
    greedy_accepted  i64 [4, 4, 3]    with 1 to 4 drafts a step from the prompt's last position: steps, drafts made, accepted

usage: make_trained.py     (needs torch, transformers 5, safetensors and tokenizers; a minute on a CPU)
"""

import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

GOLDENS = pathlib.Path(__file__).resolve().parent
TRAINED = GOLDENS.parents[1] / "models" / "trained"
sys.path.insert(0, str(TRAINED))
from mtp import MtpHead, acceptance, drafts  # noqa: E402

PROMPT, LENGTH = 16, 128


def lead(logits):
    first, second = logits.topk(2, -1).values.unbind(-1)
    return first - second


def load(folder):
    trunk = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager",
                                                 experts_implementation="eager").eval()
    head = MtpHead(trunk).eval()
    state = load_file(folder / "model.safetensors")
    head.load_state_dict({key.removeprefix("mtp."): value.float() for key, value in state.items() if key.startswith("mtp.")})
    return trunk, head


@torch.no_grad()
def make(name):
    trunk, head = load(TRAINED / name)
    ids = Tokenizer.from_file(str(TRAINED / name / "tokenizer.json")).encode((GOLDENS / "held-out.txt").read_text()).ids
    tokens = torch.tensor(ids[:512])
    hidden = trunk.model(tokens[None], use_cache=False).last_hidden_state[0]
    logits = trunk.lm_head(hidden)
    surprise = -logits[:-1].log_softmax(-1)[torch.arange(len(tokens) - 1), tokens[1:]]
    positions = torch.linspace(0, len(tokens) - 1, 100).long()
    mtp_logits = trunk.lm_head(head(trunk, hidden[None, :-1], tokens[None, 1:])[0])

    sequences = tokens.reshape(4, -1)[:, :PROMPT]
    margins = []
    for _ in range(LENGTH):
        last = trunk(sequences, use_cache=False).logits[:, -1]
        margins.append(lead(last))
        sequences = torch.cat([sequences, last.argmax(-1, keepdim=True)], 1)
    drafted = [drafts(trunk, head, trunk.model(row[None], use_cache=False).last_hidden_state[0], row, 4)[0]
               for row in sequences]
    accepted = [[acceptance(table, row, PROMPT - 1, count) for count in (1, 2, 3, 4)] for table, row in zip(drafted, sequences)]
    golden = {"tokens": tokens, "surprise": surprise, "positions": positions, "logits": logits[positions],
              "mtp_tokens": mtp_logits.argmax(-1), "mtp_margin": lead(mtp_logits), "greedy_tokens": sequences,
              "greedy_margin": torch.stack(margins, 1), "greedy_drafts": torch.stack(drafted),
              "greedy_accepted": torch.tensor(accepted)}
    (GOLDENS / name).mkdir(exist_ok=True)
    save_file({key: value.contiguous() for key, value in golden.items()}, GOLDENS / name / "golden.safetensors")
    loss = surprise.double().mean()
    print(f"{name}: loss {loss:.5f}, perplexity {loss.exp():.4f}; drafts: "
          + ", ".join(f"{made} made {good} accepted in {steps} steps" for steps, made, good in
                      torch.tensor(accepted).sum(0).tolist()))
    print(f"  least lead of a greedy token {golden['greedy_margin'].min():.4f}; of the first 64, "
          f"{golden['greedy_margin'][:, :64].min():.4f}")


if __name__ == "__main__":
    for model in ("tiny-qwen3.6", "tiny-qwen3.6-moe"):
        make(model)
