"""Which floating-point precision and which device a run uses when none is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from mebert.choices import PrecisionName
from mebert.errors import UserError

if TYPE_CHECKING:
    import lightning as L

# Names in `torch.cpu.get_capabilities()` of instructions that multiply bfloat16 matrices in hardware.
FAST_BF16_CPU = ("amx_bf16", "avx512_bf16", "sve_bf16", "bf16")


def pick_precision(accelerator: str = "auto") -> tuple[str, str]:
    """The Trainer's `precision`, and the reason: bf16-mixed where the hardware multiplies it fast, else float32.

    Emulated bfloat16 does not count: it is slower than float32.
    """
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16-mixed", f"{name} has fast bfloat16"
        return "32-true", f"{name} has no fast bfloat16"
    if accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        capabilities = torch.cpu.get_capabilities()
        if found := [name for name in FAST_BF16_CPU if capabilities.get(name)]:
            return "bf16-mixed", f"this CPU has {found[0]}"
        return "32-true", "this CPU has no fast bfloat16"
    return "32-true", f"bfloat16 is not known to be fast on {accelerator!r}"


def inference_precision(trainer_precision: object) -> PrecisionName:
    """The precision of a prepared model for a Trainer: bfloat16 for its bf16 settings, float32 for all others."""
    return "bfloat16" if str(trainer_precision).startswith("bf16") else "float32"


def grad_scaler(trainer: L.Trainer) -> torch.amp.GradScaler | None:
    """The scaler of the loss, which float16 needs; None in other precisions."""
    return getattr(trainer.precision_plugin, "scaler", None)


def may_fuse(trainer: L.Trainer) -> bool:
    """Whether the optimiser may be fused: not with a scaler, nor where Lightning clips gradients in mixed precision.

    Lightning takes every fused optimiser there for one that unscales gradients itself, and refuses to clip them.
    """
    mixed = str(trainer.precision).endswith("-mixed")
    return grad_scaler(trainer) is None and not (mixed and trainer.gradient_clip_val)


def pick_device(name: str) -> torch.device:
    """The device with this name, which must be usable; `auto`: an accelerator if there is one."""
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator()
        return torch.device("cpu") if accelerator is None else accelerator
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        if reason.startswith("Expected one of"):  # a list of all that PyTorch has ever run on
            reason = "there is no such kind"
        raise UserError(f"device {name!r} cannot be used: {reason}; take auto, cpu, cuda, cuda:1 or mps") from error
    return device
