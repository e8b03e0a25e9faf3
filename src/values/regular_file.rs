//! Reading files that users and operators name: regular files only, and never more than a limit.
//!
//! Opening a pipe waits for somebody to write into it, and a device may never end: either would hang a command, or a
//! server that reads its certificate again. A symbolic link to a regular file is followed, because Kubernetes mounts
//! secrets that way.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// Opens the regular file at `path` to read it.
///
/// # Errors
///
/// That of opening it, or one of kind `InvalidInput` that says what is there instead of a regular file.
pub(crate) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    // Without blocking, a pipe that nobody writes to opens at once. Regular files do not care.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    // Opening a socket fails with a message that tells nothing.
    refuse_others(std::fs::metadata(path)?.file_type())?;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    refuse_others(metadata.file_type())?;
    Ok((file, metadata))
}

/// The content of the regular file at `path`, which may have up to `limit` bytes.
///
/// # Errors
///
/// As for [`open`], or one of kind `FileTooLarge`.
#[cfg(feature = "server")]
pub(crate) fn read(path: &Path, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let (file, metadata) = open(path)?;
    content(file, &metadata, limit)
}

/// The content of an open file of at most `limit` bytes.
///
/// # Errors
///
/// That of reading it, or one of kind `FileTooLarge`.
pub(crate) fn content(file: File, metadata: &Metadata, limit: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let stated = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    // Never grows while a key is read into it, which would leave a copy behind.
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
    fn what_would_hang_or_never_end_is_refused_and_named() {
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
