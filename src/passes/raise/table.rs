//! The patterns: one row each.

use super::{Pattern, attention, build};

/// The patterns in the order in which they are tried; larger ones come before those that are a part of them.
pub(super) fn rows() -> Vec<Pattern> {
    let mut rows = activations();
    rows.extend(norms_and_layers());
    rows
}

/// Functions of single elements and of the last axis.
fn activations() -> Vec<Pattern> {
    vec![
        Pattern {
            name: "temporal-conv",
            anchors: &[],
            spellings: &["conv(x, #w, b)", "conv(x, #w)"],
            conditions: &[("a kernel over frames only, zeros that keep their number, one group", build::over_frames)],
            replaced: Pattern::root,
            build: build::temporal_conv,
        },
        Pattern {
            name: "linear",
            anchors: &[],
            spellings: &["{add(matmul(x, #w), #b) | gemm(x, #w, #b) | add(gemm(x, #w), #b)}", "{matmul(x, #w) | gemm(x, #w)}"],
            conditions: &[("a matrix of weights", build::matrix), ("a bias for each output", build::bias_fits)],
            replaced: Pattern::root,
            build: build::linear,
        },
        Pattern {
            name: "linear-bias",
            anchors: &[],
            spellings: &["add(l:linear(x, #w), #b)"],
            conditions: &[("a bias for each output", build::bias_fits)],
            replaced: Pattern::root,
            build: build::linear_bias,
        },
        Pattern {
            name: "silu",
            anchors: &[],
            spellings: &["silu_of(x)"],
            conditions: &[("the type of x", build::same_type)],
            replaced: Pattern::root,
            build: build::silu,
        },
        Pattern {
            name: "geglu",
            anchors: &["erf"],
            spellings: &[
                "{prod(value:slice(y), gelu(gate:slice(y))) | prod(phi(gate:slice(y)), value:slice(y), gate) | prod(0.5, add(erf(prod(0.7071067811865476, gate:slice(y))), 1), value:slice(y), gate)}",
            ],
            conditions: &[
                ("the first half of the last axis times gelu of the second", build::halves),
                ("gelu with erf", build::curve_is_erf),
            ],
            replaced: Pattern::root,
            build: build::geglu,
        },
        Pattern {
            name: "gelu",
            anchors: &["erf"],
            spellings: &["{prod(0.5, add(erf(prod(0.7071067811865476, x)), 1), x) | prod(phi(x), x)}"],
            conditions: &[("the type of x", build::same_type)],
            replaced: Pattern::root,
            build: build::gelu_erf,
        },
        Pattern {
            name: "gelu-tanh",
            anchors: &["tanh"],
            spellings: &["{prod(0.5, add(curve(x), 1), x) | prod(add(prod(0.5, curve(x)), 0.5), x)}"],
            conditions: &[("the type of x", build::same_type)],
            replaced: Pattern::root,
            build: build::gelu_tanh,
        },
    ]
}

/// Norms, linear layers, convolutions, embeddings.
fn norms_and_layers() -> Vec<Pattern> {
    vec![
        Pattern {
            name: "group-norm",
            anchors: &["instance_norm", "mean"],
            spellings: &[
                "add({prod(o:reshape(n:instance_norm(i:reshape(x), #s, #b)), gamma) | prod(o:reshape(normalised(i:reshape(x))), gamma)}, beta)",
                "{o:reshape(n:instance_norm(i:reshape(x), #s, #b)) | o:reshape(normalised(i:reshape(x)))}",
            ],
            conditions: &[
                ("groups of channels on axis 1", build::grouped),
                ("means over all of a group", build::means_over_groups),
                ("the shape of the scaled tensor", build::shape_restored),
                ("a scale and a bias for each channel", build::per_channel),
                ("constant scale and bias inside, or 1 and 0", build::inner_affine),
            ],
            replaced: Pattern::root,
            build: build::group_norm,
        },
        Pattern {
            name: "layer-norm",
            anchors: &["mean"],
            spellings: &[
                "add({prod(inv(sqrt(variance(x))), centred(x), gamma) | prod(pow(variance(x), -0.5), centred(x), gamma)}, beta)",
                "{prod(inv(sqrt(variance(x))), centred(x), gamma) | prod(pow(variance(x), -0.5), centred(x), gamma)}",
                "normalised(x)",
            ],
            conditions: &[
                ("means over the last axis", build::means_over_last),
                ("a scale and a bias for each element of the last axis", build::per_element),
                ("the type of x", build::same_type),
            ],
            replaced: Pattern::root,
            build: build::layer_norm,
        },
        Pattern {
            name: "rms-norm",
            anchors: &["mean"],
            spellings: &[
                "{prod(inv(sqrt(add(v:mean(prod(x, x)), $eps))), x, gamma) | prod(pow(add(v:mean(prod(x, x)), $eps), -0.5), x, gamma)}",
                "{prod(inv(sqrt(add(v:mean(prod(x, x)), $eps))), x) | prod(pow(add(v:mean(prod(x, x)), $eps), -0.5), x)}",
            ],
            conditions: &[
                ("a mean over the last axis", build::means_over_last),
                ("a scale for each element of the last axis", build::per_element),
                ("the type of x", build::same_type),
            ],
            replaced: Pattern::root,
            build: build::rms_norm,
        },
        Pattern {
            name: "rotary-embedding",
            anchors: &[],
            spellings: &["add(prod(turned:concat({neg(high:slice(x)) | prod(-1, high:slice(x))}, low:slice(x)), sin), prod(x, cos))"],
            conditions: &[
                ("the halves of each head swapped", build::swapped_halves),
                ("tables over positions whose halves are equal", build::tables),
                ("heads beside tokens", build::heads_apart),
            ],
            replaced: Pattern::root,
            build: build::rotary,
        },
        Pattern {
            name: "attention",
            anchors: &["softmax"],
            spellings: &[
                "matmul(p:softmax(scores:prod($scale, matmul(q, k))), v)",
                "matmul(p:softmax(scores:add(prod($scale, matmul(q, k)), mask)), v)",
            ],
            conditions: &[
                ("softmax over the keys", build::over_keys),
                ("queries, keys and values of the same batch", build::one_batch),
                ("heads and mask that can be told apart", |site| attention::plan(site).is_some()),
            ],
            replaced: |site| attention::plan(site).map_or(site.found.root, |p| p.replaced),
            build: build::attention,
        },
        Pattern {
            name: "group-norm-silu",
            anchors: &[],
            spellings: &["silu(g:group_norm(x, s, b))"],
            conditions: &[("no activation yet", build::no_activation)],
            replaced: Pattern::root,
            build: build::group_norm_silu,
        },
        Pattern {
            name: "timestep-embedding",
            anchors: &[],
            spellings: &["c:concat(high:slice(y:concat(first, second)), low:slice(y:concat(first, second)))"],
            conditions: &[("the two parts swapped", build::swapped_parts)],
            replaced: Pattern::root,
            build: build::flip,
        },
    ]
}
