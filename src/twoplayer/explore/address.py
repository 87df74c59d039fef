"""Where the page may be served; asked before anything heavy is imported."""

from __future__ import annotations

import errno
import ipaddress
import socket
from pathlib import Path

from twoplayer.core.errors import UserError


def is_own(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_servable(root: Path, host: str, port: int, user: str | None, password: str | None) -> None:
    """Raise UserError: no such folder, an address open to others without a password, or a port that is taken."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; twoplayer train makes runs in runs/")
    if not is_own(host) and not (user and password):
        raise UserError(f"--host {host} is open to other machines: it needs --user NAME and $TWOPLAYER_PASSWORD")
    if ":" in host:
        raise UserError(f"--host {host}: an IPv4 address or a name")
    if user and not password:
        raise UserError(f"--user {user} needs a password in $TWOPLAYER_PASSWORD")
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"port {port} is taken; choose another with --port") from error
        raise UserError(f"--host {host} --port {port}: {error.strerror or error}") from error
