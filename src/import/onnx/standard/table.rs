//! The table of operators: which rule gives the types of an operator's outputs.
//!
//! One row an operator of ONNX (operator sets 11 to 26), of `ai.onnx.ml`, of the previews, and of ONNX Runtime's own domain
//! as far as files in use have them. What differs between versions of an operator is told apart inside of the rule.

use super::call::Outputs;
use super::{
    Fresh, NodeInfo, contrib, control, dtype, elementwise, generate, indexing, linear, quantize, recurrent, reduce, shaping, windows,
};

/// What gives the types of an operator's outputs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// The type of input 0.
    Same,
    /// The type of input 0; its `axis` (with this default) must exist.
    Along(i64),
    /// The shape of input 0, this element type.
    Typed(i32),
    /// The shape of input 0; the element type is this attribute, else that of the input.
    Retyped(&'static str),
    Cast,
    CastLike,
    /// All inputs broadcast, to this element type or that of the inputs.
    Broadcast(Option<i32>),
    Pow,
    Where,
    Dropout,
    BatchNorm,
    LayerNorm,
    /// What an optimiser with this many states a value returns.
    Optimizer(usize),
    Reduce,
    Arg,
    Loss,
    Det,
    Reshape,
    Transpose,
    /// Joins along `axis` every n-th input, beginning with this one.
    Concat(usize, usize),
    Squeeze,
    Unsqueeze,
    Flatten,
    Slice,
    Split,
    Expand,
    Tile,
    Pad,
    /// Whether the picture grows.
    DepthSpace(bool),
    CenterCropPad,
    Shape,
    Size,
    Gather,
    GatherElements,
    GatherNd,
    Compress,
    TopK,
    NonZero,
    Unique,
    OneHot,
    NonMaxSuppression,
    Columns,
    StringSplit,
    StringNormalizer,
    TfIdf,
    /// Positions of input and weight; the element type, or that of the input.
    Conv(usize, usize, Option<i32>),
    /// The element type is that of this input.
    ConvLike(usize, usize, usize),
    NhwcConv,
    ConvTranspose,
    Pool,
    GlobalPool,
    MaxUnpool,
    MaxRoiPool,
    RoiAlign,
    GridSample,
    AffineGrid,
    Col2Im,
    Resize,
    ImageDecoder,
    Stft,
    Dft,
    /// Positions of the sides; the element type, or that of the first side.
    MatMul(usize, usize, Option<i32>),
    /// Positions of the sides; the element type is that of this input.
    MatMulLike(usize, usize, usize),
    FusedMatMul,
    /// Positions of the sides.
    Gemm(usize, usize),
    QGemm,
    Einsum,
    Attention,
    /// States that follow the sequence of states.
    Recurrent(usize),
    Quantize,
    Dequantize,
    DynamicQuantize,
    Constant,
    ConstantOfShape,
    Range,
    Random,
    Multinomial,
    Window,
    MelWeights,
    /// A scalar of this type.
    Scalar(i32),
    Element,
    /// A tensor of this type and unknown shape.
    Open(i32),
    Matches,
    Unknown,
    /// Rows by as many columns as this attribute says (its default; none if it must be there).
    Scored(&'static str, Option<i64>),
    Classified,
    Features,
    Labels,
    Categories,
    OneHotEncoder,
    SkipNorm,
    SimplifiedNorm,
    Twice,
    Halved,
    /// The attention of ONNX Runtime with packed weights; where the past stands.
    PackedAttention(usize),
    QAttention,
    MultiHeadAttention,
    GroupQueryAttention,
    MatMulNBits,
    QuantizedPair,
    QuantizedWhere,
    QuantizedGlobalPool,
    QuantizedReduce,
    EmbedLayerNorm,
    ExpandDims,
}

use Rule as R;

const STRING: Option<i32> = Some(dtype::STRING);
const BOOL: Option<i32> = Some(dtype::BOOL);

/// The operators of ONNX, by name.
#[rustfmt::skip]
const STANDARD: &[(&str, Rule)] = &[
    ("Abs", R::Same), ("Acos", R::Same), ("Acosh", R::Same), ("Add", R::Broadcast(None)), ("AffineGrid", R::AffineGrid),
    ("And", R::Broadcast(BOOL)), ("ArgMax", R::Arg), ("ArgMin", R::Arg), ("Asin", R::Same), ("Asinh", R::Same), ("Atan", R::Same),
    ("Atanh", R::Same), ("Attention", R::Attention), ("AveragePool", R::Pool), ("BatchNormalization", R::BatchNorm),
    ("Bernoulli", R::Retyped("dtype")), ("BitCast", R::Cast), ("BitShift", R::Broadcast(None)), ("BitwiseAnd", R::Broadcast(None)),
    ("BitwiseNot", R::Same), ("BitwiseOr", R::Broadcast(None)), ("BitwiseXor", R::Broadcast(None)), ("BlackmanWindow", R::Window),
    ("Cast", R::Cast), ("CastLike", R::CastLike), ("Ceil", R::Same), ("Celu", R::Same), ("CenterCropPad", R::CenterCropPad),
    ("Clip", R::Same), ("Col2Im", R::Col2Im), ("Compress", R::Compress), ("Concat", R::Concat(0, 1)), ("ConcatFromSequence", R::Unknown),
    ("Constant", R::Constant), ("ConstantOfShape", R::ConstantOfShape), ("Conv", R::Conv(0, 1, None)),
    ("ConvInteger", R::Conv(0, 1, Some(dtype::INT32))), ("ConvTranspose", R::ConvTranspose), ("Cos", R::Same), ("Cosh", R::Same),
    ("CumProd", R::Same), ("CumSum", R::Same), ("DFT", R::Dft), ("DeformConv", R::Conv(0, 1, None)), ("DepthToSpace", R::DepthSpace(true)),
    ("DequantizeLinear", R::Dequantize), ("Det", R::Det), ("Div", R::Broadcast(None)), ("Dropout", R::Dropout),
    ("DynamicQuantizeLinear", R::DynamicQuantize), ("Einsum", R::Einsum), ("Elu", R::Same), ("Equal", R::Broadcast(BOOL)), ("Erf", R::Same),
    ("Exp", R::Same), ("Expand", R::Expand), ("EyeLike", R::Retyped("dtype")), ("Flatten", R::Flatten), ("Floor", R::Same),
    ("GRU", R::Recurrent(1)), ("Gather", R::Gather), ("GatherElements", R::GatherElements), ("GatherND", R::GatherNd), ("Gelu", R::Same),
    ("Gemm", R::Gemm(0, 1)), ("GlobalAveragePool", R::GlobalPool), ("GlobalLpPool", R::GlobalPool), ("GlobalMaxPool", R::GlobalPool),
    ("Greater", R::Broadcast(BOOL)), ("GreaterOrEqual", R::Broadcast(BOOL)), ("GridSample", R::GridSample),
    ("GroupNormalization", R::Same), ("HammingWindow", R::Window), ("HannWindow", R::Window), ("HardSigmoid", R::Same),
    ("HardSwish", R::Same), ("Hardmax", R::Along(-1)), ("Identity", R::Same), ("If", R::Unknown), ("ImageDecoder", R::ImageDecoder),
    ("InstanceNormalization", R::Same), ("IsInf", R::Typed(dtype::BOOL)), ("IsNaN", R::Typed(dtype::BOOL)), ("LRN", R::Same),
    ("LSTM", R::Recurrent(2)), ("LayerNormalization", R::LayerNorm), ("LeakyRelu", R::Same), ("Less", R::Broadcast(BOOL)),
    ("LessOrEqual", R::Broadcast(BOOL)), ("Log", R::Same), ("LogSoftmax", R::Along(-1)), ("Loop", R::Unknown),
    ("LpNormalization", R::Along(-1)), ("LpPool", R::Pool), ("MatMul", R::MatMul(0, 1, None)),
    ("MatMulInteger", R::MatMul(0, 1, Some(dtype::INT32))), ("Max", R::Broadcast(None)), ("MaxPool", R::Pool), ("MaxRoiPool", R::MaxRoiPool),
    ("MaxUnpool", R::MaxUnpool), ("Mean", R::Broadcast(None)), ("MeanVarianceNormalization", R::Same), ("MelWeightMatrix", R::MelWeights),
    ("Min", R::Broadcast(None)), ("Mish", R::Same), ("Mod", R::Broadcast(None)), ("Mul", R::Broadcast(None)), ("Multinomial", R::Multinomial),
    ("Neg", R::Same), ("NegativeLogLikelihoodLoss", R::Loss), ("NonMaxSuppression", R::NonMaxSuppression), ("NonZero", R::NonZero),
    ("Not", R::Typed(dtype::BOOL)), ("OneHot", R::OneHot), ("Optional", R::Unknown), ("OptionalGetElement", R::Element),
    ("OptionalHasElement", R::Scalar(dtype::BOOL)), ("Or", R::Broadcast(BOOL)), ("PRelu", R::Same), ("Pad", R::Pad), ("Pow", R::Pow),
    ("QLinearConv", R::ConvLike(0, 3, 7)), ("QLinearMatMul", R::MatMulLike(0, 3, 7)), ("QuantizeLinear", R::Quantize),
    ("RMSNormalization", R::Same), ("RNN", R::Recurrent(1)), ("RandomNormal", R::Random), ("RandomNormalLike", R::Retyped("dtype")),
    ("RandomUniform", R::Random), ("RandomUniformLike", R::Retyped("dtype")), ("Range", R::Range), ("Reciprocal", R::Same),
    ("ReduceL1", R::Reduce), ("ReduceL2", R::Reduce), ("ReduceLogSum", R::Reduce), ("ReduceLogSumExp", R::Reduce), ("ReduceMax", R::Reduce),
    ("ReduceMean", R::Reduce), ("ReduceMin", R::Reduce), ("ReduceProd", R::Reduce), ("ReduceSum", R::Reduce), ("ReduceSumSquare", R::Reduce),
    ("RegexFullMatch", R::Matches), ("Relu", R::Same), ("Reshape", R::Reshape), ("Resize", R::Resize), ("ReverseSequence", R::Same),
    ("RoiAlign", R::RoiAlign), ("RotaryEmbedding", R::Same), ("Round", R::Same), ("STFT", R::Stft), ("Scan", R::Unknown), ("Scatter", R::Same),
    ("ScatterElements", R::Same), ("ScatterND", R::Same), ("Selu", R::Same), ("SequenceAt", R::Unknown), ("SequenceConstruct", R::Unknown),
    ("SequenceEmpty", R::Unknown), ("SequenceErase", R::Unknown), ("SequenceInsert", R::Unknown),
    ("SequenceLength", R::Scalar(dtype::INT64)), ("SequenceMap", R::Unknown), ("Shape", R::Shape), ("Shrink", R::Same), ("Sigmoid", R::Same),
    ("Sign", R::Same), ("Sin", R::Same), ("Sinh", R::Same), ("Size", R::Size), ("Slice", R::Slice), ("Softmax", R::Along(-1)),
    ("SoftmaxCrossEntropyLoss", R::Loss), ("Softplus", R::Same), ("Softsign", R::Same), ("SpaceToDepth", R::DepthSpace(false)),
    ("Split", R::Split), ("SplitToSequence", R::Unknown), ("Sqrt", R::Same), ("Squeeze", R::Squeeze), ("StringConcat", R::Broadcast(STRING)),
    ("StringNormalizer", R::StringNormalizer), ("StringSplit", R::StringSplit), ("Sub", R::Broadcast(None)), ("Sum", R::Broadcast(None)),
    ("Swish", R::Same), ("Tan", R::Same), ("Tanh", R::Same), ("TensorScatter", R::Same), ("TfIdfVectorizer", R::TfIdf),
    ("ThresholdedRelu", R::Same), ("Tile", R::Tile), ("TopK", R::TopK), ("Transpose", R::Transpose), ("Trilu", R::Same), ("Unique", R::Unique),
    ("Unsqueeze", R::Unsqueeze), ("Upsample", R::Resize), ("Where", R::Where), ("Xor", R::Broadcast(BOOL)),
    // Of ONNX Runtime, in ONNX's domain.
    ("SimplifiedLayerNormalization", R::SimplifiedNorm),
];

#[rustfmt::skip]
const MACHINE_LEARNING: &[(&str, Rule)] = &[
    ("ArrayFeatureExtractor", R::Columns), ("Binarizer", R::Same), ("CastMap", R::Unknown), ("CategoryMapper", R::Categories),
    ("DictVectorizer", R::Unknown), ("FeatureVectorizer", R::Features), ("Imputer", R::Same), ("LabelEncoder", R::Labels),
    ("LinearClassifier", R::Classified), ("LinearRegressor", R::Scored("targets", Some(1))), ("Normalizer", R::Typed(dtype::FLOAT)),
    ("OneHotEncoder", R::OneHotEncoder), ("SVMClassifier", R::Classified), ("SVMRegressor", R::Scored("", Some(1))),
    ("Scaler", R::Typed(dtype::FLOAT)), ("TreeEnsemble", R::Scored("n_targets", None)), ("TreeEnsembleClassifier", R::Classified),
    ("TreeEnsembleRegressor", R::Scored("n_targets", None)), ("ZipMap", R::Unknown),
];

const PREVIEW: &[(&str, Rule)] = &[("FlexAttention", R::Attention)];

#[rustfmt::skip]
const TRAINING: &[(&str, Rule)] =
    &[("Adagrad", R::Optimizer(1)), ("Adam", R::Optimizer(2)), ("Gradient", R::Unknown), ("Momentum", R::Optimizer(1))];

#[rustfmt::skip]
const RUNTIME: &[(&str, Rule)] = &[
    ("Attention", R::PackedAttention(4)), ("BiasAdd", R::Same), ("BiasDropout", R::Dropout), ("BiasGelu", R::Same), ("BiasSoftmax", R::Same),
    ("BiasSplitGelu", R::Halved), ("ConvTransposeWithDynamicPads", R::Open(dtype::FLOAT)), ("DequantizeLinear", R::Dequantize),
    ("DynamicQuantizeMatMul", R::MatMul(0, 1, Some(dtype::FLOAT))), ("EmbedLayerNormalization", R::EmbedLayerNorm), ("ExpandDims", R::ExpandDims),
    ("FastGelu", R::Same), ("FusedConv", R::Conv(0, 1, None)), ("FusedGemm", R::Gemm(0, 1)), ("FusedMatMul", R::FusedMatMul),
    ("FusedMatMulActivation", R::FusedMatMul), ("GatherND", R::GatherNd), ("Gelu", R::Same), ("GroupNorm", R::Same),
    ("GroupQueryAttention", R::GroupQueryAttention), ("Inverse", R::Same), ("MatMulInteger16", R::MatMul(0, 1, Some(dtype::INT32))),
    ("MatMulIntegerToFloat", R::MatMulLike(0, 1, 2)), ("MatMulNBits", R::MatMulNBits), ("MultiHeadAttention", R::MultiHeadAttention),
    ("NhwcConv", R::NhwcConv), ("NhwcFusedConv", R::NhwcConv), ("NhwcMaxPool", R::Unknown), ("QAttention", R::QAttention), ("QGemm", R::QGemm),
    ("QLinearAdd", R::QuantizedPair), ("QLinearAveragePool", R::Unknown), ("QLinearConcat", R::Concat(2, 3)), ("QLinearConv", R::Unknown),
    ("QLinearGlobalAveragePool", R::QuantizedGlobalPool), ("QLinearLeakyRelu", R::Same), ("QLinearMul", R::QuantizedPair),
    ("QLinearReduceMean", R::QuantizedReduce), ("QLinearSigmoid", R::Same), ("QLinearSoftmax", R::Same), ("QLinearWhere", R::QuantizedWhere),
    ("QuantizeLinear", R::Quantize), ("QuickGelu", R::Same), ("RotaryEmbedding", R::Same), ("SkipGroupNorm", R::Twice),
    ("SkipLayerNormalization", R::SkipNorm), ("SkipSimplifiedLayerNormalization", R::SkipNorm), ("TransposeMatMul", R::FusedMatMul),
    ("Trilu", R::Same),
];

/// The rule of an operator, if it is known.
pub(super) fn find(domain: &str, op_type: &str) -> Option<Rule> {
    let rows = match domain {
        "" | "ai.onnx" => STANDARD,
        "ai.onnx.ml" => MACHINE_LEARNING,
        "ai.onnx.preview" => PREVIEW,
        "ai.onnx.preview.training" => TRAINING,
        "com.microsoft" => RUNTIME,
        _ => return None,
    };
    rows.iter().find(|(name, _)| *name == op_type).map(|(_, rule)| *rule)
}

/// Every operator with a rule, as (domain, operator).
#[cfg(test)]
pub(super) fn all() -> impl Iterator<Item = (&'static str, &'static str)> {
    let domains = [
        ("", STANDARD),
        ("ai.onnx.ml", MACHINE_LEARNING),
        ("ai.onnx.preview", PREVIEW),
        ("ai.onnx.preview.training", TRAINING),
        ("com.microsoft", RUNTIME),
    ];
    domains.into_iter().flat_map(|(domain, rows)| rows.iter().map(move |(name, _)| (domain, *name)))
}

impl Rule {
    /// The types of the outputs, as many as the rule knows.
    pub(super) fn types(self, c: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
        match self {
            R::Same => elementwise::same_as(c, 0),
            R::Along(default) => elementwise::along_axis(c, default),
            R::Typed(dtype) => elementwise::same_shape(c, dtype),
            R::Retyped(name) => elementwise::retyped(c, name),
            R::Cast => elementwise::cast(c),
            R::CastLike => elementwise::cast_like(c),
            R::Broadcast(dtype) => elementwise::broadcast(c, dtype, fresh),
            R::Pow => elementwise::pow(c, fresh),
            R::Where => elementwise::select(c, fresh),
            R::Dropout => elementwise::dropout(c),
            R::BatchNorm => elementwise::batch_norm(c),
            R::LayerNorm => elementwise::layer_norm(c),
            R::Optimizer(states) => elementwise::updated_state(c, states),
            R::Reduce => reduce::reduce(c, fresh),
            R::Arg => reduce::arg(c),
            R::Loss => reduce::loss(c),
            R::Det => reduce::det(c),
            R::Gather => indexing::gather(c),
            R::GatherElements => indexing::gather_elements(c),
            R::GatherNd => indexing::gather_nd(c),
            R::Compress => indexing::compress(c, fresh),
            R::TopK => indexing::top_k(c, fresh),
            R::NonZero => indexing::non_zero(c, fresh),
            R::Unique => indexing::unique(c, fresh),
            R::OneHot => indexing::one_hot(c, fresh),
            R::NonMaxSuppression => indexing::non_max_suppression(fresh),
            R::Columns => indexing::columns(c),
            R::StringSplit => indexing::string_split(c, fresh),
            R::StringNormalizer => indexing::string_normalizer(c, fresh),
            R::TfIdf => indexing::tf_idf(c),
            R::Recurrent(cells) => recurrent::recurrent(c, cells),
            R::Quantize => quantize::quantize(c),
            R::Dequantize => quantize::dequantize(c),
            R::DynamicQuantize => quantize::dynamic(c),
            R::Scalar(dtype) => control::scalar(dtype),
            R::Element => control::element(c),
            R::Open(dtype) => control::open_tensor(Some(dtype)),
            R::Matches => control::matches(c),
            R::Unknown => control::unknown(),
            _ => self.types_of_shapes(c, fresh),
        }
    }

    fn types_of_shapes(self, c: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
        match self {
            R::Reshape => shaping::reshape(c, fresh),
            R::Transpose => shaping::transpose(c),
            R::Concat(first, step) => shaping::concat(c, first, step),
            R::Squeeze => shaping::squeeze(c),
            R::Unsqueeze => shaping::unsqueeze(c),
            R::Flatten => shaping::flatten(c),
            R::Slice => shaping::slice(c, fresh),
            R::Split => shaping::split(c, fresh),
            R::Expand => shaping::expand(c, fresh),
            R::Tile => shaping::tile(c, fresh),
            R::Pad => shaping::pad(c, fresh),
            R::DepthSpace(grow) => shaping::depth_space(c, grow),
            R::CenterCropPad => shaping::center_crop_pad(c, fresh),
            R::Shape => shaping::shape(c),
            R::Size => shaping::size(),
            R::Constant => generate::constant(c),
            R::ConstantOfShape => generate::constant_of_shape(c, fresh),
            R::Range => generate::range(c, fresh),
            R::Random => generate::random(c),
            R::Multinomial => generate::multinomial(c),
            R::Window => generate::window(c, fresh),
            R::MelWeights => generate::mel_weights(c, fresh),
            R::Scored("", columns) => generate::scored(c, columns, Some(dtype::FLOAT)),
            R::Scored("n_targets", _) if c.op_type == "TreeEnsemble" => generate::scored(c, c.int("n_targets"), c.dtype(0)),
            R::Scored(name, default) => generate::scored(c, c.int(name).or(default), Some(dtype::FLOAT)),
            R::Classified => generate::classified(c),
            R::Features => generate::features(c),
            R::Labels => generate::labels(c),
            R::Categories => generate::categories(c),
            R::OneHotEncoder => generate::one_hot_encoder(c),
            _ => self.types_of_arithmetic(c, fresh),
        }
    }

    fn types_of_arithmetic(self, c: &NodeInfo<'_>, fresh: Fresh<'_>) -> Outputs {
        match self {
            R::Conv(x, w, result) => windows::conv(c, x, w, result.or(c.dtype(x))),
            R::ConvLike(x, w, like) => windows::conv(c, x, w, c.dtype(like)),
            R::NhwcConv => contrib::nhwc_conv(c),
            R::ConvTranspose => windows::conv_transpose(c),
            R::Pool => windows::pool(c, c.dtype(0)),
            R::GlobalPool => windows::global_pool(c),
            R::MaxUnpool => windows::max_unpool(c, fresh),
            R::MaxRoiPool => windows::regions(c, windows::pooled_shape(c)),
            R::RoiAlign => windows::regions(c, Some((c.int_or("output_height", 1), c.int_or("output_width", 1)))),
            R::GridSample => windows::grid_sample(c),
            R::AffineGrid => windows::affine_grid(c, fresh),
            R::Col2Im => windows::col2im(c, fresh),
            R::Resize => windows::resize(c, fresh),
            R::ImageDecoder => windows::image_decoder(c, fresh),
            R::Stft => windows::stft(c, fresh),
            R::Dft => windows::dft(c, fresh),
            R::MatMul(a, b, result) => linear::matmul(c, (a, b), (false, false), result.or(c.dtype(a)), fresh),
            R::MatMulLike(a, b, like) => linear::matmul(c, (a, b), (false, false), c.dtype(like), fresh),
            R::FusedMatMul => contrib::fused_matmul(c, fresh),
            R::Gemm(a, b) => linear::gemm(c, (a, b), c.dtype(a)),
            // The zero point of the result is the last input; without it the result is no longer quantized.
            R::QGemm => linear::gemm(c, (0, 3), if c.has(8) { c.dtype(8) } else { Some(dtype::FLOAT) }),
            R::Einsum => linear::einsum(c, fresh),
            R::Attention => linear::attention(c),
            R::SkipNorm => contrib::skip_norm(c),
            R::SimplifiedNorm => contrib::simplified_norm(c),
            R::Twice => contrib::twice(c),
            R::Halved => contrib::halved(c),
            R::PackedAttention(past) => contrib::packed_attention(c, c.dtype(0), past),
            R::QAttention => contrib::packed_attention(c, c.dtype(3), 8),
            R::MultiHeadAttention => contrib::multi_head_attention(c),
            R::GroupQueryAttention => contrib::group_query_attention(c),
            R::MatMulNBits => contrib::matmul_nbits(c),
            R::QuantizedPair => contrib::quantized_pair(c, fresh),
            R::QuantizedWhere => contrib::quantized_where(c, fresh),
            R::QuantizedGlobalPool => contrib::quantized_global_pool(c),
            R::QuantizedReduce => reduce::reduce(&NodeInfo { inputs: &c.inputs[..c.inputs.len().min(1)], ..*c }, fresh),
            R::EmbedLayerNorm => contrib::embed_layer_norm(c),
            R::ExpandDims => contrib::expand_dims(c),
            _ => control::unknown(),
        }
    }
}
