//! Files: bounded reading, names confined to a folder, output that appears whole or not at all.
//!
//! A file name that stands *inside* another file (external data of an ONNX model, the shards of a safetensors index) was
//! written by somebody else; [`confined`] is the one rule for what such a name may reach, and [`word`] makes a file name of any
//! text. What a command writes for its user, and what that may replace, is the business of [`output`].

pub mod output;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::diag::{Diagnostic, Result};

/// Why a name was refused by [`confined`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Empty, absolute, with a folder in it, `.` or `..`.
    NotAName,
    /// There is no such file.
    Missing,
    /// A symbolic link to something that is not there; to what.
    Dangling(PathBuf),
    /// A symbolic link that leads out of the folder; where to.
    Outside(PathBuf),
    /// A folder, device, socket or pipe.
    NotRegular,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAName => f.write_str("it is not one plain file name"),
            Self::Missing => f.write_str("there is no such file"),
            Self::Dangling(to) => write!(f, "it is a link to {}, which is not there", to.display()),
            Self::Outside(to) => write!(f, "it is a link that leads out of the folder, to {}", to.display()),
            Self::NotRegular => f.write_str("it is not a regular file"),
        }
    }
}

/// The real path of the regular file `name` in `folder`.
///
/// `name` must be one bare file name, by the rules of every platform at once, so that a model is not safe on one and
/// hostile on another. A link must stay in the folder; the one exception is the layout of the model hub's cache, where each
/// file of `…/snapshots/REVISION/` is a link into the `blobs` folder beside `snapshots`.
///
/// # Errors
/// The [`Refusal`]; the caller knows which diagnostic it is.
pub fn confined(folder: &Path, name: &str) -> std::result::Result<PathBuf, Refusal> {
    if !is_bare(name) {
        return Err(Refusal::NotAName);
    }
    let home = folder.canonicalize().map_err(|_| Refusal::Missing)?;
    let path = home.join(name);
    let real = path.canonicalize().map_err(|_| dangling(&path).map_or(Refusal::Missing, Refusal::Dangling))?;
    let inside = real.starts_with(&home) || blobs(&home).is_some_and(|blobs| real.starts_with(blobs));
    if !inside {
        return Err(Refusal::Outside(real));
    }
    if !fs::metadata(&real).is_ok_and(|m| m.is_file()) {
        return Err(Refusal::NotRegular);
    }
    Ok(real)
}

/// Is it one file name, by the rules of every platform at once?
pub fn is_bare(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', ':', '\0'])
}

/// Where a symbolic link leads that leads to nothing.
pub fn dangling(path: &Path) -> Option<PathBuf> {
    let to = fs::read_link(path).ok()?;
    (!path.exists()).then_some(to)
}

/// The longest name that [`word`] makes of a text.
const LONGEST_WORD: usize = 64;

/// A text of somebody else's (the name of a graph, a model, a value) as one file name: letters, digits, `-`, `_` and `.` within. A
/// text that is such a name stays as it is; any other gets a part of its hash, so that two texts never share a name.
pub fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let ends = |c: char| "-.".contains(c);
    let device = |name: &str| {
        let stem = name.split('.').next().unwrap_or_default().to_ascii_lowercase();
        ["con", "prn", "aux", "nul"].contains(&stem.as_str())
            || (stem.len() == 4 && (stem.starts_with("com") || stem.starts_with("lpt")) && stem.ends_with(|c: char| c.is_ascii_digit()))
    };
    let fits = !text.is_empty() && text.len() <= LONGEST_WORD && text.chars().all(plain);
    if fits && !text.starts_with(ends) && !text.ends_with(ends) && !device(text) {
        return text.into();
    }
    let hash = Sha256::digest(text.as_bytes());
    let cleaned: String = text.chars().map(|c| if plain(c) { c } else { '-' }).take(LONGEST_WORD - 10).collect();
    let cleaned = match cleaned.trim_matches(ends) {
        "" => "unnamed",
        cleaned => cleaned,
    };
    // In front, as Windows looks at a name only up to its first dot.
    format!("{:02x}{:02x}{:02x}{:02x}-{cleaned}", hash[0], hash[1], hash[2], hash[3])
}

/// The `blobs` folder of the hub cache that `folder` is a snapshot of.
fn blobs(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.ancestors().find(|a| a.file_name().is_some_and(|n| n == "snapshots"))?;
    snapshots.parent().map(|cache| cache.join("blobs"))
}

/// Opens a regular file and says how long it is.
///
/// # Errors
/// `io/unreadable`.
pub fn open_regular(path: &Path) -> Result<(File, u64)> {
    let unreadable = |why: String| Diagnostic::new("io/unreadable", format!("cannot read {}: {why}", path.display()));
    // Asked before opening: to open a pipe would wait for its writer.
    let meta = fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if !meta.is_file() {
        return Err(unreadable("it is not a regular file".into()).into());
    }
    let file = File::open(path).map_err(|e| unreadable(e.to_string()))?;
    Ok((file, meta.len()))
}

/// Reads `len` bytes from the start of an open file, never more.
///
/// # Errors
/// `io/unreadable`, also when the file ends before.
pub fn read_start(path: &Path, file: &mut File, len: u64) -> Result<Vec<u8>> {
    let unreadable = |why: String| Diagnostic::new("io/unreadable", format!("cannot read {}: {why}", path.display()));
    let mut bytes = Vec::new();
    file.take(len).read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
    if bytes.len() as u64 != len {
        return Err(unreadable(format!("it ended after {} of {len} bytes", bytes.len())).into());
    }
    Ok(bytes)
}

/// Writes a file whole or not at all: into a temporary file beside it, which then takes its name.
///
/// # Errors
/// `io/unwritable`; what was at `path` before is then unchanged.
pub fn write_atomic(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    try_write_atomic(path, content).map_err(|e| {
        Diagnostic::new("io/unwritable", format!("cannot write {}: {e}", path.display()))
            .help("choose a folder that exists, may be written and has room")
            .into()
    })
}

/// How names of files begin that are still being written.
pub const TEMPORARY: &str = ".vidc-";

/// A file without a name of its own yet, in the folder where it will get one; its temporary name ends in `suffix`.
///
/// # Errors
/// What making it returns.
pub fn temporary(folder: &Path, suffix: &str) -> io::Result<tempfile::NamedTempFile> {
    new_file(tempfile::Builder::new().suffix(suffix), folder)
}

fn try_write_atomic(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let temporary = new_file(&mut tempfile::Builder::new(), folder)?;
    let mut writer = BufWriter::with_capacity(1 << 20, temporary);
    content(&mut writer)?;
    let temporary = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// A temporary file with the permissions of an ordinary new file (`tempfile` makes private ones).
#[cfg(unix)]
fn new_file(builder: &mut tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    builder.prefix(TEMPORARY).permissions(fs::Permissions::from_mode(0o666)).tempfile_in(folder)
}

/// A temporary file in `folder`.
#[cfg(not(unix))]
fn new_file(builder: &mut tempfile::Builder<'_, '_>, folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    builder.prefix(TEMPORARY).tempfile_in(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::write(dir.path().join("home/a.bin"), b"abc").unwrap();
        fs::write(dir.path().join("secret"), b"s").unwrap();
        dir
    }

    #[test]
    fn a_name_is_one_bare_name_of_a_regular_file() {
        let dir = folder();
        let home = dir.path().join("home");
        fs::create_dir(home.join("sub")).unwrap();
        assert!(confined(&home, "a.bin").is_ok());
        for name in ["", ".", "..", "../secret", "/etc/passwd", "sub/x", "sub\\x", "c:x", "a\0b"] {
            assert_eq!(confined(&home, name), Err(Refusal::NotAName), "{name:?}");
        }
        assert_eq!(confined(&home, "b.bin"), Err(Refusal::Missing));
        assert_eq!(confined(&home, "sub"), Err(Refusal::NotRegular));
    }

    #[test]
    fn any_text_becomes_one_file_name() {
        for name in ["svd-xt", "unet.once", "a_b", "X1"] {
            assert_eq!(word(name), name);
        }
        let long = "x".repeat(4000);
        let texts = [
            "",
            ".",
            "..",
            "../../x",
            "/etc/passwd",
            "a/b",
            "a b",
            "a\\b",
            "c:x",
            "nul",
            "COM1.txt",
            "-o",
            ".hidden",
            "x.",
            "ä",
            "a\0b",
            "a\nb",
            &long,
        ];
        let mut names: Vec<String> = texts.iter().map(|t| word(t)).collect();
        for (text, name) in texts.iter().zip(&names) {
            assert!(is_bare(name) && name.len() <= 64 && !name.starts_with(['.', '-']) && name.is_ascii(), "{text:?}: {name}");
            assert_eq!(word(name), *name, "a made name is one");
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), texts.len(), "two texts share a name");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_inside_or_leads_into_the_hub_cache() {
        use std::os::unix::fs::symlink;
        let dir = folder();
        let home = dir.path().join("home");
        symlink("a.bin", home.join("in")).unwrap();
        symlink("../secret", home.join("out")).unwrap();
        symlink("/dev/zero", home.join("zero")).unwrap();
        symlink("gone", home.join("dangling")).unwrap();
        assert_eq!(confined(&home, "dangling"), Err(Refusal::Dangling("gone".into())));
        assert!(confined(&home, "in").is_ok());
        assert!(matches!(confined(&home, "out"), Err(Refusal::Outside(_))));
        assert!(matches!(confined(&home, "zero"), Err(Refusal::Outside(_))));

        let unet = dir.path().join("hub/snapshots/1/unet");
        fs::create_dir_all(&unet).unwrap();
        fs::create_dir(dir.path().join("hub/blobs")).unwrap();
        fs::write(dir.path().join("hub/blobs/77"), b"w").unwrap();
        symlink("../../../blobs/77", unet.join("w")).unwrap();
        symlink("../../../../secret", unet.join("s")).unwrap();
        assert!(confined(&unet, "w").is_ok());
        assert!(matches!(confined(&unet, "s"), Err(Refusal::Outside(_))));
    }

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let dir = folder();
        let path = dir.path().join("home/a.bin");
        let failed = write_atomic(&path, |w| {
            w.write_all(b"half")?;
            Err(io::Error::other("no room"))
        });
        assert_eq!(failed.unwrap_err().code, "io/unwritable");
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        write_atomic(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path().join("home")).unwrap().count(), 1);
    }

    #[test]
    fn reading_is_bounded() {
        let dir = folder();
        let path = dir.path().join("home/a.bin");
        let (mut file, len) = open_regular(&path).unwrap();
        assert_eq!(len, 3);
        assert_eq!(read_start(&path, &mut file, 2).unwrap(), b"ab");
        let (mut file, _) = open_regular(&path).unwrap();
        assert_eq!(read_start(&path, &mut file, 4).unwrap_err().code, "io/unreadable");
        assert_eq!(open_regular(dir.path()).unwrap_err().code, "io/unreadable");
    }
}
