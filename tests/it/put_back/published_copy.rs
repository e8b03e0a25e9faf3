//! A published copy stands in for a lost state file: its label remembers the database's state.

use std::fs;

use crate::put_back::{Copy, active, founded, grant, readyz, stop};
use crate::support::carnet::{Announced, Carnet};
use crate::support::keys;

fn serve(carnet: &Carnet) -> Result<Announced, String> {
    let folder = carnet.home().join("www");
    carnet.serve(keys::ISSUER, "127.0.0.1:0", &["--publish", folder.to_str().unwrap()])
}

#[test]
fn a_published_copy_proves_the_database_when_the_state_file_is_lost() {
    let carnet = founded();
    stop(serve(&carnet).unwrap());
    let before = Copy::of(&carnet);
    // No server runs, so the command would wait for the copy.
    carnet.ok(&["key", "revoke", &active(&carnet), "--yes", "--no-nudge"]);
    stop(serve(&carnet).unwrap());
    // A change without new documents leaves the label as it is.
    drop(grant(&carnet, &[]));
    let now = Copy::of(&carnet);

    fs::remove_file(carnet.keys_dir().join("state")).unwrap();
    let server = serve(&carnet).unwrap();
    assert_eq!(readyz(&server).json()["checks"]["state"]["unproved"], false);
    stop(server);

    // An older database is refused because of the label alone.
    fs::remove_file(carnet.keys_dir().join("state")).unwrap();
    before.put_back(&carnet);
    let refused = serve(&carnet).err().expect("an older database is served");
    assert!(refused.contains("the label of the published copy at"), "{refused}");

    // A label that somebody else changed proves nothing, and refuses nothing.
    let _ = fs::remove_file(carnet.keys_dir().join("state"));
    now.put_back(&carnet);
    let labels = carnet.home().join("www/.carnet-publication.json");
    let text = fs::read_to_string(&labels).unwrap();
    fs::write(&labels, text.replace("\"state\": \"", "\"state\": \"1")).unwrap();
    let server = serve(&carnet).unwrap();
    assert_eq!(readyz(&server).json()["checks"]["state"]["unproved"], true);
    stop(server);
}
