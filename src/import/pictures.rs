//! How a picture is made ready for the image encoder.
//!
//! diffusers' pipeline resizes by itself and asks the feature extractor for one thing only, to normalise. So the extractor's
//! switches (`do_resize`, `do_center_crop`, `do_rescale`, `do_normalize`) and its filter have no say; its size must not
//! contradict that of the encoder.

use serde_json::Value;

use super::FEATURE_EXTRACTOR;
use super::folder::{Folder, Json, shorten};
use super::models::Models;
use crate::diag::{Diagnostic, Diagnostics};

/// The picture that the image encoder takes.
pub(super) struct Pictures {
    /// Its side in pixels.
    pub(super) size: i64,
    /// Subtracted from each channel of [0, 1].
    pub(super) mean: Vec<f64>,
    /// Divides each channel.
    pub(super) std: Vec<f64>,
}

impl Pictures {
    pub(super) fn read(folder: &Folder, models: &Models, found: &mut Diagnostics) -> Option<Self> {
        let config = folder.json(FEATURE_EXTRACTOR, "preprocessor_config.json").map_err(|d| found.push(*d)).ok()?;
        let mean = channels(&config, "image_mean", |x| x.abs() <= 10.0, found);
        let std = channels(&config, "image_std", |x| x > 0.0 && x <= 10.0, found);
        let size = models.whole("image_encoder", "image_size")?;
        for key in ["size", "crop_size"] {
            if let Some(given) = config.get(key).filter(|v| sides(v).iter().any(|side| *side != size)) {
                let message = format!("the preprocessor's `{key}` is `{}`, the image encoder's is {size}", shorten(&given.to_string()));
                let d = config.at(Diagnostic::new("import/preprocessor", message), key, "here");
                found.push(d.help("use the feature_extractor that belongs to this image_encoder"));
            }
        }
        Some(Self { size, mean: mean?, std: std? })
    }
}

/// A size is written as a number or as an object of sides; -1 stands for anything else.
fn sides(size: &Value) -> Vec<i64> {
    let side = |v: &Value| v.as_i64().unwrap_or(-1);
    size.as_object().map_or_else(|| vec![side(size)], |map| map.values().map(side).collect())
}

fn channels(config: &Json, key: &str, fits: impl Fn(f64) -> bool, found: &mut Diagnostics) -> Option<Vec<f64>> {
    let numbers: Option<Vec<f64>> = config.get(key).and_then(Value::as_array).and_then(|a| a.iter().map(Value::as_f64).collect());
    let numbers = numbers.filter(|n| n.len() == 3 && n.iter().all(|x| fits(*x)));
    if numbers.is_none() {
        let value = config.get(key).map_or_else(|| "missing".to_owned(), |v| format!("`{}`", shorten(&v.to_string())));
        let d = config.at(Diagnostic::new("import/preprocessor", format!("the preprocessor's `{key}` is {value}")), key, "here");
        found.push(d.help("what the graph can do is three numbers, one for each of red, green and blue"));
    }
    numbers
}
