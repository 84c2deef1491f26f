//! Types with symbols, which the golden cases of onnx cannot have.

use super::notation::check;

#[test]
fn broadcasts() {
    check("Add(f32[2,n,1]; f32[n,4])", "f32[2,n,4]");
    check("Add(f32[n]; f32[5])", "f32[5]");
    check("Add(f32[n]; f32[m])", "f32[_0]");
    check("Add(f32[3]; f32[4])", "error: Add: extents 3 and 4 do not broadcast");
    check("Less(f16[n]; f16[])", "bool[n]");
    check("Where(bool[n,1]; f32[1]; f32[3])", "f32[n,3]");
    check("Foreign(f32[3])", "?");
}

#[test]
fn reshapes_divide_polynomials() {
    check("Reshape(f32[b,f,c]; i64[2]=-1,c)", "f32[b*f,c]");
    check("Reshape(f32[b,8*f,64]; i64[4]=0,0,8,-1)", "f32[b,8*f,8,8]");
    check("Reshape(f32[b,f,c]; i64[3]=b,f,-1)", "f32[b,f,c]");
    check("Reshape(f32[b,?,4]; i64[3]=-1,0,2)", "f32[2*b,?,2]");
    check("Reshape(f32[n,4]; i64[2]=-1,3)", "f32[_0,3]");
    check("Reshape(f32[n]; i64[3])", "f32[_0,_1,_2]");
    check("Reshape(f32[2,3]; i64[1]=5)", "error: Reshape: 6 elements become 5");
    check("Reshape(f32[2,3]; i64[2]=4,-1)", "error: Reshape: 6 elements do not fall into 4");
    check("Reshape{allowzero=i:1}(f32[0,3]; i64[2]=3,0)", "f32[3,0]");
}

#[test]
fn moves_of_axes() {
    check("Transpose{perm=I:0,2,1}(f32[b,n,4])", "f32[b,4,n]");
    check("Concat{axis=i:1}(f32[b,n]; f32[b,3]; f32[?,m])", "f32[b,m + n + 3]");
    check("Squeeze@11{axes=I:1}(f32[n,1])", "f32[n]");
    check("Unsqueeze@13(f32[n]; i64[2]=0,-1)", "f32[1,n,1]");
    check("Flatten{axis=i:2}(f32[b,c,h,w])", "f32[b*c,h*w]");
    check("Split{axis=i:1}(f32[b,2*c])->2", "f32[b,c]; f32[b,c]");
    check("Split@18{num_outputs=i:3}(f32[7])->3", "f32[3]; f32[3]; f32[1]");
    check("Split@13{axis=i:0}(f32[n]; i64[2]=1,2)->2", "f32[1]; f32[2]");
    check("Expand(f32[1,n]; i64[3]=b,4,1)", "f32[b,4,n]");
    check("Tile(f32[n,2]; i64[2]=3,m)", "f32[3*n,2*m]");
    check("Pad(f32[n,4]; i64[4]=1,0,2,0)", "f32[n + 3,4]");
    check("Pad@18(f32[n,4]; i64[2]=1,1; -; i64[1]=-1)", "f32[n,6]");
    check("DepthToSpace{blocksize=i:2}(f32[b,4*c,h,w])", "f32[b,c,2*h,2*w]");
}

#[test]
fn slices() {
    check("Slice(f32[n,8]; i64[1]=1; i64[1]=9223372036854775807; i64[1]=0)", "f32[n - 1,8]");
    check("Slice(f32[n]; i64[1]=-1; i64[1]=9223372036854775807; i64[1]=0)", "f32[1]");
    check("Slice(f32[n]; i64[1]=0; i64[1]=-1; i64[1]=0)", "f32[n - 1]");
    check("Slice(f32[2*n]; i64[1]=0; i64[1]=n; i64[1]=0)", "f32[n]");
    check("Slice(f32[2*n]; i64[1]=n; i64[1]=2147483647; i64[1]=0)", "f32[n]");
    check("Slice(f32[n]; i64[1]=0; i64[1]=2147483647; i64[1]=0; i64[1]=2)", "f32[floor((n + 1)/2)]");
    check("Slice(f32[n]; i64[1]=-1; i64[1]=-9223372036854775808; i64[1]=0; i64[1]=-1)", "f32[n]");
    check("Slice(f32[n]; i64[1]=0; i64[1]=5; i64[1]=0)", "f32[_0]");
    check("Slice(f32[n,4]; i64[1]; i64[1]; i64[1]=0)", "f32[_0,4]");
    check("Slice@9{starts=I:1;ends=I:3;axes=I:1}(f32[n,4])", "f32[n,2]");
}

#[test]
fn windows() {
    check("Conv{pads=I:1,1,1,1;strides=I:2,2}(f32[b,3,8*h,8*w]; f32[16,3,3,3])", "f32[b,16,4*h,4*w]");
    check("Conv{auto_pad=s:SAME_UPPER;strides=I:2}(f32[b,3,n]; f32[16,3,3])", "f32[b,16,floor((n + 1)/2)]");
    check("Conv{dilations=I:2}(f32[b,3,n]; f32[16,3,3])", "f32[b,16,n - 4]");
    check("Conv(f32[1,4,5,5]; f32[8,3,1,1])", "error: Conv: extents 4 and 3 must be equal");
    check("Conv(f32[1,3,2,2]; f32[8,3,3,3])", "error: Conv: the window is larger than what it slides over");
    check("ConvTranspose{strides=I:2,2;kernel_shape=I:2,2}(f32[b,3,h,w]; f32[3,8,2,2])", "f32[b,8,2*h,2*w]");
    check("MaxPool{kernel_shape=I:2,2;strides=I:2,2}(f32[b,c,2*h,2*w])->2", "f32[b,c,h,w]; i64[b,c,h,w]");
    check("AveragePool{kernel_shape=I:3;strides=I:2;ceil_mode=i:1}(f32[b,c,n])", "f32[b,c,floor((n)/2)]");
    check("Resize(f32[b,c,h,w]; -; f32[4]=1,1,2,2)", "f32[b,c,2*h,2*w]");
    check("Resize(f32[b,c,h,w]; -; f32[4]=1,1,0.5,0.5)", "f32[b,c,floor((h)/2),floor((w)/2)]");
    check("Resize(f32[b,c,h,w]; -; -; i64[4]=b,c,8*u,v)", "f32[b,c,8*u,v]");
    check("Upsample@9(f32[b,c,h,w]; f32[4]=1,1,2,2)", "f32[b,c,2*h,2*w]");
}

#[test]
fn products() {
    check("MatMul(f32[b,1,m,k]; f32[h,k,n])", "f32[b,h,m,n]");
    check("MatMul(f32[m,3]; f32[4,n])", "error: MatMul: extents 3 and 4 must be equal");
    check("Gemm{transB=i:1}(f32[n,k]; f32[8,k])", "f32[n,8]");
    check("Einsum{equation=s:b i d, b j d -> b i j}(f32[b,n,64]; f32[b,m,64])", "f32[b,n,m]");
    check("Attention@23(f32[b,8,n,64]; f32[b,8,m,64]; f32[b,8,m,32])", "f32[b,8,n,32]");
}

#[test]
fn data_dependent_extents_are_new_symbols() {
    check("NonZero(f32[n,m])", "i64[2,_0]");
    check("TopK(f32[n,8]; i64[1]=3)->2", "f32[n,3]; i64[n,3]");
    check("TopK(f32[n,8]; i64[1])->2", "f32[n,_0]; i64[n,_0]");
    check("Range(i64[]; i64[]; i64[])", "i64[_0]");
    check("ReduceSum(f32[2,3]; i64[1])", "f32[_0,_1]");
    check("ReduceMean{keepdims=i:0}(f32[n,3]; i64[1]=1)", "f32[n]");
}

#[test]
fn operators_of_the_runtime() {
    let ms = |call: &str, expect: &str| check(&format!("com.microsoft.{call}"), expect);
    ms("MultiHeadAttention@1{num_heads=i:8}(f16[b,n,512]; f16[b,m,512]; f16[b,m,256])", "f16[b,n,256]");
    ms("MultiHeadAttention@1{num_heads=i:8}(f16[b,n,8,3,64])", "f16[b,n,512]");
    ms("Attention@1{num_heads=i:8}(f32[b,n,64]; f32[64,192]; f32[192])->2", "f32[b,n,64]; f32[2,b,8,n,8]");
    ms("SkipLayerNormalization@1(f32[b,n,8]; f32[b,n,8]; f32[8])->4", "f32[b,n,8]; f32[b,n,1]; f32[b,n,1]; f32[b,n,8]");
    ms("FusedMatMul@1{transA=i:1}(f32[b,k,m]; f32[b,k,n])", "f32[b,m,n]");
    ms("GroupNorm@1(f16[b,h,w,c]; f32[c]; f32[c])", "f16[b,h,w,c]");
    ms("MatMulNBits@1{K=i:64;N=i:96;bits=i:4}(f32[b,n,64]; u8[96,2,16]; f32[192])", "f32[b,n,96]");
    ms("DynamicQuantizeMatMul@1(f32[b,n,64]; i8[64,32]; f32[32])", "f32[b,n,32]");
    ms("MatMulIntegerToFloat@1(u8[b,n,64]; i8[64,32]; f32[]; f32[32])", "f32[b,n,32]");
    ms("QLinearAdd@1(u8[b,n]; f32[]; u8[]; u8[n]; f32[]; u8[]; f32[]; u8[])", "u8[b,n]");
    ms("FusedConv@1{kernel_shape=I:1,1}(f32[b,3,h,w]; f32[8,3,1,1])", "f32[b,8,h,w]");
    ms("NhwcConv@1{pads=I:1,1,1,1}(f16[b,h,w,3]; f16[8,3,3,3])", "f16[b,h,w,8]");
    ms("BiasSplitGelu@1(f16[b,n,2560]; f16[2560])", "f16[b,n,1280]");
}
