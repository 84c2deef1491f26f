//! Which operators a provider has kernels for, by the element type of their first input.

use crate::weights::DType;

/// A table of operators, one a line: `Conv: f32 f16` or, of another domain than the standard's, `com.microsoft.FusedConv: f32`.
/// `any` stands for every type; a line that begins with `#` says where the table comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    /// The table.
    pub text: &'static str,
    /// Types for which ONNX Runtime puts casts around the f32 kernel.
    pub widened: &'static [DType],
}

impl Kernels {
    /// Is there a kernel for this operator, whose first input has this type?
    pub fn has(&self, domain: &str, op_type: &str, ty: DType) -> bool {
        let Some(types) = self.types(domain, op_type) else { return false };
        let names = |ty: DType| types.split_whitespace().any(|t| t == ty.name() || t == "any");
        names(ty) || self.widened.contains(&ty) && names(DType::F32)
    }

    /// Does ONNX Runtime put casts around the f32 kernel of this operator, whose first input has this type?
    pub fn widens(&self, domain: &str, op_type: &str, ty: DType) -> bool {
        let own = |types: &str| types.split_whitespace().any(|t| t == ty.name() || t == "any");
        self.widened.contains(&ty) && !self.types(domain, op_type).is_some_and(own)
    }

    /// The types of an operator as the table writes them.
    fn types(&self, domain: &str, op_type: &str) -> Option<&'static str> {
        self.text.lines().find_map(|line| {
            let (name, types) = line.split_once(": ")?;
            let (of, op) = name.rsplit_once('.').unwrap_or(("", name));
            (of == domain && op == op_type).then(|| types.split(" # ").next().unwrap_or(types))
        })
    }
}
