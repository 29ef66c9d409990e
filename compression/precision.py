"""Number types in which this machine computes fast; what it would only imitate is refused."""

import platform

import torch

from capacity.errors import InputError


def fast_bf16(device: torch.device) -> bool:
    """Whether products in bfloat16 are this device's own: AMX or AVX-512 BF16 on x86; Ampere or later.

    Of other processors torch does not say; they are taken at their word.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu" or platform.machine().lower() not in ("x86_64", "amd64"):
        return True
    asked = [getattr(torch.cpu, f"_is_{unit}_supported", None) for unit in ("amx_tile", "avx512_bf16")]
    return not all(asked) or any(unit() for unit in asked if unit is not None)


def check_precision(mixed_precision: str, device: torch.device) -> None:
    """Raise InputError for bfloat16 products on a device that imitates them in single precision."""
    if mixed_precision == "bf16" and not fast_bf16(device):
        raise InputError(
            f"mixed_precision 'bf16': this {device.type} has no bfloat16 products of its own (AMX or AVX-512 "
            f"BF16; Ampere or later) and would imitate them, slower than 'no', which is fast here"
        )
