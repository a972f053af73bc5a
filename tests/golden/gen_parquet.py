"""Writes tests/golden/parquet: the same rows by pyarrow in several compressions, and as JSON lines.

    python tests/golden/gen_parquet.py        # pyarrow 26.0.1
"""

import json
import pathlib

import pyarrow
import pyarrow.parquet

OUT = pathlib.Path(__file__).parent / "parquet"


def turn(role, content):
    return {"role": role, "content": content}


ROWS = [
    {
        "question": f"Which organ has number {i}? ÄÖ",
        "count": i,
        "score": i / 4,
        "right": i % 2 == 0,
        "note": None if i % 3 else "a note",
        "options": {"A": "heart", "B": f"bone {i}"},
        "tags": ["x"] * (i % 3),
        "messages": [turn("user", f"What is {i}?"), turn("assistant", f"It is {i}.")][: 1 + i % 2],
        "nested": [[1, i], []],
    }
    for i in range(6)
]
SCHEMA = pyarrow.schema(
    [
        ("question", pyarrow.string()),
        ("count", pyarrow.int64()),
        ("score", pyarrow.float64()),
        ("right", pyarrow.bool_()),
        ("note", pyarrow.large_string()),
        ("options", pyarrow.struct([("A", pyarrow.string()), ("B", pyarrow.string())])),
        ("tags", pyarrow.list_(pyarrow.string())),
        ("messages", pyarrow.list_(pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())]))),
        ("nested", pyarrow.list_(pyarrow.list_(pyarrow.int32()))),
    ]
)

OUT.mkdir(exist_ok=True)
table = pyarrow.Table.from_pylist(ROWS, schema=SCHEMA)
for compression in ["snappy", "zstd", "gzip", "none"]:
    path = OUT / f"{compression}.parquet"
    pyarrow.parquet.write_table(table, path, compression=compression, row_group_size=4, store_schema=False)
(OUT / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS))
