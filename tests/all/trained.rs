//! The trained model that travels with vidc, `models/svd-mini`.

use ndarray::{Array3, Array4, Axis};
use vidc::host::resize::lanczos;
use vidc::media::npy::read_npy;
use vidc::media::picture::read_picture;
use vidc::metrics::{frame_difference, psnr};

use crate::cli::{library, vidc};
use crate::source::root;

/// From a folder far away: the weights are found beside the graph. A few steps are enough to see the picture in the first frame, and noise
/// would be at 10 dB.
#[test]
fn the_trained_model_continues_the_picture() {
    let Some(library) = library() else { return };
    let home = tempfile::tempdir().unwrap();
    let (graph, picture) = (root().join("graphs/svd-mini.yaml"), root().join("examples/coffee.png"));
    let mut command = vidc(home.path());
    command.current_dir(home.path()).env("VIDC_ORT", library).arg("run").arg(&graph);
    command.arg("--input").arg(format!("image={}", picture.display())).args(["--set", "steps=6", "-o", "out.npy"]);
    let out = command.output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let frames: Array4<u8> = read_npy::<u8>(&home.path().join("out.npy")).unwrap().into_dimensionality().unwrap();
    assert_eq!(frames.dim(), (14, 128, 128, 3));
    let want: Array3<u8> = lanczos(read_picture(&picture).unwrap().view(), 128, 128);
    let near = psnr(frames.index_axis(Axis(0), 0), want.view(), 255.0);
    let moves = frame_difference(frames.view());
    eprintln!("first frame {near:.1} dB, frames differ by {moves:.4}");
    assert!(near > 16.0, "the first frame is at {near:.1} dB from the picture");
    assert!((0.001..0.2).contains(&moves), "frames differ by {moves:.4} on average");
}
