//! The name of a database as users write it: `sqlite:carnet.db`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The name of the database to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseUrl(PathBuf);

/// The text does not name a database that carnet can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// The text has an unknown scheme.
    #[error("a database is named `sqlite:PATH`, such as sqlite:carnet.db")]
    UnknownScheme,
    /// The text names no file.
    #[error(
        "the path after `sqlite:` is empty, or names a database in memory: name a file, because keys must \
         survive a restart"
    )]
    NoFile,
    /// Parameters follow the path.
    #[error("`sqlite:PATH` takes no parameters after `?`")]
    Parameters,
    /// The text names a PostgreSQL database, which this version does not support.
    #[error("this version of carnet keeps its database in SQLite only: use sqlite:PATH")]
    PostgreSql,
}

impl DatabaseUrl {
    /// Returns the path of the database file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl DatabaseUrl {
    /// Returns the size of the database file and its write-ahead log in bytes; `None` if the file cannot be
    /// inspected.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let size = |path: &Path| std::fs::metadata(path).ok().map(|metadata| metadata.len());
        let mut log = self.0.clone().into_os_string();
        log.push("-wal");
        Some(size(&self.0)? + size(Path::new(&log)).unwrap_or_default())
    }
}

impl From<PathBuf> for DatabaseUrl {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("postgres:") || text.starts_with("postgresql:") {
            return Err(DatabaseUrlError::PostgreSql);
        }
        let path = text.strip_prefix("sqlite:").ok_or(DatabaseUrlError::UnknownScheme)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        match path {
            "" | ":memory:" => Err(DatabaseUrlError::NoFile),
            _ if path.contains('?') => Err(DatabaseUrlError::Parameters),
            _ => Ok(Self(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_databases() {
        for (text, expected) in [
            ("sqlite:carnet.db", Ok("carnet.db")),
            ("sqlite:/var/lib/carnet/carnet.db", Ok("/var/lib/carnet/carnet.db")),
            ("sqlite:///var/lib/carnet.db", Ok("/var/lib/carnet.db")),
            ("sqlite:", Err(DatabaseUrlError::NoFile)),
            ("sqlite::memory:", Err(DatabaseUrlError::NoFile)),
            ("sqlite:a.db?mode=ro", Err(DatabaseUrlError::Parameters)),
            ("carnet.db", Err(DatabaseUrlError::UnknownScheme)),
            ("postgres://localhost/carnet", Err(DatabaseUrlError::PostgreSql)),
        ] {
            let parsed = text.parse::<DatabaseUrl>();
            assert_eq!(parsed, expected.map(|path| DatabaseUrl(path.into())), "{text}");
        }
    }
}
