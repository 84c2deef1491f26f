//! `vidc bench model`: forms of one model side by side, within a time.

mod levels;
mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::peak_process;
use crate::common::args::{Pair, pair, seconds};
use crate::common::clock::Clock;
use crate::common::libraries::{FetchArgs, runtime_of};
use crate::common::{Done, Failure, Out};
use vidc::diag::Diagnostic;
use vidc::onnx;
use vidc::onnx::proto::ModelProto;
use vidc::optimize::agenda::{Agenda, Pace, Part, Wanted, agenda, way_seconds};
use vidc::optimize::candidate::{Candidate, ModelSource, options_of, runtime_defaults, set_option};
use vidc::optimize::inputs::{Dims, TensorSpec, check_dims, input_specs, random_inputs, symbols};
use vidc::optimize::measure::{self, Executed, ModelStatistics, PoolBytes};
use vidc::optimize::paired::{Paired, Round, paired};
use vidc::optimize::peak::{self, Report};
use vidc::optimize::sequential::{Effort, LEAST, ROUNDS, Stop};
use vidc::runtime::session::{Runtime, SessionOptions};
use vidc::runtime::tensor::Tensor;
use vidc::target::Provider;

/// Arguments of `model`.
#[derive(clap::Args)]
pub(crate) struct ModelArgs {
    /// The model as it is, run with the best that ONNX Runtime has for it.
    original: PathBuf,
    /// Other forms of it. They run with the options and on the provider that they say they were made for, else with ONNX Runtime's own.
    forms: Vec<PathBuf>,
    /// The extent of an input that the model leaves open.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = pair)]
    dims: Vec<Pair>,
    /// Threads of one operator.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Time for the whole command: what does not fit is left out and named.
    #[arg(long, value_name = "SECONDS", default_value = "100", value_parser = seconds)]
    time: f64,
    /// Rounds that count, at most: they end when every interval is narrow enough, or away from 1.
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: usize,
    /// Rounds before them that do not, at most.
    #[arg(long, value_name = "N", default_value_t = 1)]
    warmup: usize,
    /// Seed of the inputs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Which of ONNX Runtime's levels the original runs at; as many as fit are tried, with open and with bound extents, if none is named.
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// An option of the sessions of the other forms: optimization, `disabled_optimizers`, `mem_pattern`, `buffer_reuse`, prepacking, pool, arena, provider, provider.KEY.NAME.
    #[arg(long = "option", value_name = "NAME=VALUE", value_parser = pair)]
    options: Vec<Pair>,
    /// Let idle threads wait busily.
    #[arg(long)]
    spinning: bool,
    /// Measure each other form with mapped weights too.
    #[arg(long)]
    mapped: bool,
    /// Leave out the processes that measure memory.
    #[arg(long)]
    no_peak: bool,
    /// The ONNX Runtime library to use.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    #[command(flatten)]
    fetch: FetchArgs,
}

/// What all candidates share.
struct Bench<'a> {
    args: &'a ModelArgs,
    runtime: Runtime,
    dims: Dims,
    specs: Vec<TensorSpec>,
    inputs: Vec<(String, Tensor)>,
    /// How fast the sessions are, as far as it is known.
    pace: Pace,
    /// What processes of their own needed.
    peaks: Vec<(Candidate, Report)>,
}

/// What was measured of a candidate beside its time; none where there was no time for it.
struct Figures {
    candidate: Candidate,
    statistics: ModelStatistics,
    optimized: Option<ModelStatistics>,
    executed: Option<Executed>,
    memory: Option<PoolBytes>,
    peak: Option<Report>,
}

impl ModelArgs {
    /// What is to be measured beside times.
    fn parts(&self) -> Vec<Part> {
        Part::ALL.into_iter().filter(|part| *part != Part::Peaks || !self.no_peak).collect()
    }

    fn defaults(&self) -> SessionOptions {
        SessionOptions { spinning: self.spinning, ..runtime_defaults(self.threads) }
    }

    /// The options of another form, with those that were asked for.
    fn options(&self, proto: &ModelProto) -> Result<SessionOptions, Failure> {
        let mut options = options_of(proto, &self.defaults())?;
        for p in &self.options {
            set_option(&mut options, &p.name, &p.value)?;
        }
        Ok(options)
    }
}

/// Runs the command.
pub(super) fn run(args: &ModelArgs, out: &Out) -> Done {
    let mut clock = Clock::start(args.time);
    let original = checked(&args.original)?;
    let forms = args.forms.iter().map(|p| Ok((p.as_path(), checked(p)?))).collect::<Result<Vec<_>, Failure>>()?;
    let mut bench = Bench::new(args, &original, &forms)?;
    let mut ways = bench.ways(&original)?;
    let mut candidates = bench.forms(&forms)?;
    clock.show("a first run of the original");
    bench.pace = bench.first(&ways[0])?;
    let agenda = bench.plan(&mut ways, candidates.len() + 1, &mut clock);
    let (best, tried) = bench.best(ways, &mut clock, agenda.seconds - agenda.ways as f64 * way_seconds(bench.pace, bench.wants_peaks()))?;
    candidates.insert(0, best);
    let compared = bench.compare(&candidates, &agenda, &mut clock)?;
    let (figures, empty) = bench.figures(candidates, &compared, &agenda.parts, &mut clock)?;
    let took = clock.finish();
    let report = report::Measured { bench: &bench, compared: &compared, figures: &figures, tried: &tried, empty, took };
    out.result(|| report.text(), || report.json());
    Ok(())
}

/// A model that may be given to ONNX Runtime.
fn checked(path: &Path) -> Result<ModelProto, Failure> {
    let proto = onnx::read(path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    onnx::check_external_data(&proto, folder)?;
    Ok(proto)
}

fn dims(pairs: &[Pair]) -> Result<Dims, Failure> {
    let number = |p: &Pair| {
        let n: u64 = p.value.parse().map_err(|_| Failure::Usage(format!("--dim {}={}: a number is wanted", p.name, p.value)))?;
        Ok((p.name.clone(), n))
    };
    pairs.iter().map(number).collect()
}

impl<'a> Bench<'a> {
    fn new(args: &'a ModelArgs, original: &ModelProto, forms: &[(&Path, ModelProto)]) -> Result<Self, Failure> {
        let dims = dims(&args.dims)?;
        let known: Vec<String> = std::iter::once(original).chain(forms.iter().map(|(_, m)| m)).flat_map(symbols).collect();
        check_dims(&dims, &known)?;
        let specs = input_specs(original, &dims)?;
        let inputs = random_inputs(&specs, args.seed)?;
        let pace = Pace { load_s: 0.0, run_s: 0.0 };
        let options = forms.iter().map(|(_, m)| args.options(m)).collect::<Result<Vec<_>, Failure>>()?;
        let providers: Vec<Provider> = options.into_iter().flat_map(|o| o.providers).collect();
        Ok(Self { args, runtime: runtime_of(&providers, args.runtime.as_deref(), args.fetch)?, dims, specs, inputs, pace, peaks: vec![] })
    }

    /// The extents of a model as overrides.
    fn bound(&self, proto: &ModelProto) -> Vec<(String, i64)> {
        let symbols = symbols(proto);
        self.dims
            .iter()
            .filter(|(name, _)| symbols.contains(name))
            .filter_map(|(name, n)| Some((name.clone(), i64::try_from(*n).ok()?)))
            .collect()
    }

    /// The other forms.
    fn forms(&self, forms: &[(&Path, ModelProto)]) -> Result<Vec<Candidate>, Failure> {
        let mut candidates = Vec::new();
        for (path, proto) in forms {
            let options = SessionOptions { dims: self.bound(proto), ..self.args.options(proto)? };
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            candidates.push(Candidate::new(name.clone(), ModelSource::File((*path).into()), options.clone()));
            if self.args.mapped {
                candidates.push(Candidate::new(format!("{name}, mapped"), ModelSource::mapped(path)?, options));
            }
        }
        Ok(candidates)
    }

    /// How fast a session is made and run the first time, which is an upper end of what later ones take.
    fn first(&self, candidate: &Candidate) -> Result<Pace, Failure> {
        let start = Instant::now();
        let mut session = candidate.open(&self.runtime)?;
        let load_s = start.elapsed().as_secs_f64();
        measure::run(&mut session, &self.inputs)?;
        Ok(Pace { load_s, run_s: start.elapsed().as_secs_f64() - load_s })
    }

    /// What fits into the time. Takes the ways off for which there is none.
    fn plan(&self, ways: &mut Vec<Candidate>, forms: usize, clock: &mut Clock) -> Agenda {
        let (rounds, warmup) = (self.args.rounds, self.args.warmup);
        let wanted = Wanted { forms, ways: ways.len() - 1, rounds, warmup, parts: self.args.parts() };
        let agenda = agenda(self.pace, &wanted, clock.left());
        clock.expect(agenda.seconds);
        ways.drain(1 + agenda.ways..).for_each(|way| clock.leave_out(way.name));
        wanted.parts.iter().filter(|p| !agenda.parts.contains(p)).for_each(|p| clock.leave_out(p.words()));
        agenda
    }

    fn compare(&mut self, candidates: &[Candidate], agenda: &Agenda, clock: &mut Clock) -> Result<Paired, Failure> {
        let later: f64 = agenda.parts.iter().map(|p| p.seconds(self.pace, candidates.len())).sum();
        let within = Some(clock.within(later));
        let effort = Effort { rounds: self.args.rounds, warmup: agenda.warmup, control: true, within };
        let watch = &mut |round: Round| {
            let rounds = (agenda.warmup + agenda.rounds + 1).saturating_sub(round.number).max(1);
            clock.expect(round.longest.as_secs_f64() * rounds as f64 + later);
            clock.show(&format!("comparing, round {} of {} at most", round.number, round.most));
        };
        let compared = paired(&self.runtime, candidates, &self.inputs, effort, watch)?;
        self.pace.run_s = compared.rows.iter().map(|r| r.time_s.median).sum::<f64>() / compared.rows.len() as f64;
        let (done, stopped) = (compared.rows[0].times_s.len(), compared.rows[0].stopped);
        if stopped == Stop::Time {
            let sure = if done < LEAST { ", so that intervals are less sure than 95 %" } else { "" };
            clock.leave_out(format!("rounds after {done}{sure}"));
        }
        Ok(compared)
    }

    /// Everything beside times, a part after the other, and the peak of an empty session.
    fn figures(
        &mut self,
        candidates: Vec<Candidate>,
        compared: &Paired,
        parts: &[Part],
        clock: &mut Clock,
    ) -> Result<(Vec<Figures>, Option<Report>), Failure> {
        let mut figures = candidates.into_iter().map(Figures::of).collect::<Result<Vec<_>, Failure>>()?;
        let mut empty = None;
        for (i, part) in parts.iter().enumerate() {
            let seconds = |part: &Part| part.seconds(self.pace, figures.len());
            if seconds(part) > clock.left() {
                clock.leave_out(part.words());
                continue;
            }
            clock.expect(parts[i..].iter().map(seconds).sum());
            for f in &mut figures {
                clock.show(&format!("{} of {}", part.words(), f.candidate.name));
                self.measure(*part, f, &compared.outputs)?;
            }
            if *part == Part::Peaks {
                empty = Some(peak::peak(&peak_process()?, &peak::empty(self.runtime.path(), &self.args.defaults())?)?);
            }
        }
        Ok((figures, empty))
    }

    fn measure(&mut self, part: Part, f: &mut Figures, outputs: &[TensorSpec]) -> Result<(), Failure> {
        match part {
            Part::Peaks => f.peak = Some(self.peak(&f.candidate, outputs)?),
            Part::Activations => f.memory = Some(measure::pool_bytes(&self.runtime, &f.candidate, &self.inputs, outputs)?),
            Part::Rewrites => f.optimized = measure::optimized(&self.runtime, &f.candidate)?,
            Part::Kernels => f.executed = Some(measure::executed(&self.runtime, &f.candidate, &self.inputs)?),
        }
        Ok(())
    }

    /// What a process of its own needs, measured once.
    fn peak(&mut self, candidate: &Candidate, outputs: &[TensorSpec]) -> Result<Report, Failure> {
        if let Some((_, known)) = self.peaks.iter().find(|(c, _)| c == candidate) {
            return Ok(*known);
        }
        let request = peak::PeakRequest {
            library: self.runtime.path().into(),
            candidate: candidate.clone(),
            inputs: self.specs.clone(),
            outputs: outputs.to_vec(),
            seed: self.args.seed,
            runs: peak::RUNS,
        };
        let report = peak::peak(&peak_process()?, &request)?;
        self.peaks.push((candidate.clone(), report));
        Ok(report)
    }
}

impl Figures {
    fn of(candidate: Candidate) -> Result<Self, Failure> {
        let path = match &candidate.model {
            ModelSource::File(path) | ModelSource::Mapped { path, .. } => path,
            ModelSource::Memory(_) => return Err(Diagnostic::new("internal/bug", "a candidate of `bench` is no file").into()),
        };
        let statistics = ModelStatistics::of(&onnx::read(path)?);
        Ok(Self { statistics, candidate, optimized: None, executed: None, memory: None, peak: None })
    }
}
