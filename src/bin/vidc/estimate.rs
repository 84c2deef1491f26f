//! `vidc estimate`: the cost of given answers, without a search.

use crate::common::args::{ChooseArgs, GraphArgs, ProviderArgs};
use crate::common::planning::{chosen_json, effects_text, given, predicted_text};
use crate::common::{Done, Out, target};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// The device: a key of `vidc hw list`, or cpu for this machine.
    #[arg(long, value_name = "KEY")]
    hw: String,
    #[command(flatten)]
    provider: ProviderArgs,
    #[command(flatten)]
    choose: ChooseArgs,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let machine = target::machine(&args.hw, &args.provider)?;
    target::note_doubts(&machine);
    let program = target::planned(&target::program(&args.graph)?, &machine)?;
    let chosen = given(&program, &args.choose.choices())?;
    let text = || {
        let name = &program.pipeline.name;
        format!(
            "{name} on {} with {}; figures from {}\n\n{}\n{}",
            machine.name,
            machine.target.name,
            machine.provenance(),
            predicted_text(&chosen.predicted),
            effects_text(&chosen.effects)
        )
    };
    out.result(text, || chosen_json(&chosen, &machine));
    Ok(())
}
