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
def drafts(trunk, head, hidden, tokens, position, count):
    """What the head drafts after position `position`, whose next token is known: (tokens [count], logits [count, V]).
    hidden [n, H] and tokens [n] are the trunk's over the sequence; rows 0..position use them and nothing after it."""
    rows, following = hidden[None, :position + 1], tokens[None, 1:position + 2]
    logits = []
    for _ in range(count):
        output = head(trunk, rows, following)[:, -1:]
        logits.append(trunk.lm_head(output)[0, 0])
        rows = torch.cat([rows, output], 1)
        following = torch.cat([following, logits[-1].argmax()[None, None]], 1)
    return torch.stack([row.argmax() for row in logits]), torch.stack(logits)
