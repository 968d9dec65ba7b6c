import platform
import subprocess
import sys

import pytest

CYCLES = """
import resource, sys
import torch
from lightning_zoo.cli.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    activations = [torch.empty(size).fill_(1.0) for size in (4_300_000, 8_100_000, 2_000_000, 8_100_000)]
    del activations
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_serves_the_next_step():
    """Each page that a process gets from the kernel anew is a fault; one cycle's activations have 22,000 pages."""
    faults = {
        way: int(subprocess.run([sys.executable, "-c", CYCLES, way], capture_output=True, text=True, check=True).stdout)
        for way in ("keep", "give back")
    }
    assert faults["keep"] < 0.7 * faults["give back"]
