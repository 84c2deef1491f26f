//! Bad input on the command line, one file of `tests/cases/cli` each: what is typed, what lies in the folder, the exit status, and
//! words that stderr must hold. `{dir}` is a fresh folder. A command that is refused changes no file there and leaves none behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ndarray::ArrayD;
use serde::Deserialize;
use vidc::media::npy::write_npy;

use crate::cli::vidc;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// Arguments, split at blanks.
    command: String,
    #[serde(default)]
    files: BTreeMap<String, Content>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    exit: i32,
    stderr: Vec<String>,
}

/// What a file holds.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Content {
    Text(String),
    /// Bytes in hex; blanks are skipped.
    Hex(String),
    /// A safetensors file with this header, the length field in front; then as many zeros.
    Safetensors {
        header: String,
        zeros: usize,
    },
    /// A grey PNG of this height and width.
    Picture(u32, u32),
    /// Zeros of this shape, f32.
    Npy(Vec<usize>),
    /// A built-in graph with texts replaced.
    Graph {
        of: String,
        replace: BTreeMap<String, String>,
    },
    /// As many bytes of `a`.
    Long(usize),
    /// An empty folder.
    Folder,
    /// An ONNX model that multiplies by 64 x 64 weights, and its weights.
    Onnx(OnnxCase),
    /// A symbolic link to this.
    Link(String),
    /// A second name of this file of the case.
    Hardlink(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OnnxCase {
    /// Who made it.
    producer: String,
    /// The file of the weights, in the folder of the model.
    data: String,
}

impl Content {
    fn write(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        match self {
            Self::Text(text) => std::fs::write(path, text).unwrap(),
            Self::Hex(hex) => std::fs::write(path, bytes(hex)).unwrap(),
            Self::Safetensors { header, zeros } => {
                let mut all = (header.len() as u64).to_le_bytes().to_vec();
                all.extend(header.bytes());
                all.resize(all.len() + zeros, 0);
                std::fs::write(path, all).unwrap();
            }
            Self::Picture(height, width) => image::GrayImage::new(*width, *height).save_with_format(path, image::ImageFormat::Png).unwrap(),
            Self::Npy(shape) => write_npy(path, ArrayD::<f32>::zeros(shape.clone()).view()).unwrap(),
            Self::Graph { of, replace } => {
                let mut text = vidc::spec::builtin(of).unwrap().text.clone();
                for (from, to) in replace {
                    assert!(text.contains(from.as_str()), "{of} has no `{from}`");
                    text = text.replace(from, to);
                }
                std::fs::write(path, text).unwrap();
            }
            Self::Long(n) => std::fs::write(path, "a".repeat(*n)).unwrap(),
            Self::Folder => std::fs::create_dir_all(path).unwrap(),
            Self::Onnx(case) => write_model(path, &case.producer, Some(&case.data)),
            Self::Link(to) => link(to, path),
            Self::Hardlink(to) => std::fs::hard_link(path.with_file_name(to), path).unwrap(),
        }
    }
}

#[cfg(unix)]
fn link(to: &str, path: &Path) {
    std::os::unix::fs::symlink(to, path).unwrap();
}

#[cfg(not(unix))]
fn link(_: &str, _: &Path) {
    panic!("the cases with links run on Unix");
}

/// y = x w of x f32[n, 64], w f32[64, 64] in a file of its own if that is named.
pub(crate) fn write_model(path: &Path, producer: &str, data: Option<&str>) {
    use vidc::onnx::build::{model, node, value_info};
    use vidc::onnx::proto::{GraphProto, StringStringEntryProto, TensorProto};
    let weights: Vec<u8> = (0..64 * 64u16).flat_map(|i| (f32::from(i) / 4096.0).to_le_bytes()).collect();
    let mut w = TensorProto { name: "w".into(), dims: vec![64, 64], data_type: 1, ..Default::default() };
    if let Some(data) = data {
        std::fs::write(path.with_file_name(data), &weights).unwrap();
        w.data_location = Some(1);
        w.external_data = vec![StringStringEntryProto { key: "location".into(), value: data.into() }];
    } else {
        w.raw_data = Some(weights.into());
    }
    let float = |name: &str| value_info(name, 1, &["n".into(), 64.into()]);
    let graph = GraphProto {
        name: "../../torch graph".into(),
        node: vec![node("MatMul", "product", &["x", "w"], &["z"]), node("Exp", "exp", &["z"], &["y"])],
        initializer: vec![w],
        input: vec![float("x")],
        output: vec![float("y")],
        ..Default::default()
    };
    let mut proto = model(graph, 17);
    proto.producer_name = producer.into();
    std::fs::write(path, vidc::onnx::encode(&proto).unwrap()).unwrap();
}

/// Every file, folder and link below a folder with what it holds, but what the binary keeps for itself.
pub(crate) fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap().map(|e| e.unwrap()) {
            let path = entry.path();
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            let kind = entry.file_type().unwrap();
            if ["cache", "config"].contains(&name.as_str()) {
                continue;
            }
            let held = if kind.is_dir() {
                folders.push(path);
                b"folder".to_vec()
            } else if kind.is_symlink() {
                std::fs::read_link(&path).unwrap().to_string_lossy().into_owned().into_bytes()
            } else {
                std::fs::read(&path).unwrap()
            };
            found.insert(name, held);
        }
    }
    found
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn run(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).unwrap();
    let case: Case = serde_saphyr::from_str(&text).map_err(|e| e.to_string())?;
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let is_link = |c: &Content| matches!(c, Content::Link(_) | Content::Hardlink(_));
    let (links, files): (Vec<_>, Vec<_>) = case.files.iter().partition(|(_, c)| is_link(c));
    for (name, content) in files.into_iter().chain(links) {
        content.write(&folder.path().join(name));
    }
    let before = contents(folder.path());
    let args: Vec<String> = case.command.split_whitespace().map(|w| w.replace("{dir}", dir)).collect();
    let variables = case.environment.iter().map(|(k, v)| (k, v.replace("{dir}", dir)));
    let out = vidc(folder.path()).args(&args).envs(variables).output().unwrap();
    let after = contents(folder.path());
    if before != after {
        let changed = after.iter().filter(|(name, held)| before.get(*name) != Some(held)).map(|(name, _)| name);
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        return Err(format!("changed {:?}", changed.chain(gone).collect::<Vec<_>>()));
    }
    let said = String::from_utf8_lossy(&out.stderr).replace(dir, "{dir}");
    // Words may stand on two lines.
    let flat: String = said.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
    if out.status.code() != Some(case.exit) {
        return Err(format!("ended with {:?}, not {}:\n{said}", out.status.code(), case.exit));
    }
    match case.stderr.iter().find(|words| !flat.contains(words.as_str())) {
        Some(words) => Err(format!("does not say `{words}`:\n{said}")),
        None if !out.stdout.is_empty() => Err(format!("writes to stdout: {}", String::from_utf8_lossy(&out.stdout))),
        None => Ok(()),
    }
}

#[test]
fn bad_input_is_refused_with_the_way_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/cli");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 25, "{} cases", cases.len());
    let failed: Vec<String> =
        cases.iter().filter_map(|c| run(c).err().map(|why| format!("{}: {why}", c.file_name().unwrap().to_string_lossy()))).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
