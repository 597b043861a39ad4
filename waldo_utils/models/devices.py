"""Facts of the machine that models run on: the device, the precision and the library that it is fast with."""

import os
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel


def device() -> torch.device:
    """Return the first CUDA device, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(depthwise: bool = False) -> torch.autocast:
    """Return a context that computes in bfloat16 where the machine has instructions for it, else in float32.

    Args:
        depthwise: whether the network is of depthwise convolutions: on processors these stay in float32,
            because their backward pass is ten times as slow in bfloat16.
    """
    if torch.cuda.is_available():
        return torch.autocast("cuda", torch.bfloat16, enabled=torch.cuda.is_bf16_supported())
    capabilities = torch.cpu.get_capabilities()
    return torch.autocast(
        "cpu", torch.bfloat16, enabled=bool(capabilities.get("avx512_bf16")) and not depthwise
    )


def attention() -> AbstractContextManager:
    """Return a context in which attention is fast to train: on processors as plain products, because the
    backward pass of torch's fused one takes twice as long in bfloat16 there."""
    return nullcontext() if torch.cuda.is_available() else sdpa_kernel(SDPBackend.MATH)


def loader_threads() -> int:
    """Return how many threads prepare photos: none on small machines, where the network needs the cores."""
    cores = os.cpu_count() or 1
    return 0 if cores <= 4 else min(8, cores - 2)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """Return x W' + b, perhaps through ReLU, by oneDNN on processors.

    In float32, torch's own linear layers call MKL, which on AMD processors leaves AVX-512 unused: less than
    half the rate.
    """
    if x.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "relu" if relu else "none", [], "")
    x = F.linear(x, weight, bias)
    return x.relu_() if relu else x
