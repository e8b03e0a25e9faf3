//! Folders in an unsafe or wrong state: the error, and the proof that nothing is changed.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;

use crate::publish::{DISCOVERY, JWKS, Publisher};
use crate::support::carnet::Output;
use crate::support::system_peer;

#[test]
fn a_folder_that_may_not_be_written_is_named_and_nothing_waits_for_it() {
    let publisher = Publisher::new();
    fs::create_dir(&publisher.folder).unwrap();
    fs::set_permissions(&publisher.folder, fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = publisher.carnet.command(&publisher.arguments(&[]));
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        // Root may write anywhere, unless its capabilities are dropped.
        let mut without = Command::new(system_peer("setpriv"));
        without.args(["--bounding-set", "-dac_override,-dac_read_search"]).arg(command.get_program());
        without.args(command.get_args()).env_clear();
        without.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        without.current_dir(publisher.carnet.home());
        command = without;
    }
    let output = Output::of(&mut command, b"");
    assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{output:?}");
    for words in
        ["www/.carnet-publication.lock cannot be opened: Permission denied", "hint: run this as a user"]
    {
        assert!(output.stderr.contains(words), "{output:?}");
    }
    assert_eq!(crate::publish::contents(&publisher.folder), []);
    fs::set_permissions(&publisher.folder, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(publisher.ok(&["--once"]).0["registered"], false);
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let publisher = Publisher::new();
    let nowhere = Publisher { folder: publisher.folder.join("a"), ..publisher };
    nowhere.refused(&[], 1, &["www/a cannot be made: No such file", "hint: create its parent folder"]);
    let file = Publisher { folder: nowhere.carnet.home().join("file"), ..nowhere };
    fs::write(&file.folder, "").unwrap();
    file.refused(&[], 1, &["file is a file, not a folder"]);
}

#[test]
fn nothing_is_written_through_a_link() {
    let publisher = Publisher::new();
    fs::create_dir_all(publisher.folder.join(".well-known")).unwrap();
    let precious = publisher.carnet.home().join("precious");
    fs::write(&precious, "precious").unwrap();
    symlink(&precious, publisher.folder.join(JWKS)).unwrap();
    for more in [&[][..], &["--once"], &["--take-over", "--yes"]] {
        publisher.refused(more, 1, &["jwks is a symbolic link, not a file", "hint: remove the link"]);
    }
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");

    fs::remove_dir_all(&publisher.folder).unwrap();
    fs::create_dir(&publisher.folder).unwrap();
    let elsewhere = publisher.carnet.home().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    symlink(&elsewhere, publisher.folder.join(".well-known")).unwrap();
    publisher.refused(&[], 1, &[".well-known is a symbolic link, not a folder"]);
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_folder_instead_of_a_document_is_named() {
    for document in [JWKS, DISCOVERY] {
        let publisher = Publisher::new();
        fs::create_dir_all(publisher.folder.join(document)).unwrap();
        let output = publisher.run(&["--take-over", "--yes"]);
        assert_eq!(output.status, 1, "{output:?}");
        assert!(output.stderr.contains(&format!("{document} is a folder, not a file")), "{output:?}");
        assert!(output.stderr.contains("hint: remove that folder"), "{output:?}");
        assert_eq!(publisher.run(&["--forget"]).status, 0);
        assert!(publisher.folder.join(document).is_dir());
    }
}

#[test]
fn a_document_of_ten_megabytes_is_foreign() {
    let publisher = Publisher::new();
    fs::create_dir_all(publisher.folder.join(".well-known")).unwrap();
    fs::write(publisher.folder.join(JWKS), vec![b' '; 10_000_000]).unwrap();
    publisher.refused(&[], 1, &["jwks there was not written by carnet", "--take-over"]);
    publisher.ok(&["--take-over", "--yes"]);
    assert_eq!(publisher.kids().len(), 4);
}
