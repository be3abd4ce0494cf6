//! What the cluster does with an instance's disks.
