//! The master key: 32 random bytes in a file of their own, which seal every private key at rest.
//!
//! carnet generates a master key only for a new database or to replace one that is in use, and never
//! overwrites an existing file. Losing it loses the issuer's keys. A person who has it together with the
//! database can act as the issuer.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::values::random::{Random, RandomnessUnavailable};
use crate::values::regular_file;
use crate::values::secret::SecretBytes;

/// The file name of the master key in the keys folder.
pub const FILE_NAME: &str = "master.key";
const PREFIX: &str = "carnet-master-key-1:";
const KEY_LEN: usize = 32;
/// The maximum size of a master key file. A valid one has 64 bytes; anything much larger is some other file.
const LONGEST_FILE: usize = 1024;
/// Permission bits that a file created by carnet must not have: only its owner may use it.
const OURS: u32 = 0o077;
/// Permission bits that a provided file must not have: its group may read it, and other users may do nothing.
const PROVIDED: u32 = 0o037;

/// The identifier of a master key. It reveals nothing about the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeyId(String);

impl MasterKeyId {
    /// Returns the identifier: 16 hexadecimal digits.
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

/// The location of the master key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MasterKeySource {
    /// A folder. `master.key` is created there together with a new database; `master-ID.key` is beside it
    /// while one key replaces another.
    Folder(PathBuf),
    /// A file that another system provides. carnet never creates it.
    File(PathBuf),
}

impl MasterKeySource {
    /// Returns the path of the key that is normally in use.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(FILE_NAME),
            Self::File(file) => file.clone(),
        }
    }

    /// Reads the key that is normally in use.
    ///
    /// A provided file may be readable by its group, because systemd and Kubernetes hand credentials to a
    /// service that is not root in that way.
    pub fn read(&self) -> Result<MasterKey, MasterKeyError> {
        match self {
            Self::Folder(_) => MasterKey::read(&self.path()),
            Self::File(file) => MasterKey::read_if(file, PROVIDED),
        }
    }

    /// Returns the key `id` or, if it is not found, the key that is normally in use.
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

    /// Stores `key` where [`MasterKeySource::find`] finds it by its identifier, beside the key in use. Does
    /// nothing for a provided file: its provider has to add the key.
    pub fn add(&self, key: &MasterKey) -> Result<(), MasterKeyError> {
        if self.find(key.id().as_str()).is_ok_and(|found| found.id() == key.id()) {
            return Ok(());
        }
        self.named_path(key.id().as_str()).map_or(Ok(()), |path| key.write_new(&path))
    }

    /// Makes `key` the folder's `master.key`. Keeps the previous key under its own name, because backups may
    /// need it. A crash at any point leaves both keys where they are found.
    ///
    /// # Errors
    ///
    /// [`MasterKeyError::Io`] if a file cannot be written; another error if carnet cannot read an existing
    /// file as a master key, which it therefore does not replace.
    pub fn settle(&self, key: &MasterKey, aside: Aside) -> Result<(), MasterKeyError> {
        let (path, Some(named)) = (self.path(), self.named_path(key.id().as_str())) else { return Ok(()) };
        key.remove_unfinished(&path);
        match MasterKey::read(&path) {
            Ok(usual) if usual.id() == key.id() => return self.set_leaked_aside(key, aside),
            Ok(usual) => self.add_under_its_name(&usual)?,
            Err(MasterKeyError::Missing(_)) => {}
            Err(unreadable) => return Err(unreadable),
        }
        let failed = |source| MasterKeyError::Io { path: path.clone(), action: "replaced", source };
        fs::rename(&named, &path).and_then(|()| sync_folder(&path)).map_err(failed)?;
        self.set_leaked_aside(key, aside)
    }

    fn add_under_its_name(&self, key: &MasterKey) -> Result<(), MasterKeyError> {
        let Some(path) = self.named_path(key.id().as_str()) else { return Ok(()) };
        match MasterKey::read(&path) {
            Ok(there) if there.id() == key.id() => key.remove_unfinished(&path),
            Ok(_) => return Err(MasterKeyError::Malformed(path)),
            Err(MasterKeyError::Missing(_)) => key.write_new(&path)?,
            Err(unreadable) => return Err(unreadable),
        }
        Ok(())
    }

    /// Renames every earlier key of the folder after a leak, so that none of them is found any more. The new
    /// name says that the key leaked. Leaves files that are not master keys untouched.
    fn set_leaked_aside(&self, current: &MasterKey, aside: Aside) -> Result<(), MasterKeyError> {
        let (Self::Folder(folder), Aside::Leaked) = (self, aside) else { return Ok(()) };
        let failed = |source| MasterKeyError::Io { path: folder.clone(), action: "set in order", source };
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Ok(key) = MasterKey::read(&path) else { continue };
            let id = key.id().as_str();
            if id == current.id().as_str() || self.named_path(id).as_ref() != Some(&path) {
                continue;
            }
            fs::rename(&path, folder.join(format!("leaked-{id}.key"))).map_err(failed)?;
        }
        sync_folder(&self.path()).map_err(failed)
    }

    /// Returns an identifier of the folder: the same for every process of this machine that uses the folder,
    /// and different for every other folder. It consists of the kernel's boot id and the file system's
    /// numbers.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let Self::Folder(folder) = self else { return None };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let folder = fs::metadata(folder).ok()?;
        Some(format!("folder {} {:x} {:x}", boot.trim(), folder.dev(), folder.ino()))
    }

    /// Returns the path at which the folder stores a key under its own name.
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

/// Every source from which this process can read master keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MasterKeys {
    /// The source of the key in use.
    pub usual: MasterKeySource,
    /// The file of the key that is to replace it. It may not exist yet.
    pub next: Option<PathBuf>,
}

impl MasterKeys {
    /// Returns the key `id` or, if it is not found, the key that is normally in use.
    pub fn find(&self, id: &str) -> Result<MasterKey, MasterKeyError> {
        self.get(id).map_or_else(|| self.usual.find(id), Ok)
    }

    /// Returns the key `id`, if one of the sources has it.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<MasterKey> {
        let next = || MasterKey::read_if(self.next.as_deref()?, PROVIDED).ok();
        let is_it = |key: &MasterKey| key.id().as_str() == id;
        self.usual.find(id).ok().filter(is_it).or_else(|| next().filter(is_it))
    }

    /// Returns the identifiers of the keys that can be read at this moment. For a folder, includes the
    /// identifier of the folder itself, because any key that is added there can be read.
    #[must_use]
    pub fn openable(&self) -> Vec<String> {
        let next = self.next.as_deref().and_then(|file| MasterKey::read_if(file, PROVIDED).ok());
        let keys = self.usual.read().ok().into_iter().chain(next);
        let mut ids: Vec<String> = keys.map(|key| key.id().to_string()).collect();
        ids.extend(self.usual.place());
        ids.sort();
        ids.dedup();
        ids
    }
}

/// The treatment of the key that was in use before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// Its identifier still finds it.
    Kept,
    /// It has leaked: it is kept under a name by which it is never found.
    Leaked,
}

/// The master key cannot be read or created.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The file does not exist, although a database that needs it does.
    #[error("the master key file {} does not exist", .0.display())]
    Missing(PathBuf),
    /// The file cannot be read or written.
    #[error("the master key file {} cannot be {action}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The action that failed: `read`, `made`, `replaced` or `set in order`.
        action: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file's permissions let other users read or write it.
    #[error("the master key file {} has mode {mode:04o}: other users can use it; run `chmod 600` on it, or \
             give the secret `defaultMode: 0400` if Kubernetes mounts it", .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The content is not a master key.
    #[error("the master key file {} does not hold a master key: one line, `{PREFIX}` and 43 characters of base64url", .0.display())]
    Malformed(PathBuf),
    /// There is no randomness to generate a key from.
    #[error(transparent)]
    Randomness(#[from] RandomnessUnavailable),
}

impl MasterKey {
    /// Generates a key.
    pub fn generate(random: &dyn Random) -> Result<Self, RandomnessUnavailable> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        random.fill(key.as_mut())?;
        Ok(Self::new(SecretBytes::new(key.to_vec())))
    }

    fn new(key: SecretBytes) -> Self {
        let id = derive(&key, b"carnet master key id");
        Self { id: MasterKeyId(id.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()), key }
    }

    /// Returns the key's identifier.
    #[must_use]
    pub fn id(&self) -> &MasterKeyId {
        &self.id
    }

    /// Derives the AES-256-GCM key. The master key itself encrypts nothing.
    pub(super) fn sealing_key(&self) -> SecretBytes {
        SecretBytes::new(derive(&self.key, b"carnet sealing key").as_ref().to_vec())
    }

    /// Derives the key of the state file's MAC. It depends on the master key alone: an attacker who has the
    /// database, even with every key in it, cannot forge that file.
    pub(super) fn state_file_key(&self) -> SecretBytes {
        SecretBytes::new(derive(&self.key, b"carnet state file key").as_ref().to_vec())
    }

    /// Reads the key at `path`, which must be private to its owner.
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

    /// Writes the key durably to a new file at `path` with mode 0600. Creates the folder with mode 0700 if
    /// needed. The file appears whole or not at all, and never replaces an existing one.
    pub fn write_new(&self, path: &Path) -> Result<(), MasterKeyError> {
        self.try_write_new(path).map_err(|source| MasterKeyError::Io {
            path: path.to_owned(),
            action: "made",
            source,
        })
    }

    /// Removes the temporary file that a crash during [`MasterKey::write_new`] may have left beside `path`:
    /// otherwise an unnoticed copy of the key would remain. Ignores failures, because the folder may belong
    /// to another user. Leaves a file with any other content.
    pub fn remove_unfinished(&self, path: &Path) {
        let _ = self.try_remove_unfinished(&self.unfinished(path));
    }

    fn try_remove_unfinished(&self, unfinished: &Path) -> io::Result<()> {
        let (file, metadata) = match regular_file::open(unfinished) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let there = regular_file::content(file, &metadata, LONGEST_FILE)?;
        if self.text().as_bytes().starts_with(&there) { remove_if_there(unfinished) } else { Ok(()) }
    }

    /// Returns the content of the key's file.
    fn text(&self) -> Zeroizing<String> {
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.key.reveal()));
        let mut text = Zeroizing::new(String::with_capacity(PREFIX.len() + encoded.len() + 1));
        text.push_str(PREFIX);
        text.push_str(&encoded);
        text.push('\n');
        text
    }

    fn unfinished(&self, path: &Path) -> PathBuf {
        folder_of(path).join(format!(".{FILE_NAME}.{}", self.id))
    }

    fn try_write_new(&self, path: &Path) -> io::Result<()> {
        let folder = folder_of(path);
        if !folder.exists() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let unfinished = self.unfinished(path);
        // A crash may have left an earlier one.
        self.try_remove_unfinished(&unfinished)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let written = (|| {
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            // Unlike a rename, a link fails if the name exists.
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

/// Makes changes to names in the folder of `path` durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    fs::File::open(folder_of(path))?.sync_all()
}

fn parse(text: &[u8]) -> Option<SecretBytes> {
    let encoded = text.trim_ascii().strip_prefix(PREFIX.as_bytes())?;
    let key = SecretBytes::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
    (key.reveal().len() == KEY_LEN).then_some(key)
}

/// Derives independent keys for independent uses: HKDF-Expand of RFC 5869 for one block. The master key is
/// uniformly random, so it needs no extract step.
fn derive(key: &SecretBytes, info: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.reveal()), &[info, &[1]].concat())
}

#[cfg(test)]
mod tests;
