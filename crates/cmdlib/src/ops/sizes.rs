//! How large disks really are: storage rounds up, and an instance may use all that it was given.

use gnt_bdev::Target;

use crate::error::{Error, Result};
use crate::node::Node;
use crate::ops::Subject;
use crate::step::Place;

/// How many bytes of each disk its instance sees. `node` is the primary one.
///
/// # Errors
/// [`Error::Gone`] if the data of a disk is not there.
pub(crate) async fn sizes(subject: &Subject, node: &impl Node) -> Result<Vec<u64>> {
    let places = subject.disks.iter().map(|disk| subject.place(disk.data_device()));
    let places: Vec<Place> = places.collect::<Result<_>>()?;
    let targets: Vec<Target<'_>> = places.iter().map(Place::target).collect();
    let found = node.find_all(&targets).await?;
    let mut sizes = Vec::new();
    for (disk, found) in subject.disks.iter().zip(found) {
        let status = found?.ok_or_else(|| Error::Gone {
            disk: disk.to_string(),
            instance: subject.instance.name.clone(),
        })?;
        // A mirror is put into use with the size that is configured, whatever is below it.
        let real = status.device.bytes.filter(|_| disk.children.is_empty());
        sizes.push(real.unwrap_or_else(|| disk.size.bytes()));
    }
    Ok(sizes)
}
