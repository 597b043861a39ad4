"""What all tests share: drawing without a screen, and a disk that is soon full."""

import os
import subprocess

import matplotlib
import pytest

matplotlib.use("Agg")


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 512 KB, where this machine lets us make one; `mount -o remount,...` changes it."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not root or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    yield place
    subprocess.run(["umount", "-l", place], check=True)
