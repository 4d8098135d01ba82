"""Reads a Parquet file of `weir flows` with pandas, polars and DuckDB, and has each write it again.

Usage: check_parquet.py FILE DIRECTORY

Prints one JSON object a tool: name, rows, the types of some columns, and sums over them. Written to DIRECTORY: TOOL.parquet, the
flows to port 443 alone. Exits with 3 if a package is missing.
"""

import json
import pathlib
import sys

try:
    import duckdb
    import pandas
    import polars
    import pyarrow  # noqa: F401 (pandas needs it)
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(3)

file, folder = sys.argv[1], pathlib.Path(sys.argv[2])
columns = ["start", "src_port", "proto", "bytes_toserver", "proven", "label"]


def say(tool, rows, types, total, first, labels):
    print(json.dumps({"tool": tool, "rows": rows, "types": types, "bytes": total, "first": first, "labels": labels}))


frame = pandas.read_parquet(file, dtype_backend="pyarrow")
frame[frame["dest_port"] == 443].to_parquet(folder / "pandas.parquet")
say(
    "pandas",
    len(frame),
    [str(frame[c].dtype) for c in columns],
    int(frame["bytes_toserver"].sum()),
    frame["start"].min().isoformat(),
    int(frame["label"].nunique()),
)

table = polars.read_parquet(file)
table.filter(polars.col("dest_port") == 443).write_parquet(folder / "polars.parquet")
say(
    "polars",
    table.height,
    [str(table.schema[c]) for c in columns],
    int(table["bytes_toserver"].sum()),
    table["start"].min().isoformat(),
    table["label"].drop_nulls().n_unique(),
)

db = duckdb.connect()
db.execute("SET TimeZone = 'UTC'")
db.execute("CREATE TABLE flows AS SELECT * FROM read_parquet(?)", [file])
db.execute(f"COPY (SELECT * FROM flows WHERE dest_port = 443) TO '{folder / 'duckdb.parquet'}' (FORMAT parquet)")
types = dict(db.execute("SELECT column_name, column_type FROM (DESCRIBE flows)").fetchall())
rows, total, first, labels = db.execute(
    "SELECT count(*), sum(bytes_toserver)::BIGINT, epoch_us(min(start)), count(DISTINCT label) FROM flows"
).fetchone()
say("duckdb", rows, [types[c] for c in columns], total, first, labels)
