"""Text and documents that mean harm, and ways to damage documents that mean none."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

HOSTILE = (
    "", " ", "-", "--", "-x", "--setup-hook=id", "--help", "--index-url=https://x.example", "a b", "a;id", "a|id",
    "a&id", "$(id)", "`id`", "${IFS}", "$HOME", "${{ github.token }}", "{{ 7 }}", "{% x %}", "{python.__class__}", "%s",
    "a\nRUN id", "a\nUSER 0", "a\r\nRUN id", "a\\\nb", "a\n", "\ta", 'a"b', "a'b", '"; id; "', "a\\", "a#b", "# a",
    "#syntax=x/y", "a: b", "a:\n  b: c", "- a", "[a]", "{a: b}", "&a", "*a", "!!python/object:x", "|", ">", "<<EOF",
    "null", "true", "no", "on", "y", "~", "0x10", "1e5", ".inf", "=", "@x", "../../x", "../x", ".", "..", "a/../b",
    "a\x1b]0;t\x07", "a\x1b[2J", "a\x9b2J", "a\x7f", "a\x08", "a\u202eb", "a\u2066b", "a\u2028b", "a\u2029b", "a\x85b",
    "a\ufeff", "\u200b", "é", "٢", "²", "x" * 5000, "9" * 5000, "a\x00b", "\ud800", "\udc80", "<script>x</script>",
    "<img src=x onerror=x>", "]]>", "--><x>", "![a](http://x.example)", "[a](javascript:x)", "| a |", "```\nx", "\n# a",
)  # fmt: skip
FRAGMENTS = tuple(text for text in HOSTILE if 0 < len(text) < 40)


@st.composite
def _spliced(draw: st.DrawFn, plausible: str) -> str:
    """A plausible text with a hostile one in it."""
    place = draw(st.sampled_from([0, len(plausible) // 2, len(plausible)]))
    return plausible[:place] + draw(st.sampled_from(FRAGMENTS)) + plausible[place:]


def hostile(plausible: str = "a") -> st.SearchStrategy[str]:
    """Text that is refused, or harmless wherever it gets to."""
    return st.one_of(
        st.sampled_from(HOSTILE), _spliced(plausible), st.text(max_size=12)
    )


SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, -0.0, 1e308, 2**31, 2**63, 2**64, 10**400, float("inf"), float("-inf"),
    float("nan"), "", "1", "x", [], {}, [[]], [None], [1], {"": ""}, {"a": {"b": []}},
)  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of everything in a document, of lists the first and the last item."""
    found = [place] if place else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*place, key))
    elif isinstance(value, list):
        for number in sorted({0, len(value) - 1}) if value else ():
            found += places(value[number], (*place, number))
    return found


def at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document


def put(document: Any, place: tuple[Any, ...], value: Any) -> None:
    at(document, place[:-1])[place[-1]] = value


def copied(document: Any) -> Any:
    return json.loads(json.dumps(document))


@st.composite
def damaged(
    draw: st.DrawFn, document: Any, others: tuple[Any, ...] = (), most: int = 3
) -> Any:
    """A document in which something is another value, missing, too much, nested or huge.

    `others`: documents of the same kind, from which values are taken too.
    """
    document = copied(document)
    for _ in range(draw(st.integers(1, most))):
        known = places(document)
        if not known:
            break
        place = draw(st.sampled_from(known))
        _damage(draw, document, place, others)
    return document


def _damage(
    draw: st.DrawFn, document: Any, place: tuple[Any, ...], others: tuple[Any, ...]
) -> None:
    value, inside = at(document, place), at(document, place[:-1])
    kind = draw(
        st.sampled_from(
            [
                "hostile",
                "hostile",
                "swap",
                "swap",
                "scalar",
                "drop",
                "extra",
                "twice",
                "deep",
            ]
        )
    )
    if kind == "hostile":
        put(document, place, draw(hostile(value if isinstance(value, str) else "a")))
    elif kind == "swap" and others:
        try:
            put(document, place, copied(at(draw(st.sampled_from(others)), place)))
        except (KeyError, IndexError, TypeError):
            put(document, place, draw(st.sampled_from(SCALARS)))
    elif kind == "scalar":
        put(document, place, copied_scalar(draw(st.sampled_from(SCALARS))))
    elif kind == "drop":
        del inside[place[-1]]
    elif kind == "extra" and isinstance(inside, dict):
        inside[draw(hostile(str(place[-1])))] = value
    elif kind == "twice" and isinstance(inside, list):
        inside.append(copied(value))
    elif kind == "deep":
        for _ in range(draw(st.sampled_from([1, 3, 200]))):
            value = [value]
        put(document, place, value)


def copied_scalar(value: Any) -> Any:
    """Lists and objects of `SCALARS` are shared between cases."""
    return copied(value) if isinstance(value, list | dict) else value


@st.composite
def encoded(draw: st.DrawFn, text: str) -> bytes:
    """The text as a file, at times damaged: cut, with other bytes in it, in another encoding, with keys twice."""
    content = text.encode("utf-8", errors="surrogatepass")
    kind = draw(
        st.sampled_from(["plain"] * 8 + [*_ENCODINGS, "bytes", "digits", "nest"])
    )
    if kind in _ENCODINGS:
        return _ENCODINGS[kind](text, content)
    if kind == "bytes":
        place = draw(st.integers(0, len(content)))
        return (
            content[:place] + draw(st.binary(min_size=1, max_size=4)) + content[place:]
        )
    if kind == "digits":
        return content.replace(b"1", b"1" * draw(st.sampled_from([400, 5000])), 1)
    if kind == "nest":
        return content[:1] * draw(st.sampled_from([200, 100_000])) + content
    return content


_ENCODINGS: Mapping[str, Callable[[str, bytes], bytes]] = {
    "cut": lambda text, content: content[: len(content) // 2],
    "utf-16": lambda text, content: text.encode("utf-16", errors="replace"),
    "latin": lambda text, content: content.replace(b'"', b"\xe9", 1),
    "mark": lambda text, content: b"\xef\xbb\xbf" + content,
    "twice": lambda text, content: content + content,
}


def json_text(document: Any) -> str:
    """JSON as Python writes it: with halves of surrogate pairs, NaN and Infinity, if they are there."""
    return json.dumps(document, ensure_ascii=False)


# --- TOML ----------------------------------------------------------------------------------------------------------


def toml_text(document: dict[str, Any]) -> str:
    """A document as TOML; values that TOML lacks (None) are omitted."""
    lines = [
        f"{_key(key)} = {_toml(value)}"
        for key, value in document.items()
        if _is_plain(value)
    ]
    for name, table in document.items():
        if isinstance(table, dict):
            lines += _table([name], table)
    return "\n".join(lines) + "\n"


def _table(names: list[str], table: dict[str, Any]) -> list[str]:
    lines = [f"[{'.'.join(map(_key, names))}]"]
    lines += [
        f"{_key(key)} = {_toml(value)}"
        for key, value in table.items()
        if _is_plain(value)
    ]
    for name, inner in table.items():
        if isinstance(inner, dict):
            lines += _table([*names, name], inner)
    return lines


def _is_plain(value: Any) -> bool:
    return value is not None and not isinstance(value, dict)


def _key(name: str) -> str:
    return json.dumps(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value if item is not None)}]"
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(
                f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None
            )
            + "}"
        )
    return str(value).replace("1e+308", "1e308")
