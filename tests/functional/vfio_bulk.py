# SPDX-License-Identifier: GPL-2.0-or-later
"""VFIO devices that can migrate a lot of state: it stays where it is, and they go on working."""

from cprtest.errors import CprError
from cprtest.faults.target import MainRefused
from cprtest.host.bulk import supports
from cprtest.host.mdev import mtty
from cprtest.machine.plugged import Assigned, Mediated
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.timeline.timeline import tag
from cprtest.workloads.bulk import BulkState


class BulkTest(CprTest):
    """A test whose guest has a device with much state."""

    def hand_over(self, mib: int, migration: str | None = None, **features: bool):
        guest, state = self.boot_bulk(mib, migration, **features)
        self.transfer(guest).assert_completed()
        state.check()
        state.assert_not_copied()

    def boot_bulk(self, mib: int, migration: str | None = None, **features: bool):
        supports(**features)
        guest = self.boot(passthrough=[Assigned("ivshmem", "vfio-bulk", migration)])
        return guest, BulkState(guest, mib)


@needs("kvm", "vfio:ivshmem", "module:vfio-bulk", "qemu:vfio-cpr")
class VfioBulk(BulkTest):
    """
    :avocado: tags=full
    """

    def test_state_stays(self):
        """A device that could migrate 96 MiB of state keeps them, and runs on the target."""
        self.hand_over(96)

    def test_migration_off(self):
        """The same when QEMU was told not to migrate the device."""
        self.hand_over(16, migration="off")

    def test_migration_on(self):
        """The same when QEMU was told that it has to be able to migrate the device."""
        self.hand_over(16, migration="on")

    def test_without_p2p(self):
        """A device that knows neither PRE_COPY nor RUNNING_P2P runs on the target, too."""
        self.hand_over(16, precopy=False, p2p=False)

    def test_handed_on_twice(self):
        """The target can hand the device on."""
        guest, state = self.boot_bulk(16)
        for _ in range(2):
            self.transfer(guest).assert_completed()
            state.check()

    def test_rolled_back(self):
        """After a failed transfer the device runs on the source, its state untouched; then it crosses."""
        guest, state = self.boot_bulk(16)
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        state.check()
        self.transfer(guest).assert_completed()
        state.check()


@needs("kvm", "vfio:ivshmem", "module:vfio-bulk", "qemu:vfio-cpr")
class BulkFaults(BulkTest):
    """A device that does not do as it is told.

    :avocado: tags=full
    """

    def test_slow(self):
        """A device whose changes of state take 0.2 s each is handed over."""
        guest, state = self.boot_bulk(16)
        state.host.slow_down(latency_us=200_000)
        self.transfer(guest).assert_completed()
        state.check()

    def test_does_not_stop(self):
        """A device that refuses to stop for the source ends the transfer, and the guest goes on with it."""
        self.refused("refuse:STOP")

    def test_does_not_stop_p2p(self):
        """The same of one that refuses to stop its DMA to other devices."""
        self.refused("refuse:RUNNING_P2P")

    def test_dies_when_stopped(self):
        """The same of one that breaks down when it is to stop, and answers to nothing but its reset."""
        self.refused("break:STOP")

    def test_does_not_start_again(self):
        """A device that refuses to run when the source takes it back is reset, and the guest goes on with it.

        What only the device had, beyond its 64 MiB of memory, is gone then.
        """
        guest, state = self.boot_bulk(96)
        state.host.plant("refuse:RUNNING")
        self.transfer(guest, fault=MainRefused()).assert_rolled_back()
        self.goes_on_without_its_state(guest, state)

    def test_does_not_start_on_the_target(self):
        """The same on the target, which is too late for a roll-back."""
        guest, state = self.boot_bulk(96)
        state.host.plant("refuse:RUNNING")
        self.transfer(guest).assert_completed()
        self.goes_on_without_its_state(guest, state)

    def goes_on_without_its_state(self, guest, state):
        self.assertEqual(state.host.fault, "none", "the fault did not strike")
        self.assertEqual(state.host.state, "RUNNING")
        self.assertRaisesRegex(AssertionError, "device state: was", state.check_state)
        self.transfer(guest).assert_completed()

    def refused(self, fault: str):
        guest, state = self.boot_bulk(16)
        state.host.plant(fault)
        outcome = self.transfer(guest)
        self.assertEqual(state.host.fault, "none", "the fault did not strike")
        self.assertNotEqual(outcome.status, "completed", f"{tag('stop')} it was handed over all the same")
        outcome.assert_rolled_back()
        # QEMU resets a device that does not do as it is told; what it held is gone.
        self.transfer(guest).assert_completed()


@needs("kvm", "vfio:ivshmem", "module:vfio-bulk", "qemu:vfio-cpr")
class Reloaded(BulkTest):
    """
    :avocado: tags=full
    """

    def test_saved_and_loaded(self):
        """The stand-in is worth its name: all of its state goes through a file when the guest does."""
        guest, state = self.boot_bulk(96, "on")
        self.bed.reload(guest)
        state.check_state()

    def test_slow_data(self):
        """The same at 16 MiB a second, and not faster."""
        guest, state = self.boot_bulk(96, "on")
        state.host.slow_down(rate_mib=16)
        self.bed.reload(guest)
        state.check_state()
        times = {arc.after: arc.t for arc in state.host.arcs()}
        loaded = (times["STOP"] - times["RESUMING"]) / 1e9
        self.assertGreaterEqual(loaded, 5.5, "seconds for 96 MiB")

    def test_data_cannot_be_read(self):
        """State that the device does not give ends the migration; nothing is lost, and the next one works."""
        guest, state = self.boot_bulk(16, "on", precopy=False)
        state.host.plant("spoil:STOP_COPY")
        self.assertRaisesRegex(CprError, "could not migrate", self.bed.reload, guest)
        guest.machine.wait_run_state("running", seconds=20)
        state.check()
        self.bed.reload(guest)
        state.check_state()

    def test_byte_flipped(self):
        """A byte of it that changes on the way is found."""
        # Without PRE_COPY, or the guest's part of the state is read once more, and the damage mended.
        guest, state = self.boot_bulk(16, "on", precopy=False)
        state.host.plant("flip:STOP_COPY")
        self.bed.reload(guest)
        self.assertRaisesRegex(AssertionError, "device state: was", state.check_state)


@needs("kvm", "module:mtty", "qemu:vfio-cpr")
class Mtty(CprTest):
    """
    :avocado: tags=full
    """

    def test_refused(self):
        """A mediated device cannot be handed over, and QEMU says so at once; the guest keeps it."""
        guest = self.boot()
        guest.plug(Mediated(0, self.bed.hold(mtty())))
        outcome = self.transfer(guest)
        outcome.assert_refused()
        self.assertIn("CPR does not support vfio mdev", outcome.refusal)
        guest.run("true")
