//! What a disk is: pure data and pure functions, no I/O.

pub mod device;
pub mod disk;
pub mod ganeti;
mod generated;
mod json;
pub mod kept;
pub mod names;
pub mod objects;
pub mod params;
pub mod secret;
pub mod settings;
pub mod size;
pub mod template;

pub use device::{FileDriver, LogicalDevice, LogicalId};
pub use disk::{AccessMode, Disk, DynamicParams};
pub use ganeti::Config;
pub use generated::GeneratedName;
pub use json::{JsonError, Object, Origin};
pub use kept::{Kept, Mirror, Part};
pub use objects::{Cluster, Instance, Migration, Node, NodeGroup};
pub use secret::Secret;
pub use settings::Settings;
pub use size::Mebibytes;
pub use template::{DiskTemplate, TemplateSet};
