//! What the passes work on: a level of the IR, and what the manager must know of it. Operator graphs are one, with their [`Edit`](super::Edit);
//! programs are the other, with their [`ProgramEdit`](super::ProgramEdit).

use crate::diag::Result;

/// A level of the IR that a [`Rewriter`](super::Rewriter) edits.
pub trait IrLevel: Sized {
    /// Where an edit happens.
    type Site<'s>: Copy;
    /// An edit in progress.
    type Edit<'e>: Journal
    where
        Self: 'e;

    /// The name of a site.
    fn name_of(&self, site: Self::Site<'_>) -> String;

    /// The model that a site is about, if that is not the unit itself.
    fn unit_at(&self, site: Self::Site<'_>) -> Option<String>;

    /// Begins an edit; `silent` ones need no names.
    fn edit(&mut self, site: Self::Site<'_>, silent: bool) -> Self::Edit<'_>;

    /// How many nodes there are.
    fn size(&self) -> usize;

    /// A text that differs if anything does that a pass can change.
    fn canonical(&self) -> String;

    /// Names and types of what goes in and comes out, which no pass changes.
    fn interface(&self) -> Vec<(String, String)>;

    /// Checks the invariants of the level.
    ///
    /// # Errors
    /// The first that does not hold.
    fn check(&self) -> Result<()>;
}

/// How an edit ends.
pub trait Journal {
    /// Keeps what was done; did it change anything?
    fn commit(self) -> bool;

    /// Takes back what was done.
    fn undo(self);
}
