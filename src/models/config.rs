//! Typed access to a component's `config.json`. Every refusal names the component, the path of the key and what is allowed.
//!
//! Sizes are bounded here, so that no config can make a graph that does not fit into memory: extents by [`EXTENT`], counts of
//! repeated parts by the caller.

use serde_json::Value;

use crate::diag::{Diagnostic, Result};

/// The largest extent of a channel axis that a config may ask for.
pub(super) const EXTENT: i64 = 1 << 17;
/// The largest number of equal parts in a row: resnets of a block, layers of a transformer.
pub(super) const REPEATS: i64 = 16;
/// The largest number of resolutions.
pub(super) const LEVELS: usize = 8;

/// One component's config.
pub(super) struct Config<'a> {
    value: &'a Value,
    component: &'a str,
}

impl<'a> Config<'a> {
    /// # Errors
    /// `model/config-unsupported` if the value is no JSON object.
    pub(super) fn new(value: &'a Value, component: &'a str) -> Result<Self> {
        let config = Self { value, component };
        if value.is_object() { Ok(config) } else { Err(config.unsupported("", value, "a JSON object").into()) }
    }

    /// The value of a key that must be there; `null` counts as missing, as it does for those who write these files.
    pub(super) fn get(&self, key: &str) -> Result<&'a Value> {
        Ok(self.optional(key).ok_or_else(|| self.missing(key))?)
    }

    fn optional(&self, key: &str) -> Option<&'a Value> {
        self.value.get(key).filter(|v| !v.is_null())
    }

    /// A whole number in `1..=limit`.
    pub(super) fn count(&self, key: &str, limit: i64) -> Result<i64> {
        self.whole(key, self.get(key)?, limit)
    }

    /// A whole number in `1..=limit`, or `default` if the key is not there.
    pub(super) fn count_or(&self, key: &str, limit: i64, default: i64) -> Result<i64> {
        self.optional(key).map_or(Ok(default), |v| self.whole(key, v, limit))
    }

    /// A positive number, or `default` if the key is not there.
    pub(super) fn positive_or(&self, key: &str, default: f32) -> Result<f32> {
        let Some(value) = self.optional(key) else { return Ok(default) };
        match value.as_f64() {
            Some(x) if x > 0.0 && x < 1.0 => Ok(x as f32),
            _ => Err(self.unsupported(key, value, "a number between 0 and 1").into()),
        }
    }

    /// A list of whole numbers in `1..=limit`, one a level; it says how many levels there are.
    pub(super) fn levels(&self, key: &str, limit: i64) -> Result<Vec<i64>> {
        let value = self.get(key)?;
        match value.as_array() {
            Some(items) if (1..=LEVELS).contains(&items.len()) => self.each(key, items, limit),
            _ => Err(self.unsupported(key, value, &format!("a list of 1 to {LEVELS} whole numbers")).into()),
        }
    }

    /// One whole number for all levels, or a list with one for each.
    pub(super) fn per_level(&self, key: &str, limit: i64, levels: usize) -> Result<Vec<i64>> {
        let value = self.get(key)?;
        match value.as_array() {
            None => Ok(vec![self.whole(key, value, limit)?; levels]),
            Some(items) if items.len() == levels => self.each(key, items, limit),
            Some(_) => Err(self.unsupported(key, value, &format!("a whole number or a list of {levels}")).into()),
        }
    }

    /// A list with one name a level out of `known`; yields the index of each.
    pub(super) fn kinds(&self, key: &str, known: &[&str], levels: usize) -> Result<Vec<usize>> {
        let value = self.get(key)?;
        let items = value.as_array().filter(|items| items.len() == levels);
        let items = items.ok_or_else(|| self.unsupported(key, value, &format!("a list of {levels} block types")))?;
        items.iter().enumerate().map(|(i, item)| self.one_of(&format!("{key}[{i}]"), item, known)).collect()
    }

    /// A name out of `known`; yields its index.
    pub(super) fn kind(&self, key: &str, known: &[&str]) -> Result<usize> {
        self.one_of(key, self.get(key)?, known)
    }

    /// A key that, if it is there, must have the one value that this architecture computes.
    pub(super) fn fixed(&self, key: &str, only: &Value) -> Result<()> {
        match self.optional(key) {
            Some(value) if value != only => Err(self.unsupported(key, value, &format!("`{only}`")).into()),
            _ => Ok(()),
        }
    }

    /// A size that an operator needs to be a multiple of another.
    pub(super) fn multiple(&self, key: &str, size: i64, of: i64, why: &str) -> Result<()> {
        if size % of == 0 {
            return Ok(());
        }
        Err(self.refuse(key, &format!("is {size}"), &format!("a multiple of {of} ({why})")).into())
    }

    /// Says that a key has a value which this architecture does not compute.
    pub(super) fn unsupported(&self, key: &str, value: &Value, allowed: &str) -> Diagnostic {
        let shown: String = value.to_string().chars().take(80).collect();
        self.refuse(key, &format!("is `{shown}`"), allowed)
    }

    fn refuse(&self, key: &str, is: &str, allowed: &str) -> Diagnostic {
        let key = if key.is_empty() { "it".to_owned() } else { format!("`{key}`") };
        let message = format!("the config of `{}` cannot be built: {key} {is}", self.component);
        Diagnostic::new("model/config-unsupported", message).help(format!("what can be built is {allowed}"))
    }

    fn missing(&self, key: &str) -> Diagnostic {
        let message = format!("the config of `{}` does not say `{key}`", self.component);
        let present = self.value.as_object().into_iter().flatten().filter(|(_, v)| !v.is_null());
        let help = format!("add `{key}`; {}", crate::diag::suggest(key, present.map(|(k, _)| k.as_str())));
        Diagnostic::new("model/config-missing-key", message).help(help)
    }

    fn each(&self, key: &str, items: &[Value], limit: i64) -> Result<Vec<i64>> {
        items.iter().enumerate().map(|(i, item)| self.whole(&format!("{key}[{i}]"), item, limit)).collect()
    }

    fn whole(&self, key: &str, value: &Value, limit: i64) -> Result<i64> {
        match value.as_i64() {
            Some(n) if (1..=limit).contains(&n) => Ok(n),
            _ => Err(self.unsupported(key, value, &format!("a whole number from 1 to {limit}")).into()),
        }
    }

    fn one_of(&self, key: &str, value: &Value, known: &[&str]) -> Result<usize> {
        let found = value.as_str().and_then(|s| known.iter().position(|k| *k == s));
        Ok(found.ok_or_else(|| self.unsupported(key, value, &format!("one of {}", known.join(", "))))?)
    }
}
