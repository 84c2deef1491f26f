//! The weights of one model as diffusers and transformers lay them out in a folder.
//!
//! | without variant | with variant `fp16` |
//! | --- | --- |
//! | `NAME.safetensors` | `NAME.fp16.safetensors` |
//! | `NAME.safetensors.index.json` and its shards | `NAME.safetensors.index.fp16.json` or `NAME.fp16.safetensors.index.json` and its shards |
//!
//! NAME is `diffusion_pytorch_model` or `model`. How shards are named is the index's business.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

use super::safetensors::{MAX_HEADER, PICKLES, open_file, pickle};
use super::stored::{Stored, duplicate};
use crate::diag::{Diagnostic, Result};
use crate::files::{self, Refusal};

const NAMES: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// The largest published models have a few hundred.
const MAX_SHARDS: usize = 4096;

/// Opens the weights in `dir`, reading headers only. `variant` is the part of the file names that diffusers calls so.
///
/// # Errors
/// `weights/not-found` with what there is, `weights/dangling-link`, `weights/pickle` if there are only pickles, and those of [`super::open_file`] and
/// [`open_index`].
pub fn open_folder(dir: &Path, variant: Option<&str>) -> Result<Stored> {
    let variant_is_name = variant.is_none_or(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)));
    if !variant_is_name {
        return Err(not_found(dir, variant).into());
    }
    for name in NAMES {
        let dotted = variant.map_or(String::new(), |v| format!(".{v}"));
        let single = dir.join(format!("{name}{dotted}.safetensors"));
        if is_there(&single)? {
            return open_file(&single);
        }
        for index in [format!("{name}.safetensors.index{dotted}.json"), format!("{name}{dotted}.safetensors.index.json")] {
            let index = dir.join(index);
            if is_there(&index)? {
                return open_index(&index);
            }
        }
    }
    Err(nothing(dir, variant).into())
}

/// Is there such a file? A link to nothing is none, and no reason to look for another either.
fn is_there(path: &Path) -> Result<bool> {
    match files::dangling(path) {
        Some(to) => Err(dangling(&path.display().to_string(), &to).into()),
        None => Ok(path.is_file()),
    }
}

/// A link of a hub cache whose file was not fetched, or was removed.
fn dangling(name: &str, to: &Path) -> Diagnostic {
    let message = format!("`{name}` is a link to `{}`, which is not there", to.display());
    let help = "in a hub cache this is a download that did not finish, or a file that was removed: fetch the model again";
    Diagnostic::new("weights/dangling-link", message).help(help)
}

/// Opens the shards that an index names. Only the tensors of its `weight_map` are taken.
///
/// # Errors
/// `weights/index`, `weights/duplicate-tensor`, `weights/path-escape`, `weights/shard-missing`, `weights/index-mismatch`, and
/// those of [`super::open_file`].
pub fn open_index(index: &Path) -> Result<Stored> {
    open_shards(index).map_err(|d| d.note(format!("the index is {}", index.display())).into())
}

fn open_shards(index: &Path) -> Result<Stored> {
    let dir = index.parent().unwrap_or(Path::new("."));
    let mut stored = Stored::default();
    for (shard, names) in by_shard(read_index(index)?, index)? {
        let path = files::confined(dir, &shard).map_err(|why| refused(&shard, &why))?;
        take(&mut stored, open_file(&path)?, &shard, names)?;
    }
    Ok(stored)
}

/// Moves the tensors `names` from an opened shard to the model.
fn take(stored: &mut Stored, mut shard: Stored, file: &str, names: Vec<String>) -> Result<()> {
    stored.files.append(&mut shard.files);
    for name in names {
        if let Some(tensor) = shard.tensors.remove(&name) {
            stored.tensors.insert(name, tensor);
        } else if let Some(dtype) = shard.unsupported.remove(&name) {
            stored.unsupported.insert(name, dtype);
        } else {
            let message = format!("the index places tensor `{name}` in {file}, which does not hold it");
            return Err(Diagnostic::new("weights/index-mismatch", message).help("fetch index and files together").into());
        }
    }
    Ok(())
}

fn read_index(path: &Path) -> Result<WeightMap> {
    let (mut file, len) = files::open_regular(path)?;
    if len > MAX_HEADER {
        return Err(bad_index(&format!("it has {len} bytes; the limit is {MAX_HEADER}")).into());
    }
    let bytes = files::read_start(path, &mut file, len)?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| bad_index(&e.to_string()))?;
    Ok(index.weight_map)
}

/// File → tensors, and no tensor twice.
fn by_shard(map: WeightMap, index: &Path) -> Result<BTreeMap<String, Vec<String>>> {
    let mut names: Vec<&str> = map.0.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(duplicate(pair[0], &index.display().to_string()).into());
    }
    let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, shard) in map.0 {
        shards.entry(shard).or_default().push(name);
    }
    if shards.len() > MAX_SHARDS {
        return Err(bad_index(&format!("it names {} files", shards.len())).into());
    }
    Ok(shards)
}

#[derive(Deserialize)]
struct Index {
    weight_map: WeightMap,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

/// Tensor and file, in the order written, duplicates kept so that they can be refused.
struct WeightMap(Vec<(String, String)>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from tensor names to file names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WeightMap, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(WeightMap(entries))
    }
}

fn bad_index(why: &str) -> Diagnostic {
    Diagnostic::new("weights/index", format!("the index of the sharded weights cannot be used: {why}")).help("fetch it again")
}

fn refused(shard: &str, why: &Refusal) -> Diagnostic {
    let message = format!("the index names the file `{}`: {why}", shard.escape_debug());
    if matches!(why, Refusal::Missing | Refusal::Dangling(_)) {
        return Diagnostic::new("weights/shard-missing", message).help("the download is not complete; fetch the folder again");
    }
    Diagnostic::new("weights/path-escape", message).help("an index may only name files directly in its own folder")
}

/// Why a folder without usable weights has none.
fn nothing(dir: &Path, variant: Option<&str>) -> Diagnostic {
    let there = listing(dir);
    let is_pickle = |name: &&String| Path::new(name).extension().is_some_and(|e| PICKLES.iter().any(|p| e.eq_ignore_ascii_case(p)));
    let any_safetensors = there.iter().any(|name| name.contains(".safetensors"));
    match there.iter().find(is_pickle) {
        Some(name) if !any_safetensors => pickle(&dir.join(name).display().to_string()),
        _ => not_found(dir, variant),
    }
}

fn not_found(dir: &Path, variant: Option<&str>) -> Diagnostic {
    let what = variant.map_or("weights".into(), |v| format!("weights of the variant `{}`", v.escape_debug()));
    let there = listing(dir);
    let variants = variants_of(&there);
    let help = match (variants.as_slice(), variant) {
        ([], _) if there.is_empty() => "the folder does not exist or is empty".into(),
        ([], _) => format!("there is: {}", there.join(", ")),
        (list, None) => format!("there are variants: try `--variant {}`", list.join("` or `--variant ")),
        (list, Some(_)) => format!("there is: {}", list.join(", ")),
    };
    Diagnostic::new("weights/not-found", format!("there are no {what} in {}", dir.display())).help(help)
}

/// The `V` of files such as `model.V.safetensors` and `model.safetensors.index.V.json`.
fn variants_of(there: &[String]) -> Vec<String> {
    let mut variants: Vec<String> = there.iter().filter_map(|file| variant_of(file)).collect();
    variants.sort_unstable();
    variants.dedup();
    variants
}

fn variant_of(file: &str) -> Option<String> {
    let rest = NAMES.iter().find_map(|name| file.strip_prefix(name))?;
    let single = rest.strip_prefix('.').and_then(|r| r.strip_suffix(".safetensors"));
    let index = rest.strip_prefix(".safetensors.index.").and_then(|r| r.strip_suffix(".json"));
    single.or(index).filter(|v| !v.is_empty() && !v.contains('.')).map(str::to_owned)
}

/// At most 24 names in the folder, sorted.
fn listing(dir: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> = entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).take(10_000).collect();
    names.sort_unstable();
    names.truncate(24);
    names
}
