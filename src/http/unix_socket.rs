//! A Unix socket's file: created, replaced and removed without ever affecting another file.
//!
//! This is written by hand: tokio binds a socket, but does not replace one that no server listens on, set its
//! mode before clients can connect, or remove only its own.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use super::listen_address::SocketMode;

/// The number of connections that can wait to be accepted, as for TCP.
const BACKLOG: u32 = 1024;

/// The server cannot listen on a Unix socket.
#[derive(Debug, thiserror::Error)]
pub enum UnixSocketError {
    /// A running server listens there.
    #[error("{} is in use by a running server", .0.display())]
    InUse(PathBuf),
    /// The path is something other than a socket, which stays.
    #[error("{} already exists and is not a socket; carnet does not remove it", .0.display())]
    NotASocket(PathBuf),
    /// The operating system refuses.
    #[error("{} cannot be created", .0.display())]
    Io(PathBuf, #[source] io::Error),
}

/// The file of a socket that this process listens on, removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode. Another server may have replaced the file.
    identity: (u64, u64),
}

/// Listens on `path`, to which only users with the permissions of `mode` can connect.
///
/// Replaces a socket that no process listens on. Two servers that start at the same time do not replace each
/// other's: each holds a lock on the folder while it checks and replaces.
pub(super) async fn bind(
    path: &Path,
    mode: SocketMode,
) -> Result<(UnixListener, SocketFile), UnixSocketError> {
    let failed = |error| UnixSocketError::Io(path.to_owned(), error);
    let _held = lock_folder(path).await.map_err(failed)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(UnixSocketError::NotASocket(path.to_owned()));
        }
        Ok(_) => match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            // Also if the server is too busy to accept, or this process may not connect.
            Ok(_) | Err(_) => return Err(UnixSocketError::InUse(path.to_owned())),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let socket = UnixSocket::new_stream().map_err(failed)?;
    // This never follows a link: an existing path makes it fail.
    socket.bind(path).map_err(failed)?;
    let made = fs::symlink_metadata(path).map_err(failed)?;
    let file = SocketFile { path: path.to_owned(), identity: (made.dev(), made.ino()) };
    // No client can connect before the socket listens, so none connects under other permissions.
    fs::set_permissions(path, Permissions::from_mode(mode.bits())).map_err(failed)?;
    Ok((socket.listen(BACKLOG).map_err(failed)?, file))
}

/// Returns the folder of `path`, locked until dropped.
async fn lock_folder(path: &Path) -> io::Result<File> {
    let folder = path.parent().unwrap_or(path).to_owned();
    let locked = tokio::task::spawn_blocking(move || {
        let folder = File::open(folder)?;
        folder.lock()?;
        Ok(folder)
    });
    locked.await.map_err(io::Error::other)?
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.file_type().is_socket() && (found.dev(), found.ino()) == self.identity);
        if is_ours {
            // A leftover socket file is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_socket_is_the_users_own_and_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carnet.sock");
        let bound = bind(&path, SocketMode::default()).await.unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(bound);
        assert!(!path.exists());
        let bound = bind(&path, "660".parse().unwrap()).await.unwrap();
        assert_eq!(mode(&path), 0o660);
        drop(bound);
    }

    #[tokio::test]
    async fn a_dead_servers_socket_is_replaced_and_a_live_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carnet.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "the standard library leaves the file");
        let (live, _file) = bind(&path, SocketMode::default()).await.unwrap();
        assert!(matches!(bind(&path, SocketMode::default()).await, Err(UnixSocketError::InUse(_))));
        UnixStream::connect(&path).await.unwrap();
        live.accept().await.unwrap();
    }

    #[tokio::test]
    async fn of_many_that_start_at_once_on_a_stale_socket_one_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carnet.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let mut starting = tokio::task::JoinSet::new();
        for _ in 0..16 {
            let path = path.clone();
            starting.spawn(async move { bind(&path, SocketMode::default()).await });
        }
        let started: Vec<_> = starting.join_all().await.into_iter().filter_map(Result::ok).collect();
        assert_eq!(started.len(), 1);
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_socket_is_not_removed_even_behind_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "kept").unwrap();
        let (link, dangling) = (folder.path().join("link"), folder.path().join("dangling"));
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::os::unix::fs::symlink(folder.path().join("absent"), &dangling).unwrap();
        let socket = folder.path().join("socket");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let to_socket = folder.path().join("to-socket");
        std::os::unix::fs::symlink(&socket, &to_socket).unwrap();
        for path in [&file, &link, &dangling, &to_socket, &folder.path().to_owned()] {
            let refused = bind(path, SocketMode::default()).await;
            assert!(matches!(refused, Err(UnixSocketError::NotASocket(_))), "{}", path.display());
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert!(socket.exists() && !folder.path().join("absent").exists());
    }

    #[tokio::test]
    async fn a_stopping_server_leaves_the_socket_of_its_successor() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("carnet.sock");
        let first = bind(&path, SocketMode::default()).await.unwrap();
        fs::rename(&path, folder.path().join("moved")).unwrap();
        let _second = bind(&path, SocketMode::default()).await.unwrap();
        drop(first);
        assert!(path.exists());
    }
}
