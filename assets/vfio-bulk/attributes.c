// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The directory `bulk` of a bound device in sysfs: how large and slow it is, and what happened to it.
 */
#include <linux/string.h>
#include <linux/sysfs.h>

#include "bulk.h"

static struct bulk_device *of(struct device *dev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(dev);

	return container_of(core, struct bulk_device, core);
}

static ssize_t size_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%zu\n", of(dev)->size);
}

static ssize_t size_store(struct device *dev, struct device_attribute *attr, const char *text,
			  size_t count)
{
	struct bulk_device *bulk = of(dev);
	u64 size;
	int ret = kstrtou64(text, 0, &size);

	if (ret)
		return ret;
	if (size < SZ_1M || size > SZ_4G || !PAGE_ALIGNED(size))
		return -EINVAL;
	mutex_lock(&bulk->lock);
	bulk_settle(bulk);
	ret = bulk_resize(bulk, size);
	mutex_unlock(&bulk->lock);
	return ret ?: count;
}
static DEVICE_ATTR_RW(size);

static ssize_t seed_store(struct device *dev, struct device_attribute *attr, const char *text,
			  size_t count)
{
	struct bulk_device *bulk = of(dev);
	u64 seed;
	int ret = kstrtou64(text, 0, &seed);

	if (ret)
		return ret;
	mutex_lock(&bulk->lock);
	bulk_settle(bulk);
	if (!bulk->bar)
		ret = -ENODEV;	/* nobody has it open: its memory is not mapped */
	else if (bulk->session)
		ret = -EBUSY;
	else
		bulk_fill(bulk, seed);
	mutex_unlock(&bulk->lock);
	return ret ?: count;
}
static DEVICE_ATTR_WO(seed);

static ssize_t rate_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%llu\n", of(dev)->rate);
}

static ssize_t rate_store(struct device *dev, struct device_attribute *attr, const char *text,
			  size_t count)
{
	u64 rate;
	int ret = kstrtou64(text, 0, &rate);

	if (ret)
		return ret;
	if (rate && rate < BULK_RATE_MIN)
		return -EINVAL;
	WRITE_ONCE(of(dev)->rate, rate);
	return count;
}
static DEVICE_ATTR_RW(rate);

static ssize_t latency_show(struct device *dev, struct device_attribute *attr, char *text)
{
	return sysfs_emit(text, "%u\n", of(dev)->latency);
}

static ssize_t latency_store(struct device *dev, struct device_attribute *attr, const char *text,
			     size_t count)
{
	unsigned int latency;
	int ret = kstrtouint(text, 0, &latency);

	if (ret)
		return ret;
	if (latency > BULK_LATENCY_MAX)
		return -EINVAL;
	WRITE_ONCE(of(dev)->latency, latency);
	return count;
}
static DEVICE_ATTR_RW(latency);

static ssize_t fault_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct bulk_device *bulk = of(dev);
	struct bulk_fault fault;

	spin_lock(&bulk->fault_lock);
	fault = bulk->fault;
	spin_unlock(&bulk->fault_lock);
	if (fault.kind == BULK_NO_FAULT)
		return sysfs_emit(text, "none\n");
	return sysfs_emit(text, "%s:%s\n", bulk_fault_names[fault.kind], bulk_state_names[fault.in]);
}

/* KIND:STATE, such as refuse:STOP_COPY; or none. */
static ssize_t fault_store(struct device *dev, struct device_attribute *attr, const char *text,
			   size_t count)
{
	struct bulk_device *bulk = of(dev);
	struct bulk_fault fault = {};
	const char *in = strchr(text, ':');
	int n;

	for (n = BULK_NO_FAULT + 1; in && n <= BULK_FLIP; n++)
		if (str_has_prefix(text, bulk_fault_names[n]) == in - text)
			fault.kind = n;
	for (n = VFIO_DEVICE_STATE_ERROR + 1; in && n < VFIO_DEVICE_STATE_NR; n++)
		if (sysfs_streq(in + 1, bulk_state_names[n]))
			fault.in = n;
	if ((!fault.kind || !fault.in) && !sysfs_streq(text, "none"))
		return -EINVAL;
	spin_lock(&bulk->fault_lock);
	bulk->fault = fault;
	spin_unlock(&bulk->fault_lock);
	return count;
}
static DEVICE_ATTR_RW(fault);

static ssize_t state_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct bulk_device *bulk = of(dev);
	ssize_t ret;

	mutex_lock(&bulk->lock);
	bulk_settle(bulk);
	ret = sysfs_emit(text, "%s\n", bulk_state_names[bulk->state]);
	mutex_unlock(&bulk->lock);
	return ret;
}
static DEVICE_ATTR_RO(state);

/* One arc a line, since the device was opened: time (ns, CLOCK_MONOTONIC), process, from, to, errno. */
static ssize_t arcs_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct bulk_device *bulk = of(dev);
	unsigned int n;
	ssize_t at = 0;

	mutex_lock(&bulk->lock);
	bulk_settle(bulk);
	n = bulk->arc_count > BULK_ARCS ? bulk->arc_count - BULK_ARCS : 0;
	for (; n < bulk->arc_count; n++) {
		struct bulk_arc *arc = &bulk->arcs[n % BULK_ARCS];

		at += sysfs_emit_at(text, at, "%lld %d %s %s %d\n", ktime_to_ns(arc->at), arc->who,
				    bulk_state_names[arc->from], bulk_state_names[arc->to],
				    -arc->error);
	}
	mutex_unlock(&bulk->lock);
	return at;
}
static DEVICE_ATTR_RO(arcs);

static ssize_t fingerprint_show(struct device *dev, struct device_attribute *attr, char *text)
{
	struct bulk_device *bulk = of(dev);
	ssize_t ret = -ENODEV;		/* nobody has it open: its memory is not mapped */

	mutex_lock(&bulk->lock);
	bulk_settle(bulk);
	if (bulk->bar)
		ret = sysfs_emit(text, "%08x\n", bulk_fingerprint(bulk));
	mutex_unlock(&bulk->lock);
	return ret;
}
static DEVICE_ATTR_RO(fingerprint);

static struct attribute *bulk_attributes[] = {
	&dev_attr_size.attr,
	&dev_attr_seed.attr,
	&dev_attr_rate.attr,
	&dev_attr_latency.attr,
	&dev_attr_fault.attr,
	&dev_attr_state.attr,
	&dev_attr_arcs.attr,
	&dev_attr_fingerprint.attr,
	NULL,
};

static const struct attribute_group bulk_group = {
	.name = "bulk",
	.attrs = bulk_attributes,
};

const struct attribute_group *bulk_groups[] = { &bulk_group, NULL };
