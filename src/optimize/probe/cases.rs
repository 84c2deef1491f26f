//! What is measured: blocks of image, video and language models at sizes from the cache of one core to what only memory holds.

use super::blocks::Block;
use crate::diag::Result;
use crate::ir::op::{Binary, Unary};
use crate::ir::{Op, OpGraph, Outlet};

/// A graph of raised and standard operators, all sizes known.
pub struct Case {
    /// For progress and the column of the raw points.
    pub name: String,
    /// What is run.
    pub graph: OpGraph,
}

/// Every case, small ones first.
///
/// # Errors
/// None for sizes that fit each other, held by a test.
pub fn cases() -> Result<Vec<Case>> {
    let mut out = Vec::new();
    for shape in RESIDUAL {
        out.push(case("residual", &shape, residual)?);
    }
    for shape in EDGES {
        out.push(case("edges", &shape, edges)?);
    }
    for shape in FRAMES {
        out.push(case("frames", &shape, frames)?);
    }
    for shape in TRANSFORMER {
        out.push(case("transformer", &shape, transformer)?);
    }
    for shape in WRITTEN_OUT {
        out.push(case("written-out", &shape, written_out)?);
    }
    for shape in MOVES {
        out.push(case("moves", &shape, moves)?);
    }
    out.push(case("rows", &[1, 320, 64], rows)?);
    out.push(case("rows", &[4, 1280, 320], rows)?);
    Ok(out)
}

fn case(what: &str, shape: &[i64], build: fn(&mut Block, &[i64]) -> Result<Vec<Outlet>>) -> Result<Case> {
    let name = format!("{what} {}", shape.iter().map(ToString::to_string).collect::<Vec<_>>().join("x"));
    let mut block = Block::new(&name);
    let outputs = build(&mut block, shape)?;
    Ok(Case { name, graph: block.done(&outputs) })
}

/// Pictures, channels, channels afterwards, height, width.
const RESIDUAL: [[i64; 5]; 12] = [
    [8, 32, 64, 16, 16],
    [8, 64, 64, 8, 8],
    [2, 64, 128, 32, 32],
    [8, 96, 96, 16, 24],
    [2, 128, 64, 8, 8],
    [1, 64, 32, 96, 96],
    [4, 320, 320, 16, 16],
    [1, 128, 128, 64, 64],
    [1, 640, 320, 32, 32],
    [1, 1280, 1280, 8, 8],
    [1, 64, 32, 256, 256],
    [4, 128, 64, 128, 128],
];

/// Norm, activation, convolution, twice, around them a sum with the input, and what leads to the next resolution.
fn residual(b: &mut Block, s: &[i64]) -> Result<Vec<Outlet>> {
    let x = b.input(&[s[0], s[1], s[3], s[4]]);
    let n = b.group_norm(x, true)?;
    let h = b.conv(n, s[2], 3, 1)?;
    // The embedding of the time step: a number for each picture and channel.
    let e = b.input(&[s[0], s[2], 1, 1]);
    let h = b.op(Op::Binary(Binary::Add), &[h, e])?;
    let n = b.group_norm(h, true)?;
    let h = b.conv(n, s[2], 3, 1)?;
    let short = if s[1] == s[2] { x } else { b.conv(x, s[2], 1, 1)? };
    let y = b.op(Op::Binary(Binary::Add), &[h, short])?;
    let wide = b.op(Op::Concat { axis: 1 }, &[y, x])?;
    let point = b.conv(wide, s[2], 1, 1)?;
    let half = b.conv(point, s[2], 3, 2)?;
    let large = b.op(Op::Upsample { factors: vec![1, 1, 2, 2] }, &[half])?;
    let again = b.conv(large, s[2], 3, 1)?;
    let bare = b.op(Op::Upsample { factors: vec![1, 1, 2, 2] }, &[half])?;
    let sum = b.op(Op::Binary(Binary::Mul), &[again, bare])?;
    Ok(vec![sum])
}

/// Pictures, channels outside, channels inside, height, width.
const EDGES: [[i64; 5]; 8] = [
    [8, 8, 32, 16, 16],
    [1, 3, 32, 128, 128],
    [2, 4, 64, 48, 48],
    [4, 8, 320, 40, 64],
    [1, 3, 128, 128, 160],
    [1, 3, 64, 256, 256],
    [4, 4, 96, 20, 32],
    [1, 8, 8, 64, 64],
];

/// From few channels to many and back.
fn edges(b: &mut Block, s: &[i64]) -> Result<Vec<Outlet>> {
    let x = b.input(&[s[0], s[1], s[3], s[4]]);
    let h = b.conv(x, s[2], 3, 1)?;
    let n = b.group_norm(h, true)?;
    let y = b.conv(n, s[1], 3, 1)?;
    let point = b.conv(y, s[1], 1, 1)?;
    let strided = b.conv(point, s[2], 3, 2)?;
    let patches = if s[3] % 16 == 0 { vec![b.conv(x, s[2], 16, 16)?] } else { vec![] };
    Ok([vec![strided], patches].concat())
}

/// Videos, channels, frames, height, width.
const FRAMES: [[i64; 5]; 8] = [
    [2, 32, 4, 16, 16],
    [2, 64, 4, 8, 8],
    [1, 96, 8, 16, 16],
    [2, 64, 8, 24, 32],
    [1, 32, 4, 128, 128],
    [1, 320, 14, 16, 16],
    [1, 128, 6, 64, 64],
    [2, 640, 8, 8, 8],
];

/// Norm, activation and convolution over frames, and the change between pictures and videos.
fn frames(b: &mut Block, s: &[i64]) -> Result<Vec<Outlet>> {
    let x = b.input(&[s[0] * s[2], s[1], s[3], s[4]]);
    let volume = b.reshape(x, &[s[0], s[2], s[1], s[3], s[4]])?;
    let volume = b.transpose(volume, &[0, 2, 1, 3, 4])?;
    let n = b.group_norm(volume, true)?;
    let h = b.temporal_conv(n, s[1])?;
    let n = b.group_norm(h, true)?;
    let h = b.temporal_conv(n, s[1])?;
    let sum = b.op(Op::Binary(Binary::Add), &[h, volume])?;
    let back = b.transpose(sum, &[0, 2, 1, 3, 4])?;
    let y = b.reshape(back, &[s[0] * s[2], s[1], s[3], s[4]])?;
    let mix = b.weight(&[1])?;
    let a = b.op(Op::Binary(Binary::Mul), &[y, mix])?;
    let y = b.op(Op::Binary(Binary::Add), &[a, x])?;
    Ok(vec![y])
}

/// Sequences, tokens, channels, heads, tokens of the context.
const TRANSFORMER: [[i64; 5]; 14] = [
    [8, 64, 64, 4, 1],
    [8, 256, 32, 2, 1],
    [512, 4, 64, 4, 1],
    [128, 4, 96, 4, 4],
    [256, 14, 64, 2, 1],
    [1, 197, 64, 4, 77],
    [2, 256, 128, 2, 77],
    [1, 1024, 64, 1, 1],
    [4, 576, 96, 3, 1],
    [2, 1024, 320, 5, 77],
    [4, 256, 640, 10, 1],
    [1, 256, 1280, 20, 77],
    [1, 2304, 128, 1, 1],
    [1, 4096, 64, 1, 1],
];

/// Pictures as tokens, attention among them and to a context, a gated layer, and tokens as pictures again.
fn transformer(b: &mut Block, s: &[i64]) -> Result<Vec<Outlet>> {
    let picture = b.input(&[s[0], s[2], s[1], 1]);
    let n = b.group_norm(picture, false)?;
    let tokens = b.transpose(n, &[0, 2, 3, 1])?;
    let tokens = b.reshape(tokens, &[s[0], s[1], s[2]])?;
    let x = b.linear(tokens, s[2])?;
    let n = b.layer_norm(x)?;
    let own = [b.linear(n, s[2])?, b.linear(n, s[2])?, b.linear(n, s[2])?];
    let a = b.attention(own, s[3])?;
    let a = b.linear(a, s[2])?;
    let x = b.op(Op::Binary(Binary::Add), &[a, x])?;
    let n = b.layer_norm(x)?;
    let context = b.input(&[s[0], s[4], s[2]]);
    let cross = [b.linear(n, s[2])?, b.linear(context, s[2])?, b.linear(context, s[2])?];
    let a = b.attention(cross, s[3])?;
    let a = b.linear(a, s[2])?;
    let x = b.op(Op::Binary(Binary::Add), &[a, x])?;
    let n = b.layer_norm(x)?;
    let wide = b.linear(n, 8 * s[2])?;
    let gated = b.op(Op::GeGlu, &[wide])?;
    let y = b.linear(gated, s[2])?;
    let x = b.op(Op::Binary(Binary::Add), &[y, x])?;
    let wide = b.linear(x, 4 * s[2])?;
    let gelu = b.op(Op::Gelu { tanh: false }, &[wide])?;
    let y = b.linear(gelu, s[2])?;
    let y = b.transpose(y, &[0, 2, 1])?;
    let y = b.reshape(y, &[s[0], s[2], s[1], 1])?;
    let y = b.op(Op::Binary(Binary::Add), &[y, picture])?;
    Ok(vec![y])
}

/// Heads of all sequences, tokens, tokens of the context, head size.
const WRITTEN_OUT: [[i64; 4]; 8] = [
    [32, 64, 64, 16],
    [8, 256, 256, 16],
    [1024, 14, 14, 32],
    [4, 576, 576, 64],
    [2, 1024, 1024, 64],
    [16, 256, 77, 40],
    [1, 1024, 1024, 320],
    [1, 3072, 3072, 64],
];

/// Attention as two products and a softmax.
fn written_out(b: &mut Block, s: &[i64]) -> Result<Vec<Outlet>> {
    let (q, k, v) = (b.input(&[s[0], s[1], s[3]]), b.input(&[s[0], s[3], s[2]]), b.input(&[s[0], s[2], s[3]]));
    let q = b.op(Op::Unary(Unary::Tanh), &[q])?;
    let scores = b.op(Op::MatMul, &[q, k])?;
    let scale = b.weight(&[1])?;
    let scores = b.op(Op::Binary(Binary::Mul), &[scores, scale])?;
    let shares = b.op(Op::Softmax { axis: 2 }, &[scores])?;
    let y = b.op(Op::MatMul, &[shares, v])?;
    Ok(vec![y])
}

/// Outer extent, channels, inner extent: tensors from 16 KiB to 64 MiB.
const MOVES: [[i64; 3]; 8] =
    [[1, 64, 64], [8, 32, 256], [4, 96, 512], [8, 64, 1024], [4, 320, 1024], [2, 128, 16384], [1, 64, 131_072], [2, 128, 65536]];

/// Elementwise functions of every kind, and what only moves elements.
fn moves(b: &mut Block, s: &[i64]) -> Result<Vec<Outlet>> {
    let (x, z) = (b.input(s), b.input(s));
    let sum = b.op(Op::Binary(Binary::Add), &[x, z])?;
    let (row, column) = (b.input(&[s[0], 1, s[2]]), b.input(&[1, s[1], 1]));
    let a = b.op(Op::Binary(Binary::Mul), &[sum, row])?;
    let a = b.op(Op::Binary(Binary::Add), &[a, column])?;
    let one = b.weight(&[1])?;
    let a = b.op(Op::Binary(Binary::Mul), &[a, one])?;
    let sigmoid = b.op(Op::Unary(Unary::Sigmoid), &[a])?;
    let a = b.op(Op::Binary(Binary::Mul), &[sigmoid, a])?;
    let turned = b.transpose(a, &[0, 2, 1])?;
    let n = b.layer_norm(turned)?;
    let rows = b.transpose(n, &[1, 0, 2])?;
    let swapped = b.transpose(rows, &[1, 2, 0])?;
    let joined = b.op(Op::Concat { axis: 1 }, &[swapped, a])?;
    let half = b.op(Op::Slice { axis: 2, start: 0.into(), end: (s[2] / 2).into() }, &[joined])?;
    let part = b.op(Op::Slice { axis: 1, start: 0.into(), end: s[1].into() }, &[half])?;
    let mean = b.op(Op::ReduceMean { axes: vec![2] }, &[part])?;
    let less = b.op(Op::Binary(Binary::Sub), &[part, mean])?;
    let y = b.op(Op::Softmax { axis: 2 }, &[less])?;
    let padded = b.op(Op::Pad { before: vec![0, 0, 0], after: vec![0, 0, 2] }, &[y])?;
    Ok(vec![padded])
}

/// Products of few rows: embeddings of numbers.
fn rows(b: &mut Block, s: &[i64]) -> Result<Vec<Outlet>> {
    let x = b.input(&[s[0], s[1]]);
    let h = b.linear(x, 4 * s[2])?;
    let h = b.op(Op::Silu, &[h])?;
    let h = b.linear(h, s[2])?;
    let h = b.op(Op::Silu, &[h])?;
    let y = b.linear(h, s[1])?;
    let wave = b.op(Op::Unary(Unary::Exp), &[y])?;
    Ok(vec![wave])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_size_fits() {
        let all = cases().unwrap();
        assert!(all.len() > 40);
        assert!(all.iter().all(|c| crate::passes::manager::is_bound(&c.graph)), "every extent is known");
    }
}
