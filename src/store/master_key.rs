//! The master key: 32 random bytes in a file of their own, which seal every private key at rest.
//!
//! It is made only together with a new database and never replaced; losing it loses the issuer's
//! keys, and whoever has it together with the database is the issuer.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::random::{Random, RandomnessUnavailable};
use crate::regular_file;
use crate::secret::SecretBytes;

/// The name of the master key inside the keys folder.
pub const FILE_NAME: &str = "master.key";
const PREFIX: &str = "carnet-master-key-1:";
const KEY_LEN: usize = 32;
/// A master key file is 64 bytes; anything much larger is some other file.
const LONGEST_FILE: usize = 1024;
/// Permissions that a file of ours must not give: none to anybody but its owner.
const OURS: u32 = 0o077;
/// Permissions that a provided file must not give: its group may read it, nobody else anything.
const PROVIDED: u32 = 0o037;

/// Names a master key without telling anything about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyId(String);

impl MasterKeyId {
    /// 16 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key that seals private keys at rest.
#[derive(Debug, Clone)]
pub struct MasterKey {
    id: MasterKeyId,
    key: SecretBytes,
}

/// Where the master key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKeySource {
    /// In this folder: `master.key`, made there together with a new database, or `master-ID.key`
    /// beside it while one takes the other's place.
    Folder(PathBuf),
    /// This file, which somebody else provides: never made.
    File(PathBuf),
}

impl MasterKeySource {
    /// The file that holds the key in the ordinary course of things.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(FILE_NAME),
            Self::File(file) => file.clone(),
        }
    }

    /// The key that is there in the ordinary course of things.
    ///
    /// # Errors
    ///
    /// See [`MasterKey::read`]. A file that somebody else provides may be readable by its group:
    /// that is how systemd and Kubernetes hand credentials to a service that is not root.
    pub fn read(&self) -> Result<MasterKey, MasterKeyError> {
        match self {
            Self::Folder(_) => MasterKey::read(&self.path()),
            Self::File(file) => MasterKey::read_if(file, PROVIDED),
        }
    }

    /// The key `id`, or whatever other key is there in its place.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError`] when there is no key at all, or one cannot be used.
    pub fn find(&self, id: &str) -> Result<MasterKey, MasterKeyError> {
        let usual = self.read();
        if usual.as_ref().is_ok_and(|key| key.id().as_str() == id) {
            return usual;
        }
        match self.named_path(id).map(|path| MasterKey::read(&path)) {
            Some(Ok(named)) if named.id().as_str() == id => Ok(named),
            _ => usual,
        }
    }

    /// Puts `key` where [`MasterKeySource::find`] finds it by its identifier, beside the one in use;
    /// for a file, its provider has to do that.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError::Io`] when it cannot be written.
    pub fn add(&self, key: &MasterKey) -> Result<(), MasterKeyError> {
        if self.find(key.id().as_str()).is_ok_and(|found| found.id() == key.id()) {
            return Ok(());
        }
        self.named_path(key.id().as_str()).map_or(Ok(()), |path| key.write_new(&path))
    }

    /// Makes `key` the folder's `master.key`. What stood there stays, under its own name: backups
    /// may need it. A crash at any point leaves both keys where they are found.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError::Io`] when a file cannot be written.
    pub fn settle(&self, key: &MasterKey) -> Result<(), MasterKeyError> {
        let (path, Some(named)) = (self.path(), self.named_path(key.id().as_str())) else { return Ok(()) };
        key.remove_unfinished(&path);
        if let Ok(usual) = MasterKey::read(&path) {
            if usual.id() == key.id() {
                return Ok(());
            }
            self.add_under_its_name(&usual)?;
        }
        let failed = |source| MasterKeyError::Io { path: path.clone(), action: "replaced", source };
        fs::rename(&named, &path).and_then(|()| sync_folder(&path)).map_err(failed)
    }

    fn add_under_its_name(&self, key: &MasterKey) -> Result<(), MasterKeyError> {
        match self.named_path(key.id().as_str()) {
            Some(path) if !path.exists() => key.write_new(&path),
            Some(path) => {
                key.remove_unfinished(&path);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Where the folder keeps a key under its own name.
    fn named_path(&self, id: &str) -> Option<PathBuf> {
        match self {
            // An identifier from the database must not lead out of the folder.
            Self::Folder(folder) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                Some(folder.join(format!("master-{id}.key")))
            }
            _ => None,
        }
    }
}

/// Every place where this process looks for master keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeys {
    /// The key in use.
    pub usual: MasterKeySource,
    /// The file of the key that is to take its place, which may not be there yet.
    pub next: Option<PathBuf>,
}

impl MasterKeys {
    /// The key `id`, or whatever other key is there in its place.
    ///
    /// # Errors
    ///
    /// As [`MasterKeySource::find`].
    pub fn find(&self, id: &str) -> Result<MasterKey, MasterKeyError> {
        self.get(id).map_or_else(|| self.usual.find(id), Ok)
    }

    /// The key `id`, if it can be had.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<MasterKey> {
        let next = || MasterKey::read_if(self.next.as_deref()?, PROVIDED).ok();
        let is_it = |key: &MasterKey| key.id().as_str() == id;
        self.usual.find(id).ok().filter(is_it).or_else(|| next().filter(is_it))
    }
}

/// The master key cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file does not exist, but a database that needs it does.
    #[error("the master key file {} does not exist", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read or made.
    #[error("the master key file {} cannot be {action}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What failed: `read` or `made`.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than its owner may read or write the file.
    #[error("the master key file {} has mode {mode:04o}: others than those who need it may use it; `chmod 600` it, or give the secret `defaultMode: 0400` where Kubernetes mounts it", .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is not a master key.
    #[error("the master key file {} does not hold a master key: one line, `{PREFIX}` and 43 characters of base64url", .0.display())]
    Malformed(PathBuf),
    /// No randomness to make one from.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
}

impl MasterKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// [`RandomnessUnavailable`], from the source.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomnessUnavailable> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        random.fill(key.as_mut())?;
        Ok(Self::new(SecretBytes::new(key.to_vec())))
    }

    fn new(key: SecretBytes) -> Self {
        let id = derive(&key, b"carnet master key id");
        Self { id: MasterKeyId(id.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()), key }
    }

    /// The key's name.
    #[must_use]
    pub fn id(&self) -> &MasterKeyId {
        &self.id
    }

    /// The AES-256-GCM key; the master key itself encrypts nothing.
    pub(super) fn sealing_key(&self) -> SecretBytes {
        SecretBytes::new(derive(&self.key, b"carnet sealing key").as_ref().to_vec())
    }

    /// The key of the state file's MAC. It depends on the master key alone, so that whoever has the database, even
    /// with every key in it, cannot write that file.
    pub(super) fn state_file_key(&self) -> SecretBytes {
        SecretBytes::new(derive(&self.key, b"carnet state file key").as_ref().to_vec())
    }

    /// Reads the key at `path`.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError`] when the file is missing, not private to its owner, or not a master key.
    pub fn read(path: &Path) -> Result<Self, MasterKeyError> {
        Self::read_if(path, OURS)
    }

    fn read_if(path: &Path, forbidden: u32) -> Result<Self, MasterKeyError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => MasterKeyError::Missing(path.to_owned()),
            _ => MasterKeyError::Io { path: path.to_owned(), action: "read", source },
        };
        let (file, metadata) = regular_file::open(path).map_err(failed)?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & forbidden != 0 {
            return Err(MasterKeyError::Permissions { path: path.to_owned(), mode });
        }
        let text = match regular_file::content(file, &metadata, LONGEST_FILE) {
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Err(MasterKeyError::Malformed(path.to_owned()));
            }
            read => read.map_err(failed)?,
        };
        parse(&text).map(Self::new).ok_or_else(|| MasterKeyError::Malformed(path.to_owned()))
    }

    /// Writes the key to a new file at `path`, mode 0600, durably, making the folder (0700) if needed.
    /// The file appears whole or not at all.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError::Io`]; an existing file is never replaced.
    pub fn write_new(&self, path: &Path) -> Result<(), MasterKeyError> {
        self.try_write_new(path).map_err(|source| MasterKeyError::Io {
            path: path.to_owned(),
            action: "made",
            source,
        })
    }

    /// Removes what a crash in the middle of [`MasterKey::write_new`] may have left beside `path`: another
    /// copy of the key, that nobody would know of. Best effort, as the folder may be somebody else's.
    pub fn remove_unfinished(&self, path: &Path) {
        let _ = remove_if_there(&self.unfinished(path));
    }

    fn unfinished(&self, path: &Path) -> PathBuf {
        folder_of(path).join(format!(".{FILE_NAME}.{}", self.id))
    }

    fn try_write_new(&self, path: &Path) -> io::Result<()> {
        let folder = folder_of(path);
        if !folder.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.key.reveal()));
        let unfinished = self.unfinished(path);
        // A crash may have left it behind; nobody else writes a key of this identifier.
        remove_if_there(&unfinished)?;
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
            file.write_all(PREFIX.as_bytes())?;
            file.write_all(encoded.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            // Unlike a rename, a link refuses to replace what is there.
            fs::hard_link(&unfinished, path)
        })();
        let removed = remove_if_there(&unfinished);
        written.and(removed)?;
        sync_folder(path)
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the names in a file's folder durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(folder_of(path))?.sync_all()
}

fn parse(text: &[u8]) -> Option<SecretBytes> {
    let encoded = text.trim_ascii().strip_prefix(PREFIX.as_bytes())?;
    let key = SecretBytes::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
    (key.reveal().len() == KEY_LEN).then_some(key)
}

/// HKDF-Expand of RFC 5869 for one block: independent keys for independent uses. The master key is
/// uniformly random, so nothing needs extracting first.
fn derive(key: &SecretBytes, info: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.reveal()), &[info, &[1]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SecureRandom;

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
    fn settling_a_key_removes_what_a_crash_left_of_it_and_of_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let source = MasterKeySource::Folder(folder.path().to_owned());
        let (old, new) = (key(), key());
        old.write_new(&source.path()).unwrap();
        source.add(&new).unwrap();
        old.write_new(&source.named_path(old.id().as_str()).unwrap()).unwrap();
        // As if each had died between linking the file and removing its temporary name.
        for crashed in [&old, &new] {
            fs::write(crashed.unfinished(&source.path()), "unfinished").unwrap();
        }
        source.settle(&new).unwrap();
        let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [format!("master-{}.key", old.id()), FILE_NAME.to_owned()]);
        assert_eq!(source.read().unwrap().id(), new.id());
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
    fn a_provided_file_may_be_readable_by_its_group_and_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("provided");
        key().write_new(&path).unwrap();
        for (mode, accepted) in [(0o400, true), (0o440, true), (0o640, true), (0o660, false), (0o444, false)]
        {
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
    fn what_is_not_a_master_key_is_refused() {
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
}
