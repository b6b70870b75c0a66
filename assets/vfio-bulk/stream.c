// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A data transfer session: the file through which user space reads the state, or writes it.
 *
 * The stream is a sequence of records, each a header and so many bytes of the state. In PRE_COPY
 * there is one record with all of it; STOP_COPY then adds what the guest may have changed since,
 * or all of it where there was no PRE_COPY. So bytes may come more than once, but a record begins
 * no further than what came before reaches: how far that is tells whether all of it is there.
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/math64.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "bulk.h"

#define BULK_MAGIC	0x314b4c55424f4656ull	/* "VFOBULK1" */

struct bulk_header {
	u64 magic;
	u64 offset;
	u64 length;
};

/*
 * Lives as long as its file, so longer than the device perhaps: @bulk is NULL once the session is over.
 * The device's lock may be held when @lock is taken, not the other way round.
 */
struct bulk_session {
	struct mutex lock;		/* all of it */
	struct bulk_device *bulk;
	struct file *filp;
	bool saving;
	bool stopped;			/* in STOP_COPY: the stream has an end */
	size_t again;			/* length of the record that is still to follow this one */
	struct bulk_header header;	/* of the record that is being read or written */
	size_t done;			/* bytes of that record, header included, that were */
	size_t received;		/* this many of the state's first bytes were written, without a gap */
};

/* Begin a record when saving: the file's reader finds it next. */
static void begin_record(struct bulk_session *session, size_t length)
{
	session->header = (struct bulk_header){ .magic = BULK_MAGIC, .length = length };
	session->done = 0;
}

static size_t remaining(struct bulk_session *session)
{
	return sizeof(session->header) + session->header.length - session->done;
}

/* The first byte of the state that the record has not carried yet; its header is done. */
static size_t reached(struct bulk_session *session)
{
	return session->header.offset + session->done - sizeof(session->header);
}

/* It is as slow as it was told to be: when @bytes may have been moved that were asked for at @began. */
static ktime_t due(struct bulk_device *bulk, size_t bytes, ktime_t began)
{
	u64 rate = READ_ONCE(bulk->rate);

	/* No overflow: read and write are asked for less than 2 GiB at a time. */
	return rate ? ktime_add_ns(began, div64_u64((u64)bytes * NSEC_PER_SEC, rate)) : began;
}

static bool is_over(struct bulk_session *session)
{
	return !session->bulk || atomic_read(&session->bulk->resets);
}

/* Does the planted fault strike now? Asked only where data moves: who asks and is told so uses it up. */
static bool strikes(struct bulk_session *session, enum bulk_fault_kind kind)
{
	return bulk_strikes(session->bulk, kind, READ_ONCE(session->bulk->state));
}

/* Before data is read or written. */
static int admitted(struct bulk_session *session)
{
	if (is_over(session))
		return -ENODEV;
	return strikes(session, BULK_SPOIL) ? -EIO : 0;
}

/* The record's next byte, in its header or in the state; @length is cut down to what follows it there. */
static u8 *next_bytes(struct bulk_session *session, size_t *length)
{
	size_t in_header = sizeof(session->header);

	/* No more at once than a processor may be kept for: who calls looks whether others want it. */
	*length = min3(*length, remaining(session), (size_t)SZ_1M);
	if (session->done < in_header) {
		*length = min(*length, in_header - session->done);
		return (u8 *)&session->header + session->done;
	}
	return bulk_at(session->bulk, reached(session), length);
}

static ssize_t read_record(struct bulk_session *session, char __user *to, size_t count)
{
	size_t copied = 0;

	count = min(count, remaining(session));
	while (copied < count) {
		size_t length = count - copied;
		u8 *from = next_bytes(session, &length);
		u8 flipped;

		if (session->done >= sizeof(session->header) && strikes(session, BULK_FLIP)) {
			flipped = ~*from;
			from = &flipped;
			length = 1;
		}
		if (copy_to_user(to + copied, from, length))
			return -EFAULT;
		session->done += length;
		copied += length;
		cond_resched();
	}
	return copied;
}

static ssize_t bulk_read(struct file *filp, char __user *to, size_t count, loff_t *pos)
{
	struct bulk_session *session = filp->private_data;
	ktime_t began = ktime_get(), end = began;
	ssize_t ret;

	if (pos)
		return -ESPIPE;
	mutex_lock(&session->lock);
	ret = admitted(session);
	if (!remaining(session) && session->again) {
		begin_record(session, session->again);
		session->again = 0;
	}
	if (!ret && remaining(session))
		ret = read_record(session, to, count);
	else if (!ret && !session->stopped)
		ret = -ENOMSG;		/* all there is for now, in PRE_COPY */
	if (ret > 0)
		end = due(session->bulk, ret, began);
	mutex_unlock(&session->lock);
	/* Without the lock: a state that is left, or a device that is closed, waits for no slow reader. */
	bulk_sleep_until(end);
	return ret;
}

/* Whether a header that was written makes sense for this device. */
static bool acceptable(struct bulk_session *session)
{
	struct bulk_header *header = &session->header;
	size_t size = session->bulk->size;

	return header->magic == BULK_MAGIC && header->offset <= session->received &&
	       header->length <= size - header->offset;
}

static ssize_t write_record(struct bulk_session *session, const char __user *from, size_t count)
{
	size_t copied = 0;

	/* Refused before, and user space goes on: its offset is outside of the state, or no offset at all. */
	if (session->done >= sizeof(session->header) && !acceptable(session))
		return -EINVAL;
	while (copied < count) {
		bool in_header = session->done < sizeof(session->header);
		size_t length = count - copied;
		u8 *to = next_bytes(session, &length);

		if (copy_from_user(to, from + copied, length))
			return -EFAULT;
		if (!in_header && strikes(session, BULK_FLIP))
			to[0] = ~to[0];
		session->done += length;
		copied += length;
		if (!in_header)
			session->received = max(session->received, reached(session));
		else if (session->done == sizeof(session->header) && !acceptable(session))
			return -EINVAL;
		if (session->done >= sizeof(session->header) && !remaining(session))
			begin_record(session, 0);
		cond_resched();
	}
	return copied;
}

static ssize_t bulk_write(struct file *filp, const char __user *from, size_t count, loff_t *pos)
{
	struct bulk_session *session = filp->private_data;
	ktime_t began = ktime_get(), end = began;
	ssize_t ret;

	if (pos)
		return -ESPIPE;
	mutex_lock(&session->lock);
	ret = admitted(session);
	if (!ret)
		ret = write_record(session, from, count);
	if (ret > 0)
		end = due(session->bulk, ret, began);
	mutex_unlock(&session->lock);
	bulk_sleep_until(end);		/* without the lock, as in bulk_read */
	return ret;
}

static long bulk_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	struct bulk_session *session = filp->private_data;
	size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct vfio_precopy_info info = {};
	int ret;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;
	mutex_lock(&session->lock);
	ret = is_over(session) ? -ENODEV : 0;
	if (!ret && (!session->saving || session->stopped))
		ret = -EINVAL;		/* not in a PRE_COPY state */
	if (!ret) {
		info.flags = 0;
		info.initial_bytes = remaining(session);
		info.dirty_bytes = 0;
	}
	mutex_unlock(&session->lock);
	if (!ret && copy_to_user((void __user *)arg, &info, minsz))
		ret = -EFAULT;
	return ret;
}

static int bulk_release(struct inode *inode, struct file *filp)
{
	kfree(filp->private_data);
	return 0;
}

static const struct file_operations bulk_saving_fops = {
	.owner = THIS_MODULE,
	.read = bulk_read,
	.unlocked_ioctl = bulk_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = bulk_release,
};

static const struct file_operations bulk_resuming_fops = {
	.owner = THIS_MODULE,
	.write = bulk_write,
	.release = bulk_release,
};

/*
 * Begin a session. @filp is for user space; another reference is the session's own, until its end.
 */
struct bulk_session *bulk_session_begin(struct bulk_device *bulk, bool saving, struct file **filp)
{
	const struct file_operations *fops = saving ? &bulk_saving_fops : &bulk_resuming_fops;
	struct bulk_session *session = kzalloc(sizeof(*session), GFP_KERNEL_ACCOUNT);
	struct file *file;

	if (!session)
		return ERR_PTR(-ENOMEM);
	file = anon_inode_getfile("vfio-bulk", fops, session, saving ? O_RDONLY : O_WRONLY);
	if (IS_ERR(file)) {
		kfree(session);
		return ERR_CAST(file);
	}
	stream_open(file->f_inode, file);
	mutex_init(&session->lock);
	session->bulk = bulk;
	session->saving = saving;
	session->filp = file;
	begin_record(session, saving ? bulk->size : 0);
	*filp = get_file(file);
	return session;
}

/* The device has stopped: the stream goes on with what changed since PRE_COPY, and then ends. */
void bulk_session_stop_copy(struct bulk_session *session)
{
	mutex_lock(&session->lock);
	if (session->done)
		session->again = bulk_visible(session->bulk);
	session->stopped = true;
	mutex_unlock(&session->lock);
}

/* Whether a device that is to receive its state has got all of it. */
bool bulk_session_complete(struct bulk_session *session)
{
	bool complete;

	mutex_lock(&session->lock);
	complete = !session->done && session->received == session->bulk->size;
	mutex_unlock(&session->lock);
	return complete;
}

/* End a session: its file is of no use from now on. */
void bulk_session_end(struct bulk_session *session)
{
	mutex_lock(&session->lock);
	session->bulk = NULL;
	mutex_unlock(&session->lock);
	fput(session->filp);
}

/* How many bytes a session that begins in STOP_COPY has. */
size_t bulk_stream_size(struct bulk_device *bulk)
{
	return sizeof(struct bulk_header) + bulk->size;
}
