//! The pictures of `examples/` are read as they are meant: upright.

use vidc::host::resize::lanczos;
use vidc::media::picture::read_picture;

use crate::source::root;

/// The JPEG holds the PNG's scene at half the size, lying on its side, with the EXIF orientation that turns it upright.
#[test]
fn the_orientation_of_a_jpeg_is_obeyed() {
    let upright = read_picture(&root().join("examples/boat.png")).unwrap();
    let turned = read_picture(&root().join("examples/boat-rotated.jpg")).unwrap();
    assert_eq!((upright.shape(), turned.shape()), (&[288, 512, 3][..], &[144, 256, 3][..]));
    let want = lanczos(upright.view(), 144, 256);
    let differences = want.iter().zip(&turned).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let mean = differences.sum::<f64>() / want.len() as f64;
    assert!(mean < 3.0, "the pictures differ by {mean:.1} of 255 on average");
}
