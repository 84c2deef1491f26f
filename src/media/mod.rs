//! Pictures in; mp4, gif, png and npy out.
//!
//! What is read is bounded in memory before anything is allocated. What is written appears under its name only when it is complete
//! ([`write_atomic`]).

#![expect(clippy::needless_pass_by_value, reason = "a view is a reference already")]

pub mod npy;
pub mod picture;
pub mod video;

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::diag::{Diagnostic, Result};

/// Writes a file through `fill` under a temporary name in the same folder and renames it to `path` when it is complete, so that a failure or an
/// interruption leaves what was there before. The temporary file is removed on failure. Files get the permissions that the user's mask gives.
///
/// # Errors
/// `io/unwritable` with the reason that the system, or `fill`, gives.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> Result<()> {
    Ok(try_write(path, fill).map_err(|e| unwritable(path, &e))?)
}

fn try_write(path: &Path, fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = temporary_in(folder)?;
    let mut writer = BufWriter::new(temporary.as_file_mut());
    fill(&mut writer)?;
    writer.flush()?;
    drop(writer);
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}

#[cfg(unix)]
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    // Without this, temporary files are the owner's alone and would stay so after the rename.
    let permissions = std::fs::Permissions::from_mode(0o666);
    tempfile::Builder::new().prefix(".vidc-").permissions(permissions).tempfile_in(folder)
}

#[cfg(not(unix))]
fn temporary_in(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".vidc-").tempfile_in(folder)
}

fn unwritable(path: &Path, error: &io::Error) -> Diagnostic {
    let message = format!("cannot write `{}`: {error}", path.display());
    Diagnostic::new("io/unwritable", message).help("check that the folder exists, may be written to and has room")
}

/// Opens an ordinary file and says how long it is. Folders, devices and pipes are refused: they have no length to check claims against.
fn open(path: &Path) -> Result<(File, u64)> {
    let unreadable =
        |e: io::Error| Diagnostic::new("io/unreadable", format!("cannot read `{}`: {e}", path.display())).help("check the path");
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(io::Error::other("it is not an ordinary file")).into());
    }
    Ok((file, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_appears_complete_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.bin");
        write_atomic(&path, |w| w.write_all(b"first")).unwrap();
        let error = write_atomic(&path, |w| {
            w.write_all(b"half of the sec")?;
            Err(io::Error::other("no space left"))
        })
        .unwrap_err();
        assert_eq!(error.code, "io/unwritable");
        assert!(error.message.contains("no space left"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        assert_eq!(names(folder.path()), ["a.bin"]);
    }

    #[test]
    fn a_missing_folder_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomic(&folder.path().join("no/a.bin"), |_| Ok(())).unwrap_err();
        assert_eq!(error.code, "io/unwritable");
    }

    #[test]
    fn only_ordinary_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(open(folder.path()).unwrap_err().code, "io/unreadable");
        assert_eq!(open(&folder.path().join("no")).unwrap_err().code, "io/unreadable");
        write_atomic(&folder.path().join("a"), |w| w.write_all(b"abc")).unwrap();
        assert_eq!(open(&folder.path().join("a")).unwrap().1, 3);
    }

    #[cfg(unix)]
    #[test]
    fn others_may_read_what_is_written() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (ours, plain) = (folder.path().join("a"), folder.path().join("b"));
        write_atomic(&ours, |_| Ok(())).unwrap();
        std::fs::write(&plain, []).unwrap();
        let mode = |p| std::fs::metadata(p).unwrap().permissions().mode();
        assert_eq!(mode(ours), mode(plain));
    }
}
