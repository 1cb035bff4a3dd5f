"""Keeps locales/: writes the English texts of the nodes, tells what each language lacks, and adds translations.

python docs/translations.py                  writes locales/en/nodeDefs.json; needs ComfyUI's Python and COMFYUI_PATH
python docs/translations.py --check          names what is missing, stale, surplus or damaged in every language
python docs/translations.py --todo ja        prints {English: ""} of the texts that ja lacks or has out of date
python docs/translations.py --add ja FILE    adds the translations of a file that --todo began
python docs/translations.py --pages ja       notes that all pages in ja are made from the present English ones
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LOCALES = ROOT / "locales"
LANGUAGES = ("zh", "zh-TW", "ja", "ko", "fr", "es", "ru", "de", "pt-BR")
PAGED = ("zh", "ja")
"""Languages that have a translation of every help page."""
PAGES = ROOT / "web" / "docs"
"""Help pages: NODE.md in English, and NODE/LANGUAGE.md."""
DOCS = ROOT / "docs"
"""Tutorials: NAME.md in English, and LANGUAGE/NAME.md beside it."""
FILES = ("nodeDefs.json", "main.json", "commands.json")
FOLDERS = ("ComfyUI-Likeness", "comfyui-likeness", "likeness")
NAMED = {"templateWorkflows": {"category": dict.fromkeys(FOLDERS, "Likeness")}}
"""Part of main.json that is the same in every language: the pack's name, by the names of its folder."""
SOURCES = "sources.json"
"""Per language the digests of the English texts that its translations were made from."""
SAME = {"CLIP", "VAE", "CFG", "Likeness", "Latent", "Checkpoint", "Checkpoint (ckpt_name)"}
"""Texts that may stay as they are in every language."""
PROSE = {"pale", "guided"}
"""Words before a colon that are no values of a widget."""
SCRIPTS = {"zh": "一-鿿", "zh-TW": "一-鿿", "ja": "ぁ-ヿ一-鿿", "ko": "가-힣", "ru": "А-яЁё"}
"""Letters of which each translation has at least one."""
WIDEST = {"name": 34, "display_name": 44}
"""Columns of a label and of a title in a node of the usual width; a Chinese or Japanese letter takes two."""
SYNTAX = re.compile(r"[{}|@]")
"""Characters that the front end's translator reads as syntax in some texts and not in others."""
NAMES = re.compile(
    r"Layout-and-Retouch|Pick-and-Draw|JeDi|ConsiStory|Tinyland|DINO|BLIP-2|U-Net|Flux|Z-Image|SAM3|SD ?\d(?:\.[\dx])?"
    r"|λ[23]|τ|%[1-9]|[\w/]+\.(?:py|pth|safetensors|json)|models/\w+|output/\w+|run\.py(?: train joint| s3 calibrate)?"
)
KEPT = re.compile(
    r"`([^`]+)`"  # code
    r"|(?<!\w)'([^']+)'(?!\w)"  # quoted words of a prompt
    r"|(?:^|[.;] )([a-z][\w,-]*(?: [a-z][\w,-]*){0,3})(?=: )"  # a value of a widget, before its meaning
    r"|\b([a-z]+_[a-z_0-9]+)\b"  # the id of an input or value
    r"|(?<![\w.,])(\d+(?:\.\d+)?)"
)
TYPES = re.compile(r"\b(?!RAM\b)[A-Z][A-Z0-9_]+\b")


def flat(tree: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """{path of keys: text} of a nested tree."""
    found: dict[tuple[str, ...], str] = {}
    for key, value in tree.items():
        found |= flat(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


def nested(texts: dict[tuple[str, ...], str]) -> dict:
    """The tree of `flat`."""
    tree: dict[str, Any] = {}
    for (*outer, last), text in texts.items():
        place = tree
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = text
    return tree


def read(language: str, folder: Path = LOCALES) -> dict[tuple[str, ...], str]:
    """{(file, *keys): text} of a language, in the order of the files."""
    found: dict[tuple[str, ...], str] = {}
    for name in FILES:
        path = folder / language / name
        if path.exists():
            found |= flat(json.loads(path.read_text(encoding="utf-8")), (name,))
    return {key: text for key, text in found.items() if key[1] not in NAMED}


def dump(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def digest(text: str) -> str:
    """Short name of an English text, by which a translation remembers what it was made from."""
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def columns(text: str) -> int:
    """Width of a text, in Latin letters."""
    return sum(2 if "ᄀ" <= letter <= "ᅟ" or "⺀" <= letter <= "￠" else 1 for letter in text)


def base(title: str) -> str:
    """A title without the name of its method in brackets, as sentences name it."""
    return re.sub(r"\s*[(（].*", "", title)


def kept(english: str) -> set[str]:
    """Parts of an English text that every translation has, too: ids, values, numbers, names and code."""
    found = {part.split(", our ")[0] for match in KEPT.finditer(english) for part in match.groups() if part}
    return (found | {match[0] for match in NAMES.finditer(english)}) - PROSE


def faults(language: str, key: str, english: str, known: dict[str, str], titles: set[str]) -> list[str]:
    """Faults of the translation known[english], which stands under `key`; titles: those of the nodes, in English."""
    text, found = known[english], []
    if not text.strip() or text != text.strip():
        found.append("is empty or has spaces around it")
    if SYNTAX.search(text):
        found.append("has one of { } | @, which the front end may read as syntax")
    types = TYPES.findall(english) if english.count(" ") > 2 else []
    lost = [part for part in sorted(kept(english)) if part not in text]
    lost += [name for name in types if name not in text and known.get(name, name) not in text]
    if lost:
        found.append(f"lacks {', '.join(lost)}")
    named = english
    for title in sorted(titles & known.keys(), key=len, reverse=True):  # Save Layout Template before Save Layout
        if " " in base(title) and base(title) in named and base(known[title]).casefold() not in text.casefold():
            found.append(f"does not name the node {base(title)} by its title, {base(known[title])}")
        named = named.replace(base(title), "")
    script = SCRIPTS.get(language)
    untranslated = text == english and english.count(" ") > 2
    if english not in SAME and (untranslated or (script and not re.search(f"[{script}]", text))):
        found.append("is not translated")
    if columns(text) > WIDEST.get(key, 10**6):
        found.append(f"is {columns(text)} columns wide, more than {WIDEST[key]}")
    return found


def sources(language: str, folder: Path = LOCALES) -> set[str]:
    """Digests of the English texts and pages that a language's translations were made from."""
    path = folder / language / SOURCES
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else set()


def pages(language: str) -> dict[str, tuple[str, str]]:
    """{node or NAME.md: (English page, translation)} of the help pages and tutorials that a language has."""
    files = [(path.parent.name, PAGES / f"{path.parent.name}.md", path) for path in PAGES.glob(f"*/{language}.md")]
    files += [(path.name, path.parents[1] / path.name, path) for path in DOCS.rglob(f"{language}/*.md")]
    return {name: (old.read_text("utf-8"), new.read_text("utf-8")) for name, old, new in sorted(files)}


def stale_pages(language: str, folder: Path = LOCALES) -> list[str]:
    """Names of the pages whose English has changed since its translation."""
    made = sources(language, folder)
    return [node for node, (english, _) in pages(language).items() if digest(english) not in made]


def page_problems(language: str) -> list[str]:
    """Sentences on the help pages that a language lacks or has out of date."""
    lacking = sorted({path.stem for path in PAGES.glob("*.md")} - pages(language).keys()) if language in PAGED else []
    found = [(node, "missing") for node in lacking] + [(node, "stale") for node in stale_pages(language)]
    return [f"{language}: page {node}: {word}" for node, word in found]


def page_faults(english: str, text: str) -> list[str]:
    """Parts of a page that its translation lost: headings, rows, pictures, links, code, commands, numbers."""
    found = []
    english, text = (re.sub(r"\]\((?:\.\./)*(?:[a-z]{2}/)?", "](", page) for page in (english, text))
    for name, part in (("headings", r"^#+ "), ("rows", r"^\|"), ("list items", r"^(?:\*|\d+\.) ")):
        counts = [len(re.findall(part, page, re.MULTILINE)) for page in (english, text)]
        if counts[0] != counts[1]:
            found.append(f"has {counts[1]} {name} in place of {counts[0]}")
    for part in (r"`[^`\n]+`", r"^```\w*\n[\s\S]*?^```", r"\]\([^)]+\)", r"^ {4}\S.*$", r"(?<![\w.,])\d+(?:\.\d+)?"):
        lost = sorted({match for match in re.findall(part, english, re.MULTILINE) if match not in text})
        found += [f"lacks {', '.join(lost)}"] if lost else []
    return found + [f"needs a space after {part}" for part in unclosed(text)]


def unclosed(page: str) -> list[str]:
    """Emphasized parts that Markdown does not see: they end with punctuation, and a letter follows at once."""
    parts = re.finditer(r"(\*{1,2})(?! )([^*\n]+)\1(.?)", re.sub(r"(?m)^\* |^```[\s\S]*?^```", "", page))
    return [part[0] for part in parts if not part[2][-1].isalnum() and part[3].isalnum()]


def translated(language: str, folder: Path = LOCALES) -> dict[str, str]:
    """{English: translation} of a language, without the translations of texts that have changed since."""
    made = sources(language, folder)
    texts = read(language, folder)
    english = read("en", folder)
    return {english[key]: text for key, text in texts.items() if key in english and digest(english[key]) in made}


def problems(language: str, folder: Path = LOCALES) -> list[str]:
    """Sentences on everything that a language lacks, or has too much or wrong."""
    english, texts, known = read("en", folder), read(language, folder), translated(language, folder)
    titles = {text for key, text in english.items() if key[-1] == "display_name"}
    found = [f"{'/'.join(key)}: surplus" for key in texts.keys() - english.keys()]
    for key, text in english.items():
        place = "/".join(key)
        if key not in texts:
            found.append(f"{place}: missing: {text}")
        elif text not in known:
            found.append(f"{place}: stale, the English text is now: {text}")
        elif known[text] != texts[key]:
            found.append(f"{place}: {texts[key]!r}, but elsewhere {known[text]!r} for the same English text")
        else:
            found += [f"{place}: {texts[key]!r} {fault}" for fault in faults(language, key[-1], text, known, titles)]
    return [f"{language}/{line}" for line in found]


def add(language: str, new: dict[str, str], folder: Path = LOCALES) -> None:
    """Writes a language's files, with `new` {English: translation} beside what is still current."""
    english = read("en", folder)
    known = translated(language, folder) | {source: text for source, text in new.items() if text}
    if strangers := known.keys() - set(english.values()):
        raise SystemExit(f"no node has this text now: {sorted(strangers)[0]}")
    for name in FILES:
        texts = {key[1:]: known[text] for key, text in english.items() if key[0] == name and text in known}
        dump(folder / language / name, nested(texts) | (NAMED if name == "main.json" else {}))
    of_pages = {digest(page) for page, _ in pages(language).values()} & sources(language, folder)
    dump(folder / language / SOURCES, sorted({*map(digest, known), *of_pages}))


def members(entry: Any) -> list[str]:
    """Names of the sockets that a growing input has in the editor, as the front end numbers them."""
    template = getattr(entry, "template", None)
    prefix = getattr(template, "prefix", None)
    return [] if prefix is None else [f"{prefix}{number}" for number in range(template.max)]


def schemas() -> dict:
    """The tree of nodeDefs.json from the nodes' schemas."""
    from likeness.nodes import node_classes

    tree: dict[str, Any] = {}
    for node in node_classes():
        found = node.GET_SCHEMA()
        inputs = {}
        for entry in found.inputs:
            inputs[entry.id] = {"name": entry.display_name, "tooltip": entry.tooltip}
            for member in members(entry):
                inputs[f"{entry.id}_{member}"] = {"name": member, "tooltip": entry.tooltip}
        outputs = {}
        for number, output in enumerate(found.outputs):
            # The front end takes the name of the type where both are equal.
            name = {"name": output.display_name or output.id}
            outputs[str(number)] = {**(name if name["name"] != output.io_type else {}), "tooltip": output.tooltip}
        tree[found.node_id] = {
            "display_name": found.display_name,
            "description": found.description,
            **({"inputs": inputs} if inputs else {}),
            "outputs": outputs,
        }
    return tree


def load_pack() -> None:
    """Makes the pack importable as `likeness` beside the ComfyUI of COMFYUI_PATH."""
    spec = importlib.util.spec_from_file_location("likeness_launch", ROOT / "demo" / "launcher" / "launch.py")
    assert spec is not None and spec.loader is not None
    launch = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(launch)
    launch.alias_pack(Path(os.environ["COMFYUI_PATH"]))
    from comfy.cli_args import args  # pyright: ignore[reportMissingImports]

    args.cpu = True


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--todo", metavar="LANGUAGE", choices=LANGUAGES)
    parser.add_argument("--add", nargs=2, metavar=("LANGUAGE", "FILE"))
    parser.add_argument("--pages", metavar="LANGUAGE", choices=LANGUAGES)
    given = parser.parse_args(arguments)
    if given.todo:
        known = translated(given.todo)
        print(json.dumps({text: "" for text in read("en").values() if text not in known}, ensure_ascii=False, indent=1))
        return 0
    if given.add:
        add(given.add[0], json.loads(Path(given.add[1]).read_text(encoding="utf-8")))
    if given.pages:
        made = sources(given.pages) | {digest(english) for english, _ in pages(given.pages).values()}
        dump(LOCALES / given.pages / SOURCES, sorted(made))
        return 0
    if given.add or given.check:
        found = [line for language in ([given.add[0]] if given.add else LANGUAGES) for line in problems(language)]
        found += [line for language in LANGUAGES for line in page_problems(language)]
        print("\n".join(found) or "complete")
        return 1 if found else 0
    load_pack()
    dump(LOCALES / "en" / "nodeDefs.json", schemas())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
