import platform
import subprocess
import sys

import pytest

ALLOCATE = """
import ctypes, sys
import torch
from lightning_zoo.cli.allocator import keep_freed_memory


class Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]


info = ctypes.CDLL(None).mallinfo2
info.restype = Mallinfo
if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = info()
activations = torch.empty(16_000_000).fill_(1.0)
mapped = info().hblkhd - before.hblkhd
del activations
print(mapped, info().arena - before.arena)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc 2.33 or newer")
@pytest.mark.parametrize("way", ["keep", "give back"])
def test_freed_memory_serves_the_next_step(way):
    """64 MB for activations: from the kernel and back to it, or from the heap, which keeps them."""
    done = subprocess.run([sys.executable, "-c", ALLOCATE, way], capture_output=True, text=True, check=True)
    mapped, kept = map(int, done.stdout.split())
    if way == "keep":
        assert mapped == 0
        assert kept >= 64_000_000
    else:
        assert mapped >= 64_000_000
