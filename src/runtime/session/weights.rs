//! Weights of sessions: read where they lie in their mapped files, or handed over to be copied.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ort::session::builder::{PrepackedWeights, SessionBuilder};

use super::super::external::External;
use super::super::ffi::{self, AlignedBytes, HeldValue, Storage};
use super::errors::session_error;
use super::{Runtime, provider};
use crate::diag::{Diagnostic, Result};
use crate::target::Provider;
use crate::weights::WeightsFile;

/// The files that the external weights of models lie in, by the name that the models say.
///
/// On the CPU every weight is a view into its mapped file, from any offset; only one that starts at an address that is no
/// multiple of its element's size is copied. Other providers copy weights to their device while the session is made.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    files: BTreeMap<String, Arc<WeightsFile>>,
    pub(super) packed: Option<PrepackedWeights>,
}

impl Weights {
    /// No files.
    pub fn none() -> Self {
        Self::default()
    }

    /// Says that what models call `location` is `file`.
    #[must_use]
    pub fn with(mut self, location: impl Into<String>, file: Arc<WeightsFile>) -> Self {
        self.files.insert(location.into(), file);
        self
    }

    /// Sessions made with this (or with a clone of it) share the packed copies of the weights that they have in common; with
    /// [`SessionOptions::prepacking`](super::SessionOptions::prepacking) there is otherwise one for each session.
    #[must_use]
    pub fn sharing_packed(mut self, _runtime: &Runtime) -> Self {
        self.packed = Some(PrepackedWeights::new());
        self
    }

    fn file(&self, weight: &External) -> Result<&Arc<WeightsFile>> {
        let file = self.files.get(&weight.location).ok_or_else(|| {
            Diagnostic::new("runtime/weights", format!("weight `{}` lies in `{}`, which was not given", weight.name, weight.location))
        })?;
        let (len, need) = (file.len(), weight.range.end as u64);
        if need > len {
            let message = format!("weight `{}` ends at byte {need} of `{}`, which has {len}", weight.name, file.path().display());
            return Err(Diagnostic::new("runtime/weights", message)
                .help("the file is cut short or is not the one that the plan was made with")
                .into());
        }
        Ok(file)
    }

    /// The folder that holds every file of the entries under the name that the model has for it.
    fn root(&self, entries: &[External]) -> Option<PathBuf> {
        let of = |e: &External| {
            let path = self.files.get(&e.location)?.path();
            let root = path.ancestors().nth(e.location.split('/').count())?;
            (root.join(&e.location) == path).then(|| root.to_path_buf())
        };
        let root = of(entries.first()?)?;
        let root = entries.iter().all(|e| of(e).as_ref() == Some(&root)).then_some(root)?;
        std::path::absolute(if root.as_os_str().is_empty() { Path::new(".") } else { &root }).ok()
    }

    /// A value over the bytes of `weight` in its file.
    fn value(&self, weight: &External) -> Result<HeldValue> {
        let file = self.file(weight)?;
        let (offset, len) = (weight.range.start as u64, weight.range.len());
        let bytes = file.bytes(offset, len as u64)?;
        let aligned = bytes.as_ptr().addr().is_multiple_of(weight.dtype.size() as usize);
        let storage =
            if aligned { Storage::Mapped(Arc::clone(file), offset) } else { Storage::Copied(Arc::new(AlignedBytes::copied(bytes))) };
        HeldValue::new(storage, len, weight.dtype, &weight.shape).map_err(|e| Box::new(session_error(&e)))
    }
}

/// Memory that a session reads from as long as it lives.
#[derive(Default)]
pub(super) struct Held {
    values: Vec<HeldValue>,
    pub(super) placeholders: Option<tempfile::TempDir>,
}

impl Held {
    /// Gives every external weight of the model to the session that is being made.
    ///
    /// A view stays in host memory, so it is for the CPU only; other providers take a copy to their device. Measured with 256 MiB
    /// of weights on the CPU: a view costs 5 ms and no memory, a copy 170 ms and the memory, handing over the whole file 450 ms and
    /// the memory.
    pub(super) fn give(builder: &mut SessionBuilder, weights: &Weights, entries: &[External], providers: &[Provider]) -> Result<Self> {
        let views = provider::in_host_memory(providers);
        let add = if views { ffi::add_initializer } else { ffi::add_copied_initializer };
        let mut held = Self::default();
        for weight in entries {
            let value = weights.value(weight)?;
            add(builder, &weight.name, &value).map_err(|e| session_error(&e))?;
            held.values.push(value);
        }
        if views && !entries.is_empty() {
            // The loader insists that the named files exist, though every weight in them is replaced; and where it may fold constants
            // it reads them there. So it gets the files' own folder if they lie in one under their names, else empty files.
            match weights.root(entries) {
                Some(root) => set_folder(builder, &root)?,
                None => held.placeholders = Some(placeholders(builder, entries)?),
            }
        }
        Ok(held)
    }

    /// After the session is made: what it has copied or packed is not read again, what it reads comes back from the page cache.
    pub(super) fn settle(&mut self) {
        self.placeholders = None;
        for value in &self.values {
            value.release_pages();
        }
    }
}

impl Drop for Held {
    /// The files stay mapped for the next session; what this one has read of them need not stay in memory.
    fn drop(&mut self) {
        self.values.iter().for_each(HeldValue::release_pages);
    }
}

fn set_folder(builder: &mut SessionBuilder, folder: &Path) -> Result<()> {
    let key = "session.model_external_initializers_file_folder_path";
    ffi::set_config(builder, key, &folder.to_string_lossy()).map_err(|e| Box::new(session_error(&e)))
}

/// A folder of empty files by the names of the entries.
fn placeholders(builder: &mut SessionBuilder, entries: &[External]) -> Result<tempfile::TempDir> {
    let unwritable = |e: std::io::Error| {
        Diagnostic::new("io/unwritable", format!("cannot make a temporary folder: {e}")).help("set TMPDIR to a folder that can be written")
    };
    let folder = tempfile::Builder::new().prefix("vidc-weights-").tempdir().map_err(unwritable)?;
    for weight in entries {
        let file = folder.path().join(&weight.location);
        std::fs::create_dir_all(file.parent().unwrap_or(folder.path())).and_then(|()| std::fs::write(&file, b"")).map_err(unwritable)?;
    }
    set_folder(builder, folder.path())?;
    Ok(folder)
}
