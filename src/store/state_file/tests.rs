use super::*;
use crate::states::{Contents, State, Table};
use crate::store::master_key::{MasterKey, MasterKeySource};
use crate::values::random::SecureRandom;

struct World {
    folder: tempfile::TempDir,
    key: MasterKey,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = MasterKey::generate(&SecureRandom::default()).unwrap();
        key.write_new(&folder.path().join("keys/master.key")).unwrap();
        Self { folder, key }
    }

    fn file(&self) -> StateFile {
        let keys = self.folder.path().join("keys");
        let source = MasterKeys { usual: MasterKeySource::Folder(keys.clone()), next: None };
        StateFile::new(keys.join(FILE_NAME), source)
    }

    fn sealer(&self) -> Sealer {
        Sealer::new(&self.key).unwrap()
    }

    fn raise(&self, known: &Known) -> Result<(), StateFileError> {
        self.file().raise(&id(), known, &self.sealer(), None)
    }

    fn read(&self) -> Result<Option<StateRecord>, StateFileError> {
        self.file().read(&self.sealer())
    }

    fn known(&self) -> Known {
        self.read().unwrap().unwrap().get(&id()).unwrap().clone()
    }
}

fn id() -> DatabaseId {
    DatabaseId::of(b"this one")
}

fn at(n: i64) -> Known {
    let first = State::first(&id(), Contents::default().digest());
    let state = first.next_above(n - 1, &id(), first.digest).point();
    Known { state, revoked: Vec::new(), unproved: false, accepted: None }
}

fn kid(number: u8) -> Kid {
    let mut contents = Contents::default();
    contents.set(Table::Grants, &number.to_string(), Some(String::new()));
    contents.digest().to_string().parse().unwrap()
}

#[test]
fn no_link_is_followed_and_no_pipe_is_waited_for() {
    let world = World::new();
    let victim = world.folder.path().join("victim");
    fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, world.file().beside("new")).unwrap();
    world.raise(&at(1)).unwrap();
    assert_eq!((fs::read_to_string(&victim).unwrap().as_str(), world.known()), ("kept", at(1)));

    let lock = world.file().beside("lock");
    fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&victim, &lock).unwrap();
    assert!(world.raise(&at(2)).is_err());
    fs::remove_file(&lock).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &lock,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert!(world.raise(&at(2)).is_err());
    assert_eq!(world.known(), at(1));
}

#[test]
fn a_state_is_raised_and_never_lowered() {
    let world = World::new();
    assert_eq!(world.read(), Ok(None));
    for (n, expected) in [(3, 3), (2, 3), (7, 7), (7, 7), (5, 7)] {
        world.raise(&at(n)).unwrap();
        assert_eq!(world.known(), at(expected), "{n}");
    }
    assert_eq!(world.read().unwrap().unwrap().get(&DatabaseId::of(b"another")), None);
}

#[test]
fn a_revoked_key_stays_named_even_if_a_state_does_not_name_it() {
    let world = World::new();
    world.raise(&Known { revoked: vec![kid(1), kid(2)], ..at(3) }).unwrap();
    world.raise(&Known { revoked: vec![kid(3), kid(2)], ..at(4) }).unwrap();
    world.raise(&at(5)).unwrap();
    assert_eq!(world.known().revoked, [kid(1), kid(2), kid(3)]);
}

#[test]
fn the_mark_of_an_unproved_state_goes_only_with_a_proved_one() {
    let world = World::new();
    let unproved = |n| Known { unproved: true, ..at(n) };
    for (raised, is_unproved) in [
        (unproved(3), true),
        (at(2), true),
        (unproved(4), true),
        (at(4), false),
        (unproved(4), false),
        (at(5), false),
        (unproved(6), true),
        (at(7), false),
    ] {
        world.raise(&raised).unwrap();
        assert_eq!(world.known().unproved, is_unproved, "{raised:?}");
    }
    world.raise(&Known { accepted: Some(8), ..at(8) }).unwrap();
    world.raise(&at(9)).unwrap();
    assert_eq!(world.known().accepted, Some(8));
}

#[test]
fn a_record_without_marks_is_read_and_one_without_them_is_written_as_before() {
    let known = serde_json::to_value(at(3)).unwrap();
    assert_eq!(known.as_object().unwrap().len(), 2);
    assert_eq!(serde_json::from_value::<Known>(known).unwrap(), at(3));
}

#[test]
fn a_changed_byte_is_refused_and_the_file_is_not_replaced() {
    let world = World::new();
    world.raise(&Known { revoked: vec![kid(1)], ..at(3) }).unwrap();
    let path = world.file().path().to_owned();
    let written = fs::read(&path).unwrap();
    for position in 0..written.len() {
        let mut changed = written.clone();
        changed[position] = if changed[position] == b'3' { b'4' } else { b'3' };
        fs::write(&path, &changed).unwrap();
        assert!(world.read().is_err(), "{position}");
    }
    for changed in [Vec::new(), written[..written.len() / 2].to_vec(), vec![0xff; 100]] {
        fs::write(&path, &changed).unwrap();
        assert!(world.raise(&at(9)).is_err());
        assert_eq!(fs::read(&path).unwrap(), changed);
    }
}

#[test]
fn a_file_of_another_master_key_is_refused_and_that_key_is_named() {
    let (ours, theirs) = (World::new(), World::new());
    theirs.raise(&at(3)).unwrap();
    fs::copy(theirs.file().path(), ours.file().path()).unwrap();
    let error = ours.read().unwrap_err();
    assert!(
        matches!(&error, StateFileError::NoKey { needed, .. } if needed == theirs.key.id().as_str()),
        "{error}"
    );
    assert!(ours.raise(&at(9)).is_err());
}

#[test]
fn while_the_master_key_changes_the_file_can_be_read_with_either() {
    let world = World::new();
    world.raise(&at(3)).unwrap();
    let new = MasterKey::generate(&SecureRandom::default()).unwrap();
    let (before, after) = (world.sealer(), Sealer::new(&new).unwrap());
    world.file().prepare(&before, &after).unwrap();
    let nowhere = MasterKeys { usual: MasterKeySource::File("/nowhere".into()), next: None };
    let file = StateFile::new(world.file().path().to_owned(), nowhere);
    assert_eq!(file.read(&before), file.read(&after));
    world.file().raise(&id(), &at(4), &after, Some(world.key.id().as_str())).unwrap();
    assert!(matches!(file.read(&before), Err(StateFileError::NoKey { .. })));
    assert_eq!(file.read(&after).unwrap().unwrap().get(&id()), Some(&at(4)));
}

#[test]
fn a_folder_instead_of_the_state_file_is_refused() {
    let world = World::new();
    fs::create_dir(world.file().path()).unwrap();
    assert!(matches!(world.read(), Err(StateFileError::Io { .. })));
}

#[test]
fn writers_at_the_same_time_end_at_the_latest_state() {
    let world = World::new();
    std::thread::scope(|scope| {
        for n in 1..=16 {
            let world = &world;
            scope.spawn(move || world.raise(&at(n)).unwrap());
        }
    });
    assert_eq!(world.known(), at(16));
}
