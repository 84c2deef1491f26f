//! What the fuzz targets do. Whatever the bytes are, each step returns a value or a diagnostic: a panic, a slow input or one that takes
//! too much memory is a finding.

mod arbitrary;

use std::path::Path;
use std::sync::LazyLock;

use vidc::hwdb::{self, Machine};
use vidc::import::onnx::import;
use vidc::ir::verify;
use vidc::onnx;
use vidc::optimize::candidate::options_of;
use vidc::optimize::inputs::{Dims, input_specs, symbols};
use vidc::optimize::measure::ModelStatistics;
use vidc::optimize::model::{Level, optimize};
use vidc::passes::Choices;
use vidc::passes::manager::Debugging;
use vidc::plan::{Placed, emit};
use vidc::runtime::session::SessionOptions;
use vidc::weights::WeightExpr;

/// External data are looked for here: there are none.
const NOWHERE: &str = "/nonexistent";

static MACHINE: LazyLock<Machine> = LazyLock::new(|| hwdb::machine("cpu-avx2").expect("the profile is part of vidc"));

/// Reads a file: the messages, its external data, what it says of inputs and options. What is written again is read as the same.
pub fn read(bytes: &[u8]) {
    let Ok(model) = onnx::decode(bytes.to_vec().into()) else { return };
    let _ = onnx::check_external_data(&model, Path::new(NOWHERE));
    let _ = options_of(&model, &SessionOptions::default());
    let _ = input_specs(&model, &Dims::new());
    let (_, _) = (symbols(&model), ModelStatistics::of(&model));
    let once = onnx::encode(&model).expect("what was decoded is small enough");
    let again = onnx::decode(once.clone().into()).expect("what vidc writes it reads");
    assert!(onnx::encode(&again).is_ok_and(|twice| twice == once), "another model is read than was written");
    let _ = import(&model, Path::new(NOWHERE), &vidc::ir::Bindings::default());
}

/// Makes a graph of the bytes and compiles it.
pub fn compile(bytes: &[u8]) {
    let model = arbitrary::model(bytes);
    let Ok(imported) = import(&model, Path::new(NOWHERE), &vidc::ir::Bindings::default()) else { return };
    verify(&imported.graph).unwrap_or_else(|d| panic!("import made a broken graph: {d}"));
    for level in [Level::None, Level::Basic, Level::Full] {
        let Ok(compiled) = optimize(&imported, &MACHINE, &Choices::default(), level, &Debugging::default()) else { continue };
        let verified = verify(&compiled.graph).unwrap_or_else(|d| panic!("the passes broke the graph: {d}"));
        let mut place = |_: &WeightExpr| Ok(Placed::External { location: "w".into(), offset: 0, len: 0 });
        let _ = emit(verified, &imported.style, &mut place);
    }
}
