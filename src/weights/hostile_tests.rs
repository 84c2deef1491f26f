//! Damaged and hostile weights folders: each case builds its bytes in a temporary folder.

use std::fs;
use std::path::Path;

use super::*;

/// A safetensors file of `header` and `data` zero bytes.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(vec![0; data]);
    bytes
}

fn entry(name: &str, dtype: &str, shape: &str, begin: u64, end: u64) -> String {
    format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
}

fn open(bytes: &[u8]) -> crate::diag::Result<Stored> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, bytes).unwrap();
    open_file(&path)
}

fn check(bytes: &[u8], code: &str) {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    assert_eq!(open(bytes).map_or_else(|d| d.code, |_| ""), code, "{shown}");
}

fn check_header(entries: &[String], data: usize, code: &str) {
    check(&file(&format!("{{{}}}", entries.join(",")), data), code);
}

#[test]
fn a_good_file_gives_its_tensors() {
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},{},{},{}}}  "#,
        entry("a", "F32", "[2,3]", 0, 24),
        entry("b", "BF16", "[]", 24, 26),
        entry("none", "F32", "[0]", 26, 26)
    );
    let stored = open(&file(&header, 26)).unwrap();
    let a = stored.get("a").unwrap().unwrap();
    assert_eq!((a.offset, a.len, a.dtype, a.shape.as_slice()), (8 + header.len() as u64, 24, DType::F32, &[2, 3][..]));
    assert_eq!((stored.len(), stored.total_bytes()), (3, 26));
    assert!(stored.get("c").unwrap().is_none());
    assert!(a.file.header_sha256().is_some());
}

#[test]
fn truncated_files_and_huge_headers_are_refused() {
    check(b"", "weights/truncated");
    check(&[5, 0, 0, 0, 0, 0, 0], "weights/truncated");
    check(&[9, 0, 0, 0, 0, 0, 0, 0, b'{'], "weights/truncated");
    check(&[0xff; 16], "weights/header-too-large");
    check(&100_000_001_u64.to_le_bytes(), "weights/header-too-large");
    check(b"version https://git-lfs.github.com/spec/v1\n", "weights/not-safetensors");
    let whole = file(&format!("{{{}}}", entry("a", "F32", "[2]", 0, 8)), 8);
    for len in 0..whole.len() {
        let code = open(&whole[..len]).unwrap_err().code;
        assert!(["weights/truncated", "weights/out-of-range"].contains(&code), "{len}: {code}");
    }
}

#[test]
fn headers_that_are_not_the_format_are_refused() {
    for header in [
        "",
        "[]",
        "{",
        "{}x",
        r#"{"a":1}"#,
        r#"{"a":{"dtype":"F32","shape":[1]}}"#,
        r#"{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e400]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999999999999]}}"#,
        r#"{"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1}}"#,
    ] {
        check(&file(header, 4), "weights/not-safetensors");
    }
    check(&file(&"[".repeat(100_000), 0), "weights/not-safetensors");
    check(&file(&format!("{{{}}}", entry("a", "F32", &format!("[{}1]", "1,".repeat(40)), 0, 4)), 4), "weights/not-safetensors");
}

#[test]
fn offsets_lie_in_the_file_and_fit_the_shape() {
    check_header(&[entry("a", "F32", "[2]", 0, 8)], 8, "");
    check_header(&[entry("a", "F32", "[2]", 0, 8)], 7, "weights/out-of-range");
    check_header(&[entry("a", "F32", "[2]", 8, 0)], 8, "weights/out-of-range");
    check_header(&[entry("a", "F32", "[2]", u64::MAX - 7, u64::MAX)], 8, "weights/out-of-range");
    check_header(&[entry("a", "F32", "[2]", 0, 4)], 8, "weights/tensor-size-mismatch");
    check_header(&[entry("a", "F32", "[4294967296,4294967296]", 0, 0)], 8, "weights/tensor-size-mismatch");
    check_header(&[entry("a", "F32", "[0,4294967296,4294967296]", 0, 0)], 8, "weights/tensor-size-mismatch");
    check_header(&[entry("a", "F64", "[2305843009213693952]", 0, 0)], 8, "weights/tensor-size-mismatch");
}

#[test]
fn tensors_neither_overlap_nor_repeat() {
    let (a, b) = (entry("a", "F32", "[2]", 0, 8), entry("b", "F32", "[2]", 4, 12));
    check_header(&[a.clone(), b.clone()], 12, "weights/overlap");
    check_header(&[b, a.clone()], 12, "weights/overlap");
    check_header(&[a.clone(), entry("b", "U8", "[1]", 7, 8)], 12, "weights/overlap");
    check_header(&[a.clone(), a.clone()], 8, "weights/duplicate-tensor");
    check_header(&[a, entry("a", "F8_E4M3", "[8]", 8, 16)], 16, "weights/duplicate-tensor");
}

#[test]
fn no_single_wrong_byte_does_more_than_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let good = file(&format!("{{{},{}}}", entry("a", "F32", "[2,3]", 0, 24), entry("b", "F16", "[1]", 24, 26)), 26);
    for at in 0..good.len() {
        for wrong in [b'0', b'9', b'-', b'"', 0xff, good[at] ^ 1] {
            let mut bytes = good.clone();
            bytes[at] = wrong;
            fs::write(&path, bytes).unwrap();
            let Ok(stored) = open_file(&path) else { continue };
            assert!(stored.iter().all(|(_, t)| t.bytes().is_ok()));
        }
    }
}

#[test]
fn a_type_that_is_not_read_is_an_error_only_when_asked_for() {
    let header = format!("{{{},{}}}", entry("a", "F8_E4M3", "[2]", 0, 2), entry("b", "U8", "[1]", 2, 3));
    let stored = open(&file(&header, 3)).unwrap();
    assert!(stored.get("b").unwrap().is_some());
    assert_eq!(stored.get("a").unwrap_err().code, "weights/unsupported-dtype");
}

fn one(name: &str) -> Vec<u8> {
    file(&format!("{{{}}}", entry(name, "F32", "[1]", 0, 4)), 4)
}

fn with_files(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("m")).unwrap();
    fs::write(dir.path().join("secret"), one("w")).unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join("m").join(name), bytes).unwrap();
    }
    dir
}

/// The code, and the names of the tensors.
fn folder(files: &[(&str, &[u8])], variant: Option<&str>) -> (&'static str, String) {
    let dir = with_files(files);
    match open_folder(&dir.path().join("m"), variant) {
        Ok(stored) => ("", stored.iter().map(|(name, _)| name).collect::<Vec<_>>().join(" ")),
        Err(d) => (d.code, d.help.unwrap_or_default()),
    }
}

#[test]
fn folders_are_opened_as_diffusers_and_transformers_lay_them_out() {
    let (full, half, clip) = (one("full"), one("half"), one("clip"));
    let unet: &[(&str, &[u8])] =
        &[("diffusion_pytorch_model.safetensors", &full), ("diffusion_pytorch_model.fp16.safetensors", &half), ("config.json", b"{}")];
    assert_eq!(folder(unet, None), ("", "full".into()));
    assert_eq!(folder(unet, Some("fp16")), ("", "half".into()));
    assert_eq!(folder(&[("model.safetensors", &clip)], None), ("", "clip".into()));
}

#[test]
fn sharded_folders_are_opened_through_their_index() {
    let (a, b) = (one("a"), one("b"));
    let index = br#"{"metadata":{"total_size":8},"weight_map":{"a":"model-1.safetensors","b":"model-2.safetensors"}}"#;
    let files: &[(&str, &[u8])] = &[("model.safetensors.index.json", index), ("model-1.safetensors", &a), ("model-2.safetensors", &b)];
    assert_eq!(folder(files, None), ("", "a b".into()));
    let index = br#"{"weight_map":{"a":"model.fp16-00001-of-00002.safetensors","b":"model.fp16-00002-of-00002.safetensors"}}"#;
    for name in ["model.safetensors.index.fp16.json", "model.fp16.safetensors.index.json"] {
        let files: &[(&str, &[u8])] =
            &[(name, index), ("model.fp16-00001-of-00002.safetensors", &a), ("model.fp16-00002-of-00002.safetensors", &b)];
        assert_eq!(folder(files, Some("fp16")), ("", "a b".into()));
    }
}

#[test]
fn what_cannot_be_used_is_said_with_what_there_is() {
    assert_eq!(folder(&[], None), ("weights/not-found", "the folder does not exist or is empty".into()));
    assert_eq!(folder(&[("x.txt", b"")], None), ("weights/not-found", "there is: x.txt".into()));
    assert_eq!(folder(&[("model.fp16.safetensors", b"")], None).1, "there are variants: try `--variant fp16`");
    assert_eq!(folder(&[("model.fp16.safetensors", b"")], Some("bf16")).1, "there is: fp16");
    assert_eq!(folder(&[("model.fp16.safetensors", b"")], Some("../x")).0, "weights/not-found");
    for pickle in ["diffusion_pytorch_model.bin", "svd.ckpt", "model.PT", "m.pth"] {
        assert_eq!(folder(&[(pickle, b"\x80\x02")], None).0, "weights/pickle", "{pickle}");
    }
    assert_eq!(open_file(Path::new("/nowhere/x.ckpt")).unwrap_err().code, "weights/pickle");
}

fn index(text: &str) -> &'static str {
    folder(&[("model.safetensors.index.json", text.as_bytes()), ("s.safetensors", &one("w"))], None).0
}

#[test]
fn an_index_is_checked() {
    assert_eq!(index(r#"{"weight_map":{"w":"s.safetensors"}}"#), "");
    assert_eq!(index("not json"), "weights/index");
    assert_eq!(index("{}"), "weights/index");
    assert_eq!(index(r#"{"weight_map":{"w":3}}"#), "weights/index");
    assert_eq!(index(r#"{"weight_map":{"v":"s.safetensors"}}"#), "weights/index-mismatch");
    assert_eq!(index(r#"{"weight_map":{"w":"t.safetensors"}}"#), "weights/shard-missing");
    assert_eq!(index(r#"{"weight_map":{"w":"s.safetensors","w":"s.safetensors"}}"#), "weights/duplicate-tensor");
    for name in ["../secret", "/etc/passwd", "sub/s.safetensors", "..", "", "..\\\\secret"] {
        assert_eq!(index(&format!(r#"{{"weight_map":{{"w":"{name}"}}}}"#)), "weights/path-escape", "{name}");
    }
}

#[cfg(unix)]
#[test]
fn a_shard_that_is_a_link_stays_in_the_folder() {
    let text = br#"{"weight_map":{"w":"s.safetensors"}}"#;
    let dir = with_files(&[("model.safetensors.index.json", text), ("real.safetensors", &one("w"))]);
    let link = dir.path().join("m/s.safetensors");
    let code = |to: &str| {
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(to, &link).unwrap();
        open_folder(&dir.path().join("m"), None).map_or_else(|d| d.code, |_| "")
    };
    assert_eq!(code("real.safetensors"), "");
    assert_eq!(code("../secret"), "weights/path-escape");
    assert_eq!(code("/dev/zero"), "weights/path-escape");
}

#[test]
fn regions_of_raw_files_are_tensors_too() {
    let dir = with_files(&[("w.bin", &[7; 16])]);
    let path = dir.path().join("m/w.bin").canonicalize().unwrap();
    let region = |name: &str, offset, len| Region { name: name.into(), path: path.clone(), offset, len, dtype: DType::F16, shape: vec![4] };
    let stored = Stored::from_regions([region("a", 0, 8), region("b", 8, 8)]).unwrap();
    assert_eq!((stored.len(), stored.files().len()), (2, 1));
    assert_eq!(stored.get("b").unwrap().unwrap().bytes().unwrap(), [7; 8]);
    let code = |regions: &[Region]| Stored::from_regions(regions.to_vec()).unwrap_err().code;
    assert_eq!(code(&[region("a", 9, 8)]), "weights/out-of-range");
    assert_eq!(code(&[region("a", 0, 6)]), "weights/tensor-size-mismatch");
    assert_eq!(code(&[region("a", 0, 8), region("a", 8, 8)]), "weights/duplicate-tensor");
}
