# SPDX-License-Identifier: GPL-2.0-or-later
"""The ioctls that change who owns a device, by name (linux/vhost.h, vfio.h, if_tun.h, kvm.h; x86-64)."""

COMMANDS = {
    "VHOST_SET_OWNER": 0xAF01,
    "VHOST_RESET_OWNER": 0xAF02,
    "VHOST_SET_FEATURES": 0x4008AF00,
    "VHOST_SET_MEM_TABLE": 0x4008AF03,
    "VHOST_SET_VRING_NUM": 0x4008AF10,
    "VHOST_SET_VRING_ADDR": 0x4028AF11,
    "VHOST_SET_VRING_BASE": 0x4008AF12,
    "VHOST_GET_VRING_BASE": 0xC008AF12,
    "VHOST_SET_VRING_ENDIAN": 0x4008AF13,
    "VHOST_SET_VRING_KICK": 0x4008AF20,
    "VHOST_SET_VRING_CALL": 0x4008AF21,
    "VHOST_SET_VRING_ERR": 0x4008AF22,
    "VHOST_SET_VRING_BUSYLOOP_TIMEOUT": 0x4008AF23,
    "VHOST_NET_SET_BACKEND": 0x4008AF30,
    "VHOST_VSOCK_SET_GUEST_CID": 0x4008AF60,
    "VHOST_VSOCK_SET_RUNNING": 0x4004AF61,
    "VFIO_GROUP_GET_DEVICE_FD": 0x3B6A,
    "VFIO_DEVICE_SET_IRQS": 0x3B6E,
    "VFIO_DEVICE_RESET": 0x3B6F,
    "VFIO_DEVICE_PCI_HOT_RESET": 0x3B71,
    "VFIO_IOMMU_MAP_DMA": 0x3B71,  # the same number, on a container
    "VFIO_IOMMU_UNMAP_DMA": 0x3B72,
    "TUNSETIFF": 0x400454CA,
    "TUNSETOFFLOAD": 0x400454D0,
    "TUNSETVNETHDRSZ": 0x400454D8,
    "TUNSETQUEUE": 0x400454D9,
    "KVM_CREATE_VM": 0xAE01,
}
NAMES = {number: name for name, number in COMMANDS.items()}


def name_of(command: int, *, container: bool) -> str:
    """The name of ioctl `command`. container: on a VFIO container, where one number means something else."""
    name = NAMES[command]
    return "VFIO_DEVICE_PCI_HOT_RESET" if name == "VFIO_IOMMU_MAP_DMA" and not container else name
