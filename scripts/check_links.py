#!/usr/bin/env python3
"""Checks that relative links of Markdown files lead to files and headings that are there: `check_links.py FILE_OR_DIR...`."""

import re
import sys
from pathlib import Path

LINK = re.compile(r"(?<!\!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text):
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.S)


def anchors(path):
    """The anchors of the headings, as mdBook and GitHub make them."""
    found = set()
    for line in re.sub(r"```.*?```", "", path.read_text(), flags=re.S).splitlines():
        if line.startswith("#"):
            name = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower().replace("`", ""))
            found.add(name.replace(" ", "-"))
    return found


def main():
    files = []
    for argument in map(Path, sys.argv[1:]):
        files += sorted(argument.rglob("*.md")) if argument.is_dir() else [argument]
    broken = []
    for file in files:
        for match in LINK.finditer(without_code(file.read_text())):
            target = match[1] or match[2]
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            there = file if not path else (file.parent / path)
            if not there.exists():
                broken.append(f"{file}: `{target}` is not there")
            elif anchor and there.suffix == ".md" and anchor not in anchors(there):
                broken.append(f"{file}: `{there}` has no heading `#{anchor}`")
    if broken:
        sys.exit("\n".join(broken))
    print(f"{len(files)} files, no broken link")


if __name__ == "__main__":
    main()
