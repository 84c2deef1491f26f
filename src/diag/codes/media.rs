//! Codes of the area `media`.

use super::{Code, bug, input};

pub(super) const CODES: &[Code] = &[
    input(
        "media/unreadable-picture",
        "A file that was given as a picture is none of PNG, JPEG, WebP, BMP, TIFF and GIF, or is damaged. The content decides, not the name. Open it in an image viewer; if that \
         works, save it again as PNG.",
    ),
    input(
        "media/picture-too-large",
        "A picture has more than 16384 pixels on a side or needs more than 1 GiB when decoded, or padding it would make one that has. Scale it down before; the model sees far fewer pixels.",
    ),
    input(
        "media/bad-npy",
        "A file that was given as an array is not a NumPy .npy file, or its length is not what its header says. Write it with `numpy.save`.",
    ),
    input(
        "media/npy-type",
        "A NumPy file holds elements of another type than the value that it was given for. Convert it before saving, for example with `array.astype(numpy.float32)`.",
    ),
    input(
        "media/no-member",
        "A NumPy archive (.npz) has no array of the wanted name, or it is compressed. Write it with `numpy.savez`, not `savez_compressed`.",
    ),
    input(
        "media/unknown-output",
        "The extension of the output's name decides its format: .mp4 (H.264), .gif, .png (one file a frame) or .npy (8-bit array). Another extension, or none, was given.",
    ),
    input(
        "media/unwritable-video",
        "Frames cannot be written in the chosen format: there are none, the frame rate is 0, or the size is beyond the format (mp4: 3840x2160, gif: 65535x65535). PNG and npy take any size.",
    ),
    bug(
        "media/encoder-failed",
        "The H.264 encoder or the MP4 writer refused frames that it should take. Writing .png or .npy instead keeps the result; please report it.",
    ),
];
