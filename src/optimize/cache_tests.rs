//! Tests: what is kept is found again, by those that it is true for.

use super::*;

fn host(model: &str) -> Host {
    Host { model: model.into(), cores: 2, ..Host::default() }
}

fn entry(seconds: f64) -> Entry {
    Entry { what: "MatMul".into(), timing: Timing { seconds, spread: 0.01, runs: 9 } }
}

#[test]
fn times_are_kept_and_those_of_others_too() {
    let folder = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (Cache::open(folder.path(), &host("m")), Cache::open(folder.path(), &host("m")));
    a.put("one".into(), entry(1.5));
    b.put("two".into(), entry(2.5));
    a.save().unwrap();
    b.save().unwrap();
    assert_eq!((b.get("one").unwrap().seconds, b.len()), (1.5, 2));
    let again = Cache::open(folder.path(), &host("m"));
    assert_eq!((again.get("one"), again.get("two")), (Some(entry(1.5).timing), Some(entry(2.5).timing)));
    assert!(Cache::open(folder.path(), &host("other")).is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_measured_again() {
    let check = |content: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut cache = Cache::open(folder.path(), &host("m"));
        std::fs::write(&cache.path, content).unwrap();
        assert!(Cache::open(folder.path(), &host("m")).is_empty(), "{content}");
        cache.put("one".into(), entry(1.0));
        cache.save().unwrap();
        assert_eq!(Cache::open(folder.path(), &host("m")).len(), 1, "{content}");
    };
    check("");
    check("{\"version\":1,\"machine\"");
    check("{\"version\":99,\"machine\":\"m\",\"entries\":{}}");
    check("{\"version\":1,\"machine\":\"another\",\"entries\":{}}");
    let machine = machine_id(&host("m"));
    check(&format!(r#"{{"version":1,"machine":"{machine}","entries":{{"k":{{"what":"","seconds":-1,"spread":0,"runs":1}}}}}}"#));
}

/// Fields behind their lengths: moving a letter from one to the next makes another key. The digest is that of `printf '\1\0\0\0\0\0\0\0a' | sha256sum`.
#[test]
fn keys_keep_fields_apart() {
    assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    assert_eq!(key(&["a"]), "ae6121c88ba555f64c3d812123eb799d128015541f850c5e9bf1d54c08ad8481");
}
