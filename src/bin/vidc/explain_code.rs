//! `vidc explain-code`: what a diagnostic code means.

use crate::common::{Done, Failure, Out, render};
use vidc::diag::codes;
use vidc::diag::suggest;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The code, as an error shows it.
    code: String,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let Some((text, json)) = render::explain(&args.code) else {
        let near = suggest(&args.code, codes::all().map(|row| row.code));
        return Err(Failure::Usage(format!("there is no code `{}`; {near}", args.code)));
    };
    out.result(|| text, || json);
    Ok(())
}
