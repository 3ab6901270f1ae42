"""Texts and bytes that somebody made worse: valid ones, changed at random places in the ways that break parsers."""

import random

PIECES = [
    *("{", "}", "[", "]", '"', ",", ":", "\\", "\\u0000", "\\ud800", "\x00", "\ufeff", "\u202e", "\u2028", "\x1b[2J"),
    *(
        "1",
        "2",
        "9",
        "a",
        "e",
        " ",
        "_",
        "null",
        "true",
        "NaN",
        "Infinity",
        "-1",
        "0",
        "1e400",
        "9" * 400,
        "0.1",
        "1_0",
    ),
    *(
        "0x10",
        "''",
        '"""',
        "#",
        "=",
        "../../etc/passwd",
        "file:///etc/passwd",
        "<script>",
        "{{7*7}}",
        "${HOME}",
        "%s%n",
    ),
    *("[bold]", "[/]", "=1+1", "[" * 5_000, "{" * 300, '{"a":' * 2_000, "a" * 70_000, "\n" * 50, "\r", "\t", "∞", "🙂"),
]


def worse(text: str, draw: random.Random) -> str:
    """Return a text with up to six changes: pieces put in, parts cut out, doubled, swapped or replaced."""
    for _ in range(draw.choice((1, 1, 1, 2, 6))):
        a, b = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
        b = min(b, a + draw.choice((1, 1, 3, 20, 10_000)))
        way = draw.randrange(5)
        if way == 0:
            text = text[:a] + draw.choice(PIECES) + text[a:]
        elif way == 1:
            text = text[:a] + text[b:]
        elif way == 2:
            text = text[:b] + text[a:b] + text[b:]
        elif way == 3:
            text = text[:a] + draw.choice(PIECES) + text[b:]
        else:
            text = text[:a] + "".join(draw.sample(text[a:b], len(text[a:b]))) + text[b:]
    return text[:200_000]


def worse_bytes(data: bytes, draw: random.Random) -> bytes:
    """Return bytes with up to six changes, cut ends and bytes of no text among them."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        place = draw.randint(0, len(changed))
        way = draw.randrange(5)
        if way == 0 and changed:
            changed[place % len(changed)] ^= 1 << draw.randrange(8)
        elif way == 1:
            changed[place:place] = draw.randbytes(draw.randint(1, 8))
        elif way == 2:
            del changed[place : place + draw.choice((1, 4, 64, 100_000))]
        elif way == 3:
            changed[place:place] = draw.choice(PIECES).encode("utf-8", "replace")
        else:
            changed[place:place] = draw.choice((b"\xff\xfe", b"\xc3\x28", b"\xed\xa0\x80", b"\x00" * 16))
    return bytes(changed)
