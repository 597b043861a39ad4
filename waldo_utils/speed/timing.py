"""Fair clocks: methods take turns after a warm-up, memory of a process of its own, and this machine's matrix
rate."""

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch

from waldo_utils.models.devices import device, linear


def synchronize() -> None:
    """Wait for the GPU, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turns(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time calls in turns, after one warm-up of each: name -> seconds of each repeat."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            synchronize()
            begin = time.perf_counter()
            call()
            synchronize()
            if repeat:
                seconds[name].append(time.perf_counter() - begin)
    return seconds


def peak_memory(call: Callable[[], object]) -> float:
    """Return the bytes that a call needs at most beyond what is held before it; NaN where the system does not
    tell."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return float(torch.cuda.max_memory_allocated() - before)
    try:
        ctypes.CDLL(None).malloc_trim(0)  # glibc: give back what earlier calls left free
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # Linux: forget the peak
        before = _resident("VmRSS")
        call()
        return max(0.0, _resident("VmHWM") - before)
    except (OSError, AttributeError):
        call()
        return float("nan")


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024.0 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def matrix_rate(precision: torch.dtype, size: int = 1024, repeats: int = 30) -> float:
    """Return the multiply-adds a second of a big matrix product in a precision, the best of some repeats."""
    a = torch.randn(size, size, device=device()).to(precision)
    seconds = in_turns({"product": lambda: linear(a, a)}, repeats)["product"]
    return size**3 / min(seconds)


def tf32(call: Callable[[], object]) -> Callable[[], object]:
    """Return a call that lets GPUs round the factors of float32 products to TF32; processors take no
    notice."""

    def run() -> object:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            return call()
        finally:
            torch.set_float32_matmul_precision(before)

    return run
