"""Writes down what a Python process and its children ask of the network; Python imports this before anything else.

The folder stands first on PYTHONPATH, and the environment names the file that the lines are added to.
"""

import os
import socket
import sys

WHERE = os.open(os.environ["CAO_TESTS_SOCKETS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _write(event: str, arguments: tuple[object, ...]) -> None:
    if not event.startswith("socket."):
        return
    family = arguments[1] if event == "socket.__new__" else getattr(arguments[0], "family", None) if arguments else None
    if family != socket.AF_UNIX:
        os.write(WHERE, f"{event} {arguments[1:]!r}\n".encode())


sys.addaudithook(_write)
