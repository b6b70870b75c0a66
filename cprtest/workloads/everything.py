# SPDX-License-Identifier: GPL-2.0-or-later
"""Load on everything that a guest has, whatever that is: memory, disk, NICs, vsock, passthrough devices."""

from collections.abc import Callable

from cprtest.guest.guest import Guest
from cprtest.host.network import Network
from cprtest.machine.devices import Nic
from cprtest.machine.plugged import Vsock
from cprtest.machine.vhost import assert_in_use
from cprtest.workloads import echo
from cprtest.workloads.data import SmallData
from cprtest.workloads.passthrough import exercisers
from cprtest.workloads.vsock import VsockStreams


class Everything:
    """Load on all of `guest`'s devices. `network`: the test's, asked for only where a device needs it."""

    def __init__(self, guest: Guest, network: Callable[[], Network]) -> None:
        self._guest = guest
        devices = guest.spec.devices
        self._data = SmallData(guest)
        self._passed = exercisers(guest, network)
        nics = [device for device in devices if isinstance(device, Nic)]
        self._streams: list[echo.EchoStream | echo.Connections | VsockStreams] = [
            (echo.tcp if nic.lasting else echo.Connections)(guest, network(), nic.index) for nic in nics
        ]
        self._vsock = [VsockStreams(guest, connections=1) for d in devices if isinstance(d, Vsock)]
        self._streams += self._vsock
        self._workers = guest.vhost_queues + sum(isinstance(d, Vsock) for d in devices)

    def check(self) -> None:
        """Everything is as it was, works, and does so by vhost where it should.

        Raises AssertionError, Damage or TimeLimit; makes new data for the next round.
        """
        self._data.check()
        for device in self._passed:
            device.exercise()
        if self._workers:
            assert_in_use(self._guest.machine.pid, self._workers, self._progress)
        else:
            self._progress()

    def stop(self) -> None:
        """Let all streams come to their ends, and judge them whole."""
        for stream in self._streams:
            stream.stop()
        for streams in self._vsock:
            streams.check()

    def _progress(self) -> None:
        for stream in self._streams:
            stream.wait_progress()
