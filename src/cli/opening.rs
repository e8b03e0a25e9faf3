//! The options that select the issuer of a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use crate::access::grants::Grants;
use crate::carnet::{Carnet, Config, MasterKeySource, OpenError};
use crate::clock_watch::ClockWatch;
use crate::states::StatePoint;
use crate::store::database_url::DatabaseUrl;
use crate::store::state_file;
use crate::store::{IfMissing, Store, Trusted, Unlocked};
use crate::values::actor::Actor;
use crate::values::clock::SystemClock;
use crate::values::issuer_url::IssuerUrl;
use crate::values::random::SecureRandom;
use crate::values::regular_file;

/// The maximum length of the file of users.
const LONGEST_USERS: usize = 16 << 20;

/// The issuer to work on.
#[derive(Debug, Args)]
#[command(next_help_heading = super::output::COMMON_OPTIONS)]
pub(super) struct OpeningOptions {
    /// The database
    #[arg(
        long,
        global = true,
        env = "CARNET_DATABASE",
        value_name = "URL",
        default_value = "sqlite:carnet.db"
    )]
    database: DatabaseUrl,
    /// The folder of the master key, which seals private keys at rest
    #[arg(long, global = true, env = "CARNET_KEYS_DIR", value_name = "DIR", default_value = "keys")]
    keys_dir: PathBuf,
    /// The file of a master key that the operator provides; replaces the master key in --keys-dir
    #[arg(long, global = true, env = "CARNET_MASTER_KEY_FILE", value_name = "FILE", hide_env_values = true)]
    master_key_file: Option<PathBuf>,
    /// The file that remembers the database's last state [default: `state` in --keys-dir]
    #[arg(long, global = true, env = "CARNET_STATE_FILE", value_name = "FILE")]
    state_file: Option<PathBuf>,
    /// The minimum state of the database, as `carnet database show` prints it, for a host without a state
    /// file
    #[arg(long, global = true, env = "CARNET_STATE_AT_LEAST", value_name = "N:HEAD")]
    state_at_least: Option<StatePoint>,
    /// The file of the next master key, if it exists already
    #[arg(
        long,
        global = true,
        env = "CARNET_NEXT_MASTER_KEY_FILE",
        value_name = "FILE",
        hide_env_values = true
    )]
    next_master_key_file: Option<PathBuf>,
    /// The issuer URL: required at the first start; later it must be the same one
    #[arg(long, global = true, env = "CARNET_ISSUER", value_name = "URL")]
    pub(super) issuer: Option<IssuerUrl>,
    /// A flag on the command line that only applies to a local database.
    #[arg(skip)]
    pub(super) local_flag: Option<&'static str>,
}

impl OpeningOptions {
    /// Returns the configuration. Nothing is created when it is opened.
    pub(super) fn config(self) -> Config {
        // If the operator provides the master key and the keys folder does not exist, there is no default
        // state file.
        let is_wanted = self.master_key_file.is_none() || self.keys_dir.is_dir();
        let usual_file = is_wanted.then(|| self.keys_dir.join(state_file::FILE_NAME));
        let state_file = self.state_file.or(usual_file);
        let master_key = match self.master_key_file {
            Some(file) => MasterKeySource::File(file),
            None => MasterKeySource::Folder(self.keys_dir),
        };
        Config {
            issuer: self.issuer,
            actor: actor(),
            state_file,
            state_at_least: self.state_at_least,
            next_master_key: self.next_master_key_file,
            ..Config::new(self.database, master_key)
        }
    }

    /// Opens an existing issuer.
    pub(super) async fn open(self) -> Result<Carnet, OpenError> {
        Carnet::open(self.config()).await
    }

    /// Opens an existing database, to read rows that need no keys.
    pub(super) async fn locked(self) -> Result<Store, OpenError> {
        self.config().open_store().await
    }

    /// Opens an existing database, to examine it in any state.
    pub(super) async fn unlocked(self) -> Result<Unlocked, OpenError> {
        let config = self.config();
        config.unlock(&config.open_store().await?).await
    }

    /// Opens an existing database, for audited changes that need no signing keys.
    pub(super) async fn trusted(self) -> Result<Trusted, OpenError> {
        self.config().open_trusted().await
    }

    /// Opens a database for changes that need no signing keys, and creates it if it does not exist. An issuer
    /// URL that is given becomes the database's, or must equal it.
    pub(super) async fn trusted_or_made(self) -> Result<Trusted, OpenError> {
        let config = Config { if_missing: IfMissing::Create, ..self.config() };
        match config.issuer {
            Some(_) => Carnet::open(config).await.map(|carnet| carnet.store().clone()),
            None => config.open_trusted().await,
        }
    }
}

/// Returns the grants of `store`, for a command.
pub(super) fn grants(store: Trusted) -> Grants {
    let watch = Arc::new(ClockWatch::new(Arc::new(SystemClock::new())));
    Grants::new(store, watch, Arc::new(SecureRandom::default()))
}

/// Returns the user at the command line, as the audit log names them: by the system's name for their user ID,
/// or by the ID if it has no name. Environment variables are ignored, because the user controls them.
pub(super) fn actor() -> Actor {
    let uid = rustix::process::getuid().as_raw();
    Actor::local(&user_name(Path::new("/etc/passwd"), uid).unwrap_or_else(|| uid.to_string()))
}

/// Returns the name of user `uid` in a passwd file. The file is parsed here, because the system's lookup may
/// contact other machines and needs C. Users of a directory service are recorded by their ID.
fn user_name(file: &Path, uid: u32) -> Option<String> {
    let content = regular_file::read(file, LONGEST_USERS).ok()?;
    let text = std::str::from_utf8(&content).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (number.parse() == Ok(uid) && !name.is_empty()).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_named_by_their_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            "root:x:0:0:root:/root:/bin/sh\n# note\n+\n:x:7::::\nbroken:x:eight\nci:x:1000:1000::/:\n",
        )
        .unwrap();
        let name = |uid| user_name(file.path(), uid);
        assert_eq!((name(0), name(1000)), (Some("root".to_owned()), Some("ci".to_owned())));
        assert_eq!((name(7), name(8), name(9)), (None, None, None));
        assert_eq!(user_name(Path::new("/nowhere"), 0), None);
    }
}
