"""In which numbers the players compute.

"fp32" is float32 throughout. "bf16" lets convolutions and dense layers compute in bfloat16, and what lies between them
be kept in it. In float32 stay: the first and the last layers of both players (`ops/edge.py`); batch and minibatch
statistics; logits, losses, slopes and penalties; weights, gradients of weights, optimizers, averages and everything
else that a checkpoint holds. It is for processors that have bfloat16 arithmetic: others only imitate it, slowly. "auto"
is bf16 where the device has it.
"""

from __future__ import annotations

from typing import Literal

import torch

from twoplayer.core.errors import UserError

Precision = Literal["fp32", "bf16", "auto"]


def compute_dtype(precision: Precision, device: torch.device) -> torch.dtype | None:
    """What layers compute in; None for their own dtype."""
    return torch.bfloat16 if precision != "fp32" and has_bfloat16(device) else None


def require_precision(precision: Precision, device: torch.device) -> None:
    """Raise UserError where bf16 was asked for and the device has none."""
    if precision == "bf16" and not has_bfloat16(device):
        raise UserError(f"precision=bf16: this {device.type} has no bfloat16 arithmetic; use fp32 or auto")


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device computes in bfloat16 itself."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
