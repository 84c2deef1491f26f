//! Pictures in; mp4, gif, png and npy out.
//!
//! What is read is bounded in memory before anything is allocated. What is written appears under its name only when it is complete
//! (`files::write_atomic`).

#![expect(clippy::needless_pass_by_value, reason = "a view is a reference already")]

pub mod npy;
pub mod picture;
pub mod video;
