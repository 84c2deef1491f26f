//! A weights file: opened by length, mapped when its bytes are first asked for. The only `unsafe` of the module.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use memmap2::Mmap;

use crate::diag::{Diagnostic, Result};
use crate::files;

/// A file that holds tensors. Opening it reads nothing.
#[derive(Debug)]
pub struct WeightsFile {
    path: PathBuf,
    len: u64,
    header_sha256: Option<[u8; 32]>,
    map: OnceLock<Mmap>,
}

impl WeightsFile {
    /// A file of any content.
    ///
    /// # Errors
    /// `io/unreadable`.
    pub fn open(path: &Path) -> Result<Self> {
        let (_, len) = files::open_regular(path)?;
        Ok(Self::new(path, len, None))
    }

    /// A file whose length and header are known.
    pub(super) fn new(path: &Path, len: u64, header_sha256: Option<[u8; 32]>) -> Self {
        Self { path: path.into(), len, header_sha256, map: OnceLock::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's own name, for messages and text.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy().into_owned()
    }

    /// Bytes of the whole file.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// SHA-256 of the safetensors header (length field and JSON), which names every tensor with type, shape and place; none
    /// for files of raw data.
    pub fn header_sha256(&self) -> Option<[u8; 32]> {
        self.header_sha256
    }

    /// `len` bytes from `offset`, mapped, not read: pages come in as they are touched and may be dropped by the system.
    ///
    /// # Errors
    /// `weights/out-of-range`, `weights/changed`, `io/unreadable`.
    pub fn bytes(&self, offset: u64, len: u64) -> Result<&[u8]> {
        self.check_range(offset, len)?;
        if len == 0 {
            return Ok(&[]);
        }
        let map = if let Some(map) = self.map.get() {
            map
        } else {
            // `OnceLock` has no fallible initialiser yet: made first, dropped if another thread was faster.
            let made = self.map_file()?;
            self.map.get_or_init(|| made)
        };
        // The range lies in the file, whose length the map has.
        Ok(&map[offset as usize..(offset + len) as usize])
    }

    /// Lets the system take back the pages of `len` bytes from `offset` that were read so far. They come back from the file when they
    /// are read again; nothing happens where the file is not mapped or the system takes no such hint.
    pub fn release_pages(&self, offset: u64, len: u64) {
        #[cfg(unix)]
        if let Some(map) = self.map.get()
            && self.check_range(offset, len).is_ok()
            && len > 0
        {
            #[expect(unsafe_code, reason = "dropping pages of a map is unsafe because those of a private, written map would be lost")]
            // SAFETY: the map is of a file and never written to, so a page that is dropped comes back with the same bytes.
            let dropped = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset as usize, len as usize) };
            if let Err(e) = dropped {
                tracing::debug!("pages of `{}` stay in memory: {e}", self.path.display());
            }
        }
    }

    /// `len` bytes from `offset`, read into memory of their own. What is read this way does not stay resident as mapped
    /// pages do, so evaluating a large model tensor by tensor stays small.
    ///
    /// # Errors
    /// `weights/out-of-range`, `weights/changed`, `io/unreadable`.
    pub fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.check_range(offset, len)?;
        let mut file = self.open_again()?;
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(offset)).map_err(|e| self.unreadable(&e))?;
        file.take(len).read_to_end(&mut bytes).map_err(|e| self.unreadable(&e))?;
        if bytes.len() as u64 == len { Ok(bytes) } else { Err(self.changed().into()) }
    }

    fn check_range(&self, offset: u64, len: u64) -> Result<()> {
        if offset.checked_add(len).is_some_and(|end| end <= self.len) {
            return Ok(());
        }
        let message = format!("{} has {} bytes; {len} from byte {offset} were asked for", self.path.display(), self.len);
        Err(Diagnostic::new("weights/out-of-range", message).into())
    }

    fn open_again(&self) -> Result<File> {
        let (file, len) = files::open_regular(&self.path)?;
        if len == self.len { Ok(file) } else { Err(self.changed().into()) }
    }

    fn map_file(&self) -> Result<Mmap> {
        let file = self.open_again()?;
        #[expect(unsafe_code, reason = "mapping a file is unsafe because another process may change it while it is mapped")]
        // SAFETY: the map is read-only and of a regular file. Bytes may change under us if another process writes the file;
        // they are only ever read as numbers, for which every bit pattern is valid. If the file is truncated while mapped the
        // process gets SIGBUS, as every reader of mapped weights does; the length was checked just before.
        let map = unsafe { Mmap::map(&file) };
        let map = map.map_err(|e| self.unreadable(&e))?;
        if map.len() as u64 == self.len { Ok(map) } else { Err(self.changed().into()) }
    }

    fn unreadable(&self, why: &std::io::Error) -> Diagnostic {
        Diagnostic::new("io/unreadable", format!("cannot read {}: {why}", self.path.display()))
    }

    fn changed(&self) -> Diagnostic {
        Diagnostic::new("weights/changed", format!("{} is not {} bytes long any more", self.path.display(), self.len))
            .help("run the command again")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_read_agree_and_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.bin");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = WeightsFile::open(&path).unwrap();
        assert_eq!(file.bytes(3, 4).unwrap(), b"3456");
        assert_eq!(file.read(3, 4).unwrap(), b"3456");
        assert_eq!(file.bytes(10, 0).unwrap(), b"");
        file.release_pages(2, 5);
        file.release_pages(8, 9);
        assert_eq!(file.bytes(3, 4).unwrap(), b"3456", "what was dropped comes back");
        for (offset, len) in [(7, 4), (11, 0), (u64::MAX, 2), (2, u64::MAX)] {
            assert_eq!(file.bytes(offset, len).unwrap_err().code, "weights/out-of-range");
            assert_eq!(file.read(offset, len).unwrap_err().code, "weights/out-of-range");
        }
    }

    #[test]
    fn a_file_that_changed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.bin");
        std::fs::write(&path, b"0123456789").unwrap();
        let file = WeightsFile::open(&path).unwrap();
        std::fs::write(&path, b"0123").unwrap();
        assert_eq!(file.bytes(0, 8).unwrap_err().code, "weights/changed");
        assert_eq!(file.read(0, 8).unwrap_err().code, "weights/changed");
    }
}
