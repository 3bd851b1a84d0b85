"""Exact arithmetic for the derivation of test vectors: IEEE formats as fractions, rounded once, to nearest even.

Python's own floats are used nowhere, so that nothing here can share a rounding mistake with a C++ compiler."""

from fractions import Fraction

NAN, INF = "nan", "inf"


class Format:
    """A binary floating-point format: total bits, exponent bits; `finite` formats (e4m3) have one NaN and no infinity."""

    def __init__(self, bits, exponent, finite=False):
        self.bits, self.exponent, self.finite = bits, exponent, finite
        self.mantissa = bits - 1 - exponent
        self.bias = (1 << (exponent - 1)) - 1
        self.mask = (1 << bits) - 1

    def decode(self, word):
        """(sign, value): value a Fraction, INF or NAN."""
        word &= self.mask
        sign = word >> (self.bits - 1)
        e = (word >> self.mantissa) & ((1 << self.exponent) - 1)
        m = word & ((1 << self.mantissa) - 1)
        top = (1 << self.exponent) - 1
        if self.finite:
            if e == top and m == (1 << self.mantissa) - 1:
                return sign, NAN
        elif e == top:
            return sign, NAN if m else INF
        if e == 0:
            return sign, Fraction(m) * pow2(1 - self.bias - self.mantissa)
        return sign, Fraction(m + (1 << self.mantissa)) * pow2(e - self.bias - self.mantissa)

    def value(self, word):
        """The signed Fraction of a finite word."""
        sign, value = self.decode(word)
        return -value if sign else value

    def encode(self, value, negative_zero=False, mode="even"):
        """The word nearest to a Fraction; `mode` may be even, zero, up or down. Overflow gives infinity or the largest."""
        sign = value < 0 or (value == 0 and negative_zero)
        top = sign << (self.bits - 1)
        value = abs(value)
        if value == 0:
            return top
        e = value.numerator.bit_length() - value.denominator.bit_length()
        if pow2(e) > value:
            e -= 1
        e = max(e, 1 - self.bias)
        step = pow2(e - self.mantissa)
        whole, rest = divmod(value, step)
        whole = int(whole)
        half = step / 2
        if mode == "even":
            whole += rest > half or (rest == half and whole & 1)
        elif (mode == "up" and not sign or mode == "down" and sign) and rest:
            whole += 1
        if whole >> (self.mantissa + 1):
            whole >>= 1
            e += 1
        if e > self.bias and not self.finite:
            infinite = mode == "even" or (mode == "up" and not sign) or (mode == "down" and sign)
            word = ((1 << self.exponent) - 1) << self.mantissa
            return top | (word if infinite else word - 1)
        field = 0 if whole < (1 << self.mantissa) else e + self.bias
        return top | field << self.mantissa | whole & ((1 << self.mantissa) - 1)


def pow2(n):
    return Fraction(1 << n) if n >= 0 else Fraction(1, 1 << -n)


F32, F16, BF16, F64 = Format(32, 8), Format(16, 5), Format(16, 8), Format(64, 11)
E4M3, E5M2 = Format(8, 4, finite=True), Format(8, 5)


def special(fmt, words):
    return any(fmt.decode(w)[1] in (NAN, INF) for w in words)


def infinity(fmt, sign):
    return sign << (fmt.bits - 1) | ((1 << fmt.exponent) - 1) << fmt.mantissa


def add(fmt, a, b):
    (sa, va), (sb, vb) = fmt.decode(a), fmt.decode(b)
    if NAN in (va, vb) or (va == INF and vb == INF and sa != sb):
        return NAN
    if va == INF:
        return a
    if vb == INF:
        return b
    return fmt.encode((-va if sa else va) + (-vb if sb else vb), sa and sb)


def multiply(fmt, a, b):
    (sa, va), (sb, vb) = fmt.decode(a), fmt.decode(b)
    if NAN in (va, vb) or {va, vb} == {INF, Fraction(0)}:
        return NAN
    if INF in (va, vb):
        return infinity(fmt, sa ^ sb)
    return fmt.encode((-1) ** (sa ^ sb) * va * vb, sa ^ sb)


def fma(fmt, a, b, c):
    (sa, va), (sb, vb), (sc, vc) = fmt.decode(a), fmt.decode(b), fmt.decode(c)
    if NAN in (va, vb, vc) or {va, vb} == {INF, Fraction(0)}:
        return NAN
    if INF in (va, vb):
        return NAN if vc == INF and sc != sa ^ sb else infinity(fmt, sa ^ sb)
    if vc == INF:
        return c
    product = (-1) ** (sa ^ sb) * va * vb
    return fmt.encode(product + (-vc if sc else vc), (sa ^ sb) and sc)


def divide(fmt, a, b):
    (sa, va), (sb, vb) = fmt.decode(a), fmt.decode(b)
    if NAN in (va, vb) or va == vb == INF or va == vb == 0:
        return NAN
    sign = sa ^ sb
    if va == INF or vb == 0:
        return infinity(fmt, sign)
    if vb == INF:
        return sign << (fmt.bits - 1)
    return fmt.encode((-1) ** sign * va / vb, sign)


def negate(fmt, a):
    return a ^ 1 << (fmt.bits - 1)


def key(fmt, a):
    """Orders words that are no NaN; -0 below +0."""
    sign, value = fmt.decode(a)
    value = pow2(2000) if value == INF else value
    return (-value if sign else value, 0 if sign else 1)


def extreme(fmt, a, b, largest):
    """IEEE minNum / maxNum: a NaN operand loses to a number."""
    if fmt.decode(a)[1] == NAN:
        return NAN if fmt.decode(b)[1] == NAN else b
    if fmt.decode(b)[1] == NAN:
        return a
    return (max if largest else min)(a, b, key=lambda w: key(fmt, w))


def convert(source, target, a, mode="even"):
    sign, value = source.decode(a)
    if value == NAN:
        return NAN
    if value == INF:
        return infinity(target, sign)
    return target.encode(-value if sign else value, sign, mode)


def to_integer(fmt, a, low, high, rounding=int):
    """Saturating conversion; NaN gives 0. `rounding` takes a Fraction, int() truncates."""
    sign, value = fmt.decode(a)
    if value == NAN:
        return 0
    if value == INF:
        return low if sign else high
    return max(low, min(high, rounding(-value if sign else value)))


def signed(word, bits=32):
    word &= (1 << bits) - 1
    return word - (1 << bits) if word >> (bits - 1) else word


def extend(word, bits):
    return signed(word, bits) & 0xFFFFFFFF
