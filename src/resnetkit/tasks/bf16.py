"""Whether bf16 is worth trying: a processor without it computes it a hundred times more slowly than float32."""

import os

import torch

_PROCESSORS = ("avx512_bf16", "amx_bf16", "bf16")
_UP_TO = ("BF16", "FP16", "AMX", "AVX10", "ALL", "DEFAULT")
"""what a limit on the instruction set is called, where it leaves bf16 in"""


SLOW = "this processor has no bf16 of its own and is many times slower in it: use --precision float32"


def has_native_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 itself, and oneDNN, which computes it on processors, was not told not to."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(each, False) for each in _PROCESSORS) and any(each in _limit() for each in _UP_TO)
    return False


def has_bf16_tiles() -> bool:
    """Whether this processor multiplies matrices of bf16 in one instruction (AMX), and oneDNN may use it."""
    tiles = bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return tiles and any(each in _limit() for each in ("AMX", "ALL", "DEFAULT"))


def _limit() -> str:
    """The instruction set up to which oneDNN was told to go."""
    return (os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or "ALL").upper()
