// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The states of the migration protocol and the arcs between them, and faults that strike there.
 */
#include <linux/file.h>
#include <linux/hrtimer.h>
#include <linux/sched/signal.h>

#include "bulk.h"

/* The words of include/uapi/linux/vfio.h. */
const char *const bulk_state_names[VFIO_DEVICE_STATE_NR] = {
	[VFIO_DEVICE_STATE_ERROR] = "ERROR",
	[VFIO_DEVICE_STATE_STOP] = "STOP",
	[VFIO_DEVICE_STATE_RUNNING] = "RUNNING",
	[VFIO_DEVICE_STATE_STOP_COPY] = "STOP_COPY",
	[VFIO_DEVICE_STATE_RESUMING] = "RESUMING",
	[VFIO_DEVICE_STATE_RUNNING_P2P] = "RUNNING_P2P",
	[VFIO_DEVICE_STATE_PRE_COPY] = "PRE_COPY",
	[VFIO_DEVICE_STATE_PRE_COPY_P2P] = "PRE_COPY_P2P",
};

const char *const bulk_fault_names[] = {
	[BULK_NO_FAULT] = "none",
	[BULK_REFUSE] = "refuse",
	[BULK_BREAK] = "break",
	[BULK_SPOIL] = "spoil",
	[BULK_FLIP] = "flip",
};

/* Whether the planted fault is @kind in state @in; if so it is used up. */
bool bulk_strikes(struct bulk_device *bulk, enum bulk_fault_kind kind,
		  enum vfio_device_mig_state in)
{
	bool strikes;

	spin_lock(&bulk->fault_lock);
	strikes = bulk->fault.kind == kind && bulk->fault.in == in;
	if (strikes)
		bulk->fault.kind = BULK_NO_FAULT;
	spin_unlock(&bulk->fault_lock);
	if (strikes)
		pci_info(bulk->core.pdev, "fault %s:%s strikes process %d\n",
			 bulk_fault_names[kind], bulk_state_names[in], task_tgid_nr(current));
	return strikes;
}

/* Sleep until @end (CLOCK_MONOTONIC); -EINTR as soon as the process is killed. */
int bulk_sleep_until(ktime_t end)
{
	while (ktime_before(ktime_get(), end)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		set_current_state(TASK_KILLABLE);
		schedule_hrtimeout(&end, HRTIMER_MODE_ABS);
	}
	return 0;
}

static void note_arc(struct bulk_device *bulk, enum vfio_device_mig_state to, int error)
{
	struct bulk_arc *arc = &bulk->arcs[bulk->arc_count++ % BULK_ARCS];

	*arc = (struct bulk_arc){
		.at = ktime_get(),
		.who = task_tgid_nr(current),
		.from = bulk->state,
		.to = to,
		.error = error,
	};
	if (!error)
		WRITE_ONCE(bulk->state, to);
}

void bulk_end_session(struct bulk_device *bulk)
{
	if (bulk->session)
		bulk_session_end(bulk->session);
	bulk->session = NULL;
}

/*
 * Take notice of a reset: the device runs, has forgotten, and nothing is being transferred. The reset
 * itself may come under locks that are taken while this driver's lock is held, so it is only counted there.
 */
void bulk_settle(struct bulk_device *bulk)
{
	lockdep_assert_held(&bulk->lock);
	if (!atomic_xchg(&bulk->resets, 0))
		return;
	bulk_end_session(bulk);
	bulk_forget(bulk);
	note_arc(bulk, VFIO_DEVICE_STATE_RUNNING, 0);
}

static bool is_saving(enum vfio_device_mig_state state)
{
	return state == VFIO_DEVICE_STATE_PRE_COPY || state == VFIO_DEVICE_STATE_PRE_COPY_P2P ||
	       state == VFIO_DEVICE_STATE_STOP_COPY;
}

static int begin_session(struct bulk_device *bulk, bool saving, struct file **filp)
{
	struct bulk_session *session = bulk_session_begin(bulk, saving, filp);

	if (IS_ERR(session))
		return PTR_ERR(session);
	bulk->session = session;
	return 0;
}

/* What an arc does beyond stopping and starting, which ivshmem has no notion of. */
static int pass_arc(struct bulk_device *bulk, enum vfio_device_mig_state to, struct file **filp)
{
	enum vfio_device_mig_state from = bulk->state;
	struct bulk_session *session = bulk->session;
	int ret = 0;

	if (from == VFIO_DEVICE_STATE_RESUMING) {
		/* It fails while the state is not complete, and then only a reset leads out. */
		ret = bulk_session_complete(session) ? 0 : -EINVAL;
		if (!ret)
			bulk_end_session(bulk);
	} else if (to == VFIO_DEVICE_STATE_RESUMING) {
		bulk_answer(bulk);
		ret = begin_session(bulk, false, filp);
	} else if (is_saving(to) && !is_saving(from)) {
		ret = begin_session(bulk, true, filp);
	} else if (is_saving(from) && !is_saving(to)) {
		bulk_end_session(bulk);
	}
	if (!ret && to == VFIO_DEVICE_STATE_STOP_COPY)
		bulk_session_stop_copy(bulk->session);
	return ret;
}

static int take_arc(struct bulk_device *bulk, enum vfio_device_mig_state to, struct file **filp)
{
	int ret = bulk_sleep_until(ktime_add_us(ktime_get(), READ_ONCE(bulk->latency)));

	if (ret) {
		/* Killed: the device stays where it is, since another process may have it, too. */
		note_arc(bulk, to, ret);
		return ret;
	}
	ret = -EIO;
	if (bulk_strikes(bulk, BULK_BREAK, to)) {
		bulk_end_session(bulk);
		note_arc(bulk, to, ret);
		note_arc(bulk, VFIO_DEVICE_STATE_ERROR, 0);
		return ret;
	}
	if (!bulk_strikes(bulk, BULK_REFUSE, to))
		ret = pass_arc(bulk, to, filp);
	note_arc(bulk, to, ret);
	return ret;
}

static struct file *bulk_set_state(struct vfio_device *device, enum vfio_device_mig_state wanted)
{
	struct bulk_device *bulk = to_bulk(device);
	struct file *filp = NULL;
	int ret = 0;

	/* Whoever has the lock may be in a slow arc. */
	if (mutex_lock_killable(&bulk->lock))
		return ERR_PTR(-EINTR);
	bulk_settle(bulk);
	while (!ret && bulk->state != wanted) {
		enum vfio_device_mig_state next;

		ret = vfio_mig_get_next_state(device, bulk->state, wanted, &next);
		if (!ret)
			ret = take_arc(bulk, next, &filp);
		/* Sessions begin on the last arc of a combination only. */
		if (!ret && WARN_ON(filp && next != wanted))
			ret = -EIO;
	}
	mutex_unlock(&bulk->lock);
	if (!ret)
		return filp;
	if (filp)
		fput(filp);
	return ERR_PTR(ret);
}

static int bulk_get_state(struct vfio_device *device, enum vfio_device_mig_state *state)
{
	struct bulk_device *bulk = to_bulk(device);

	mutex_lock(&bulk->lock);
	bulk_settle(bulk);
	*state = bulk->state;
	mutex_unlock(&bulk->lock);
	return 0;
}

static int bulk_get_data_size(struct vfio_device *device, unsigned long *length)
{
	struct bulk_device *bulk = to_bulk(device);

	mutex_lock(&bulk->lock);
	bulk_settle(bulk);
	*length = bulk_stream_size(bulk);
	mutex_unlock(&bulk->lock);
	return 0;
}

const struct vfio_migration_ops bulk_migration_ops = {
	.migration_set_state = bulk_set_state,
	.migration_get_state = bulk_get_state,
	.migration_get_data_size = bulk_get_data_size,
};
