//! `vidc hw probe`: measures this machine and writes its profile.

use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::common::libraries::{self, FetchArgs};
use crate::common::table::table;
use crate::common::{Done, Failure, Out, say};
use vidc::diag::Diagnostic;
use vidc::files::output::{Name, Outputs};
use vidc::hwdb::{Database, Family, Host, Machine, Precision, Probe, Profile, THIS_CPU};
use vidc::optimize::probe::calibrate::{Calibrated, calibrate, errors};
use vidc::optimize::probe::measure::{Effort, Measurements, measure, measure_whole};
use vidc::optimize::probe::profile::{About, ours, points, points_path, profile_of, whole_points, with_other, write};
use vidc::optimize::probe::whole::calibrate_whole;
use vidc::runtime::provision::{self, LocatedLibrary};
use vidc::runtime::session::{Runtime, SessionOptions};
use vidc::target::{Target, row_for};
use vidc::units::Time;

/// Arguments.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What runs the operators. ONNX Runtime's own provider tells how long each kernel takes; others are measured by whole cases, and on top of what
    /// was measured with that.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    provider: String,
    /// Threads of one operator; as many as there are cores if not given, as `vidc run` has them.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    threads: usize,
    /// How long to measure, loading aside.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=3600))]
    time: u64,
    /// The ONNX Runtime library to measure.
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    #[command(flatten)]
    fetch: FetchArgs,
    /// The profile to write; raw points go beside it. The profile `cpu` of this user if not given, which `--hw cpu` then means.
    #[arg(short, long, value_name = "FILE.yaml")]
    output: Option<PathBuf>,
}

/// What a probe found.
struct Probed {
    host: Host,
    path: PathBuf,
    machine: Machine,
    measured: Measurements,
    calibrated: Calibrated,
    seconds: f64,
}

/// Runs the command.
pub(crate) fn run(args: &Args, out: &Out) -> Done {
    let begin = Instant::now();
    let path = output(args)?;
    let host = Host::detect();
    let detected = vidc::hwdb::detect()?;
    let target = row_for(&args.provider, &detected.device())?;
    if !target.is_builtin() {
        return whole(args, (&path, begin), (&host, &detected), target, out);
    }
    let prior = Machine::on(&detected, target);
    let located = provision::locate(args.runtime.as_deref(), &mut say)?;
    let runtime = Runtime::load(&located.path)?;
    let options = SessionOptions { threads: args.threads, ..SessionOptions::default() };
    say(&format!("measuring {} for about {} s; anything else that runs meanwhile makes the figures worse", host.hardware(), args.time));
    let mut done = 0;
    let mut progress = |case: &str| {
        done += 1;
        tracing::info!("{done}: {case}");
    };
    let measured = measure(&runtime, &prior, &Effort { options, seconds: args.time as f64 }, &mut progress)?;
    let calibrated = calibrate(&prior, &measured);
    let about = about(target, &located, &points_path(&path));
    let profile = profile_of(&detected, &host, &calibrated, &about);
    write(&profile, (&points(&measured), &points_path(&path)), &path)?;
    let machine = Machine::on(&profile, target);
    let probed = Probed { host, path, machine, measured, calibrated, seconds: begin.elapsed().as_secs_f64() };
    out.result(|| probed.text(), || probed.json());
    Ok(())
}

/// What the run says about itself.
fn about(target: &Target, library: &LocatedLibrary, points: &Path) -> About {
    About {
        engine_version: library.version.clone().unwrap_or_else(|| "unknown".into()),
        engine: target.figures.engine.into(),
        date: today(),
        command: format!("vidc {}", std::env::args().skip(1).collect::<Vec<_>>().join(" ")),
        points: points.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Measures a provider that runs models as a whole, and adds it to the profile.
fn whole(args: &Args, (path, begin): (&Path, Instant), (host, detected): (&Host, &Profile), target: &'static Target, out: &Out) -> Done {
    // What is written is a share of what ONNX Runtime's own kernels take, and a profile without those is not of this machine.
    if !matches!(crate::common::target::database().probe(host)?, Probe::Fits(_)) {
        return Err(Failure::Usage(format!(
            "{} is measured on top of ONNX Runtime's own provider: run `vidc hw probe` first",
            target.name
        )));
    }
    let machine = Machine::on(detected, target);
    let (runtime, located) = libraries::runtime(target, args.runtime.as_deref(), args.fetch)?;
    let options = SessionOptions { threads: args.threads, ..SessionOptions::default() };
    say(&format!("measuring {} on {} for about {} s, loading aside", target.name, host.hardware(), args.time));
    let effort = Effort { options, seconds: args.time as f64 };
    let measured = measure_whole(&runtime, &machine, &effort, &mut |case| tracing::info!("{case}"))?;
    let factors = calibrate_whole(&machine, &measured);
    let raw = path.with_extension(format!("{}.csv", target.key));
    let about = about(target, &located, &raw);
    let mut outputs = Outputs::default();
    outputs.file(&raw, Name::Chosen, &|p: &Path| ours(p))?;
    write(&with_other(detected, host, &factors, &about), (&whole_points(&measured), &raw), path)?;
    let seconds = begin.elapsed().as_secs_f64();
    let rows = || factors.families.iter().map(|(family, f)| vec![class_name(*family), format!("{f:.2}")]).collect::<Vec<_>>();
    let text = || {
        format!(
            "{}\n{} cases, mean error {:.0} %; {} a node beside the kernels, {} a node to make a session\nwrote {} in {seconds:.0} s; `--provider {}` of such a profile uses it\n",
            table(&["kernels", "of the time of ONNX Runtime's own"], &rows()),
            measured.len(),
            factors.error * 100.0,
            Time::from_secs(factors.dispatch),
            Time::from_secs(factors.load),
            path.display(),
            target.key
        )
    };
    let families = || factors.families.iter().map(|(f, x)| json!({ "class": f, "factor": x })).collect::<Vec<_>>();
    out.result(text, || {
        json!({
            "profile": path, "points": raw, "provider": target.key, "families": families(), "cases": measured.len(),
            "mean_error": factors.error, "dispatch_s": factors.dispatch, "load_s_per_node": factors.load, "seconds": seconds,
        })
    });
    Ok(())
}

/// Where the profile goes: refused before anything is measured if it may not be written.
fn output(args: &Args) -> Result<PathBuf, Failure> {
    let path = match &args.output {
        Some(path) => path.clone(),
        None => user_profile()?,
    };
    let mut outputs = Outputs::default();
    for file in [path.clone(), points_path(&path)] {
        outputs.file(&file, Name::Chosen, &|p: &Path| ours(p))?;
    }
    Ok(path)
}

/// The profile `cpu` in the folder of this user, which is made.
fn user_profile() -> Result<PathBuf, Failure> {
    let database = Database::of_this_user();
    let folder = database.user_folder().ok_or_else(|| {
        Diagnostic::new("io/unwritable", "there is no folder of this user to write the profile to").help("name a file with --output")
    })?;
    std::fs::create_dir_all(folder).map_err(|e| {
        Diagnostic::new("io/unwritable", format!("cannot make `{}`: {e}", folder.display())).help("name a file with --output")
    })?;
    Ok(folder.join(format!("{THIS_CPU}.yaml")))
}

/// The day in Greenwich, ISO 8601.
fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    date(seconds / 86_400)
}

/// The date of a day since 1970-01-01, in the calendar of Gregory.
fn date(day: u64) -> String {
    // Years begin in March here, so that the day that some years have more is their last.
    const ERA: u64 = 146_097;
    let day = day + 719_468;
    let (era, of_era) = (day / ERA, day % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{of_month:02}", year + era * 400 + next)
}

impl Probed {
    fn text(&self) -> String {
        let tera = |f: f64| format!("{:.3} TFLOPS", f / 1e12);
        let giga = |f: f64| format!("{:.1} GB/s", f / 1e9);
        let c = &self.calibrated;
        let row = |(class, points, error): (Family, usize, f64)| {
            let p = self.machine.params(class, Precision::F32);
            vec![
                class_name(class),
                points.to_string(),
                format!("{:.0} %", error * 100.0),
                format!("{:.3}", p.eta),
                format!("{:.3}", p.eta_w),
                Time::from_secs(p.t0).to_string(),
            ]
        };
        let rows: Vec<Vec<String>> = errors(&self.machine, &self.measured).into_iter().map(row).collect();
        format!(
            "{}\n{}\nfp32 {}, memory {}, cache {:.0} MB at {}, {} between two nodes\nwrote {} in {:.0} s{}\n",
            self.host.hardware(),
            table(&["kernels", "measured", "mean error", "of the peak", "of the memory rate", "fixed"], &rows),
            tera(c.peak),
            giga(c.memory),
            c.cache / 1e6,
            giga(c.cache_rate),
            Time::from_secs(c.dispatch),
            self.path.display(),
            self.seconds,
            if self.path.file_stem().is_some_and(|s| s == THIS_CPU) { "; `--hw cpu` uses it from now on" } else { "" },
        )
    }

    fn json(&self) -> Value {
        let row = |(class, points, error): (Family, usize, f64)| json!({ "class": class, "points": points, "mean_error": error });
        let c = &self.calibrated;
        json!({
            "profile": self.path,
            "points": points_path(&self.path),
            "fp32_flops": c.peak,
            "memory_bandwidth": c.memory,
            "cache_bytes": c.cache,
            "cache_bandwidth": c.cache_rate,
            "dispatch_s": c.dispatch,
            "classes": errors(&self.machine, &self.measured).into_iter().map(row).collect::<Vec<_>>(),
            "fits": c.fits,
            "seconds": self.seconds,
        })
    }
}

/// The name of a class as profiles write it.
pub(super) fn class_name(class: Family) -> String {
    serde_json::to_value(class).ok().and_then(|v| v.as_str().map(|s| s.replace('_', "-"))).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::date;

    #[test]
    fn days_are_dates() {
        for (day, expected) in [(0, "1970-01-01"), (11_016, "2000-02-29"), (20_787, "2026-11-30"), (20_788, "2026-12-01")] {
            assert_eq!(date(day), expected);
        }
    }
}
