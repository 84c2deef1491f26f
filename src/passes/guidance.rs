//! `guidance`: runs the halves of classifier-free guidance in one call or one after the other.
//!
//! A call whose model acts on each batch item alone may be cut along the batch axis: same result, half the activations, the
//! weights read twice (`docs/facts/svd.md` 2.7, rewrite 3). This is the one pass on the pipeline level; it decides the batch
//! that a model's graph is bound to, so it runs before all others. Global knob: it changes every tensor of the model.

use super::{Choices, Effect, Knob, Scope};

/// The pass.
#[derive(Clone, Copy, Debug)]
pub struct Guidance;

impl Guidance {
    /// Stable name.
    pub const ID: &'static str = "guidance";

    /// The knob of a call on `batch` items, if there is something to cut.
    pub fn knob(model: &str, batch: i64) -> Option<Knob> {
        (batch > 1).then(|| Knob {
            id: Self::knob_id(model),
            scope: Scope::Global,
            domain: vec!["batched".into(), "serial".into()],
            on_request: Vec::new(),
            effect: Effect::Exact,
            about: "the halves of guidance in one call, or one after the other".into(),
        })
    }

    /// The knob's id.
    pub fn knob_id(model: &str) -> String {
        format!("{model}.guidance")
    }

    /// How many pieces a call on `batch` items runs in.
    pub fn pieces(model: &str, batch: i64, choices: &Choices) -> i64 {
        if choices.get(&Self::knob_id(model)) == Some("serial") { batch } else { 1 }
    }
}
