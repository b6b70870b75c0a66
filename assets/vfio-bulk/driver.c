// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vfio-bulk: an ivshmem device by vfio_pci_core, with the migration protocol.
 */
#include <linux/module.h>
#include <linux/pci.h>

#include "bulk.h"

#define IVSHMEM_VENDOR	0x1af4
#define IVSHMEM_DEVICE	0x1110

static bool precopy = true;
module_param(precopy, bool, 0644);
MODULE_PARM_DESC(precopy, "Devices that are bound from now on support PRE_COPY");

static bool p2p = true;
module_param(p2p, bool, 0644);
MODULE_PARM_DESC(p2p, "Devices that are bound from now on support RUNNING_P2P");

static int bulk_open(struct vfio_device *device)
{
	struct bulk_device *bulk = to_bulk(device);
	int ret = vfio_pci_core_enable(&bulk->core);

	if (ret)
		return ret;
	/* One section: sysfs is there before the device is opened, and may replace what is cleared. */
	mutex_lock(&bulk->lock);
	ret = bulk_map_bar(bulk);
	if (!ret) {
		atomic_set(&bulk->resets, 0);
		WRITE_ONCE(bulk->state, VFIO_DEVICE_STATE_RUNNING);
		bulk->arc_count = 0;
	}
	mutex_unlock(&bulk->lock);
	if (ret) {
		vfio_pci_core_disable(&bulk->core);
		return ret;
	}
	vfio_pci_core_finish_enable(&bulk->core);
	return 0;
}

static void bulk_close(struct vfio_device *device)
{
	struct bulk_device *bulk = to_bulk(device);

	mutex_lock(&bulk->lock);
	bulk_end_session(bulk);
	bulk_unmap_bar(bulk);
	mutex_unlock(&bulk->lock);
	vfio_pci_core_close_device(device);
}

static int bulk_init(struct vfio_device *device)
{
	struct bulk_device *bulk = to_bulk(device);
	struct pci_dev *pdev = to_pci_dev(device->dev);
	int ret;

	mutex_init(&bulk->lock);
	spin_lock_init(&bulk->fault_lock);
	bulk->state = VFIO_DEVICE_STATE_RUNNING;
	bulk->bar_size = pci_resource_len(pdev, 2);
	if (!bulk->bar_size)
		return -ENODEV;
	ret = bulk_resize(bulk, SZ_1M);
	if (ret)
		return ret;
	device->migration_flags = VFIO_MIGRATION_STOP_COPY;
	if (p2p)
		device->migration_flags |= VFIO_MIGRATION_P2P;
	if (precopy)
		device->migration_flags |= VFIO_MIGRATION_PRE_COPY;
	device->mig_ops = &bulk_migration_ops;
	return vfio_pci_core_init_dev(device);
}

static void bulk_release(struct vfio_device *device)
{
	bulk_resize(to_bulk(device), 0);
	vfio_pci_core_release_dev(device);
}

static const struct vfio_device_ops bulk_ops = {
	.name = "vfio-bulk",
	.init = bulk_init,
	.release = bulk_release,
	.open_device = bulk_open,
	.close_device = bulk_close,
	.ioctl = vfio_pci_core_ioctl,
	.device_feature = vfio_pci_core_ioctl_feature,
	.read = vfio_pci_core_read,
	.write = vfio_pci_core_write,
	.mmap = vfio_pci_core_mmap,
	.request = vfio_pci_core_request,
	.match = vfio_pci_core_match,
	.bind_iommufd = vfio_iommufd_physical_bind,
	.unbind_iommufd = vfio_iommufd_physical_unbind,
	.attach_ioas = vfio_iommufd_physical_attach_ioas,
	.detach_ioas = vfio_iommufd_physical_detach_ioas,
};

static int bulk_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct bulk_device *bulk;
	int ret;

	bulk = vfio_alloc_device(bulk_device, core.vdev, &pdev->dev, &bulk_ops);
	if (IS_ERR(bulk))
		return PTR_ERR(bulk);
	dev_set_drvdata(&pdev->dev, &bulk->core);
	ret = vfio_pci_core_register_device(&bulk->core);
	if (ret)
		vfio_put_device(&bulk->core.vdev);
	return ret;
}

static void bulk_remove(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	vfio_pci_core_unregister_device(core);
	vfio_put_device(&core->vdev);
}

static void bulk_reset_done(struct pci_dev *pdev)
{
	struct vfio_pci_core_device *core = dev_get_drvdata(&pdev->dev);

	atomic_inc(&container_of(core, struct bulk_device, core)->resets);
}

static const struct pci_error_handlers bulk_error_handlers = {
	.reset_done = bulk_reset_done,
	.error_detected = vfio_pci_core_aer_err_detected,
};

/* Only by driver_override: no device becomes a stand-in that nobody asked for. */
static const struct pci_device_id bulk_ids[] = {
	{ PCI_DRIVER_OVERRIDE_DEVICE_VFIO(IVSHMEM_VENDOR, IVSHMEM_DEVICE) },
	{}
};
MODULE_DEVICE_TABLE(pci, bulk_ids);

static struct pci_driver bulk_driver = {
	.name = "vfio-bulk",
	.id_table = bulk_ids,
	.probe = bulk_probe,
	.remove = bulk_remove,
	.err_handler = &bulk_error_handlers,
	.dev_groups = bulk_groups,
	.driver_managed_dma = true,
};
module_pci_driver(bulk_driver);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Stand-in for a VFIO device with a lot of state to migrate, on ivshmem");
