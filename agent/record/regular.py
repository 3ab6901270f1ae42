"""Files that hold content themselves: no link to another place, no pipe, no device."""

import errno
import os
import stat
from pathlib import Path


def read_regular(path: Path, most: int = 2**28) -> bytes:
    """Return the content of a file that is no link, no pipe and no device.

    Args:
        path: the file.
        most: bytes that are read at most.

    Raises:
        OSError: it cannot be read, is none of a kind that holds content, or is larger.
    """
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)) as stream:
        about = os.fstat(stream.fileno())
        if not stat.S_ISREG(about.st_mode) or about.st_size > most:
            raise OSError(errno.EINVAL, "no plain file of a size to be read")
        return stream.read()
