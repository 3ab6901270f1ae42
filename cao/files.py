"""Writing files so that a reader never sees half of one, saying where there is no room for them, and hashing them.

What is read again carries a hash of its own: a JSON object and a line of JSON under a key for it, a folder that is
finished in the file ``SUMS``. What an older version wrote has none, and is read as it is.
"""

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from cao.errors import CaoError, InputError, NoRoomError, UnavailableError

SEAL, LINE_SEAL = "content_sha256", "sha256"
"""The last key of a sealed object, and of a sealed line: the hash of all the rest."""
SUMS = "SHA256SUMS"
"""The hashes of a finished folder's files, as ``sha256sum -c`` reads them."""
UNFINISHED = ".unfinished"
"""How a name ends, behind a dot, of what takes another one when it is whole; a killed process leaves such."""

_ADDING = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW  # what is added lies where the name says

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "files may not grow that large here (see ulimit -f)",
}
_FULL_IN_WORDS = {
    errno.ENOSPC: ("No space left on device", "os error 28)", "disk is full"),
    errno.EDQUOT: ("Disk quota exceeded", "os error 122)"),
    errno.EFBIG: ("File too large", "os error 27)"),
}
"""How libraries word it that raise an error of their own."""

_UMASK = os.umask(0o077)
os.umask(_UMASK)


def usual_modes(path: Path) -> None:
    """Give a file, or a folder with all in it, the modes that the user's umask leaves; temporary ones are private.

    A server that runs as another user can read what was written then.
    """
    for each in [path, *(path.rglob("*") if path.is_dir() else ())]:
        if not each.is_symlink():
            each.chmod((0o777 if each.is_dir() else 0o666) & ~_UMASK)


def is_path(source: str) -> bool:
    """Return whether what may be a task's name is meant as a file: a name has neither dot nor slash."""
    return "\0" not in source and (bool(Path(source).suffix) or Path(source).name != source)


def sha256_bytes(data: bytes | memoryview) -> str:
    """Return the hexadecimal SHA-256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_folder(folder: Path, pattern: str = "**/*") -> str:
    """Return the hash of a folder's files: those whose path below it matches, whatever else lies beside them."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    return sha256_bytes("\n".join(f"{path.relative_to(folder)} {sha256_file(path)}" for path in files).encode())


def canonical_json(value: object) -> str:
    """Return the one JSON text of ``value``: sorted keys, no spaces, no NaN.

    Raises:
        ValueError: a NaN or an infinity is inside.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def no_room(error: BaseException | None, path: Path | None = None, size: int = 0) -> NoRoomError | None:
    """Return the error that says what could not be written, or None where ``error`` is no lack of room.

    Args:
        error: what was raised, by the system or by a library that met the same.
        path: what was being written, as far as it is known; else what the error names.
        size: bytes that it takes, 0 where that is not known.
    """
    if error is None:
        return None
    code = error.errno if isinstance(error, OSError) else None
    if code not in _FULL:
        code = next((code for code, said in _FULL_IN_WORDS.items() if any(words in str(error) for words in said)), None)
    if code is None:
        return no_room(error.__cause__, path, size)
    named = path or (Path(str(error.filename)) if isinstance(error, OSError) and error.filename else None)
    needed = f"{_megabytes(size)} are needed and " if size else ""
    room = f"{needed}{room_left(named or Path())}"
    return NoRoomError(f"{named or 'what was to be written'}: {_FULL[code]}; {room}; make room and try again")


def shut(error: BaseException) -> CaoError | None:
    """Return the error that says what may not be read or written, or be a path, or None where it is no such refusal."""
    code = error.errno if isinstance(error, OSError) else None
    place = str(getattr(error, "filename", None) or "a file or folder")
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return UnavailableError(f"{place}: {os.strerror(code)}; it must be one that this user may read and write")
    if code in (errno.ENAMETOOLONG, errno.ELOOP):
        return InputError(f"{place[:200]}: {os.strerror(code)}")
    return None


def room_left(path: Path) -> str:
    """Say how much room there is where a file lies, or shall lie."""
    place = path.absolute()
    while not place.is_dir():
        place = place.parent
    return f"{_megabytes(shutil.disk_usage(place).free)} are free in {place}"


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


@contextmanager
def room_for(path: Path, size: int = 0) -> Iterator[None]:
    """Say what was being written where there is no room for it.

    Args:
        path: what is written.
        size: bytes that it takes, 0 where that is not known.

    Raises:
        NoRoomError: in place of what the system, or a library, raised.
    """
    try:
        yield
    except NoRoomError:
        raise
    except Exception as error:
        full = no_room(error, path, size)
        if full is None:
            raise
        raise full from error


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path`` in one step: temporary file beside it, fsync, rename.

    Raises:
        NoRoomError: there is no room for it; what was there stays.
    """
    raw = data.encode() if isinstance(data, str) else data
    with replaced(path, len(raw)) as temporary:
        temporary.write_bytes(raw)


@contextmanager
def replaced(path: Path, size: int = 0) -> Iterator[Path]:
    """Yield where to write what takes the name ``path`` in one step then, or is gone: in a hidden folder beside it.

    Args:
        path: what comes to be.
        size: bytes that it takes, 0 where that is not known.

    Raises:
        NoRoomError: there is no room for it; what was there stays.
    """
    with room_for(path, size):
        folder = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=UNFINISHED)
        try:
            yield (temporary := Path(folder, "whole"))
            with temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
            usual_modes(temporary)
            os.replace(temporary, path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def whole_lines(path: Path) -> list[str]:
    """Return a file's lines, none where there is no file; a last one that a kill cut off is taken off the file.

    A line may hold any other separator of lines.
    """
    whole, end, rest = (path.read_bytes() if path.exists() else b"").rpartition(b"\n")
    if rest:
        write_atomic(path, whole + end)
    return whole.decode("utf-8", "replace").split("\n") if whole else []


def append_line(path: Path, line: str) -> None:
    """Add a line to a file; it is on the disk when this returns, and nothing of it is where this raises.

    Raises:
        NoRoomError: there is no room for it.
    """
    data = f"{line}\n".encode()
    with room_for(path, len(data)), open(os.open(path, _ADDING, 0o666), "ab", buffering=0) as stream:
        before = stream.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[stream.write(data) :]
            os.fsync(stream.fileno())
        except BaseException:
            stream.truncate(before)  # the next line would be glued to half of this one
            raise


def write_json(path: Path, value: object) -> None:
    """Write ``value`` as indented JSON in one step; NaN and infinities are refused.

    Raises:
        ValueError: a NaN or an infinity is inside.
    """
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sealed(value: Mapping[str, object]) -> dict[str, object]:
    """Return a JSON object with its hash in it."""
    return {**value, SEAL: sha256_bytes(canonical_json(value).encode())}


def opened(content: bytes | str) -> str:
    """Return the JSON text of an object without its hash, which is checked; what is no sealed object stays as it is.

    Raises:
        ValueError: it is no JSON, or not what was written.
    """
    try:
        value = json.loads(content)
        if not (isinstance(value, dict) and SEAL in value):
            return content if isinstance(content, str) else content.decode()
        seal = value.pop(SEAL)
        text = canonical_json(value)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if seal != sha256_bytes(text.encode()):
        raise ValueError("its content does not match its hash")
    return text


def sealed_line(line: str) -> str:
    """Return a line, a JSON object, that ends with the hash of all the rest."""
    return f'{line[:-1]},"{LINE_SEAL}":"{sha256_bytes(line.encode())}"}}'


def opened_line(line: str) -> str:
    """Return a line without its hash; the hash is that of the text, so what lacks later keys is read, too.

    Raises:
        ValueError: it is not the one that was written.
    """
    body, mark, seal = line.rpartition(f',"{LINE_SEAL}":"')
    if not mark:  # of a version that wrote none
        return line
    text = f"{body}}}"
    if seal != f'{sha256_bytes(text.encode())}"}}':
        raise ValueError("its content does not match its hash")
    return text


def write_sums(folder: Path, files: Iterable[Path]) -> None:
    """Write down the hashes of a finished folder's files."""
    lines = [f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in sorted(files)]
    write_atomic(folder / SUMS, "".join(lines))


def summed_names(folder: Path) -> list[str]:
    """Return the files, relative to a folder that ``check_sums`` found whole, whose hashes were written down."""
    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8").split("\n") if sums.is_file() else []
    return [line.partition("  ")[2] for line in lines if line]


def check_sums(folder: Path) -> None:
    """Hold a folder's files against the hashes that were written down once it was finished, where there are any.

    Raises:
        InputError: a file is missing or was changed, or the hashes were.
    """
    sums = folder / SUMS
    if not sums.is_file():
        return
    try:
        lines = sums.read_text(encoding="utf-8").removesuffix("\n").split("\n")  # a name may hold other separators
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{sums}: cannot be read ({type(error).__name__})") from None
    for line in lines:
        recorded, gap, name = line.partition("  ")
        path = folder / name
        if not gap or "\0" in name or not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise InputError(f"{sums}: damaged; it names {name[:80]!r}")
        if not path.is_file() or sha256_file(path) != recorded:
            raise InputError(f"{path}: damaged; it is not what {SUMS} beside it was written for")
