//! The most memory that a process of its own needs for a model: a fresh process of the same program makes the session, runs it a few
//! times and says what the system counted (`VmHWM`, the high-water mark of its resident memory, of Linux).
//!
//! The parent writes a [`PeakRequest`] to the child's standard input, the child answers with a [`Report`] on its standard output: [`serve`].
//! What a session of nothing needs (the program, the library) is measured the same way, see [`empty`].

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use super::candidate::{Candidate, ModelSource};
use super::inputs::{TensorSpec, random_inputs};
use super::paired::output_memory;
use crate::diag::{Diagnostic, Result};
use crate::onnx::build;
use crate::onnx::proto::GraphProto;
use crate::runtime::session::{Runtime, SessionOptions};
use crate::runtime::tensor::TensorView;
use crate::units::Bytes;
use crate::weights::DType;

/// How the child is started: a program and the arguments that make it call [`serve`].
#[derive(Clone, Debug)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
}

/// What the child is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeakRequest {
    /// The library.
    pub library: PathBuf,
    /// What to run.
    pub candidate: Candidate,
    /// Its inputs.
    pub inputs: Vec<TensorSpec>,
    /// Its outputs, so that both sides write to memory of the same size whatever their model says.
    pub outputs: Vec<TensorSpec>,
    /// Seed of the inputs.
    pub seed: u64,
    /// How often to run.
    pub runs: usize,
}

/// What the child says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The high-water mark when the session was made.
    pub loaded: Bytes,
    /// The high-water mark at the end.
    pub peak: Bytes,
}

/// Evaluations before the mark is read: the second is the first one that runs by the memory pattern, and all later ones are like it.
pub const RUNS: usize = 2;

/// Measures a candidate in a process of its own.
///
/// # Errors
/// `measure/child`.
pub fn peak(host: &ChildCommand, request: &PeakRequest) -> Result<Report> {
    let failed = |why: String| Diagnostic::new("measure/child", format!("`{}` could not be measured", request.candidate.name)).note(why);
    let text = serde_json::to_vec(request).map_err(|e| failed(e.to_string()))?;
    let mut child = Command::new(&host.program)
        .args(&host.args)
        .env("ORT_DISABLE_TELEMETRY", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(format!("{}: {e}", host.program.display())))?;
    // The child reads all of it before it says anything, so neither waits for the other. It may have ended without reading; its
    // status says why.
    let written = child.stdin.take().map(|mut stdin| stdin.write_all(&text));
    let output = child.wait_with_output().map_err(|e| failed(e.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("{}: {}", output.status, said.trim())).into());
    }
    if let Some(Err(e)) = written {
        return Err(failed(format!("the request was not read: {e}")).into());
    }
    serde_json::from_slice(&output.stdout).map_err(|e| failed(format!("the answer cannot be read: {e}")).into())
}

/// The request that measures the program and the library alone: a session that hands one number through.
pub fn empty(library: &Path, options: &SessionOptions) -> Result<PeakRequest> {
    let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::F32, shape: vec![1], range: (0.0, 1.0) };
    let value = |name: &str| build::value_info(name, DType::F32.onnx(), &[1.into()]);
    let graph = GraphProto {
        name: "empty".into(),
        node: vec![build::node("Identity", "", &["x"], &["y"])],
        input: vec![value("x")],
        output: vec![value("y")],
        ..GraphProto::default()
    };
    let model = ModelSource::Memory(crate::onnx::encode(&build::model(graph, 21))?);
    let options = SessionOptions { dims: vec![], ..options.clone() };
    let candidate = Candidate::new("an empty session", model, options);
    Ok(PeakRequest { library: library.into(), candidate, inputs: vec![spec("x")], outputs: vec![spec("y")], seed: 0, runs: RUNS })
}

/// The child's side: reads a [`PeakRequest`], runs it, writes the [`Report`].
///
/// # Errors
/// `measure/child` if it cannot read or write; those of making and running a session.
pub fn serve(from: &mut dyn Read, to: &mut dyn Write) -> Result<()> {
    let failed = |why: String| Diagnostic::new("measure/child", "the process that measures memory was not told what to do").note(why);
    let mut text = Vec::new();
    from.read_to_end(&mut text).map_err(|e| failed(e.to_string()))?;
    let request: PeakRequest = serde_json::from_slice(&text).map_err(|e| failed(e.to_string()))?;
    drop(text);
    let report = measure(&request)?;
    serde_json::to_writer(to, &report).map_err(|e| failed(e.to_string()).into())
}

fn measure(request: &PeakRequest) -> Result<Report> {
    let runtime = Runtime::load(&request.library)?;
    let mut session = request.candidate.open(&runtime)?;
    let loaded = high_water_mark()?;
    let inputs = random_inputs(&request.inputs, request.seed)?;
    let mut outputs = output_memory(&request.outputs)?;
    let views: Vec<(&str, TensorView<'_>)> = inputs.iter().map(|(n, t)| (n.as_str(), t.view())).collect();
    for _ in 0..request.runs {
        session.run_into(&views, outputs.iter_mut().map(|(n, t)| (n.as_str(), t.view_mut())).collect(), None)?;
    }
    Ok(Report { loaded, peak: high_water_mark()? })
}

/// `VmHWM` of this process.
///
/// # Errors
/// `measure/child` where the system does not count it.
pub fn high_water_mark() -> Result<Bytes> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_line(&status, "VmHWM:").ok_or_else(|| {
        Diagnostic::new("measure/child", "the system does not say how much memory a process had")
            .help("memory of a process is measured on Linux only")
            .into()
    })
}

/// What of this process is in memory now (`VmRSS`); none where the system does not say.
pub fn resident() -> Option<Bytes> {
    parse_line(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Of that, pages of files (`RssFile`).
pub fn resident_of_files() -> Option<Bytes> {
    parse_line(&std::fs::read_to_string("/proc/self/status").ok()?, "RssFile:")
}

fn parse_line(status: &str, line: &str) -> Option<Bytes> {
    let kib = status.lines().find_map(|l| l.strip_prefix(line)?.trim().strip_suffix(" kB")?.parse::<u64>().ok())?;
    Some(Bytes(kib.checked_mul(1024)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_is_in_kib() {
        assert_eq!(parse_line("VmPeak:\t  9 kB\nVmHWM:\t   1234 kB\n", "VmHWM:"), Some(Bytes(1234 * 1024)));
        assert_eq!(parse_line("", "VmHWM:"), None);
    }

    #[test]
    fn a_child_that_fails_is_told_with_its_words() {
        let host =
            ChildCommand { program: "/bin/sh".into(), args: vec!["-c".into(), "cat > /dev/null; echo no memory >&2; exit 9".into()] };
        let request = empty(Path::new("nowhere"), &SessionOptions::default()).unwrap();
        let d = peak(&host, &request).unwrap_err();
        assert_eq!(d.code, "measure/child");
        assert!(d.notes.iter().any(|n| n.contains("no memory")), "{:?}", d.notes);
        assert_eq!(peak(&ChildCommand { program: "/no/such/program".into(), args: vec![] }, &request).unwrap_err().code, "measure/child");
    }

    #[test]
    fn a_request_goes_through_json_unchanged() {
        let request = empty(Path::new("lib"), &SessionOptions { dims: vec![("n".into(), 1)], ..SessionOptions::default() }).unwrap();
        assert!(request.candidate.options.dims.is_empty());
        assert_eq!(serde_json::from_slice::<PeakRequest>(&serde_json::to_vec(&request).unwrap()).unwrap(), request);
        let bad = serve(&mut &b"{"[..], &mut Vec::new()).unwrap_err();
        assert_eq!(bad.code, "measure/child");
    }
}
