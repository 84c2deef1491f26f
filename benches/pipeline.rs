//! What vidc costs its user before anything runs: start-up, reading, building, checking, the passes, the cost model.
//!
//! `cargo bench` runs everything, `cargo bench -- passes` a part. Everything is Stable Video Diffusion XT at full size (25 frames,
//! 576×1024) on an RTX 3090; no weights are read. Targets: `vidc --version` in 20 ms, a search in 2 s on two cores.

use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};

use divan::{Bencher, black_box};
use vidc::cost::latency::{Work, latency};
use vidc::diag::SourceText;
use vidc::hwdb::{self, Machine, Precision};
use vidc::ir::{self, OpGraph, Program};
use vidc::passes::manager::Debugging;
use vidc::passes::{self, Checks, Choices, PassCx, Planned, Rewriter};
use vidc::tuner::{self, Request};
use vidc::units::Bytes;
use vidc::{models, spec};

fn main() {
    divan::main();
}

/// What the benches share; made once.
struct Setup {
    source: Arc<SourceText>,
    machine: Machine,
    program: Program,
    planned: Planned,
    /// The denoiser, bound to its sizes, before the passes.
    unet: OpGraph,
}

static SETUP: LazyLock<Setup> = LazyLock::new(|| {
    let source = spec::builtin("svd-xt").expect("the graph is embedded");
    let program = models::load(&source, &[]).expect("the embedded graph loads");
    let unet = unet(&program);
    let machine = hwdb::machine("rtx3090").expect("the profile is embedded");
    let planned = Planned::of(&program, &machine, &Debugging::default()).expect("the embedded graph is planned");
    Setup { source, machine, program, planned, unet }
});

fn unet(program: &Program) -> OpGraph {
    let site = program.calls().into_iter().find(|site| site.model == "unet").expect("the graph calls its denoiser");
    program.bound(&site).expect("the denoiser takes the graph's own sizes")
}

/// The process, from start to exit.
#[divan::bench(sample_count = 50)]
fn start_up() {
    let mut vidc = Command::new(env!("CARGO_BIN_EXE_vidc"));
    let status = vidc.arg("--version").stdout(Stdio::null()).status().expect("the binary starts");
    assert!(status.success(), "vidc --version fails");
}

mod front {
    use super::{Bencher, SETUP, black_box, ir, models, spec, unet};

    #[divan::bench]
    fn parse(bencher: Bencher<'_, '_>) {
        let source = &SETUP.source;
        bencher.bench(|| spec::parse(black_box(source)));
    }

    /// The denoiser from its configuration, all sizes symbolic.
    #[divan::bench(sample_count = 20)]
    fn build_unet(bencher: Bencher<'_, '_>) {
        let graph = spec::parse(&SETUP.source).0.expect("the embedded graph parses");
        let decl = graph.models.get("unet").expect("the graph has a denoiser");
        let config = decl.config.0.to_json();
        bencher.bench(|| models::build(&decl.architecture.value, black_box(&config), "unet", "unet"));
    }

    /// Symbols to numbers.
    #[divan::bench(sample_count = 20)]
    fn bind_unet(bencher: Bencher<'_, '_>) {
        bencher.bench(|| unet(black_box(&SETUP.program)));
    }

    /// Names, arithmetic and types of the pipeline, with the models already built.
    #[divan::bench]
    fn resolve(bencher: Bencher<'_, '_>) {
        let graph = spec::parse(&SETUP.source).0.expect("the embedded graph parses");
        let signatures = |decl: &spec::ModelDecl| {
            let (name, _) = graph.models.iter().find(|(_, d)| std::ptr::eq(*d, decl)).expect("resolve passes on what it was given");
            Ok(SETUP.program.models[name.value.as_str()].signature())
        };
        bencher.bench(|| ir::pipeline::resolve(black_box(&graph), &[], &signatures));
    }

    /// Text to program: all of the above.
    #[divan::bench(sample_count = 10)]
    fn load(bencher: Bencher<'_, '_>) {
        bencher.bench(|| models::load(black_box(&SETUP.source), &[]));
    }
}

mod verify {
    use super::{Bencher, SETUP, black_box, ir};

    #[divan::bench]
    fn pipeline(bencher: Bencher<'_, '_>) {
        bencher.bench(|| ir::pipeline::verify(black_box(&SETUP.program.pipeline)));
    }

    #[divan::bench(sample_count = 20)]
    fn unet(bencher: Bencher<'_, '_>) {
        bencher.bench(|| ir::verify(black_box(&SETUP.unet)).map(|_| ()));
    }
}

mod passes_over_unet {
    use super::{Bencher, Checks, Choices, Debugging, OpGraph, PassCx, Rewriter, SETUP, black_box, passes};

    fn order() -> Vec<String> {
        let ids = passes::operators().iter().map(|p| p.info().id).collect::<Vec<_>>();
        ids.iter().enumerate().map(|(at, id)| format!("{at:02}-{id}")).collect()
    }

    fn run(pass: &dyn passes::Pass, graph: &mut OpGraph, choices: &Choices) {
        let cx = PassCx { machine: &SETUP.machine, choices, debugging: &Debugging::default() };
        let mut rw = Rewriter::new("unet", graph);
        pass.run(&mut rw, &cx).expect("the passes accept the denoiser");
        rw.finish();
    }

    /// Half precision and both splits on, so that every pass has work.
    fn choices() -> Choices {
        let mut choices = Choices::default();
        for (knob, answer) in [("unet.precision", "f16"), ("unet.level0.attention", "tile-8"), ("unet.level0.feed-forward", "4")] {
            choices.set(knob, answer);
        }
        choices
    }

    #[divan::bench(args = order(), sample_count = 10)]
    fn pass(bencher: Bencher<'_, '_>, name: &str) {
        let order = passes::operators();
        let at: usize = name[..2].parse().expect("the name begins with the place in the order");
        let choices = choices();
        let mut before = SETUP.unet.clone();
        order[..at].iter().for_each(|p| run(&**p, &mut before, &choices));
        bencher.with_inputs(|| before.clone()).bench_local_refs(|graph| run(&*order[at], graph, &choices));
    }

    #[divan::bench(sample_count = 10)]
    fn offered_knobs(bencher: Bencher<'_, '_>) {
        bencher.bench(|| passes::offered_knobs(black_box(&SETUP.unet), &SETUP.machine));
    }

    #[divan::bench(args = ["fast", "full"], sample_count = 10)]
    fn all(bencher: Bencher<'_, '_>, checks: &str) {
        let (checks, choices) = (if checks == "full" { Checks::Full } else { Checks::Fast }, choices());
        bencher.bench(|| passes::compile_graph(black_box(&SETUP.unet), &SETUP.machine, &choices, checks, &Debugging::default()));
    }
}

/// Every model of the pipeline through every pass, with every check.
#[divan::bench(sample_count = 5)]
fn compile_program(bencher: Bencher<'_, '_>) {
    bencher.bench(|| black_box(&SETUP.planned).compile(&Choices::default(), Checks::Full).map(|_| ()));
}

mod cost {
    use super::{Bencher, Checks, Choices, Debugging, Precision, SETUP, Work, black_box, ir, latency, passes};

    /// The order's buffers with bytes, first and last use.
    #[divan::bench(sample_count = 20)]
    fn schedule(bencher: Bencher<'_, '_>) {
        let compiled = passes::compile_graph(&SETUP.unet, &SETUP.machine, &Choices::default(), Checks::Fast, &Debugging::default());
        let graph = compiled.expect("the passes accept the denoiser").graph;
        bencher.bench(|| ir::schedule(black_box(&graph)));
    }

    /// One operator of each kind.
    #[divan::bench]
    fn latency_formula(bencher: Bencher<'_, '_>) {
        let works = [
            Work::Gemm { b: 1, m: 460_800, n: 2560, k: 320, extra_bytes: 5120 },
            Work::Attention { b: 50, h: 5, lq: 9216, lk: 9216, dh: 64, fused: true, q_tiles: 1 },
            Work::Free,
        ];
        bencher.bench(|| works.map(|w| latency(black_box(&w), Precision::F16, &SETUP.machine)));
    }
}

mod tune {
    use super::{Bencher, Bytes, Choices, Request, SETUP, black_box, tuner};

    /// The figures of the plain answers, with every check.
    #[divan::bench(sample_count = 5)]
    fn estimate(bencher: Bencher<'_, '_>) {
        bencher.bench(|| tuner::estimate(black_box(&SETUP.planned), &Choices::default()).map(|_| ()));
    }

    /// The whole search: the space, the tables, the proof. The budget is in GiB.
    #[divan::bench(args = [24, 8], sample_count = 5)]
    fn search(bencher: Bencher<'_, '_>, budget: u64) {
        let request = Request { memory: Some(Bytes(budget << 30)), ..Request::default() };
        bencher.bench(|| tuner::tune(black_box(&SETUP.planned), &request).map(|_| ()).map_err(|d| d.code));
    }
}
