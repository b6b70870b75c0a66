# SPDX-License-Identifier: GPL-2.0-or-later
"""The interrupt vectors of assigned NICs, each by itself: none lost in the hand-over, none twice (C-13)."""

from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads import interrupts
from cprtest.workloads.passthrough import exerciser
from cprtest.workloads.vectors import NicVectors


class Counted(CprTest):
    """What the tests below share."""

    def counted(self, role: str, *, msi: bool = True):
        guest = self.boot(passthrough=[role])
        (device,) = guest.passthrough
        if not msi:
            interrupts.without_msi(guest, device)
        nic = exerciser(guest, device, lambda: self.network)
        return guest, device, nic, NicVectors(guest, device, nic)


@needs("qemu:vfio-cpr", "kvm", "netns")
class NicInterrupts(Counted):
    """
    :avocado: tags=full
    """

    @needs("vfio:virtio-net", "wire:virtio-net")
    def test_virtio_net(self):
        """What packets move of a virtio-net NIC's vectors they move on the target, and at rest none comes."""
        self.vectors_cross("virtio-net", "input.0", "output.0")

    @needs("vfio:igb-vf", "wire:igb-vf")
    def test_igb_vf(self):
        """The same for a virtual function of an igb NIC."""
        self.vectors_cross("igb-vf", "rx-0", "tx-0")

    @needs("vfio:e1000e", "wire:e1000e")
    def test_e1000e(self):
        """The same for a NIC without a reset of its own."""
        self.vectors_cross("e1000e", "rx-0", "tx-0")

    @needs("vfio:e1000e", "wire:e1000e")
    def test_intx(self):
        """The same for the only line of a NIC without MSI."""
        guest, _, _, vectors = self.counted("e1000e", msi=False)
        self.assertEqual(len(vectors.moving), 1, f"more than one line: {vectors.moving}")
        self.cross_with(guest, vectors)

    def vectors_cross(self, role: str, *wanted: str):
        guest, _, _, vectors = self.counted(role)
        for name in wanted:
            self.assertTrue(any(seen.endswith(name) for seen in vectors.moving), f"{name}: {vectors.moving}")
        self.cross_with(guest, vectors)

    def cross_with(self, guest, vectors: NicVectors):
        self.transfer(guest).assert_completed()
        vectors.check()


@needs("qemu:vfio-cpr", "kvm", "netns")
class LyingNicInterrupts(Counted):
    """
    :avocado: tags=full
    """

    @needs("vfio:virtio-net", "wire:virtio-net")
    def test_vector_masked(self):
        """One vector that is masked behind the driver's back is found, though packets pass without it."""
        guest, device, nic, vectors = self.counted("virtio-net")
        (masked,) = (name for name in vectors.moving if name.endswith("output.0"))
        interrupts.mask_vector(guest, device, masked)
        nic.exercise()
        self.assertRaisesRegex(AssertionError, f"packets moved {masked} before", vectors.check)

    @needs("vfio:igb-vf", "wire:igb-vf")
    def test_interrupts_at_rest(self):
        """Interrupts without packets are found, with their vector and their number."""
        guest, device, _, vectors = self.counted("igb-vf")
        interrupts.raise_unasked(guest, device, 50)
        self.assertRaisesRegex(AssertionError, r"tx-0 came \d+ times while nothing was sent", vectors.check)
