"""Reads what the program's sources say of themselves: documented types, constants, the tree of `runs/`, the database.

For scripts/docs_reference.py. It knows just as much Rust as the files that it reads.
"""

import re
import sqlite3

ITEM = re.compile(r"pub(?:\(\w+\))? (struct|enum) (\w+)|(enum) (\w+)")
FIELD = re.compile(r"(?:pub )?(\w+): (.+),$")
VARIANT = re.compile(r"([A-Z]\w*)(?:\((.+)\)|( \{)| = (\d+))?,?$")
PLAIN = {
    "String": "text", "str": "text", "bool": "true or false", "f64": "number", "DateTime<Utc>": "time", "Digest": "cache key",
    "PathBuf": "path", **dict.fromkeys(("u32", "u64", "usize", "i64"), "integer"),
}


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def plain(doc):
    """A doc comment without links to other items."""
    return re.sub(r"\[(`[^`]+`)\]", lambda link: link[1].replace("::", "."), " ".join(doc))


def types(path):
    """The documented structs and enums of a file before its tests, by name: {kind, doc, members: [{name, type, doc, ...}]}."""
    found, item, doc, attributes, variant = {}, None, [], [], None
    for line in path.read_text().split("#[cfg(test)]")[0].splitlines():
        bare = line.strip()
        if bare.startswith("///"):
            doc.append(bare[3:].strip())
            continue
        if bare.startswith("#["):
            attributes.append(bare)
            continue
        if not line.startswith(" ") and (match := ITEM.match(bare)) and bare.endswith("{"):
            item = found[match[2] or match[4]] = {"kind": match[1] or match[3], "doc": plain(doc), "members": []}
        elif line == "}":
            item = None
        elif item and bare == "},":
            variant = None
        elif item and (match := FIELD.match(bare)):
            owner = item["members"] if variant is None else variant["members"]
            owner.append({"name": match[1], "type": match[2], "doc": plain(doc), "attributes": " ".join(attributes)})
        elif item and item["kind"] == "enum" and (match := VARIANT.match(bare)):
            member = {"name": match[1], "type": match[2], "doc": plain(doc), "members": [], "number": match[4]}
            item["members"].append(member)
            variant = member if match[3] else None
        doc, attributes = [], []
    return found


def type_words(rust, known, optional=False):
    """A Rust type in the words of JSON; a documented type is a link to its heading."""
    rust = re.sub(r"^Box<(.+)>$", r"\1", rust.split("::")[-1] if "<" not in rust else rust)
    if match := re.match(r"Option<(.+)>$", rust):
        return type_words(match[1], known) + (" or absent" if optional else " or null")
    if match := re.match(r"BTreeMap<String, (.+)>$", rust):
        return f"table by name: {type_words(match[1], known)}"
    if match := re.match(r"Vec<(.+)>$", rust):
        return f"list: {type_words(match[1], known)}"
    if rust.startswith("("):
        return "list: " + ", ".join(type_words(part, known) for part in rust[1:-1].split(", "))
    if rust in PLAIN:
        return PLAIN[rust]
    return f"[{rust}](#{rust.lower()})" if rust in known else "text"


def list_with_comments(path, name):
    """The entries of a constant list of texts, each with the comment behind it."""
    body = path.read_text().split(f"pub const {name}", 1)[1].split("];", 1)[0]
    return re.findall(r'"(\w+)",\s*// (.+)', body)


def table_of_comment(path, heading):
    """The rows of a Markdown table in a module's comment, found by its first heading cell."""
    lines = [line[3:].strip() for line in path.read_text().splitlines() if line.startswith("//!")]
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} "))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def tree_of_comment(path):
    """The paths of the first tree in a module's comment, each with what it says, deeper ones with the path above."""
    block = path.read_text().split("//! ```text\n", 1)[1].split("//! ```", 1)[0]
    rows, above = [], []
    for line in block.splitlines():
        line = line[4:]
        name, _, about = line.strip().partition("  ")
        depth = (len(line) - len(line.lstrip())) // 2
        if depth > 6:
            rows[-1][1] += " " + line.strip()
            continue
        above[depth:] = [name]
        rows.append(["".join(above[1:]), about.strip()])
    return [[name, plain([about])] for name, about in rows if name]


def database(migrations):
    """The tables that the migrations make: name, comment, columns as (name, type, may be null, comment)."""
    connection, text = sqlite3.connect(":memory:"), ""
    for path in sorted(migrations.glob("*.sql")):
        connection.executescript(path.read_text())
        text += path.read_text()
    tables = []
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"):
        before, body = text.split(f"CREATE TABLE {name} (", 1)
        about = re.search(r"((?:-- .*\n)*)$", before)[1]
        comments = dict(re.findall(r"^    (\w+) .*-- (.*)$", body.split("\n)", 1)[0], re.M))
        columns = connection.execute(f"SELECT name, type, \"notnull\" OR pk FROM pragma_table_info('{name}')")
        columns = [(column, kind.lower(), not full, comments.get(column, "")) for column, kind, full in columns]
        tables.append((name, " ".join(re.findall(r"-- (.*)", about)), columns))
    views = {}
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'view'"):
        views[name] = [column for (column,) in connection.execute(f"SELECT name FROM pragma_table_info('{name}')")]
    return tables, views
