//! The table of diagnostic codes. A code is stable: scripts match on it. One row a code, one file an area;
//! `vidc explain-code CODE` prints a row.

mod general;
mod graph;
mod hwdb;
mod import;
mod measure;
mod media;
mod model;
mod onnx;
mod pass;
mod plan;
mod runtime;
mod spec;
mod target;
mod tune;
mod weights;

use super::Class;

/// One diagnostic code.
#[derive(Debug)]
pub struct Code {
    /// `area/what-is-wrong`.
    pub code: &'static str,
    /// Who can mend it.
    pub class: Class,
    /// What it means and what to do, in a few sentences.
    pub explain: &'static str,
}

/// Every code, by area.
pub fn all() -> impl Iterator<Item = &'static Code> {
    let areas: [&[Code]; 15] = [
        general::CODES,
        spec::CODES,
        graph::CODES,
        model::CODES,
        weights::CODES,
        onnx::CODES,
        media::CODES,
        hwdb::CODES,
        target::CODES,
        pass::CODES,
        tune::CODES,
        import::CODES,
        plan::CODES,
        runtime::CODES,
        measure::CODES,
    ];
    areas.into_iter().flatten()
}

/// The row of `code`.
pub fn find(code: &str) -> Option<&'static Code> {
    all().find(|row| row.code == code)
}

const fn input(code: &'static str, explain: &'static str) -> Code {
    Code { code, class: Class::Input, explain }
}

const fn environment(code: &'static str, explain: &'static str) -> Code {
    Code { code, class: Class::Environment, explain }
}

const fn bug(code: &'static str, explain: &'static str) -> Code {
    Code { code, class: Class::Bug, explain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for row in all() {
            assert!(seen.insert(row.code), "{} twice", row.code);
            assert!(row.code.split_once('/').is_some_and(|(a, b)| !a.is_empty() && !b.is_empty()), "{}", row.code);
            assert!(row.explain.ends_with('.') && row.explain.len() > 40, "{}", row.code);
        }
    }
}
