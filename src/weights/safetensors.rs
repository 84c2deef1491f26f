//! The header of a safetensors file: eight bytes of length, then JSON from names to type, shape and offsets.
//!
//! Parsed here and not by the reference crate, because a diagnostic must say which rule was broken, duplicate names must be
//! refused (JSON parsers keep the last), and nothing but the header may be read.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use super::stored::{Stored, TensorRef, duplicate};
use super::{DType, WeightsFile};
use crate::diag::{Diagnostic, Result};
use crate::files;

/// The limit of every reader of the format.
pub(super) const MAX_HEADER: u64 = 100_000_000;
/// More axes than any framework has.
const MAX_RANK: usize = 32;
/// File name endings of weights that are, or contain, pickles.
pub(super) const PICKLES: [&str; 6] = ["bin", "ckpt", "pt", "pth", "pkl", "pickle"];

/// Opens a safetensors file: reads and checks its header, and no tensor.
///
/// # Errors
/// `io/unreadable`, `weights/pickle` by the name's ending, and `weights/…` for each way in which the header can be wrong.
pub fn open_file(path: &Path) -> Result<Stored> {
    if path.extension().is_some_and(|e| PICKLES.iter().any(|p| e.eq_ignore_ascii_case(p))) {
        return Err(pickle(&path.display().to_string()).into());
    }
    open_checked(path).map_err(|d| d.note(format!("the file is {}", path.display())).into())
}

pub(super) fn pickle(what: &str) -> Diagnostic {
    Diagnostic::new("weights/pickle", format!("{what} is a pickle, which vidc never loads because loading it runs the code in it"))
        .help("use the model's safetensors files, or convert it where you trust it: `safetensors.torch.save_file(torch.load(...), ...)`")
}

fn open_checked(path: &Path) -> Result<Stored> {
    let (header, len) = read_header(path)?;
    let entries = parse(&header[8..])?;
    let file = Arc::new(WeightsFile::new(path, len, Some(Sha256::digest(&header).into())));
    let mut stored = Stored { files: vec![file.clone()], ..Stored::default() };
    for (name, entry) in &entries {
        insert(&mut stored, name, entry, &file, header.len() as u64)?;
    }
    check_overlap(&entries)?;
    Ok(stored)
}

/// The length field and the JSON, and the length of the file.
fn read_header(path: &Path) -> Result<(Vec<u8>, u64)> {
    let (mut file, len) = files::open_regular(path)?;
    if len < 8 {
        return Err(truncated(&format!("{len} bytes are no safetensors file")).into());
    }
    let mut header = files::read_start(path, &mut file, 8)?;
    if header == b"version " {
        return Err(not_safetensors("the file is a git-lfs pointer, not the weights").help("run `git lfs pull` where it came from").into());
    }
    let size = header.iter().rev().fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
    if size > MAX_HEADER {
        let message = format!("the header claims {size} bytes; the limit is {MAX_HEADER}");
        return Err(Diagnostic::new("weights/header-too-large", message).help("this is no safetensors file, or a damaged one").into());
    }
    if size > len - 8 {
        return Err(truncated(&format!("the header claims {size} bytes, but only {} follow", len - 8)).into());
    }
    header.append(&mut files::read_start(path, &mut file, size)?);
    Ok((header, len))
}

/// One tensor as the header writes it; offsets count from the end of the header.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The entries in the order written, duplicates kept so that they can be refused.
struct Entries(Vec<(String, Entry)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from tensor names to their type, shape and offsets")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<IgnoredAny>()?;
            } else {
                entries.push((name, map.next_value()?));
            }
        }
        Ok(Entries(entries))
    }
}

fn parse(json: &[u8]) -> Result<Vec<(String, Entry)>> {
    let entries =
        serde_json::from_slice::<Entries>(json).map_err(|e| not_safetensors(&format!("the header is not as it should be: {e}")))?;
    Ok(entries.0)
}

fn insert(stored: &mut Stored, name: &str, entry: &Entry, file: &Arc<WeightsFile>, data: u64) -> Result<()> {
    let [begin, end] = entry.data_offsets;
    let place = data.checked_add(begin).zip(end.checked_sub(begin));
    let (offset, len) = place.ok_or_else(|| {
        Diagnostic::new("weights/out-of-range", format!("tensor `{name}` lies at the impossible bytes {begin}..{end}"))
            .help("the file is damaged; fetch it again")
    })?;
    if entry.shape.len() > MAX_RANK {
        return Err(not_safetensors(&format!("tensor `{name}` has {} axes", entry.shape.len())).into());
    }
    if let Some(dtype) = DType::from_safetensors(&entry.dtype) {
        let tensor = TensorRef { file: file.clone(), offset, len, dtype, shape: entry.shape.clone() };
        return stored.insert(name.into(), tensor);
    }
    if stored.tensors.contains_key(name) || stored.unsupported.insert(name.into(), entry.dtype.clone()).is_some() {
        return Err(duplicate(name, &file.name()).into());
    }
    Ok(())
}

fn check_overlap(entries: &[(String, Entry)]) -> Result<()> {
    let mut ranges: Vec<([u64; 2], &str)> = entries.iter().map(|(name, e)| (e.data_offsets, name.as_str())).collect();
    ranges.retain(|([begin, end], _)| begin < end);
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let (([_, end], first), ([begin, _], second)) = (pair[0], pair[1]);
        if begin < end {
            let message = format!("tensors `{first}` and `{second}` share bytes");
            return Err(Diagnostic::new("weights/overlap", message).help("the file is damaged or hostile; fetch it again").into());
        }
    }
    Ok(())
}

fn not_safetensors(message: &str) -> Diagnostic {
    Diagnostic::new("weights/not-safetensors", message)
}

fn truncated(message: &str) -> Diagnostic {
    Diagnostic::new("weights/truncated", message).help("fetch the file again")
}
