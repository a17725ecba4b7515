"""The socket of the server: bound at once, so that a port in use is told before a model is opened."""

from __future__ import annotations

import socket

from mebert.errors import UserError

BACKLOG = 2048  # connections that wait to be accepted, as uvicorn has it


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket of a port on which nothing listens; it does not yet listen itself.

    Raises:
        UserError: The port is in use.
    """
    found = socket.socket(socket.AF_INET6 if host == "::" else socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
    except OSError as error:
        found.close()
        raise _port_error(host, port, error) from None
    return found


def listen(bound: socket.socket) -> None:
    """Let a socket listen: of several that are bound to one port, the first to do so has it.

    Raises:
        UserError: Another one has.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        host, port = bound.getsockname()[:2]
        raise _port_error(host, port, error) from None


def _port_error(host: str, port: int, error: OSError) -> UserError:
    why = error.strerror or str(error)
    return UserError(f"port {port} of {host}: {why}; give another one, such as --port {port + 1}")
