//! A backend test as it is stored: one packed file, or a folder as `tools/onnx/backend.py` writes it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use prost::Message;
use vidc::onnx::proto::{ModelProto, TensorProto, TypeValue};
use vidc::runtime::session::Session;
use vidc::runtime::tensor::Tensor;
use vidc::weights::DType;

/// A test.
pub(super) struct Case {
    /// `node`, `simple`, …
    pub(super) kind: String,
    /// Its name in the `onnx` package.
    pub(super) name: String,
    /// What its outputs may differ from the expected ones, relatively.
    pub(super) rtol: f64,
    /// The same, absolutely.
    pub(super) atol: f64,
    /// `model.onnx`.
    pub(super) model: Vec<u8>,
    /// The other files by name.
    files: Vec<(String, Vec<u8>)>,
    place: Place,
}

/// Where the model is a file of its own.
enum Place {
    Folder(PathBuf),
    Temporary(Arc<tempfile::TempDir>),
}

/// Feeds and expected outputs.
pub(super) struct DataSet {
    /// By name.
    pub(super) inputs: Vec<(String, Tensor)>,
    /// In the model's order; empty if one of them is of a type that vidc's sessions do not take.
    pub(super) outputs: Vec<Tensor>,
}

/// A value is of a type that vidc's sessions do not take.
pub(super) struct Unfed;

/// The first line of a packed file.
#[derive(serde::Deserialize)]
struct Head {
    rtol: f64,
    atol: f64,
    parts: Vec<(String, usize)>,
}

/// The tolerances of the `onnx` package where a test has none of its own.
#[derive(serde::Deserialize)]
struct Tolerance {
    rtol: f64,
    atol: f64,
}

impl Case {
    /// A packed file: a line of JSON that counts the parts, then the parts.
    pub(super) fn packed(file: &Path) -> Self {
        let bytes = std::fs::read(file).unwrap();
        let line = bytes.iter().position(|b| *b == b'\n').unwrap();
        let head: Head = serde_json::from_slice(&bytes[..line]).unwrap();
        let mut rest = &bytes[line + 1..];
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for (name, len) in head.parts {
            let (part, after) = rest.split_at(len);
            files.push((name, part.to_vec()));
            rest = after;
        }
        assert!(rest.is_empty(), "{} has more bytes than parts", file.display());
        let (_, model) = files.remove(0);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("model.onnx"), &model).unwrap();
        let (kind, name) = kind_and_name(file);
        Self { kind, name, rtol: head.rtol, atol: head.atol, model, files, place: Place::Temporary(Arc::new(folder)) }
    }

    /// The folder that `model.onnx` lies in.
    pub(super) fn folder(model: &Path) -> Self {
        let folder = model.parent().unwrap();
        let tolerance = std::fs::read(folder.join("tolerance.json"))
            .map_or(Tolerance { rtol: 1e-3, atol: 1e-7 }, |text| serde_json::from_slice(&text).unwrap());
        let files = crate::source::files_below(folder, ".pb")
            .iter()
            .map(|p| (p.strip_prefix(folder).unwrap().to_string_lossy().into_owned(), std::fs::read(p).unwrap()))
            .collect();
        let (kind, name) = kind_and_name(folder);
        let model = std::fs::read(model).unwrap();
        Self { kind, name, rtol: tolerance.rtol, atol: tolerance.atol, model, files, place: Place::Folder(folder.to_owned()) }
    }

    /// The model as a file.
    pub(super) fn model_file(&self) -> PathBuf {
        match &self.place {
            Place::Folder(folder) => folder.join("model.onnx"),
            Place::Temporary(folder) => folder.path().join("model.onnx"),
        }
    }

    /// The data sets for a session of the model.
    pub(super) fn data_sets(&self, session: &Session) -> Result<Vec<DataSet>, Unfed> {
        let known = |p: &[vidc::runtime::session::Port]| p.iter().all(|p| p.dtype.is_some());
        if !known(session.inputs()) || !known(session.outputs()) {
            return Err(Unfed);
        }
        let names = self.fed();
        let sets: BTreeSet<&str> = self.files.iter().filter_map(|(name, _)| Some(name.split_once('/')?.0)).collect();
        sets.into_iter().map(|set| self.data_set(set, &names)).collect()
    }

    fn data_set(&self, set: &str, names: &[String]) -> Result<DataSet, Unfed> {
        let file = |word: &str, i: usize| {
            let wanted = format!("{set}/{word}_{i}.pb");
            self.files.iter().find(|(name, _)| *name == wanted).map(|(_, bytes)| tensor(bytes))
        };
        let mut inputs = Vec::new();
        for (i, name) in names.iter().enumerate() {
            if let Some(value) = file("input", i) {
                inputs.push((name.clone(), value?));
            }
        }
        let outputs = (0..).map_while(|i| file("output", i)).collect::<Result<_, _>>().unwrap_or_default();
        Ok(DataSet { inputs, outputs })
    }

    /// The inputs that have no value of their own, in the model's order.
    fn fed(&self) -> Vec<String> {
        let graph = ModelProto::decode(self.model.as_slice()).unwrap().graph.unwrap();
        let stored: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
        let is_tensor = |t: &vidc::onnx::proto::TypeProto| matches!(t.value, Some(TypeValue::Tensor(_)));
        let inputs = graph.input.iter().filter(|i| !stored.contains(i.name.as_str()));
        inputs.inspect(|i| assert!(i.r#type.as_ref().is_some_and(is_tensor))).map(|i| i.name.clone()).collect()
    }
}

fn kind_and_name(path: &Path) -> (String, String) {
    let word = |p: Option<&std::ffi::OsStr>| p.unwrap().to_string_lossy().into_owned();
    (word(path.parent().unwrap().file_name()), word(path.file_stem()))
}

fn tensor(bytes: &[u8]) -> Result<Tensor, Unfed> {
    let proto = TensorProto::decode(bytes).map_err(|_| Unfed)?;
    let dtype = DType::from_onnx(proto.data_type).ok_or(Unfed)?;
    let shape: Vec<usize> = proto.dims.iter().map(|d| usize::try_from(*d).unwrap()).collect();
    let bytes = vidc::onnx::tensor::bytes(&proto).unwrap();
    Ok(Tensor::from_bytes(dtype, &shape, &bytes).unwrap())
}
