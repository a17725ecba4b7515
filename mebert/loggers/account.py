"""Whether there is an account for Weights & Biases, without a prompt or a request."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from urllib.parse import urlsplit

PUBLIC_HOSTS = ("api.wandb.ai", "api.forge.coreweave.com")  # one server


def why_offline() -> str | None:
    """The reason why a run must be offline; None where it may go online (or W&B is disabled).

    Reads the environment (WANDB_MODE, WANDB_API_KEY, WANDB_IDENTITY_TOKEN_FILE, NETRC), W&B's settings files and the
    netrc file.
    """
    import wandb

    settings = wandb.setup().settings
    if settings.mode in ("offline", "dryrun"):
        return "as asked"
    key = os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE") or settings.api_key
    if key or settings.mode in ("disabled", "shared"):
        return None
    return None if has_key_in_netrc(str(settings.base_url)) else "no account was found"


def has_key_in_netrc(url: str) -> bool:
    """Whether the netrc file, where `wandb login` puts the key, has one for this server (the public has two names)."""
    paths = (Path(name).expanduser() for name in (os.environ.get("NETRC"), "~/.netrc", "~/_netrc") if name)
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return False
    try:
        entries = netrc.netrc(path)
    except (netrc.NetrcParseError, OSError):
        return False  # W&B itself passes over such a file with a warning
    host = urlsplit(url).netloc
    keys = [entries.authenticators(name) for name in (PUBLIC_HOSTS if host in PUBLIC_HOSTS else (host,))]
    return any(key is not None and key[2] for key in keys)
