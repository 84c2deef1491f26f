//! What may be replaced, and what becomes of the rest.

use super::*;

fn ours(_: &Path) -> std::result::Result<(), String> {
    Ok(())
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code
}

#[test]
fn a_file_of_the_user_is_kept_and_so_are_the_kept_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.onnx");
    assert_eq!(keep(&path, &unknown_writer).unwrap(), None, "there is nothing");
    fs::write(&path, "first").unwrap();
    assert_eq!(keep(&path, &ours).unwrap(), None);
    for (text, old) in [("first", "o.onnx.old"), ("second", "o.onnx.old.2"), ("third", "o.onnx.old.3")] {
        write_atomic(&path, |w| w.write_all(text.as_bytes())).unwrap();
        assert_eq!(keep(&path, &unknown_writer).unwrap().unwrap().path, dir.path().join(old));
        // Asked again after a crash, it needs no further copy.
        keep(&path, &unknown_writer).unwrap().unwrap().undo();
        assert!(dir.path().join(old).exists());
        write_atomic(&path, |w| w.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(old)).unwrap(), text);
    }
    assert_eq!(fs::read_to_string(dir.path().join("o.onnx.old")).unwrap(), "first");
}

#[test]
fn a_text_that_is_the_same_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.yaml");
    assert_eq!(save(&path, "a").unwrap(), Saved::New);
    assert_eq!(save(&path, "a").unwrap(), Saved::Unchanged);
    assert_eq!(save(&path, "ab").unwrap(), Saved::Replaced(dir.path().join("g.yaml.old")));
    assert_eq!(fs::read_to_string(dir.path().join("g.yaml.old")).unwrap(), "a");
    assert_eq!(code(save(dir.path(), "a")), "io/not-a-file");
}

#[test]
fn outputs_are_looked_at_before_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("taken"), "x").unwrap();
    let mut outputs = Outputs::default();
    outputs.file(&path("new"), Name::Given, &unknown_writer).unwrap();
    outputs.file(&path("taken"), Name::Given, &unknown_writer).unwrap();
    assert_eq!(code(outputs.file(&path("new"), Name::Given, &unknown_writer)), "io/output-twice");
    assert_eq!(code(outputs.file(&path("./new"), Name::Given, &unknown_writer)), "io/output-twice");
    let mut file = |name: &str, kind| outputs.file(&path(name), kind, &unknown_writer);
    assert_eq!(code(file("no/o", Name::Given)), "io/unwritable");
    assert_eq!(code(file("taken/o", Name::Given)), "io/unwritable");
    assert_eq!(code(file("", Name::Given)), "io/not-a-file");
    assert_eq!(code(file("taken", Name::Chosen)), "io/output-taken");
    let mut outputs = Outputs::default();
    outputs.file_in_new_folder(&path("no/such/o"), Name::Given, &unknown_writer).unwrap();
    assert_eq!(code(outputs.file_in_new_folder(&path("taken/such/o"), Name::Given, &unknown_writer)), "io/unwritable");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "looking leaves nothing");
}

#[test]
fn a_failed_write_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("o.npy");
    fs::write(&path, "mine").unwrap();
    assert_eq!(code(put(&path, &unknown_writer, |_| Err(io::Error::other("no room")))), "io/unwritable");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[cfg(unix)]
#[test]
fn what_is_read_is_known_by_every_name() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir(path("sub")).unwrap();
    fs::write(path("w.data"), "weights").unwrap();
    fs::hard_link(path("w.data"), path("second")).unwrap();
    symlink("w.data", path("link")).unwrap();
    symlink(".", path("here")).unwrap();
    for name in ["w.data", "second", "link", "here/w.data", "sub/../w.data"] {
        let mut outputs = Outputs::default();
        outputs.file(&path(name), Name::Given, &ours).unwrap();
        outputs.spare([path("sub"), path("missing")]).unwrap();
        assert_eq!(code(outputs.spare([path("w.data")])), "io/output-is-input", "{name}");
    }
    assert_eq!(code(spare_folder(&path("here"), [path("w.data")])), "io/output-is-input");
    spare_folder(&path("sub"), [path("w.data")]).unwrap();
}

#[cfg(unix)]
#[test]
fn links_and_devices_are_not_written_through() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("thesis"), "precious").unwrap();
    symlink("thesis", path("link")).unwrap();
    symlink("nothing", path("dangling")).unwrap();
    symlink("/dev/null", path("null")).unwrap();
    assert_eq!(save(&path("link"), "x").unwrap(), Saved::Replaced(path("link.old")));
    assert_eq!(fs::read_link(path("link.old")).unwrap(), Path::new("thesis"));
    assert_eq!(fs::read_to_string(path("thesis")).unwrap(), "precious");
    assert_eq!(save(&path("dangling"), "x").unwrap(), Saved::Replaced(path("dangling.old")));
    assert!(!path("nothing").exists());
    assert_eq!(code(save(&path("null"), "x")), "io/not-a-file");
}

#[test]
fn extensions_are_checked_in_any_case_of_letters() {
    check_extension(Path::new("a/b.ONNX"), &["onnx"]).unwrap();
    for name in ["a", "a.yaml", ".onnx", "a.onnx.gz"] {
        assert_eq!(code(check_extension(Path::new(name), &["onnx"])), "io/extension", "{name}");
    }
}
