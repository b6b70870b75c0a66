# SPDX-License-Identifier: GPL-2.0-or-later
"""Every vCPU computes without rest, on the vCPU it was told to, and gets the right results."""

from cprtest.guest.guest import Guest
from cprtest.workloads.history import Operation, Problem
from cprtest.workloads.workload import Workload

PERIOD_MS = 50
# cpu-burn.c has the same.
_FACTOR = 6364136223846793005
_ADDEND = 1442695040888963407
_MODULUS = 1 << 64


class CpuBurn(Workload):
    """One process a vCPU that never rests."""

    name = "cpu"
    program = "cpu-burn"

    def __init__(self, guest: Guest) -> None:
        super().__init__(guest, guest.spec.vcpus)
        self.start(f"cpu-burn {guest.spec.vcpus} {PERIOD_MS}")

    def judge(self) -> list[Problem]:
        """Work that was done elsewhere, or that came out wrong."""
        return [Problem(f"{op.place}: {wrong}") for op in self.operations("burn") if (wrong := _wrong(op))]


def _wrong(operation: Operation) -> str:
    vcpu = int(operation.who.rpartition(".")[2])
    ran, rounds, digest, total = operation.result[1:]
    if int(ran) != vcpu:
        return f"vCPU {vcpu} did not run it, vCPU {ran} did"
    wanted = after(vcpu, int(rounds))
    if int(digest) != wanted:
        return f"integers went wrong: {digest} after {rounds} rounds, {wanted} is right"
    if float(total) != int(rounds) / 2:
        return f"floating point went wrong: {total} after {rounds} rounds"
    return ""


def after(start: int, rounds: int) -> int:
    """The generator's state `rounds` steps after `start`: x -> a x + c, taken to a power by squaring."""
    factor, addend = 1, 0
    step = (_FACTOR, _ADDEND)
    while rounds:
        if rounds & 1:
            factor, addend = factor * step[0] % _MODULUS, (addend * step[0] + step[1]) % _MODULUS
        step = step[0] * step[0] % _MODULUS, (step[0] + 1) * step[1] % _MODULUS
        rounds >>= 1
    return (factor * start + addend) % _MODULUS
