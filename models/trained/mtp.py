"""The multi-token prediction head of Qwen3.5 and 3.6 in torch, which transformers leaves out: one full-attention layer that
predicts a further token from the trunk's last hidden state and the embedding of the token that the trunk predicts.

Row p takes h_p (the trunk's output after its final norm, at position p) and x_{p+1}, attends to rows 0..p, and predicts
x_{p+2}. A longer draft feeds the head's own normalised output back with the token just drafted, one position on. The
embedding and the output head are the trunk's. Sources: vLLM's qwen3_5_mtp.py, llama.cpp's qwen35.cpp.
"""

import copy

import torch
from torch import nn


class MtpHead(nn.Module):
    """`trunk`: transformers' Qwen3_5ForCausalLM or Qwen3_5MoeForCausalLM. state_dict() has the published names below `mtp.`;
    the trunk is not part of it."""

    def __init__(self, trunk):
        super().__init__()
        config = copy.deepcopy(trunk.config)
        config.num_hidden_layers, config.layer_types = 1, ["full_attention"]
        self.config = config
        norm, layer = type(trunk.model.norm), type(trunk.model.layers[0])
        self.pre_fc_norm_embedding = norm(config.hidden_size, eps=config.rms_norm_eps)
        self.pre_fc_norm_hidden = norm(config.hidden_size, eps=config.rms_norm_eps)
        self.fc = nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.layers = nn.ModuleList([layer(config, 0)])
        self.norm = norm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, trunk, hidden, following):
        """hidden [batch, rows, H] and the tokens that follow [batch, rows]; the normalised output [batch, rows, H]."""
        rows = hidden.shape[1]
        embedding = self.pre_fc_norm_embedding(trunk.model.embed_tokens(following))
        u = self.fc(torch.cat([embedding, self.pre_fc_norm_hidden(hidden)], -1))
        positions = torch.arange(rows, device=u.device).expand(3, len(u), rows)
        mask = torch.full((rows, rows), torch.finfo(u.dtype).min, dtype=u.dtype, device=u.device).triu(1)
        rotary = trunk.model.rotary_emb(u, positions)
        u = self.layers[0](u, position_embeddings=rotary, attention_mask=mask[None, None])
        return self.norm(u)


@torch.no_grad()
def drafts(trunk, head, hidden, tokens, count):
    """What the head drafts greedily after every position p, whose next token is known: tokens i64 [n - 1, count] and logits
    [n - 1, count, V]. hidden [n, H] is the trunk's over tokens [n]; the drafts of p use rows 0..p of it and none after."""
    known, width = len(tokens) - 1, hidden.shape[1]
    rows = torch.cat([hidden, hidden.new_zeros(count, width)]).repeat(known, 1, 1)
    following = torch.cat([tokens[1:], tokens.new_zeros(count + 1)]).repeat(known, 1)
    at, logits = torch.arange(known, device=tokens.device), []
    for step in range(count):
        output = head(trunk, rows, following)[at, at + step]
        logits.append(trunk.lm_head(output))
        rows[at, at + step + 1] = output
        following[at, at + step + 1] = logits[-1].argmax(-1)
    logits = torch.stack(logits, 1)
    return logits.argmax(-1), logits


def acceptance(drafted, tokens, first, count):
    """Greedy speculative decoding of tokens [n] from position `first` with up to `count` drafts a step, by what `drafts` says:
    (steps, drafts made, drafts accepted). A step commits the token already known, the accepted drafts, and knows one more."""
    steps = made = accepted = 0
    position = first
    while position + 1 + count < len(tokens):
        agree = drafted[position, :count] == tokens[position + 2:position + 2 + count]
        good = int(agree.long().cumprod(0).sum())
        steps, made, accepted = steps + 1, made + count, accepted + good
        position += good + 1
    return steps, made, accepted
