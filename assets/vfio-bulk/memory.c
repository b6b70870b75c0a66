// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the device's state is made of: its memory (BAR 2), then bytes that only the device sees.
 */
#include <linux/crc32.h>
#include <linux/io.h>
#include <linux/sched.h>
#include <linux/string.h>
#include <linux/vmalloc.h>

#include "bulk.h"

#define BULK_BAR	2

/* Make the state @size bytes long, a multiple of the page size. The caller holds the lock. */
int bulk_resize(struct bulk_device *bulk, size_t size)
{
	size_t hidden_size = size > bulk->bar_size ? size - bulk->bar_size : 0;
	void *hidden = NULL;

	if (bulk->session)
		return -EBUSY;
	if (hidden_size) {
		hidden = vzalloc(hidden_size);
		if (!hidden)
			return -ENOMEM;
	}
	vfree(bulk->hidden);
	bulk->hidden = hidden;
	bulk->hidden_size = hidden_size;
	bulk->size = size;
	return 0;
}

/* Fill the state with a pattern without repetition: bytes at a wrong place are found, too. */
void bulk_fill(struct bulk_device *bulk, u64 seed)
{
	size_t offset = 0;

	while (offset < bulk->size) {
		size_t length = SZ_1M;
		u64 *words = bulk_at(bulk, offset, &length);
		size_t n;

		for (n = 0; n < length / sizeof(u64); n++)
			words[n] = (seed + offset / sizeof(u64) + n) * 0x9e3779b97f4a7c15ull;
		offset += length;
		cond_resched();
	}
}

static void clear(void *bytes, size_t length)
{
	size_t done;

	for (done = 0; done < length; done += SZ_1M) {
		memset(bytes + done, 0, min_t(size_t, length - done, SZ_1M));
		cond_resched();
	}
}

/* What a reset leaves: nothing of what only the device sees. ivshmem's memory survives resets. */
void bulk_forget(struct bulk_device *bulk)
{
	lockdep_assert_held(&bulk->lock);
	clear(bulk->hidden, bulk->hidden_size);
}

/*
 * Called when the device is opened: nothing of what former users left is in it. The caller holds the lock.
 *
 * The mapping is vfio's own, since a second one of another type is refused. ivshmem's memory is memory and
 * has no side effects, so it may be read and written like any other.
 */
int bulk_map_bar(struct bulk_device *bulk)
{
	int ret = vfio_pci_core_setup_barmap(&bulk->core, BULK_BAR);

	if (ret)
		return ret;
	bulk->bar = (__force void *)bulk->core.barmap[BULK_BAR];
	clear(bulk->bar, bulk->bar_size);
	bulk_forget(bulk);
	return 0;
}

/*
 * Let the memory answer. A device that receives its state is not set up yet: QEMU sends what configuration
 * space holds after the device's own state, and until then memory is switched off, and takes no writes.
 * What a device has inside would not depend on that.
 */
void bulk_answer(struct bulk_device *bulk)
{
	struct pci_dev *pdev = bulk->core.pdev;
	u16 command;

	down_write(&bulk->core.memory_lock);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	pci_write_config_word(pdev, PCI_COMMAND, command | PCI_COMMAND_MEMORY);
	up_write(&bulk->core.memory_lock);
}

/* Called when its last user closes it; the mapping goes with vfio's. */
void bulk_unmap_bar(struct bulk_device *bulk)
{
	bulk->bar = NULL;
}

/* How much of the state the guest can change at any time, without this driver being told. */
size_t bulk_visible(struct bulk_device *bulk)
{
	return min(bulk->size, bulk->bar_size);
}

/* Where the state's byte @offset is; @length is cut down to what follows it there. */
void *bulk_at(struct bulk_device *bulk, size_t offset, size_t *length)
{
	size_t visible = bulk_visible(bulk);

	if (offset < visible) {
		*length = min(*length, visible - offset);
		return bulk->bar + offset;
	}
	*length = min(*length, bulk->size - offset);
	return bulk->hidden + (offset - visible);
}

/* The CRC-32 of the state, for tests that want to know whether all of it arrived. */
u32 bulk_fingerprint(struct bulk_device *bulk)
{
	size_t offset = 0;
	u32 crc = ~0;

	while (offset < bulk->size) {
		size_t length = SZ_1M;
		void *bytes = bulk_at(bulk, offset, &length);

		crc = crc32_le(crc, bytes, length);
		offset += length;
		cond_resched();
	}
	return ~crc;
}
