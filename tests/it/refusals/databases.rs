//! Databases and master keys.

use super::*;

#[test]
fn databases_that_carnet_cannot_use_are_refused_by_name() {
    let carnet = carnet();
    fs::write(carnet.home().join("text.db"), "This is no database. ".repeat(100)).unwrap();
    fs::write(carnet.home().join("empty.db"), "").unwrap();
    fs::create_dir(carnet.home().join("folder.db")).unwrap();
    let before = state(&carnet);
    for (database, status, named) in [
        ("postgres://localhost/carnet", USAGE, ["--database", "SQLite only"]),
        ("postgresql://localhost/carnet", USAGE, ["--database", "SQLite only"]),
        ("sqlite::memory:", USAGE, ["--database", "name a file"]),
        ("sqlite:", USAGE, ["--database", "name a file"]),
        ("sqlite:a.db?mode=memory", USAGE, ["--database", "no parameters"]),
        ("mysql://localhost/carnet", USAGE, ["--database", "sqlite:PATH"]),
        ("carnet.db", USAGE, ["--database", "sqlite:PATH"]),
        ("", USAGE, ["--database", "sqlite:PATH"]),
        ("sqlite:absent.db", FAILED, ["sqlite:absent.db", "there is no database"]),
        (
            "sqlite:folder.db",
            FAILED,
            ["cannot be opened", "hint: the database's file and the folder around it must be writable"],
        ),
        ("sqlite:text.db", FAILED, ["sqlite:text.db", "file is not a database"]),
        ("sqlite:empty.db", FAILED, ["sqlite:empty.db", "has not been set up"]),
    ] {
        let mut command = carnet.bare_command();
        command.args(["key", "list", &format!("--database={database}")]);
        assert_refused(database, &Output::of(&mut command, b""), status, &named);
        assert!(before == state(&carnet), "{database}: changed something");
    }
    for (database, named) in [
        ("sqlite:absent/new.db", ["sqlite:absent/new.db", "cannot be created"]),
        ("sqlite:text.db", ["sqlite:text.db", "file is not a database"]),
    ] {
        let mut command = carnet.bare_command();
        command.args(feed_add(&[])).arg(format!("--database={database}"));
        assert_refused(database, &Output::of(&mut command, b""), FAILED, &named);
        assert!(before == state(&carnet), "{database}: changed something");
    }
}

#[test]
fn a_database_of_a_newer_carnet_is_refused_by_every_command() {
    let carnet = carnet();
    database::execute(
        &carnet.database(),
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (90000000000000, 'later', TRUE, x'00', 0)",
    );
    let named = [
        "schema 90000000000000",
        "carnet.db",
        "newer carnet",
        "hint: run the version of carnet that wrote it",
    ];
    assert_all_refused(
        &carnet,
        [
            "key list",
            "serve --listen 127.0.0.1:0",
            "feed list",
            "feed credentials default/prod",
            "token inspect",
        ]
        .map(|command| (words(command), FAILED, named.to_vec()))
        .into_iter()
        .chain([(feed_add(&[]), FAILED, named.to_vec())]),
    );
}

#[test]
fn a_database_opens_only_with_its_own_master_key() {
    let carnet = carnet();
    let id = database::texts(&carnet.database(), "SELECT DISTINCT master_key_id FROM sealed_keys").remove(0);
    let master_key = carnet.keys_dir().join("master.key");
    let good = fs::read(&master_key).unwrap();
    let other = Carnet::new();
    other.ok(&feed_add(&[]).iter().map(String::as_str).collect::<Vec<_>>());
    let foreign = fs::read(other.keys_dir().join("master.key")).unwrap();

    let write = |content: &[u8], mode| {
        fs::write(&master_key, content).unwrap();
        fs::set_permissions(&master_key, fs::Permissions::from_mode(mode)).unwrap();
    };
    let refused = |what, named: &[&str]| {
        let before = state(&carnet);
        for command in ["key list", "serve --listen 127.0.0.1:0", "token inspect"] {
            let output = carnet.run(&words(command).iter().map(String::as_str).collect::<Vec<_>>());
            assert_refused(what, &output, FAILED, &[named, &["carnet.db", &id, "hint: "]].concat());
            assert!(!output.stderr.contains("carnet-master-key-1:A"), "{}", output.stderr);
        }
        assert!(before == state(&carnet), "{what}: changed something");
    };
    write(&good, 0o644);
    refused("readable by others", &["master.key", "mode 0644", "chmod 600"]);
    write(&good, 0o660);
    refused("readable by the group", &["master.key", "mode 0660"]);
    write(&foreign, 0o600);
    refused("another database's", &["sealed with the master key", "not with"]);
    write(b"carnet-master-key-1:AAAA\n", 0o600);
    refused("too short", &["master.key", "does not hold a master key"]);
    write(&[0xff; 1 << 16], 0o600);
    refused("binary", &["master.key", "does not hold a master key"]);
    write(b"", 0o600);
    refused("empty", &["master.key", "does not hold a master key"]);
    fs::remove_file(&master_key).unwrap();
    refused("missing", &["master.key", "does not exist"]);
    fs::remove_dir_all(carnet.keys_dir()).unwrap();
    refused("missing with its folder", &["master.key", "does not exist"]);
    fs::write(carnet.keys_dir(), "").unwrap();
    refused("a file in the folder's place", &["keys/master.key", "cannot be read"]);

    fs::remove_file(carnet.keys_dir()).unwrap();
    fs::create_dir(carnet.keys_dir()).unwrap();
    write(&good, 0o600);
    carnet.ok(&["key", "list"]);
}
