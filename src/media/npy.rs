//! `NumPy` arrays in and out: f32, u8 and i64, the types that pipeline values have at their borders.
//!
//! A header is read first and checked: at most 4096 bytes, barely nested, and shape times element size exactly the rest of the file. Only then is
//! memory taken, so a small file cannot ask for a large array. C and Fortran order and both byte orders are read; C order and little endian are
//! written.

use std::io::{BufReader, Cursor, Read};
use std::path::Path;

use ndarray::{ArrayD, ArrayViewD};
use ndarray_npy::npy::header::Header;
use ndarray_npy::{ReadNpyExt, ReadableElement, WritableElement, WriteNpyExt};
use zip::{CompressionMethod, ZipArchive};

use crate::diag::{Diagnostic, Result};
use crate::files::{open_regular, write_atomic};

/// Longest header that is read; `numpy.save` writes 118 bytes for ordinary arrays.
const MAX_HEADER: usize = 4096;

/// Most opening brackets in a header: one dictionary and one shape, with room to spare. The parser recurses on each.
const MAX_BRACKETS: usize = 8;

/// Magic, version and the longer of the two length fields.
const PREFIX: usize = 12;

/// A type that arrays in files may have.
pub trait NpyElement: ReadableElement + WritableElement {
    /// What `NumPy` calls it.
    const NAME: &'static str;
    /// Its descriptors without the byte order.
    const KIND: &'static str;
}

impl NpyElement for f32 {
    const NAME: &'static str = "float32";
    const KIND: &'static str = "f4";
}

impl NpyElement for u8 {
    const NAME: &'static str = "uint8";
    const KIND: &'static str = "u1";
}

impl NpyElement for i64 {
    const NAME: &'static str = "int64";
    const KIND: &'static str = "i8";
}

/// The array in the file at `path`, of any rank.
///
/// # Errors
/// `io/unreadable`; `media/bad-npy` if it is no such file or not as long as it says; `media/npy-type` if it holds another type.
pub fn read_npy<T: NpyElement>(path: &Path) -> Result<ArrayD<T>> {
    let (file, length) = open_regular(path)?;
    read_from(BufReader::new(file), length, &path.display().to_string())
}

/// The array `member` (without `.npy`) of an uncompressed `NumPy` archive, as `numpy.savez` writes it.
///
/// # Errors
/// As [`read_npy`]; `media/no-member` if there is none of that name or it is compressed.
pub fn read_npz_member<T: NpyElement>(path: &Path, member: &str) -> Result<ArrayD<T>> {
    let (file, _) = open_regular(path)?;
    let name = path.display().to_string();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(|e| bad(&name, &format!("it is no zip archive: {e}")))?;
    let names: Vec<String> = archive.file_names().flatten().map(|n| n.trim_end_matches(".npy").to_owned()).collect();
    let entry = archive.by_name(&format!("{member}.npy")).map_err(|_| no_member(&name, member, &names))?;
    if entry.compression() != CompressionMethod::Stored {
        let message = format!("`{member}` in `{name}` is compressed");
        return Err(Diagnostic::new("media/no-member", message).help("write the archive with `numpy.savez`").into());
    }
    let length = entry.size();
    read_from(entry, length, &format!("{name}:{member}"))
}

/// Writes `array` to `path`, complete or not at all.
///
/// # Errors
/// `io/unwritable`.
pub fn write_npy<T: NpyElement>(path: &Path, array: ArrayViewD<'_, T>) -> Result<()> {
    write_atomic(path, |w| array.write_npy(w).map_err(std::io::Error::other))
}

/// Reads an array from `length` bytes.
fn read_from<T: NpyElement>(mut reader: impl Read, length: u64, name: &str) -> Result<ArrayD<T>> {
    let bad = |why: &str| bad(name, why);
    let head = read_head(&mut reader, length).map_err(|why| bad(&why))?;
    let header = Header::from_reader(&mut head.as_slice()).map_err(|e| bad(&e.to_string()))?;
    let kind = header.type_descriptor.to_string();
    let kind = kind.trim_matches(|c| "'\"<>|=".contains(c));
    if kind != T::KIND {
        let message = format!("`{name}` holds {kind} elements where {} is needed", T::NAME);
        return Err(Diagnostic::new("media/npy-type", message).help(format!("save it as `array.astype(\"{}\")`", T::NAME)).into());
    }
    let bytes = header.shape.iter().try_fold(size_of::<T>() as u64, |n, d| n.checked_mul(*d as u64));
    let held = length - head.len() as u64;
    if bytes != Some(held) {
        return Err(bad(&format!("its header says shape {:?} of {}, but {held} bytes follow", header.shape, T::NAME)).into());
    }
    ArrayD::<T>::read_npy(Cursor::new(head).chain(reader)).map_err(|e| bad(&e.to_string()).into())
}

/// Everything before the data: magic, version, length and header, looked at before the parser sees it.
fn read_head(reader: &mut impl Read, length: u64) -> std::result::Result<Vec<u8>, String> {
    let mut head = vec![0; PREFIX];
    reader.read_exact(&mut head).map_err(|_| format!("it has {length} bytes, too few for a header"))?;
    let header = match (&head[..6], head[6]) {
        (b"\x93NUMPY", 1) => 10 + usize::from(u16::from_le_bytes([head[8], head[9]])),
        (b"\x93NUMPY", 2 | 3) => PREFIX + u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize,
        _ => return Err("it does not begin as a NumPy file does".into()),
    };
    if !(PREFIX..=MAX_HEADER).contains(&header) || header as u64 > length {
        return Err(format!("its header of {header} bytes is longer than the file, or than {MAX_HEADER}"));
    }
    head.resize(header, 0);
    reader.read_exact(&mut head[PREFIX..]).map_err(|e| e.to_string())?;
    if head[PREFIX - 2..].iter().filter(|b| b"([{".contains(b)).count() > MAX_BRACKETS {
        return Err("its header is nested as that of no simple array is".into());
    }
    Ok(head)
}

fn bad(name: &str, why: &str) -> Diagnostic {
    Diagnostic::new("media/bad-npy", format!("`{name}` cannot be read as an array: {why}")).help("write it with `numpy.save`")
}

fn no_member(name: &str, member: &str, names: &[String]) -> Diagnostic {
    let help = crate::diag::suggest(member, names.iter().map(String::as_str));
    Diagnostic::new("media/no-member", format!("`{name}` has no array `{member}`")).help(help)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use ndarray::{Array3, array};

    use super::*;

    fn read<T: NpyElement>(bytes: &[u8]) -> Result<ArrayD<T>> {
        read_from(bytes, bytes.len() as u64, "a.npy")
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16 + 1).to_le_bytes());
        bytes.extend(header.bytes());
        bytes.push(b'\n');
        bytes.extend(data);
        bytes
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let floats = Array3::from_shape_fn((2, 3, 4), |(i, j, k)| (i * 100 + j * 10 + k) as f32).into_dyn();
        write_npy(&path, floats.view().permuted_axes(vec![2, 0, 1])).unwrap();
        assert_eq!(read_npy::<f32>(&path).unwrap(), floats.permuted_axes(vec![2, 0, 1]));
        write_npy(&path, array![[1_i64, -2]].into_dyn().view()).unwrap();
        assert_eq!(read_npy::<i64>(&path).unwrap(), array![[1_i64, -2]].into_dyn());
        write_npy(&path, ArrayD::<u8>::zeros(vec![3, 0]).view()).unwrap();
        assert_eq!(read_npy::<u8>(&path).unwrap().shape(), [3, 0]);
    }

    #[test]
    fn other_orders_are_read() {
        let got = read::<u8>(&file("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 2), }", &[1, 2, 3, 4])).unwrap();
        assert_eq!(got, array![[1_u8, 3], [2, 4]].into_dyn());
        let got = read::<f32>(&file("{'descr': '>f4', 'fortran_order': False, 'shape': (), }", &1.5_f32.to_be_bytes())).unwrap();
        assert_eq!(got, ndarray::arr0(1.5_f32).into_dyn());
    }

    fn refused<T: NpyElement + std::fmt::Debug>(bytes: &[u8], code: &str, says: &str) {
        let error = read::<T>(bytes).unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(says), "`{error}` does not say `{says}`");
    }

    #[test]
    fn hostile_files_are_refused_before_memory_is_taken() {
        let shaped = |shape: &str, data: &[u8]| file(&format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}"), data);
        refused::<f32>(b"", "media/bad-npy", "too few");
        refused::<f32>(b"PK\x03\x04 and so on", "media/bad-npy", "does not begin");
        refused::<f32>(&shaped("(4,)", &[0; 12]), "media/bad-npy", "12 bytes follow");
        refused::<f32>(&shaped("(1000000000000,)", &[0; 16]), "media/bad-npy", "16 bytes follow");
        refused::<f32>(&shaped("(4294967296, 4294967296, 4294967296)", &[0; 16]), "media/bad-npy", "16 bytes follow");
        refused::<f32>(&shaped("(-1,)", &[0; 4]), "media/bad-npy", "shape");
        refused::<f32>(&shaped(&"(".repeat(3000), &[]), "media/bad-npy", "nested");
        refused::<f32>(&file(&" ".repeat(60_000), &[]), "media/bad-npy", "longer than");
        refused::<f32>(b"\x93NUMPY\x02\x00\xff\xff\xff\xff {", "media/bad-npy", "longer than");
        refused::<f32>(b"\x93NUMPY\x01\x00\x00\x00        ", "media/bad-npy", "header");
    }

    #[test]
    fn another_type_is_named() {
        let doubles = file("{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }", &[0; 8]);
        refused::<f32>(&doubles, "media/npy-type", "holds f8 elements where float32 is needed");
        let object = file("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", &[0; 8]);
        refused::<i64>(&object, "media/npy-type", "holds O elements");
    }

    #[test]
    fn members_of_an_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let mut archive = zip::ZipWriter::new(File::create(&path).unwrap());
        let data = file("{'descr': '|u1', 'fortran_order': False, 'shape': (3,), }", &[1, 2, 3]);
        for (name, method) in [("plain.npy", CompressionMethod::Stored), ("small.npy", CompressionMethod::Deflated)] {
            archive.start_file(name, zip::write::SimpleFileOptions::default().compression_method(method)).unwrap();
            archive.write_all(&data).unwrap();
        }
        archive.finish().unwrap();
        assert_eq!(read_npz_member::<u8>(&path, "plain").unwrap(), array![1_u8, 2, 3].into_dyn());
        let code = |member| read_npz_member::<u8>(&path, member).unwrap_err();
        assert!(code("small").message.contains("compressed"));
        assert_eq!(code("plain_").help.as_deref(), Some("did you mean `plain`?"));
        assert_eq!(read_npz_member::<f32>(&path, "plain").unwrap_err().code, "media/npy-type");
    }
}
