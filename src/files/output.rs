//! What a command writes for its user: the one place that decides what may be replaced.
//!
//! | what stands under the name of an output | what happens |
//! | --- | --- |
//! | nothing | it is written |
//! | a file that the command reads, by whatever spelling, link or second name | refused |
//! | a folder, a device, a pipe | refused |
//! | what vidc wrote there before | replaced |
//! | another file, under a name that the user gave | kept as `NAME.old`, `NAME.old.2`, …; none of these is ever replaced |
//! | another file, under a name that vidc chose (`OUT.onnx.data`, `OUT.mp4.report.json`) | refused |
//!
//! Who wrote a file is for its format to know ([`Ours`]): the producer in a model, the manifest of a plan, the hash in a run report.
//! Where a format cannot tell, nobody does, and what is there is kept.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::write_atomic;
use crate::diag::{Diagnostic, Result};

/// Says of a regular file whether vidc wrote it, or why it counts as somebody else's.
pub type Ours<'a> = &'a dyn Fn(&Path) -> std::result::Result<(), String>;

/// Most versions of one file that are kept before a user is asked to tidy up.
const MOST_KEPT: usize = 1000;

/// Who chose the name of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The user, with `-o` or the like.
    Given,
    /// vidc: it follows from another name.
    Chosen,
}

/// For formats that do not say who wrote a file.
///
/// # Errors
/// Always.
pub fn unknown_writer(_: &Path) -> std::result::Result<(), String> {
    Err("vidc did not write it".into())
}

/// A name and what stands under it.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    /// Without links and detours.
    real: PathBuf,
    /// Of the file, where the system has such a number.
    id: Option<(u64, u64)>,
}

impl Named {
    fn of(path: &Path) -> Self {
        let real =
            path.canonicalize().or_else(|_| Ok::<_, io::Error>(folder_of(path).canonicalize()?.join(path.file_name().unwrap_or_default())));
        let real = real.unwrap_or_else(|_| path.into());
        Self { path: path.into(), id: file_id(&real), real }
    }

    fn is(&self, other: &Self) -> bool {
        self.real == other.real || (self.id.is_some() && self.id == other.id)
    }
}

/// Device and inode, which a file has once whatever it is called.
#[cfg(unix)]
fn file_id(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

#[cfg(not(unix))]
fn file_id(_: &Path) -> Option<(u64, u64)> {
    None
}

/// Are both names there and of one file?
pub fn same_file(a: &Path, b: &Path) -> bool {
    a.exists() && b.exists() && Named::of(a).is(&Named::of(b))
}

/// The outputs of a command, looked at before any work begins.
#[derive(Debug, Default)]
pub struct Outputs {
    files: Vec<Named>,
    taken: BTreeSet<PathBuf>,
    /// Folders that take files.
    folders: BTreeSet<PathBuf>,
}

impl Outputs {
    /// Adds a file that is to be written. Its folder must exist and take files.
    ///
    /// # Errors
    /// `io/unwritable`, `io/not-a-file`, `io/output-taken`, `io/output-twice`.
    pub fn file(&mut self, path: &Path, name: Name, ours: Ours<'_>) -> Result<()> {
        let folder = folder_of(path);
        if !self.folders.contains(folder) {
            check_folder(folder, path)?;
            self.folders.insert(folder.into());
        }
        self.add(path, name, ours)
    }

    /// As [`Self::file`], for a file whose folder is made if it is missing.
    ///
    /// # Errors
    /// As [`Self::file`].
    pub fn file_in_new_folder(&mut self, path: &Path, name: Name, ours: Ours<'_>) -> Result<()> {
        check_new_folder(folder_of(path), path)?;
        self.add(path, name, ours)
    }

    fn add(&mut self, path: &Path, name: Name, ours: Ours<'_>) -> Result<()> {
        if path.file_name().is_none() {
            return Err(unwritable(path, "it is no name of a file").help("name a file").into());
        }
        if let Some(there) = foreign(path, ours)?
            && name == Name::Chosen
        {
            let message = format!("`{}` has to be written too, and what is there is not to be replaced: {there}", path.display());
            let help = "give the output another name, or move that file away";
            return Err(Diagnostic::new("io/output-taken", message).help(help).into());
        }
        let named = Named::of(path);
        if !self.taken.insert(named.real.clone()) {
            let d = Diagnostic::new("io/output-twice", format!("`{}` would be written twice", path.display()));
            return Err(d.help("give each output a name of its own").into());
        }
        self.files.push(named);
        Ok(())
    }

    /// Refuses outputs that are files which the command reads.
    ///
    /// # Errors
    /// `io/output-is-input`.
    pub fn spare<P: AsRef<Path>>(&self, reads: impl IntoIterator<Item = P>) -> Result<()> {
        for read in reads {
            let read = Named::of(read.as_ref());
            if let Some(output) = self.files.iter().find(|o| o.is(&read)) {
                return Err(is_input(&output.path, &read.path).into());
            }
        }
        Ok(())
    }
}

/// Refuses a folder of outputs in which something lies that the command reads.
///
/// # Errors
/// `io/output-is-input`.
pub fn spare_folder<P: AsRef<Path>>(folder: &Path, reads: impl IntoIterator<Item = P>) -> Result<()> {
    let Ok(home) = folder.canonicalize() else { return Ok(()) };
    for read in reads {
        let read = read.as_ref();
        if read.canonicalize().is_ok_and(|real| real.starts_with(&home)) {
            return Err(is_input(folder, read).into());
        }
    }
    Ok(())
}

fn is_input(output: &Path, read: &Path) -> Diagnostic {
    let message = if output == read {
        format!("`{}` would be written, and the input reads it", output.display())
    } else {
        format!("`{}` would be written, and the input reads it as `{}`", output.display(), read.display())
    };
    Diagnostic::new("io/output-is-input", message).help("give the output another name with -o, or write it into another folder")
}

/// Refuses an extension that the format of an output does not have.
///
/// # Errors
/// `io/extension`.
pub fn check_extension(path: &Path, allowed: &[&str]) -> Result<()> {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if allowed.iter().any(|a| extension.eq_ignore_ascii_case(a)) {
        return Ok(());
    }
    let names: Vec<String> = allowed.iter().map(|a| format!(".{a}")).collect();
    let message = format!("the name `{}` does not end as such a file's does", path.display());
    Err(Diagnostic::new("io/extension", message).help(format!("end it in {}", names.join(" or "))).into())
}

/// The folder that a file lies in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses a folder that is missing or takes no files; `path` is what should go into it.
///
/// # Errors
/// `io/unwritable`.
pub fn check_folder(folder: &Path, path: &Path) -> Result<()> {
    if !folder.is_dir() {
        let there = folder.symlink_metadata().is_ok();
        let why = format!("{} `{}`", if there { "a folder is wanted in the place of" } else { "there is no folder" }, folder.display());
        return Err(unwritable(path, &why).help("make the folder first, or name another").into());
    }
    // The only way to know is to try.
    super::new_file(&mut tempfile::Builder::new(), folder).map(drop).map_err(|e| {
        let why = format!("the folder `{}` takes no files: {e}", folder.display());
        unwritable(path, &why).help("choose a folder that exists, may be written and has room").into()
    })
}

/// Refuses a folder that is not there and cannot be made, or takes no files.
///
/// # Errors
/// `io/unwritable`.
pub fn check_new_folder(folder: &Path, path: &Path) -> Result<()> {
    let named = |a: &Path| if a.as_os_str().is_empty() { PathBuf::from(".") } else { a.to_path_buf() };
    let there = folder.ancestors().map(named).find(|a| a.symlink_metadata().is_ok());
    check_folder(&there.unwrap_or_else(|| ".".into()), path)
}

fn unwritable(path: &Path, why: &str) -> Diagnostic {
    Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {why}", path.display()))
}

/// Why the file at `path` is not to be replaced; none if there is none, or vidc wrote it.
///
/// # Errors
/// `io/not-a-file` if no file can stand there.
fn foreign(path: &Path, ours: Ours<'_>) -> Result<Option<String>> {
    let Ok(there) = fs::symlink_metadata(path) else { return Ok(None) };
    let target = fs::metadata(path);
    if target.as_ref().is_ok_and(|m| !m.is_file()) {
        let what = if target.is_ok_and(|m| m.is_dir()) { "a folder" } else { "no regular file" };
        let d = Diagnostic::new("io/not-a-file", format!("`{}` is {what}", path.display()));
        return Err(d.help("name a file").into());
    }
    if there.is_file() { Ok(ours(path).err()) } else { Ok(Some("it is a link, and vidc makes none".into())) }
}

/// A file that has a second name, under which it outlives its replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The second name.
    pub path: PathBuf,
    /// Its own name, if the second is new; else an earlier attempt gave that.
    of: Option<PathBuf>,
}

impl Kept {
    /// Takes the second name away again, as the file is not replaced after all.
    pub fn undo(self) {
        if self.of.is_some_and(|own| same_file(&own, &self.path)) {
            // A second name too many does no harm.
            let _ = fs::remove_file(self.path);
        }
    }
}

/// Makes sure that what stands at `path` outlives its replacement: unless vidc wrote it, it gets a second name. It keeps its own
/// until the output takes that.
///
/// # Errors
/// `io/not-a-file`, `io/unwritable`.
pub fn keep(path: &Path, ours: Ours<'_>) -> Result<Option<Kept>> {
    if foreign(path, ours)?.is_none() {
        return Ok(None);
    }
    for n in 1..=MOST_KEPT {
        let old = old_name(path, n);
        match second_name(path, &old) {
            Ok(()) => return Ok(Some(Kept { path: old, of: Some(path.into()) })),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                if same_content(path, &old) {
                    return Ok(Some(Kept { path: old, of: None }));
                }
            }
            Err(e) => return Err(unwritable(&old, &e.to_string()).help("move away by hand what is to be kept").into()),
        }
    }
    let message = format!("there are {MOST_KEPT} kept versions of it");
    Err(unwritable(path, &message).help("remove those that you do not need").into())
}

/// Gives a file a second name that nothing has. Where the file system has no second names, a copy gets it.
fn second_name(path: &Path, old: &Path) -> io::Result<()> {
    match fs::hard_link(path, old) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(e),
        Err(_) => {
            let mut copy = super::new_file(&mut tempfile::Builder::new(), folder_of(old))?;
            io::copy(&mut File::open(path)?, &mut copy)?;
            copy.as_file().sync_all()?;
            copy.persist_noclobber(old).map(drop).map_err(|e| e.error)
        }
    }
}

fn same_content(a: &Path, b: &Path) -> bool {
    let len = |path: &Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|m| m.len());
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    if is_link(a) || is_link(b) || len(a).is_none() || len(a) != len(b) {
        return false;
    }
    same_file(a, b) || equal(a, b).unwrap_or(false)
}

fn equal(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut x, mut y) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = a.read(&mut x)?;
        if n == 0 {
            return Ok(b.read(&mut y)? == 0);
        }
        b.read_exact(&mut y[..n])?;
        if x[..n] != y[..n] {
            return Ok(false);
        }
    }
}

/// `graph.yaml` → `graph.yaml.old`, `graph.yaml.old.2`, …
fn old_name(path: &Path, n: usize) -> PathBuf {
    let mut name = OsString::from(path.as_os_str());
    name.push(".old");
    if n > 1 {
        name.push(format!(".{n}"));
    }
    name.into()
}

/// What became of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Saved {
    /// There was none; it is written.
    New,
    /// The file had this very text.
    Unchanged,
    /// It had another text, which is kept at this path.
    Replaced(PathBuf),
}

/// Writes a text that people edit, whole or not at all: whoever wrote what is there, it is kept unless it is the same.
///
/// # Errors
/// `io/not-a-file`, `io/unwritable`; what was at `path` is then unchanged.
pub fn save(path: &Path, text: &str) -> Result<Saved> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|m| m.is_file());
    if is_file && holds(path, text).map_err(|e| unwritable(path, &e.to_string()))? {
        return Ok(Saved::Unchanged);
    }
    let kept = put(path, &unknown_writer, |w| w.write_all(text.as_bytes()))?;
    Ok(kept.map_or(Saved::New, Saved::Replaced))
}

/// Writes a file whole or not at all, and keeps what was there unless vidc wrote it; where.
///
/// # Errors
/// `io/not-a-file`, `io/unwritable`; what was at `path` is then unchanged.
pub fn put(path: &Path, ours: Ours<'_>, content: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<Option<PathBuf>> {
    let kept = keep(path, ours)?;
    match write_atomic(path, content) {
        Ok(()) => Ok(kept.map(|k| k.path)),
        Err(d) => {
            kept.into_iter().for_each(Kept::undo);
            Err(d)
        }
    }
}

/// Is `text` what the file holds? Reads no more than it must.
fn holds(path: &Path, text: &str) -> io::Result<bool> {
    let mut held = Vec::new();
    File::open(path)?.take(text.len() as u64 + 1).read_to_end(&mut held)?;
    Ok(held == text.as_bytes())
}

#[cfg(test)]
#[path = "output_tests.rs"]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
