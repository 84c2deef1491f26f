//! A diffusers folder with the small models of `svd-tiny`, made in a test: configurations as the library writes them, weights by
//! the seeded generator with seed 4242.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::models::build;
use crate::weights::{DType, fill, random_spec};

/// The seed of `svd-tiny`.
pub(crate) const SEED: u64 = 4242;

/// What kind of folder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Form {
    /// The variant `fp16`: half precision, and file names that say so.
    pub(crate) half: bool,
    /// Number of shards of each model; 0 for one file without an index.
    pub(crate) shards: usize,
    /// Weights are holes: files of the right length without content, made in no time. Enough where only headers are read.
    pub(crate) hollow: bool,
}

/// Name → shape of the tensors of one component.
pub(crate) type Shapes = BTreeMap<String, Vec<u64>>;

/// Component and architectures.
const COMPONENTS: [(&str, &[&str]); 3] = [
    ("image_encoder", &["clip-vision-with-projection"]),
    ("vae", &["kl-encoder", "temporal-decoder"]),
    ("unet", &["unet-spatio-temporal-condition"]),
];

/// Makes the folder `dir`; `change` may spoil the tensors of a component.
pub(crate) fn tiny_folder(dir: &Path, form: Form, change: impl Fn(&str, &mut Shapes)) {
    for (name, value) in files() {
        write_json(&dir.join(name), &value);
    }
    let configs = configs();
    for (component, architectures) in COMPONENTS {
        let mut shapes = shapes(component, architectures, &configs[component]);
        change(component, &mut shapes);
        weights(&dir.join(component), component, form, &shapes);
    }
}

fn write_json(path: &Path, value: &Value) {
    fs::create_dir_all(path.parent().expect("a file in a folder")).expect("writable");
    fs::write(path, serde_json::to_string_pretty(value).expect("plain JSON")).expect("writable");
}

fn configs() -> Value {
    serde_json::from_str(include_str!("../../tests/data/models/svd_tiny_configs.json")).expect("JSON")
}

/// Every JSON file, by name.
fn files() -> Vec<(String, Value)> {
    let others: serde_json::Map<String, Value> =
        serde_json::from_str(include_str!("../../tests/data/models/svd_tiny_folder.json")).expect("JSON");
    let mut all: Vec<(String, Value)> = others.into_iter().collect();
    let configs = configs();
    all.extend(COMPONENTS.iter().map(|(name, _)| (format!("{name}/config.json"), configs[*name].clone())));
    all
}

fn shapes(component: &str, architectures: &[&str], config: &Value) -> Shapes {
    let graphs: Vec<_> = architectures.iter().map(|a| build(a, config, component, a).expect("builds")).collect();
    super::models::params(&graphs).iter().map(|(name, param)| (name.clone(), param.shape().to_vec())).collect()
}

/// Writes the weights of one component as its library lays them out.
fn weights(dir: &Path, component: &str, form: Form, shapes: &Shapes) {
    let stem = if component == "image_encoder" { "model" } else { "diffusion_pytorch_model" };
    let variant = if form.half { ".fp16" } else { "" };
    if form.shards == 0 {
        return write_safetensors(&dir.join(format!("{stem}{variant}.safetensors")), component, form, shapes);
    }
    let each = shapes.len().div_ceil(form.shards);
    let mut map = BTreeMap::new();
    let entries: Vec<_> = shapes.iter().collect();
    for (i, part) in entries.chunks(each).enumerate() {
        let file = format!("{stem}{variant}-{:05}-of-{:05}.safetensors", i + 1, form.shards);
        let part: Shapes = part.iter().map(|(name, shape)| ((*name).clone(), (*shape).clone())).collect();
        write_safetensors(&dir.join(&file), component, form, &part);
        map.extend(part.into_keys().map(|name| (name, file.clone())));
    }
    write_json(&dir.join(format!("{stem}.safetensors.index{variant}.json")), &json!({ "metadata": {}, "weight_map": map }));
}

/// One file: the length of the header, the header, the tensors one after the other.
fn write_safetensors(path: &PathBuf, component: &str, form: Form, shapes: &Shapes) {
    let dtype = if form.half { DType::F16 } else { DType::F32 };
    let mut header = serde_json::Map::from_iter([("__metadata__".to_owned(), json!({ "format": "pt" }))]);
    let mut end = 0;
    for (name, shape) in shapes {
        let start = end;
        end += shape.iter().product::<u64>() * dtype.size();
        header.insert(name.clone(), json!({ "dtype": dtype.safetensors(), "shape": shape, "data_offsets": [start, end] }));
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = BufWriter::new(fs::File::create(path).expect("writable"));
    file.write_all(&(header.len() as u64).to_le_bytes()).expect("writable");
    file.write_all(&header).expect("writable");
    if form.hollow {
        let file = file.into_inner().expect("writable");
        return file.set_len(8 + header.len() as u64 + end).expect("writable");
    }
    for (name, shape) in shapes {
        file.write_all(&values(component, name, shape, form.half)).expect("writable");
    }
    file.flush().expect("writable");
}

fn values(component: &str, name: &str, shape: &[u64], half: bool) -> Vec<u8> {
    let mut values = vec![0.0_f32; shape.iter().product::<u64>() as usize];
    fill(&random_spec(SEED, component, name, shape), 0, &mut values);
    if half {
        values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect()
    } else {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }
}
