"""`python -m mebert demo MODEL`: try a model in the browser, at any of its stored speeds."""

from __future__ import annotations

from dataclasses import dataclass

from mebert.choices import PrecisionName
from mebert.errors import UserError, check_range


@dataclass
class DemoSettings:
    """Try a model in the browser: a text, the speed, and what each exit makes of it.

    The exits light up one by one, with their confidence, until the text leaves; those behind show what they would have
    answered. The slider has the model's stored operating points, from full depth to the fastest. The page needs no
    network beyond this machine, and nothing that is typed is stored. For programs there is `serve`.

    Args:
        model: A checkpoint, a run, a model folder or a Hub id.
        port: Where the page is; 0 for any free port.
        host: Address to listen on; 0.0.0.0 lets other machines in, without a password.
        policy: Name of the policy, at the thresholds that are stored for it; null for the model's own.
        precision: float32, bfloat16 or int8; null for the default of EarlyExitClassifier on this machine.
        device: auto, cpu, cuda, cuda:1, mps.
    """

    model: str | None = None
    port: int = 7860
    host: str = "127.0.0.1"
    policy: str | None = None
    precision: PrecisionName | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.model is None:
            raise UserError("model is missing: give a checkpoint, a run, or its folder model")
        check_range("port", self.port, 0, 65535)


demo = DemoSettings
