//! Constants that hold one value many times, whatever that value is.

use super::{WeightExpr, WeightOp};
use crate::diag::Result;

impl WeightExpr {
    /// The one value of all elements as `[1]`, if it can be seen from how the constant is made that they are equal; nothing is read.
    ///
    /// # Errors
    /// As the constructors.
    pub fn uniform(&self) -> Result<Option<Self>> {
        if self.elements() <= 1 {
            return if self.elements() == 1 { self.reshape(&[1]).map(Some) } else { Ok(None) };
        }
        Ok(match self.op() {
            WeightOp::Literal(bytes) => {
                let mut each = bytes.chunks_exact(self.dtype().size() as usize);
                let first = each.next().filter(|first| each.all(|b| b == *first));
                first.map(|bytes| Self::literal(self.dtype(), &[1], bytes)).transpose()?
            }
            WeightOp::Transpose { of, .. } | WeightOp::Reshape { of } | WeightOp::Slice { of, .. } | WeightOp::Expand { of } => {
                of.uniform()?
            }
            WeightOp::Cast { of } => of.uniform()?.map(|x| x.cast(self.dtype())).transpose()?,
            WeightOp::Scale { of, factor } => of.uniform()?.map(|x| x.scale(*factor)).transpose()?,
            WeightOp::Map { function, of } => of.uniform()?.map(|x| x.map(*function)).transpose()?,
            WeightOp::Binary { function, left, right } => match (left.uniform()?, right.uniform()?) {
                (Some(left), Some(right)) => Some(left.binary(*function, &right)?),
                _ => None,
            },
            _ => None,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::{DType, Function};
    use super::*;

    fn check(expr: &WeightExpr, expect: Option<&str>) {
        assert_eq!(expr.uniform().unwrap().map(|u| u.to_string()).as_deref(), expect, "{expr}");
    }

    #[test]
    fn one_value_is_seen_through_what_repeats_it() {
        let factor = WeightExpr::param("m", "f", DType::F32, &[1]).unwrap();
        let one = WeightExpr::literal_f32(&[1], &[1.0]).unwrap();
        let wide = factor.map(Function::Sigmoid).unwrap().expand(&[2, 14]).unwrap().reshape(&[2, 1, 14, 1]).unwrap();
        check(&wide, Some("sigmoid(param m/f)"));
        let rest = one.binary(super::super::Arithmetic::Sub, &wide).unwrap();
        check(&rest, Some("sub(literal f32[1], sigmoid(param m/f))"));
        check(&WeightExpr::literal_f32(&[3], &[2.0; 3]).unwrap(), Some("literal f32[1]"));
        check(&WeightExpr::literal_f32(&[2], &[2.0, 3.0]).unwrap(), None);
        check(&WeightExpr::param("m", "w", DType::F32, &[2]).unwrap(), None);
        check(&WeightExpr::literal_f32(&[0], &[]).unwrap(), None);
    }
}
