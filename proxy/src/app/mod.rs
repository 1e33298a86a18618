//! The composition root: the one place that knows everyone.

pub mod data_dir;
pub mod descriptors;
pub mod lifecycle;
pub mod systemd;
