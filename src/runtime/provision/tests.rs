//! The lookup and the cache, with made-up packages.

use std::fs::File;
use std::io::Write;

use super::*;

const CONTENT: &[u8] = b"not really a library";
static FAKE: Package = Package {
    name: "onnxruntime",
    version: "1.31.1",
    builds: &[Build {
        os: "any",
        arch: "any",
        platform: "manylinux_2_28_x86_64",
        download: 20,
        // printf 'not really a library' | sha256sum
        table: "8c94411e7c8b87bd238af6ff286f5e356e89b0b393364163b58e2ca433a40fe5 20 onnxruntime/capi/libonnxruntime.so.1.31.1\n\
                link libonnxruntime.so.1 libonnxruntime.so.1.31.1",
    }],
};
const MEMBER: &str = "onnxruntime/capi/libonnxruntime.so.1.31.1";

fn provision(cache: &Path) -> Provision {
    Provision {
        named: vec![],
        store: Store { cache: cache.into(), pythons: vec!["vidc-no-such-python".into()], timeout: Duration::from_secs(5) },
        package: &FAKE,
        build: FAKE.builds.first(),
    }
}

fn wheel(folder: &Path, member: &str, content: &[u8]) -> PathBuf {
    let path = folder.join("fake.whl");
    let mut zip = zip::ZipWriter::new(File::create(&path).unwrap());
    zip.start_file(member, zip::write::SimpleFileOptions::default()).unwrap();
    zip.write_all(content).unwrap();
    zip.finish().unwrap();
    path
}

fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
    result.unwrap_err().code
}

#[test]
fn a_wheel_is_installed_once_and_found_in_the_cache() {
    let dir = tempfile::tempdir().unwrap();
    let p = provision(&dir.path().join("cache"));
    let installed = p.install(Some(&wheel(dir.path(), MEMBER, CONTENT)), &mut |_| {}).unwrap();
    let found = p.locate(&mut |line| panic!("nothing to say, but: {line}")).unwrap();
    assert_eq!((found.how, found.version.as_deref(), &found.path), (How::Cache, Some(VERSION), &installed.path));
    assert_eq!(fs::read(found.path).unwrap(), CONTENT);
    assert_eq!(p.status().candidates[0].state, State::Verified);
    let left: Vec<_> = fs::read_dir(p.store.cache)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with('.'))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn another_content_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let p = provision(&dir.path().join("cache"));
    assert_eq!(code(p.install(Some(&wheel(dir.path(), MEMBER, b"evil")), &mut |_| {})), "runtime/hash-mismatch");
    assert_eq!(code(p.install(Some(&wheel(dir.path(), "other", CONTENT)), &mut |_| {})), "runtime/bad-wheel");
    let located = p.install(Some(&wheel(dir.path(), MEMBER, CONTENT)), &mut |_| {}).unwrap();
    fs::write(&located.path, b"changed later").unwrap();
    assert_eq!(code(p.locate(&mut |_| {})), "runtime/hash-mismatch");
    p.install(Some(&wheel(dir.path(), MEMBER, CONTENT)), &mut |_| {}).unwrap();
    assert_eq!(p.locate(&mut |_| {}).unwrap().how, How::Cache);
}

#[test]
fn without_python_the_way_by_hand_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut said = Vec::new();
    let d = provision(dir.path()).locate(&mut |line| said.push(line.to_owned())).unwrap_err();
    assert_eq!((d.code, said.len()), ("runtime/no-python", 1));
    assert!(d.help.unwrap().contains("vidc runtime install --from"));
}

#[cfg(unix)]
#[test]
fn what_pip_says_is_passed_on() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("python");
    let check = |body: &str, message: &str| {
        fs::write(&script, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut p = provision(&dir.path().join("cache"));
        (p.store.pythons, p.store.timeout) = (vec![script.to_str().unwrap().into()], Duration::from_millis(500));
        let d = p.locate(&mut |_| {}).unwrap_err();
        assert_eq!(d.code, "runtime/pip-failed");
        assert!(d.message.contains(message), "{}", d.message);
        d.notes
    };
    assert_eq!(check("echo no route to index >&2; exit 3", "failed"), ["no route to index"]);
    check("exit 0", "left no wheel");
    check("exec sleep 60", "did not end");
}

#[test]
fn a_named_library_is_taken_or_refused_but_never_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let check = |file: &str, content: &[u8]| {
        let path = dir.path().join(file);
        fs::write(&path, content).unwrap();
        let p = Provision { named: vec![(How::Argument, None), (How::VidcOrt, Some(path))], ..provision(dir.path()) };
        p.locate(&mut |_| {}).map(|l| (l.how, l.version)).map_err(|d| d.code)
    };
    assert_eq!(check("lib.so", b"..VERS_x..VERS_1.32.0\0.."), Ok((How::VidcOrt, Some("1.32.0".into()))));
    assert_eq!(check("lib.so", b"..VERS_1.30.0\0.."), Err("runtime/wrong-version"));
    assert_eq!(check("libonnxruntime.1.31.4.dylib", b""), Ok((How::VidcOrt, Some("1.31.4".into()))));
    assert_eq!(check("lib.so", b""), Ok((How::VidcOrt, None)));
    let nowhere = Provision { named: vec![(How::Argument, Some(dir.path().join("nowhere")))], ..provision(dir.path()) };
    assert_eq!(code(nowhere.locate(&mut |_| {})), "runtime/missing-library");
    assert_eq!(nowhere.status().candidates[0].state, State::Missing);
}

#[test]
fn a_folder_stands_for_the_library_in_it() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("libonnxruntime_providers_shared.so"), b"").unwrap();
    fs::write(dir.path().join("libonnxruntime.so.1.31.1"), b"").unwrap();
    let p = Provision { named: vec![(How::Argument, Some(dir.path().into()))], ..provision(dir.path()) };
    assert_eq!(p.locate(&mut |_| {}).unwrap().path, dir.path().join("libonnxruntime.so.1.31.1"));
}

#[test]
fn a_platform_without_a_build_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let p = Provision { build: None, ..provision(dir.path()) };
    assert_eq!(code(p.locate(&mut |_| {})), "runtime/missing-library");
}

#[test]
fn two_processes_at_once_do_the_work_once() {
    let dir = tempfile::tempdir().unwrap();
    let (p, wheel) = (provision(&dir.path().join("cache")), wheel(dir.path(), MEMBER, CONTENT));
    std::thread::scope(|s| {
        for _ in 0..4 {
            s.spawn(|| p.install(Some(&wheel), &mut |_| {}).unwrap());
        }
    });
    assert_eq!(p.locate(&mut |_| {}).unwrap().how, How::Cache);
}

/// Nothing of a wheel that is cut short or swollen reaches the cache.
#[test]
fn hostile_wheels_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let p = provision(&dir.path().join("cache"));
    let whole = fs::read(wheel(dir.path(), MEMBER, CONTENT)).unwrap();
    let cut = dir.path().join("cut.whl");
    for end in [0, 10, whole.len() / 2, whole.len() - 1] {
        fs::write(&cut, &whole[..end]).unwrap();
        assert_eq!(code(p.install(Some(&cut), &mut |_| {})), "runtime/bad-wheel", "{end} bytes");
    }
    let swollen = [CONTENT, &vec![0; 1 << 20]].concat();
    assert_eq!(code(p.install(Some(&wheel(dir.path(), MEMBER, &swollen)), &mut |_| {})), "runtime/hash-mismatch");
    assert_eq!(code(p.install(Some(&dir.path().join("nowhere.whl")), &mut |_| {})), "runtime/bad-wheel");
    let left: Vec<_> = fs::read_dir(&p.store.cache).unwrap().map(|e| e.unwrap().file_name()).filter(|n| n != "lock").collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Whatever stands where a checked file should be: it is missing, or it is refused.
#[cfg(unix)]
#[test]
fn a_cache_that_was_tampered_with_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let p = provision(&dir.path().join("cache"));
    let fresh = || p.install(Some(&wheel(dir.path(), MEMBER, CONTENT)), &mut |_| {}).unwrap().path;
    let state = |p: &Provision| p.store.state(p.package, p.build.unwrap());
    let library = fresh();
    fs::remove_file(library.with_file_name("libonnxruntime.so.1")).unwrap();
    assert_eq!(state(&p), Stored::Missing);
    let library = fresh();
    fs::write(dir.path().join("evil"), b"evil").unwrap();
    fs::remove_file(&library).unwrap();
    std::os::unix::fs::symlink(dir.path().join("evil"), &library).unwrap();
    assert!(matches!(state(&p), Stored::HashMismatch { .. }));
    let library = fresh();
    fs::remove_file(&library).unwrap();
    fs::create_dir(&library).unwrap();
    assert!(matches!(state(&p), Stored::Unreadable { .. }));
    assert_eq!(code(p.locate(&mut |_| {})), "runtime/missing-library");
    fresh();
    assert_eq!(state(&p), Stored::Verified);
}

/// A folder of wheels serves every package of a provider; the wheel of each is found by its name.
#[test]
fn wheels_are_found_in_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let p = provision(&dir.path().join("cache"));
    fs::rename(wheel(dir.path(), MEMBER, CONTENT), dir.path().join("onnxruntime-1.31.1-cp312-cp312-any.whl")).unwrap();
    wheel(dir.path(), MEMBER, b"another package");
    assert_eq!(p.install(Some(dir.path()), &mut |_| {}).unwrap().how, How::Download);
}
