//! Tests of the passes over whole programs: their examples, what they leave, and that the manager holds them to their word.

use std::sync::Arc;

use super::level::Journal;
use super::*;
use crate::diag::SourceText;
use crate::hwdb;
use crate::ir::pipeline::PipeOp;

fn program(graph: &str) -> Program {
    crate::models::load(&crate::spec::builtin(graph).unwrap(), &[]).unwrap_or_else(|d| panic!("{:?}", d.0))
}

/// Do these lines stand in the text, in this order? `…` stands for anything within a line.
fn stands(lines: &[&str], text: &str) -> std::result::Result<(), String> {
    let mut rest = text.lines();
    for line in lines {
        let parts: Vec<&str> = line.split('…').collect();
        let fits = |candidate: &str| {
            let mut from = 0;
            let found = parts.iter().all(|part| candidate[from..].find(part).map(|at| from += at + part.len()).is_some());
            found && candidate.starts_with(parts[0]) && candidate.ends_with(parts[parts.len() - 1])
        };
        rest.find(|candidate| fits(candidate)).ok_or_else(|| format!("there is no `{line}`, or it stands elsewhere, in\n{text}"))?;
    }
    Ok(())
}

/// An example: `graph: NAME`, `choose: KNOB=ANSWER, …`, then lines of the pipeline `before:` and `after:` the pass on an RTX 3090.
#[test]
fn the_example_of_each_pass_over_the_pipeline_is_what_it_does() {
    let machine = hwdb::machine("rtx3090").unwrap();
    let passes = || order().into_iter().filter_map(|p| if let Leveled::Pipeline(pass) = p { Some(pass) } else { None });
    for (i, info) in passes().map(|p| p.info()).enumerate() {
        let (head, rest) = info.example.split_once("before:\n").unwrap();
        let (before, after) = rest.split_once("after:\n").unwrap();
        let field = |key: &str| head.lines().find_map(|l| l.strip_prefix(key)).map(str::trim);
        let mut choices = Choices::default();
        let given = field("choose:").into_iter().flat_map(|list| list.split(','));
        given.for_each(|c| c.trim().split_once('=').map(|(knob, answer)| choices.set(knob, answer)).unwrap());
        let mut program = program(field("graph:").unwrap());
        let debugging = Debugging::default();
        let cx = PassCx { machine: &machine, choices: &choices, debugging: &debugging };
        let mut run = |pass: &dyn Pass<Program>| {
            let mut rw = Rewriter::new("p", &mut program);
            pass.run(&mut rw, &cx).unwrap();
            (rw.finish(), program.pipeline.to_string())
        };
        let all: Vec<_> = passes().collect();
        let texts: Vec<(Vec<Remark>, String)> = all[..=i].iter().map(|p| run(&**p)).collect();
        let written = self::program(field("graph:").unwrap()).pipeline.to_string();
        let was = i.checked_sub(1).map_or(written.as_str(), |j| texts[j].1.as_str());
        for (lines, text) in [(before, was), (after, &texts[i].1)] {
            stands(&lines.lines().collect::<Vec<_>>(), text).unwrap_or_else(|e| panic!("{}: {e}", info.id));
        }
        assert!(texts[i].0.iter().any(|r| r.applied), "{} says that it did something", info.id);
    }
}

/// Two sizes of pictures go through one encoder.
const TWO_SIZES: &str = "vidc: 1
name: sizes
weights: random:1
models:
  enc:
    architecture: kl-encoder
    weights: vae
    config: { block_out_channels: [32], down_block_types: [DownEncoderBlock2D], layers_per_block: 1, in_channels: 3, out_channels: 3,
              latent_channels: 3, sample_size: 16, scaling_factor: 1.0, force_upcast: true }
inputs:
  image: { picture: { height: 16, width: 16 } }
pipeline:
  resized: { resize: { image: image, height: 16, width: 16, filter: lanczos } }
  large: { to_tensor: { image: resized } }
  half: { resize: { image: image, height: 8, width: 8, filter: lanczos } }
  small: { to_tensor: { image: half } }
  a: { call: { model: enc, inputs: { image: large } } }
  b: { call: { model: enc, inputs: { image: small } } }
  c: { call: { model: enc, inputs: { image: large } } }
  d: { add: { values: [a, c] } }
  frames: { unsqueeze: { value: d, axis: frames, at: 1 } }
outputs:
  video: { frames: frames, fps: 7 }
";

fn two_sizes() -> Planned {
    let source = SourceText { name: "sizes.yaml".into(), text: TWO_SIZES.into() };
    let program = crate::models::load(&Arc::new(source), &[]).unwrap_or_else(|d| panic!("{:?}", d.0));
    Planned::of(&program, &hwdb::machine("rtx3090").unwrap(), &Debugging::default()).unwrap()
}

#[test]
fn calls_with_equal_extents_share_a_session() {
    let planned = two_sizes();
    let sessions: Vec<String> = planned.calls().into_iter().map(|c| c.session).collect();
    assert_eq!(sessions, ["enc", "enc.b", "enc"]);
    let lowered = planned.compile(&Choices::default(), Checks::Full).unwrap();
    assert_eq!(lowered.sessions.keys().collect::<Vec<_>>(), ["enc", "enc.b"]);
    assert!(lowered.sessions.values().all(|c| c.graph.nodes().iter().all(|id| !c.graph.node(*id).op.is_raised())));
}

/// What is loaded at each call, and how often for it.
fn moments(planned: &Planned, residency: &str) -> Vec<(String, usize, u64)> {
    let mut choices = Choices::default();
    choices.set(RESIDENCY, residency);
    let arranged = planned.arranged(&choices, Checks::Full).unwrap();
    let walk = arranged.program.pipeline.walk();
    walk.moments.iter().map(|m| (m.node.to_owned(), m.loaded.len(), m.loads)).collect()
}

#[test]
fn a_session_is_loaded_for_its_stays() {
    let planned = two_sizes();
    let own = |n: &str, loaded, loads| (n.to_owned(), loaded, loads);
    assert_eq!(moments(&planned, "all"), [own("a", 2, 1), own("b", 2, 1), own("c", 2, 0)]);
    assert_eq!(moments(&planned, "stage"), [own("a", 1, 1), own("b", 1, 1), own("c", 1, 1)]);
}

#[test]
fn one_way_gives_what_the_three_parts_give() {
    let program = program("svd-tiny");
    let machine = hwdb::machine("cpu-avx2").unwrap();
    let mut choices = Choices::default();
    choices.set("unet.guidance", "serial");
    let whole = compile(&program, &machine, &choices, &Debugging::default()).unwrap();
    let planned = Planned::of(&program, &machine, &Debugging::default()).unwrap();
    let arranged = planned.arranged(&choices, Checks::Fast).unwrap();
    assert_eq!(whole.program.pipeline.to_string(), arranged.program.pipeline.to_string());
    for (name, graph) in arranged.sessions().unwrap() {
        let done = manager::run_passes(planned.operators(), &graph, &planned.cx(&choices), Checks::Fast).unwrap();
        assert_eq!(done.graph, whole.sessions[&name].graph, "{name}");
    }
    // The fingerprint is of what is computed, whoever runs it.
    assert_eq!(whole.program.pipeline.fingerprint(), planned.pipeline.fingerprint());
}

/// A pass that does what it is told.
struct Liar(fn(&mut Rewriter<'_, Program>) -> Result<()>);

impl Pass<Program> for Liar {
    fn info(&self) -> &'static PassInfo {
        static INFO: PassInfo =
            PassInfo { id: "liar", summary: "for tests", effect: Effect::Exact, asks: None, requires: &[], establishes: &[], example: "" };
        &INFO
    }

    fn run(&self, rw: &mut Rewriter<'_, Program>, _: &PassCx<'_>) -> Result<()> {
        (self.0)(rw)
    }
}

/// The code of the error when this is the only pass.
fn check(run: fn(&mut Rewriter<'_, Program>) -> Result<()>, expect: &str) {
    let passes = Arc::new(Passes::of(vec![Leveled::Pipeline(Box::new(Liar(run)))]));
    let done = Planned::with(passes, &program("svd-tiny"), &hwdb::machine("rtx3090").unwrap(), &Debugging::default());
    assert_eq!(done.map_or_else(|d| d.code, |_| ""), expect);
}

fn fps(e: &mut ProgramEdit<'_>, name: &str) {
    e.pipeline().outputs[0].name = name.into();
}

#[test]
fn a_pass_over_a_program_is_held_to_its_word() {
    check(|_| Ok(()), "");
    // What goes in and comes out stays as it is.
    check(
        |rw| {
            rw.apply("frames", None, Why::new("test"), |e| {
                fps(e, "another");
                Ok(())
            })
        },
        "pass/interface",
    );
    // An edit that fails leaves no trace.
    check(
        |rw| {
            let before = rw.graph().pipeline.to_string();
            let failed = rw.apply("frames", None, Why::new("test"), |e| {
                fps(e, "another");
                Err(Box::new(crate::diag::Diagnostic::new("internal/bug", "for tests")))
            });
            assert!(failed.is_err() && rw.graph().pipeline.to_string() == before);
            Ok(())
        },
        "",
    );
    // Two edits that take each other back are no change.
    check(
        |rw| {
            let rename = |name: &'static str| {
                move |e: &mut ProgramEdit<'_>| -> Result<()> {
                    for id in e.pipeline().graph.ids().collect::<Vec<_>>() {
                        if matches!(e.pipeline().graph.node(id).op, PipeOp::Loop(_)) {
                            e.pipeline().graph.node_mut(id).name = name.into();
                        }
                    }
                    Ok(())
                }
            };
            rw.apply("latents", None, Why::new("there"), rename("other"))?;
            rw.apply("latents", None, Why::new("and-back"), rename("denoise"))
        },
        "pass/misreported",
    );
    // What it leaves is verified.
    check(
        |rw| {
            rw.apply("latents", None, Why::new("test"), |e| {
                for id in e.pipeline().graph.ids().collect::<Vec<_>>() {
                    if let PipeOp::Loop(l) = &mut e.pipeline().graph.node_mut(id).op {
                        l.steps = 0;
                    }
                }
                Ok(())
            })
        },
        "internal/bug",
    );
}

#[test]
fn an_edit_that_is_undone_gives_models_back() {
    let mut program = program("svd-tiny");
    let before = program.canonical();
    let mut edit = program.edit("latents", false);
    edit.set_model("unet", OpGraph::new("unet"));
    edit.undo();
    assert_eq!(program.canonical(), before);
}
