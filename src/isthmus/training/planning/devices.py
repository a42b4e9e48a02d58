"""Devices by name, with what their makers' data sheets say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """A kind of device.

    Attributes:
        tflops: of dense products in bfloat16, 10^12 operations a second.
        memory: GiB.
        bandwidth: between devices of one machine, 10^9 bytes a second into each.
    """

    tflops: float
    memory: float
    bandwidth: float


DEVICES = {
    "A100": Device(312.0, 80.0, 240.0),
    "B200": Device(2250.0, 180.0, 720.0),
    "H100": Device(989.0, 80.0, 360.0),
    "H200": Device(989.0, 141.0, 360.0),
    "L40S": Device(362.0, 48.0, 24.0),
    "RTX 4090": Device(165.0, 24.0, 24.0),
}
"""By NVIDIA's data sheets: dense bfloat16 (the sheets' figures with sparsity, halved) and memory; of A100, B200, H100
and H200 the SXM form. Bandwidths: what NCCL assumes of NVLink (20 GB/s for each of A100's 12 links, 360 and 720 GB/s
for Hopper and Blackwell); of the PCIe 4 cards, three quarters of 32 GB/s."""
