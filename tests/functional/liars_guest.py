# SPDX-License-Identifier: GPL-2.0-or-later
"""The checkers of clocks, vCPUs and the kernel's log find what was planted, and name it."""

import base64
import signal
import struct
import time

from cprtest.errors import CprError
from cprtest.faults.plants import PAGE
from cprtest.guest.guest import Guest
from cprtest.limits import stretched, wait_until
from cprtest.needs import needs
from cprtest.test import CprTest
from cprtest.workloads.clocks import Clocks
from cprtest.workloads.cpu import CpuBurn
from cprtest.workloads.kernel_log import KernelLog


def stop_last(guest: Guest, program: str) -> str:
    """Stop the program's process that was started last, which is the last vCPU's; returns its pid."""
    pid = guest.run(f"pidof {program} | tr ' ' '\\n' | sort -n | tail -n 1")
    guest.run(f"kill -STOP {pid}")
    return pid


@needs("qemu:cpr-transfer")
class LyingClocks(CprTest):
    """
    :avocado: tags=full
    """

    def test_wall_clock_set_back(self):
        """A wall clock that is set back by an hour is found, with the vCPU that saw it."""
        self.planted(
            "date -s @$(($(date +%s) - 3600))", r"clock\.0's operation \d+.*realtime clock stepped back by 36"
        )

    def test_wall_clock_set_ahead(self):
        """A wall clock that is set ahead by an hour, but for date's fraction of a second, is found."""
        self.planted(
            "date -s @$(($(date +%s) + 3600))",
            r"clock\.0's operation \d+.*wall clock stepped by (359\d|3600)\.",
        )

    def test_monotonic_clock_runs_ahead(self):
        """A monotonic clock that runs a tenth too fast is found."""
        self.planted("adjtimex -q -t 11000", r"clock\.0's operation \d+.*raw clock went away", ticks=100)

    def test_timer_is_mute(self):
        """A vCPU whose timers serve its reporter no more is found, by its number."""
        guest = self.boot(vcpus=2)
        clocks = Clocks(guest)
        clocks.wait_progress()
        stop_last(guest, "clock-watch")
        with self.assertRaisesRegex(AssertionError, r"silent are clock\.1:"):
            clocks.wait_progress(seconds=3)

    def test_timer_is_late(self):
        """A timer that fires seconds late is found, and nothing else."""
        guest = self.boot()
        clocks = Clocks(guest)
        clocks.wait_progress()
        late = stretched(1) + 2
        guest.run(f"kill -STOP $(pidof clock-watch); sleep {late:.0f}; kill -CONT $(pidof clock-watch)", 60)
        clocks.wait_progress()
        clocks.stop()
        with self.assertRaisesRegex(
            AssertionError, r"clock\.0's operation \d+.* a timer fired .* late"
        ) as raised:
            clocks.check()
        self.assertNotIn(";", str(raised.exception))

    def planted(self, command: str, found: str, ticks: int = 10):
        guest = self.boot()
        clocks = Clocks(guest)
        clocks.wait_progress()
        guest.run(command)
        clocks.wait_progress(ticks)
        clocks.stop()
        self.assertRaisesRegex(AssertionError, found, clocks.check)


@needs("qemu:cpr-transfer")
class LyingCpus(CprTest):
    """
    :avocado: tags=full
    """

    def test_vcpu_taken_away(self):
        """A vCPU that is taken offline is found: somebody else does its work."""
        guest, burn = self.burning()
        guest.run("echo 0 >/sys/devices/system/cpu/cpu1/online")
        burn.wait_progress()
        self.assertRaisesRegex(
            AssertionError, r"cpu\.1's operation \d+: vCPU 1 did not run it, vCPU 0 did", burn.check
        )

    def test_vcpu_stands_still(self):
        """A vCPU whose work stands still is found, by its number."""
        guest, burn = self.burning()
        stop_last(guest, "cpu-burn")
        with self.assertRaisesRegex(AssertionError, r"silent are cpu\.1:"):
            burn.wait_progress(seconds=3)

    def test_wrong_result(self):
        """A sum that was changed in the memory of who adds it up is found, with its vCPU, and no other."""
        guest, burn = self.burning()
        pid = stop_last(guest, "cpu-burn")
        rounds = max(int(op.result[2]) for op in burn.operations("burn") if op.who == "cpu.1")
        end = int(guest.run(f"grep stack /proc/{pid}/maps").split()[0].partition("-")[2], 16)
        start = end - 4 * PAGE
        read = f"dd if=/proc/{pid}/mem bs={PAGE} skip={start // PAGE} count=4 2>/dev/null | base64"
        doubles = struct.iter_unpack("<d", base64.b64decode(guest.run(read)))
        # Copies of what was reported last, too, if there are any: nobody reads them.
        sums = [start + 8 * n for n, (value,) in enumerate(doubles) if 0 <= 2 * value - rounds < 1e12]
        self.assertTrue(sums, "no sum is on the stack")
        for address in sums:
            guest.run(f"dd if=/dev/zero of=/proc/{pid}/mem bs=8 seek={address // 8} count=1 conv=notrunc")
        guest.run(f"kill -CONT {pid}")
        burn.wait_progress()
        with self.assertRaisesRegex(AssertionError, r"cpu\.1's operation \d+: floating point") as raised:
            burn.check()
        self.assertNotIn("cpu.0", str(raised.exception))

    def burning(self):
        guest = self.boot(vcpus=2)
        burn = CpuBurn(guest)
        burn.wait_progress()
        return guest, burn


@needs("qemu:cpr-transfer")
class LyingKernel(CprTest):
    """
    :avocado: tags=full
    """

    def test_hung_task(self):
        """A task that hangs because its disk does is found, in the kernel's words."""
        guest = self.boot(disk=self.disk())
        kernel = KernelLog(guest)
        # One byte a second. HMP, because QMP's arguments have underscores here.
        throttle = "block_set_io_throttle /machine/peripheral/disk0/virtio-backend 1 0 0 0 0 0"
        said = guest.machine.qmp.command("human-monitor-command", command_line=throttle)
        self.assertEqual(said, "")
        guest.run("echo 1 >/proc/sys/kernel/hung_task_timeout_secs")
        guest.run("dd if=/dev/zero of=/dev/vda bs=1M count=8 conv=fsync >/dev/null 2>&1 </dev/null &")
        self.assert_told(kernel, "hung task: .*dd.* blocked for more than 1 seconds")

    def test_soft_lockup(self):
        """A vCPU that gets no time for seconds is found: the host stopped QEMU."""
        guest = self.boot()
        kernel = KernelLog(guest)
        guest.run("echo 1 >/proc/sys/kernel/watchdog_thresh")
        self.burn_without_end(guest)
        guest.machine.process.send_signal(signal.SIGSTOP)
        still = time.monotonic() + 6
        wait_until("six seconds to pass", lambda: time.monotonic() > still, 10)
        guest.machine.process.send_signal(signal.SIGCONT)
        self.assert_told(kernel, "soft lockup: .*soft lockup - CPU#0 stuck")

    def test_crash(self):
        """A kernel that died is found in what it left on its console."""
        guest = self.boot()
        kernel = KernelLog(guest)
        with self.assertRaises(CprError):
            guest.run("echo c >/proc/sysrq-trigger", seconds=3)
        self.assert_told(kernel, "crash: .*(sysrq|Kernel panic|BUG)")

    def burn_without_end(self, guest):
        guest.run("cpu-burn 1 1000 >/dev/null 2>&1 </dev/null &")

    def assert_told(self, kernel, text: str):
        wait_until("the kernel to say something", kernel.problems, 20)
        self.assertRaisesRegex(AssertionError, text, kernel.check)
