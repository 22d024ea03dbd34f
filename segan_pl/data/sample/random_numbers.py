"""Random numbers as a function of a sample's seed: the same on every device, in any order, for a whole batch at once.

Ours, since a generator of PyTorch makes other numbers on each kind of device, and one for each sample works one sample
at a time. A number is a hash of (seed, stream, position) in 32-bit integer arithmetic.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

ROUNDS = ((16, 0x21F0AAAD), (15, 0xD35A2D97 - 2**32))
"""Shifts and factors of C. Wellons' "lowbias32", the integer hash of two multiplications with the least known bias."""
# 2**32 over the golden ratio: neighbouring positions are far apart in what is hashed.
STEP = 0x9E3779B9 - 2**32
# Pairs of numbers at a time on a CPU: what is made of them stays in its cache.
CACHED = 2**16


def uniform(seed: Tensor, stream: int, count: int) -> Tensor:
    """(B, count) float32 in [0, 1), multiples of 2**-24.

    Args:
        seed: (B,) int64, from 0.
        stream: Streams of one seed have nothing to do with one another; those from 1000 on are never the package's own.
        count: Numbers for each sample; the first ones do not depend on it.
    """
    return _bits(_key(seed, stream), 0, count).to(torch.float32).mul_(2.0**-24)


def normal(seed: Tensor, stream: int, count: int) -> Tensor:
    """(B, count) float32 of the standard normal distribution (Box and Muller 1958), at most 5.8 in size."""
    half = -(-count // 2)
    made = torch.empty(len(seed), 2 * half, dtype=torch.float32, device=seed.device)
    few = CACHED if seed.device.type == "cpu" else max(1, half)
    key = _key(seed, stream)
    for first in range(0, half, few):
        last = min(half, first + few)
        radius = _bits(key, first, last).to(torch.float32).add_(1).mul_(2.0**-24).log_().mul_(-2).sqrt_()
        angle = _bits(key, half + first, half + last).to(torch.float32).mul_(2 * math.pi * 2.0**-24)
        torch.mul(radius, angle.cos(), out=made[:, first:last])
        torch.mul(radius, angle.sin_(), out=made[:, half + first : half + last])
    return made[:, :count]


def _key(seed: Tensor, stream: int) -> Tensor:
    """(B, 1) int32, what a stream of a seed begins with."""
    low, high = seed.to(torch.int32)[:, None], (seed >> 32).to(torch.int32)[:, None]
    return _hashed(_hashed(_hashed(low ^ stream) ^ high))


def _bits(key: Tensor, first: int, last: int) -> Tensor:
    """(B, last - first) int32, 24 random bits for each position."""
    position = torch.arange(first, last, dtype=torch.int32, device=key.device).mul_(STEP)
    return _hashed(position + key).bitwise_right_shift_(8).bitwise_and_(2**24 - 1)


def _hashed(bits: Tensor) -> Tensor:
    """`bits` (int32), hashed where they lie."""
    for shift, factor in ROUNDS:
        bits.bitwise_xor_((bits >> shift).bitwise_and_(2 ** (32 - shift) - 1)).mul_(factor)
    return bits.bitwise_xor_((bits >> 15).bitwise_and_(2**17 - 1))
