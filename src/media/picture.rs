//! Reads a picture as 8-bit RGB.

use std::io::{BufRead, BufReader, Cursor, Seek};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits};
use ndarray::Array3;

use crate::diag::{Diagnostic, Result};

/// Most pixels on a side.
const MAX_SIDE: u32 = 16_384;

/// Most bytes of a decoded picture.
const MAX_BYTES: u64 = 1 << 30;

/// The picture in the file at `path`, upright, as u8 [height, width, 3].
///
/// PNG, JPEG, WebP, BMP, TIFF and GIF (its first frame), known by content, not by name. The EXIF orientation is applied; alpha is dropped (the
/// colour stays as stored); 16 bits are scaled to 8; grey becomes RGB.
///
/// # Errors
/// `io/unreadable`, `media/unreadable-picture`, `media/picture-too-large`.
pub fn read_picture(path: &Path) -> Result<Array3<u8>> {
    let (file, _) = crate::files::open_regular(path)?;
    decode(BufReader::new(file), &path.display().to_string())
}

/// Like [`read_picture`], from bytes; `name` is what messages call it.
pub fn decode_picture(bytes: &[u8], name: &str) -> Result<Array3<u8>> {
    decode(Cursor::new(bytes), name)
}

fn decode(reader: impl BufRead + Seek, name: &str) -> Result<Array3<u8>> {
    let rgb = upright(reader).map_err(|e| explain(name, &e))?.into_rgb8();
    let (w, h) = rgb.dimensions();
    Ok(Array3::from_shape_vec((h as usize, w as usize, 3), rgb.into_raw()).expect("an RGB picture has 3 bytes a pixel"))
}

fn upright(reader: impl BufRead + Seek) -> std::result::Result<DynamicImage, ImageError> {
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_BYTES);
    let mut reader = ImageReader::new(reader).with_guessed_format()?;
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder()?;
    // Not every decoder counts its output against the limit, so it is counted here.
    limits.reserve(decoder.total_bytes())?;
    let orientation = decoder.orientation()?;
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn explain(name: &str, error: &ImageError) -> Diagnostic {
    if let ImageError::Limits(_) = error {
        let message = format!("`{name}` is larger than {MAX_SIDE} pixels on a side, or than 1 GiB when decoded");
        return Diagnostic::new("media/picture-too-large", message).help("scale it down before");
    }
    let message = format!("`{name}` cannot be read as a picture: {error}");
    Diagnostic::new("media/unreadable-picture", message).help("give a PNG, JPEG, WebP, BMP, TIFF or GIF file")
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::{ExtendedColorType, ImageEncoder, ImageFormat, Luma, LumaA, Rgb, Rgba};

    use super::*;

    fn encoded(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn small() -> DynamicImage {
        image::RgbImage::from_fn(3, 2, |x, y| Rgb([x as u8 * 100, y as u8 * 200, 7])).into()
    }

    fn check(picture: &DynamicImage, format: ImageFormat, first: [u8; 3]) {
        let got = decode_picture(&encoded(picture, format), "p").unwrap();
        assert_eq!(got.dim(), (picture.height() as usize, picture.width() as usize, 3));
        assert_eq!([got[[0, 0, 0]], got[[0, 0, 1]], got[[0, 0, 2]]], first, "{format:?}");
    }

    #[test]
    fn every_lossless_format_gives_the_same_pixels() {
        let want = decode_picture(&encoded(&small(), ImageFormat::Png), "p").unwrap();
        assert_eq!(want[[1, 2, 0]], 200);
        for format in [ImageFormat::Bmp, ImageFormat::Tiff, ImageFormat::WebP] {
            assert_eq!(decode_picture(&encoded(&small(), format), "p").unwrap(), want, "{format:?}");
        }
        check(&small().into_rgba8().into(), ImageFormat::Gif, [0, 0, 7]);
    }

    #[test]
    fn every_kind_of_pixel_becomes_rgb() {
        check(&image::GrayImage::from_pixel(2, 1, Luma([9])).into(), ImageFormat::Png, [9; 3]);
        check(&DynamicImage::ImageLumaA8(image::GrayAlphaImage::from_pixel(2, 1, LumaA([9, 0]))), ImageFormat::Png, [9; 3]);
        // Alpha is dropped, not composited: the colour under a transparent pixel stays.
        check(&image::RgbaImage::from_pixel(2, 1, Rgba([1, 2, 3, 0])).into(), ImageFormat::Png, [1, 2, 3]);
        let deep = image::ImageBuffer::from_pixel(2, 1, Rgb([0xFFFF_u16, 0x8080, 0x0101]));
        check(&DynamicImage::ImageRgb16(deep), ImageFormat::Png, [255, 128, 1]);
        let deep = image::ImageBuffer::from_pixel(2, 1, Luma([0x4040_u16]));
        check(&DynamicImage::ImageLuma16(deep), ImageFormat::Png, [64; 3]);
    }

    /// A JPEG, white on the left and black on the right, whose EXIF block says `orientation`.
    fn oriented(orientation: u8) -> Array3<u8> {
        let picture = image::GrayImage::from_fn(16, 8, |x, _| Luma([if x < 8 { 255 } else { 0 }]));
        let exif = [b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(), &[orientation], &[0; 6]].concat();
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        encoder.set_exif_metadata(exif).unwrap();
        encoder.write_image(&picture, 16, 8, ExtendedColorType::L8).unwrap();
        decode_picture(&bytes, "p").unwrap()
    }

    #[test]
    fn the_orientation_is_applied() {
        let corners = |p: &Array3<u8>| {
            let (h, w, _) = p.dim();
            [p[[0, 0, 0]] > 127, p[[0, w - 1, 0]] > 127, p[[h - 1, 0, 0]] > 127]
        };
        assert_eq!((oriented(1).dim(), corners(&oriented(1))), ((8, 16, 3), [true, false, true]));
        assert_eq!((oriented(3).dim(), corners(&oriented(3))), ((8, 16, 3), [false, true, false]));
        // 6: turn right by a quarter; what was left is now at the top.
        assert_eq!((oriented(6).dim(), corners(&oriented(6))), ((16, 8, 3), [true, true, false]));
    }

    fn refused(bytes: &[u8]) -> &'static str {
        decode_picture(bytes, "p").unwrap_err().code
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let good = encoded(&small(), ImageFormat::Png);
        assert_eq!(refused(b""), "media/unreadable-picture");
        assert_eq!(refused(b"hello, world"), "media/unreadable-picture");
        assert_eq!(refused(&good[..good.len() - 20]), "media/unreadable-picture");
        let mut flipped = good.clone();
        flipped[45] ^= 0xFF;
        assert_eq!(refused(&flipped), "media/unreadable-picture");
        let error = read_picture(Path::new("no-such-picture.png")).unwrap_err();
        assert_eq!(error.code, "io/unreadable");
    }

    /// A bitmap of 54 bytes that claims a size.
    fn claim(width: i32, height: i32) -> Vec<u8> {
        let mut bytes = b"BM".to_vec();
        bytes.extend([0; 8]);
        bytes.extend(54_u32.to_le_bytes());
        bytes.extend(40_u32.to_le_bytes());
        bytes.extend(width.to_le_bytes());
        bytes.extend(height.to_le_bytes());
        bytes.extend([1, 0, 24, 0]);
        bytes.extend([0; 24]);
        bytes
    }

    #[test]
    fn a_huge_claim_is_refused_before_memory_is_taken() {
        assert_eq!(refused(&claim(16_385, 1)), "media/picture-too-large");
        assert_eq!(refused(&claim(1, 60_000)), "media/picture-too-large");
        let deep = DynamicImage::new_rgba16(1, 1);
        let mut png = encoded(&deep, ImageFormat::Png);
        png[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]); // 16384 x 16384 x 8 bytes
        let code = refused(&png); // The header's checksum is wrong now; either reason is a good one, memory is not taken.
        assert!(["media/picture-too-large", "media/unreadable-picture"].contains(&code));
    }
}
