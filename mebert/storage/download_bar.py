"""The progress bar of a download from the Hub: one, of its bytes, and none where it is over in a moment."""

from __future__ import annotations

from typing import Any

from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

SECONDS = 2.0  # that a download takes before a bar is shown
BYTES = ("huggingface_hub.snapshot_download", "huggingface_hub.http_get", "huggingface_hub.xet_get")


class DownloadBar(tqdm):
    """What huggingface_hub takes as `tqdm_class`: of its bars (files, bytes sent, bytes written) only the last."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        if settings.get("name") not in BYTES:
            settings["disable"] = True
        super().__init__(*args, **settings | {"desc": "Fetching", "delay": SECONDS})  # type: ignore[no-untyped-call]

    def set_description(self, desc: str | None = None, refresh: bool | None = True) -> None:
        """Keep the name, for which huggingface_hub has others as it goes on."""

    def display(self, *args: Any, **settings: Any) -> Any:
        """Show it, if it is time."""
        return super().display(*args, **settings) if self._time() >= self.start_t + self.delay else None
