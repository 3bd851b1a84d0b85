#!/usr/bin/env python3
"""Makes quantized/: small checkpoints as the tools that quantise write them, and what those tools say the weights are.

Each case is a folder with config.json and model.safetensors, and in expected.safetensors the fp32 weights. Codes are packed by
the tools' own code where it runs without a GPU: compressed-tensors' compressors (an installed package), AutoGPTQ's and
AutoRound's linear layers and AutoAWQ's packing (single files of their packages, given as paths, for the packages themselves
import kernels). The expected weights are the formulas of their documentation in NumPy, and are compared with what the tools'
own dequantisers give.

Usage: make_quantized.py AUTOAWQ AUTOGPTQ AUTOROUND   (unpacked packages: autoawq 0.2.9, auto-gptq 0.7.1, auto-round 0.16.1)
Needs torch, transformers, safetensors, compressed-tensors (0.20). The files are the same on every run.
"""

import importlib.util
import json
import pathlib
import shutil
import sys
import types

import numpy as np
import torch
from compressed_tensors.compressors.base import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parent / "quantized"
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
random = np.random.default_rng(31)


def load(package, path):
    """One file of a package, without the package's __init__."""
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, pathlib.Path(package) / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


awq_package, gptq_package, round_package = sys.argv[1:4]
# What AutoRound's layers take from their package, whose own imports need much more.
utilities = types.ModuleType("auto_round.utils")
utilities.__path__ = [str(pathlib.Path(round_package) / "auto_round/utils")]
utilities.get_packing_device = lambda device=None: "cpu"
sys.modules["auto_round"] = types.ModuleType("auto_round")
sys.modules["auto_round.utils"] = utilities
sys.path.insert(0, round_package)
awq_tool = load(awq_package, "awq/utils/packing_utils.py")
gptq_tool = load(gptq_package, "auto_gptq/nn_modules/qlinear/qlinear_cuda.py")
round_tool = load(round_package, "auto_round_extension/torch/qlinear_torch.py")
round_zp_tool = load(round_package, "auto_round_extension/torch/qlinear_torch_zp.py")


class Case:
    def __init__(self, name, quantization):
        self.folder = FOLDER / name
        self.config = {"model_type": "llama", "quantization_config": quantization}
        self.tensors = {"model.norm.weight": torch.tensor(random.standard_normal(8), dtype=torch.float32)}
        self.expected = {"model.norm.weight": self.tensors["model.norm.weight"].clone()}

    def add(self, linear, parts, expected):
        for suffix, value in parts.items():
            self.tensors[f"{linear}.{suffix}"] = value.contiguous().clone()
        self.tensors[f"{linear}.bias"] = torch.tensor(random.standard_normal(4), dtype=torch.float16)
        self.expected[f"{linear}.bias"] = self.tensors[f"{linear}.bias"].float()
        self.expected[f"{linear}.weight"] = torch.tensor(np.asarray(expected, dtype=np.float32))

    def write(self):
        self.folder.mkdir(parents=True)
        (self.folder / "config.json").write_text(json.dumps(self.config, indent=1) + "\n")
        save_file(self.tensors, self.folder / "model.safetensors")
        save_file(self.expected, self.folder / "expected.safetensors")


def float_scales(rows, groups, negative=False):
    """Positive scales of a usual size, exact in fp16; with `negative`, of both signs."""
    scales = (np.abs(random.standard_normal((rows, groups))) * 0.02 + 0.001).astype(np.float16)
    if negative:
        scales *= random.choice([-1, 1], scales.shape).astype(np.float16)
    return scales


def dequantize(codes, zeros, scales, group_of):
    """[N, K] codes, [N, G] zeros and scales, the group of each column: (q - z) * s in fp32."""
    codes, zeros, scales = codes.astype(np.int32), zeros.astype(np.int32), scales.astype(np.float32)
    return (codes - zeros[:, group_of]).astype(np.float32) * scales[:, group_of]


def words(values):
    """uint32 to torch's int32 of the same bits."""
    return torch.tensor(values.astype(np.uint32).view(np.int32))


def runs(columns, group):
    return np.arange(columns) // (group if group > 0 else columns)


def awq_case(name, rows, columns, group, quantization, symmetric=False):
    case = Case(name, quantization)
    group_of = runs(columns, group)
    groups = group_of[-1] + 1
    codes = random.integers(0, 16, (rows, columns))
    zeros = np.full((rows, groups), 8) if symmetric else random.integers(0, 16, (rows, groups))
    scales = float_scales(rows, groups)

    def pack(values):  # [lines, N] to [lines, N/8]
        packed = np.zeros((values.shape[0], values.shape[1] // 8), dtype=np.uint32)
        for i, channel in enumerate(AWQ_ORDER):
            packed |= values[:, channel::8].astype(np.uint32) << np.uint32(4 * i)
        return words(packed)

    parts = {"qweight": pack(codes.T), "qzeros": pack(zeros.T), "scales": torch.tensor(scales.T.copy())}
    expected = dequantize(codes, zeros, scales, group_of)
    # The tool's own dequantiser, with scales widened so that it does not round to fp16.
    theirs = awq_tool.dequantize_gemm(parts["qweight"], parts["qzeros"], parts["scales"].float(), 4,
                                      columns if group < 0 else group)
    assert torch.equal(theirs.T, torch.tensor(expected)), name
    case.add("model.layers.0.mlp.up_proj", parts, expected)
    case.write()


def linear_of(weight):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    linear.weight.data = torch.tensor(weight)
    return linear


def gptq_case(name, rows, columns, group, bits, quantization, tool, offset, zeros=None, order=None, negative=False,
              with_order=True):
    """`tool` is the layer that packs and dequantises; `offset` is what it takes off a zero when it stores it."""
    case = Case(name, quantization)
    group_of = runs(columns, group) if order is None else order
    groups = int(group_of.max()) + 1
    codes = random.integers(0, 1 << bits, (rows, columns))
    if zeros is None:
        zeros = np.full((rows, groups), 1 << (bits - 1))
    scales = float_scales(rows, groups, negative)
    expected = dequantize(codes, zeros, scales, group_of)
    width = 32 // bits
    qweight = np.zeros((columns // width, rows), dtype=np.uint32)
    for i in range(width):
        qweight |= codes.T[i::width].astype(np.uint32) << np.uint32(bits * i)
    qzeros = np.zeros((groups, rows // width), dtype=np.uint32)
    for i in range(width):
        qzeros |= ((zeros.T[:, i::width] - offset) & ((1 << bits) - 1)).astype(np.uint32) << np.uint32(bits * i)
    parts = {"qweight": words(qweight), "qzeros": words(qzeros), "scales": torch.tensor(scales.T.copy())}
    if with_order:
        parts["g_idx"] = torch.tensor(group_of.astype(np.int32))
    if tool is not None:
        # The tool packs the fp32 weights to the same words, and its forward of the identity is the transposed weight.
        try:
            layer = tool.QuantLinear(bits, group, columns, rows, False)
        except TypeError:
            layer = tool.QuantLinear(bits, group, columns, rows, bias=False)
        if columns % 32 == 0 and rows % 32 == 0 and (order is None or tool is gptq_tool):
            layer.device = "cpu"  # one of the tools looks for it
            arguments = (linear_of(expected), torch.tensor(scales.astype(np.float32)),
                         torch.tensor(zeros.astype(np.float32)))
            if tool is gptq_tool:
                layer.pack(*arguments, torch.tensor(group_of.astype(np.int64)))
            elif group > 0 and columns % group == 0:
                layer.pack(*arguments)
            if layer.qweight.abs().sum() > 0:
                assert torch.equal(layer.qweight, parts["qweight"]), name
                assert torch.equal(layer.qzeros, parts["qzeros"]), name
    case.add("model.layers.0.mlp.down_proj", parts, expected)
    case.write()


def compressed_case(name, linears, groups, form):
    """linears: name -> (rows, columns, index of the group, g_idx or None). groups: (weights, input_activations or None)."""
    config_groups = {f"group_{i}": {"targets": ["Linear"], "weights": weights, "input_activations": inputs,
                                    "output_activations": None} for i, (weights, inputs) in enumerate(groups)}
    case = Case(name, {"quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
                       "ignore": ["lm_head"], "config_groups": config_groups})
    for linear, (rows, columns, index, order, scale_type) in linears.items():
        weights, inputs = groups[index]
        # The package no longer takes the act-order of files that it once wrote.
        arguments = QuantizationArgs(**{key: value for key, value in weights.items() if key != "actorder"})
        scheme = QuantizationScheme(targets=["Linear"], weights=arguments,
                                    input_activations=QuantizationArgs(**inputs) if inputs else None)
        bits, strategy = weights["num_bits"], weights["strategy"]
        group_of = order if order is not None else runs(columns, weights.get("group_size") or -1)
        count = int(group_of.max()) + 1
        shape = {"tensor": (1,), "channel": (rows, 1), "group": (rows, count)}[strategy]
        scales = torch.tensor(np.abs(random.standard_normal(shape)) * 0.02 + 0.001).to(scale_type)
        parts = {"weight_scale": scales}
        wide = scales.float().numpy().reshape(-1, count)
        wide = np.broadcast_to(wide, (rows, count))
        if weights["type"] == "float":
            fp8 = torch.tensor(random.standard_normal((rows, columns)) * 100, dtype=torch.float32).to(torch.float8_e4m3fn)
            expected = fp8.float().numpy() * wide[:, group_of]
            zeros = None
        else:
            codes = random.integers(-(1 << (bits - 1)), 1 << (bits - 1), (rows, columns))
            zeros = np.zeros((rows, count), dtype=np.int64)
            if not weights.get("symmetric", True):
                zeros = random.integers(-(1 << (bits - 1)), 1 << (bits - 1), (rows, count))
            expected = dequantize(codes, zeros, wide, group_of)
        state = {"weight": torch.tensor(expected), "weight_scale": scales.float()}
        if not weights.get("symmetric", True):
            state["weight_zero_point"] = torch.tensor(zeros.astype(np.int8))
        if order is not None:
            state["weight_g_idx"] = torch.tensor(order.astype(np.int32))
        compressor = BaseCompressor.get_value_from_registry(form if form != "mixed-precision" else
                                                            ("pack-quantized" if bits == 4 else "float-quantized"))
        if order is None:
            packed = compressor.compress(state, scheme)
        else:
            # The compressor takes columns in group order from the caller here; pack with its packer.
            from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
            packed = dict(state, weight_packed=pack_to_int32(torch.tensor(codes.astype(np.int8)), bits),
                          weight_shape=torch.tensor([rows, columns]))
            packed.pop("weight")
        if order is None:
            theirs = compressor.decompress(dict(packed), scheme)["weight"]
            assert torch.equal(theirs, torch.tensor(expected)), name
        for suffix, value in packed.items():
            parts[suffix] = scales if suffix == "weight_scale" else value
        if inputs and not inputs.get("dynamic"):
            parts["input_scale"] = torch.tensor([0.03125 * 1.5], dtype=torch.float32)
        case.add(linear, parts, expected)
    case.write()


def fp8_case(name, rows, columns, block, scale_type, quantization):
    case = Case(name, quantization)
    fp8 = torch.tensor(random.standard_normal((rows, columns)) * 60, dtype=torch.float32).to(torch.float8_e4m3fn)
    every_code = torch.arange(256, dtype=torch.uint8)
    every_code = every_code[(every_code & 0x7f) != 0x7f].view(torch.float8_e4m3fn)  # all but NaN
    fp8.view(-1)[:254] = every_code
    parts = {"weight": fp8}
    if block:
        shape = (-(-rows // block), -(-columns // block))
        scales = torch.tensor(random.standard_normal(shape) ** 2 * 0.01 + 1e-4).to(scale_type)
        wide = np.repeat(np.repeat(scales.float().numpy(), block, 0), block, 1)[:rows, :columns]
        parts["weight_scale_inv"] = scales
    else:
        scales = torch.tensor(0.0173).to(scale_type)
        wide = scales.float().numpy()
        parts["weight_scale_inv"] = scales
        parts["activation_scale"] = torch.tensor(0.041).to(scale_type)
    case.add("model.layers.0.self_attn.o_proj", parts, fp8.float().numpy() * wide)
    case.write()


def quark_case():
    tensor = {"dtype": "int8", "qscheme": "per_channel", "ch_axis": 0, "symmetric": True, "is_dynamic": False}
    inputs = {"dtype": "int8", "qscheme": "per_channel", "ch_axis": 1, "symmetric": True, "is_dynamic": True}
    case = Case("quark-int8", {"quant_method": "quark", "quant_mode": "eager_mode", "exclude": ["lm_head"],
                               "export": {"kv_cache_group": []}, "layer_quant_config": {},
                               "global_quant_config": {"weight": tensor, "input_tensors": inputs, "bias": None,
                                                       "output_tensors": None}})
    codes = random.integers(-128, 128, (12, 50)).astype(np.int8)
    scales = (np.abs(random.standard_normal(12)) * 0.01 + 1e-3).astype(np.float32)
    case.add("model.layers.0.mlp.up_proj",
             {"weight": torch.tensor(codes), "weight_scale": torch.tensor(scales),
              "weight_zero_point": torch.zeros(12, dtype=torch.int8)},
             codes.astype(np.float32) * scales[:, None])
    case.write()


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    for group, rows, columns in [(32, 16, 96), (64, 8, 128), (128, 24, 256), (-1, 8, 40)]:
        awq_case(f"awq-{'row' if group < 0 else f'g{group}'}", rows, columns, group,
                 {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm",
                  "modules_to_not_convert": None})

    def gptq(group, bits=4, form=None, **more):
        config = {"quant_method": "gptq", "bits": bits, "group_size": group, "sym": True, "desc_act": False, **more}
        if form:
            config["checkpoint_format"] = form
        return config

    for group, rows, columns in [(32, 32, 96), (64, 32, 128), (128, 32, 128), (-1, 32, 64)]:
        gptq_case(f"gptq-{'row' if group < 0 else f'g{group}'}", rows, columns, group, 4, gptq(group), gptq_tool, 1)
    gptq_case("gptq-int8-g64", 32, 128, 64, 8, gptq(64, bits=8), gptq_tool, 1)
    gptq_case("gptq-zeros-v1", 32, 64, 32, 4, gptq(32, sym=False), gptq_tool, 1, zeros=random.integers(1, 16, (32, 2)))
    gptq_case("gptq-zeros-v2", 32, 64, 32, 4, gptq(32, form="gptq_v2", sym=False), round_tool, 0,
              zeros=random.integers(0, 16, (32, 2)))
    gptq_case("gptq-int8-zeros-v2", 8, 64, 32, 8, gptq(32, bits=8, form="gptq_v2", sym=False), None, 0,
              zeros=random.integers(0, 256, (8, 2)))
    order = random.permutation(runs(96, 32))
    gptq_case("gptq-act-order", 32, 96, 32, 4, gptq(32, desc_act=True), gptq_tool, 1, order=order)
    gptq_case("gptq-uneven", 8, 160, 64, 4, gptq(64), None, 1)
    gptq_case("gptq-uneven-act-order", 8, 80, 32, 4, gptq(32, desc_act=True, form="gptq_v2"), None, 0,
              zeros=random.integers(0, 16, (8, 3)), order=random.permutation(runs(80, 32)))
    # A layer whose group is not the configuration's, as per-layer overrides make.
    gptq_case("gptq-override", 8, 256, 32, 4, gptq(128, dynamic={"+:.*down.*": {"group_size": 32}}), None, 1)

    def auto_round(group, form, **more):
        return {"quant_method": "auto-round", "bits": 4, "group_size": group, "packing_format": form,
                "data_type": "int", **more}

    gptq_case("auto-round-gptq", 32, 64, 32, 4, auto_round(32, "auto_round:auto_gptq", sym=True), round_zp_tool, 1,
              negative=True, with_order=False)
    gptq_case("auto-round", 32, 64, 32, 4, auto_round(32, "auto_round", sym=False), round_tool, 0,
              zeros=random.integers(0, 16, (32, 2)), with_order=False)
    awq_case("auto-round-awq", 8, 64, 32, auto_round(32, "auto_round:auto_awq", sym=True), symmetric=True)

    f16, bf16, f32 = torch.float16, torch.bfloat16, torch.float32
    int4 = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 32}
    token8 = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
    compressed_case("ct-int4-g32", {"model.layers.0.mlp.up_proj": (12, 96, 0, None, bf16)}, [(int4, None)],
                    "pack-quantized")
    compressed_case("ct-int4-zeros-g64", {"model.layers.0.mlp.up_proj": (20, 128, 0, None, f16)},
                    [({**int4, "symmetric": False, "group_size": 64}, None)], "pack-quantized")
    compressed_case("ct-int4-act-order",
                    {"model.layers.0.mlp.up_proj": (12, 96, 0, random.permutation(runs(96, 32)), bf16),
                     "model.layers.0.mlp.gate_proj": (12, 96, 0, None, bf16)},
                    [({**int4, "actorder": "group"}, None)], "pack-quantized")
    compressed_case("ct-int8-row", {"model.layers.0.mlp.up_proj": (12, 50, 0, None, f16)},
                    [({"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}, None)], "pack-quantized")
    compressed_case("ct-w8a8", {"model.layers.0.mlp.up_proj": (12, 50, 0, None, bf16)},
                    [({"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel"}, token8)], "int-quantized")
    fp8 = {"num_bits": 8, "type": "float", "symmetric": True}
    fp8_token = {**fp8, "strategy": "token", "dynamic": True}
    compressed_case("ct-fp8-row", {"model.layers.0.mlp.up_proj": (12, 50, 0, None, bf16)},
                    [({**fp8, "strategy": "channel"}, fp8_token)], "float-quantized")
    compressed_case("ct-fp8-static", {"model.layers.0.mlp.up_proj": (12, 50, 0, None, f32)},
                    [({**fp8, "strategy": "tensor"}, {**fp8, "strategy": "tensor", "dynamic": False})],
                    "float-quantized")
    compressed_case("ct-mixed", {"model.layers.0.mlp.up_proj": (12, 64, 0, None, bf16),
                                 "model.layers.0.self_attn.q_proj": (16, 64, 1, None, bf16)},
                    [(int4, None), ({**fp8, "strategy": "channel"}, fp8_token)], "mixed-precision")

    block = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [32, 32]}
    fp8_case("fp8-block-f32", 40, 72, 32, f32, block)
    fp8_case("fp8-block-bf16", 33, 64, 32, bf16, block)
    fp8_case("fp8-block128", 130, 136, 128, f32, {**block, "weight_block_size": [128, 128]})
    fp8_case("fp8-static", 16, 48, None, bf16, {"quant_method": "fp8", "activation_scheme": "static", "dequantize": False,
                                                "weight_block_size": None, "modules_to_not_convert": ["lm_head"]})
    quark_case()


if __name__ == "__main__":
    main()
