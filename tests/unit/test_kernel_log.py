# SPDX-License-Identifier: GPL-2.0-or-later
"""What counts as trouble in a kernel's log. In guests: tests/functional/liars_guest.py."""

import pytest

from cprtest.workloads.kernel_log import trouble


@pytest.mark.parametrize(
    "line, kind",
    [
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 5s! [cpu-burn:88]", "soft lockup"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", "RCU stall"),
        ("INFO: task dd:101 blocked for more than 1 seconds.", "hung task"),
        ("BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!", "workqueue lockup"),
        ("sched: RT throttling activated", "scheduler"),
        ("BUG: scheduling while atomic: sh/61/0x00000002", "scheduler"),
        ("NOHZ tick-stop error: local softirq work is pending, handler #08!!!", "softirq"),
        ("softirq: huh, entered softirq 3 NET_RX 0000 with preempt_count 100, exited with 101?", "softirq"),
        ("BUG: kernel NULL pointer dereference, address: 0000000000000000", "crash"),
        ('irq 11: nobody cared (try booting with the "irqpoll" option)', "interrupt lost"),
        ("clocksource: timekeeping watchdog on CPU0: tsc is UNSTABLE", "clocksource"),
    ],
)
def test_each_kind_is_told_once_by_its_own_name(line: str, kind: str) -> None:
    told = trouble(["quiet", f"[   12.3] {line}", f"[   13.3] {line}"])
    assert len(told) == 1
    assert told[0].text.startswith(f"{kind}: ") and told[0].text.endswith(", 2 lines")
    assert line.split(maxsplit=1)[0] in told[0].text


@pytest.mark.parametrize(
    "line",
    [
        "workqueue: drm_fb_helper_damage_work hogged CPU for >10000us 4 times, consider using it",
        "sched: DL replenish lagged too much",
        "hrtimer: interrupt took 5184213 ns",
        "clocksource: Long readout interval, skipping watchdog check: cs_nsec: 1 wd_nsec: 2",
        "virtio_net virtio0 eth0: renamed from eth1",
    ],
)
def test_what_a_pause_makes_a_sound_kernel_say_is_no_trouble(line: str) -> None:
    assert not trouble([f"[   12.3] {line}"])
