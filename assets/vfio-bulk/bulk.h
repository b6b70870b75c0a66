/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vfio-bulk: a stand-in for a VFIO device that has a lot of state to migrate.
 *
 * It drives an ivshmem device by vfio_pci_core and adds the migration protocol (version 2,
 * include/uapi/linux/vfio.h) to it. Its state is the device's memory (BAR 2), followed by bytes
 * that only the device itself sees. See README.md.
 */
#ifndef VFIO_BULK_H
#define VFIO_BULK_H

#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/time64.h>
#include <linux/vfio_pci_core.h>

#define BULK_ARCS	32

/* An arc sleeps under the lock; four arcs, the longest combination, keep others waiting for 40 s. */
#define BULK_LATENCY_MAX	(10 * USEC_PER_SEC)
/* Slower than that, 4 GiB would take more than an hour. */
#define BULK_RATE_MIN		SZ_1M

enum bulk_fault_kind {
	BULK_NO_FAULT,
	BULK_REFUSE,	/* an arc into the state fails, the device stays where it is */
	BULK_BREAK,	/* an arc into the state fails, the device is in ERROR */
	BULK_SPOIL,	/* reading or writing data in the state fails */
	BULK_FLIP,	/* reading or writing data in the state damages one byte of it, unnoticed */
};

struct bulk_fault {
	enum bulk_fault_kind kind;
	enum vfio_device_mig_state in;
};

/* One change of state, as told in sysfs. */
struct bulk_arc {
	ktime_t at;
	pid_t who;
	enum vfio_device_mig_state from;
	enum vfio_device_mig_state to;
	int error;
};

struct bulk_session;

struct bulk_device {
	struct vfio_pci_core_device core;

	/*
	 * All that follows, but for what has a lock of its own. Comes after vfio's dev_set->lock, which is held
	 * when the device is opened and closed, and before its memory_lock and a session's lock.
	 */
	struct mutex lock;
	enum vfio_device_mig_state state;
	struct bulk_session *session;	/* data transfer that is under way, or NULL */
	struct bulk_arc arcs[BULK_ARCS];
	unsigned int arc_count;

	atomic_t resets;		/* resets that nobody has looked at yet */

	spinlock_t fault_lock;		/* of the fault: data moves without the lock above */
	struct bulk_fault fault;	/* strikes once */

	/* What the state is made of; changes only while no session is under way. */
	size_t size;
	void *bar;			/* NULL while nobody has the device open */
	size_t bar_size;
	void *hidden;
	size_t hidden_size;

	/* How slow it is. */
	u64 rate;			/* bytes a second, at least BULK_RATE_MIN; 0: as fast as it can */
	unsigned int latency;		/* microseconds an arc takes, up to BULK_LATENCY_MAX */
};

extern const char *const bulk_state_names[VFIO_DEVICE_STATE_NR];
extern const char *const bulk_fault_names[];
extern const struct vfio_migration_ops bulk_migration_ops;
extern const struct attribute_group *bulk_groups[];

static inline struct bulk_device *to_bulk(struct vfio_device *device)
{
	return container_of(device, struct bulk_device, core.vdev);
}

/* migration.c */
int bulk_sleep_until(ktime_t end);
void bulk_settle(struct bulk_device *bulk);
void bulk_end_session(struct bulk_device *bulk);
bool bulk_strikes(struct bulk_device *bulk, enum bulk_fault_kind kind,
		  enum vfio_device_mig_state in);

/* memory.c */
int bulk_resize(struct bulk_device *bulk, size_t size);
void bulk_fill(struct bulk_device *bulk, u64 seed);
void bulk_forget(struct bulk_device *bulk);
int bulk_map_bar(struct bulk_device *bulk);
void bulk_unmap_bar(struct bulk_device *bulk);
void bulk_answer(struct bulk_device *bulk);
size_t bulk_visible(struct bulk_device *bulk);
void *bulk_at(struct bulk_device *bulk, size_t offset, size_t *length);
u32 bulk_fingerprint(struct bulk_device *bulk);

/* stream.c */
struct bulk_session *bulk_session_begin(struct bulk_device *bulk, bool saving, struct file **filp);
void bulk_session_stop_copy(struct bulk_session *session);
bool bulk_session_complete(struct bulk_session *session);
void bulk_session_end(struct bulk_session *session);
size_t bulk_stream_size(struct bulk_device *bulk);

#endif
