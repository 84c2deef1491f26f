//! Plain functions on ndarray views: noise, sigmas, sampler steps, guidance, resize, CLIP preprocess, statistics.
//!
//! One implementation of the arithmetic that runs outside the models, used by `interp` and by `runtime`. Every function is
//! pure and gives the same bits on every platform and for every number of threads: transcendental functions come from the
//! pure-Rust `libm`, sums have one order. Shapes are checked by `ir` before anything here is called, so a mismatch is a bug
//! and panics.
//!
//! | file | theme |
//! | --- | --- |
//! | [`noise`] | named streams of normal numbers |
//! | [`schedule`] | sigmas, timesteps, guidance ramps |
//! | [`change`] | how far a tensor is from another |
//! | [`sampler`] | scaling of the input, the Euler step, guidance |
//! | [`resize`] | CLIP's antialiased bicubic, Pillow's Lanczos |
//! | [`fit`] | crop or pad a picture to an aspect ratio |
//! | [`convert`] | 8-bit pictures to tensors and back |
//! | [`stats`] | count, mean and sum of squares that merge |

#![expect(clippy::needless_pass_by_value, reason = "a view is a reference already")]

pub mod change;
pub mod convert;
pub mod fit;
pub mod noise;
pub mod resize;
pub mod sampler;
pub mod schedule;
pub mod stats;

#[cfg(test)]
mod testing {
    //! Golden files of the repository and, where the environment names one, of a folder of references.

    use std::fs::File;
    use std::path::Path;

    use ndarray::ArrayD;
    use ndarray_npy::{ReadNpyExt, ReadableElement};

    /// A file of `tests/data/resize`.
    pub(super) fn golden<T: ReadableElement>(name: &str) -> ArrayD<T> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/resize").join(name);
        ndarray_npy::read_npy(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// The references of the small Stable Video Diffusion, `$VIDC_SHARED/data/svd_tiny/ref.npz`.
    pub(super) struct Reference(zip::ZipArchive<File>);

    impl Reference {
        /// `None`, said on stderr, where `VIDC_SHARED` is not set.
        pub(super) fn open(test: &str) -> Option<Self> {
            let path = crate::skipped::shared(test)?.join("data/svd_tiny/ref.npz");
            Some(Self(zip::ZipArchive::new(File::open(path).unwrap()).unwrap()))
        }

        pub(super) fn read<T: ReadableElement>(&mut self, name: &str) -> ArrayD<T> {
            ArrayD::read_npy(self.0.by_name(&format!("{name}.npy")).unwrap()).unwrap()
        }
    }
}
