//! `vidc hw`: hardware profiles.

mod check;
mod probe;

use serde_json::{Value, json};

use crate::common::table::table;
use crate::common::{Done, Failure, Out, target};
use vidc::diag::{Diagnostic, Diagnostics};
use vidc::hwdb::detect::Host;
use vidc::hwdb::{Database, Machine, Precision, Profile, detect};

/// What to do.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Every profile, one line each.
    List,
    /// One profile as the YAML that a file of your own would hold.
    Show {
        /// The key; cpu is this machine; a path that ends in .yaml is a file.
        key: String,
    },
    /// This machine, from what the operating system says.
    Detect,
    /// Measure this machine, in about a minute: what `--hw cpu` then predicts with.
    Probe(probe::Args),
    /// Run models and hold what is predicted for each operator against what it takes.
    Check(check::Args),
}

/// Runs the command.
pub(crate) fn run(command: &Command, out: &Out) -> Done {
    let database = Database::of_this_user();
    match command {
        Command::List => list(&database, out),
        Command::Show { key } => show(&target::database().load(key)?, out),
        Command::Detect => {
            let profile = detect()?;
            if !out.is_json() {
                out.result(|| format!("# {}\n", Host::detect().words()), Value::default);
            }
            show(&profile, out)
        }
        Command::Probe(args) => probe::run(args, out),
        Command::Check(args) => check::run(args, out),
    }
}

fn list(database: &Database, out: &Out) -> Done {
    let mut profiles = Vec::new();
    let mut found = Diagnostics::default();
    for read in database.list() {
        match read {
            Ok(profile) => profiles.push(profile),
            Err(mut wrong) => found.0.append(&mut wrong.0),
        }
    }
    let with_providers = |p: &Profile| (Machine::new(p), providers(p));
    let machines: Vec<(Machine, Vec<&str>)> = profiles.iter().map(with_providers).collect();
    let folder = database.user_folder().map(|f| f.display().to_string());
    let text = || {
        let rows: Vec<Vec<String>> = machines.iter().map(row).collect();
        let header = ["key", "name", "memory", "GB/s", "fp32 TFLOPS", "fp16 TFLOPS", "figures", "providers"];
        let own = folder.as_ref().map_or_else(String::new, |f| format!("profiles of your own: {f}\n"));
        table(&header, &rows) + &own
    };
    out.result(text, || json!({ "devices": machines.iter().map(machine_json).collect::<Vec<_>>(), "user_folder": folder }));
    // Those that can be read are listed; one that cannot is an error all the same.
    if found.0.is_empty() { Ok(()) } else { Err(Failure::Found(found)) }
}

fn row((m, providers): &(Machine, Vec<&str>)) -> Vec<String> {
    let tera = |p: Precision| m.peaks.0[p as usize].map_or_else(|| "-".into(), |x| format!("{:.3}", x / 1e12));
    vec![
        m.key.clone(),
        m.name.clone(),
        m.memory.to_string(),
        format!("{:.0}", m.dram / 1e9),
        tera(Precision::F32),
        tera(Precision::F16),
        m.provenance(),
        providers.join(", "),
    ]
}

/// The keys of the providers that fit a device, its usual one first.
fn providers(profile: &Profile) -> Vec<&'static str> {
    profile.targets().into_iter().map(|t| t.key).collect()
}

fn machine_json((m, providers): &(Machine, Vec<&str>)) -> Value {
    let rate = |p: Precision| m.peaks.0[p as usize];
    json!({
        "key": m.key,
        "name": m.name,
        "memory_bytes": m.memory,
        "memory_bandwidth": m.dram,
        "fp32_flops": rate(Precision::F32),
        "fp16_flops": rate(Precision::F16),
        "provenance": m.provenance(),
        "providers": providers,
    })
}

fn show(profile: &Profile, out: &Out) -> Done {
    let broken = |e: String| Diagnostic::new("internal/bug", format!("the profile cannot be written: {e}"));
    let mut fields = serde_json::to_value(profile).map_err(|e| broken(e.to_string()))?;
    let origin = fields.as_object_mut().and_then(|f| f.shift_remove("origin"));
    let text = serde_saphyr::to_string(&fields).map_err(|e| broken(e.to_string()))?;
    let providers = providers(profile);
    let said = format!("# providers: {}\n{text}", providers.join(", "));
    out.result(|| said, || json!({ "profile": fields, "origin": origin, "providers": providers }));
    Ok(())
}
