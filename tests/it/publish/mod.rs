//! `carnet publish` on the command line, into a folder: the files, the output and the refusals.

mod conflicts;
mod copies;
mod forgeries;
mod hostile;
mod serving;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::carnet::{Carnet, Output};
use serde_json::Value;

const ISSUER: &str = "https://issuer.example";
const JWKS: &str = ".well-known/jwks";
const DISCOVERY: &str = ".well-known/openid-configuration";

/// A carnet that is set up, and the folder that the tests publish to: below its home, not created yet.
struct Publisher {
    carnet: Carnet,
    folder: PathBuf,
}

impl Publisher {
    fn new() -> Self {
        Self::of(ISSUER)
    }

    fn of(issuer: &str) -> Self {
        let carnet = Carnet::new();
        let mut server =
            carnet.serve(issuer, "127.0.0.1:0", &[]).unwrap_or_else(|failure| panic!("{failure}"));
        assert!(server.process.terminate(Duration::from_secs(20)));
        Self { folder: carnet.home().join("www"), carnet }
    }

    /// Copies the database and its keys, like a backup; the copy publishes to the same folder.
    fn copy(&self) -> Self {
        Self { carnet: self.carnet.copy(), folder: self.folder.clone() }
    }

    fn arguments<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["publish", self.folder.to_str().unwrap()], more].concat()
    }

    fn run(&self, more: &[&str]) -> Output {
        self.carnet.run(&self.arguments(more))
    }

    /// Runs the command, which must succeed; returns the JSON and the notes.
    #[track_caller]
    fn ok(&self, more: &[&str]) -> (Value, String) {
        let Output { status, stdout, stderr } = self.run(&[&["--output=json"], more].concat());
        assert_eq!(status, 0, "{stdout}{stderr}");
        (serde_json::from_str(&stdout).unwrap(), stderr)
    }

    /// Runs the command, which must fail with this text and change nothing.
    #[track_caller]
    fn refused(&self, more: &[&str], status: i32, texts: &[&str]) {
        let before = contents(&self.folder);
        let output = self.run(more);
        assert_eq!(output.status, status, "{output:?}");
        assert_eq!(output.stdout, "");
        for words in texts {
            assert!(output.stderr.contains(words), "no {words:?} in:\n{}", output.stderr);
        }
        assert_eq!(contents(&self.folder), before);
    }

    fn read(&self, document: &str) -> String {
        std::fs::read_to_string(self.folder.join(document)).unwrap()
    }

    /// Returns the identifiers of the keys in the folder.
    fn kids(&self) -> Vec<String> {
        let jwks: Value = serde_json::from_str(&self.read(JWKS)).unwrap();
        let keys = jwks["keys"].as_array().unwrap();
        keys.iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    }
}

/// Returns every file below `folder` with its content, without the empty lock; nothing if there is no folder.
fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            found.push((path.clone(), Vec::new()));
            found.extend(contents(&path));
        } else if metadata.is_symlink() {
            found.push((
                path.clone(),
                std::fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes(),
            ));
        } else if !path.ends_with(".carnet-publication.lock") {
            found.push((path.clone(), std::fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}
