#!/usr/bin/env python3
"""Makes the goldens of the tokenizer tests with the reference implementations.

Needs the packages tokenizers, sentencepiece, jinja2 and mistral-common; with --gguf FILE also gguf. Writes goldens/*.json beside itself:
small vocabularies trained on the sentences below, texts with the ids the reference gives, ids with the text it gives, and
chat templates (templates/*.jinja and one-liners) with what Python's Jinja renders. With --gguf the ids of a real
vocabulary are written too: texts and ids only, the vocabulary stays in the GGUF.
"""

import argparse
import base64
import io
import json
import pathlib
import random

import sentencepiece
import tokenizers
import chat_goldens
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent

SENTENCES = [
    "The quick brown fox jumps over the lazy dog, and the dog doesn't mind at all.",
    "A kernel reads its weights once; everything else stays in registers.",
    "We'll see what they've done, I'd say it's fine and you're right, I'm sure.",
    "Numbers like 0, 7, 42, 1999, 2026 and 3.14159 or 1,000,000 are split in different ways.",
    "Größe, Übermut, straße, naïve café, déjà vu, façade, señor, smörgåsbord.",
    "Быстрая коричневая лиса прыгает через ленивую собаку.",
    "Η γρήγορη αλεπού πηδάει πάνω από τον τεμπέλη σκύλο.",
    "敏捷的棕色狐狸跳过了懒狗。今天天气很好，我们去公园吧。",
    "素早い茶色の狐がのろまな犬を飛び越える。カタカナとひらがな。",
    "빠른 갈색 여우가 게으른 개를 뛰어넘는다.",
    "الثعلب البني السريع يقفز فوق الكلب الكسول.",
    "השועל החום המהיר קופץ מעל הכלב העצלן.",
    "तेज़ भूरी लोमड़ी आलसी कुत्ते के ऊपर कूदती है।",
    "สุนัขจิ้งจอกสีน้ำตาลกระโดดข้ามสุนัขขี้เกียจ",
    "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; } // dot product",
    "def encode(text: str) -> list[int]:\n    return [vocab[piece] for piece in split(text)]",
    "#include <vector>\n\nint main() {\n\treturn 0;\n}\n",
    "SELECT name, count(*) FROM words WHERE length > 3 GROUP BY name;",
    "The memory is read in order, the order is the layout, the layout is the kernel's.",
    "Emoji: 😀 👍🏽 👩‍👩‍👧‍👦 🇩🇪 ❤️ and symbols ∑ ∞ ≠ → € £ ¥ © ™.",
    "What is the capital of France? The capital of France is Paris.",
    "Once upon a time there was a small model that lived in a single file.",
]

TEXTS = [
    "",
    " ",
    "  ",
    "   leading and trailing   ",
    "a",
    "Hello, world!",
    "Hello,  world!   How are   you?",
    "It's what they've done; I'LL say IT'S fine, you'Re right, 'tis.",
    "don't can't won't 'S 'ſ ’s",
    "0 1 12 123 1234 12345678901234567890",
    "3.14e-10 +7 1,000,000 ½ ⅷ ² ٣٤٥ १२३ 一二三 ①",
    "\t\ttabs\tand\n\nnewlines\r\nand\rreturns\n",
    "\n", "\n\n\n", " \n \n ", "\r\n\r\n", "a\n b\n  c\n   d", "x  \n\n  y",
    "odd\u00a0spaces\u2003here\u3000and\u200bzero\u2009thin\u0085nel\u180emvs\ufeffbom",
    "\u2028line\u2029paragraph\u000bvt\u000cff\u001cfs",
    "Größe naïve café déjà vu Ünïcödé straße ẞ ﬁ ﬂ Å Å Ω Ω",
    "cafe\u0301 e\u0301\u0323 \u1e69 s\u0307\u0323 \u0041\u030a",
    "Быстрая лиса ЁЖИК їжак", "Η γρήγορη αλεπού ΣΊΣΥΦΟΣ", "敏捷的棕色狐狸，跳过了懒狗。", "素早い茶色の狐カタカナ",
    "빠른 갈색 여우 \u1112\u1161\u11ab", "الثعلب البني السَّرِيع", "הַשּׁוּעָל הַחוּם", "तेज़ भूरी लोमड़ी क्षत्रिय", "สุนัขจิ้งจอกน้ำ", "மொழி தமிழ்", "ქართული", "Հայերեն",
    "😀😃👍🏽 👩‍👩‍👧‍👦 🇩🇪🇫🇷 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 #️⃣", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 𠜎", "z\u0335a\u0334l\u0336g\u0337o\u0338",
    "for (int i=0;i<n;++i){sum+=a[i]*b[i];}//dot", "if x == y:\n\treturn {'a': [1, 2], \"b\": None}\n",
    "#include <vector>\n\n\nint main() {\n    return 0;\n}", "https://example.org/a/b?c=d&e=%20#f", "a_b-c.d/e\\f|g~h`i^j",
    "!!!??? ... ,,, ((([[[{{{}}}]]])))", "<|im_start|>user\nhi<|im_end|>", "<|im_start|><|im_end|>", "<|im_start", "<s>hi</s>", "<unk><pad>",
    "x<|im_start|>  y <|im_end|> z", "<|im_start|><|im_start|>>", "<tool_call>{}</tool_call>", "<tool<tool_call>>", "  <tool_call>  ",
    "[INST] hi [/INST]", "▁under▁score▁", "Ġ Ċ ġ", "<0x41><0x0A>", "CamelCaseWordsAndHTTPServer XMLHttpRequest iOS McDonald",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "ab" * 500, "the" * 400, " " * 300, "\n" * 100, "1" * 200, "狐" * 200, "e\u0301" * 100, "😀" * 60, "x " * 200,
    "The capital of France is", "Once upon a time there was a small model.", "\x00nul\x01soh\x7fdel\x1besc",
    "\u0378\U000e0001\ufffe\uffff\U0010ffff unassigned", "\ufffd replacement",
]


def random_texts(count):
    rng = random.Random(7)
    alphabets = ["abcdefgh ETAOIN", "0123456789 .,", " \t\n\r\u00a0\u2003", "äöüßéèñç", "абвгд ЖЗ", "中文字日本語", "😀👍🏽\u200d🇩", "'sdtm'lrev", "<|im_start|>", "\u0301\u0323\u0307aeo", "!?-_/\\()[]{}"]
    out = []
    for _ in range(count):
        text = ""
        for _ in range(rng.randint(1, 8)):
            alphabet = rng.choice(alphabets)
            text += "".join(rng.choice(alphabet) for _ in range(rng.randint(1, 9)))
        out.append(text)
    return out


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
          r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
          r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")

BYTE_LEVEL = [
    # name, patterns, digits alone, NFC, ignore merges
    ("smollm", [GPT2], True, False, False),
    ("gpt2", [GPT2], False, False, False),
    ("llama3", [LLAMA3], False, False, True),
    ("qwen2", [QWEN2], False, True, False),
    ("tekken", [TEKKEN], False, False, True),
]
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>>"]
USER = ["<tool_call>", "</tool_call>"]


def b64(data):
    return base64.b64encode(data).decode("ascii")


def pieces_json(pieces):
    return [{"text": b64(text.encode("utf-8")), "score": score, "type": kind} for text, score, kind in pieces]


def write(name, value):
    path = HERE / "goldens" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(f"{path.name}: {path.stat().st_size} bytes")


def text_json(text):
    # Base64 keeps NULs, unassigned characters and broken bytes as they are.
    return b64(text if isinstance(text, bytes) else text.encode("utf-8"))


BROKEN = [b"\xff", b"ab\xc3", b"\xe2\x82", b"\xf0\x9f\x98", b"\xf0\x9f\x98 x", b"\xc0\xaf", b"\xed\xa0\x80", b"a\x80b\xbfc", b"\xf4\x90\x80\x80", b"\xe2\x28\xa1", b"ok \xf0\x28\x8c\xbc \xc3\xa9"]


def reference_cases(encode, decode):
    """`encode(text, parse special)` and `decode(ids, skip special)` of the reference."""
    cases = []
    for text in TEXTS + random_texts(120):
        for special in (False, True):
            ids = encode(text, special)
            if special and cases[-1]["ids"] == ids:
                cases[-1]["either"] = True
            else:
                cases.append({"text": text_json(text), "special": special, "ids": ids})
    for raw in BROKEN:
        cases.append({"text": text_json(raw), "special": False, "ids": encode(raw.decode("utf-8", "replace"), False)})
    rng = random.Random(11)
    decodes = []
    for case in cases[:: max(1, len(cases) // 60)]:
        decodes.append(case["ids"])
    return cases, decodes, rng


def byte_level(name, patterns, digits, nfc, ignore_merges):
    splitters = []
    if digits:
        splitters.append(pre_tokenizers.Digits(individual_digits=True))
    if patterns == [GPT2]:
        splitters.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True))
    else:
        splitters += [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
        splitters.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tok = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence(splitters)
    tok.decoder = decoders.ByteLevel()
    if nfc:
        tok.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=CONTROL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(SENTENCES * 3, trainer)
    tok.add_tokens([AddedToken(t, normalized=False) for t in USER])
    spec = json.loads(tok.to_str())
    merges = [m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"]]
    vocabulary = sorted(tok.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
    kinds = {**{t: "CONTROL" for t in CONTROL}, **{t: "USER_DEFINED" for t in USER}}
    data = {
        "kind": "BYTE_LEVEL_BPE", "pieces": pieces_json([(t, 0.0, kinds.get(t, "NORMAL")) for t, _ in vocabulary]),
        "merges": merges, "preSplit": patterns, "digitsAlone": digits, "nfc": nfc, "ignoreMerges": ignore_merges,
        "bos": 0, "eos": 2, "unknown": -1,
    }

    def encode(text, special):
        tok.encode_special_tokens = not special
        return tok.encode(text, add_special_tokens=False).ids

    cases, decodes, rng = reference_cases(encode, tok.decode)
    size = len(vocabulary)
    decodes += [[rng.randrange(size) for _ in range(rng.randint(1, 24))] for _ in range(150)]
    byte_ids = [i for t, i in vocabulary if len(t) == 1]
    decodes += [[rng.choice(byte_ids) for _ in range(rng.randint(1, 12))] for _ in range(150)]
    decoded = [{"ids": ids, "skip": skip, "text": text_json(tok.decode(ids, skip_special_tokens=skip))} for ids in decodes for skip in (False, True)]
    write(f"bpe_{name}", {"data": data, "cases": cases, "decodes": decoded})


def sentence_piece(name, **options):
    gguf = options.pop("as_gguf", False)
    model = io.BytesIO()
    # The trainer drops tabs and newlines from its sentences; the texts have them.
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([s.replace("\n", " ") for s in SENTENCES] * 3), model_writer=model, vocab_size=700, byte_fallback=options.pop("byte_fallback", True),
        hard_vocab_limit=False, character_coverage=0.98, minloglevel=2, num_threads=1, **options)
    sp = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    kinds = []
    for i in range(sp.get_piece_size()):
        kind = "CONTROL" if sp.is_control(i) else "UNKNOWN" if sp.is_unknown(i) else "BYTE" if sp.is_byte(i) else "UNUSED" if sp.is_unused(i) else "NORMAL"
        if sp.id_to_piece(i) in options.get("user_defined_symbols", []):
            kind = "USER_DEFINED"
        kinds.append((sp.id_to_piece(i), sp.get_score(i), kind))
    data = {"kind": "SENTENCEPIECE", "bos": sp.bos_id(), "eos": sp.eos_id(), "unknown": sp.unk_id(), "addBos": True,
            "addSpacePrefix": options.get("add_dummy_prefix", True)}
    if gguf:
        data["pieces"] = pieces_json(kinds)
    else:
        data["sentencepieceModel"] = b64(model.getvalue())

    cases, decodes, rng = reference_cases(lambda text, special: sp.encode(text), sp.decode)
    # The library never parses control pieces; those cases are the tokenizer's own and tested apart.
    spelled = [sp.id_to_piece(i).encode() for i in range(sp.get_piece_size()) if sp.is_control(i)]
    for case in cases:
        if any(s in base64.b64decode(case["text"]) for s in spelled):
            case.pop("either", None)
    size = sp.get_piece_size()
    plain = [i for i in range(size) if not sp.is_control(i)]
    decodes += [[rng.choice(plain) for _ in range(rng.randint(1, 24))] for _ in range(150)]
    byte_ids = [i for i in range(size) if sp.is_byte(i)] or plain
    decodes += [[rng.choice(byte_ids) for _ in range(rng.randint(1, 12))] for _ in range(150)]
    decoded = [{"ids": ids, "skip": False, "text": text_json(sp.decode(ids))} for ids in decodes]
    write(f"spm_{name}", {"data": data, "cases": cases, "decodes": decoded})


TEKKEN_SPECIAL = 30


def tekken():
    """A small tekken.json, of the merges that a byte-level BPE learns, and what mistral-common reads with it."""
    from mistral_common.tokens.tokenizers.tekken import SpecialTokenPolicy, Tekkenizer

    pattern = next(patterns for name, patterns, *_ in BYTE_LEVEL if name == "tekken")[0]
    tok = tokenizers.Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tok.train_from_iterator(SENTENCES * 3, trainers.BpeTrainer(vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    characters = sorted(pre_tokenizers.ByteLevel.alphabet())
    printable = [b for b in range(256) if chr(b) in characters]
    byte_of = {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in printable)}
    learned = [bytes(byte_of[c] for c in piece) for piece, _ in sorted(tok.get_vocab().items(), key=lambda item: item[1])]
    # A run of spaces that only itself spells: a word that is a piece is not merged. Then pieces that the model leaves out.
    ranks = [bytes([b]) for b in range(256)] + [piece for piece in learned if len(piece) > 1] + [b" " * 7]
    size = TEKKEN_SPECIAL + len(ranks)
    ranks += [b"The", b"lazy dog"]
    file = {
        "config": {"pattern": pattern, "num_vocab_tokens": len(ranks), "default_vocab_size": size, "default_num_special_tokens": TEKKEN_SPECIAL, "version": "v3"},
        "vocab": [{"rank": i, "token_bytes": b64(piece), "token_str": None} for i, piece in enumerate(ranks)],
        "special_tokens": list(Tekkenizer.DEPRECATED_SPECIAL_TOKENS),
    }
    write("tekken_file", file)
    reader = Tekkenizer.from_file(HERE / "goldens" / "tekken_file.json")
    # Special tokens are never read from text, so both kinds of case are the same.
    cases, decodes, rng = reference_cases(lambda text, special: reader.encode(text, False, False), None)
    cases = [{"text": case["text"], "ids": case["ids"]} for case in cases]
    decodes += [[rng.randrange(size) for _ in range(rng.randint(1, 24))] for _ in range(150)]
    decodes += [[TEKKEN_SPECIAL + rng.randrange(256) for _ in range(rng.randint(1, 12))] for _ in range(150)]
    decoded = []
    for ids in decodes:
        for skip, policy in ((False, SpecialTokenPolicy.KEEP), (True, SpecialTokenPolicy.IGNORE)):
            # A character's bytes may stand on both sides of a special token that is left out.
            text = b"".join(reader.id_to_byte_piece(i, policy) for i in ids).decode("utf-8", "replace")
            decoded.append({"ids": ids, "skip": skip, "text": text_json(text)})
    write("tekken", {"size": size, "cases": cases, "decodes": decoded})


# Jinja. chat_goldens.py has the environment and the conversations.

VARIABLES = {
    "a": 1, "b": 2.5, "t": True, "f": False, "n": None, "s": "Hello World", "e": "", "u": "straße ΑΣ éa 😀", "l": [3, 1, 2], "w": ["b", "A", "c", "a"],
    "d": {"x": 1, "y": [1, 2], "Z": None, "items": "own"}, "q": "it's \"q\" \\ \n\t\u00e9\u200b\U0001f600", "m": [{"r": "u", "c": "1", "k": {"v": 3}}, {"r": "a", "c": "2", "k": {"v": 1}}, {"r": "u", "c": "3"}],
    "big": 12345678901234567, "neg": -7, "small": 1e-7, "huge": 1e22, "third": 1 / 3, "lines": "one\n\n two\r\nthree\n", "nested": [[1, [2, 3]], {"k": [1, 2]}],
}

SNIPPETS = (HERE / "snippets.txt").read_text().split("\n%%\n")


def snippet_cases():
    out = []
    for source in SNIPPETS:
        case = {"source": source}
        try:
            case["text"] = chat_goldens.environment().from_string(source).render(**VARIABLES)
        except Exception as error:
            case["error"] = f"{type(error).__name__}: {error}"
        out.append(case)
    return out


def real_vocabulary(path):
    import gguf

    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields[f"tokenizer.ggml.{key}"].contents()
    if get("pre") != "smollm":
        raise SystemExit(f"{path}: expected the pre-tokenizer smollm, got {get('pre')}")
    pieces = get("tokens")
    tok = tokenizers.Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(pieces)}, merges=[tuple(m.split(" ")) for m in get("merges")]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([pieces[i] for i, kind in enumerate(get("token_type")) if kind == 3])

    def encode(text, special):
        tok.encode_special_tokens = not special
        return tok.encode(text, add_special_tokens=False).ids

    cases, decodes, rng = reference_cases(encode, tok.decode)
    decodes += [[rng.randrange(len(pieces)) for _ in range(rng.randint(1, 24))] for _ in range(100)]
    decoded = [{"ids": ids, "skip": True, "text": text_json(tok.decode(ids, skip_special_tokens=True))} for ids in decodes]
    write("real_smollm2", {"cases": cases, "decodes": decoded})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", help="a GGUF of SmolLM2, for goldens/real_smollm2.json")
    args = parser.parse_args()
    for style in BYTE_LEVEL:
        byte_level(*style)
    rules = HERE / "normalisation.tsv"
    sentence_piece("bpe", model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False)
    sentence_piece("gguf", model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False, as_gguf=True)
    sentence_piece("gguf_no_prefix", model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
                   user_defined_symbols=["<tool_call>", "</tool_call>", "\t\t"], as_gguf=True)
    sentence_piece("unigram", model_type="unigram", normalization_rule_tsv=str(rules), user_defined_symbols=["<tool_call>"])
    sentence_piece("bpe_normalised", model_type="bpe", normalization_rule_tsv=str(rules), split_digits=True)
    sentence_piece("unknown_unigram", model_type="unigram", normalization_rule_name="identity", byte_fallback=False, remove_extra_whitespaces=False)
    sentence_piece("unknown_bpe", model_type="bpe", normalization_rule_name="identity", byte_fallback=False, treat_whitespace_as_suffix=True)
    tekken()
    write("chat", chat_goldens.goldens(HERE / "templates"))
    write("snippets", {"variables": VARIABLES, "now": "2026-03-09T07:05:03", "cases": snippet_cases()})
    if args.gguf:
        real_vocabulary(args.gguf)


if __name__ == "__main__":
    main()
