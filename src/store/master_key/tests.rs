use super::*;
use crate::values::random::SecureRandom;

fn key() -> MasterKey {
    MasterKey::generate(&SecureRandom::default()).unwrap()
}

#[test]
fn a_written_key_reads_back_and_is_private_to_its_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys").join(FILE_NAME);
    let written = key();
    written.write_new(&path).unwrap();
    let read = MasterKey::read(&path).unwrap();
    assert_eq!((read.id(), read.key.reveal()), (written.id(), written.key.reveal()));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn settling_a_key_removes_the_remainders_of_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let source = MasterKeySource::Folder(folder.path().to_owned());
    let (old, new) = (key(), key());
    old.write_new(&source.path()).unwrap();
    source.add(&new).unwrap();
    old.write_new(&source.named_path(old.id().as_str()).unwrap()).unwrap();
    // Leaves the files of a crash between linking the file and removing its temporary name.
    for crashed in [&old, &new] {
        fs::write(crashed.unfinished(&source.path()), &crashed.text()[..30]).unwrap();
    }
    source.settle(&new, Aside::Kept).unwrap();
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, [format!("master-{}.key", old.id()), FILE_NAME.to_owned()]);
    assert_eq!(source.read().unwrap().id(), new.id());
}

#[test]
fn no_file_is_removed_or_replaced_that_carnet_did_not_write() {
    let folder = tempfile::tempdir().unwrap();
    let source = MasterKeySource::Folder(folder.path().to_owned());
    let (old, new) = (key(), key());
    source.add(&new).unwrap();
    // The names of a temporary file, of the old key and of the key in use.
    let theirs =
        [new.unfinished(&source.path()), source.named_path(old.id().as_str()).unwrap(), source.path()];
    for path in &theirs {
        fs::write(path, "somebody's").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(source.settle(&new, Aside::Leaked).is_err());
    fs::remove_file(source.path()).unwrap();
    old.write_new(&source.path()).unwrap();
    assert!(source.settle(&new, Aside::Leaked).is_err());
    assert_eq!(source.read().unwrap().id(), old.id(), "the old key is lost");
    for path in &theirs[..2] {
        assert_eq!(fs::read_to_string(path).unwrap(), "somebody's", "{}", path.display());
    }
}

#[test]
fn a_leaked_key_stays_but_is_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let source = MasterKeySource::Folder(folder.path().to_owned());
    let (oldest, old, new) = (key(), key(), key());
    oldest.write_new(&source.path()).unwrap();
    for (next, aside) in [(&old, Aside::Kept), (&new, Aside::Leaked)] {
        source.add(next).unwrap();
        source.settle(next, aside).unwrap();
    }
    for leaked in [&oldest, &old] {
        assert_eq!(source.find(leaked.id().as_str()).unwrap().id(), new.id());
        let kept = folder.path().join(format!("leaked-{}.key", leaked.id()));
        assert_eq!(MasterKey::read(&kept).unwrap().id(), leaked.id());
    }
    // Settling again, as after a crash, succeeds.
    source.settle(&new, Aside::Leaked).unwrap();
}

#[test]
fn an_existing_key_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    let first = key();
    first.write_new(&path).unwrap();
    assert!(key().write_new(&path).is_err());
    assert_eq!(MasterKey::read(&path).unwrap().id(), first.id());
}

#[test]
fn a_provided_file_may_be_readable_only_by_its_owner_and_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("provided");
    key().write_new(&path).unwrap();
    for (mode, accepted) in [(0o400, true), (0o440, true), (0o640, true), (0o660, false), (0o444, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(MasterKeySource::File(path.clone()).read().is_ok(), accepted, "{mode:o}");
    }
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE_NAME);
    key().write_new(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(MasterKey::read(&path), Err(MasterKeyError::Permissions { mode: 0o640, .. })));
}

#[test]
fn a_file_without_a_master_key_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("empty", String::new()),
        ("prose", "not a key\n".to_owned()),
        ("short", format!("{PREFIX}AAAA\n")),
        ("large", "A".repeat(1 << 20)),
    ] {
        let path = folder.path().join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .unwrap()
            .write_all(content.as_bytes())
            .unwrap();
        assert!(matches!(MasterKey::read(&path), Err(MasterKeyError::Malformed(_))), "{name}");
    }
    assert!(matches!(MasterKey::read(&folder.path().join("absent")), Err(MasterKeyError::Missing(_))));
}

#[test]
fn debug_tells_the_id_only() {
    assert!(format!("{:?}", key()).contains("SecretBytes(…)"));
}
