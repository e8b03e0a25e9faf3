//! The options that say which issuer a command works on.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::actor::Actor;
use crate::carnet::{Carnet, Config, MasterKeySource, OpenError};
use crate::grants::Grants;
use crate::issuer_url::IssuerUrl;
use crate::store::database_url::DatabaseUrl;
use crate::store::{IfMissing, Store};

/// Which issuer to work on.
#[derive(Debug, Args)]
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
    /// The file of a master key that somebody else provides; takes the place of --keys-dir
    #[arg(long, global = true, env = "CARNET_MASTER_KEY_FILE", value_name = "FILE", hide_env_values = true)]
    master_key_file: Option<PathBuf>,
    /// The issuer URL: needed at the first start; later it must be the same one
    #[arg(long, global = true, env = "CARNET_ISSUER", value_name = "URL")]
    pub(super) issuer: Option<IssuerUrl>,
    /// A flag that stands on the command line and is for a local database.
    #[arg(skip)]
    pub(super) local_flag: Option<&'static str>,
}

impl OpeningOptions {
    /// What to open, without making anything.
    pub(super) fn config(self) -> Config {
        let master_key = match self.master_key_file {
            Some(file) => MasterKeySource::File(file),
            None => MasterKeySource::Folder(self.keys_dir),
        };
        Config { issuer: self.issuer, actor: actor(), ..Config::new(self.database, master_key) }
    }

    /// Opens an issuer that is there.
    pub(super) async fn open(self) -> Result<Carnet, OpenError> {
        Carnet::open(self.config()).await
    }

    /// Opens a database that is there, to read what needs no keys.
    pub(super) async fn open_store_to_read(self) -> Result<Store, OpenError> {
        Carnet::open_store_to_read(&self.config()).await
    }

    /// Opens a database that is there, for changes that need no signing keys; they are recorded.
    pub(super) async fn open_store(self) -> Result<Store, OpenError> {
        Carnet::open_store(&self.config()).await
    }

    /// Opens a database for changes that need no signing keys, and makes it if it is not there. An issuer URL that
    /// is given becomes, or has to be, the database's.
    pub(super) async fn open_or_make_store(self) -> Result<Store, OpenError> {
        let config = Config { if_missing: IfMissing::Create, ..self.config() };
        match config.issuer {
            Some(_) => Carnet::open(config).await.map(|carnet| carnet.store().clone()),
            None => Carnet::open_store(&config).await,
        }
    }

    /// Opens the grants of a database that is there.
    pub(super) async fn open_grants(self) -> Result<Arc<Grants>, OpenError> {
        Carnet::open_grants(&self.config()).await.map(Arc::new)
    }

    /// Opens the grants of a database, which is made as by [`OpeningOptions::open_or_make_store`].
    pub(super) async fn open_or_make_grants(self) -> Result<Arc<Grants>, OpenError> {
        let config = Config { if_missing: IfMissing::Create, ..self.config() };
        match config.issuer {
            Some(_) => Carnet::open(config).await.map(|carnet| Arc::clone(carnet.grants())),
            None => Carnet::open_grants(&config).await.map(Arc::new),
        }
    }
}

/// Who is at the command line: the name that the session gives, or the number of the user.
pub(super) fn actor() -> Actor {
    use std::os::unix::fs::MetadataExt as _;
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let numbered = || std::fs::metadata("/proc/self").map(|process| process.uid().to_string());
    Actor::local(&named.or_else(|| numbered().ok()).unwrap_or_default())
}
