//! Attention written out in operators: the one chain that stands for it, whether for a whole site or for a tile of its queries.
//!
//! Heads lie apart in it: queries and values as `[b, heads, l, d]` ([`ROWS`]), keys as `[b, heads, d, l]` ([`COLUMNS`]). Where the
//! queries are scaled, before the heads are split or behind, is for the caller: a tile is scaled while it is one run of memory.

use crate::diag::Result;
use crate::ir::op::Binary;
use crate::ir::{DType, Dim, Op, Outlet, TensorType};

/// From `[b, l, heads, d]`, a row of a matrix for each token.
pub(super) const ROWS: [usize; 4] = [0, 2, 1, 3];
/// From `[b, l, heads, d]`, a column of a matrix for each token.
pub(super) const COLUMNS: [usize; 4] = [0, 2, 3, 1];

/// What differs between the sites of the chain.
pub(super) struct Chain<'a> {
    /// What is added to the scores.
    pub(super) mask: Option<Outlet>,
    /// The type of scores whose softmax is taken in fp32; none if it is taken in the type that they have.
    pub(super) island: Option<DType>,
    /// The shape of the result, `[b, l, heads · d]`: values may have another `d` than queries.
    pub(super) joined: Vec<Dim>,
    /// Names of the softmax and of the product with the values.
    pub(super) names: [&'a str; 2],
}

/// `[b, l, heads · d]` as `[b, l, heads, d]`, permuted; `add` puts an operator of these inputs and this name where it belongs.
pub(super) fn heads_apart(
    add: &mut impl FnMut(Op, &[Outlet], &str) -> Result<Outlet>,
    (x, ty): (Outlet, &TensorType),
    heads: i64,
    perm: [usize; 4],
    name: &str,
) -> Result<Outlet> {
    let shape = vec![ty.shape[0].clone(), ty.shape[1].clone(), heads.into(), ty.shape[2].div_floor(heads)];
    let split = add(Op::Reshape { shape }, &[x], name)?;
    add(Op::Transpose { perm: perm.to_vec() }, &[split], name)
}

/// `softmax(q · k + mask) · v` of heads that lie apart, with the heads joined again.
pub(super) fn attend(
    add: &mut impl FnMut(Op, &[Outlet], &str) -> Result<Outlet>,
    [q, k, v]: [Outlet; 3],
    chain: Chain<'_>,
) -> Result<Outlet> {
    let [softmax, mix] = chain.names;
    let mut scores = add(Op::MatMul, &[q, k], "scores")?;
    if let Some(mask) = chain.mask {
        scores = add(Op::Binary(Binary::Add), &[scores, mask], "mask")?;
    }
    let wide = if chain.island.is_some() { add(Op::Cast { to: DType::F32 }, &[scores], "island")? } else { scores };
    let soft = add(Op::Softmax { axis: 3 }, &[wide], softmax)?;
    let weights = if let Some(to) = chain.island { add(Op::Cast { to }, &[soft], "island")? } else { soft };
    let mixed = add(Op::MatMul, &[weights, v], mix)?;
    let back = add(Op::Transpose { perm: ROWS.to_vec() }, &[mixed], "join")?;
    add(Op::Reshape { shape: chain.joined }, &[back], "join")
}
