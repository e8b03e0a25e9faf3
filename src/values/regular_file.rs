//! Reads files that users and operators name: regular files only, up to a size limit.
//!
//! Opening a pipe blocks until somebody writes to it, and a device may never end. Either would hang a
//! command, or a server that reloads its certificate. Symbolic links to regular files are followed, because
//! Kubernetes mounts secrets that way.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Opens the regular file at `path` for reading.
///
/// # Errors
///
/// `InvalidInput`, with a message that names the kind of file, if `path` is not a regular file. Otherwise the
/// error of opening it.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // With `O_NONBLOCK`, opening a pipe without a writer returns at once. Regular files ignore the flag.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    // Checked before opening too, because opening a socket fails with an unhelpful message.
    refuse_others(std::fs::metadata(path)?.file_type())?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    refuse_others(metadata.file_type())?;
    Ok((file, metadata))
}

/// Reads the regular file at `path`, up to `limit` bytes.
///
/// # Errors
///
/// Those of [`open`], and `FileTooLarge` if the file is larger than `limit`.
#[cfg(feature = "server")]
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let (file, metadata) = open(path)?;
    content(file, &metadata, limit)
}

/// Reads an open file of up to `limit` bytes.
///
/// # Errors
///
/// `FileTooLarge` if the file is larger than `limit`.
pub(crate) fn content(file: File, metadata: &Metadata, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let stated = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    // The buffer must not grow while a key is read into it: growing would leave an unwiped copy behind.
    let mut content = Zeroizing::new(Vec::with_capacity(stated.min(limit) + 1024));
    file.take(limit as u64 + 1).read_to_end(&mut content)?;
    if content.len() > limit {
        let message = format!("it has more than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(content)
}

fn refuse_others(found: FileType) -> io::Result<()> {
    let what = if found.is_file() {
        return Ok(());
    } else if found.is_dir() {
        "a folder"
    } else if found.is_fifo() {
        "a pipe"
    } else if found.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("it is {what}, not a regular file")))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn regular_files_are_read_up_to_the_limit_through_links_too() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&file, "12345678").unwrap();
        symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            assert_eq!(read(path, 8).unwrap().as_slice(), b"12345678");
            assert_eq!(read(path, 7).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
        let missing = read(&folder.path().join("missing"), 8).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn files_that_would_block_or_never_end_are_refused_by_kind() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, link) = (folder.path().join("pipe"), folder.path().join("link"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        symlink(&pipe, &link).unwrap();
        let socket = folder.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, what) in [
            (pipe.as_path(), "a pipe"),
            (link.as_path(), "a pipe"),
            (socket.as_path(), "a socket"),
            (folder.path(), "a folder"),
            (Path::new("/dev/zero"), "a device"),
        ] {
            let error = read(path, 8).unwrap_err();
            assert_eq!(error.to_string(), format!("it is {what}, not a regular file"), "{}", path.display());
        }
    }
}
