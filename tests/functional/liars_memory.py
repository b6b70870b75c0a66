# SPDX-License-Identifier: GPL-2.0-or-later
"""The memory workload finds a page that was poked through the memory file, and names its address."""

import os
import signal

from cprtest.faults import plants
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.memory import MemoryPattern


@needs("qemu:cpr-transfer")
class LyingMemory(CprTest):
    """
    :avocado: tags=full
    """

    def test_zeroed_page(self):
        """A page that is zero after the hand-over is found by the guest."""
        self.poked(lambda _ours, _other: bytes(plants.PAGE), "is zero")

    def test_stale_page(self):
        """A page as it was two sweeps ago is found."""
        self.poked(lambda ours, _other: ours, "is stale")

    def test_foreign_page(self):
        """A page that holds another page's contents is found."""
        self.poked(lambda _ours, other: other, "is foreign")

    def test_damaged_word(self):
        """Seven bytes that changed in a page are found."""
        self.poked(lambda _ours, _other: b"\xff" * 7, "is damaged")

    def test_seen_from_outside(self):
        """A page that is wrong is found in the memory file as well, with the guest stopped."""
        memory, pages = self.watched()
        plants.poke(memory.guest.machine, pages[0], bytes(plants.PAGE))
        found = [str(problem) for problem in memory.post_mortem()]
        self.assertEqual(len(found), 1, found)
        self.assertIn(f"memory at {pages[0]:#x} is zero", found[0])

    def test_silent_reporter(self):
        """While one of two reporters is silent the other writes on, and no page of either is called wrong."""
        guest = self.boot(vcpus=2)
        memory = MemoryPattern(guest)
        memory.wait_progress()
        guest.run("set -- $(pidof memory-pattern); kill -STOP $1")
        with self.assertRaises(AssertionError) as raised:
            memory.wait_progress(seconds=2)
        self.assertRegex(str(raised.exception), r"silent are memory\.\d:")
        self.assertNotIn("memory at", str(raised.exception))

    def test_silent_qemu(self):
        """A QEMU that does not even answer its monitor makes the workload silent, and no page wrong."""
        guest = self.boot()
        memory = MemoryPattern(guest)
        memory.wait_progress()
        os.kill(guest.machine.pid, signal.SIGSTOP)
        try:
            with self.assertRaises(AssertionError) as raised:
                memory.wait_progress(seconds=0.2)
        finally:
            os.kill(guest.machine.pid, signal.SIGCONT)
        self.assertIn("silent are memory.0:", str(raised.exception))
        self.assertNotIn("memory at", str(raised.exception))

    def watched(self):
        """A guest after a transfer, stopped, and two addresses of pages under watch."""
        guest = self.boot()
        memory = MemoryPattern(guest)
        memory.wait_progress()
        self.transfer(guest).assert_completed()
        memory.wait_progress()
        guest.machine.qmp.command("stop")
        return memory, memory.far_from_the_sweep(2)

    def poked(self, contents, text: str):
        memory, (ours, other) = self.watched()
        machine = memory.guest.machine
        old = plants.page(machine, ours)
        machine.qmp.command("cont")
        memory.wait_progress()
        machine.qmp.command("stop")
        planted = contents(old, plants.page(machine, other))
        plants.poke(machine, ours, planted)
        machine.qmp.command("cont")
        memory.wait_for("bad")
        memory.stop()
        with self.assertRaises(AssertionError) as raised:
            memory.check()
        self.assertIn(f"memory at {ours:#x} {text}", str(raised.exception))
        self.assertIn("[phase acquire]", str(raised.exception))
        self.assertNotIn(";", str(raised.exception), "one page was planted, more were found")
