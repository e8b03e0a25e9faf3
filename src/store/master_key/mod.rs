//! The master key: 32 random bytes in a file of their own, which seal every private key at rest.
//!
//! It is made only together with a new database and never replaced; losing it loses the issuer's
//! keys, and whoever has it together with the database is the issuer.

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
    /// [`MasterKeyError::Io`] when a file cannot be written; another one when what stands in the way is no key that
    /// carnet can read, and so is not replaced.
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

    /// After a leak no earlier key of the folder is to be found any more: each gets a name that says so. What is no
    /// master key stays untouched.
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

    /// A name of the folder that is the same for every process of this machine that uses it, and for no other
    /// folder: by the kernel's boot and the file system's numbers.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let Self::Folder(folder) = self else { return None };
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let folder = fs::metadata(folder).ok()?;
        Some(format!("folder {} {:x} {:x}", boot.trim(), folder.dev(), folder.ino()))
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

    /// The identifiers of the keys that can be had at this moment. For a folder, a name of the folder itself is
    /// among them: whatever key is put there can be had.
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

/// What becomes of the key that was in use before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// It stays where it is found by its identifier.
    Kept,
    /// It has leaked: it stays, under a name by which it is never found.
    Leaked,
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
    /// copy of the key, that nobody would know of. Best effort, as the folder may be somebody else's. A file that
    /// holds anything else stays.
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

    /// The content of the key's file.
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
        // A crash may have left it behind.
        self.try_remove_unfinished(&unfinished)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        let written = (|| {
            file.write_all(self.text().as_bytes())?;
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
mod tests;
