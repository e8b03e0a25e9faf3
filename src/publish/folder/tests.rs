use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::sync::Arc;

use super::*;
use crate::jose::Algorithm;
use crate::jose::jwk::PublicKey;
use crate::oidc::metadata::Documents;
use crate::publish::{Edition, Mode, PublishError, Published, publish};
use crate::store::sealed::RowMac;
use crate::values::secret::SecretBytes;

fn edition(keys: u8) -> Edition {
    let issuer: crate::values::issuer_url::IssuerUrl = "https://issuer.example".parse().unwrap();
    let key = PublicKey::P256 { x: [keys; 32], y: [1; 32] };
    let documents = Documents::new(&issuer, [&key], &Algorithm::ALL, Duration::from_secs(300)).unwrap();
    let generation = format!("{keys}-0").parse().unwrap();
    let mac = RowMac::new(&SecretBytes::new(vec![1; 32]));
    Edition::new(issuer, generation, Arc::new(documents), vec![key.thumbprint()], mac)
}

/// A folder that does not exist yet, in a parent that does.
struct TestFolder {
    _above: tempfile::TempDir,
    root: PathBuf,
    target: FolderTarget,
}

impl TestFolder {
    fn new() -> Self {
        let above = tempfile::tempdir().unwrap();
        let root = above.path().join("www");
        Self { target: FolderTarget::new(root.clone()), root, _above: above }
    }

    fn path(&self, name: DocumentName) -> PathBuf {
        self.root.join(name.path())
    }

    async fn publish(&self, keys: u8) -> Result<Published, PublishError> {
        publish(&self.target, &edition(keys), Mode::First).await
    }

    async fn stored(&self, name: DocumentName) -> Option<Stored> {
        self.target.read(name, edition(1).document(name)).await.unwrap()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn documents_are_published_readable_for_all_users_and_recognized_again() {
    let place = TestFolder::new();
    assert_eq!(place.stored(DocumentName::Jwks).await, None);
    place.publish(1).await.unwrap();
    for name in DocumentName::ALL {
        assert_eq!(fs::read(place.path(name)).unwrap(), edition(1).document(name).body);
        assert_eq!(mode(&place.path(name)), 0o644);
        let stored = place.stored(name).await.unwrap();
        assert_eq!(stored.label, Some(edition(1).label_at(place.target.url(), name, None)));
        assert!(stored.headers_fit);
    }
    assert_eq!(mode(&place.root), 0o755);
    assert_eq!(mode(&place.root.join(".well-known")), 0o755);
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        names
    };
    assert_eq!(names(&place.root), [".carnet-publication.json", ".carnet-publication.lock", ".well-known"]);
    assert_eq!(names(&place.root.join(".well-known")), ["jwks", "openid-configuration"]);

    assert_eq!(place.publish(1).await, Ok(Published::default()));
}

#[tokio::test]
async fn a_foreign_document_is_not_taken_for_carnets() {
    let place = TestFolder::new();
    place.publish(1).await.unwrap();
    fs::write(place.path(DocumentName::Jwks), "{}").unwrap();
    let stored = place.stored(DocumentName::Jwks).await.unwrap();
    assert_eq!((stored.body, stored.label), (Bytes::from_static(b"{}"), None));
    place.publish(2).await.unwrap_err();
    assert_eq!(fs::read(place.path(DocumentName::Jwks)).unwrap(), b"{}");
}

#[tokio::test]
async fn a_document_that_is_not_readable_for_all_users_is_written_again() {
    let place = TestFolder::new();
    place.publish(1).await.unwrap();
    let path = place.path(DocumentName::Discovery);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let published = place.publish(1).await.unwrap();
    assert_eq!(published.written, [DocumentName::Discovery]);
    assert_eq!(mode(&path), 0o644);
}

#[tokio::test]
async fn a_write_is_refused_once_the_document_is_another_one() {
    let place = TestFolder::new();
    place.publish(1).await.unwrap();
    let name = DocumentName::Jwks;
    let seen = place.stored(name).await.unwrap().version;
    place.publish(2).await.unwrap();

    let older = edition(1);
    let label = older.label_at(place.target.url(), name, None);
    let write = |over| place.target.write(name, older.document(name), &label, over);
    for over in [None, Some(&seen)] {
        assert_eq!(write(over).await, Err(TargetError::Changed(name)));
    }
    assert_eq!(fs::read(place.path(name)).unwrap(), edition(2).document(name).body);
    write(Some(&place.stored(name).await.unwrap().version)).await.unwrap();
}

#[tokio::test]
async fn every_remainder_of_a_crash_is_recognized() {
    let place = TestFolder::new();
    place.publish(1).await.unwrap();
    // A crash after the labels were written, with half of the document in its temporary file.
    let mut labels = Labels::read(&place.root.join(LABELS)).unwrap();
    let (old, new) = (edition(1), edition(2));
    let name = DocumentName::Jwks;
    let label = |edition: &Edition| edition.label_at(place.target.url(), name, None);
    labels.expect(name, Some(&old.document(name).body), &new.document(name).body, &label(&new));
    fs::write(place.root.join(LABELS), labels.to_json().unwrap()).unwrap();
    fs::write(place.root.join(".well-known/.jwks.carnet-unfinished"), "{\"ke").unwrap();

    assert_eq!(place.stored(name).await.unwrap().label, Some(label(&old)));
    place.publish(2).await.unwrap();
    assert_eq!(place.stored(name).await.unwrap().label, Some(label(&new)));
    assert!(!place.root.join(".well-known/.jwks.carnet-unfinished").exists());
}

#[tokio::test]
async fn nothing_is_written_through_a_link_or_over_a_folder() {
    for (what, put) in [
        ("a symbolic link", (|path: &Path| symlink("/dev/null", path).unwrap()) as fn(&Path)),
        ("a folder", |path| fs::create_dir(path).unwrap()),
    ] {
        for hostile in [".well-known/jwks", LABELS, LOCK] {
            let place = TestFolder::new();
            fs::create_dir_all(place.root.join(".well-known")).unwrap();
            put(&place.root.join(hostile));
            let error = place.publish(1).await.unwrap_err().to_string();
            assert!(error.contains(&format!("{hostile} is {what}, not a file")), "{error}");
            assert!(!place.path(DocumentName::Discovery).exists(), "{hostile} {what}");
        }
    }
    let place = TestFolder::new();
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir(&place.root).unwrap();
    symlink(elsewhere.path(), place.root.join(".well-known")).unwrap();
    let error = place.publish(1).await.unwrap_err().to_string();
    assert!(error.contains(".well-known is a symbolic link, not a folder"), "{error}");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_document_that_is_too_long_is_foreign() {
    let place = TestFolder::new();
    place.publish(1).await.unwrap();
    let path = place.path(DocumentName::Jwks);
    fs::write(&path, vec![b' '; 10_000_000]).unwrap();
    let stored = place.stored(DocumentName::Jwks).await.unwrap();
    assert_eq!((stored.body.len(), stored.label), (0, None));
    publish(&place.target, &edition(1), Mode::Update).await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), edition(1).documents.jwks.body);
}

#[tokio::test]
async fn unreadable_labels_count_as_absent() {
    for text in
        ["", "null", "{\"documents\":7}", "{\"documents\":{\".well-known/jwks\":[{\"sha256\":\"\"}]}}"]
    {
        let place = TestFolder::new();
        place.publish(1).await.unwrap();
        fs::write(place.root.join(LABELS), text).unwrap();
        assert_eq!(place.stored(DocumentName::Jwks).await.unwrap().label, None, "{text}");
        // Labelling the same text again loses nothing.
        place.publish(1).await.unwrap();
        let label = edition(1).label_at(place.target.url(), DocumentName::Jwks, None);
        assert_eq!(place.stored(DocumentName::Jwks).await.unwrap().label, Some(label));
    }
}

#[tokio::test]
async fn a_folder_below_a_missing_one_is_not_created() {
    let place = TestFolder::new();
    let target = FolderTarget::new(place.root.join("a"));
    let error = publish(&target, &edition(1), Mode::First).await.unwrap_err().to_string();
    assert!(error.contains("www/a cannot be made: No such file or directory"), "{error}");
    assert!(!place.root.exists());
}

#[tokio::test]
async fn many_writers_at_once_leave_the_newest() {
    let place = TestFolder::new();
    let writers: Vec<_> = (1..=8)
        .map(|keys| {
            let target = FolderTarget::new(place.root.clone());
            tokio::spawn(async move { publish(&target, &edition(keys), Mode::First).await })
        })
        .collect();
    for writer in writers {
        // A publisher of an older state may come too late, or lose the race too often.
        let _ = writer.await.unwrap();
    }
    place.publish(8).await.unwrap();
    for name in DocumentName::ALL {
        let stored = place.stored(name).await.unwrap();
        assert_eq!(stored.label, Some(edition(8).label_at(place.target.url(), name, None)));
        assert_eq!(stored.body, edition(8).document(name).body);
    }
}
