//! `vidc graph`: draws a graph.

use serde_json::json;

use crate::common::args::GraphArgs;
use crate::common::{Done, Out, target};

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    graph: GraphArgs,
    /// As Graphviz text, for `dot -Tsvg`; else as the canonical text of the pipeline.
    #[arg(long)]
    dot: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let program = target::program(&args.graph)?;
    let pipeline = &program.pipeline;
    let drawn = if args.dot { pipeline.to_dot() } else { pipeline.text_with_places() };
    out.result(|| drawn.clone(), || json!({ "graph": pipeline.name, if args.dot { "dot" } else { "text" }: drawn }));
    Ok(())
}
