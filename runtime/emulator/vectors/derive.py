#!/usr/bin/env python3
"""Derives the emulator's instruction vectors from the rules of the ISA, independently of the emulator: python3 derive.py

Writes one text file a family beside itself. A record is `test NAME` ... `end`; see vector_test.cpp for its lines."""

import os
import random

from exact import *  # noqa: F403

BOTH, OLD, NEW = "gfx1151 gfx1201", "gfx1151", "gfx1201"
LANES = 32
M32 = 0xFFFFFFFF
rng = random.Random(11)
out = None


def family(name):
    global out
    if out:
        out.close()
    out = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name + ".txt"), "w")
    out.write("# Made by derive.py; edit that, not this.\n")


def words(values):
    if isinstance(values, int) or values == NAN:
        values = [values]
    values = [v if v == NAN else "%x" % v for v in values]
    return " ".join(values[:1] if len(set(values)) == 1 else values)


def test(name, asm, ins=(), outs=(), targets=BOTH, asm11=None, asm12=None, **settings):
    """ins and outs: (register or "mem OFFSET", values) pairs; a third element of an out is its type and tolerance."""
    lines = ["test " + name, "target " + targets]
    for key_, value in settings.items():
        lines.append("%s %s" % (key_, value))
    for register, values in dict(ins).items():
        lines.append("in %s %s" % (register, words(values)))
    for prefix, text in (("asm", asm), ("asm11", asm11), ("asm12", asm12)):
        for line in (text or "").split(";"):
            if line.strip():
                lines.append(prefix + " " + line.strip())
    for entry in outs:
        kind = entry[2] if len(entry) > 2 else "u32"
        lines.append("out %s %s %s" % (entry[0], kind, words(entry[1])))
    out.write("\n".join(lines) + "\nend\n\n")


def lanes(f):
    return [f(l) for l in range(LANES)]


def each(f, *operands):
    return [f(*(o if isinstance(o, int) else o[l] for o in operands)) for l in range(LANES)]


EDGES = [0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0x80000001,
         0xFFFFFFFE, M32, 0x55555555, 0xAAAAAAAA, 0x12345678, 0xDEADBEEF, 0x00FF00FF]


def integers(seed):
    r = random.Random(seed)
    values = EDGES + [r.getrandbits(32) for _ in range(8)]
    r.shuffle(values)
    return values


F32_EDGES = [0, 0x80000000, 0x3F800000, 0xBF800000, 0x3F000000, 0xC0200000, 0x40200000, 0x3FC00000, 0x7F800000, 0xFF800000,
             0x7FC00000, 0x7F7FFFFF, 0xFF7FFFFF, 0x00800000, 0x007FFFFF, 0x80000001, 0x4B000001, 0xCB7FFFFF, 0x4F000000,
             0x5F000000, 0x358637BD, 0x33800000]
F16_EDGES = [0, 0x8000, 0x3C00, 0xBC00, 0x3800, 0xC100, 0x4100, 0x7BFF, 0xFBFF, 0x0400, 0x03FF, 0x8001, 0x6400, 0xE401, 0x7C00,
             0xFC00, 0x7E00]


def floats(seed, ordinary=False):
    r = random.Random(seed)

    def usual():
        return r.getrandbits(1) << 31 | r.randint(117, 137) << 23 | r.getrandbits(23)

    values = [usual() for _ in range(LANES)]
    if not ordinary:
        values[:len(F32_EDGES)] = F32_EDGES
    r.shuffle(values)
    return values


def halves(seed, ordinary=False):
    r = random.Random(seed)
    values = [r.getrandbits(1) << 15 | r.randint(10, 20) << 10 | r.getrandbits(10) for _ in range(LANES)]
    if not ordinary:
        values[:len(F16_EDGES)] = F16_EDGES
    r.shuffle(values)
    return values


def pack(low, high):
    return [a | b << 16 for a, b in zip(low, high)]


# ---- scalar ----------------------------------------------------------------------------------------------------------

def scalar():
    family("salu")
    pairs = [(0, 0), (M32, 1), (0x7FFFFFFF, 1), (0x80000000, M32), (0x12345678, 0xDEADBEEF), (0xF0F0F0F0, 9), (5, 37)]

    def overflow(value):
        return int(not -2**31 <= value < 2**31)

    two = {
        "s_add_u32": lambda a, b: (a + b, int(a + b > M32)),
        "s_sub_u32": lambda a, b: (a - b, int(b > a)),
        "s_add_i32": lambda a, b: (a + b, overflow(signed(a) + signed(b))),
        "s_sub_i32": lambda a, b: (a - b, overflow(signed(a) - signed(b))),
        "s_and_b32": lambda a, b: (a & b, int(a & b != 0)),
        "s_or_b32": lambda a, b: (a | b, int(a | b != 0)),
        "s_xor_b32": lambda a, b: (a ^ b, int(a ^ b != 0)),
        "s_and_not1_b32": lambda a, b: (a & ~b, int(a & ~b & M32 != 0)),
        "s_or_not1_b32": lambda a, b: (a | ~b, int((a | ~b) & M32 != 0)),
        "s_nand_b32": lambda a, b: (~(a & b), int(~(a & b) & M32 != 0)),
        "s_xnor_b32": lambda a, b: (~(a ^ b), int(~(a ^ b) & M32 != 0)),
        "s_lshl_b32": lambda a, b: (a << (b & 31), int((a << (b & 31)) & M32 != 0)),
        "s_lshr_b32": lambda a, b: (a >> (b & 31), int(a >> (b & 31) != 0)),
        "s_ashr_i32": lambda a, b: (signed(a) >> (b & 31), int(signed(a) >> (b & 31) != 0)),
        "s_min_i32": lambda a, b: (min(a, b, key=signed), int(signed(a) < signed(b))),
        "s_max_i32": lambda a, b: (max(a, b, key=signed), int(signed(a) > signed(b))),
        "s_min_u32": lambda a, b: (min(a, b), int(a < b)),
        "s_max_u32": lambda a, b: (max(a, b), int(a > b)),
        "s_bfe_u32": lambda a, b: bfe(a, b, False),
        "s_bfe_i32": lambda a, b: bfe(a, b, True),
        "s_absdiff_i32": lambda a, b: (abs(signed(a) - signed(b)), int(abs(signed(a) - signed(b)) & M32 != 0)),
        "s_lshl1_add_u32": lambda a, b: ((a << 1) + b, int((a << 1) + b > M32)),
        "s_lshl4_add_u32": lambda a, b: ((a << 4) + b, int((a << 4) + b > M32)),
    }

    def bfe(a, b, sign):
        offset, width = b & 31, b >> 16 & 127
        value = (signed(a) if sign else a) >> offset
        if width == 0:
            return 0, 0
        if width < 32:
            value &= (1 << width) - 1
            if sign:
                value = extend(value, width)
        return value, int(value & M32 != 0)

    keep = {  # SCC stays
        "s_mul_i32": lambda a, b: a * b,
        "s_mul_hi_u32": lambda a, b: a * b >> 32,
        "s_mul_hi_i32": lambda a, b: signed(a) * signed(b) >> 32,
        "s_pack_ll_b32_b16": lambda a, b: a & 0xFFFF | b << 16,
        "s_pack_lh_b32_b16": lambda a, b: a & 0xFFFF | b & 0xFFFF0000,
        "s_pack_hh_b32_b16": lambda a, b: a >> 16 | b & 0xFFFF0000,
        "s_bfm_b32": lambda a, b: ((1 << (a & 31)) - 1) << (b & 31),
    }
    for name, f in two.items():
        data = pairs + ([(0x9ABCDEF0, 4 | 8 << 16), (0x9ABCDEF0, 28 | 4 << 16), (0xF000, 12 | 32 << 16)] if "bfe" in name else [])
        for i, (a, b) in enumerate(data):
            d, scc = f(a, b)
            test("%s %d" % (name, i), name + " s6, s4, s5", {"s4": a, "s5": b, "scc": 1 - scc},
                 [("s6", d & M32), ("scc", scc)])
    for name, f in keep.items():
        for i, (a, b) in enumerate(pairs):
            test("%s %d" % (name, i), name + " s6, s4, s5", {"s4": a, "s5": b, "scc": i & 1},
                 [("s6", f(a, b) & M32), ("scc", i & 1)])
    for scc in (0, 1):
        for i, (a, b) in enumerate(pairs):
            test("s_addc_u32 %d %d" % (scc, i), "s_addc_u32 s6, s4, s5", {"s4": a, "s5": b, "scc": scc},
                 [("s6", a + b + scc & M32), ("scc", int(a + b + scc > M32))])
            test("s_subb_u32 %d %d" % (scc, i), "s_subb_u32 s6, s4, s5", {"s4": a, "s5": b, "scc": scc},
                 [("s6", a - b - scc & M32), ("scc", int(b + scc > a))])
        test("s_cselect %d" % scc, "s_cselect_b32 s6, s4, s5; s_cselect_b64 s[8:9], s[4:5], s[6:7]",
             {"s4": 3, "s5": 7, "s6": 0, "s7": 9, "scc": scc},
             [("s6", 3 if scc else 7), ("s8", 3 if scc else 7), ("s9", 7 if scc else 9)])
        test("s_cmov %d" % scc, "s_cmov_b32 s6, s4", {"s4": 3, "s6": 5, "scc": scc}, [("s6", 3 if scc else 5)])
    compares = {"eq": lambda a, b: a == b, "lg": lambda a, b: a != b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
                "lt": lambda a, b: a < b, "le": lambda a, b: a <= b}
    for name, f in compares.items():
        for kind, view in (("i32", signed), ("u32", lambda x: x)):
            for i, (a, b) in enumerate(pairs[:5] + [(7, 7)]):
                test("s_cmp_%s_%s %d" % (name, kind, i), "s_cmp_%s_%s s4, s5" % (name, kind), {"s4": a, "s5": b},
                     [("scc", int(f(view(a), view(b))))])
    test("s_cmp_u64", "s_cmp_eq_u64 s[4:5], s[6:7]", {"s4": 1, "s5": 2, "s6": 1, "s7": 2}, [("scc", 1)])
    test("s_cmp_lg_u64", "s_cmp_lg_u64 s[4:5], s[6:7]", {"s4": 1, "s5": 2, "s6": 1, "s7": 2, "scc": 1}, [("scc", 0)])
    test("s_bitcmp", "s_bitcmp1_b32 s4, s5", {"s4": 0x80, "s5": 7 + 32}, [("scc", 1)])
    test("s_bitcmp0", "s_bitcmp0_b32 s4, 7", {"s4": 0x80, "scc": 1}, [("scc", 0)])
    ones = {
        "s_mov_b32": lambda a: (a, None),
        "s_not_b32": lambda a: (~a, int(~a & M32 != 0)),
        "s_brev_b32": lambda a: (int("{:032b}".format(a)[::-1], 2), None),
        "s_bcnt1_i32_b32": lambda a: (bin(a).count("1"), int(a != 0)),
        "s_bcnt0_i32_b32": lambda a: (32 - bin(a).count("1"), int(a != M32)),
        "s_ctz_i32_b32": lambda a: ((a & -a).bit_length() - 1 if a else M32, None),
        "s_clz_i32_u32": lambda a: (32 - a.bit_length() if a else M32, None),
        "s_cls_i32": lambda a: (leading_signs(a), None),
        "s_abs_i32": lambda a: (abs(signed(a)), int(a != 0)),
        "s_sext_i32_i8": lambda a: (extend(a, 8), None),
        "s_sext_i32_i16": lambda a: (extend(a, 16), None),
    }

    def leading_signs(a):
        text = "{:032b}".format(a)
        run = len(text) - len(text.lstrip(text[0]))
        return M32 if run == 32 else run

    for name, f in ones.items():
        for i, a in enumerate((0, 1, M32, 0x80000000, 0x00F01000, 0xFF7F80FF)):
            d, scc = f(a)
            start = 1 if scc is None else 1 - scc
            test("%s %d" % (name, i), name + " s6, s4", {"s4": a, "scc": start},
                 [("s6", d & M32), ("scc", start if scc is None else scc)])
    q = 0x8000000180000000
    test("s_lshl_b64", "s_lshl_b64 s[6:7], s[4:5], 33", {"s4": 0x80000003, "s5": 1}, [("s6", 0), ("s7", 6), ("scc", 1)])
    test("s_lshr_b64", "s_lshr_b64 s[6:7], s[4:5], 4", {"s4": q & M32, "s5": q >> 32},
         [("s6", q >> 4 & M32), ("s7", q >> 36), ("scc", 1)])
    test("s_ashr_i64", "s_ashr_i64 s[6:7], s[4:5], 36", {"s4": q & M32, "s5": q >> 32},
         [("s6", signed(q, 64) >> 36 & M32), ("s7", M32), ("scc", 1)])
    test("s_and_b64", "s_and_b64 s[8:9], s[4:5], s[6:7]", {"s4": 0xF0, "s5": 1, "s6": 0x0F, "s7": 2, "scc": 1},
         [("s8", 0), ("s9", 0), ("scc", 0)])
    test("s_not_b64", "s_not_b64 s[8:9], s[4:5]", {"s4": 5, "s5": M32}, [("s8", ~5 & M32), ("s9", 0), ("scc", 1)])
    test("s_mov_b64 inline", "s_mov_b64 s[8:9], -1", {}, [("s8", M32), ("s9", M32)])
    test("s_bfe_u64", "s_bfe_u64 s[8:9], s[4:5], 0x28001c", {"s4": 0xF0000000, "s5": 0x12345678},
         [("s8", 0x2345678F), ("s9", 1), ("scc", 1)])
    test("s_bcnt1_b64", "s_bcnt1_i32_b64 s8, s[4:5]", {"s4": 0xFF, "s5": 0xF}, [("s8", 12), ("scc", 1)])
    test("s_ctz_b64", "s_ctz_i32_b64 s8, s[4:5]", {"s4": 0, "s5": 0x10}, [("s8", 36)])
    test("s_clz_u64", "s_clz_i32_u64 s8, s[4:5]", {"s4": 1, "s5": 0}, [("s8", 63)])
    test("s_movk", "s_movk_i32 s6, 0x8001", {}, [("s6", 0xFFFF8001)])
    test("s_mulk", "s_mulk_i32 s6, 0xfffd", {"s6": 7}, [("s6", -21 & M32)])
    test("s_addk", "s_addk_i32 s6, 0x7fff", {"s6": 0x7FFFFFFF}, [("s6", 0x80007FFE), ("scc", 1)])
    test("s_mul_u64", "s_mul_u64 s[8:9], s[4:5], s[6:7]", {"s4": 0x89ABCDEF, "s5": 0x1234567, "s6": 0x76543210, "s7": 0xFEDCBA98},
         [("s8", 0x0123456789ABCDEF * 0xFEDCBA9876543210 & M32), ("s9", 0x0123456789ABCDEF * 0xFEDCBA9876543210 >> 32 & M32)],
         NEW)
    test("s_add_nc_u64", "s_add_nc_u64 s[8:9], s[4:5], s[6:7]", {"s4": M32, "s5": 1, "s6": 1, "s7": 2, "scc": 1},
         [("s8", 0), ("s9", 4), ("scc", 1)], NEW)
    test("s_sub_nc_u64", "s_sub_nc_u64 s[8:9], s[4:5], s[6:7]", {"s4": 0, "s5": 1, "s6": 1, "s7": 2},
         [("s8", M32), ("s9", -2 & M32)], NEW)
    for name, f in {"s_and_saveexec_b32": lambda e, a: e & a, "s_or_saveexec_b32": lambda e, a: e | a,
                    "s_xor_saveexec_b32": lambda e, a: e ^ a, "s_and_not1_saveexec_b32": lambda e, a: a & ~e,
                    "s_and_not0_saveexec_b32": lambda e, a: ~a & e}.items():
        test(name, name + " s6, s4", {"s4": 0x00FF0FF0}, [("s6", 0xF0F0FFFF), ("exec", f(0xF0F0FFFF, 0x00FF0FF0)), ("scc", 1)],
             exec="f0f0ffff")
    test("branches", "s_cmp_eq_u32 s4, 5; s_cbranch_scc0 wrong; s_mov_b32 s6, 1; s_cmp_eq_u32 s4, 6; s_cbranch_scc1 wrong; "
         "s_mov_b32 s7, 2; s_branch good; wrong:; s_mov_b32 s6, 99; good:; s_nop 0", {"s4": 5, "s6": 0, "s7": 0},
         [("s6", 1), ("s7", 2)])
    test("vccz and execz", "s_mov_b32 vcc_lo, 0; s_cbranch_vccnz wrong; s_cbranch_vccz one; wrong:; s_mov_b32 s6, 99; one:; "
         "s_mov_b32 s8, exec_lo; s_mov_b32 exec_lo, 0; s_cbranch_execnz wrong; s_cbranch_execz two; s_branch wrong; two:; "
         "s_mov_b32 exec_lo, s8; s_add_u32 s6, s6, 1", {"s6": 4}, [("s6", 5)])
    test("loop of ten", "again:; s_add_i32 s6, s6, s4; s_sub_i32 s4, s4, 1; s_cmp_gt_i32 s4, 0; s_cbranch_scc1 again",
         {"s4": 10, "s6": 0}, [("s6", 55)])
    for name, f in {"s_add_f32": lambda a, b: add(F32, a, b), "s_sub_f32": lambda a, b: add(F32, a, negate(F32, b)),
                    "s_mul_f32": lambda a, b: multiply(F32, a, b)}.items():
        for i, (a, b) in enumerate(zip(floats(3, True)[:4], floats(4, True))):
            test("%s %d" % (name, i), name + " s6, s4, s5", {"s4": a, "s5": b}, [("s6", f(a, b))])
    a, b, c = floats(5, True)[:3]
    test("s_fmac_f32", "s_fmac_f32 s6, s4, s5", {"s4": a, "s5": b, "s6": c}, [("s6", fma(F32, a, b, c))])
    test("s_cvt", "s_cvt_f32_i32 s6, s4; s_cvt_f32_u32 s7, s4; s_cvt_i32_f32 s8, s6; s_cvt_u32_f32 s9, s7; s_trunc_f32 s10, s5",
         {"s4": 0xFFFFFF81, "s5": 0xC02FFFFF},
         [("s6", F32.encode(Fraction(-127))), ("s7", F32.encode(Fraction(0xFFFFFF81))), ("s8", -127 & M32),
          ("s9", to_integer(F32, F32.encode(Fraction(0xFFFFFF81)), 0, M32)),
          ("s10", 0xC0000000)])
    test("null reads zero", "s_add_u32 s6, null, s4; s_mov_b32 null, s4; s_or_b32 s7, null, 3", {"s4": 41},
         [("s6", 41), ("s7", 3)])

    family("smem")
    data = [rng.getrandbits(32) for _ in range(64)]
    for name, count in (("b32", 1), ("b64", 2), ("b128", 4), ("b256", 8), ("b512", 16)):
        register = "s4" if count == 1 else "s[16:%d]" % (15 + count)
        first = 4 if count == 1 else 16
        test("s_load_" + name, "s_load_%s %s, s[98:99], 0x20" % (name, register), {"mem 0": data},
             [("s%d" % (first + i), data[8 + i]) for i in range(count)], wait="scalar")
    test("s_load offset register", "s_load_b32 s4, s[98:99], s6; s_load_b32 s5, s[98:99], s6 offset:0x8", {"mem 0": data, "s6": 16},
         [("s4", data[4]), ("s5", data[6])], wait="scalar")
    test("s_load b96", "s_load_b96 s[16:18], s[98:99], 0x10", {"mem 0": data}, [("s16", data[4]), ("s18", data[6])], NEW,
         wait="scalar")
    test("s_load u8 i16", "s_load_u8 s4, s[98:99], 0x5; s_load_i8 s5, s[98:99], 0x5; s_load_i16 s6, s[98:99], 0x6; "
         "s_load_u16 s7, s[98:99], 0x6", {"mem 0": [0, 0x8765F321]},
         [("s4", 0xF3), ("s5", 0xFFFFFFF3), ("s6", 0xFFFF8765), ("s7", 0x8765)], NEW, wait="scalar")


# ---- vector ----------------------------------------------------------------------------------------------------------

def vector_integer():
    family("vector_integer")
    A, B, C = integers(1), integers(2), integers(3)
    s24, u24 = (lambda x: signed(x, 24)), (lambda x: x & 0xFFFFFF)
    two = {
        "v_add_nc_u32": lambda a, b: a + b, "v_sub_nc_u32": lambda a, b: a - b, "v_subrev_nc_u32": lambda a, b: b - a,
        "v_and_b32": lambda a, b: a & b, "v_or_b32": lambda a, b: a | b, "v_xor_b32": lambda a, b: a ^ b,
        "v_xnor_b32": lambda a, b: ~(a ^ b), "v_lshlrev_b32": lambda a, b: b << (a & 31),
        "v_lshrrev_b32": lambda a, b: b >> (a & 31), "v_ashrrev_i32": lambda a, b: signed(b) >> (a & 31),
        "v_min_i32": lambda a, b: min(a, b, key=signed), "v_max_i32": lambda a, b: max(a, b, key=signed),
        "v_min_u32": min, "v_max_u32": max, "v_mul_u32_u24": lambda a, b: u24(a) * u24(b),
        "v_mul_hi_u32_u24": lambda a, b: u24(a) * u24(b) >> 32, "v_mul_i32_i24": lambda a, b: s24(a) * s24(b),
        "v_mul_hi_i32_i24": lambda a, b: s24(a) * s24(b) >> 32,
    }
    for name, f in two.items():
        test(name, "%s v0, v1, v2" % name, {"v1": A, "v2": B}, [("v0", [x & M32 for x in each(f, A, B)])])
        test(name + " scalar literal partial", "%s v0, 0x12345, v2; %s v3, s4, v2" % (name, name),
             {"v0": 0x77, "v2": B, "v3": 0x55, "s4": 0xFFFF0003},
             [("v0", lanes(lambda l: f(0x12345, B[l]) & M32 if 0x0FF00F0F >> l & 1 else 0x77)),
              ("v3", lanes(lambda l: f(0xFFFF0003, B[l]) & M32 if 0x0FF00F0F >> l & 1 else 0x55))], exec="ff00f0f")
    only3 = {
        "v_mul_lo_u32": lambda a, b: a * b, "v_mul_hi_u32": lambda a, b: a * b >> 32,
        "v_mul_hi_i32": lambda a, b: signed(a) * signed(b) >> 32, "v_bfm_b32": lambda a, b: ((1 << (a & 31)) - 1) << (b & 31),
        "v_add_nc_i32": lambda a, b: a + b, "v_sub_nc_i32": lambda a, b: a - b,
        "v_bcnt_u32_b32": lambda a, b: bin(a).count("1") + b,
    }
    for name, f in only3.items():
        test(name, "%s v0, v1, v2" % name, {"v1": A, "v2": B}, [("v0", [x & M32 for x in each(f, A, B)])])
    three = {
        "v_add3_u32": lambda a, b, c: a + b + c, "v_lshl_add_u32": lambda a, b, c: (a << (b & 31)) + c,
        "v_add_lshl_u32": lambda a, b, c: (a + b & M32) << (c & 31), "v_lshl_or_b32": lambda a, b, c: a << (b & 31) | c,
        "v_and_or_b32": lambda a, b, c: a & b | c, "v_or3_b32": lambda a, b, c: a | b | c, "v_xor3_b32": lambda a, b, c: a ^ b ^ c,
        "v_xad_u32": lambda a, b, c: (a ^ b) + c, "v_bfi_b32": lambda a, b, c: a & b | ~a & c,
        "v_bfe_u32": lambda a, b, c: a >> (b & 31) & ((1 << (c & 31)) - 1),
        "v_bfe_i32": lambda a, b, c: field(a, b & 31, c & 31),
        "v_alignbit_b32": lambda a, b, c: (a << 32 | b) >> (c & 31), "v_alignbyte_b32": lambda a, b, c: (a << 32 | b) >> 8 * (c & 3),
        "v_mad_u32_u24": lambda a, b, c: u24(a) * u24(b) + c, "v_mad_i32_i24": lambda a, b, c: s24(a) * s24(b) + c,
        "v_min3_i32": lambda *x: min(x, key=signed), "v_max3_i32": lambda *x: max(x, key=signed), "v_min3_u32": min_of,
        "v_max3_u32": max_of, "v_med3_i32": lambda *x: sorted(x, key=signed)[1], "v_med3_u32": lambda *x: sorted(x)[1],
        "v_perm_b32": permute_bytes,
        "v_sad_u8": lambda a, b, c: sum(abs((a >> s & 255) - (b >> s & 255)) for s in (0, 8, 16, 24)) + c,
        "v_sad_u32": lambda a, b, c: abs(a - b) + c,
        "v_mad_u32_u16": lambda a, b, c: (a & 0xFFFF) * (b & 0xFFFF) + c,
        "v_mad_i32_i16": lambda a, b, c: signed(a, 16) * signed(b, 16) + c,
    }
    D = [rng.choice((0, 1, 2, 3, 4, 5, 6, 7, 12, 13, 9, 8)) | rng.choice((0, 7, 10, 12, 255)) << 8 | rng.randint(0, 7) << 16 |
         rng.randint(0, 13) << 24 for _ in range(LANES)]
    for name, f in three.items():
        operand = D if name == "v_perm_b32" else C
        test(name, "%s v0, v1, v2, v3" % name, {"v1": A, "v2": B, "v3": operand}, [("v0", [x & M32 for x in each(f, A, B, operand)])])
    for name, f in {"v_lshlrev_b64": lambda s, q: q << (s & 63), "v_lshrrev_b64": lambda s, q: q >> (s & 63),
                    "v_ashrrev_i64": lambda s, q: signed(q, 64) >> (s & 63)}.items():
        S = [rng.randint(0, 70) for _ in range(LANES)]
        R = each(lambda s, lo, hi: f(s, hi << 32 | lo), S, A, B)
        test(name, name + " v[4:5], v1, v[2:3]", {"v1": S, "v2": A, "v3": B},
             [("v4", [r & M32 for r in R]), ("v5", [r >> 32 & M32 for r in R])])
    for name, other, f in (("v_mad_u64_u32", "v_mad_co_u64_u32", lambda a, b: a * b),
                           ("v_mad_i64_i32", "v_mad_co_i64_i32", lambda a, b: signed(a) * signed(b))):
        R = each(lambda a, b, lo, hi: f(a, b) + (hi << 32 | lo), A, B, C, A)
        test(name, None, {"v1": A, "v2": B, "v4": C, "v5": A}, [("v6", [r & M32 for r in R]), ("v7", [r >> 32 & M32 for r in R])],
             asm11=name + " v[6:7], null, v1, v2, v[4:5]", asm12=other + " v[6:7], null, v1, v2, v[4:5]")
    ones = {
        "v_mov_b32": lambda a: a, "v_not_b32": lambda a: ~a, "v_bfrev_b32": lambda a: int("{:032b}".format(a)[::-1], 2),
        "v_clz_i32_u32": lambda a: 32 - a.bit_length() if a else M32, "v_ctz_i32_b32": lambda a: (a & -a).bit_length() - 1 if a else M32,
    }
    for name, f in ones.items():
        test(name, name + " v0, v1", {"v1": A}, [("v0", [x & M32 for x in each(f, A)])])
    # Carries: inactive lanes of the mask are zero.
    E = 0xFFF0FFFF

    def mask(f):
        return sum(1 << l for l in range(LANES) if E >> l & 1 and f(l))

    carry_in = 0x5A5A1234
    test("v_add_co_u32", "v_add_co_u32 v0, vcc_lo, v1, v2", {"v1": A, "v2": B, "v0": 0, "vcc": M32},
         [("v0", lanes(lambda l: A[l] + B[l] & M32 if E >> l & 1 else 0)), ("vcc", mask(lambda l: A[l] + B[l] > M32))], exec="%x" % E)
    test("v_sub_co_u32 sgpr", "v_sub_co_u32 v0, s6, v1, v2", {"v1": A, "v2": B, "v0": 0},
         [("v0", lanes(lambda l: A[l] - B[l] & M32 if E >> l & 1 else 0)), ("s6", mask(lambda l: B[l] > A[l]))], exec="%x" % E)
    test("v_add_co_ci_u32", "v_add_co_ci_u32 v0, vcc_lo, v1, v2, vcc_lo", {"v1": A, "v2": B, "v0": 0, "vcc": carry_in},
         [("v0", lanes(lambda l: A[l] + B[l] + (carry_in >> l & 1) & M32 if E >> l & 1 else 0)),
          ("vcc", mask(lambda l: A[l] + B[l] + (carry_in >> l & 1) > M32))], exec="%x" % E)
    test("v_subrev_co_ci_u32", "v_subrev_co_ci_u32 v0, s7, v1, v2, s6", {"v1": A, "v2": B, "v0": 0, "s6": carry_in},
         [("v0", lanes(lambda l: B[l] - A[l] - (carry_in >> l & 1) & M32 if E >> l & 1 else 0)),
          ("s7", mask(lambda l: A[l] + (carry_in >> l & 1) > B[l]))], exec="%x" % E)
    test("clamp on unsigned add and sub", "v_add_nc_u32 v0, v1, v2 clamp; v_sub_nc_u32 v3, v1, v2 clamp; v_add_nc_i32 v4, v1, v2 clamp",
         {"v1": A, "v2": B}, [("v0", each(lambda a, b: min(a + b, M32), A, B)), ("v3", each(lambda a, b: max(a - b, 0), A, B)),
                              ("v4", each(lambda a, b: max(-2**31, min(2**31 - 1, signed(a) + signed(b))) & M32, A, B))])
    test("v_cndmask_b32", "v_cndmask_b32 v0, v1, v2, vcc_lo; v_cndmask_b32 v3, v1, v2, s6; v_cndmask_b32 v4, -v1, |v2|, s6",
         {"v1": A, "v2": B, "vcc": carry_in, "s6": ~carry_in & M32},
         [("v0", lanes(lambda l: B[l] if carry_in >> l & 1 else A[l])), ("v3", lanes(lambda l: A[l] if carry_in >> l & 1 else B[l])),
          ("v4", lanes(lambda l: A[l] ^ 1 << 31 if carry_in >> l & 1 else B[l] & 0x7FFFFFFF))])
    test("v_mbcnt", "v_mbcnt_lo_u32_b32 v0, s4, v1; v_mbcnt_hi_u32_b32 v2, s4, v1", {"s4": 0xF0F00F0F, "v1": 100},
         [("v0", lanes(lambda l: 100 + bin(0xF0F00F0F & ((1 << l) - 1)).count("1"))), ("v2", 100)])
    test("v_readlane and v_writelane", "v_readlane_b32 s6, v1, 17; v_readfirstlane_b32 s7, v1; v_writelane_b32 v2, s4, 3; v_readlane_b32 s8, v1, s5",
         {"v1": A, "v2": 5, "s4": 77, "s5": 32 + 9}, [("s6", A[17]), ("s7", A[8]), ("s8", A[9]), ("v2", lanes(lambda l: 77 if l == 3 else 5))],
         exec="ffffff00")
    test("v_readfirstlane without lanes", "s_mov_b32 exec_lo, 0; v_readfirstlane_b32 s7, v1", {"v1": A}, [("s7", A[0])])
    H, G = [x & 0xFFFF for x in A], [x & 0xFFFF for x in B]
    for name, f in {"v_add_nc_u16": lambda a, b: a + b, "v_sub_nc_u16": lambda a, b: a - b, "v_mul_lo_u16": lambda a, b: a * b,
                    "v_min_u16": min, "v_max_u16": max, "v_min_i16": lambda a, b: min(a, b, key=lambda x: signed(x, 16)),
                    "v_max_i16": lambda a, b: max(a, b, key=lambda x: signed(x, 16)),
                    "v_lshlrev_b16": lambda a, b: b << (a & 15), "v_lshrrev_b16": lambda a, b: b >> (a & 15),
                    "v_ashrrev_i16": lambda a, b: signed(b, 16) >> (a & 15)}.items():
        test(name + " halves", "%s v0.l, v1.l, v2.l; %s v3.h, v1.h, v2.l" % (name, name),
             {"v0": 0xABCD0000, "v1": pack(H, G), "v2": G, "v3": 0x1234},
             [("v0", each(lambda a, b: 0xABCD0000 | f(a, b) & 0xFFFF, H, G)), ("v3", each(lambda a, b: 0x1234 | (f(a, b) & 0xFFFF) << 16, G, G))])

    family("vopc")
    M = 0x7FFFFFE1
    for kind, view in (("i32", signed), ("u32", lambda x: x), ("i16", lambda x: signed(x, 16)), ("u16", lambda x: x & 0xFFFF)):
        for name, f in {"lt": lambda a, b: a < b, "eq": lambda a, b: a == b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
                        "ne": lambda a, b: a != b, "ge": lambda a, b: a >= b}.items():
            X, Y = A, B[:16] + A[16:24] + B[24:]
            half = ".l" if "16" in kind else ""
            expected = sum(1 << l for l in range(LANES) if M >> l & 1 and f(view(X[l]), view(Y[l])))
            test("v_cmp_%s_%s" % (name, kind), "v_cmp_%s_%s vcc_lo, v1%s, v2%s; v_cmp_%s_%s s6, v1%s, v2%s" % ((name, kind, half, half) * 2),
                 {"v1": X, "v2": Y, "vcc": M32, "s6": M32}, [("vcc", expected), ("s6", expected)], exec="%x" % M)
            test("v_cmpx_%s_%s" % (name, kind), "v_cmpx_%s_%s v1%s, v2%s" % (name, kind, half, half), {"v1": X, "v2": Y, "vcc": 0x1357},
                 [("exec", expected), ("vcc", 0x1357)], exec="%x" % M)
    X, Y = floats(21), floats(22)
    Y = Y[:12] + X[12:20] + Y[20:]

    def order(a, b):
        if NAN in (F32.decode(a)[1], F32.decode(b)[1]):
            return "u"
        x, y = key(F32, a)[0], key(F32, b)[0]
        return "<" if x < y else ">" if x > y else "="

    for name, allowed in {"lt": "<", "eq": "=", "le": "<=", "gt": ">", "lg": "<>", "ge": ">=", "o": "<=>", "u": "u", "nge": "<u",
                          "nlg": "=u", "ngt": "<=u", "nle": ">u", "neq": "<>u", "nlt": ">=u"}.items():
        expected = sum(1 << l for l in range(LANES) if M >> l & 1 and order(X[l], Y[l]) in allowed)
        test("v_cmp_%s_f32" % name, "v_cmp_%s_f32 vcc_lo, v1, v2" % name, {"v1": X, "v2": Y}, [("vcc", expected)], exec="%x" % M)
        test("v_cmpx_%s_f32" % name, "v_cmpx_%s_f32 v1, v2" % name, {"v1": X, "v2": Y}, [("exec", expected)], exec="%x" % M)
        flipped = sum(1 << l for l in range(LANES) if order(X[l] & 0x7FFFFFFF, negate(F32, Y[l])) in allowed)
        test("v_cmp_%s_f32 modifiers" % name, "v_cmp_%s_f32 s6, |v1|, -v2" % name, {"v1": X, "v2": Y}, [("s6", flipped)])

    def float_class(a):
        sign, value = F32.decode(a)
        if value == NAN:
            return 2 if a & 0x400000 else 1
        if value == INF:
            return 4 if sign else 0x200
        if value == 0:
            return 0x20 if sign else 0x40
        if value < pow2(-126):
            return 0x10 if sign else 0x80
        return 8 if sign else 0x100

    X = [0x7F800001] + X[1:]
    for bits in (1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x3):
        test("v_cmp_class_f32 %x" % bits, "v_cmp_class_f32 vcc_lo, v1, v2", {"v1": X, "v2": bits},
             [("vcc", sum(1 << l for l in range(LANES) if float_class(X[l]) & bits))])


def field(a, offset, width):
    return extend(signed(a) >> offset, width) if width else 0


def min_of(*x):
    return min(x)


def max_of(*x):
    return max(x)


def permute_bytes(a, b, selector):
    data, result = a << 32 | b, 0
    for i in range(4):
        s = selector >> 8 * i & 255
        if s >= 13:
            byte = 255
        elif s == 12:
            byte = 0
        elif s >= 8:
            byte = 255 if data >> (16 * (s - 8) + 15) & 1 else 0
        else:
            byte = data >> 8 * s & 255
        result |= byte << 8 * i
    return result


def vector_float():
    family("vector_float")
    X, Y, Z = floats(31), floats(32), floats(33)
    E = 0x0FFFFFF3
    two = {"v_add_f32": lambda a, b: add(F32, a, b), "v_sub_f32": lambda a, b: add(F32, a, negate(F32, b)),
           "v_subrev_f32": lambda a, b: add(F32, b, negate(F32, a)), "v_mul_f32": lambda a, b: multiply(F32, a, b)}
    for name, f in two.items():
        R = each(f, X, Y)
        test(name, name + " v0, v1, v2", {"v0": 0x99, "v1": X, "v2": Y}, [("v0", lanes(lambda l: R[l] if E >> l & 1 else 0x99), "f32")],
             exec="%x" % E)
        test(name + " modifiers", name + "_e64 v0, -|v1|, -v2", {"v1": X, "v2": Y},
             [("v0", each(lambda a, b: f(a | 1 << 31, negate(F32, b)), X, Y), "f32")])
        test(name + " clamp", name + "_e64 v0, v1, v2 clamp", {"v1": X, "v2": Y}, [("v0", each(clamp, R), "f32")])
        test(name + " inline constants", "%s v0, 0.5, v2; %s v3, -4.0, v2; %s v4, 0x40490fdb, v2; %s v5, 3, v2" % ((name,) * 4), {"v2": Y},
             [("v0", each(f, 0x3F000000, Y), "f32"), ("v3", each(f, 0xC0800000, Y), "f32"), ("v4", each(f, 0x40490FDB, Y), "f32"),
              ("v5", each(f, 3, Y), "f32")])
    test("v_mul_dx9_zero_f32", "v_mul_dx9_zero_f32 v0, v1, v2", {"v1": X, "v2": Y},
         [("v0", each(lambda a, b: 0 if a << 1 & M32 == 0 or b << 1 & M32 == 0 else multiply(F32, a, b), X, Y), "f32")])
    for largest in (False, True):
        old = "v_max_f32" if largest else "v_min_f32"
        new = "v_max_num_f32" if largest else "v_min_num_f32"
        test(old, None, {"v1": X, "v2": Y}, [("v0", each(lambda a, b: extreme(F32, a, b, largest), X, Y), "f32")],
             asm11=old + " v0, v1, v2", asm12=new + " v0, v1, v2")
    test("v_max_f32 of zeros", None, {"v1": [0, 1 << 31] * 16, "v2": [1 << 31, 0] * 16}, [("v0", 0), ("v3", 1 << 31)],
         asm11="v_max_f32 v0, v1, v2; v_min_f32 v3, v1, v2", asm12="v_max_num_f32 v0, v1, v2; v_min_num_f32 v3, v1, v2")
    test("v_fma_f32", "v_fma_f32 v0, v1, v2, v3", {"v1": X, "v2": Y, "v3": Z}, [("v0", each(lambda *o: fma(F32, *o), X, Y, Z), "f32")])
    test("v_fma_f32 modifiers", "v_fma_f32 v0, -v1, |v2|, -v3", {"v1": X, "v2": Y, "v3": Z},
         [("v0", each(lambda a, b, c: fma(F32, negate(F32, a), b & 0x7FFFFFFF, negate(F32, c)), X, Y, Z), "f32")])
    test("v_fmac_f32", "v_fmac_f32 v3, v1, v2", {"v1": X, "v2": Y, "v3": Z}, [("v3", each(lambda *o: fma(F32, *o), X, Y, Z), "f32")])
    test("v_fmac_f32 e64", "v_fmac_f32_e64 v3, -v1, s4", {"v1": X, "s4": 0x40490FDB, "v3": Z},
         [("v3", each(lambda a, c: fma(F32, negate(F32, a), 0x40490FDB, c), X, Z), "f32")])
    test("v_fmaak and v_fmamk", "v_fmaak_f32 v0, v1, v2, 0x40490fdb; v_fmamk_f32 v3, v1, 0x40490fdb, v2", {"v1": X, "v2": Y},
         [("v0", each(lambda a, b: fma(F32, a, b, 0x40490FDB), X, Y), "f32"), ("v3", each(lambda a, b: fma(F32, a, 0x40490FDB, b), X, Y), "f32")])
    O, P, Q = floats(34, True), floats(35, True), floats(36, True)
    for name, new, f in (("v_min3_f32", "v_min3_num_f32", lambda *o: min(o, key=lambda w: key(F32, w))),
                         ("v_max3_f32", "v_max3_num_f32", lambda *o: max(o, key=lambda w: key(F32, w))),
                         ("v_med3_f32", "v_med3_num_f32", lambda *o: sorted(o, key=lambda w: key(F32, w))[1])):
        test(name, None, {"v1": O, "v2": P, "v3": Q}, [("v0", each(f, O, P, Q), "f32")], asm11=name + " v0, v1, v2, v3",
             asm12=new + " v0, v1, v2, v3")

    def rounded(a, how):
        sign, value = F32.decode(a)
        if value in (NAN, INF):
            return NAN if value == NAN else a
        return F32.encode(Fraction(how(-value if sign else value)), sign)

    import math
    for name, how in (("trunc", int), ("ceil", math.ceil), ("floor", math.floor), ("rndne", round)):
        test("v_%s_f32" % name, "v_%s_f32 v0, v1" % name, {"v1": X}, [("v0", each(lambda a: rounded(a, how), X), "f32")])
    F = [w for w in floats(37, True)]
    test("v_fract_f32", "v_fract_f32 v0, v1", {"v1": F},
         [("v0", each(lambda a: min(F32.encode(F32.value(a) - math.floor(F32.value(a))), 0x3F7FFFFF), F), "f32")])
    test("v_frexp", "v_frexp_exp_i32_f32 v0, v1; v_frexp_mant_f32 v2, v1; v_ldexp_f32 v3, v1, v4", {"v1": F, "v4": lanes(lambda l: l * 3 - 48 & M32)},
         [("v0", each(lambda a: (a >> 23 & 255) - 126 & M32, F)), ("v2", each(lambda a: a & 0x807FFFFF | 126 << 23, F), "f32"),
          ("v3", lanes(lambda l: F32.encode(F32.value(F[l]) * pow2(l * 3 - 48))), "f32")])
    test("v_ldexp_f32 range", "v_ldexp_f32 v3, v1, v4", {"v1": 0x3FC00001, "v4": lanes(lambda l: -150 + l & M32)},
         [("v3", lanes(lambda l: F32.encode(F32.value(0x3FC00001) * pow2(-150 + l))), "f32")])
    # Transcendental: within a few units in the last place of the true value.
    positive = [w & 0x7FFFFFFF for w in floats(38, True)]
    dbl = lambda w: float(F32.value(w))
    near = lambda x: F32.encode(Fraction(x))
    test("v_rcp rsq sqrt log", "v_rcp_f32 v0, v1; v_rsq_f32 v2, v1; v_sqrt_f32 v3, v1; v_log_f32 v4, v1", {"v1": positive},
         [("v0", [near(1 / dbl(w)) for w in positive], "f32~2"), ("v2", [near(dbl(w) ** -0.5) for w in positive], "f32~2"),
          ("v3", [near(math.sqrt(dbl(w))) for w in positive], "f32~2"),
          ("v4", [near(math.log2(dbl(w))) for w in positive], "f32~4")])
    small = [near((l - 16) * 0.73) for l in range(LANES)]
    test("v_exp sin cos", "v_exp_f32 v0, v1; v_sin_f32 v2, v1; v_cos_f32 v3, v1", {"v1": small},
         [("v0", [near(2.0 ** dbl(w)) for w in small], "f32~3"), ("v2", [near(math.sin(2 * math.pi * dbl(w))) for w in small], "f32@2e-6"),
          ("v3", [near(math.cos(2 * math.pi * dbl(w))) for w in small], "f32@2e-6")])
    test("transcendental special cases", "v_rcp_f32 v0, v1; v_rsq_f32 v2, v1; v_sqrt_f32 v3, v1; v_log_f32 v4, v1; v_exp_f32 v5, v1",
         {"v1": [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00000, 0xBF800000, 0x3F800000, 0x41200000] * 4},
         [("v0", [0x7F800000, 0xFF800000, 0, 1 << 31, NAN, 0xBF800000, 0x3F800000, near(0.1)] * 4, "f32~1"),
          ("v2", [0x7F800000, 0xFF800000, 0, NAN, NAN, NAN, 0x3F800000, near(10 ** -0.5)] * 4, "f32~2"),
          ("v3", [0, 1 << 31, 0x7F800000, NAN, NAN, NAN, 0x3F800000, near(10 ** 0.5)] * 4, "f32~1"),
          ("v4", [0xFF800000, 0xFF800000, 0x7F800000, NAN, NAN, NAN, 0, near(math.log2(10))] * 4, "f32~2"),
          ("v5", [0x3F800000, 0x3F800000, 0x7F800000, 0, NAN, 0x3F000000, 0x40000000, 0x44800000] * 4, "f32~1")])
    # The compiler's expansion of a correctly rounded division.
    numerators, denominators = floats(39), floats(40)
    numerators = numerators[:20] + [0x00000123, 0x7F000000, 0x00800000, 0x7F7FFFFF, 0x3F800000, 0x3F800000, 0x01000001, 0x7E123456,
                                    0x00400000, 0x3F800000, 0x0B123456, 0x42280000]
    denominators = denominators[:20] + [0x3FC00000, 0x00800001, 0x7F000001, 0x00000007, 0x7F7FFFFF, 0x00000001, 0x7F000003, 0x01654321,
                                        0x40400000, 0x40400000, 0x41200000, 0x40E00000]
    test("division", "v_div_scale_f32 v3, null, v2, v2, v1; v_div_scale_f32 v4, vcc_lo, v1, v2, v1; v_rcp_f32 v5, v3; "
         "v_fma_f32 v6, -v3, v5, 1.0; v_fma_f32 v5, v6, v5, v5; v_mul_f32 v6, v4, v5; v_fma_f32 v7, -v3, v6, v4; v_fma_f32 v6, v7, v5, v6; "
         "v_fma_f32 v7, -v3, v6, v4; v_div_fmas_f32 v6, v7, v5, v6; v_div_fixup_f32 v0, v6, v2, v1",
         {"v1": numerators, "v2": denominators}, [("v0", each(lambda a, b: divide(F32, a, b), numerators, denominators), "f32")])
    # Denormals flushed when the mode says so (float mode bits: f32 denormals off, f16/f64 on).
    tiny = [0x00000001, 0x80000001, 0x007FFFFF, 0x00800000] * 8
    test("flushed inputs", "v_add_f32 v0, v1, v1; v_mul_f32 v2, 2.0, v1", {"v1": tiny},
         [("v0", [0, 1 << 31, 0, 0x01000000] * 8, "f32"), ("v2", [0, 1 << 31, 0, 0x01000000] * 8, "f32")], mode="c0")
    test("kept denormals", "v_add_f32 v0, v1, v1", {"v1": tiny}, [("v0", each(lambda a: add(F32, a, a), tiny), "f32")], mode="f0")
    D, G = [rng.getrandbits(32) for _ in range(LANES)], [rng.getrandbits(1) << 31 | rng.randint(1010, 1040) << 20 | rng.getrandbits(20) for _ in range(LANES)]
    Hh = [rng.getrandbits(1) << 31 | rng.randint(1010, 1040) << 20 | rng.getrandbits(20) for _ in range(LANES)]
    d = lambda lo, hi: hi << 32 | lo
    for old, f in (("v_add_f64", add), ("v_mul_f64", multiply)):
        R = each(lambda lo, g, h: f(F64, d(lo, g), d(lo, h)), D, G, Hh)
        test(old, old + " v[6:7], v[2:3], v[4:5]", {"v2": D, "v3": G, "v4": D, "v5": Hh},
             [("v6", [r & M32 for r in R]), ("v7", [r >> 32 for r in R])])
    R = each(lambda lo, g, h: fma(F64, d(lo, g), d(lo, h), d(lo, g)), D, G, Hh)
    test("v_fma_f64", "v_fma_f64 v[6:7], v[2:3], v[4:5], v[2:3]", {"v2": D, "v3": G, "v4": D, "v5": Hh},
         [("v6", [r & M32 for r in R]), ("v7", [r >> 32 for r in R])])

    family("conversions")
    I = integers(41)
    test("integers to f32", "v_cvt_f32_i32 v0, v1; v_cvt_f32_u32 v2, v1", {"v1": I},
         [("v0", each(lambda a: F32.encode(Fraction(signed(a))), I), "f32"), ("v2", each(lambda a: F32.encode(Fraction(a)), I), "f32")])
    test("f32 to integers", "v_cvt_i32_f32 v0, v1; v_cvt_u32_f32 v5, v1; v_cvt_nearest_i32_f32 v3, v2; v_cvt_floor_i32_f32 v4, v1", {"v1": X, "v2": floats(46, True)},
         [("v0", each(lambda a: to_integer(F32, a, -2**31, 2**31 - 1) & M32, X)), ("v5", each(lambda a: to_integer(F32, a, 0, M32), X)),
          ("v3", each(lambda a: to_integer(F32, a, -2**31, 2**31 - 1, lambda v: math.floor(v + Fraction(1, 2))) & M32, floats(46, True))),
          ("v4", each(lambda a: to_integer(F32, a, -2**31, 2**31 - 1, math.floor) & M32, X))])
    for i in range(4):
        test("v_cvt_f32_ubyte%d" % i, "v_cvt_f32_ubyte%d v0, v1" % i, {"v1": I}, [("v0", each(lambda a: F32.encode(Fraction(a >> 8 * i & 255)), I), "f32")])
    H = halves(42)
    test("f16 to f32", "v_cvt_f32_f16 v0, v1.l; v_cvt_f32_f16 v2, v1.h", {"v1": pack(H, H[::-1])},
         [("v0", each(lambda a: convert(F16, F32, a), H), "f32"), ("v2", each(lambda a: convert(F16, F32, a), H[::-1]), "f32")])
    narrow = [0x33000000, 0x33000001, 0x33800000, 0x387FC000, 0x387FE000, 0x477FEFFF, 0x477FF000, 0x3F801000, 0x3F803000, 0x3F802000] + X[:22]
    test("f32 to f16", "v_cvt_f16_f32 v0.l, v1; v_cvt_f16_f32 v2.h, v1", {"v1": narrow, "v0": 0x55550000, "v2": 0x6666},
         [("v0", each(lambda a: with_half(convert(F32, F16, a), 0x5555), narrow), "f16"),
          ("v2", each(lambda a: with_half(convert(F32, F16, a), 0x6666, True), narrow), "f16")])
    ordinary = [w for w in narrow if F32.decode(w)[1] != NAN]
    ordinary += [0x3F9D70A4] * (LANES - len(ordinary))
    test("round to zero", "v_cvt_pk_rtz_f16_f32 v0, v1, v2", {"v1": ordinary, "v2": ordinary[::-1]},
         [("v0", each(lambda a, b: convert(F32, F16, a, "zero") | convert(F32, F16, b, "zero") << 16, ordinary, ordinary[::-1]))])
    test("f16 to integers", "v_cvt_i16_f16 v0.l, v1.l; v_cvt_u16_f16 v2.l, v1.l; v_cvt_f16_i16 v3.l, v1.l; v_cvt_f16_u16 v4.l, v1.l",
         {"v1": H, "v0": 0, "v2": 0, "v3": 0, "v4": 0},
         [("v0", each(lambda a: to_integer(F16, a, -2**15, 2**15 - 1) & 0xFFFF, H)), ("v2", each(lambda a: to_integer(F16, a, 0, 0xFFFF), H)),
          ("v3", each(lambda a: F16.encode(Fraction(signed(a, 16))), H)), ("v4", each(lambda a: F16.encode(Fraction(a)), H))])
    test("bf16 narrowing as the compiler writes it", "v_bfe_u32 v2, v1, 16, 1; v_add3_u32 v2, v1, v2, 0x7fff; v_lshrrev_b32 v0, 16, v2",
         {"v1": floats(43, True)}, [("v0", each(lambda a: convert(F32, BF16, a), floats(43, True)))])
    test("f32 and f64", "v_cvt_f64_f32 v[2:3], v1; v_cvt_f32_f64 v4, v[2:3]; v_cvt_f64_i32 v[6:7], v1; v_cvt_i32_f64 v8, v[2:3]", {"v1": floats(44, True)},
         [("v3", each(lambda a: convert(F32, F64, a) >> 32, floats(44, True))), ("v4", floats(44, True)),
          ("v7", each(lambda a: F64.encode(Fraction(signed(a))) >> 32, floats(44, True))),
          ("v8", each(lambda a: to_integer(F32, a, -2**31, 2**31 - 1) & M32, floats(44, True)))])
    test("pack and packed norms", "v_pack_b32_f16 v0, v1.l, v2.l; v_cvt_pk_u8_f32 v3, v4, 2, v5", {"v1": H, "v2": H[::-1], "v4": floats(45, True), "v5": 0x11223344},
         [("v0", pack(H, H[::-1])), ("v3", each(lambda a: 0x11003344 | to_integer(F32, a, 0, 255, round) << 16, floats(45, True)))])
    codes = [rng.randrange(256) for _ in range(LANES)]
    finite = lambda c, fmt: c if fmt.decode(c)[1] not in (NAN, INF) else 0x31
    for name, fmt in (("fp8", E4M3), ("bf8", E5M2)):
        C4 = [[finite((c + 61 * i) & 255, fmt) for c in codes] for i in range(4)]
        packed = [a | b << 8 | c << 16 | e << 24 for a, b, c, e in zip(*C4)]
        for i in range(4):
            test("v_cvt_f32_%s byte %d" % (name, i), "v_cvt_f32_%s%s v0, v1%s" % (name, "_e64" if i else "", " byte_sel:%d" % i if i else ""), {"v1": packed},
                 [("v0", each(lambda a: convert(fmt, F32, a), C4[i]), "f32")], NEW)
        test("v_cvt_pk_f32_" + name, "v_cvt_pk_f32_%s v[2:3], v1.l; v_cvt_pk_f32_%s v[4:5], v1.h" % (name, name), {"v1": packed},
             [("v%d" % (2 + i), each(lambda a: convert(fmt, F32, a), C4[i]), "f32") for i in range(4)], NEW)
        limit = 380 if name == "fp8" else 40000
        V = [F32.encode(Fraction(rng.randint(-limit * 64, limit * 64), 64) * pow2(-rng.randint(0, 14))) for _ in range(LANES)]
        test("v_cvt_pk_%s_f32" % name, "v_cvt_pk_%s_f32 v0.l, v1, v2; v_cvt_pk_%s_f32 v3.h, v1, v2" % (name, name), {"v1": V, "v2": V[::-1], "v0": 0xAAAA0000, "v3": 0x5555},
             [("v0", each(lambda a, b: 0xAAAA0000 | convert(F32, fmt, a) | convert(F32, fmt, b) << 8, V, V[::-1])),
              ("v3", each(lambda a, b: 0x5555 | convert(F32, fmt, a) << 16 | convert(F32, fmt, b) << 24, V, V[::-1]))], NEW)

    family("half")
    H, G, K = halves(51), halves(52), halves(53)
    for name, f in (("v_add_f16", lambda a, b: add(F16, a, b)), ("v_sub_f16", lambda a, b: add(F16, a, negate(F16, b))), ("v_mul_f16", lambda a, b: multiply(F16, a, b))):
        test(name, "%s v0.l, v1.l, v2.l; %s v3.h, v1.l, v2.h" % (name, name), {"v1": H, "v2": pack(G, K), "v0": 0x12340000, "v3": 0x4321},
             [("v0", each(lambda a, b: with_half(f(a, b), 0x1234), H, G), "f16"), ("v3", each(lambda a, b: with_half(f(a, b), 0x4321, True), H, K), "f16")])
    test("v_fma_f16", "v_fma_f16 v0.l, v1.l, v2.l, v3.l; v_fma_f16 v4.l, -v1.l, |v2.h|, v3.l", {"v1": H, "v2": pack(G, K), "v3": K, "v0": 0, "v4": 0},
         [("v0", each(lambda *o: with_half(fma(F16, *o), 0), H, G, K), "f16"),
          ("v4", each(lambda a, b, c: with_half(fma(F16, negate(F16, a), b & 0x7FFF, c), 0), H, K, K), "f16")])
    test("v_fmac_f16", "v_fmac_f16 v3.l, v1.l, v2.l", {"v1": H, "v2": G, "v3": K}, [("v3", each(lambda *o: with_half(fma(F16, *o), 0), H, G, K), "f16")])
    test("v_max_f16", None, {"v1": H, "v2": G, "v0": 0, "v3": 0},
         [("v0", each(lambda a, b: with_half(extreme(F16, a, b, True), 0), H, G), "f16"), ("v3", each(lambda a, b: with_half(extreme(F16, a, b, False), 0), H, G), "f16")],
         asm11="v_max_f16 v0.l, v1.l, v2.l; v_min_f16 v3.l, v1.l, v2.l", asm12="v_max_num_f16 v0.l, v1.l, v2.l; v_min_num_f16 v3.l, v1.l, v2.l")
    O = [w & 0x7FFF for w in halves(54, True)]
    hd = lambda w: float(F16.value(w))
    hn = lambda x: F16.encode(Fraction(x))
    test("f16 transcendental", "v_rcp_f16 v0.l, v1.l; v_rsq_f16 v2.l, v1.l; v_sqrt_f16 v3.l, v1.l; v_exp_f16 v4.l, v1.l; v_log_f16 v5.l, v1.l",
         {"v1": O, "v0": 0, "v2": 0, "v3": 0, "v4": 0, "v5": 0},
         [("v0", [hn(1 / hd(w)) for w in O], "f16~1"), ("v2", [hn(hd(w) ** -0.5) for w in O], "f16~1"), ("v3", [hn(hd(w) ** 0.5) for w in O], "f16~1"),
          ("v4", [hn(2.0 ** min(hd(w), 40)) for w in O], "f16~1"), ("v5", [hn(math.log2(hd(w))) for w in O], "f16~2")])
    A, B, C = floats(55, True), halves(56, True), halves(57, True)
    f = lambda a, b, c: fma(F32, a, b, c)
    w = lambda h: convert(F16, F32, h)
    test("v_fma_mix_f32", "v_fma_mix_f32 v0, v1, v2, v3; v_fma_mix_f32 v4, v1, v2, v3 op_sel_hi:[0,1,0]; "
         "v_fma_mix_f32 v6, -v1, |v2|, v1 op_sel:[0,1,0] op_sel_hi:[0,1,0]",
         {"v1": A, "v2": pack(B, C), "v3": floats(58, True)},
         [("v0", each(f, A, pack(B, C), floats(58, True)), "f32"), ("v4", each(lambda a, b, c: f(a, w(b), c), A, B, floats(58, True)), "f32"),
          ("v6", each(lambda a, c: f(negate(F32, a), w(c & 0x7FFF), a), A, C), "f32")])
    small = [F32.encode(Fraction(rng.randint(-999, 999), 16)) for _ in range(LANES)]
    exactmix = each(lambda a, b: F16.encode(F32.value(a) * F16.value(b) + F32.value(a)), small, B)
    test("v_fma_mixlo and mixhi", "v_fma_mixlo_f16 v0, v1, v2, v1 op_sel_hi:[0,1,0]; v_fma_mixhi_f16 v3, v1, v2, v1 op_sel_hi:[0,1,0]",
         {"v1": small, "v2": B, "v0": 0x77770000, "v3": 0x8888},
         [("v0", [0x77770000 | x for x in exactmix], "f16~1"), ("v3", [x << 16 | 0x8888 for x in exactmix], "f16~1")])


def clamp(word):
    if word == NAN:
        return 0
    value = F32.decode(word)
    if value[0] or value[1] == 0:
        return 0
    return 0x3F800000 if value[1] == INF or value[1] > 1 else word


def with_half(half, other, high=False):
    if half == NAN:
        half = 0x7E00
    return half << 16 | other if high else other << 16 | half


# ---- packed, dot -----------------------------------------------------------------------------------------------------

def packed():
    family("packed")
    A, B, C = [[rng.getrandbits(32) for _ in range(LANES)] for _ in range(3)]
    lo, hi = (lambda x: x & 0xFFFF), (lambda x: x >> 16)
    both = lambda f, *o: f(*(lo(x) for x in o)) & 0xFFFF | (f(*(hi(x) for x in o)) & 0xFFFF) << 16
    s16 = lambda x: signed(x, 16)
    for name, f in {"v_pk_add_u16": lambda a, b: a + b, "v_pk_sub_u16": lambda a, b: a - b, "v_pk_mul_lo_u16": lambda a, b: a * b,
                    "v_pk_min_i16": lambda a, b: min(a, b, key=s16), "v_pk_max_i16": lambda a, b: max(a, b, key=s16), "v_pk_min_u16": min, "v_pk_max_u16": max,
                    "v_pk_lshlrev_b16": lambda a, b: b << (a & 15), "v_pk_lshrrev_b16": lambda a, b: b >> (a & 15),
                    "v_pk_ashrrev_i16": lambda a, b: s16(b) >> (a & 15)}.items():
        test(name, name + " v0, v1, v2", {"v1": A, "v2": B}, [("v0", each(lambda a, b: both(f, a, b), A, B))])
        test(name + " op_sel", name + " v0, v1, v2 op_sel:[1,0] op_sel_hi:[0,0]", {"v1": A, "v2": B},
             [("v0", each(lambda a, b: f(hi(a), lo(b)) & 0xFFFF | (f(lo(a), lo(b)) & 0xFFFF) << 16, A, B))])
    test("v_pk_mad_u16", "v_pk_mad_u16 v0, v1, v2, v3", {"v1": A, "v2": B, "v3": C}, [("v0", each(lambda *o: both(lambda a, b, c: a * b + c, *o), A, B, C))])
    H, G, K = pack(halves(61, True), halves(62, True)), pack(halves(63, True), halves(64, True)), pack(halves(65, True), halves(66, True))
    for name, f in {"v_pk_add_f16": lambda a, b: add(F16, a, b), "v_pk_mul_f16": lambda a, b: multiply(F16, a, b)}.items():
        test(name, name + " v0, v1, v2", {"v1": H, "v2": G}, [("v0", each(lambda a, b: both(f, a, b), H, G))])
        test(name + " neg and op_sel", name + " v0, v1, v2 op_sel:[0,1] op_sel_hi:[1,0] neg_lo:[1,0] neg_hi:[0,1]", {"v1": H, "v2": G},
             [("v0", each(lambda a, b: f(lo(a) ^ 0x8000, hi(b)) | f(hi(a), lo(b) ^ 0x8000) << 16, H, G))])
        test(name + " inline", name + " v0, v1, 2.0 op_sel_hi:[1,0]; %s v2, v1, 2.0 op_sel_hi:[1,1]" % name, {"v1": H},
             [("v0", each(lambda a: f(lo(a), 0x4000) | f(hi(a), 0x4000) << 16, H)), ("v2", each(lambda a: f(lo(a), 0x4000) | f(hi(a), 0) << 16, H))])
    test("v_pk_fma_f16", "v_pk_fma_f16 v0, v1, v2, v3", {"v1": H, "v2": G, "v3": K}, [("v0", each(lambda *o: both(lambda *p: fma(F16, *p), *o), H, G, K))])
    test("v_pk_max_f16", None, {"v1": H, "v2": G},
         [("v0", each(lambda a, b: both(lambda x, y: extreme(F16, x, y, True), a, b), H, G)), ("v3", each(lambda a, b: both(lambda x, y: extreme(F16, x, y, False), a, b), H, G))],
         asm11="v_pk_max_f16 v0, v1, v2; v_pk_min_f16 v3, v1, v2", asm12="v_pk_max_num_f16 v0, v1, v2; v_pk_min_num_f16 v3, v1, v2")

    family("dot")
    A, B, C = [[rng.getrandbits(32) for _ in range(LANES)] for _ in range(3)]
    A[:3], B[:3], C[:3] = [0x80808080, 0x7F7F7F7F, M32], [0x80808080, 0x80808080, M32], [0x7FFFFFFF, 0x80000000, M32]

    def dot(width, sa, sb):
        view = lambda x, i, s: (signed(x >> width * i, width) if s else x >> width * i & ((1 << width) - 1))
        return lambda a, b: sum(view(a, i, sa) * view(b, i, sb) for i in range(32 // width))

    for width, name in ((8, "v_dot4_i32_iu8"), (4, "v_dot8_i32_iu4")):
        for sa in (0, 1):
            for sb in (0, 1):
                f = dot(width, sa, sb)
                R = each(lambda a, b, c: f(a, b) + signed(c), A, B, C)
                test("%s neg_lo %d %d" % (name, sa, sb), "%s v0, v1, v2, v3 neg_lo:[%d,%d,0]; %s v4, v1, v2, v3 neg_lo:[%d,%d,0] clamp" % (name, sa, sb, name, sa, sb),
                     {"v1": A, "v2": B, "v3": C}, [("v0", [r & M32 for r in R]), ("v4", [max(-2**31, min(2**31 - 1, r)) & M32 for r in R])])
    for width, name in ((8, "v_dot4_u32_u8"), (4, "v_dot8_u32_u4")):
        test(name, name + " v0, v1, v2, v3", {"v1": A, "v2": B, "v3": C}, [("v0", each(lambda a, b, c: dot(width, 0, 0)(a, b) + c & M32, A, B, C))])
    test("v_dot4 with a scalar and a constant", "v_dot4_i32_iu8 v0, v1, s4, 0 neg_lo:[1,1,0]", {"v1": A, "s4": 0x81FF7F01},
         [("v0", each(lambda a: dot(8, 1, 1)(a, 0x81FF7F01) & M32, A))])
    # Small integers as floats: every order of summation gives the same sum.
    ints = [[rng.randint(-100, 100) for _ in range(LANES)] for _ in range(5)]
    for name, fmt, targets in (("v_dot2_f32_f16", F16, BOTH), ("v_dot2_f32_bf16", BF16, BOTH)):
        enc = lambda v: fmt.encode(Fraction(v))
        P, Q = pack(map(enc, ints[0]), map(enc, ints[1])), pack(map(enc, ints[2]), map(enc, ints[3]))
        R = [F32.encode(Fraction(a * c + b * d + e)) for a, b, c, d, e in zip(*ints)]
        Cf = [F32.encode(Fraction(e)) for e in ints[4]]
        test(name, name + " v0, v1, v2, v3", {"v1": P, "v2": Q, "v3": Cf}, [("v0", R, "f32")], targets)
        test(name + " neg", name + " v0, v1, v2, v3 neg_lo:[1,0,0] neg_hi:[0,1,0]", {"v1": P, "v2": Q, "v3": Cf},
             [("v0", [F32.encode(Fraction(-a * c - b * d + e)) for a, b, c, d, e in zip(*ints)], "f32")], targets)
        if fmt is F16:
            test("v_dot2acc_f32_f16", "v_dot2acc_f32_f16 v3, v1, v2", {"v1": P, "v2": Q, "v3": Cf}, [("v3", R, "f32")], OLD)
    codes = [rng.choice([c for c in range(256) if E4M3.decode(c)[1] != NAN and Fraction(1, 8) <= abs(E4M3.value(c)) <= 8]) for _ in range(LANES * 8)]
    four = lambda part: [sum(codes[part * 128 + l * 4 + i] << 8 * i for i in range(4)) for l in range(LANES)]
    P, Q = four(0), four(1)
    test("v_dot4_f32_fp8_fp8", "v_dot4_f32_fp8_fp8 v0, v1, v2, v3", {"v1": P, "v2": Q, "v3": [F32.encode(Fraction(e)) for e in ints[4]]},
         [("v0", lanes(lambda l: F32.encode(sum(E4M3.value(P[l] >> 8 * i & 255) * E4M3.value(Q[l] >> 8 * i & 255) for i in range(4)) + ints[4][l])), "f32")], NEW)

    family("vopd")
    X, Y, Z = floats(71, True), floats(72, True), floats(73, True)
    # The Y accumulator of an odd destination: a decoder that trusts the tied operand reads v2 here instead of v3.
    test("v_dual_mov and v_dual_fmac, odd accumulator", "v_dual_mov_b32 v0, v4 :: v_dual_fmac_f32 v3, v1, v5", {"v1": X, "v2": 0x40000000, "v3": Z, "v4": 7, "v5": Y},
         [("v0", 7), ("v3", each(lambda *o: fma(F32, *o), X, Y, Z), "f32"), ("v2", 0x40000000)])
    test("v_dual_fmac twice", "v_dual_fmac_f32 v2, v4, v1 :: v_dual_fmac_f32 v3, v5, v6", {"v1": X, "v2": Z, "v3": X, "v4": Y, "v5": Z, "v6": Y},
         [("v2", each(lambda *o: fma(F32, *o), Y, X, Z), "f32"), ("v3", each(lambda *o: fma(F32, *o), Z, Y, X), "f32")])
    test("swapping halves", "v_dual_mov_b32 v0, v1 :: v_dual_mov_b32 v1, v0", {"v0": X, "v1": Y}, [("v0", Y), ("v1", X)])
    test("v_dual_add and v_dual_mul", "v_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v5, v3, v4", {"v1": X, "v2": Y, "v3": Y, "v4": Z},
         [("v0", each(lambda *o: add(F32, *o), X, Y), "f32"), ("v5", each(lambda *o: multiply(F32, *o), Y, Z), "f32")])
    test("v_dual_sub and subrev", "v_dual_sub_f32 v0, v1, v2 :: v_dual_subrev_f32 v5, v3, v4", {"v1": X, "v2": Y, "v3": Y, "v4": Z},
         [("v0", each(lambda a, b: add(F32, a, negate(F32, b)), X, Y), "f32"), ("v5", each(lambda a, b: add(F32, b, negate(F32, a)), Y, Z), "f32")])
    I, J = integers(74), integers(75)
    test("v_dual integer", "v_dual_mov_b32 v0, v1 :: v_dual_add_nc_u32 v5, v3, v4", {"v1": X, "v3": I, "v4": J}, [("v0", X), ("v5", each(lambda a, b: a + b & M32, I, J))])
    test("v_dual shifts", "v_dual_mov_b32 v0, v1 :: v_dual_lshlrev_b32 v5, v3, v4", {"v1": X, "v3": I, "v4": J}, [("v5", each(lambda a, b: b << (a & 31) & M32, I, J))])
    test("v_dual and", "v_dual_mov_b32 v0, s4 :: v_dual_and_b32 v5, 0xff00ff, v4", {"s4": 5, "v4": J}, [("v0", 5), ("v5", each(lambda b: 0xFF00FF & b, J))])
    test("v_dual cndmask", "v_dual_cndmask_b32 v0, v1, v2 :: v_dual_cndmask_b32 v5, v3, v4", {"v1": I, "v2": J, "v3": X, "v4": Z, "vcc": 0x0F1E2D3C},
         [("v0", lanes(lambda l: J[l] if 0x0F1E2D3C >> l & 1 else I[l])), ("v5", lanes(lambda l: Z[l] if 0x0F1E2D3C >> l & 1 else X[l]))])
    test("v_dual_fmaak and fmamk", "v_dual_fmaak_f32 v0, v1, v2, 0x40490fdb :: v_dual_fmamk_f32 v5, v3, 0x40490fdb, v4", {"v1": X, "v2": Y, "v3": Y, "v4": Z},
         [("v0", each(lambda a, b: fma(F32, a, b, 0x40490FDB), X, Y), "f32"), ("v5", each(lambda a, b: fma(F32, a, 0x40490FDB, b), Y, Z), "f32")])
    test("v_dual max and min", None, {"v1": X, "v2": Y, "v3": Y, "v4": Z},
         [("v0", each(lambda a, b: extreme(F32, a, b, True), X, Y), "f32"), ("v5", each(lambda a, b: extreme(F32, a, b, False), Y, Z), "f32")],
         asm11="v_dual_max_f32 v0, v1, v2 :: v_dual_min_f32 v5, v3, v4", asm12="v_dual_max_num_f32 v0, v1, v2 :: v_dual_min_num_f32 v5, v3, v4")
    test("v_dual under partial EXEC", "v_dual_add_f32 v0, v1, v2 :: v_dual_mul_f32 v5, v3, v4", {"v0": 1, "v5": 2, "v1": X, "v2": Y, "v3": Y, "v4": Z},
         [("v0", lanes(lambda l: add(F32, X[l], Y[l]) if l % 3 == 0 else 1), "f32"), ("v5", lanes(lambda l: multiply(F32, Y[l], Z[l]) if l % 3 == 0 else 2), "f32")],
         exec="%x" % sum(1 << l for l in range(0, 32, 3)))


# ---- across lanes ----------------------------------------------------------------------------------------------------

def across():
    family("dpp")
    V = [0x100 + l for l in range(LANES)]
    OLDV = [0x900 + l for l in range(LANES)]

    def source(control, l):
        row, i = l & ~15, l & 15
        name, n = control
        if name == "quad_perm":
            return l & ~3 | n[l & 3]
        if name == "row_shl":
            return row + i + n if i + n < 16 else None
        if name == "row_shr":
            return row + i - n if i >= n else None
        if name == "row_ror":
            return row + (i - n) % 16
        if name == "row_mirror":
            return row + 15 - i
        if name == "row_half_mirror":
            return l & ~7 | 7 - (l & 7)
        if name == "row_share":
            return row + n
        if name == "row_xmask":
            return row + (i ^ n)
        raise KeyError(name)

    def text(control):
        name, n = control
        if n is None:
            return name
        return "%s:%s" % (name, "[%s]" % ",".join(map(str, n)) if isinstance(n, tuple) else n)

    controls = [("quad_perm", (3, 2, 1, 0)), ("quad_perm", (1, 0, 3, 2)), ("quad_perm", (0, 0, 2, 2)), ("row_shl", 1), ("row_shl", 8), ("row_shl", 15), ("row_shr", 1),
                ("row_shr", 4), ("row_ror", 1), ("row_ror", 12), ("row_mirror", None), ("row_half_mirror", None), ("row_share", 0), ("row_share", 11), ("row_xmask", 1),
                ("row_xmask", 8), ("row_xmask", 15)]
    for control in controls:
        for rows, banks, bound, fi, execution in ((15, 15, 0, 0, M32), (15, 15, 1, 0, M32), (1, 15, 1, 0, M32), (15, 5, 0, 0, M32), (15, 15, 0, 0, 0xF0F7A5FF),
                                                  (15, 15, 1, 0, 0xF0F7A5FF), (15, 15, 1, 1, 0xF0F7A5FF), (2, 12, 0, 1, 0xF0F7A5FF)):
            def lane(l):
                if not execution >> l & 1 or not rows >> (l >> 4) & 1 or not banks >> (l >> 2 & 3) & 1:
                    return OLDV[l]
                s = source(control, l)
                if s is None or (not execution >> s & 1 and not fi):
                    return 0 if bound else OLDV[l]
                return V[s]
            test("v_mov_b32_dpp %s rows %x banks %x bound %d fi %d exec %x" % (text(control), rows, banks, bound, fi, execution),
                 "v_mov_b32_dpp v0, v1 %s row_mask:0x%x bank_mask:0x%x%s%s" % (text(control), rows, banks, " bound_ctrl:1" if bound else "", " fi:1" if fi else ""),
                 {"v0": OLDV, "v1": V}, [("v0", lanes(lane))], exec="%x" % execution)
    test("in place", "v_add_nc_u32_dpp v1, v1, v1 row_ror:1 row_mask:0xf bank_mask:0xf", {"v1": V}, [("v1", lanes(lambda l: V[l & ~15 | (l - 1) % 16] + V[l]))])
    test("only src0 moves", "v_sub_nc_u32_dpp v0, v1, v2 row_xmask:5 row_mask:0xf bank_mask:0xf", {"v1": V, "v2": OLDV}, [("v0", lanes(lambda l: V[l ^ 5] - OLDV[l] & M32))])
    X, Y = floats(81, True), floats(82, True)
    test("v_fmac_f32_dpp", "v_fmac_f32_dpp v0, v1, v2 row_share:3 row_mask:0xf bank_mask:0xf", {"v0": X, "v1": Y, "v2": X},
         [("v0", lanes(lambda l: fma(F32, Y[l & 16 | 3], X[l], X[l])), "f32")])
    test("negation with dpp", "v_add_f32_dpp v0, -v1, |v2| quad_perm:[2,3,0,1] row_mask:0xf bank_mask:0xf", {"v1": X, "v2": Y},
         [("v0", lanes(lambda l: add(F32, negate(F32, X[l ^ 2]), Y[l] & 0x7FFFFFFF)), "f32")])
    test("v_cmp_dpp", "v_cmp_gt_u32_e64_dpp s6, v1, v2 row_shl:1 row_mask:0xf bank_mask:0xf bound_ctrl:1", {"v1": V, "v2": 0x108},
         [("s6", sum(1 << l for l in range(32) if (l & 15) < 15 and V[l + 1] > 0x108))])
    for selectors in ((7, 6, 5, 4, 3, 2, 1, 0), (0, 0, 0, 0, 4, 4, 4, 4), (1, 3, 5, 7, 0, 2, 4, 6)):
        sel = ",".join(map(str, selectors))
        test("dpp8 " + sel, "v_mov_b32_dpp v0, v1 dpp8:[%s]" % sel, {"v0": OLDV, "v1": V}, [("v0", lanes(lambda l: V[l & ~7 | selectors[l & 7]]))])
        E = 0xFF00F0F3
        test("dpp8 inactive " + sel, "v_mov_b32_dpp v0, v1 dpp8:[%s]; v_mov_b32_dpp v2, v1 dpp8:[%s] fi:1" % (sel, sel), {"v0": OLDV, "v1": V, "v2": OLDV},
             [("v0", lanes(lambda l: OLDV[l] if not E >> l & 1 else V[l & ~7 | selectors[l & 7]] if E >> (l & ~7 | selectors[l & 7]) & 1 else 0)),
              ("v2", lanes(lambda l: OLDV[l] if not E >> l & 1 else V[l & ~7 | selectors[l & 7]]))], exec="%x" % E)
    # A sum over the wave as the compiler writes it.
    test("reduction", "v_add_f32_dpp v1, v1, v1 row_xmask:1 row_mask:0xf bank_mask:0xf; v_add_f32_dpp v1, v1, v1 row_xmask:2 row_mask:0xf bank_mask:0xf; "
         "v_add_f32_dpp v1, v1, v1 row_xmask:4 row_mask:0xf bank_mask:0xf; v_add_f32_dpp v1, v1, v1 row_xmask:8 row_mask:0xf bank_mask:0xf; "
         "v_permlanex16_b32 v2, v1, s4, s5; v_add_f32 v1, v1, v2", {"v1": [F32.encode(Fraction(l)) for l in range(LANES)], "s4": 0x76543210, "s5": 0xFEDCBA98},
         [("v1", F32.encode(Fraction(496)))])

    family("permute")
    S = (0x13579BDF, 0x02468ACE)
    pick = lambda l: (S[0] if l & 15 < 8 else S[1]) >> 4 * (l & 7) & 15
    test("v_permlane16", "v_permlane16_b32 v0, v1, s4, s5; v_permlanex16_b32 v2, v1, s4, s5", {"v1": V, "s4": S[0], "s5": S[1]},
         [("v0", lanes(lambda l: V[l & 16 | pick(l)])), ("v2", lanes(lambda l: V[(l & 16 ^ 16) | pick(l)]))])
    E = 0x0F3CFF0F
    permuted = lambda bound, fi, cross: lanes(lambda l: OLDV[l] if not E >> l & 1 else (lambda s: V[s] if E >> s & 1 or fi else 0 if bound else OLDV[l])(
        (l & 16 ^ (16 if cross else 0)) | pick(l)))
    for op_sel, bound, fi in (("", 0, 0), (" op_sel:[1,0]", 0, 1), (" op_sel:[0,1]", 1, 0), (" op_sel:[1,1]", 1, 1)):
        test("v_permlane16 partial bound %d fi %d" % (bound, fi), "v_permlane16_b32 v0, v1, s4, s5%s; v_permlanex16_b32 v2, v1, s4, s5%s" % (op_sel, op_sel),
             {"v0": OLDV, "v1": V, "v2": OLDV, "s4": S[0], "s5": S[1]}, [("v0", permuted(bound, fi, False)), ("v2", permuted(bound, fi, True))], exec="%x" % E)
    sel = [rng.randrange(16) for _ in range(LANES)]
    test("v_permlane16_var", "v_permlane16_var_b32 v0, v1, v3; v_permlanex16_var_b32 v2, v1, v3", {"v1": V, "v3": sel},
         [("v0", lanes(lambda l: V[l & 16 | sel[l]])), ("v2", lanes(lambda l: V[(l & 16 ^ 16) | sel[l]]))], NEW)

    def swizzle(offset, l):
        if offset & 0x8000:
            return l & ~3 | offset >> 2 * (l & 3) & 3
        return ((l & (offset & 31)) | (offset >> 5 & 31)) ^ (offset >> 10 & 31)

    for offset in (0x8000 | 0b00011011, 0x041F, 0x081F, 0x401F, 0x0010, 0x7C1F, 0x00F0):
        test("ds_swizzle %x" % offset, "ds_swizzle_b32 v0, v1 offset:0x%x" % offset, {"v0": OLDV, "v1": V}, [("v0", lanes(lambda l: V[swizzle(offset, l)]))], wait="lds")
        test("ds_swizzle %x partial" % offset, "ds_swizzle_b32 v0, v1 offset:0x%x" % offset, {"v0": OLDV, "v1": V},
             [("v0", lanes(lambda l: OLDV[l] if not E >> l & 1 else V[swizzle(offset, l)] if E >> swizzle(offset, l) & 1 else 0))], wait="lds", exec="%x" % E)
    where = [rng.randrange(64) * 4 for _ in range(LANES)]
    test("ds_bpermute", "ds_bpermute_b32 v0, v2, v1; ds_bpermute_b32 v3, v2, v1 offset:8", {"v1": V, "v2": where},
         [("v0", lanes(lambda l: V[where[l] // 4 % 32])), ("v3", lanes(lambda l: V[(where[l] + 8) // 4 % 32]))], wait="lds")
    test("ds_bpermute partial", "ds_bpermute_b32 v0, v2, v1", {"v0": OLDV, "v1": V, "v2": where},
         [("v0", lanes(lambda l: OLDV[l] if not E >> l & 1 else V[where[l] // 4 % 32] if E >> (where[l] // 4 % 32) & 1 else 0))], wait="lds", exec="%x" % E)
    to = list(range(LANES))
    rng.shuffle(to)
    test("ds_permute", "ds_permute_b32 v0, v2, v1", {"v1": V, "v2": [4 * t for t in to]}, [("v0", lanes(lambda l: V[to.index(l)]))], wait="lds")


# ---- memory ----------------------------------------------------------------------------------------------------------

def memory():
    family("global")
    data = [rng.getrandbits(32) for _ in range(512)]
    raw = b"".join(w.to_bytes(4, "little") for w in data)
    word = lambda o: int.from_bytes(raw[o:o + 4], "little")
    gather = lanes(lambda l: (l * 52 + 12) % 1600 & ~3)
    odd = lanes(lambda l: (l * 37 + 5) % 1600)
    at2 = lanes(lambda l: (l * 38 + 6) % 1600)
    wide = lanes(lambda l: (l * 48) % 1600)
    for name, f, where in (("u8", lambda o: raw[o], odd), ("i8", lambda o: extend(raw[o], 8), odd), ("u16", lambda o: word(o) & 0xFFFF, at2),
                           ("i16", lambda o: extend(word(o), 16), at2), ("b32", word, gather)):
        test("global_load_" + name, "global_load_%s v0, v1, s[98:99]; global_load_%s v2, v1, s[98:99] offset:64" % (name, name), {"mem 0": data, "v1": where},
             [("v0", lanes(lambda l: f(where[l]))), ("v2", lanes(lambda l: f(where[l] + 64)))], wait="vector")
    for name, count in (("b64", 2), ("b96", 3), ("b128", 4)):
        test("global_load_" + name, "global_load_%s v[4:%d], v1, s[98:99] offset:16" % (name, 3 + count), {"mem 0": data, "v1": wide},
             [("v%d" % (4 + i), lanes(lambda l: word(wide[l] + 16 + 4 * i))) for i in range(count)], wait="vector")
        test("global_load_%s consecutive" % name, "global_load_%s v[4:%d], v1, s[98:99]" % (name, 3 + count), {"mem 0": data, "v1": lanes(lambda l: l * 4 * count)},
             [("v%d" % (4 + i), lanes(lambda l: data[l * count + i])) for i in range(count)], wait="vector")
        test("global_store_" + name, "global_store_%s v1, v[4:%d], s[98:99]" % (name, 3 + count),
             dict([("mem 0", [0] * 128), ("v1", lanes(lambda l: (31 - l) * 4 * count))] + [("v%d" % (4 + i), lanes(lambda l: 0x1000 * (i + 1) + l)) for i in range(count)]),
             [("mem 0", [0x1000 * (i + 1) + 31 - l for l in range(32) for i in range(count)])], wait="vector")
    test("64-bit addresses", "v_mov_b32 v3, s99; v_add_co_u32 v2, vcc_lo, s98, v1; v_add_co_ci_u32 v3, vcc_lo, 0, v3, vcc_lo; global_load_b32 v0, v[2:3], off; "
         "global_load_b32 v4, v[2:3], off offset:-12", {"mem 0": data, "v1": gather}, [("v0", lanes(lambda l: word(gather[l]))), ("v4", lanes(lambda l: word(gather[l] - 12)))], wait="vector")
    test("partial loads keep", "global_load_b32 v0, v1, s[98:99]", {"mem 0": data, "v0": 5, "v1": lanes(lambda l: gather[l] if 0xFF00FF >> l & 1 else 0x70000000)},
         [("v0", lanes(lambda l: word(gather[l]) if 0xFF00FF >> l & 1 else 5))], wait="vector", exec="ff00ff")
    for name, f in (("d16_b16", lambda l, o: 0xABCD0000 | word(o) & 0xFFFF), ("d16_hi_b16", lambda l, o: 0x4321 | word(o) << 16 & M32),
                    ("d16_u8", lambda l, o: 0xABCD0000 | raw[o]), ("d16_i8", lambda l, o: 0xABCD0000 | extend(raw[o], 8) & 0xFFFF),
                    ("d16_hi_u8", lambda l, o: 0x4321 | raw[o] << 16)):
        test("global_load_" + name, "global_load_%s v0, v1, s[98:99]" % name, {"mem 0": data, "v0": 0xABCD4321, "v1": at2},
             [("v0", lanes(lambda l: f(l, at2[l])))], wait="vector")
    bytes_ = lanes(lambda l: 0xA0 + l)
    test("global_store narrow", "global_store_b8 v1, v2, s[98:99]; global_store_b16 v3, v2, s[98:99] offset:64; global_store_d16_hi_b8 v1, v2, s[98:99] offset:128; "
         "global_store_d16_hi_b16 v3, v2, s[98:99] offset:192",
         {"mem 0": [0] * 64, "v1": lanes(lambda l: l), "v2": [b | (b ^ 0xFF) << 16 | 0x55005500 for b in bytes_], "v3": lanes(lambda l: 2 * l)},
         [("mem 0", [bytes_[4 * i] | bytes_[4 * i + 1] << 8 | bytes_[4 * i + 2] << 16 | bytes_[4 * i + 3] << 24 for i in range(8)]),
          ("mem 40", [(0x5500 | bytes_[2 * i]) | (0x5500 | bytes_[2 * i + 1]) << 16 for i in range(16)]),
          ("mem 80", [sum((bytes_[4 * i + j] ^ 0xFF) << 8 * j for j in range(4)) for i in range(8)]),
          ("mem c0", [(0x5500 | bytes_[2 * i] ^ 0xFF) | (0x5500 | bytes_[2 * i + 1] ^ 0xFF) << 16 for i in range(16)])], wait="vector")
    start = [10 + i for i in range(32)]
    V = lanes(lambda l: l * 5 + 1)
    atomics = {"add_u32": lambda m, v: m + v & M32, "sub_u32": lambda m, v: m - v & M32, "and_b32": lambda m, v: m & v, "or_b32": lambda m, v: m | v, "xor_b32": lambda m, v: m ^ v,
               "min_u32": min, "max_u32": max, "min_i32": lambda m, v: min(m, v, key=signed), "max_i32": lambda m, v: max(m, v, key=signed), "swap_b32": lambda m, v: v,
               "inc_u32": lambda m, v: 0 if m >= v else m + 1, "dec_u32": lambda m, v: v if m == 0 or m > v else m - 1}
    for name, f in atomics.items():
        test("global_atomic_" + name, None, {"mem 0": start, "v1": lanes(lambda l: 4 * l), "v2": V}, [("mem 0", [f(m, v) for m, v in zip(start, V)]), ("v0", start)],
             wait="vector", asm11="global_atomic_%s v0, v1, v2, s[98:99] glc" % name, asm12="global_atomic_%s v0, v1, v2, s[98:99] th:TH_ATOMIC_RETURN" % name)
    test("all lanes add to one word", "global_atomic_add_u32 v1, v2, s[98:99] offset:8", {"mem 0": [0, 0, 1000], "v1": 0, "v2": V}, [("mem 8", 1000 + sum(V))], wait="vector")
    test("lanes count themselves", None, {"mem 0": [7], "v1": 0, "v2": 1}, [("mem 0", 39), ("v0", lanes(lambda l: 7 + l))], wait="vector",
         asm11="global_atomic_add_u32 v0, v1, v2, s[98:99] glc", asm12="global_atomic_add_u32 v0, v1, v2, s[98:99] th:TH_ATOMIC_RETURN")
    test("compare and swap", None, {"mem 0": [5, 6] * 16, "v1": lanes(lambda l: 4 * l), "v2": 99, "v3": 5}, [("mem 0", [99, 6] * 16), ("v0", [5, 6] * 16)], wait="vector",
         asm11="global_atomic_cmpswap_b32 v0, v1, v[2:3], s[98:99] glc", asm12="global_atomic_cmpswap_b32 v0, v1, v[2:3], s[98:99] th:TH_ATOMIC_RETURN")
    test("float add", "global_atomic_add_f32 v1, v2, s[98:99]", {"mem 0": F32.encode(Fraction(1, 2)), "v1": 0, "v2": [F32.encode(Fraction(l)) for l in range(32)]},
         [("mem 0", F32.encode(Fraction(993, 2)))], wait="vector")
    test("64-bit add", "global_atomic_add_u64 v1, v[2:3], s[98:99]", {"mem 0": [0xFFFFFFF0, 1], "v1": 0, "v2": 1, "v3": 0}, [("mem 0", [0x10, 2])], wait="vector")
    test("aperture", "v_mov_b32 v2, s98; v_mov_b32 v3, s99; flat_load_b32 v0, v[2:3] offset:8; flat_store_b32 v[2:3], v1 offset:16", {"mem 0": [1, 2, 3, 4, 5], "v1": 77},
         [("v0", 3), ("mem 10", 77)], wait="vector")

    family("lds")
    fill = lanes(lambda l: 0xC0DE0000 + l)
    test("store and load b32", "ds_store_b32 v1, v2; ds_load_b32 v0, v3", {"v1": lanes(lambda l: 4 * l), "v2": fill, "v3": lanes(lambda l: 4 * (31 - l))}, [("v0", fill[::-1])],
         wait="lds", lds=1024)
    test("widths", "ds_store_b128 v1, v[4:7]; ds_load_b64 v[8:9], v1 offset:8; ds_load_b96 v[10:12], v1; ds_load_b128 v[16:19], v1; ds_load_u8 v2, v1 offset:1; "
         "ds_load_i8 v3, v1 offset:4; ds_load_u16 v20, v1 offset:2; ds_load_i16 v21, v1 offset:6",
         {"v1": lanes(lambda l: 16 * l), "v4": 0x11223344, "v5": 0x85F66788, "v6": fill, "v7": V},
         [("v8", fill), ("v9", V), ("v10", 0x11223344), ("v11", 0x85F66788), ("v12", fill), ("v16", 0x11223344), ("v19", V), ("v2", 0x33), ("v3", 0xFFFFFF88), ("v20", 0x1122),
          ("v21", 0xFFFF85F6)], wait="lds", lds=1024)
    test("two addresses", "ds_store_2addr_b32 v1, v2, v3 offset0:1 offset1:40; ds_load_b32 v4, v1 offset:4; ds_load_b32 v5, v1 offset:160; "
         "ds_load_2addr_b32 v[6:7], v1 offset0:40 offset1:1", {"v1": lanes(lambda l: 4 * l), "v2": fill, "v3": V}, [("v4", fill), ("v5", V), ("v6", V), ("v7", fill)], wait="lds", lds=1024)
    test("two addresses b64", "ds_store_2addr_b64 v1, v[2:3], v[4:5] offset0:0 offset1:32; ds_load_2addr_b64 v[6:9], v1 offset0:32 offset1:0",
         {"v1": lanes(lambda l: 8 * l), "v2": 1, "v3": fill, "v4": 2, "v5": V}, [("v6", 2), ("v7", V), ("v8", 1), ("v9", fill)], wait="lds", lds=1024)
    test("stride 64", "ds_store_2addr_stride64_b32 v1, v2, v3 offset0:0 offset1:1; ds_load_b32 v4, v1 offset:256; ds_load_2addr_stride64_b32 v[6:7], v1 offset0:1 offset1:0",
         {"v1": lanes(lambda l: 4 * l), "v2": fill, "v3": V}, [("v4", V), ("v6", V), ("v7", fill)], wait="lds", lds=1024)
    test("narrow stores", "ds_store_b32 v1, v3; ds_store_b8 v1, v2 offset:1; ds_store_b16 v1, v2 offset:2; ds_load_b32 v0, v1; ds_store_b8_d16_hi v1, v2; ds_load_b32 v4, v1",
         {"v1": lanes(lambda l: 4 * l), "v2": 0x11AAF1E2, "v3": 0x44444444}, [("v0", 0xF1E2E244), ("v4", 0xF1E2E2AA)], wait="lds", lds=1024)
    test("d16 loads", "ds_store_b32 v1, v2; ds_load_u16_d16 v3, v1 offset:2; ds_load_u16_d16_hi v4, v1; ds_load_i8_d16 v5, v1 offset:3; ds_load_u8_d16_hi v6, v1",
         {"v1": lanes(lambda l: 4 * l), "v2": 0x8899AABB, "v3": 0x12345678, "v4": 0x12345678, "v5": 0x12345678, "v6": 0x12345678},
         [("v3", 0x12348899), ("v4", 0xAABB5678), ("v5", 0x1234FF88), ("v6", 0x00BB5678)], wait="lds", lds=1024)
    for name, f in {"add_u32": atomics["add_u32"], "sub_u32": atomics["sub_u32"], "and_b32": atomics["and_b32"], "or_b32": atomics["or_b32"], "xor_b32": atomics["xor_b32"],
                    "min_i32": atomics["min_i32"], "max_i32": atomics["max_i32"], "min_u32": min, "max_u32": max}.items():
        test("ds_" + name, "ds_store_b32 v1, v2; ds_%s v1, v3; ds_load_b32 v0, v1; ds_%s v4, v1, v3; ds_load_b32 v5, v1" % (name, name.replace("_", "_rtn_", 1)),
             {"v1": lanes(lambda l: 4 * l), "v2": start, "v3": V},
             [("v0", [f(m, v) for m, v in zip(start, V)]), ("v4", [f(m, v) for m, v in zip(start, V)]), ("v5", [f(f(m, v), v) for m, v in zip(start, V)])], wait="lds", lds=1024)
    test("ds swap and compare", "ds_store_b32 v1, v2; ds_storexchg_rtn_b32 v0, v1, v3; ds_cmpstore_rtn_b32 v4, v1, v5, v3; ds_load_b32 v6, v1",
         {"v1": lanes(lambda l: 4 * l), "v2": start, "v3": V, "v5": 1000}, [("v0", start), ("v4", V), ("v6", 1000)], wait="lds", lds=1024)
    test("ds_add_f32", "ds_store_b32 v1, v2; ds_add_f32 v1, v3; ds_load_b32 v0, v1", {"v1": 64, "v2": F32.encode(Fraction(3)), "v3": [F32.encode(Fraction(l)) for l in range(32)]},
         [("v0", F32.encode(Fraction(499)))], wait="lds", lds=1024)
    flat = "s_mov_b64 s[4:5], src_shared_base; v_mov_b32 v2, v1; v_mov_b32 v3, s5; ds_store_b32 v1, v4; flat_load_b32 v0, v[2:3]"
    test("flat access to LDS", flat, {"v1": lanes(lambda l: 4 * l), "v4": fill}, [("v0", fill)], wait="vector", lds=1024)
    # Two waves: each writes its half, both meet, each reads the other's.
    exchange = "ds_store_b32 v255, v2"
    back = "v_xor_b32 v3, 0x80, v255; ds_load_b32 v0, v3"
    both = [0x5000 + l for l in range(64)]
    test("barrier", None, {"v2": both}, [("v0", both[32:] + both[:32])], lanes=64, lds=1024, wait="lds",
         asm11=exchange + "; s_waitcnt lgkmcnt(0); s_barrier; " + back, asm12=exchange + "; s_wait_dscnt 0; s_barrier_signal -1; s_nop 0; s_barrier_wait -1; " + back)
    test("an ended wave does not hold the others", None, {"v2": 1}, [("v0", [1] * 32 + [2] * 32)], lanes=64, lds=64,
         asm11="v_mov_b32 v0, v2; v_readfirstlane_b32 s4, v255; s_cmp_eq_u32 s4, 0; s_cbranch_scc1 store; s_barrier; v_mov_b32 v0, 2; store:; s_nop 0",
         asm12="v_mov_b32 v0, v2; v_readfirstlane_b32 s4, v255; s_cmp_eq_u32 s4, 0; s_cbranch_scc1 store; s_barrier_signal -1; s_barrier_wait -1; v_mov_b32 v0, 2; store:; s_nop 0")

    family("scratch")
    off = lanes(lambda l: 4 * (l % 4))
    test("private to a lane", "scratch_store_b32 off, v1, off offset:16; scratch_load_b32 v0, off, off offset:16", {"v1": fill}, [("v0", fill)], wait="vector", scratch=64)
    test("vector offset", "scratch_store_b32 v2, v1, off offset:4; scratch_load_b32 v0, v2, off offset:4", {"v1": fill, "v2": off}, [("v0", fill)], wait="vector", scratch=64)
    test("scalar offset", "scratch_store_b64 off, v[2:3], s4; scratch_load_b64 v[4:5], off, s4; scratch_load_b32 v0, v6, s4 offset:4",
         {"v2": fill, "v3": V, "s4": 16, "v6": 0}, [("v4", fill), ("v5", V), ("v0", V)], wait="vector", scratch=64)
    test("b128 and bytes", "scratch_store_b128 off, v[4:7], off offset:16; scratch_load_b96 v[8:10], off, off offset:20; scratch_load_u8 v0, off, off offset:17",
         {"v4": 0xAABBCCDD, "v5": fill, "v6": V, "v7": 9}, [("v8", fill), ("v9", V), ("v10", 9), ("v0", 0xCC)], wait="vector", scratch=64)
    test("flat access to scratch", "s_mov_b64 s[4:5], src_private_base; v_mov_b32 v2, 8; v_mov_b32 v3, s5; scratch_store_b32 off, v1, off offset:8; flat_load_b32 v0, v[2:3]",
         {"v1": fill}, [("v0", fill)], wait="vector", scratch=64)


# ---- less common, all of which compiled kernels contain ---------------------------------------------------------------

def various():
    import math
    family("various")
    A, B, C = integers(91), integers(92), integers(93)
    wide = lambda hi, lo: hi << 32 | lo
    U, V = each(wide, A[:16] + [5] * 16, B), each(wide, A[:8] + B[8:16] + [5] * 16, B[:20] + C[20:])
    for kind, view in (("u64", lambda x: x), ("i64", lambda x: signed(x, 64))):
        for name, f in {"lt": lambda a, b: a < b, "eq": lambda a, b: a == b, "gt": lambda a, b: a > b, "ne": lambda a, b: a != b}.items():
            test("v_cmp_%s_%s" % (name, kind), "v_cmp_%s_%s vcc_lo, v[2:3], v[4:5]" % (name, kind),
                 {"v2": [x & M32 for x in U], "v3": [x >> 32 for x in U], "v4": [x & M32 for x in V], "v5": [x >> 32 for x in V]},
                 [("vcc", sum(1 << l for l in range(LANES) if f(view(U[l]), view(V[l]))))])
    H, G = halves(94), halves(95)
    G = G[:8] + H[8:16] + G[16:]

    def unordered(fmt, a, b):
        return NAN in (fmt.decode(a)[1], fmt.decode(b)[1])

    for name, f in {"lt": lambda a, b: a < b, "eq": lambda a, b: a == b, "ge": lambda a, b: a >= b}.items():
        test("v_cmp_%s_f16" % name, "v_cmp_%s_f16 vcc_lo, v1.l, v2.h" % name, {"v1": H, "v2": [g << 16 for g in G]},
             [("vcc", sum(1 << l for l in range(LANES) if not unordered(F16, H[l], G[l]) and f(key(F16, H[l])[0], key(F16, G[l])[0])))])
    O, P, Q = floats(96, True), floats(97, True), floats(98, True)
    low, high = (lambda *o: min(o, key=lambda w: key(F32, w))), (lambda *o: max(o, key=lambda w: key(F32, w)))
    test("v_maxmin and v_minmax", None, {"v1": O, "v2": P, "v3": Q},
         [("v0", each(lambda a, b, c: low(high(a, b), c), O, P, Q), "f32"), ("v4", each(lambda a, b, c: high(low(a, b), c), O, P, Q), "f32")],
         asm11="v_maxmin_f32 v0, v1, v2, v3; v_minmax_f32 v4, v1, v2, v3", asm12="v_maxmin_num_f32 v0, v1, v2, v3; v_minmax_num_f32 v4, v1, v2, v3")
    test("v_maxmin_i32", "v_maxmin_i32 v0, v1, v2, v3; v_minmax_u32 v4, v1, v2, v3", {"v1": A, "v2": B, "v3": C},
         [("v0", each(lambda a, b, c: min(max(a, b, key=signed), c, key=signed), A, B, C)), ("v4", each(lambda a, b, c: max(min(a, b), c), A, B, C))])

    def ieee(a, b, largest):
        if unordered(F32, a, b):
            return NAN
        return extreme(F32, a, b, largest)

    X, Y = floats(99), floats(100)
    test("IEEE maximum and minimum", "v_maximum_f32 v0, v1, v2; v_minimum_f32 v3, v1, v2", {"v1": X, "v2": Y},
         [("v0", each(lambda a, b: ieee(a, b, True), X, Y), "f32"), ("v3", each(lambda a, b: ieee(a, b, False), X, Y), "f32")], NEW)
    near = lambda x: F32.encode(Fraction(x))
    for i, word in enumerate(w & 0x7FFFFFFF for w in floats(101, True)[:3]):
        x = float(F32.value(word))
        test("scalar transcendentals %d" % i, "v_s_rcp_f32 s5, s4; v_s_rsq_f32 s6, s4; v_s_sqrt_f32 s7, s4; v_s_log_f32 s8, s4", {"s4": word},
             [("s5", near(1 / x), "f32~2"), ("s6", near(x ** -0.5), "f32~2"), ("s7", near(math.sqrt(x)), "f32~2"), ("s8", near(math.log2(x)), "f32~4")], NEW)
    test("v_s_exp_f32", "v_s_exp_f32 s5, s4", {"s4": near(-3.5)}, [("s5", near(2.0 ** -3.5), "f32~2")], NEW)
    for i, (a, b) in enumerate(zip(O[:3] + [0x7FC00000], P[:2] + [O[2], P[3]])):
        nan = unordered(F32, a, b)
        x, y = (None, None) if nan else (F32.value(a), F32.value(b))
        for name, f in {"lt": lambda: x < y, "eq": lambda: x == y, "ge": lambda: x >= y}.items():
            test("s_cmp_%s_f32 %d" % (name, i), "s_cmp_%s_f32 s4, s5" % name, {"s4": a, "s5": b}, [("scc", int(not nan and f()))])
        test("s_cmp_nlt_f32 %d" % i, "s_cmp_nlt_f32 s4, s5", {"s4": a, "s5": b}, [("scc", int(nan or not x < y))])
    a, b, c = O[4], P[4], Q[4]
    test("scalar float rounding", "s_ceil_f32 s5, s4; s_floor_f32 s6, s4; s_rndne_f32 s7, s4", {"s4": near(-2.5)}, [("s5", near(-2)), ("s6", near(-3)), ("s7", near(-2))])
    test("s_fmaak and s_fmamk", "s_fmaak_f32 s6, s4, s5, 0x40490fdb; s_fmamk_f32 s7, s4, 0x40490fdb, s5", {"s4": a, "s5": b},
         [("s6", fma(F32, a, b, 0x40490FDB)), ("s7", fma(F32, a, 0x40490FDB, b))])
    test("scalar float extremes", None, {"s4": a, "s5": b}, [("s6", low(a, b)), ("s7", high(a, b))], asm11="s_min_f32 s6, s4, s5; s_max_f32 s7, s4, s5",
         asm12="s_min_num_f32 s6, s4, s5; s_max_num_f32 s7, s4, s5")
    test("scalar f16", "s_cvt_f16_f32 s6, s4; s_cvt_f32_f16 s7, s6; s_cvt_pk_rtz_f16_f32 s8, s4, s5", {"s4": a, "s5": b},
         [("s6", convert(F32, F16, a)), ("s7", convert(F16, F32, convert(F32, F16, a))), ("s8", convert(F32, F16, a, "zero") | convert(F32, F16, b, "zero") << 16)])
    test("v_swap_b32", "v_swap_b32 v1, v2", {"v1": A, "v2": B}, [("v1", lanes(lambda l: B[l] if l % 2 else A[l])), ("v2", lanes(lambda l: A[l] if l % 2 else B[l]))], exec="aaaaaaaa")
    N = halves(102, True)
    test("f16 scaling and rounding", "v_ldexp_f16 v0.l, v1.l, v2.l; v_floor_f16 v3.l, v1.l; v_rndne_f16 v4.l, v1.l", {"v0": 0, "v1": N, "v2": 3, "v3": 0, "v4": 0},
         [("v0", each(lambda h: F16.encode(F16.value(h) * 8), N)), ("v3", each(lambda h: F16.encode(Fraction(math.floor(F16.value(h))), h >> 15), N)),
          ("v4", each(lambda h: F16.encode(Fraction(round(F16.value(h))), h >> 15), N))])
    test("v_cndmask_b16", "v_cndmask_b16 v0.l, v1.l, v2.h, s6", {"v0": 0xABCD0000, "v1": A, "v2": B, "s6": 0x0F0F3355},
         [("v0", lanes(lambda l: 0xABCD0000 | (B[l] >> 16 if 0x0F0F3355 >> l & 1 else A[l] & 0xFFFF)))])
    test("bit logic of 16", "v_and_b16 v0.l, v1.l, v2.l; v_or_b16 v3.l, v1.h, v2.l; v_xor_b16 v4.l, v1.l, v2.h; v_not_b16 v5.l, v1.l",
         {"v0": 0, "v1": A, "v2": B, "v3": 0, "v4": 0, "v5": 0},
         [("v0", each(lambda x, y: x & y & 0xFFFF, A, B)), ("v3", each(lambda x, y: (x >> 16 | y) & 0xFFFF, A, B)), ("v4", each(lambda x, y: (x ^ y >> 16) & 0xFFFF, A, B)),
          ("v5", each(lambda x: ~x & 0xFFFF, A))])
    test("v_mad_u16", "v_mad_u16 v0.l, v1.l, v2.l, v3.h", {"v0": 0, "v1": A, "v2": B, "v3": C}, [("v0", each(lambda x, y, z: x * y + (z >> 16) & 0xFFFF, A, B, C))])
    test("64-bit scalar logic", "s_and_not1_b64 s[10:11], s[4:5], s[6:7]; s_or_b64 s[12:13], s[4:5], s[6:7]; s_brev_b64 s[14:15], s[4:5]; s_bfe_i64 s[16:17], s[4:5], 0x80004",
         {"s4": 0x12345A78, "s5": 0x80000001, "s6": 0xFFFF0000, "s7": 1},
         [("s10", 0x5A78), ("s11", 0x80000000), ("s12", 0xFFFF5A78), ("s13", 0x80000001), ("s14", int("{:032b}".format(0x80000001)[::-1], 2)),
          ("s15", int("{:032b}".format(0x12345A78)[::-1], 2)), ("s16", 0xFFFFFFA7), ("s17", M32)])
    test("s_bitset", "s_bitset1_b32 s6, 5; s_bitset0_b32 s7, s4", {"s4": 33, "s6": 1, "s7": M32}, [("s6", 33), ("s7", 0xFFFFFFFD)])
    test("call and return", "s_getpc_b64 s[4:5]; after:; s_add_u32 s4, s4, called-after; s_addc_u32 s5, s5, 0; s_swappc_b64 s[6:7], s[4:5]; s_branch over; called:; "
         "s_add_u32 s8, s8, 7; s_setpc_b64 s[6:7]; over:; s_add_u32 s8, s8, 1", {"s8": 0}, [("s8", 8)])
    test("mode changes rounding", "s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 2), 3; v_add_f32 v0, 1.0, v1; s_setreg_imm32_b32 hwreg(HW_REG_MODE, 0, 2), 0; v_add_f32 v2, 1.0, v1",
         {"v1": F32.encode(pow2(-24) * Fraction(3, 2))}, [("v0", 0x3F800000), ("v2", 0x3F800001)])


# ---- matrices --------------------------------------------------------------------------------------------------------

def matrices():
    family("wmma")

    def place(target, kind, K):
        """(lane, register, bit) of element (i, k) of A, by the tables of the two generations; B is the same with j for i."""
        width = {"f16": 16, "bf16": 16, "iu8": 8, "fp8": 8, "bf8": 8, "iu4": 4}[kind]

        def old(i, k):
            per = 32 // width
            return [(i, k // per, k % per * width), (i + 16, k // per, k % per * width)]

        def new(i, k):
            if width == 16:
                return [(i + 16 * (k // 4 % 2), 2 * (k // 8) + k // 2 % 2, k % 2 * 16)]
            if width == 8:
                return [(i + 16 * (k // 8), k // 4 % 2, k % 4 * 8)]
            if K == 16:
                return [(i + 16 * (k // 8), 0, k % 8 * 4)]
            return [(i + 16 * (k // 16), k // 8 % 2, k % 8 * 4)]

        return old if target == OLD else new

    def fragments(first, count, where, K, code):
        registers = [[0] * LANES for _ in range(count)]
        for i in range(16):
            for k in range(K):
                for lane, register, bit in where(i, k):
                    registers[register][lane] |= code(i, k) << bit
        return {"v%d" % (first + r): values for r, values in enumerate(registers)}

    def rows32(target, first, f):
        result = {}
        for v in range(8):
            result["v%d" % (first + v)] = lanes(lambda l: f(2 * v + l // 16 if target == OLD else v + 8 * (l // 16), l % 16))
        return result

    spread = list(range(256))
    rng.shuffle(spread)
    other = list(range(256))
    rng.shuffle(other)
    a_int = lambda i, k: spread[i * 16 + k]
    b_int = lambda k, j: other[k * 16 + j]
    for target in (OLD, NEW):
        half_registers = 8 if target == OLD else 4
        for kind, fmt in (("f16", F16), ("bf16", BF16)):
            A = lambda i, k: Fraction(a_int(i, k) - 100)
            B = lambda k, j: Fraction(b_int(k, j) - 77)
            C = lambda i, j: Fraction(i * 1000 + j * 17 - 5000)
            D = lambda i, j: sum(A(i, k) * B(k, j) for k in range(16)) + C(i, j)
            # bf16 and f16 hold integers up to 256 exactly; every partial sum is below 2^24, so f32 is exact in any order.
            where = place(target, kind, 16)
            ins = fragments(16, half_registers, where, 16, lambda i, k: fmt.encode(A(i, k)))
            ins.update(fragments(32, half_registers, where, 16, lambda j, k: fmt.encode(B(k, j))))
            ins.update(rows32(target, 48, lambda i, j: F32.encode(C(i, j))))
            test("v_wmma_f32_16x16x16_%s %s" % (kind, target), "v_wmma_f32_16x16x16_%s v[0:7], v[16:%d], v[32:%d], v[48:55]" % (kind, 15 + half_registers, 31 + half_registers), ins,
                 [(r, v, "f32") for r, v in rows32(target, 0, lambda i, j: F32.encode(D(i, j))).items()], target)
            test("v_wmma_f32_16x16x16_%s constant C %s" % (kind, target), "v_wmma_f32_16x16x16_%s v[0:7], v[16:%d], v[32:%d], 1.0" % (kind, 15 + half_registers, 31 + half_registers), ins,
                 [(r, v, "f32") for r, v in rows32(target, 0, lambda i, j: F32.encode(D(i, j) - C(i, j) + 1)).items()], target)
            test("v_wmma_f32_16x16x16_%s accumulates in place %s" % (kind, target), "v_wmma_f32_16x16x16_%s v[48:55], v[16:%d], v[32:%d], v[48:55]" % (kind, 15 + half_registers, 31 + half_registers), ins,
                 [(r, v, "f32") for r, v in rows32(target, 48, lambda i, j: F32.encode(D(i, j))).items()], target)
            # Results of the same narrow type: one rounding of a sum whose steps are exact in f32.
            As, Bs, Cs = (lambda i, k: A(i, k) / 256), (lambda k, j: B(k, j) / 256), (lambda i, j: Fraction(i * 16 + j - 128, 64) if kind == "f16" else Fraction(i - j))
            Ds = lambda i, j: fmt.encode(sum(As(i, k) * Bs(k, j) for k in range(16)) + Cs(i, j))
            ins = fragments(16, half_registers, where, 16, lambda i, k: fmt.encode(As(i, k)))
            ins.update(fragments(32, half_registers, where, 16, lambda j, k: fmt.encode(Bs(k, j))))
            if target == OLD:
                for high in (0, 1):
                    ins_ = dict(ins)
                    ins_.update(rows32(OLD, 48, lambda i, j: fmt.encode(Cs(i, j)) << 16 * high | (0x3333 << 16 * (1 - high))))
                    operands = "v[48:55], v[16:23], v[32:39], v[48:55]" + (" op_sel:[0,0,1]" if high else "")
                    test("v_wmma_%s_16x16x16_%s half %d" % (kind, kind, high), "v_wmma_%s_16x16x16_%s %s" % (kind, kind, operands), ins_,
                         [(r, v, "%s.%s~1" % (kind, "h" if high else "l")) for r, v in rows32(OLD, 48, lambda i, j: Ds(i, j) << 16 * high).items()], OLD)
            else:
                pairs = lambda f: {"v%d" % v: lanes(lambda l: f(2 * v + 8 * (l // 16), l % 16) | f(2 * v + 1 + 8 * (l // 16), l % 16) << 16) for v in range(4)}
                ins.update({"v%d" % (48 + int(r[1:])): v for r, v in pairs(lambda i, j: fmt.encode(Cs(i, j))).items()})
                test("v_wmma_%s_16x16x16_%s" % (kind, kind), "v_wmma_%s_16x16x16_%s v[0:3], v[16:19], v[32:35], v[48:51]" % (kind, kind), ins,
                     [(r, v, "%s~1" % kind) for r, v in pairs(Ds).items()], NEW)
        for kind, width, K in (("iu8", 8, 16), ("iu4", 4, 16)) + ((("iu4", 4, 32),) if target == NEW else ()):
            count = {(OLD, "iu8", 16): 4, (OLD, "iu4", 16): 2, (NEW, "iu8", 16): 2, (NEW, "iu4", 16): 1, (NEW, "iu4", 32): 2}[(target, kind, K)]
            code = (1 << width) - 1
            table_a = [[a_int(i, k % 16) * (1 + k // 16) + k & code for k in range(K)] for i in range(16)]
            table_b = [[b_int(k % 16, j) * (3 if k > 15 else 1) & code for j in range(16)] for k in range(K)]
            where = place(target, kind, K)
            span = lambda first: "v[%d:%d]" % (first, first + count - 1) if count > 1 else "v%d" % first
            for sa in (0, 1):
                for sb in (0, 1):
                    va = lambda x: signed(x, width) if sa else x
                    vb = lambda x: signed(x, width) if sb else x
                    C = lambda i, j: (i * 131 - j * 77) * 1000
                    if sa == sb == 1:
                        C = lambda i, j: 0x7FFFFFFF - i if i % 2 else -0x80000000 + j
                    exact = lambda i, j: sum(va(table_a[i][k]) * vb(table_b[k][j]) for k in range(K)) + C(i, j)
                    ins = fragments(16, count, where, K, lambda i, k: table_a[i][k])
                    ins.update(fragments(32, count, where, K, lambda j, k: table_b[k][j]))
                    ins.update(rows32(target, 48, lambda i, j: C(i, j) & M32))
                    name = "v_wmma_i32_16x16x%d_%s" % (K, kind)
                    base = "%s v[0:7], %s, %s, v[48:55] neg_lo:[%d,%d,0]" % (name, span(16), span(32), sa, sb)
                    test("%s %d %d %s" % (name, sa, sb, target), base, ins, list(rows32(target, 0, lambda i, j: exact(i, j) & M32).items()), target)
                    test("%s %d %d clamp %s" % (name, sa, sb, target), base + " clamp", ins,
                         list(rows32(target, 0, lambda i, j: max(-2**31, min(2**31 - 1, exact(i, j))) & M32).items()), target)
    formats = {"fp8": E4M3, "bf8": E5M2}
    plain = {n: [c for c in range(256) if f.decode(c)[1] not in (NAN, INF) and Fraction(1, 8) <= abs(f.value(c)) <= 8] for n, f in formats.items()}
    for ka in formats:
        for kb in formats:
            ta = [[rng.choice(plain[ka]) for _ in range(16)] for _ in range(16)]
            tb = [[rng.choice(plain[kb]) for _ in range(16)] for _ in range(16)]
            C = lambda i, j: Fraction(i * 16 + j - 99)
            D = lambda i, j: sum(formats[ka].value(ta[i][k]) * formats[kb].value(tb[k][j]) for k in range(16)) + C(i, j)
            where = place(NEW, "fp8", 16)
            ins = fragments(16, 2, where, 16, lambda i, k: ta[i][k])
            ins.update(fragments(32, 2, where, 16, lambda j, k: tb[k][j]))
            ins.update(rows32(NEW, 48, lambda i, j: F32.encode(C(i, j))))
            name = "v_wmma_f32_16x16x16_%s_%s" % (ka, kb)
            test(name, name + " v[0:7], v[16:17], v[32:33], v[48:55]", ins, [(r, v, "f32") for r, v in rows32(NEW, 0, lambda i, j: F32.encode(D(i, j))).items()], NEW)


# ---- faults ----------------------------------------------------------------------------------------------------------

def faults():
    family("faults")
    test("load out of bounds", "global_load_b32 v0, v1, s[98:99]", {"v1": lanes(lambda l: 4 * l if l != 19 else 0x100000)}, fault="700 global_load_b32", wait="vector")
    test("one byte beyond the end", "global_load_u8 v0, v1, s[98:99]", {"v1": 4096}, fault="700 global_load_u8", wait="vector")
    test("last bytes are in bounds", "global_load_b32 v0, v1, s[98:99]", {"v1": 4092, "mem ffc": 8}, [("v0", 8)], wait="vector")
    test("store out of bounds", "global_store_b64 v1, v[2:3], s[98:99]", {"v1": 4092}, fault="700 global_store_b64", wait="vector")
    test("before the start", "global_load_b32 v0, v1, s[98:99] offset:-4", {"v1": 0}, fault="700 global_load_b32", wait="vector")
    test("scalar load out of bounds", "s_load_b32 s4, s[4:5], 0x0", {"s4": 64, "s5": 0}, fault="700 s_load_b32", wait="scalar")
    test("atomic out of bounds", "global_atomic_add_u32 v1, v2, s[98:99]", {"v1": 0x1000, "v2": 1}, fault="700 global_atomic_add_u32", wait="vector")
    test("misaligned", "global_load_b32 v0, v1, s[98:99]", {"v1": 2}, fault="* misaligned global_load_b32", wait="vector")
    test("LDS out of range", "ds_load_b32 v0, v1", {"v1": 1024}, fault="* ds_load_b32", wait="lds", lds=1024)
    test("LDS misaligned", "ds_store_b64 v1, v[2:3]", {"v1": 2}, fault="* ds_store_b64", wait="lds", lds=1024)
    test("scratch out of range", "scratch_load_b32 v0, off, off offset:64", {}, fault="* scratch_load_b32", wait="vector", scratch=64)
    test("endless loop", "again:; s_branch again", {}, fault="* s_branch")
    # A wave that ended has arrived, so only gfx12 can wait for what cannot come: a wait without the signal.
    test("divergent barrier", "v_readfirstlane_b32 s4, v255; s_cmp_eq_u32 s4, 0; s_cbranch_scc0 done; s_barrier_wait -1; done:; s_nop 0", targets=NEW,
         lanes=64, fault="* barrier")
    test("a wave that never arrives", "v_readfirstlane_b32 s4, v255; s_cmp_eq_u32 s4, 0; s_cbranch_scc1 loop; s_barrier; s_branch done; loop:; s_branch loop; done:; s_nop 0",
         targets=OLD, lanes=64, fault="* s_branch")
    test("unknown instruction", ".long 0xfffffffe", {}, fault="* ")
    test("WMMA halves differ", "v_wmma_f32_16x16x16_f16 v[0:7], v[16:23], v[32:39], v[48:55]",
         dict([("v%d" % r, 0) for r in list(range(17, 24)) + list(range(32, 40)) + list(range(48, 56))] + [("v16", lanes(lambda l: l))]), targets=OLD, fault="* v_wmma")


scalar()
vector_integer()
vector_float()
packed()
across()
memory()
various()
matrices()
faults()
out.close()
