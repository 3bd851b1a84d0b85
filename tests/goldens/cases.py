"""The table of small random checkpoints that make_goldens.py makes: what each is and which branch it is there for.

A case has
  family   transformers' model_type of the text model
  tokens   how many
  rope_keys   how config.json spells RoPE: 4 (transformers 4) or 5
  storage  type of the weights in the file; every weight is exact in bf16 unless `exact` is False for the recurrence's decay
  covers   a line for README.md
  config   arguments of transformers' configuration class
and where it applies
  shards   files the weights are split into
  layers   "interval": config.json gives full_attention_interval alone; "types": layer_types alone; "both"
  experts  "fused": one tensor for all experts of a layer; "single": one tensor an expert, as published
  published  names and nesting of the multimodal release: text_config, `model.language_model.`, a few vision tensors
  heads    "layers": config.json gives heads of Gemma 4's global layers by layer, and not in older keys
  mtp      a head for multi-token prediction: "golden" with its logits, "ignored" when its tensors are there to be left alone
"""

PLAIN = {"rope_type": "default"}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}

YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32.0,
        "beta_slow": 1.0}
WARM = YARN | {"mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}

# What the cases of a family share; `interval` becomes layer_types.
MROPE = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25, "mrope_section": [2, 1, 1],
         "mrope_interleaved": True}
QWEN3_MOE = dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, head_dim=16, num_experts=8, num_experts_per_tok=2, moe_intermediate_size=16,
                 sliding_window=None, rope_parameters=PLAIN | {"rope_theta": 1e6})
HYBRID = dict(vocab_size=97, hidden_size=48, num_hidden_layers=4, interval=4, num_attention_heads=4, num_key_value_heads=2,
              head_dim=32, linear_num_key_heads=2, linear_key_head_dim=16, linear_value_head_dim=16,
              linear_conv_kernel_dim=4, rope_parameters=MROPE)
QWEN35 = HYBRID | dict(intermediate_size=64)
QWEN35_MOE = HYBRID | dict(hidden_size=32, num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16,
                           shared_expert_intermediate_size=24)
QWEN3_NEXT = QWEN35_MOE | dict(linear_num_value_heads=4, intermediate_size=56, num_experts=6, num_experts_per_tok=3,
                               rope_parameters=PLAIN | {"rope_theta": 1e4, "partial_rotary_factor": 0.25})
REAL_HEADS = dict(hidden_size=32, num_hidden_layers=2, interval=2, num_attention_heads=2, num_key_value_heads=1, head_dim=256,
                  linear_num_key_heads=1, linear_key_head_dim=128, linear_value_head_dim=128,
                  rope_parameters=MROPE | {"rope_theta": 1e7, "mrope_section": [11, 11, 10]})

LINEAR8 = {"rope_type": "linear", "factor": 8.0}
PROPORTIONAL = {"rope_type": "proportional", "partial_rotary_factor": 0.25}


def two_ropes(whole=PLAIN | {"rope_theta": 1e6}):
    return {"full_attention": whole, "sliding_attention": PLAIN | {"rope_theta": 1e4}}


GEMMA3 = dict(vocab_size=97, hidden_size=56, intermediate_size=72, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
              query_pre_attn_scalar=16, tie_word_embeddings=True, rope_parameters=two_ropes())
GEMMA4 = dict(vocab_size=97, hidden_size=56, intermediate_size=72, num_hidden_layers=6, num_attention_heads=4,
              num_key_value_heads=2, head_dim=16, global_head_dim=32, num_global_key_value_heads=1, attention_k_eq_v=True,
              sliding_window=8, hidden_size_per_layer_input=0, vocab_size_per_layer_input=97, tie_word_embeddings=True,
              rope_parameters=two_ropes(PROPORTIONAL | {"rope_theta": 1e6}))
GEMMA4_MOE = GEMMA4 | dict(hidden_size=48, intermediate_size=40, num_hidden_layers=2, enable_moe_block=True, num_experts=8,
                           top_k_experts=2, moe_intermediate_size=24, layer_types=["sliding_attention", "full_attention"])
GEMMA4_E = GEMMA4 | dict(hidden_size=64, intermediate_size=80, attention_k_eq_v=False, num_global_key_value_heads=None,
                         hidden_size_per_layer_input=16, num_kv_shared_layers=3,
                         layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2)

# by name
CASES = {
    "mistral-window5": dict(
        family="mistral", tokens=130, rope_keys=4, storage="bf16", covers="inclusive window edge, H not a multiple of 64",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, sliding_window=5, rope_parameters=PLAIN | {"rope_theta": 1e4})),
    "mistral-window64": dict(
        family="mistral", tokens=300, rope_keys=5, storage="bf16", covers="window across tiles, 4 heads on one, D = 64",
        config=dict(vocab_size=97, hidden_size=80, intermediate_size=144, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=1, head_dim=64, sliding_window=64, rope_parameters=PLAIN | {"rope_theta": 1e4})),
    "mistral-sharded": dict(
        family="mistral", tokens=130, rope_keys=5, storage="bf16", shards=2,
        covers="shards with an index, wide attention (Hq*D = 256, H = 48), no window, large theta",
        config=dict(vocab_size=300, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=8,
                    num_key_value_heads=2, head_dim=32, sliding_window=None,
                    rope_parameters=PLAIN | {"rope_theta": 1e6})),
    "mistral-yarn": dict(
        family="mistral", tokens=200, rope_keys=4, storage="bf16",
        covers="YaRN with its usual attention factor, 1.139, on every position",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=32, sliding_window=None, rope_parameters=YARN)),
    # Ministral-3 and Devstral-2: YaRN, and queries that are scaled the further they are from the start.
    "ministral3-steps": dict(
        family="ministral3", tokens=300, rope_keys=5, storage="bf16",
        covers="queries scaled at 64, 128, 192 and 256, YaRN's ramp over 5 of 16 frequencies",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=32, rope_parameters=WARM)),
    "ministral3-tied": dict(
        family="ministral3", tokens=130, rope_keys=5, storage="bf16",
        covers="tied head, the released head dimension, 128, wider than the hidden size, factor 16",
        config=dict(vocab_size=131, hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=1, head_dim=128, tie_word_embeddings=True,
                    rope_parameters=WARM | {"rope_theta": 1e6, "factor": 16.0, "original_max_position_embeddings": 32})),
    "ministral3-published": dict(
        family="ministral3", tokens=70, rope_keys=5, storage="bf16", published=True, shards=2,
        covers="published names with vision and projector tensors, two shards, 4 heads on one",
        config=dict(vocab_size=97, hidden_size=40, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=1, head_dim=32, rope_parameters=WARM | {"original_max_position_embeddings": 16})),
    "ministral3-untruncated": dict(
        family="ministral3", tokens=131, rope_keys=5, storage="f16",
        covers="truncate false, an attention factor of 0.9 that the configuration gives, theta 1e8, F16 storage",
        config=dict(vocab_size=113, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=3,
                    num_key_value_heads=3, head_dim=64,
                    rope_parameters=WARM | {"rope_theta": 1e8, "factor": 48.0, "truncate": False, "attention_factor": 0.9,
                                            "llama_4_scaling_beta": 0.25})),
    "ministral3-window": dict(
        family="ministral3", tokens=131, rope_keys=5, storage="bf16",
        covers="a sliding window of 24 across steps of the queries' scale, biases none, 5 heads on one",
        config=dict(vocab_size=97, hidden_size=80, intermediate_size=112, num_hidden_layers=2, num_attention_heads=5,
                    num_key_value_heads=1, head_dim=16, sliding_window=24,
                    rope_parameters=WARM | {"original_max_position_embeddings": 20})),
    "llama-tied-f32": dict(
        family="llama", tokens=130, rope_keys=5, storage="f32", covers="tied head, 3 heads on one, Hq*D = 192, F32 storage",
        config=dict(vocab_size=131, hidden_size=72, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
                    num_key_value_heads=2, head_dim=32, tie_word_embeddings=True,
                    rope_parameters=PLAIN | {"rope_theta": 500.0})),
    "llama-biases-f16": dict(
        family="llama", tokens=130, rope_keys=4, storage="f16", covers="attention and MLP biases, 5 heads on one, F16 storage",
        config=dict(vocab_size=113, hidden_size=80, intermediate_size=112, num_hidden_layers=2, num_attention_heads=5,
                    num_key_value_heads=1, head_dim=16, attention_bias=True, mlp_bias=True,
                    rope_parameters=PLAIN | {"rope_theta": 1e4})),
    "llama-rope3": dict(
        family="llama", tokens=200, rope_keys=4, storage="bf16", covers="llama3 RoPE scaling, one KV head a query head",
        config=dict(vocab_size=101, hidden_size=128, intermediate_size=160, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=2, head_dim=64, rope_parameters=LLAMA3 | {"rope_theta": 5e5})),
    "llama-long": dict(
        family="llama", tokens=300, rope_keys=5, storage="bf16", covers="lengths across page and tile borders, three layers",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3,
                    num_key_value_heads=1, head_dim=16, tie_word_embeddings=True,
                    rope_parameters=PLAIN | {"rope_theta": 1e4})),

    # Qwen3: norms of q and k by head, before RoPE.
    "qwen3-narrow": dict(
        family="qwen3", tokens=130, rope_keys=5, storage="bf16", covers="norms of q and k, Hq*D = 64 with hidden size 48",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=16, rope_parameters=PLAIN | {"rope_theta": 1e6})),
    "qwen3-tied-long": dict(
        family="qwen3", tokens=300, rope_keys=4, storage="bf16", covers="tied head, 4 heads on one, three layers",
        config=dict(vocab_size=97, hidden_size=40, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
                    num_key_value_heads=1, head_dim=32, tie_word_embeddings=True,
                    rope_parameters=PLAIN | {"rope_theta": 1e4})),
    "qwen3-full-heads": dict(
        family="qwen3", tokens=67, rope_keys=5, storage="f32", covers="as many KV heads as heads, F32 storage",
        config=dict(vocab_size=113, hidden_size=56, intermediate_size=72, num_hidden_layers=2, num_attention_heads=3,
                    num_key_value_heads=3, head_dim=16, rope_parameters=PLAIN | {"rope_theta": 5e5})),
    "qwen3-biases": dict(
        family="qwen3", tokens=33, rope_keys=5, storage="bf16", covers="attention biases, 3 heads on one",
        config=dict(vocab_size=101, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=6,
                    num_key_value_heads=2, head_dim=16, attention_bias=True,
                    rope_parameters=PLAIN | {"rope_theta": 1e6})),
    "qwen3-yarn": dict(
        family="qwen3", tokens=130, rope_keys=4, storage="bf16", covers="YaRN by a factor of 4, after the norms of q and k",
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                    num_key_value_heads=2, head_dim=32, rope_parameters=YARN | {"rope_theta": 1e6})),
    "qwen3-head128": dict(
        family="qwen3", tokens=131, rope_keys=4, storage="bf16", covers="the released head dimension, 128; two shards", shards=2,
        config=dict(vocab_size=97, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=1, head_dim=128, rope_parameters=PLAIN | {"rope_theta": 1e6})),
    "qwen3-window-off": dict(
        family="qwen3", tokens=130, rope_keys=4, storage="f16",
        covers="a sliding_window that use_sliding_window = false turns off, F16 storage",
        extra=dict(use_sliding_window=False, sliding_window=8, max_window_layers=1),
        config=dict(vocab_size=97, hidden_size=72, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
                    num_key_value_heads=1, head_dim=64, rope_parameters=PLAIN | {"rope_theta": 1e4})),
    # Qwen3-MoE: experts without a shared one.
    "qwen3moe-renormalised": dict(
        family="qwen3_moe", tokens=130, rope_keys=5, storage="bf16", experts="single", covers="norm_topk_prob, 2 of 8 experts",
        config=QWEN3_MOE | dict(norm_topk_prob=True)),
    "qwen3moe-plain": dict(
        family="qwen3_moe", tokens=65, rope_keys=4, storage="bf16", experts="single",
        covers="norm_topk_prob false, 3 of 8 experts, intermediate size 24",
        config=QWEN3_MOE | dict(norm_topk_prob=False, num_experts_per_tok=3, moe_intermediate_size=24)),
    "qwen3moe-dense-first": dict(
        family="qwen3_moe", tokens=300, rope_keys=5, storage="bf16", experts="single",
        covers="mlp_only_layers, one of 5 experts, 300 tokens",
        config=QWEN3_MOE | dict(norm_topk_prob=True, num_experts=5, num_experts_per_tok=1, num_hidden_layers=3,
                                mlp_only_layers=[0], moe_intermediate_size=32)),
    "qwen3moe-sparse-step": dict(
        family="qwen3_moe", tokens=130, rope_keys=5, storage="bf16", experts="fused",
        covers="decoder_sparse_step 2, tied head, fused experts",
        config=QWEN3_MOE | dict(norm_topk_prob=True, decoder_sparse_step=2, num_hidden_layers=4, tie_word_embeddings=True)),
    "qwen3moe-many": dict(
        family="qwen3_moe", tokens=71, rope_keys=4, storage="bf16", experts="single", covers="8 of 32 experts",
        config=QWEN3_MOE | dict(norm_topk_prob=True, num_experts=32, num_experts_per_tok=8, moe_intermediate_size=16,
                                hidden_size=40)),
    "qwen3moe-all": dict(
        family="qwen3_moe", tokens=131, rope_keys=5, storage="f16", experts="single",
        covers="every expert routed to, norm_topk_prob false, head dimension 128, F16 storage",
        config=QWEN3_MOE | dict(norm_topk_prob=False, num_experts=4, num_experts_per_tok=4, head_dim=128,
                                num_attention_heads=2, num_key_value_heads=1)),
    # Qwen3.5 and 3.6, dense: Gated DeltaNet and gated attention.
    "qwen35-grouped": dict(
        family="qwen3_5_text", tokens=130, rope_keys=5, storage="bf16", layers="both", mtp="golden",
        covers="3 value heads a key head, interval 4, partial RoPE 8 of 32; MTP",
        config=QWEN35 | dict(vocab_size=64, hidden_size=40, intermediate_size=48, linear_num_key_heads=2, linear_num_value_heads=6)),
    "qwen35-uneven": dict(
        family="qwen3_5_text", tokens=65, rope_keys=5, storage="bf16", layers="types",
        covers="one value head a key head, Dk 16 and Dv 32, tied head, layers L F F L",
        config=QWEN35 | dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_value_head_dim=32,
                             tie_word_embeddings=True, layer_types=["linear_attention", "full_attention",
                                                                    "full_attention", "linear_attention"])),
    "qwen35-published": dict(
        family="qwen3_5_text", tokens=37, rope_keys=5, storage="bf16", layers="both", published=True, mtp="ignored", shards=2,
        exact=False, covers="published names with vision and MTP tensors, 2 value heads a key head, F32 decays, two shards",
        config=QWEN35 | dict(linear_num_key_heads=2, linear_num_value_heads=4)),
    "qwen35-long": dict(
        family="qwen3_5_text", tokens=300, rope_keys=5, storage="bf16", layers="interval",
        covers="chunks of 64 wrap four times, interval 2, Dk 32 and Dv 16, three value heads on one",
        config=QWEN35 | dict(linear_num_key_heads=1, linear_num_value_heads=3, linear_key_head_dim=32,
                             num_hidden_layers=4, interval=2, num_key_value_heads=1)),
    "qwen35-attention-first": dict(
        family="qwen3_5_text", tokens=3, rope_keys=5, storage="f16", layers="types",
        covers="3 tokens, layers F L L, partial RoPE 8 of 16, hidden size 72, F16 storage",
        config=QWEN35 | dict(num_hidden_layers=3, hidden_size=72, head_dim=16, linear_num_key_heads=3,
                             linear_num_value_heads=6, rope_parameters=MROPE | {"partial_rotary_factor": 0.5},
                             layer_types=["full_attention", "linear_attention", "linear_attention"])),
    "qwen35-real-heads": dict(
        family="qwen3_5_text", tokens=191, rope_keys=5, storage="bf16", layers="both",
        covers="the released head dimensions: 256 with RoPE 64, Dk and Dv 128, 3 value heads a key head",
        config=QWEN35 | REAL_HEADS | dict(linear_num_value_heads=3)),
    # Qwen3.5 and 3.6, mixture of experts.
    "qwen35moe-shared": dict(
        family="qwen3_5_moe_text", tokens=130, rope_keys=5, storage="bf16", layers="both", experts="fused", mtp="golden",
        covers="3 of 8 experts and a shared one of another width, 2 value heads a key head; MTP",
        config=QWEN35_MOE | dict(vocab_size=64, linear_num_key_heads=2, linear_num_value_heads=4)),
    "qwen35moe-published": dict(
        family="qwen3_5_moe_text", tokens=39, rope_keys=5, storage="bf16", layers="both", experts="fused", published=True,
        mtp="ignored", exact=False, covers="published names with vision and MTP tensors, 3 value heads a key head, F32 decays",
        config=QWEN35_MOE | dict(linear_num_key_heads=1, linear_num_value_heads=3, num_experts_per_tok=2)),
    "qwen35moe-many": dict(
        family="qwen3_5_moe_text", tokens=70, rope_keys=5, storage="bf16", layers="interval", experts="fused",
        covers="8 of 32 experts, interval 2, one value head a key head, Dk 16 and Dv 32",
        config=QWEN35_MOE | dict(linear_num_key_heads=2, linear_num_value_heads=2, linear_value_head_dim=32, num_experts=32,
                                 num_experts_per_tok=8, moe_intermediate_size=16, num_hidden_layers=2, interval=2)),
    "qwen35moe-one": dict(
        family="qwen3_5_moe_text", tokens=1, rope_keys=5, storage="bf16", layers="types", experts="fused",
        covers="1 token, one of 5 experts, tied head, layers L F F",
        config=QWEN35_MOE | dict(linear_num_key_heads=1, linear_num_value_heads=2, num_experts=5, num_experts_per_tok=1,
                                 num_hidden_layers=3, tie_word_embeddings=True, num_key_value_heads=1,
                                 layer_types=["linear_attention", "full_attention", "full_attention"])),
    "qwen35moe-single": dict(
        family="qwen3_5_moe_text", tokens=300, rope_keys=5, storage="f16", layers="types", experts="single",
        covers="one tensor an expert, F16 storage, 300 tokens, layers L F L",
        config=QWEN35_MOE | dict(linear_num_key_heads=2, linear_num_value_heads=4, num_hidden_layers=3, hidden_size=40,
                                 layer_types=["linear_attention", "full_attention", "linear_attention"])),
    "qwen35moe-real-heads": dict(
        family="qwen3_5_moe_text", tokens=129, rope_keys=5, storage="bf16", layers="both", experts="fused",
        covers="the released head dimensions: 256 with RoPE 64, Dk and Dv 128, 2 value heads a key head; 4 of 6 experts",
        config=QWEN35_MOE | REAL_HEADS | dict(linear_num_value_heads=2, num_experts=6, num_experts_per_tok=4,
                                              moe_intermediate_size=32, shared_expert_intermediate_size=16)),
    # Qwen3-Next: as Qwen3.5-MoE with packed projections.
    "qwen3next-packed": dict(
        family="qwen3_next", tokens=130, rope_keys=5, storage="bf16", layers="types", experts="single",
        covers="in_proj_qkvz and in_proj_ba with 2 value heads a key head, norm_topk_prob, mlp_only_layers",
        config=QWEN3_NEXT | dict(norm_topk_prob=True, mlp_only_layers=[1])),
    "qwen3next-plain": dict(
        family="qwen3_next", tokens=65, rope_keys=4, storage="bf16", layers="interval", experts="single",
        covers="transformers 4's keys, norm_topk_prob false, 3 value heads a key head",
        config=QWEN3_NEXT | dict(norm_topk_prob=False, linear_num_value_heads=6)),
    "qwen3next-sparse-step": dict(
        family="qwen3_next", tokens=63, rope_keys=4, storage="bf16", layers="interval", experts="single", mtp="ignored",
        covers="decoder_sparse_step 2, one value head a key head, tied head, interval 2; MTP tensors that no key names",
        config=QWEN3_NEXT | dict(norm_topk_prob=True, decoder_sparse_step=2, linear_num_value_heads=2, interval=2,
                                 tie_word_embeddings=True)),
    "qwen3next-long": dict(
        family="qwen3_next", tokens=300, rope_keys=5, storage="bf16", layers="types", experts="single",
        covers="Dk 32 and Dv 16, layers F L L, 300 tokens, shared expert wider than the experts",
        config=QWEN3_NEXT | dict(norm_topk_prob=True, num_hidden_layers=3, linear_num_key_heads=1, linear_num_value_heads=3,
                                 linear_key_head_dim=32,
                                 layer_types=["full_attention", "linear_attention", "linear_attention"])),
    "qwen3next-fused": dict(
        family="qwen3_next", tokens=2, rope_keys=5, storage="f32", layers="both", experts="fused",
        covers="2 tokens, fused experts, 6 of 16 experts, norm_topk_prob false, F32 storage",
        config=QWEN3_NEXT | dict(norm_topk_prob=False, num_experts=16, num_experts_per_tok=6, num_hidden_layers=2, interval=2,
                                 moe_intermediate_size=8, shared_expert_intermediate_size=24)),
    "qwen3next-real-heads": dict(
        family="qwen3_next", tokens=150, rope_keys=4, storage="bf16", layers="interval", experts="single",
        covers="the released head dimensions: 256 with RoPE 64, Dk and Dv 128",
        config=QWEN3_NEXT | REAL_HEADS | dict(norm_topk_prob=True, linear_num_value_heads=2, num_experts=4,
                                              num_experts_per_tok=2,
                                              rope_parameters=PLAIN | {"rope_theta": 1e7, "partial_rotary_factor": 0.25})),
    # Gemma 3: norms after the blocks, windows with a theta of their own.
    "gemma3-two-ropes": dict(
        family="gemma3_text", tokens=130, rope_keys=5, storage="bf16",
        covers="window 8, linear scaling of global layers, query_pre_attn_scalar 24, the last layer windowed",
        config=GEMMA3 | dict(num_hidden_layers=7, query_pre_attn_scalar=24, sliding_window=8,
                             rope_parameters=two_ropes(LINEAR8 | {"rope_theta": 1e6}))),
    "gemma3-old-keys": dict(
        family="gemma3_text", tokens=67, rope_keys=4, storage="f16",
        covers="transformers 4's keys, sliding_window_pattern 2, untied head, F16 storage",
        config=GEMMA3 | dict(hidden_size=48, head_dim=32, num_hidden_layers=3, sliding_window_pattern=2, sliding_window=16,
                             tie_word_embeddings=False, rope_parameters=two_ropes(LINEAR8 | {"rope_theta": 1e5}))),
    "gemma3-softcap": dict(
        family="gemma3_text", tokens=300, rope_keys=4, storage="bf16",
        covers="final_logit_softcapping 2, window 20, no scaling, 300 tokens",
        config=GEMMA3 | dict(num_hidden_layers=4, sliding_window_pattern=3, sliding_window=20, final_logit_softcapping=2.0)),
    "gemma3-published": dict(
        family="gemma3_text", tokens=130, rope_keys=5, storage="bf16", published=True, shards=2,
        covers="published names with vision tensors, two shards, one KV head",
        config=GEMMA3 | dict(vocab_size=101, hidden_size=48, num_key_value_heads=1, num_hidden_layers=3, sliding_window=12,
                             layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "gemma3-real-heads": dict(
        family="gemma3_text", tokens=150, rope_keys=5, storage="bf16",
        covers="the released head dimension, 256, window 32",
        config=GEMMA3 | dict(hidden_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=256, num_hidden_layers=2,
                             query_pre_attn_scalar=256, sliding_window=32,
                             layer_types=["sliding_attention", "full_attention"])),
    "gemma3-windows-only": dict(
        family="gemma3_text", tokens=99, rope_keys=5, storage="f32",
        covers="no global layer, window 3, attention biases, F32 storage",
        config=GEMMA3 | dict(num_hidden_layers=2, sliding_window=3, attention_bias=True,
                             layer_types=["sliding_attention", "sliding_attention"])),
    # Gemma 4, dense: values normalised, global layers with heads of their own, a factor a layer.
    "gemma4-keys-as-values": dict(
        family="gemma4_text", tokens=130, rope_keys=5, storage="bf16", heads="layers",
        covers="attention_k_eq_v, one wide KV head in global layers, proportional RoPE, softcap 5, window 8",
        config=GEMMA4 | dict(final_logit_softcapping=5.0)),
    "gemma4-older-keys": dict(
        family="gemma4_text", tokens=65, rope_keys=5, storage="bf16",
        covers="global_head_dim, values projected in every layer, as many KV heads in global layers",
        config=GEMMA4 | dict(attention_k_eq_v=False, num_global_key_value_heads=None, num_hidden_layers=4,
                             layer_types=["sliding_attention", "full_attention"] * 2)),
    "gemma4-real-heads": dict(
        family="gemma4_text", tokens=150, rope_keys=5, storage="bf16", heads="layers",
        covers="the released head dimensions: 256, and 512 with a quarter rotating",
        config=GEMMA4 | dict(hidden_size=64, num_attention_heads=2, num_key_value_heads=2, num_global_key_value_heads=1,
                             head_dim=256, global_head_dim=512, num_hidden_layers=2, sliding_window=32,
                             layer_types=["sliding_attention", "full_attention"])),
    "gemma4-published": dict(
        family="gemma4_text", tokens=130, rope_keys=5, storage="bf16", heads="layers", published=True, shards=2,
        covers="published names with vision tensors, two shards",
        config=GEMMA4 | dict(vocab_size=101, hidden_size=48, num_hidden_layers=3, final_logit_softcapping=30.0,
                             layer_types=["sliding_attention", "sliding_attention", "full_attention"])),
    "gemma4-long": dict(
        family="gemma4_text", tokens=300, rope_keys=5, storage="f16",
        covers="window 64, half of a global head rotating, 300 tokens, F16 storage",
        config=GEMMA4 | dict(num_hidden_layers=3, sliding_window=64,
                             layer_types=["full_attention", "sliding_attention", "full_attention"],
                             rope_parameters=two_ropes(PROPORTIONAL | {"rope_theta": 1e5, "partial_rotary_factor": 0.5}))),
    "gemma4-one-size": dict(
        family="gemma4_text", tokens=99, rope_keys=5, storage="f32",
        covers="heads of one size, biases, untied head, no RoPE scaling, F32 storage",
        config=GEMMA4 | dict(num_hidden_layers=2, head_dim=32, attention_bias=True, attention_k_eq_v=False,
                             num_global_key_value_heads=None, tie_word_embeddings=False,
                             layer_types=["sliding_attention", "full_attention"], rope_parameters=two_ropes())),
    # With experts beside the MLP.
    "gemma4moe-two": dict(
        family="gemma4_text", tokens=130, rope_keys=5, storage="bf16", heads="layers",
        covers="2 of 8 experts, keys as values, softcap 30",
        config=GEMMA4_MOE | dict(final_logit_softcapping=30.0)),
    "gemma4moe-one": dict(
        family="gemma4_text", tokens=65, rope_keys=5, storage="bf16",
        covers="one of 5 experts, wider than the MLP",
        config=GEMMA4_MOE | dict(num_experts=5, top_k_experts=1, moe_intermediate_size=64, intermediate_size=48)),
    "gemma4moe-many": dict(
        family="gemma4_text", tokens=71, rope_keys=5, storage="bf16", heads="layers", covers="8 of 32 experts",
        config=GEMMA4_MOE | dict(num_experts=32, top_k_experts=8, moe_intermediate_size=16)),
    "gemma4moe-all": dict(
        family="gemma4_text", tokens=99, rope_keys=5, storage="f32", covers="every expert, F32 storage",
        config=GEMMA4_MOE | dict(num_experts=4, top_k_experts=4)),
    "gemma4moe-published": dict(
        family="gemma4_text", tokens=130, rope_keys=5, storage="bf16", heads="layers", published=True,
        covers="published names with vision tensors, 3 of 6 experts",
        config=GEMMA4_MOE | dict(vocab_size=101, hidden_size=48, num_experts=6, top_k_experts=3)),
    "gemma4moe-long": dict(
        family="gemma4_text", tokens=300, rope_keys=5, storage="bf16", heads="layers",
        covers="300 tokens, window 40, expert width 40, values projected",
        config=GEMMA4_MOE | dict(sliding_window=40, moe_intermediate_size=40, attention_k_eq_v=False,
                                 num_global_key_value_heads=None)),
    # With inputs of each layer's own, and layers that read the cache of an earlier one.
    "gemma4e-inputs": dict(
        family="gemma4_text", tokens=130, rope_keys=5, storage="bf16", heads="layers",
        covers="inputs of each layer's own, 32 wide, no shared cache",
        config=GEMMA4_E | dict(num_kv_shared_layers=0, hidden_size_per_layer_input=32)),
    "gemma4e-shared": dict(
        family="gemma4_text", tokens=130, rope_keys=5, storage="bf16", heads="layers",
        covers="the last 3 of 6 layers read earlier caches, MLPs twice as wide there",
        config=GEMMA4_E | dict(use_double_wide_mlp=True)),
    "gemma4e-no-inputs": dict(
        family="gemma4_text", tokens=65, rope_keys=5, storage="bf16",
        covers="shared caches without inputs of a layer's own",
        config=GEMMA4_E | dict(hidden_size_per_layer_input=0, num_kv_shared_layers=2)),
    "gemma4e-published": dict(
        family="gemma4_text", tokens=130, rope_keys=5, storage="bf16", heads="layers", published=True, shards=2,
        covers="published names with vision tensors, softcap 30",
        config=GEMMA4_E | dict(vocab_size=101, vocab_size_per_layer_input=101, hidden_size=48, final_logit_softcapping=30.0)),
    "gemma4e-long": dict(
        family="gemma4_text", tokens=300, rope_keys=5, storage="f16", heads="layers",
        covers="300 tokens, window 24, two shared layers of one type, F16 storage",
        config=GEMMA4_E | dict(sliding_window=24, num_hidden_layers=5, num_kv_shared_layers=2,
                               layer_types=["full_attention", "sliding_attention", "full_attention", "full_attention",
                                            "full_attention"])),
    "gemma4e-real-heads": dict(
        family="gemma4_text", tokens=150, rope_keys=5, storage="bf16", heads="layers",
        covers="the released head dimensions, one KV head for all",
        config=GEMMA4_E | dict(hidden_size=64, num_attention_heads=2, num_key_value_heads=1, head_dim=256, global_head_dim=512,
                               num_hidden_layers=4, num_kv_shared_layers=2, sliding_window=32,
                               layer_types=["sliding_attention", "full_attention"] * 2)),
}
