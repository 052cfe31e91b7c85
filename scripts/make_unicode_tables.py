"""Writes src/io/unicode_tables.inc: where the Unicode data that published tokenizers were made with differ from those of
utf8proc (Unicode 14, as Python 3.11's unicodedata): characters that came later, and those that older tables lack.

Usage: $(benchmarks/peers/environment.sh tokenizers==0.23.3) scripts/make_unicode_tables.py

Asks the tokenizers package, character by character, what each of its components does, and keeps the differences as ranges.
"""
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CODES = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]
CATEGORY = {c: unicodedata.category(chr(c)) for c in CODES}
assert unicodedata.unidata_version == "14.0.0"
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co".split()


def ranges(codes):
    result = []
    for c in sorted(codes):
        if result and result[-1][1] == c - 1:
            result[-1][1] = c
        else:
            result.append([c, c])
    return result


def matched(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed")
    found = set()
    for i in range(0, len(CODES), 20000):
        chunk = CODES[i : i + 20000]
        kept = {ord(c) for piece, _ in split.pre_tokenize_str("".join(map(chr, chunk))) for c in piece}
        found.update(c for c in chunk if c not in kept)
    return found


def vanish(normalizer):
    return {c for c in CODES if normalizer.normalize_str("a" + chr(c) + "b") == "ab"}


def isolated(pre_tokenizer):
    return {c for c in CODES if len(pre_tokenizer.pre_tokenize_str("a" + chr(c) + "b")) > 1}


def of(*categories):
    return {c for c in CODES if CATEGORY[c] in categories}


def bert(**options):
    return normalizers.BertNormalizer(**{**dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False), **options})


def same_in_forms(c):
    """Whether normal forms treat the character, alone and among marks of other classes, as Unicode 14 does."""
    nfd, nfkd = normalizers.NFD(), normalizers.NFKD()
    if nfkd.normalize_str(chr(c)) != unicodedata.normalize("NFKD", chr(c)):
        return False
    texts = ["a" + chr(c) + "\u0334", "a\u0345" + chr(c), "a" + chr(c) + "\u0301", "a" + chr(c) + "\u0323", "a\u0301" + chr(c)]
    return all(nfd.normalize_str(t) == unicodedata.normalize("NFD", t) for t in texts)


def line(out, text, indent="    "):
    if out and len(out[-1]) + len(text) + 1 <= 118 and out[-1].startswith(indent):
        out[-1] += " " + text
    else:
        out.append(indent + text)


def table(out, name, comment, codes):
    out += ["// " + comment, "constexpr std::array<Range, %d> %s = {{" % (len(ranges(codes)), name)]
    start = len(out)
    body = []
    for a, b in ranges(codes):
        line(body, "{0x%X, 0x%X}," % (a, b))
    out[start:] = body + ["}};", ""]


def main():
    out = ["// Made by scripts/make_unicode_tables.py; not to be edited. Ranges are inclusive and rise.", ""]
    later = []
    for category in CATEGORIES:
        now = matched(r"\p{%s}" % category)
        later += [(a, b, category) for a, b in ranges(c for c in now if CATEGORY[c] == "Cn")]
        changed = [c for c in now if CATEGORY[c] not in ("Cn", category)]
        later += [(a, b, category) for a, b in ranges(changed)]
    later.sort()
    out += ["// The categories of characters that are newer than Unicode 14, or were changed since; as of Unicode 16.",
            "constexpr std::array<CategoryRange, %d> kLater = {{" % len(later)]
    body = []
    for a, b, category in later:
        line(body, "{0x%X, 0x%X, Category::%s}," % (a, b, category.lower()))
    out += body + ["}};", ""]

    new = {c for a, b, _ in later for c in range(a, b + 1)}
    table(out, "kHan", "The script Han (Unicode 16).", matched(r"\p{Han}"))
    inert = {c for c in CODES if not same_in_forms(c)}
    marks = {c for c in new if CATEGORY[c] == "Cn"} | inert
    table(out, "kInert", "Unknown to normal forms of Unicode 9: neither decomposed nor reordered nor composed.",
          {c for c in marks if c in inert or unicodedata.category(chr(c)) == "Cn"})
    punctuation = isolated(pre_tokenizers.Punctuation())
    ascii_marks = set(map(ord, "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"))
    known = of("Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po")
    table(out, "kNoBertPunctuation", "Punctuation that the tables of the Punctuation and Bert pre-tokenizers lack.", known - punctuation)
    table(out, "kBertPunctuation", "What they have beside category P and ASCII.", punctuation - known - ascii_marks)
    mn = vanish(bert(strip_accents=True))
    table(out, "kNoBertMark", "Category Mn that BertNormalizer keeps when it strips accents.", of("Mn") - mn)
    table(out, "kBertMark", "What it strips beside Mn.", mn - of("Mn"))
    accents = vanish(normalizers.StripAccents())
    table(out, "kNoAccent", "Category M that StripAccents keeps.", of("Mn", "Mc", "Me") - accents)
    table(out, "kAccent", "What it strips beside M.", accents - of("Mn", "Mc", "Me"))
    cleaned = vanish(bert(clean_text=True))
    table(out, "kNoBertControl", "Categories Cc, Cf and Co that clean_text keeps (blanks become a blank).",
          {c for c in of("Cc", "Cf", "Co") - cleaned if c not in (9, 10, 13)})
    table(out, "kBertControl", "What clean_text drops beside them.", cleaned - of("Cc", "Cf", "Co"))
    numeric = isolated(pre_tokenizers.Digits(individual_digits=True))
    old = of("Nd", "Nl", "No") | {c for a, b, k in later if k in ("Nd", "Nl", "No") for c in range(a, b + 1)}
    assert not old - numeric
    table(out, "kNumeric", "Numbers of Unicode 17, for the Digits pre-tokenizer.", numeric - old)
    word = matched(r"\w")
    late = lambda *ks: {c for a, b, k in later if k in ks for c in range(a, b + 1)}
    basic = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl Pc".split()
    assert not (of(*basic) | late(*basic)) - word
    table(out, "kWord", "Word characters beside categories L, M, Nd, Nl and Pc.", word - of(*basic) - late(*basic))
    lower = normalizers.Lowercase()
    simple = {c: lower.normalize_str(chr(c)) for c in CODES if lower.normalize_str(chr(c)) != chr(c).lower()}
    body = []
    runs = []
    for c, text in sorted(simple.items()):
        assert len(text) == 1
        delta = ord(text) - c
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == delta:
            runs[-1][1] = c
        else:
            runs.append([c, c, delta])
    out += ["// Lower case of letters newer than Unicode 14: the distance to it.", "constexpr std::array<LowerRange, %d> kLaterLower = {{" % len(runs)]
    for a, b, d in runs:
        line(body, "{0x%X, 0x%X, %d}," % (a, b, d))
    out += body + ["}};"]
    with open("src/io/unicode_tables.inc", "w") as f:
        f.write("\n".join(out) + "\n")


main()
