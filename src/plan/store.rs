//! Where the constants of a plan lie: untouched weights stay in the user's files, small literals go into the model, everything
//! else is evaluated one tensor at a time and appended to one file of the plan. So compiling never holds a model in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::emit::Placed;
use crate::diag::{Diagnostic, Result};
use crate::weights::{DType, Narrowing, ParamSource, TensorBytes, WeightExpr, WeightOp, evaluate, narrowing};

/// The plan's own file of derived weights.
pub(super) const DERIVED: &str = "derived.bin";
/// Literals up to this size go into the model.
const EMBED: u64 = 4096;
/// Tensors start at multiples of this, the widest vector load.
const ALIGN: u64 = 64;

/// A file of weights that a plan reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightsEntry {
    /// The name that the models use for it.
    pub location: String,
    /// The file; a bare name lies in the plan's folder.
    pub path: PathBuf,
    /// Its size, checked before it is mapped.
    pub bytes: u64,
    /// SHA-256 of a safetensors file's header in hex; of a derived file, of all of it.
    pub sha256: Option<String>,
}

/// Places the constants of one plan.
pub struct Store<'a> {
    source: &'a ParamSource,
    derived: BufWriter<File>,
    derived_path: PathBuf,
    /// The name that the models use for the derived file.
    own: String,
    at: u64,
    hash: Sha256,
    placed: BTreeMap<[u8; 32], Placed>,
    files: Vec<WeightsEntry>,
    copy_all: bool,
}

impl<'a> Store<'a> {
    /// A store that writes derived weights to `derived_path`, which models call `own`. With `bundle`, untouched weights are copied too.
    ///
    /// # Errors
    /// `io/unwritable`.
    pub fn create(derived_path: PathBuf, own: &str, source: &'a ParamSource, bundle: bool) -> Result<Self> {
        let file = File::create(&derived_path).map_err(|e| unwritable(&derived_path, &e))?;
        Ok(Self {
            source,
            derived: BufWriter::with_capacity(1 << 20, file),
            derived_path,
            own: own.into(),
            at: 0,
            hash: Sha256::new(),
            placed: BTreeMap::new(),
            files: Vec::new(),
            copy_all: bundle,
        })
    }

    /// Binds an expression to the source and says where its bytes lie, writing them first if they lie nowhere yet.
    ///
    /// # Errors
    /// `weights/…` if the source lacks the tensor or has another shape; `io/unwritable`.
    pub fn place(&mut self, expr: &WeightExpr) -> Result<Placed> {
        let bound = expr.bind(self.source)?;
        if let WeightOp::Literal(bytes) = bound.op()
            && bound.byte_len() <= EMBED
        {
            return Ok(Placed::Embedded(bytes.to_vec()));
        }
        let mut h = Sha256::new();
        bound.fingerprint(&mut h);
        let key: [u8; 32] = h.finalize().into();
        if let Some(placed) = self.placed.get(&key) {
            return Ok(placed.clone());
        }
        let placed = match bound.bare() {
            Some(tensor) if !self.copy_all => {
                let location = self.location(tensor.file.path(), tensor.file.len(), tensor.file.header_sha256())?;
                Placed::External { location, offset: tensor.offset, len: tensor.len }
            }
            _ => self.derive(&bound)?,
        };
        self.placed.insert(key, placed.clone());
        Ok(placed)
    }

    fn location(&mut self, path: &Path, bytes: u64, header: Option<[u8; 32]>) -> Result<String> {
        let path = std::path::absolute(path).map_err(|e| Diagnostic::new("io/unreadable", format!("`{}`: {e}", path.display())))?;
        if let Some(entry) = self.files.iter().find(|f| f.path == path) {
            return Ok(entry.location.clone());
        }
        let location = format!("weights-{}", self.files.len());
        self.files.push(WeightsEntry { location: location.clone(), path, bytes, sha256: header.map(|h| hex(&h)) });
        Ok(location)
    }

    fn derive(&mut self, expr: &WeightExpr) -> Result<Placed> {
        let tensor = evaluate(expr)?;
        stays_finite(expr, &tensor)?;
        let padding = self.at.next_multiple_of(ALIGN) - self.at;
        self.write(&vec![0; padding as usize])?;
        let offset = self.at;
        self.write(&tensor.bytes)?;
        Ok(Placed::External { location: self.own.clone(), offset, len: tensor.bytes.len() as u64 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.derived.write_all(bytes).map_err(|e| unwritable(&self.derived_path, &e))?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Closes the derived file; returns every file that the plan reads.
    ///
    /// # Errors
    /// `io/unwritable`.
    pub fn finish(mut self) -> Result<Vec<WeightsEntry>> {
        self.derived.flush().map_err(|e| unwritable(&self.derived_path, &e))?;
        if self.at > 0 {
            let sha256 = Some(hex(&self.hash.finalize()));
            self.files.push(WeightsEntry { location: self.own.clone(), path: self.own.clone().into(), bytes: self.at, sha256 });
        }
        Ok(self.files)
    }
}

/// Refuses a weight that is written in f16 and holds numbers which f16 does not have: a model would give black frames without a word.
fn stays_finite(expr: &WeightExpr, written: &TensorBytes) -> Result<()> {
    let infinite = |b: &[u8; 2]| u16::from_le_bytes(*b) & 0x7fff == 0x7c00;
    let WeightOp::Cast { of } = expr.op() else { return Ok(()) };
    if written.dtype != DType::F16
        || !written.bytes.as_chunks::<2>().0.iter().any(infinite)
        || narrowing(of, DType::F16)? != Narrowing::Infinite
    {
        return Ok(());
    }
    let message = format!("a weight does not fit into f16, whose largest number is 65504: {of}");
    let help = "choose bf16 or f32 for its model, as in `--choose MODEL.precision=bf16`";
    Err(Diagnostic::new("weights/beyond-f16", message).help(help).into())
}

/// Bytes as hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        write!(s, "{b:02x}").expect("writing to a string cannot fail");
        s
    })
}

fn unwritable(path: &Path, why: &std::io::Error) -> Diagnostic {
    Diagnostic::new("io/unwritable", format!("`{}` cannot be written: {why}", path.display()))
        .help("free some disk, or choose another folder")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_weight_beyond_f16_is_not_written_as_infinite() {
        let folder = tempfile::tempdir().unwrap();
        let source = ParamSource::Files(BTreeMap::new());
        let mut store = Store::create(folder.path().join(DERIVED), DERIVED, &source, true).unwrap();
        let narrow = |values: &[f32]| WeightExpr::literal_f32(&[values.len() as u64], values).unwrap().cast(DType::F16).unwrap();
        assert_eq!(store.place(&narrow(&[1.0, -70_000.0])).unwrap_err().code, "weights/beyond-f16");
        // What was infinite before is no fault of the type.
        store.place(&narrow(&[1.0, f32::INFINITY])).unwrap();
        store.place(&narrow(&[1.0, 65_504.0])).unwrap();
    }
}
