# SPDX-License-Identifier: GPL-2.0-or-later
"""Namespaces and taps of this host's own kernel; nothing of them may be seen outside or stay."""

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cprtest import needs
from cprtest.errors import CprError
from cprtest.host import hostfile, namespace
from cprtest.host.network import Network
from cprtest.host.runs import Run
from cprtest.limits import TimeLimit, patience

TUNSETIFF = 0x400454CA  # linux/if_tun.h
IFF_TAP, IFF_NO_PI, IFF_MULTI_QUEUE, IFF_VNET_HDR = 0x2, 0x1000, 0x100, 0x4000

pytestmark = pytest.mark.skipif(bool(needs.unmet(["netns"])), reason="needs network namespaces")
with_tun = pytest.mark.skipif(bool(needs.unmet(["tun"])), reason="needs /dev/net/tun")


@pytest.fixture(params=["privileged", "unprivileged"])
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    """A network both ways: as root directly, and in a user namespace, as an ordinary user would get it."""
    if request.param == "unprivileged":
        if needs.unmet(["userns"]):
            pytest.skip("needs user namespaces")
        monkeypatch.setattr(namespace, "_unshare", refused)
    elif os.geteuid() != 0:
        pytest.skip("needs root")
    with Network() as made:
        assert made.namespace.needs_user_namespace == (request.param == "unprivileged")
        yield made


def refused() -> int:
    raise PermissionError


@pytest.fixture(autouse=True)
def no_host_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(hostfile.VARIABLE, raising=False)


def interfaces_outside() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


@with_tun
def test_tap_is_inside_and_only_there(network: Network) -> None:
    before = interfaces_outside()
    network.tap("cprtap0", address="10.99.1.1/24")
    assert "cprtap0" in network.run(["ip", "-brief", "link"]).stdout
    assert interfaces_outside() == before


@with_tun
def test_two_openers_of_a_multi_queue_tap(network: Network) -> None:
    """What source and target do: each attaches a queue of its own to one tap."""
    network.tap("tap0", queues=2)
    code = f"""
import fcntl, os, struct
for _ in range(2):
    tun = os.open("/dev/net/tun", os.O_RDWR)
    flags = {IFF_TAP | IFF_NO_PI | IFF_MULTI_QUEUE | IFF_VNET_HDR}
    fcntl.ioctl(tun, {TUNSETIFF}, struct.pack("16sH22x", b"tap0", flags))
"""
    network.run(["/usr/bin/python3", "-c", code])


@with_tun
def test_tap_without_queues_takes_one_opener(network: Network) -> None:
    network.tap("tap0")
    flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR
    code = f"""
import fcntl, os, struct
for _ in range(2):
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, {TUNSETIFF}, struct.pack("16sH22x", b"tap0", {flags}))
"""
    with pytest.raises(CprError, match="busy"):
        network.run(["/usr/bin/python3", "-c", code])


@with_tun
def test_tap_on_a_bridge(network: Network) -> None:
    network.bridge("br0", address="10.99.1.1/24")
    network.tap("tap0", bridge="br0")
    assert "master br0" in network.run(["ip", "link", "show", "tap0"]).stdout
    assert network.ping("10.99.1.1") < 1


def test_connection_made_from_inside(network: Network) -> None:
    listener = network.open_socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        greeter = threading.Thread(target=lambda: listener.accept()[0].sendall(b"hello"))
        greeter.start()
        with network.connect("127.0.0.1", port) as connection:
            assert connection.recv(5) == b"hello"
        greeter.join()
        with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", port), 1):
            pytest.fail("the listener must not be seen outside")


def test_refused_connection_names_the_other_side(network: Network) -> None:
    with pytest.raises(OSError, match=r"127\.0\.0\.1 port 9: Connection refused"):
        network.connect("127.0.0.1", 9)


def test_ping_that_nobody_answers_says_so(network: Network) -> None:
    with pytest.raises(TimeLimit, match=r"10\.1\.1\.1 to answer .* Network is unreachable"):
        network.ping("10.1.1.1", timeout=0.2 / patience())


def test_command_keeps_directory_environment_and_descriptors(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CPRTEST_PROBE", "kept")
    reading, writing = os.pipe()
    argv = network.command(
        ["sh", "-c", f"echo $PWD $CPRTEST_PROBE >/proc/self/fd/{writing}; cat /proc/net/dev"]
    )
    done = subprocess.run(argv, pass_fds=[writing], cwd=tmp_path, capture_output=True, text=True, check=True)
    os.close(writing)
    with os.fdopen(reading) as said:
        assert said.read() == f"{tmp_path} kept\n"
    assert [line.split(":")[0].strip() for line in done.stdout.splitlines()[2:]] == ["lo"]


def test_failing_command_says_what_it_was_given(network: Network) -> None:
    with pytest.raises(CprError, match=r"(?s)nonsense.*failed"):
        network.run(["ip", "link", "show", "nonsense"])
    with pytest.raises(CprError, match="not-an-address"):
        network.bridge("br0", address="not-an-address")


def test_namespace_is_gone_after_close() -> None:
    network = Network()
    inode = Path(network.namespace.path).stat().st_ino
    network.close()
    network.close()
    seen = set()
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            seen.add(link.stat().st_ino)
        except OSError:
            continue
    assert inode not in seen


def test_interface_that_is_not_listed_is_not_adopted(network: Network) -> None:
    with pytest.raises(CprError, match="lo stays where it is"):
        network.adopt("lo")
    assert "lo" in interfaces_outside()


def test_without_namespaces_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespace, "_unshare", refused)
    monkeypatch.setattr(namespace, "_HOLDER", ["sh", "-c", "echo unshare: not permitted >&2; exit 1"])
    with pytest.raises(CprError, match=r"unshare: not permitted.*--lane lab"):
        Network()


@with_tun
def test_passt_listens_and_ends_with_its_network(network: Network) -> None:
    with Run.start():
        path, forwards = network.passt("up0", "10.99.0.1", "10.99.0.2", 7007)
        again, another = network.passt("up0", "10.99.0.1", "10.99.0.2", 7007)
        assert path.is_socket() and again.is_socket() and (path, forwards) != (again, another)
        network.connect("127.0.0.1", forwards).close()
        processes = network._programs[:]
        network.close()
    assert all(process.poll() is not None for process in processes)


@with_tun
def test_a_tap_that_is_there_stays(network: Network) -> None:
    network.tap("tap0", queues=2)
    network.tap("tap0")
    assert network.run(["ip", "-oneline", "link", "show", "type", "tun"]).stdout.count("tap0") == 1
