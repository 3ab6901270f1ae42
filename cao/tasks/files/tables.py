"""Tables of Arrow: Parquet files, and folders that ``save_to_disk`` of the package datasets wrote.

Only Arrow's readers are used: no script of a data set is run and nothing is unpickled.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cao.errors import InputError
from cao.tasks.files.rows import MAX_FILE_BYTES, MAX_LINE_BYTES, MAX_ROWS, PARTS, Row, Table, check_size, typed

MAX_UNPACKED_BYTES = 4 * MAX_FILE_BYTES
TOO_LARGE = "too large when unpacked; give a sample of it"
TOGETHER = 1000
"""Rows that are unpacked at a time, at most."""
_MAX_NOTES_BYTES = 10_000_000


def read_parquet(path: Path) -> Table:
    """Return the rows of a Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
            if file.metadata.num_rows > MAX_ROWS or size > MAX_UNPACKED_BYTES:
                raise InputError(f"{path}: {TOO_LARGE}")
            table = Table("Parquet", [], names=_names(file.schema_arrow.metadata), unit="row ")
            # a value that is written once may stand in every row
            together = max(1, min(TOGETHER, MAX_FILE_BYTES // max(1, size)))
            _fill(path, table, (_decoded(_sound(batch)) for batch in file.iter_batches(together)))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read ({type(error).__name__})") from None
    return table


def read_saved(folder: Path) -> Table:
    """Return the rows of a folder that ``save_to_disk`` wrote; of a folder of parts one is read, and named."""
    notes = []
    if (folder / "dataset_dict.json").is_file():
        parts = _notes_of(folder / "dataset_dict.json").get("splits")
        names = [name for name in parts if isinstance(name, str)] if isinstance(parts, list) else []
        chosen = next((name for name in (*PARTS, *names) if name in names and _inside(folder, name)), None)
        if chosen is None:
            raise InputError(f"{folder}: dataset_dict.json names no part that is there")
        if len(names) > 1:
            others = ", ".join(name for name in names if name != chosen)
            notes.append(f"the part {chosen} was read; give the folder of another one to read that ({others})")
        folder = folder / chosen
    state = _notes_of(folder / "state.json")
    files = state.get("_data_files")
    if not isinstance(files, list) or state.get("_indices_data_files") or state.get("_indices_files"):
        raise InputError(f"{folder / 'state.json'}: not a data set that this version reads; save it again")
    table = Table("saved data set", [], notes=notes, unit="row ")
    for entry in files:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not _inside(folder, name):
            raise InputError(f"{folder / 'state.json'}: names a file that is not in the folder")
        _read_arrow(folder / name, table)
    return table


def _read_arrow(path: Path, table: Table) -> None:
    check_size(path)
    try:
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
            table.names |= _names(stream.schema.metadata)
            if any(pa.types.is_dictionary(column.type) for column in stream.schema):
                raise InputError(f"{path}: its columns are encoded by dictionaries; save the data set again")
            _fill(path, table, (part for batch in stream for part in _cut(_sound(batch))))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(f"{path}: not an Arrow file that can be read ({type(error).__name__})") from None


def _sound(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch whose offsets were checked: Arrow trusts a file's, and a wrong one reads foreign memory."""
    batch.validate(full=True)
    return batch


def _decoded(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch with its values where numbers stand for them, so that it is as large as what it says."""
    columns = [each.dictionary_decode() if pa.types.is_dictionary(each.type) else each for each in batch.columns]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _cut(batch: pa.RecordBatch) -> Iterable[pa.RecordBatch]:
    return (batch.slice(start, TOGETHER) for start in range(0, batch.num_rows, TOGETHER))


def _fill(path: Path, table: Table, batches: Iterable[pa.RecordBatch]) -> None:
    """Add the rows of sound batches to a table, as long as they fit into what a file may unpack to."""
    unpacked = 0
    for batch in batches:
        unpacked += batch.nbytes
        if unpacked > MAX_UNPACKED_BYTES or batch.nbytes > batch.num_rows * MAX_LINE_BYTES:
            raise InputError(f"{path}: {TOO_LARGE}")
        for row in batch.to_pylist():
            values = {str(key): typed(value) for key, value in row.items()}
            table.rows.append(Row(len(table.rows) + 1, values))
        if len(table.rows) > MAX_ROWS:
            raise InputError(f"{path}: more than {MAX_ROWS:,} rows; give a sample of it")


def _inside(folder: Path, name: str) -> bool:
    """Return whether a name is that of something in a folder, and leads nowhere else."""
    place = folder / name
    plain = "\0" not in name and Path(name).name == name
    return plain and place.exists() and place.resolve().parent == folder.resolve()


def _notes_of(path: Path) -> dict[str, object]:
    try:
        if path.stat().st_size > _MAX_NOTES_BYTES:
            raise ValueError("too large")
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        raise InputError(f"{path}: missing or damaged; save the data set again") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged; save the data set again")
    return value


def _names(metadata: dict[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """Return the names of labels that the package datasets states in an Arrow schema; other schemas state none."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        stated = {str(key): value.get("names") for key, value in features.items() if value.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return {
        key: tuple(names)
        for key, names in stated.items()
        if isinstance(names, list) and all(isinstance(name, str) for name in names)
    }
